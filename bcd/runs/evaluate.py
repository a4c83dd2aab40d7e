"""Test a trained model on its fold: cases.csv, metrics.json, overlays, masks, report."""

import hashlib
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import yaml

from bcd.config import CONF
from bcd.data.datamodule import UltrasoundDataModule
from bcd.data.decoding import printable
from bcd.data.guides import AMOUNTS, ORIGIN_FILE, GuideError
from bcd.data.images import read_case, read_mask
from bcd.data.manifest import Case, case_file_name
from bcd.evaluation.cases import EMPTY_MASK_POLICY, CaseTruth, score_case, to_frame
from bcd.evaluation.overlays import choose_extremes, draw_extremes
from bcd.evaluation.report import write_report
from bcd.evaluation.summary import summarise
from bcd.metrics.overlap import LesionDice
from bcd.runs import files
from bcd.runs.assemble import SYNTHETIC, build_datamodule, check_fit, prepare_data
from bcd.runs.hardware import Hardware, choose
from bcd.runs.provenance import provenance
from bcd.tasks.base import BaseTask
from bcd.tasks.checkpoint import load_checkpoint
from bcd.tasks.inference import Prediction, predict

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
    config = {**_replaced(files.read_config(run), overrides), "trusted": list(trusted)}
    if (run / files.SPLIT).is_file():
        # Whatever it was drawn by, it is read and not drawn.
        config["data"] |= {"split": str(run / files.SPLIT), "split_by": "group"}
    # A run that was trained on a GPU can be tested without one.
    accelerator = "cpu" if config["trainer"]["accelerator"] == "cpu" else "auto"
    hardware = choose(accelerator, "32-true", config["memory_format"], config["num_workers"])
    prepared = prepare_data(config)
    datamodule = build_datamodule(config, prepared, hardware)
    datamodule.setup("test")
    before = files.read_metrics(run)
    notes = []
    if before and before["data"]["fingerprint"] != prepared.fingerprint:
        notes.append(
            f"The data are not those of the run: fingerprint {prepared.fingerprint}, then {before['data']['fingerprint']}."
        )
        log.warning(notes[0])
    after = run_test(config, run, datamodule, hardware, before.get("training", {}), output or run, notes)
    _compare(before.get("test"), after["test"])
    return after


