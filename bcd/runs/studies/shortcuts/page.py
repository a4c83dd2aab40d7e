"""The files of a shortcut study for reading: shortcut_study.md and .html."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from bcd.evaluation.intervals import METHOD
from bcd.reports.contours import jpeg
from bcd.reports.markdown import cell
from bcd.reports.markdown import table as markdown_table
from bcd.reports.rendering import Table, html_page, picture
from bcd.runs.studies.shortcuts.figures import FIGURES, TITLES, Row, records

QUESTION = (
    "Calipers, rulers and text are burnt into many images, often at the edges of the lesion. How much of the performance depends "
    "on them, and how much is left where the lesion cannot be seen?"
)
REMARK = (
    "Only the test images are altered; the model, its thresholds and the masks that guide a classifier are those of the run. An "
    "alteration can cost accuracy by itself, because the model was not trained on such images: a loss is an upper bound of what "
    "depends on the marks. A hidden lesion leaves its shadow or enhancement below it, and a guided classifier still has the mask."
)
_HEAD = ("variant", "figure", "images", "n", "value (95 % interval)", "difference (95 % interval)")
_WIDTH = 340


def markdown(table: pd.DataFrame, name: str, sentences: Sequence[str], warnings: Sequence[str]) -> str:
    """Return the study as Markdown.

    Args:
        table: from `shortcut_table`.
        name: of the run.
        sentences: a summary of the figures.
        warnings: shown first.
    """
    lines = [f"# {_title(name)}", "", QUESTION, "", *(f"**{warning}**\n" for warning in warnings)]
    lines += [*(f"- {sentence}" for sentence in sentences), ""]
    lines.append(markdown_table(_HEAD, [[cell(text) for text in row] for row in _cells(table)]))
    return "\n".join([*lines, "", REMARK, "", METHOD, ""])


def page(
    table: pd.DataFrame,
    name: str,
    sentences: Sequence[str],
    warnings: Sequence[str],
    examples: Mapping[str, Mapping[str, np.ndarray]],
) -> str:
    """Return the study as an HTML page that needs nothing beside it.

    Args:
        table: from `shortcut_table`.
        name: of the run.
        sentences: a summary of the figures.
        warnings: shown first.
        examples: case id -> variant -> picture, uint8 (H, W, 3), RGB.
    """
    return html_page(
        "shortcuts.html",
        title=_title(name),
        warnings=warnings,
        question=QUESTION,
        sentences=sentences,
        figures=Table(_HEAD, _cells(table), text=(1, 2)),
        remark=REMARK,
        method=METHOD,
        examples=[
            [picture(jpeg(pixels, _WIDTH), "jpeg", f"{case}: {TITLES[variant]}") for variant, pixels in variants.items()]
            for case, variants in examples.items()
        ],
    )


def _title(name: str) -> str:
    return f"{name}: shortcuts"


def _cells(table: pd.DataFrame) -> list[list[str]]:
    rows = table[table["figure"].isin(list(FIGURES)) & table["value"].notna()]
    return [
        [
            TITLES[str(row["variant"])],
            FIGURES[str(row["figure"])],
            str(row["subset"]),
            str(row["n"]),
            _with_ends(row, "value", "low", "high", ".3f"),
            _with_ends(row, "difference", "difference_low", "difference_high", "+.3f"),
        ]
        for row in records(rows)
    ]


def _with_ends(row: Row, value: str, low: str, high: str, form: str) -> str:
    if pd.isna(row[value]):
        return ""
    ends = "" if pd.isna(row[low]) else f" ({row[low]:{form}} to {row[high]:{form}})"
    return f"{row[value]:{form}}{ends}"
