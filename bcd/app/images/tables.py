"""Many results as a table, on the page, of which a row is chosen, and as CSV."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from bcd.app.images.wording import shown_threshold
from bcd.evaluation.decisions import CALIBRATED
from bcd.predictor.bundle import Bundle
from bcd.predictor.result import Result

_UNCALIBRATED = "uncalibrated_"
# What a spreadsheet would take for a formula: names of files come from strangers.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
# First on the page; the other columns are in the CSV.
_FIRST = ("case_id", "label", "is_positive", "in_scope")
_NOT_SHOWN = ("model", "model_fingerprint", "height", "width", "threshold", "operating_point")
_TITLES = {
    "case_id": "image",
    "label": "most probable",
    "n_lesions": "lesions",
    "largest_area_px": "area (px)",
    "largest_long_px": "long (px)",
    "largest_short_px": "short (px)",
    "largest_area_mm2": "area (mm\N{SUPERSCRIPT TWO})",
    "largest_long_mm": "long (mm)",
    "largest_short_mm": "short (mm)",
    "in_scope": "in scope",
    "agrees": "class and mask agree",
    "outline": "mask",
}
_IN_SCOPE = "Whether the image is like the training images; where it is not, do not rely on the result."


def results_table(names: Sequence[str], results: Sequence[Result], bundle: Bundle, corrected: Sequence[bool]) -> pd.DataFrame:
    """Return one row per image; `corrected` says of each whether its mask was corrected by hand."""
    rows = [_row(name, result, by_hand, bundle) for name, result, by_hand in zip(names, results, corrected, strict=True)]
    return pd.DataFrame(rows).assign(model=bundle.name, model_fingerprint=bundle.fingerprint)


def _row(name: str, result: Result, by_hand: bool, bundle: Bundle) -> dict[str, object]:
    row: dict[str, object] = {
        "case_id": f"'{name}" if name.startswith(_FORMULA) else name,
        "height": result.height,
        "width": result.width,
    }
    if result.label is not None:
        row |= {"label": result.label}
        row |= {f"probability_{name}": value for name, value in result.probabilities.items()}
        shown = shown_threshold(result.threshold, bundle) if result.threshold is not None else None
        row |= {"operating_point": result.point, "threshold": shown, "is_positive": result.is_positive}
        if bundle.decisions.on != CALIBRATED and bundle.positive is not None and result.raw is not None:
            # The probability that decided, and its threshold: not the calibrated ones.
            decided = float(result.raw[list(bundle.classes).index(bundle.positive)])
            row |= {f"{_UNCALIBRATED}{bundle.positive}": decided, f"{_UNCALIBRATED}threshold": result.threshold}
    if result.mask is not None:
        first = result.lesions[0] if result.lesions else None
        row |= {"n_lesions": len(result.lesions), "outline": "corrected by hand" if by_hand else "predicted"}
        for name in ("area_px", "long_px", "short_px", "area_mm2", "long_mm", "short_mm"):
            row[f"largest_{name}"] = getattr(first, name) if first is not None else None
    in_scope = result.scope.in_scope if result.scope is not None else None
    return row | {"in_scope": in_scope, "agrees": result.consistent, "warnings": " ".join(result.warnings)}


def csv_of(table: pd.DataFrame) -> bytes:
    """Return a table as CSV, UTF-8 with the mark that spreadsheets look for."""
    return table.to_csv(index=False).encode("utf-8-sig", errors="backslashreplace")


def choose_image(table: pd.DataFrame, positive: str | None) -> int:
    """Show the table of all images; return the number of the one whose row is selected, the first if none is."""
    outside = int((table["in_scope"] == False).sum())  # noqa: E712  # None is neither
    st.subheader(f"{len(table)} images")
    if outside:
        st.warning(f"{outside} of them {'is' if outside == 1 else 'are'} unlike the training images: see the column in scope.")
    first = [name for name in _FIRST if name in table]
    others = [name for name in map(str, table) if name not in (*_FIRST, *_NOT_SHOWN) and not name.startswith(_UNCALIBRATED)]
    picked = st.dataframe(
        table[[*first, *others]].dropna(axis="columns", how="all"),
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        column_config=_columns(table, positive),
        key="table",
        alt="One row per image: class, probabilities and measurements",
    )
    rows = [row for row in picked["selection"]["rows"] if row < len(table)]
    if not rows:
        st.caption("Click at the left of a row to see that image; the first one is shown below.")
    return rows[0] if rows else 0


def _columns(table: pd.DataFrame, positive: str | None) -> dict[str, Any]:
    columns: dict[str, Any] = {name: st.column_config.Column(title) for name, title in _TITLES.items()}
    columns["is_positive"] = st.column_config.CheckboxColumn(f"classified as {positive}", help="At the operating point.")
    columns["in_scope"] = st.column_config.CheckboxColumn(_TITLES["in_scope"], help=_IN_SCOPE)
    for name in map(str, table):
        if name.startswith("probability_"):
            title = name.removeprefix("probability_")
            columns[name] = st.column_config.ProgressColumn(title, min_value=0.0, max_value=1.0, format="%.3f")
        elif name.startswith("largest_") and name != "largest_area_px":
            columns[name] = st.column_config.NumberColumn(_TITLES[name], format="%.1f")
    return columns
