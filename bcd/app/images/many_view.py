"""Many images at once: a table, of which a row is chosen."""

from typing import Any

import pandas as pd
import streamlit as st

from bcd.app.images.tables import UNCALIBRATED

# What a reader looks for first; what a table on paper needs besides stands in the CSV.
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
    "agrees": "class and outline agree",
}
_IN_SCOPE = "Whether the image is like those that the model learned from; where it is not, what is said of it means little."


def choose_image(table: pd.DataFrame, positive: str | None) -> int:
    """Show the table of all images; return the number of the one whose row is selected, the first if none is.

    Args:
        table: as `results_table` makes it.
        positive: the class that an operating point is for.
    """
    outside = int((table["in_scope"] == False).sum())  # noqa: E712  # None is neither
    st.subheader(f"{len(table)} images")
    if outside:
        st.warning(f"{outside} of them {'is' if outside == 1 else 'are'} unlike the training images: see the column in scope.")
    first = [name for name in _FIRST if name in table]
    others = [name for name in map(str, table) if name not in (*_FIRST, *_NOT_SHOWN) and not name.startswith(UNCALIBRATED)]
    picked = st.dataframe(
        table[[*first, *others]].dropna(axis="columns", how="all"),
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        column_config=_columns(table, positive),
        key="table",
        alt="One row an image: class, probabilities and measurements",
    )
    rows = [row for row in picked["selection"]["rows"] if row < len(table)]
    if not rows:
        st.caption("Click at the left of a row to see that image; the first one is shown below.")
    return rows[0] if rows else 0


def _columns(table: pd.DataFrame, positive: str | None) -> dict[str, Any]:
    columns: dict[str, Any] = {name: st.column_config.Column(title) for name, title in _TITLES.items()}
    columns["is_positive"] = st.column_config.CheckboxColumn(f"counts as {positive}", help="At the operating point.")
    columns["in_scope"] = st.column_config.CheckboxColumn(_TITLES["in_scope"], help=_IN_SCOPE)
    for name in map(str, table):
        if name.startswith("probability_"):
            title = name.removeprefix("probability_")
            columns[name] = st.column_config.ProgressColumn(title, min_value=0.0, max_value=1.0, format="%.3f")
        elif name.startswith("largest_") and name != "largest_area_px":
            columns[name] = st.column_config.NumberColumn(_TITLES[name], format="%.1f")
    return columns
