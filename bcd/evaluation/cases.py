"""One row for each case: what was true, what was predicted, and how well they agree at native resolution."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from bcd.metrics.boundary import PIXELS, UNKNOWN, BoundaryFigures, Spacing, boundary_figures
from bcd.metrics.detection import Detection, count_components, detect
from bcd.metrics.masks import overlap_of

EMPTY_MASK_POLICY = (
    "Segmentation is scored on lesion images, each image at its native resolution, then the mean. Where a lesion is missed, Dice, "
    "IoU, precision and recall are 0; where nothing is segmented, surface Dice is 0 and distances are the diagonal of the "
    "image; such images count in every mean, and n_missed (Dice 0) and n_not_outlined (nothing segmented) say how many they are. "
    "Images without a lesion are scored apart: share with any segmented pixel, and segmented area."
)
DISTANCE_CONVENTION = (
    "Boundaries are the centres of the mask's pixels that have a 4-neighbour outside it. HD95 is the larger of the two directed "
    "95th percentiles, as in MONAI; ASSD is the mean over the boundary pixels of both masks; surface Dice is the share of them "
    "within the tolerance."
)
SURFACE_TOLERANCE_PX = 2.0
SURFACE_TOLERANCE_MM = 1.0

DETECTION_COLUMNS = ("case_id", "group", "fold", "score", "area_px", "centre_y", "centre_x", "lesion", "iou")

# Always text: a patient called 007 or NA is not a number and not missing.
_TEXT = ("case_id", "group", "patient", "label", "predicted_label", "lesion")
_TRUTH = {"True": True, "False": False}


@dataclass(frozen=True)
class CaseTruth:
    """What is known about a case.

    Args:
        case_id: of the case.
        group: unit of splitting and of the bootstrap.
        label: class name, or None.
        mask: bool (H, W) at native size.
        patient: patient id, or None where it is unknown.
        fold: the test fold whose model predicts; 0 where there is no split.
        spacing_mm: distance of two rows and of two columns, or None where it is unknown.
        marked: whether text or calipers are burnt in; None where nobody looked.
        metadata: everything else the data set knows, such as `birads`.
    """

    case_id: str
    group: str
    label: str | None
    mask: np.ndarray
    patient: str | None = None
    fold: int = 0
    spacing_mm: Spacing | None = None
    marked: bool | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


class CaseScore(NamedTuple):
    """What a case was given: its row of cases.csv, and rows of detections.csv, one for each predicted component, best first."""

    row: dict[str, object]
    components: list[dict[str, object]]


def score_case(
    truth: CaseTruth,
    *,
    probability: np.ndarray | None,
    threshold: float | None,
    classes: np.ndarray | None,
    class_names: Sequence[str],
    guide_is_empty: bool | None,
) -> CaseScore:
    """Return the row of one case, and those of its predicted components.

    Args:
        truth: what is known.
        probability: lesion probability per pixel at native size, float32 (H, W); None where nothing is segmented.
        threshold: a pixel is lesion from this probability on.
        classes: probability per class, float32 (C,); None where nothing is classified.
        class_names: C names.
        guide_is_empty: whether an ROI model had no mask to go by; None for other models.

    Raises:
        ValueError: when prediction and truth differ in size.
    """
    row, detections = _known(truth), list[Detection]()
    if classes is not None:
        row |= {f"probability_{name}": float(value) for name, value in zip(class_names, classes, strict=True)}
        row["predicted_label"] = class_names[int(classes.argmax())]
    if guide_is_empty is not None:
        row["guide_is_empty"] = guide_is_empty
    if probability is not None and threshold is not None:
        if probability.shape != truth.mask.shape:
            raise ValueError(
                f"{truth.case_id}: the prediction is {probability.shape}, the mask {truth.mask.shape}; both must be native."
            )
        predicted = np.asarray(probability >= threshold)
        detections = detect(predicted, truth.mask, probability)
        hits = sum(one.lesion is not None for one in detections)
        row |= _overlap(truth, predicted, probability) | {
            "n_lesions": count_components(truth.mask),
            "n_lesions_found": hits,
            "n_predicted_lesions": len(detections),
            "n_false_positive_lesions": len(detections) - hits,
        }
        if truth.spacing_mm is not None:
            row |= _in_millimetres(truth, predicted, truth.spacing_mm)
    metadata = {f"meta.{name}": value for name, value in truth.metadata.items()}
    case = {"case_id": truth.case_id, "group": truth.group, "fold": truth.fold}
    components = [case | vars(one) | {"lesion": "" if one.lesion is None else str(one.lesion)} for one in detections]
    return CaseScore(row | metadata, components)


def to_frame(rows: Sequence[dict[str, object]]) -> pd.DataFrame:
    """Return the rows of scored cases as a table."""
    table = pd.DataFrame(list(rows))
    # Columns that only some of the cases have go to the end.
    return table[sorted(table.columns, key=lambda column: str(column).startswith("meta."))]


def to_detections(rows: Sequence[dict[str, object]]) -> pd.DataFrame:
    """Return the components of scored cases as a table, `DETECTION_COLUMNS`; `lesion` is text, empty for a false positive."""
    return pd.DataFrame(list(rows), columns=list(DETECTION_COLUMNS))


def _known(truth: CaseTruth) -> dict[str, object]:
    row: dict[str, object] = {"case_id": truth.case_id, "group": truth.group, "patient": truth.patient or ""}
    height, width = truth.mask.shape
    row |= {"label": truth.label or "", "fold": truth.fold, "height": height, "width": width}
    if truth.spacing_mm is not None:
        row |= {"spacing_y_mm": truth.spacing_mm[0], "spacing_x_mm": truth.spacing_mm[1]}
    row["lesion_area_px"] = int(np.count_nonzero(truth.mask))
    return row if truth.marked is None else row | {"marked": truth.marked}


def _overlap(truth: CaseTruth, predicted: np.ndarray, probability: np.ndarray) -> dict[str, object]:
    overlap = overlap_of(predicted, truth.mask)
    distances = _distances(truth, predicted, SURFACE_TOLERANCE_PX, PIXELS)
    return {
        "predicted_area_px": overlap.predicted_px,
        "max_probability": float(probability.max()),
        **overlap.figures(),
        "hd_px": distances.hd,
        "hd95_px": distances.hd95,
        "assd_px": distances.assd,
        "surface_dice_2px": distances.surface_dice,
        "area_error_px": overlap.predicted_px - overlap.true_px,
    }


def _in_millimetres(truth: CaseTruth, predicted: np.ndarray, spacing_mm: Spacing) -> dict[str, object]:
    distances = _distances(truth, predicted, SURFACE_TOLERANCE_MM, spacing_mm)
    pixel_mm2 = math.prod(spacing_mm)
    lesion_px, predicted_px = int(np.count_nonzero(truth.mask)), int(np.count_nonzero(predicted))
    return {
        "hd_mm": distances.hd,
        "hd95_mm": distances.hd95,
        "assd_mm": distances.assd,
        "surface_dice_1mm": distances.surface_dice,
        "lesion_area_mm2": lesion_px * pixel_mm2,
        "predicted_area_mm2": predicted_px * pixel_mm2,
        "area_error_mm2": (predicted_px - lesion_px) * pixel_mm2,
    }


def _distances(truth: CaseTruth, predicted: np.ndarray, tolerance: float, spacing: Spacing) -> BoundaryFigures:
    """Return the distances of a lesion image; all unknown where there is no lesion, which is scored apart."""
    return boundary_figures(predicted, truth.mask, tolerance, spacing) if truth.mask.any() else UNKNOWN


def read_table(path: Path) -> pd.DataFrame:
    """Return cases.csv, validation.csv or detections.csv as it was written.

    Raises:
        ValueError: for a file that has no case_id, or a column of numbers that holds something else.
    """
    table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    if "case_id" not in table:
        raise ValueError(f"{path}: no table of cases, the column case_id is missing; evaluate the run again.")
    for name in table.columns:
        if name not in _TEXT and not str(name).startswith("meta."):
            table[name] = _values(table[name], path)
    return table


def _values(column: "pd.Series[str]", path: Path) -> "pd.Series":
    """Return truth values, whole numbers or floats, an empty cell as NaN; Python's own conversion is exact."""
    texts = [str(text) for text in column]
    if texts and set(texts) <= set(_TRUTH):
        return pd.Series([_TRUTH[text] for text in texts], index=column.index)
    try:
        if texts and all(text.lstrip("-").isdecimal() for text in texts):
            return pd.Series([int(text) for text in texts], index=column.index)
        return pd.Series([float(text) if text else float("nan") for text in texts], index=column.index, dtype=float)
    except ValueError as error:
        raise ValueError(f"{path}: column {column.name}: {error}; evaluate the run again.") from error
