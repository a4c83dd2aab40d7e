"""Figures of segmentations: lesion images, images without a lesion, each class, and lesions as objects (FROC).

`weighted_figures` gives the same figures as functions of case weights, for intervals and tests; their paths are those of
metrics.json: `lesion_images.dice`, `lesion_images_by_class.benign.hd95_px`, `detection.sensitivity`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from bcd.evaluation.weighted import Figure, Froc, Median, Sums, first_by_second, mean, plain
from bcd.metrics.detection import CRITERION, FROC_POINTS, froc_curve, froc_sensitivities

MEANS = ("dice", "iou", "precision", "recall", "hd_px", "hd95_px", "assd_px", "surface_dice_2px")
MEANS_MM = ("hd_mm", "hd95_mm", "assd_mm", "surface_dice_1mm")


def segmentation_figures(cases: pd.DataFrame, class_names: Sequence[str]) -> dict[str, Any]:
    """Return the figures of a segmentation, of rows of `score_case`.

    Returns:
        `lesion_images`, `lesion_free_images`, `lesion_images_by_class` (those that have lesion images), and the Dice and IoU of
        all lesion images once more on top.
    """
    lesion = (cases["lesion_area_px"] > 0).to_numpy()
    whole = lesion_figures(cases, lesion)
    parts = {name: lesion & (cases["label"] == name).to_numpy() for name in class_names}
    return {
        "lesion_images": whole,
        "lesion_free_images": {"n": int((~lesion).sum())} | plain(_lesion_free(cases, ~lesion), len(cases)),
        "dice": whole["dice"],
        "iou": whole["iou"],
        "lesion_images_by_class": {name: lesion_figures(cases, part) for name, part in parts.items() if part.any()},
    }


def lesion_figures(cases: pd.DataFrame, counted: np.ndarray) -> dict[str, Any]:
    """Return the figures of the lesion images that count, bool (N,): means over images, None where there are none.

    `dice_pooled` is over all pixels of all images at once. `n_missed` counts the images on which nothing of the lesion is segmented
    (Dice 0), `n_not_outlined` those of them on which nothing is segmented at all, whose distances are the diagonal of the image.
    Means in mm are over the `n_with_spacing` images whose spacing is known.
    """
    part = cases[counted]
    figures: dict[str, Any] = {"n": len(part)} | plain(weighted_lesion_figures(cases, counted), len(cases))
    if any(name in cases for name in MEANS_MM):
        figures["n_with_spacing"] = int(part["spacing_y_mm"].notna().sum())
    figures["n_missed"] = int((part["dice"] == 0).sum())
    return figures | {"n_not_outlined": int((part["predicted_area_px"] == 0).sum())}


def detection_figures(cases: pd.DataFrame, detections: pd.DataFrame) -> dict[str, Any]:
    """Return how many lesions were found as objects, at how many false positives.

    `sensitivity` and `false_positives_per_image` are those of all predicted components; the FROC curve begins with the components
    of highest probability and ends there. Scores of several folds' models are compared as they are. Images without a lesion count
    among the images; the detections are the components of those very cases, as `to_detections` makes their table.

    Returns:
        `froc` is the curve; `froc_points` the sensitivity at each number of false positives per image of `FROC_POINTS`;
        `froc_average` their mean. What needs a lesion is None without one, and the curve where all scores are the same, as those of
        masks without probabilities are.
    """
    n_lesions, n_images, hit = int(cases["n_lesions"].sum()), len(cases), is_hit(detections)
    figures: dict[str, Any] = {
        "criterion": CRITERION,
        "n_lesions": n_lesions,
        "n_images": n_images,
        "n_detections": len(detections),
        "sensitivity": int(hit.sum()) / n_lesions if n_lesions else None,
        "false_positives_per_image": int((~hit).sum()) / n_images if n_images else None,
        "froc": None,
        "froc_points": None,
        "froc_average": None,
    }
    scores = detections["score"].to_numpy(dtype=np.float64)
    if n_lesions and ranks(scores):
        false_positives, sensitivity = froc_curve(scores[~hit], scores[hit], n_lesions, n_images)
        at_points = froc_sensitivities(false_positives, sensitivity)
        figures["froc"] = {"false_positives_per_image": false_positives.tolist(), "sensitivity": sensitivity.tolist()}
        figures["froc_points"] = [
            {"false_positives_per_image": point, "sensitivity": float(value)}
            for point, value in zip(FROC_POINTS, at_points, strict=True)
        ]
        figures["froc_average"] = float(at_points.mean())
    return figures


def ranks(scores: np.ndarray) -> bool:
    """Return whether scores order the detections: of binary masks all are the same, and there is no curve to go along."""
    return len(scores) == 0 or bool((scores != scores[0]).any()) or scores[0] < 1


def is_hit(detections: pd.DataFrame) -> np.ndarray:
    """Return which detections hit a lesion, bool (N,), from a table as made or as read from its CSV."""
    lesion = detections["lesion"]
    return np.asarray(lesion.notna() & (lesion.astype(str) != ""), dtype=bool)


def weighted_figures(cases: pd.DataFrame, class_names: Sequence[str], detections: pd.DataFrame | None = None) -> dict[str, Figure]:
    """Return path -> figure for all figures of a segmentation.

    Args:
        cases: rows of cases.csv of a task that segments.
        class_names: the classes that have a block of their own.
        detections: rows of detections.csv of those cases, for the FROC average; there is none where their scores do not rank.
    """
    lesion = (cases["lesion_area_px"] > 0).to_numpy()
    figures = {f"lesion_images.{name}": figure for name, figure in weighted_lesion_figures(cases, lesion).items()}
    figures |= {name: figures[f"lesion_images.{name}"] for name in ("dice", "iou") if f"lesion_images.{name}" in figures}
    for label in class_names:
        part = lesion & (cases["label"] == label).to_numpy()
        if part.any():
            figures |= {f"lesion_images_by_class.{label}.{name}": one for name, one in weighted_lesion_figures(cases, part).items()}
    if not lesion.all():
        figures |= {f"lesion_free_images.{name}": figure for name, figure in _lesion_free(cases, ~lesion).items()}
    if "n_lesions" in cases:
        figures |= {f"detection.{name}": figure for name, figure in _detection(cases, detections).items()}
    return figures


def weighted_lesion_figures(cases: pd.DataFrame, counted: np.ndarray) -> dict[str, Figure]:
    """Return the figures over the lesion images that count, bool (N,)."""
    figures: dict[str, Figure] = {}
    for name in (*MEANS, *MEANS_MM):
        if name in cases:
            values = cases[name].to_numpy(dtype=np.float64)
            figures[name] = mean(np.nan_to_num(values), counted & ~np.isnan(values))
    dice = np.where(counted, cases["dice"].to_numpy(dtype=np.float64), np.nan)
    figures["dice_median"] = Median(dice)
    total = np.where(counted, cases["predicted_area_px"] + cases["lesion_area_px"], 0).astype(np.float64)
    figures["dice_pooled"] = Sums(np.stack([np.nan_to_num(dice) * total, total], axis=1), first_by_second)
    return figures


def _lesion_free(cases: pd.DataFrame, counted: np.ndarray) -> dict[str, Figure]:
    area = cases["predicted_area_px"].to_numpy(dtype=np.float64)
    pixels = (cases["height"] * cases["width"]).to_numpy(dtype=np.float64)
    return {
        "false_positive_rate": mean(area > 0, counted, is_rate=True),
        "false_positive_area_px": mean(area, counted),
        "false_positive_area_share": mean(area / pixels, counted),
    }


def _detection(cases: pd.DataFrame, detections: pd.DataFrame | None) -> dict[str, Figure]:
    n_lesions = cases["n_lesions"].to_numpy(dtype=np.float64)
    hits = cases["n_lesions_found"].to_numpy(dtype=np.float64)
    figures: dict[str, Figure] = {
        "sensitivity": Sums(np.stack([hits, n_lesions], axis=1), first_by_second, is_rate=True),
        "false_positives_per_image": mean(cases["n_false_positive_lesions"].to_numpy(float), np.ones(len(cases), bool)),
    }
    if detections is None:
        return figures
    scores = detections["score"].to_numpy(dtype=np.float64)
    if ranks(scores):
        rows = pd.Index(cases["case_id"]).get_indexer(detections["case_id"])
        figures["froc_average"] = Froc(scores, is_hit(detections), rows, n_lesions)
    return figures