def run_test(
    config: Mapping[str, Any],
    run: Path,
    datamodule: UltrasoundDataModule,
    hardware: Hardware,
    training: dict[str, Any],
    output: Path,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Test the best checkpoint of a run and write the results; return the content of metrics.json."""
    checkpoint = files.best_checkpoint(run)
    task, preprocess, _ = load_checkpoint(checkpoint, hardware.device, config["trusted"])
    check_fit(task, datamodule)
    rows, masks, outlines = [], _Masks(output, task.threshold is not None), LesionDice()
    cases = {case.case_id: case for case in datamodule.cases["test"][: config["limit_test"]]}
    groups = datamodule.group_of()
    for batch in datamodule.test_dataloader():
        wanted = [case_id in cases for case_id in batch["case_id"]]
        if not any(wanted):
            break
        outlines.update(batch["guide"][wanted] >= 0.5, batch["mask"][wanted])
        for prediction in predict(task, batch, preprocess):
            if prediction.case_id in cases:
                rows.append(_row(cases[prediction.case_id], prediction, task, groups, datamodule, masks))
    table = to_frame(rows)
    output.mkdir(parents=True, exist_ok=True)
    files.write_text(output / files.CASES, table.to_csv(index=False))
    test = summarise(table, list(datamodule.selection.classes))
    metrics = _metrics(config, training, test, datamodule, checkpoint)
    if "guide_is_empty" in test or "n_empty_guides" in test:
        metrics["guide"] = _guide(datamodule, task.run_config["guide"], outlines)
    metrics["warnings"] += notes
    files.write_json(output / files.METRICS, metrics)
    masks.write_origin(datamodule)
    extremes = {name for names in choose_extremes(table).values() for name in names}
    limit = datamodule.prepared.max_pixels
    pictures = {name: read_case(cases[name], limit) for name in extremes}
    draw_extremes(table, pictures, {name: masks.read(name, limit) for name in extremes if masks.outlines}, output / "overlays")
    write_report(output, metrics)
    return metrics


class _Masks:
    """The predicted masks of the test cases, as files."""

    def __init__(self, output: Path, outlines: bool) -> None:
        self.outlines = outlines
        self._folder = output / files.MASKS

    def _path(self, case_id: str) -> Path:
        return self._folder / f"{case_file_name(case_id)}.png"

    def save(self, case_id: str, mask: np.ndarray) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        _, content = cv2.imencode(".png", mask.astype(np.uint8) * 255)
        self._path(case_id).write_bytes(content.tobytes())

    def read(self, case_id: str, max_pixels: int) -> np.ndarray:
        return read_mask(self._path(case_id), max_pixels)

    def write_origin(self, datamodule: UltrasoundDataModule) -> None:
        if self.outlines:
            files.write_json(self._folder / ORIGIN_FILE, {"learned_from": datamodule.learned_from()})


def _row(
    case: Case, prediction: Prediction, task: BaseTask, groups: Mapping[str, str], datamodule: UltrasoundDataModule, masks: _Masks
) -> dict[str, object]:
    _, mask = read_case(case, datamodule.prepared.max_pixels)
    if prediction.mask is not None and task.threshold is not None:
        masks.save(case.case_id, prediction.mask >= task.threshold)
    return score_case(
        CaseTruth(case.case_id, groups[case.case_id], case.label, mask.astype(bool)),
        probability=prediction.mask,
        threshold=task.threshold,
        classes=prediction.classes,
        class_names=datamodule.selection.classes,
        guide_is_empty=prediction.guide_is_empty,
    )


def _metrics(
    config: Mapping[str, Any], training: dict[str, Any], test: dict[str, Any], datamodule: UltrasoundDataModule, checkpoint: Path
) -> dict[str, Any]:
    warnings = [SYNTHETIC] if datamodule.prepared.synthetic else []
    if config["limit_test"] is not None:
        warnings.append(
            f"limit_test={config['limit_test']}: only {test['n_cases']} test cases were scored; these figures mean nothing."
        )
    if config["overfit"] is not None:
        warnings.append(
            f"overfit={config['overfit']}: trained on {len(datamodule.cases['train'])} cases and validated on the same ones; "
            "these figures mean nothing."
        )
    if datamodule.prepared.skipped:
        names = list(dict.fromkeys(problem.case_id or printable(problem.file.name) for problem in datamodule.prepared.skipped))
        warnings.append(
            f"{len(names)} cases or files with problems were skipped (on_error=skip), see data.skipped: {', '.join(names[:5])}"
            f"{', ...' if len(names) > 5 else ''}."
        )
    if datamodule.crossings:
        warnings.append(f"{len(datamodule.crossings)} pairs of one group stand on both sides of the split (data.allow_leak).")
    if datamodule.guides_of_unknown_origin:
        warnings.append(f"{datamodule.guides_of_unknown_origin} predicted outlines come from nobody knows which model.")
    if datamodule.unoutlined:
        warnings.append(
            f"{len(datamodule.unoutlined)} images of classes that have lesion masks have none, and count as lesion-free "
            f"({', '.join(datamodule.unoutlined[:3])}, ...)."
        )
    if datamodule.guides_seen_in_training:
        warnings.append(
            f"{len(datamodule.guides_seen_in_training)} predicted outlines come from a model that learned from those very images."
        )
    if "true" in (datamodule.guide.train, datamodule.guide.test) and "RoiClassification" in config["task"]["_target_"]:
        warnings.append("A true mask guided the classifier: an upper bound, which no unseen image can reach.")
    if "perturbed" in (datamodule.guide.train, datamodule.guide.test) and "RoiClassification" in config["task"]["_target_"]:
        warnings.append("Outlines made from the true masks guided the classifier: no unseen image has such a one.")
    return {
        "name": config["name"],
        "warnings": warnings,
        "train_seconds": training.get("train_seconds"),
        "test": test,
        "training": training,
        "checkpoint": checkpoint.name,
        "empty_mask_policy": EMPTY_MASK_POLICY,
        "guide": None,
        "data": _data(config, datamodule),
        "seed": config["seed"],
        "provenance": provenance(),
    }


def _guide(datamodule: UltrasoundDataModule, trained: Mapping[str, Any], outlines: LesionDice) -> dict[str, Any]:
    """Return which outlines the model was given: how they were made, and their mean Dice with the truth over test lesions.

    Args:
        datamodule: has the test's guide.
        trained: the guide of the run's own config; a test may have another, and stronger or weaker perturbation.
        outlines: of the test, compared at the network's resolution; one that is missing counts 0.
    """
    policy, dice = datamodule.guide, float(outlines.compute())
    amounts = {"train": trained, "test": vars(policy)}
    return {
        "train": policy.train,
        "test": policy.test,
        "folders": [str(folder) for folder in policy.folders],
        "perturbation": {
            part: {name: source[name] for name in AMOUNTS} if policy.kind(part) == "perturbed" else None
            for part, source in amounts.items()
        },
        "dice": None if np.isnan(dice) else dice,
    }


def _data(config: Mapping[str, Any], datamodule: UltrasoundDataModule) -> dict[str, Any]:
    prepared, selection = datamodule.prepared, datamodule.selection
    patients = any(case.patient is not None for case in prepared.cases)
    return {
        "name": prepared.name,
        "synthetic": prepared.synthetic,
        "fingerprint": prepared.fingerprint,
        "selection": asdict(selection) | {"classes": list(selection.classes), "relabel": dict(selection.relabel)},
        "fold": selection.fold,
        "split": config["data"]["split"] or "drawn for this data set, kept with the prepared data",
        "split_sha256": hashlib.sha256(prepared.split.to_csv(index=False).encode()).hexdigest(),
        "grouped_by": "patient and near-copy" if patients else "near-copy, patients unknown",
        "n_cases": {part: len(cases) for part, cases in datamodule.cases.items()},
        "skipped": [
            {"case_id": problem.case_id, "file": printable(problem.file), "reason": problem.reason} for problem in prepared.skipped
        ],
        "left_out": {reason: len(names) for reason, names in datamodule.left_out.items()},
        "left_out_cases": datamodule.left_out,
        "crossings": [list(pair) for pair in datamodule.crossings],
    }


def _replaced(config: dict[str, Any], overrides: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    for key, entries in overrides.items():
        config[key] = {**config[key], **entries}
        if "root" in entries:
            config[key]["source"] = {**config[key]["source"], "root": entries["root"]}
    if config["guide"]["test"] == "perturbed":
        config["guide"] = {**_stated_amounts(), **config["guide"]}
    elif set(AMOUNTS) & set(overrides.get("guide", {})):
        raise GuideError(f"guide.{', '.join(AMOUNTS)} change nothing in this test; add guide.test=perturbed.")
    return config


def _stated_amounts() -> dict[str, Any]:
    """Return the amounts of guide=perturbed, for a run that was trained with other guides."""
    stated = yaml.safe_load((CONF / "guide" / "perturbed.yaml").read_text(encoding="utf-8"))
    return {name: stated[name] for name in AMOUNTS}


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
