"""One row for each test case: what was true, what was predicted, and how well they agree at native resolution."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

EMPTY_MASK_POLICY = (
    "Segmentation is scored on lesion images: Dice and IoU per image at native resolution, then the mean; a missed lesion is 0. "
    "Images without a lesion are scored apart: share with any outlined pixel, and outlined area."
)


@dataclass(frozen=True)
class CaseTruth:
    """What is known about a test case.

    Args:
        case_id: of the case.
        group: unit of splitting and of the bootstrap.
        label: class name, or None.
        mask: bool (H, W) at native size.
    """

    case_id: str
    group: str
    label: str | None
    mask: np.ndarray


def score_case(
    truth: CaseTruth,
    *,
    probability: np.ndarray | None,
    threshold: float | None,
    classes: np.ndarray | None,
    class_names: Sequence[str],
    guide_is_empty: bool | None,
) -> dict[str, object]:
    """Return the row of one case.

    Args:
        truth: what is known.
        probability: lesion probability per pixel at native size, float32 (H, W); None where nothing is outlined.
        threshold: a pixel is lesion from this probability on.
        classes: probability per class, float32 (C,); None where nothing is classified.
        class_names: C names.
        guide_is_empty: whether an ROI model had no outline to go by; None for other models.

    Raises:
        ValueError: when prediction and truth differ in size.
    """
    row: dict[str, object] = {"case_id": truth.case_id, "group": truth.group, "label": truth.label or ""}
    height, width = truth.mask.shape
    row |= {"height": height, "width": width, "lesion_area_px": int(truth.mask.sum())}
    if classes is not None:
        row |= {f"probability_{name}": float(value) for name, value in zip(class_names, classes, strict=True)}
        row["predicted_label"] = class_names[int(classes.argmax())]
    if guide_is_empty is not None:
        row["guide_is_empty"] = guide_is_empty
    if probability is not None and threshold is not None:
        row |= _overlap(truth, probability, threshold)
    return row


def _overlap(truth: CaseTruth, probability: np.ndarray, threshold: float) -> dict[str, object]:
    if probability.shape != truth.mask.shape:
        raise ValueError(
            f"{truth.case_id}: the prediction is {probability.shape}, the mask {truth.mask.shape}; both must be native."
        )
    predicted = probability >= threshold
    area, true_area = int(predicted.sum()), int(truth.mask.sum())
    shared = int((predicted & truth.mask).sum())
    row: dict[str, object] = {"predicted_area_px": area, "max_probability": float(probability.max())}
    if true_area:
        return row | {"dice": 2 * shared / (area + true_area), "iou": shared / (area + true_area - shared)}
    return row | {"dice": np.nan, "iou": np.nan}


def to_frame(rows: Sequence[dict[str, object]]) -> pd.DataFrame:
    """Return the rows as a table, `case_id,group,label` first."""
    return pd.DataFrame(list(rows))
