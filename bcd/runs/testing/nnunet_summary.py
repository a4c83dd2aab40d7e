"""Results of single cases in the form of nnU-Net's `summary.json`, for whatever reads that.

The lesion is class 1. The file follows nnU-Net v2 also where this project counts otherwise. An image without a lesion on which
nothing is outlined has a Dice and IoU of NaN, written as the bare word NaN (Python's json reads it, strict parsers do not), and the
means pass over it; with anything outlined it has 0 and counts. So the mean Dice here is not that of `metrics.json` where the test
has images without a lesion; on lesion images alone the two are equal. TP, FP, FN and TN are pixels, their means over all images.

Isensee et al., Nature Methods 18 (2021) 203, doi:10.1038/s41592-020-01008-z.
"""

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

LESION = "1"


def summary_json(
    cases: pd.DataFrame, prediction_file: Callable[[str], str] = str, reference_file: Callable[[str], str] = str
) -> str:
    """Return the text of a `summary.json`.

    Args:
        cases: rows of `score_case` of a task that outlines.
        prediction_file: case id -> path of its predicted mask, as it is to stand in the file.
        reference_file: case id -> path of its true mask.

    Raises:
        ValueError: when the table has no cases, or no outlines.
    """
    missing = [name for name in ("dice", "predicted_area_px", "lesion_area_px", "height", "width") if name not in cases]
    if missing or not len(cases):
        what = f"lacks {', '.join(missing)}" if missing else "has no cases"
        raise ValueError(f"The table {what}; a summary.json needs the cases of a segmentation.")
    metrics = pixel_counts(cases)
    metrics.insert(0, "IoU", _share(metrics["TP"], metrics["TP"] + metrics["FP"] + metrics["FN"]))
    metrics.insert(0, "Dice", _share(2 * metrics["TP"], metrics["n_pred"] + metrics["n_ref"]))
    means = {name: float(metrics[name].mean()) for name in metrics}
    per_case = [
        {
            "metrics": {LESION: row},
            "prediction_file": prediction_file(case_id),
            "reference_file": reference_file(case_id),
        }
        for case_id, row in zip(cases["case_id"].astype(str), _rows(metrics), strict=True)
    ]
    content = {"foreground_mean": means, "mean": {LESION: means}, "metric_per_case": per_case}
    return json.dumps(content, indent=4) + "\n"


def pixel_counts(cases: pd.DataFrame) -> pd.DataFrame:
    """Return TP, FP, FN, TN, n_pred and n_ref of each case in pixels, int64, computed back from Dice and the areas.

    Dice is 2 TP / (n_pred + n_ref), and TP a whole number, so rounding gives it exactly; without a lesion it is 0.

    Args:
        cases: `dice`, `predicted_area_px`, `lesion_area_px`, `height`, `width`.
    """
    predicted, true = (cases[name].astype(np.int64) for name in ("predicted_area_px", "lesion_area_px"))
    shared = (cases["dice"].fillna(0.0) * (predicted + true) / 2).round().astype(np.int64)
    background = cases["height"].astype(np.int64) * cases["width"].astype(np.int64) - predicted - true + shared
    counts = {"TP": shared, "FP": predicted - shared, "FN": true - shared, "TN": background}
    return pd.DataFrame(counts | {"n_pred": predicted, "n_ref": true})


def _share(part: pd.Series, whole: pd.Series) -> pd.Series:
    return part / whole.where(whole > 0, math.nan)


def _rows(metrics: pd.DataFrame) -> list[dict[str, Any]]:
    """Return one dict a row, whole numbers as such."""
    return [dict(zip(metrics.columns, row, strict=True)) for row in metrics.itertuples(index=False, name=None)]
