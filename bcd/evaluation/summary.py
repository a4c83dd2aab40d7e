"""From one row per case to the figures of a result: `metrics.json["test"]`."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from bcd.evaluation.classification import choose_positive
from bcd.evaluation.classified import calibration_figures, classification_block, decision_blocks, figures_of
from bcd.evaluation.decisions import Decisions
from bcd.evaluation.intervals import METHOD, few_groups_warnings, intervals, present_ends
from bcd.evaluation.patients import WAYS, join_patients
from bcd.evaluation.segmentation import detection_figures, segmentation_figures, weighted_figures
from bcd.evaluation.subgroups import subgroups
from bcd.evaluation.validation import fit_by_fold, folds_of
from bcd.evaluation.weighted import Figure

# The figures of each fold.
_OF_FOLD = ("dice", "iou", "auroc", "auprc", "accuracy", "balanced_accuracy", "brier", "ece")


def summarise(
    cases: pd.DataFrame,
    class_names: Sequence[str],
    *,
    detections: pd.DataFrame | None = None,
    decisions: Mapping[int, Decisions] | None = None,
    validation: pd.DataFrame | None = None,
) -> dict[str, Any]:
    """Return the test figures of a table of scored cases; plain JSON values, None where a figure is undefined.

    Args:
        cases: as `score_case` makes its rows.
        class_names: in the order of the probabilities.
        detections: one row a predicted component, where lesions are looked for as objects.
        decisions: by fold, what was chosen on validation; None to choose it here, on `validation`.
        validation: validation cases of the same models; where they are there, patients have thresholds of their own.

    Returns:
        Counts, and, where the table has them, the blocks of segmentation, detection and classification.

    Raises:
        ValueError: for labels of a classification that are none of the classes, or a fold without decisions.
    """
    classifies = "predicted_label" in cases
    positive: str | None = None
    if classifies:
        if not decisions:
            decisions = fit_by_fold(validation, class_names) if validation is not None else {}
        positive = next(iter(decisions.values())).positive if decisions else choose_positive(class_names)
    result = _counts(cases, class_names) | _figures(cases, class_names, positive)
    if "dice" in cases and detections is not None:
        result["detection"] = detection_figures(cases, detections)
    if classifies and decisions and len(cases):
        result |= decision_blocks(cases, class_names, decisions)
    if classifies and _knows_patients(cases):
        result["patient_level"] = {
            way: _of_patients(cases, class_names, str(positive), way, decisions or {}, validation) for way in WAYS
        }
    result |= _folds(cases, class_names, positive)
    result["subgroups"] = subgroups(cases, class_names, positive) if len(cases) else []
    result["intervals"] = _intervals(cases, class_names, positive, detections, decisions or {})
    for way, block in result.get("patient_level", {}).items():
        of_patients = block.pop("all_intervals")
        result["intervals"] |= {f"patient_level.{way}.{path}": ends for path, ends in of_patients.items()}
    result["interval_method"] = METHOD
    result["interval_warnings"] = few_groups_warnings(_n_groups(cases, class_names))
    return result


def headline_figures(
    cases: pd.DataFrame, class_names: Sequence[str], positive: str | None = None, detections: pd.DataFrame | None = None
) -> dict[str, Figure]:
    """Return path -> figure for every figure of masks and classes that the table has."""
    figures = weighted_figures(cases, class_names, detections) if "dice" in cases else {}
    return figures | (figures_of(cases, class_names, positive) if "predicted_label" in cases else {})


def _counts(cases: pd.DataFrame, class_names: Sequence[str]) -> dict[str, Any]:
    lesion = cases["lesion_area_px"] > 0
    result: dict[str, Any] = {
        "n_cases": len(cases),
        "n_groups": int(cases["group"].nunique()),
        "n_lesion_images": int(lesion.sum()),
        "n_lesion_free_images": int((~lesion).sum()),
        "n_by_class": {name: int((cases["label"] == name).sum()) for name in class_names},
    }
    if "guide_is_empty" in cases:
        result["n_empty_guides"] = int(cases["guide_is_empty"].sum())
    return result


def _n_groups(cases: pd.DataFrame, class_names: Sequence[str]) -> dict[str, int]:
    """Return kind of images -> the groups behind their figures, all images first."""
    lesion = cases["lesion_area_px"] > 0
    parts = {"all images": cases}
    if "dice" in cases:
        parts |= {"lesion images": cases[lesion], "images without a lesion": cases[~lesion]}
    parts |= {f"{name} images": cases[cases["label"] == name] for name in class_names}
    return {name: int(part["group"].nunique()) for name, part in parts.items()}


def _figures(cases: pd.DataFrame, class_names: Sequence[str], positive: str | None) -> dict[str, Any]:
    result = segmentation_figures(cases, class_names) if "dice" in cases else {}
    return result | (classification_block(cases, class_names, positive) if "predicted_label" in cases else {})


def _intervals(
    cases: pd.DataFrame,
    class_names: Sequence[str],
    positive: str | None,
    detections: pd.DataFrame | None,
    decisions: Mapping[int, Decisions],
) -> dict[str, list[float]]:
    figures = headline_figures(cases, class_names, positive, detections)
    if decisions and "predicted_label" in cases:
        figures |= calibration_figures(cases, class_names, decisions)
    return present_ends(intervals(figures, cases["group"].to_numpy(str)))


def _of_patients(
    cases: pd.DataFrame,
    class_names: Sequence[str],
    positive: str,
    way: str,
    decisions: Mapping[int, Decisions],
    validation: pd.DataFrame | None,
) -> dict[str, Any]:
    """Return the classification of patients; thresholds are chosen on validation patients where they are known, else on images."""
    patients = join_patients(cases, class_names, positive, way)
    block: dict[str, Any] = {"n": len(patients), "n_groups": int(patients["group"].nunique())}
    block["n_images"] = int(patients["n_images"].sum())
    block |= classification_block(patients, class_names, positive)
    if decisions:
        own: dict[int, Decisions] = {}
        if validation is not None and _knows_patients(validation):
            own = fit_by_fold(join_patients(validation, class_names, positive, way), class_names, positive)
        chosen_on = "patients" if set(folds_of(patients)) <= set(own) else "images"
        block["thresholds_chosen_on"] = chosen_on
        used = own if chosen_on == "patients" else decisions
        block |= decision_blocks(patients, class_names, used)
    block["all_intervals"] = _intervals(patients, class_names, positive, None, {})
    return block


def _knows_patients(cases: pd.DataFrame) -> bool:
    return "patient" in cases and bool((cases["patient"].fillna("").astype(str) != "").any())


def _folds(cases: pd.DataFrame, class_names: Sequence[str], positive: str | None) -> dict[str, Any]:
    """Return the figures of each fold, and over several folds their mean and standard deviation."""
    if "fold" not in cases or not len(cases):
        return {}
    folds = []
    for fold, part in cases.groupby("fold"):
        figures = _figures(part, class_names, positive)
        entry: dict[str, Any] = {"fold": int(str(fold)), "n_cases": len(part), "n_groups": int(part["group"].nunique())}
        folds.append(entry | {name: figures[name] for name in _OF_FOLD if name in figures})
    if len(folds) < 2:
        return {"folds": folds}
    known = {name: [fold[name] for fold in folds] for name in _OF_FOLD if all(fold.get(name) is not None for fold in folds)}
    spread = {name: {"mean": statistics.fmean(values), "sd": statistics.stdev(values)} for name, values in known.items()}
    return {"folds": folds, "mean_over_folds": spread}
