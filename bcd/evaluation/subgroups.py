"""The figures of subgroups of the test: by class, size of the lesion, burnt-in marks, and other metadata of the data set.

Intervals are by bootstrap over the groups of the part. Parts of fewer than 5 cases are left out; so are properties of one value,
or of more than 12, which would be a list of cases.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bcd.evaluation.classification import classification_figures, probabilities_of, table_figures, truth_of
from bcd.evaluation.intervals import intervals, present_ends
from bcd.evaluation.segmentation import weighted_lesion_figures
from bcd.evaluation.weighted import Area, Figure, mean, plain

LEAST_CASES = 5
MOST_VALUES = 12
# Share of the image that the lesion covers. Fixed, so that the same row of two reports means the same lesions.
AREA_LIMITS = (0.03, 0.10)
SIZE_NAMES = ("small (below 3 % of the image)", "medium (3 to 10 %)", "large (from 10 %)")
_OUTLINES = ("dice", "iou", "hd95_px", "hd95_mm", "surface_dice_2px")


def subgroups(cases: pd.DataFrame, class_names: Sequence[str], positive: str | None) -> list[dict[str, Any]]:
    """Return {by, value, n, n_groups, figures, intervals} for each part of cases.csv.

    `positive` is the class that sensitivity, specificity and AUROC are about; None where nothing is classified.
    """
    result = []
    for by, values in properties(cases):
        for value in _ordered(values):
            part = cases[(values == value).to_numpy()]
            figures = part_figures(part, class_names, positive)
            known = {name: figure for name, figure in plain(figures, len(part)).items() if figure is not None}
            entry: dict[str, Any] = {"by": by, "value": value, "n": len(part), "n_groups": int(part["group"].nunique())}
            entry["figures"], entry["intervals"] = known, {}
            if known:
                ends = present_ends(intervals(figures, part["group"].to_numpy(str)))
                entry["intervals"] = {name: ends[name] for name in known if name in ends}
            result.append(entry)
    return result


def properties(cases: pd.DataFrame) -> Iterator[tuple[str, pd.Series]]:
    """Yield each property and the value of each case as text, "" where it is unknown; only those that divide the cases."""
    by_property = {"label": cases["label"].astype(str)} if "label" in cases else {}
    if {"height", "width"} <= set(cases):
        by_property["lesion_size"] = lesion_size(cases)
    if "marked" in cases:
        by_property["marked"] = cases["marked"].map({True: "yes", False: "no"}).fillna("")
    # Folds that a data set came with are no property of its cases.
    known = [str(name) for name in cases.columns if str(name).startswith("meta.") and not str(name).startswith("meta.fold")]
    by_property |= {name: _as_text(cases[name]) for name in known}
    for by, values in by_property.items():
        if len(set(values) - {""}) in range(2, MOST_VALUES + 1):
            yield by, values


def lesion_size(cases: pd.DataFrame) -> pd.Series:
    """Return one of SIZE_NAMES by the share of the image that the lesion covers; "" without lesion."""
    share = cases["lesion_area_px"] / (cases["height"] * cases["width"])
    names = np.array(SIZE_NAMES)[np.searchsorted(AREA_LIMITS, share, side="right")]
    return pd.Series(np.where(cases["lesion_area_px"] > 0, names, ""), index=cases.index)


def part_figures(cases: pd.DataFrame, class_names: Sequence[str], positive: str | None) -> dict[str, Figure]:
    """Return the figures of a part: masks of its lesion images, and accuracy and the positive class of all of its cases."""
    figures: dict[str, Figure] = {}
    lesion = (cases["lesion_area_px"] > 0).to_numpy() if "lesion_area_px" in cases else np.zeros(len(cases), bool)
    if "dice" in cases and lesion.any():
        figures |= {name: figure for name, figure in weighted_lesion_figures(cases, lesion).items() if name in _OUTLINES}
    if "dice" in cases and not lesion.all() and "predicted_area_px" in cases:
        figures["false_positive_rate"] = mean((cases["predicted_area_px"] > 0).to_numpy(), ~lesion, is_rate=True)
    if positive is None or "predicted_label" not in cases:
        return figures
    truth, probabilities = truth_of(cases, class_names), probabilities_of(cases, class_names)
    number = list(class_names).index(positive)
    decided = table_figures(truth == number, probabilities.argmax(1) == number)
    figures["auroc"] = Area(truth == number, np.ascontiguousarray(probabilities[:, number]), "auroc")
    figures["accuracy"] = classification_figures(probabilities, truth, class_names, positive)["accuracy"]
    return figures | {name: decided[name] for name in ("sensitivity", "specificity")}


def _ordered(values: pd.Series) -> list[str]:
    """Return the values with enough cases, sizes from small to large, others by the alphabet."""
    counts = values[values != ""].value_counts()
    kept = sorted(str(value) for value, count in counts.items() if count >= LEAST_CASES)
    return sorted(kept, key=lambda value: SIZE_NAMES.index(value) if value in SIZE_NAMES else 0)


def _as_text(values: pd.Series) -> pd.Series:
    return values.astype(object).where(values.notna(), "").astype(str)
