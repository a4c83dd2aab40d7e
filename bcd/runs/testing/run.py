"""Test a trained model on its fold: cases.csv, metrics.json, overlays, masks, report."""

import logging
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from bcd.config import CONF
from bcd.data.datamodule import UltrasoundDataModule
from bcd.data.guides import AMOUNTS, GuideError
from bcd.data.manifest import read_case
from bcd.evaluation.decisions import Decisions
from bcd.evaluation.validation import fit_by_fold
from bcd.runs import folder as files
from bcd.runs.assemble import build_datamodule, check_fit, prepare_data
from bcd.runs.hardware import Hardware, hardware_of
from bcd.runs.testing.about import about_guide, about_run
from bcd.runs.testing.results import Pictures, Tables, write_results
from bcd.runs.testing.scoring import PixelFiles, score_part
from bcd.tasks.checkpoint import load_checkpoint

log = logging.getLogger(__name__)


def evaluate(
    run: Path,
    output: Path | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    trusted: Collection[str] = (),
) -> dict[str, Any]:
    """Repeat the test of a run, from its folder alone, and return the content of metrics.json.

    Args:
        run: the run's folder.
        output: where the results go; None for the run's folder.
        overrides: entries of `data` (`root` alone) and `guide` that replace those of the run's config.
        trusted: constructors of the user's own that the run's config may name; never taken from the run.

    Raises:
        RunError: when the folder is not a run's, or another guide's results would overwrite its own.
        GuideError: for a guide that cannot be, or amounts of a perturbation where there is none.
        CheckpointError: when its checkpoint cannot be used.
    """
    overrides = overrides or {}
    if overrides.get("guide") and (output is None or output.absolute() == run.absolute()):
        raise files.RunError("Another guide is another experiment: give output=<folder>, so that the run keeps its own results.")
    config, hardware, datamodule = reopened(run, overrides, trusted)
    before = files.read_metrics(run)
    notes = []
    if before and before["data"]["fingerprint"] != datamodule.prepared.fingerprint:
        then, now = before["data"]["fingerprint"], datamodule.prepared.fingerprint
        notes.append(f"The data are not those of the run: fingerprint {now}, then {then}.")
        log.warning(notes[0])
    after = run_test(config, run, datamodule, hardware, before.get("training", {}), output or run, notes)
    _compare(before.get("test"), after["test"])
    return after


def reopened(
    run: Path, overrides: Mapping[str, Mapping[str, Any]], trusted: Collection[str]
) -> tuple[dict[str, Any], Hardware, UltrasoundDataModule]:
    """Return a run's config, the hardware to test it on, and its data module, set up for the test.

    Args:
        run: the run's folder.
        overrides: entries of `data` (`root` alone) and `guide` that replace those of the run's config.
        trusted: constructors of the user's own that the run's config may name; never taken from the run.

    Raises:
        RunError: when the folder is not a run's, or was made by another version.
        GuideError: for a guide that cannot be, or amounts of a perturbation where there is none.
    """
    known = files.read_config(run)
    files.check_version(known, run)
    if known["refit"]:
        raise files.RunError(
            f"{run} was refitted on its test fold too; its figures are those of the cross-validation of its recipe."
        )
    config = {**files.with_own_split(replaced(known, overrides), run), "trusted": list(trusted)}
    hardware = hardware_of(config, to_test=True)
    datamodule = build_datamodule(config, prepare_data(config), hardware)
    datamodule.setup("test")
    return config, hardware, datamodule


