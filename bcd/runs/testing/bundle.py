"""Evaluation of a bundle: its networks, thresholds and temperature as they are, on a data set that it did not learn from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bcd.evaluation.cases import DISTANCE_CONVENTION, EMPTY_MASK_POLICY, score_case, to_detections, to_frame
from bcd.evaluation.decisions import Decisions
from bcd.images.read import read_image
from bcd.runs import folder as files
from bcd.runs.assemble import build_test_data
from bcd.runs.provenance import provenance
from bcd.runs.testing.about import about_tested, data_warnings
from bcd.runs.testing.external import check_classes
from bcd.runs.testing.results import Tables, write_results
from bcd.runs.testing.run import pictures_of
from bcd.runs.testing.scoring import PixelFiles, truth_of
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
        on_error: `stop` refuses data with any problem, `skip` goes on without the cases that have one.

    Raises:
        RunError: when the bundle learned from these data.
        ValueError: when the data have a class that the model does not know.
    """
    data = config["data"]
    classes = list(model.classes) or [str(name) for name in data["classes"]]
    check_classes(data, classes)
    config = {
        **config,
        "data": {**data, "train_share": 1.0, "only": list(data["classes"]), "classes": classes},
        "on_error": on_error,
    }
    datamodule = build_test_data(config, fold)
    trained_on = model.origin["trained_on"]
    if datamodule.prepared.fingerprint == trained_on.get("fingerprint"):
        raise files.RunError(
            f"{data['name']} is what the bundle learned from: figures on it say nothing. Give another data set, or see the test "
            "figures in the bundle's model card."
        )
    if model.classes:
        datamodule.require_labels()
    pixels = PixelFiles(output)
    rows, components, groups = [], [], datamodule.group_of()
    for case in datamodule.cases["test"]:
        prediction = model.predict(read_image(case.image, datamodule.prepared.max_pixels), case.case_id)
        if prediction.mask is not None and model.mask_threshold is not None:
            pixels.save(case.case_id, prediction.mask, model.mask_threshold)
        scored = score_case(
            truth_of(case, groups, datamodule),
            probability=prediction.mask,
            threshold=model.mask_threshold,
            classes=prediction.classes,
            class_names=classes,
            guide_is_empty=prediction.guide_is_empty,
        )
        rows.append(scored.row)
        components += scored.components
    warnings = data_warnings(datamodule)
    if trained_on.get("synthetic"):
        warnings.append("The bundle learned from simulated images, not from patients.")
    about = {
        "name": f"{model.name} on {datamodule.prepared.name}",
        "warnings": warnings,
        "train_seconds": None,
        "training": {},
        "checkpoint": None,
        "empty_mask_policy": EMPTY_MASK_POLICY,
        "distance_convention": DISTANCE_CONVENTION,
        "guide": model.origin["guide"],
        "data": about_tested(config, datamodule),
        "external": {
            "bundle": model.origin["bundle"],
            "fingerprint": model.origin["fingerprint"],
            "trained_on": dict(trained_on),
            "classes_of_the_run": classes,
            "classes_of_the_data": [str(name) for name in data["classes"]],
            "relabel": dict(data["relabel"]),
            "statement": "Thresholds, temperature and classes are the bundle's, chosen on validation cases of its own data; "
            "nothing was fitted or chosen on these data.",
        },
        "seed": None,
        "provenance": provenance(),
    }
    tables = Tables(to_frame(rows), to_detections(components) if model.mask_threshold is not None else None, None)
    decisions = {fold or 0: model.decisions} if model.decisions is not None else {}
    return write_results(output, tables, about, classes, decisions, pictures_of(datamodule), datamodule.prepared.max_pixels)
