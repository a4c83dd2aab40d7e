"""Reading the tables of a result back, to the last digit."""

from pathlib import Path
from typing import Any

import pandas as pd

# Text, whatever it looks like: a patient called 007 or NA is no number and not missing.
_TEXT = ("case_id", "group", "patient", "label", "predicted_label", "lesion")
_TRUTH = {"True": True, "False": False}


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


def _values(column: "pd.Series[str]", path: Path) -> "pd.Series[Any]":
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
