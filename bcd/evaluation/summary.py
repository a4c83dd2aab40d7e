"""From one row a case to the figures of a run."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score


def summarise(cases: pd.DataFrame, class_names: Sequence[str]) -> dict[str, Any]:
    """Return the test figures of a table of scored cases.

    Args:
        cases: as `score_case` makes its rows.
        class_names: in the order of the probabilities.

    Returns:
        `n_cases`, counts per class, and, where the table has them, the figures of segmentation and classification.
    """
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
    if "dice" in cases:
        result |= _segmentation(cases, lesion, class_names)
    if "predicted_label" in cases:
        result |= _classification(cases, class_names)
    return result


def _segmentation(cases: pd.DataFrame, lesion: pd.Series, class_names: Sequence[str]) -> dict[str, Any]:
    result: dict[str, Any] = {"lesion_images": _lesion_figures(cases[lesion]), "lesion_free_images": _free_figures(cases[~lesion])}
    result["dice"], result["iou"] = result["lesion_images"]["dice"], result["lesion_images"]["iou"]
    by_class = {name: cases[lesion & (cases["label"] == name)] for name in class_names}
    result["lesion_images_by_class"] = {name: _lesion_figures(part) for name, part in by_class.items() if len(part)}
    return result


def _lesion_figures(cases: pd.DataFrame) -> dict[str, Any]:
    if not len(cases):
        return {"n": 0, "dice": None, "iou": None, "n_missed": 0}
    total = cases["predicted_area_px"] + cases["lesion_area_px"]
    shared = (cases["dice"] * total / 2).sum()
    return {
        "n": len(cases),
        "dice": float(cases["dice"].mean()),
        "dice_median": float(cases["dice"].median()),
        "dice_pooled": float(2 * shared / total.sum()),
        "iou": float(cases["iou"].mean()),
        "n_missed": int((cases["dice"] == 0).sum()),
    }


def _free_figures(cases: pd.DataFrame) -> dict[str, Any]:
    if not len(cases):
        return {"n": 0, "false_positive_rate": None, "false_positive_area_px": None, "false_positive_area_share": None}
    pixels = cases["height"] * cases["width"]
    return {
        "n": len(cases),
        "false_positive_rate": float((cases["predicted_area_px"] > 0).mean()),
        "false_positive_area_px": float(cases["predicted_area_px"].mean()),
        "false_positive_area_share": float((cases["predicted_area_px"] / pixels).mean()),
    }


def _classification(cases: pd.DataFrame, class_names: Sequence[str]) -> dict[str, Any]:
    probability = cases[[f"probability_{name}" for name in class_names]].to_numpy(dtype=np.float64)
    truth = np.array([list(class_names).index(label) for label in cases["label"]])
    predicted = probability.argmax(1)
    confusion = [
        [int(((truth == row) & (predicted == column)).sum()) for column in range(len(class_names))]
        for row in range(len(class_names))
    ]
    per_class = {
        name: _one_class(truth == number, predicted == number, probability[:, number]) for number, name in enumerate(class_names)
    }
    recalls = [figures["sensitivity"] for figures in per_class.values() if figures["sensitivity"] is not None]
    areas = [figures["auroc"] for figures in per_class.values()]
    whole = None if any(area is None for area in areas) else math.fsum(area for area in areas if area is not None) / len(areas)
    return {
        "auroc": whole,
        "auroc_definition": "one class against the rest, mean over the classes; None where a class has no test case",
        "accuracy": float((truth == predicted).mean()),
        "balanced_accuracy": float(np.mean(recalls)),
        "by_class": per_class,
        "confusion": {
            "rows": "truth",
            "columns": "prediction (highest probability)",
            "classes": list(class_names),
            "counts": confusion,
        },
    }


def _one_class(truth: np.ndarray, predicted: np.ndarray, probability: np.ndarray) -> dict[str, Any]:
    positives, negatives = int(truth.sum()), int((~truth).sum())
    return {
        "n": positives,
        "auroc": float(roc_auc_score(truth, probability)) if positives and negatives else None,
        "sensitivity": float((truth & predicted).sum() / positives) if positives else None,
        "specificity": float((~truth & ~predicted).sum() / negatives) if negatives else None,
    }