def run_test(
    config: Mapping[str, Any],
    run: Path,
    datamodule: UltrasoundDataModule,
    hardware: Hardware,
    training: dict[str, Any],
    output: Path,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Test the best checkpoint of a run and write the results; return the content of metrics.json.

    A classifier scores its validation cases too: operating points and calibration are chosen on them.
    """
    checkpoint = files.best_checkpoint(run)
    task, preprocess, _ = load_checkpoint(checkpoint, hardware.device, config["trusted"])
    check_fit(task, datamodule)
    pixels = PixelFiles(output, probabilities=config["probability_maps"])
    started = time.perf_counter()
    scored = score_part(task, datamodule, "test", preprocess, pixels, config["limit_test"])
    seconds = time.perf_counter() - started
    pixels.write_origin(datamodule.learned_from())
    validation: pd.DataFrame | None = None
    decisions: dict[int, Decisions] = {}
    if task.classifies:
        datamodule.setup("validate")
        validation = score_part(task, datamodule, "valid", preprocess).cases
        decisions = fit_by_fold(validation, datamodule.selection.classes)
    about = about_run(config, training, datamodule, checkpoint, len(scored.cases))
    about["cost"] |= {"test_seconds": round(seconds, 3), "test_images_per_second": round(len(scored.cases) / seconds, 2)}
    if "guide_is_empty" in scored.cases:
        about["guide"] = about_guide(datamodule, task.run_config["guide"], scored.guide_dice)
    about["warnings"] += notes
    return write_results(
        output,
        Tables(scored.cases, scored.detections, validation),
        about,
        list(datamodule.selection.classes),
        decisions,
        pictures_of(datamodule),
        datamodule.prepared.max_pixels,
        config,
        run,
    )


def settle_refit(
    config: Mapping[str, Any], run: Path, datamodule: UltrasoundDataModule, hardware: Hardware, training: dict[str, Any]
) -> dict[str, Any]:
    """Choose the operating points of a run that has no test part, on its validation cases; return the content of metrics.json.

    There are no figures in it: see the cross-validation of its recipe.
    """
    checkpoint = files.best_checkpoint(run)
    task, preprocess, _ = load_checkpoint(checkpoint, hardware.device, config["trusted"])
    decisions: dict[int, Decisions] = {}
    if task.classifies:
        validation = score_part(task, datamodule, "valid", preprocess).cases
        files.write_text(run / files.VALIDATION, validation.to_csv(index=False))
        decisions = fit_by_fold(validation, datamodule.selection.classes)
    about = about_run(config, training, datamodule, checkpoint, 0)
    metrics = {**about, "refit": True, "decisions": {str(fold): one.to_dict() for fold, one in decisions.items()}}
    files.write_json(run / files.METRICS, metrics)
    log.info("Refitted on %d cases, and not tested: its figures are those of the cross-validation.", len(datamodule.cases["train"]))
    return metrics


def pictures_of(datamodule: UltrasoundDataModule) -> Pictures:
    """Return what reads the image and the true mask of test cases."""
    cases = {case.case_id: case for case in datamodule.cases["test"]}
    return lambda names: {name: read_case(cases[name], datamodule.prepared.max_pixels) for name in names}


def replaced(config: dict[str, Any], overrides: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return a run's config with entries of `data` (`root` alone) and `guide` replaced.

    Raises:
        GuideError: for amounts of a perturbation where there is none.
    """
    for key, entries in overrides.items():
        config[key] = {**config[key], **entries}
        if "root" in entries:
            config[key]["source"] = {**config[key]["source"], "root": entries["root"]}
    if config["guide"]["test"] == "perturbed":
        # A run that was trained with other guides does not say by how much.
        stated = yaml.safe_load((CONF / "guide" / "perturbed.yaml").read_text(encoding="utf-8"))
        config["guide"] = {**{name: stated[name] for name in AMOUNTS}, **config["guide"]}
    elif set(AMOUNTS) & set(overrides.get("guide", {})):
        raise GuideError(f"guide.{', '.join(AMOUNTS)} change nothing in this test; add guide.test=perturbed.")
    return config


def _compare(before: dict[str, Any] | None, after: dict[str, Any]) -> None:
    if before is None:
        return
    if before == after:
        log.info("The figures are those of the earlier test, to the last digit.")
    else:
        old = pd.json_normalize(before).iloc[0].to_dict()
        new = pd.json_normalize(after).iloc[0].to_dict()
        changed = [f"{key} {old.get(key)} -> {value}" for key, value in new.items() if str(old.get(key)) != str(value)]
        log.warning("The figures differ from the earlier test: %s.", "; ".join(changed[:8]))
