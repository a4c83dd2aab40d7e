"""External validation: a run or a bundle on data that it was not trained on; its choices stay, nothing is fitted."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bcd.data.guides import GuideError
from bcd.evaluation.decisions import Decisions
from bcd.images.read import read_image
from bcd.runs import folder as files
from bcd.runs.assemble import build_datamodule, build_test_data, prepare_data
from bcd.runs.hardware import hardware_of
from bcd.runs.testing.about import about_evaluation, about_guide, about_run, about_tested, lasting_warnings
from bcd.runs.testing.results import Tables, write_results
from bcd.runs.testing.run import pictures_of, replaced
from bcd.runs.testing.scoring import PixelFiles, score_cases, score_part
from bcd.tasks.checkpoint import load_checkpoint
from bcd.tasks.inference import Prediction


class FixedModel(Protocol):
    """A trained model of which nothing is fitted any more; `bcd.predictor.evaluated.EvaluatedBundle` is one."""

    name: str
    classes: list[str]
    mask_threshold: float | None
    decisions: Decisions | None
    origin: dict[str, Any]

    def predict(self, image: np.ndarray, name: str) -> Prediction:
        """Return the prediction for a grey image, uint8 (H, W), at its own size."""


def evaluate_bundle(
    model: FixedModel, config: Mapping[str, Any], output: Path, fold: int | None = None, on_error: str = "stop"
) -> dict[str, Any]:
    """Test a bundle on a data set and write the results; return the content of metrics.json.

    Args:
        model: of the bundle. Its `origin` says what it is and learned from: `bundle`, `fingerprint`, `trained_on` (the `data` of
            bundle.yaml), `guide` (where an ROI network's masks come from; None without one).
        config: `data` of the tested data set, `output` (the folder of prepared data), and what these need.
        output: where the results go.
        fold: test this fold of the data set alone; None for all of its cases.
        on_error: `stop` refuses data with any problem, `skip` continues without the cases that have one.

    Raises:
        RunError: when the bundle learned from these data.
        ValueError: when the data have a class that the model does not know.
    """
    data = config["data"]
    classes = list(model.classes) or [str(name) for name in data["classes"]]
    _check_classes(data, classes)
    config = {**config, "data": _of_classes(data, classes), "on_error": on_error}
    datamodule = build_test_data(config, fold)
    trained_on = model.origin["trained_on"]
    if datamodule.prepared.fingerprint == trained_on.get("fingerprint"):
        raise files.RunError(
            f"{data['name']} is what the bundle was trained on: figures on it are no external validation. Give another data set, "
            "or see the test figures in the bundle's model card."
        )
    if model.classes:
        datamodule.require_labels()
    max_pixels, decisions = datamodule.prepared.max_pixels, model.decisions
    cases, detections = score_cases(
        ((case, model.predict(read_image(case.image, max_pixels), case.case_id)) for case in datamodule.cases["test"]),
        datamodule,
        classes,
        model.mask_threshold,
        PixelFiles(output),
    )
    simulated = ["The bundle learned from simulated images, not from patients."] if trained_on.get("synthetic") else []
    external = {
        "bundle": model.origin["bundle"],
        "fingerprint": model.origin["fingerprint"],
        "trained_on": dict(trained_on),
        **_of_others("bundle", data, classes),
    }
    about = about_evaluation(model.name, config, datamodule, simulated, guide=model.origin["guide"], external=external)
    return write_results(
        output,
        Tables(cases, detections, None),
        about,
        classes,
        {fold or 0: decisions} if decisions is not None else {},
        pictures_of(datamodule),
        max_pixels,
    )


def evaluate_external(
    run: Path,
    data: Mapping[str, Any],
    output: Path,
    fold: int | None = None,
    guide: Mapping[str, Any] | None = None,
    trusted: Collection[str] = (),
    on_error: str = "stop",
) -> dict[str, Any]:
    """Test a run's model on another data set and write the results; return the content of metrics.json.

    Args:
        run: the run's folder.
        data: the other data set, as its option of the data group composes it; its classes must be among the run's.
        output: where the results go.
        fold: test this fold of the other data set alone; None for all of its cases.
        guide: entries that replace those of the run's guide; `masks` where it needs predicted ones.
        trusted: constructors of the user's own that the run's config may name.
        on_error: `stop` refuses data with any problem, `skip` continues without the cases that have one.

    Raises:
        RunError: when the folder is not a run's, was not tested, or would be overwritten; when the data are its own.
        GuideError: when the run's guide needs masks of the other data, and none are given.
        ValueError: when the data have a class that the model does not know.
    """
    if output.absolute() == run.absolute():
        raise files.RunError("An external validation is another result than the run's own: give output=<folder>.")
    before = files.read_metrics(run)
    if before.get("data", {}).get("folds"):
        raise files.RunError(f"{run} is a cross-validation; give the run of one of its folds, such as {run}/fold_1.")
    if "decisions" not in before:
        raise files.RunError(f"{run} was not tested yet, or by an earlier version: scripts/evaluate.py run={run} first.")
    config = _config(
        run, data, guide or {}, {"trusted": list(trusted), "fold": fold, "overfit": None, "refit": False, "on_error": on_error}
    )
    classes = config["data"]["classes"]
    hardware = hardware_of(config, to_test=True)
    prepared = prepare_data(config)
    if prepared.fingerprint == before["data"]["fingerprint"]:
        raise files.RunError(f"{data['name']} is what the run was trained on; leave data= out to test its own fold.")
    datamodule = build_datamodule(config, prepared, hardware)
    datamodule.setup("test")
    checkpoint = files.best_checkpoint(run)
    task, preprocess, _ = load_checkpoint(checkpoint, hardware.device, config["trusted"])
    if task.classifies:
        datamodule.require_labels()
    pixels = PixelFiles(output, probabilities=config["probability_maps"])
    scored = score_part(task, datamodule, "test", preprocess, pixels, config["limit_test"])
    pixels.write_origin(task.run_config.get("learned_from", []))
    about = about_run(config, before["training"], datamodule, checkpoint, len(scored.cases))
    if "guide_is_empty" in scored.cases:
        about["guide"] = about_guide(datamodule, task.run_config["guide"], scored.guide_dice)
    about |= {"name": f"{before['name']} on {data['name']}", "data": about_tested(config, datamodule)}
    trained_on = {key: before["data"][key] for key in ("name", "synthetic", "fingerprint", "fold", "split_sha256")}
    about["external"] = {"run": str(run), "trained_on": trained_on, **_of_others("run", data, classes)}
    about["warnings"] += [f"Of the run: {warning}" for warning in lasting_warnings(before) if warning not in about["warnings"]]
    per_fold = [Decisions.from_dict(decision) for decision in before["decisions"].values()]
    decisions = dict(zip([fold or 0], per_fold, strict=False))  # a segmentation decides nothing
    tables = Tables(scored.cases, scored.detections, None)
    return write_results(output, tables, about, classes, decisions, pictures_of(datamodule), prepared.max_pixels, config, run)


def _config(run: Path, data: Mapping[str, Any], guide: Mapping[str, Any], laid_over: Mapping[str, Any]) -> dict[str, Any]:
    """Return the run's config with the other data set in place of its own, and its own classes all the same."""
    known = files.read_config(run)
    files.check_version(known, run)
    classes = [str(name) for name in known["data"]["classes"]]
    _check_classes(data, classes)
    if known["guide"]["test"] == "predicted" and guide.get("test") in (None, "predicted") and "masks" not in guide:
        raise GuideError("The run is guided by predicted masks: give guide.masks=<those of this data set>, or guide.test=none.")
    config = replaced({**known, **laid_over}, {"guide": guide} if guide else {})
    return {**config, "data": _of_classes(data, classes)}


def _of_classes(data: Mapping[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    """Return the data part of a config with a model's classes in place of its own."""
    return {**data, "train_share": 1.0, "only": list(data["classes"]), "classes": classes}


def _check_classes(data: Mapping[str, Any], classes: Sequence[str]) -> None:
    """Refuse classes that a model does not know: the user maps them to those that it knows.

    Raises:
        ValueError: with the two ways out.
    """
    foreign = [str(name) for name in data["classes"] if str(name) not in classes]
    if foreign:
        shared = ",".join(str(name) for name in data["classes"] if str(name) in classes)
        raise ValueError(
            f"The model knows {', '.join(classes)}; {data['name']} has {', '.join(foreign)} besides. Map them to a class of the "
            f"model: +data.relabel.{foreign[0]}={classes[0]} with data.classes=[{shared}]. Or leave them out: "
            f"data.classes=[{shared}]."
        )


def _of_others(whose: str, data: Mapping[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    """Return what an external validation states about classes and choices."""
    return {
        "classes_of_the_run": list(classes),
        "classes_of_the_data": [str(name) for name in data["classes"]],
        "relabel": dict(data["relabel"]),
        "statement": f"Thresholds, temperature and classes are the {whose}'s, chosen on validation cases of its own data; nothing "
        "was fitted or chosen on these data.",
    }
