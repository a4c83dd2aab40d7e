"""The figures of outlines as functions of case weights; their values are those of `bcd.evaluation.segmentation`.

Paths are those of metrics.json: `lesion_images.dice`, `lesion_images_by_class.benign.hd95_px`, `detection.sensitivity`.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bcd.evaluation.segmentation import MEANS, MEANS_MM, is_hit, ranks
from bcd.evaluation.weighted import Figure, Froc, Median, Sums, first_by_second, mean


def outline_figures(cases: pd.DataFrame, class_names: Sequence[str], detections: pd.DataFrame | None = None) -> dict[str, Figure]:
    """Return path -> figure for all figures of outlines.

    Args:
        cases: rows of cases.csv of a task that outlines.
        class_names: the classes that have a block of their own.
        detections: rows of detections.csv of those cases, for the FROC average; there is none where their scores do not rank.
    """
    lesion = (cases["lesion_area_px"] > 0).to_numpy()
    figures = {f"lesion_images.{name}": figure for name, figure in lesion_figures(cases, lesion).items()}
    figures |= {name: figures[f"lesion_images.{name}"] for name in ("dice", "iou") if f"lesion_images.{name}" in figures}
    for label in class_names:
        part = lesion & (cases["label"] == label).to_numpy()
        if part.any():
            figures |= {f"lesion_images_by_class.{label}.{name}": one for name, one in lesion_figures(cases, part).items()}
    if not lesion.all():
        figures |= {f"lesion_free_images.{name}": figure for name, figure in _lesion_free(cases, ~lesion).items()}
    if "n_lesions" in cases:
        figures |= {f"detection.{name}": figure for name, figure in _detection(cases, detections).items()}
    return figures


def lesion_figures(cases: pd.DataFrame, counted: np.ndarray) -> dict[str, Figure]:
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
    found = cases["n_lesions_found"].to_numpy(dtype=np.float64)
    figures: dict[str, Figure] = {
        "sensitivity": Sums(np.stack([found, n_lesions], axis=1), first_by_second, is_rate=True),
        "false_positives_per_image": mean(cases["n_false_positive_lesions"].to_numpy(float), np.ones(len(cases), bool)),
    }
    if detections is None:
        return figures
    scores = detections["score"].to_numpy(dtype=np.float64)
    if ranks(scores):
        rows = pd.Index(cases["case_id"]).get_indexer(detections["case_id"])
        figures["froc_average"] = Froc(scores, is_hit(detections), rows, n_lesions)
    return figures
