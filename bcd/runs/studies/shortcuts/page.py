"""The files of a shortcut study for reading: shortcut_study.md and .html."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import pandas as pd

from bcd.evaluation.intervals import METHOD
from bcd.reports.markdown import cell
from bcd.reports.markdown import table as markdown_table
from bcd.reports.markup import Html, element, figure, listed, picture, table
from bcd.reports.sheet import sheet
from bcd.runs.studies.shortcuts.figures import FIGURES, TITLES, Row, records

QUESTION = (
    "Calipers, rulers and text are burnt into many images, often at the lesion's very ends. How much of the figure hangs on them, "
    "and how much is left where the lesion cannot be seen?"
)
REMARK = (
    "Only the test images are altered; the model, its thresholds and the outlines that guide a classifier are those of the run. An "
    "alteration can cost accuracy by itself, because the model never saw the like: a loss is an upper bound of what hangs on the "
    "marks. A hidden lesion leaves its shadow or the brightening below it, and a guided classifier still has the outline."
)
_HEAD = ("variant", "figure", "images", "n", "value (95 % interval)", "difference (95 % interval)")
_WIDTH = 340


def markdown(found: pd.DataFrame, name: str, sentences: Sequence[str], warnings: Sequence[str]) -> str:
    """Return the study as Markdown.

    Args:
        found: as `shortcut_table` makes it.
        name: of the run.
        sentences: what the figures say.
        warnings: what must be known before.
    """
    lines = [f"# {name}: what the figures hang on", "", QUESTION, "", *(f"**{warning}**\n" for warning in warnings)]
    lines += [*(f"- {sentence}" for sentence in sentences), ""]
    lines.append(markdown_table(_HEAD, [[cell(text) for text in row] for row in _cells(found)]))
    return "\n".join([*lines, "", REMARK, "", METHOD, ""])


def page(
    found: pd.DataFrame,
    name: str,
    sentences: Sequence[str],
    warnings: Sequence[str],
    examples: Mapping[str, Mapping[str, np.ndarray]],
) -> str:
    """Return the study as an HTML page that needs nothing beside it.

    Args:
        found: as `shortcut_table` makes it.
        name: of the run.
        sentences: what the figures say.
        warnings: what must be known before.
        examples: case id -> variant -> picture, uint8 (H, W, 3), RGB.
    """
    rows = [element("div", *(_shown(case, *one) for one in shown.items()), class_="row") for case, shown in examples.items()]
    parts: list[object] = [
        element("h1", f"{name}: what the figures hang on"),
        *(element("p", warning, class_="warning") for warning in warnings),
        element("p", QUESTION),
        listed(sentences),
        element("h2", "Figures"),
        table(_HEAD, _cells(found), text=(1, 2)),
        element("p", REMARK),
        element("p", element("small", METHOD)),
        *(
            [element("h2", "Examples"), element("p", "Blue: the true outline. Orange: what the model outlines."), *rows]
            if rows
            else []
        ),
    ]
    return sheet(f"{name}: shortcuts", parts)


def _cells(found: pd.DataFrame) -> list[list[str]]:
    shown = found[found["figure"].isin(list(FIGURES)) & found["value"].notna()]
    return [
        [
            TITLES[str(row["variant"])],
            FIGURES[str(row["figure"])],
            str(row["subset"]),
            str(row["n"]),
            _with_ends(row, "value", "low", "high", ".3f"),
            _with_ends(row, "difference", "difference_low", "difference_high", "+.3f"),
        ]
        for row in records(shown)
    ]


def _with_ends(row: Row, value: str, low: str, high: str, form: str) -> str:
    if pd.isna(row[value]):
        return ""
    ends = "" if pd.isna(row[low]) else f" ({row[low]:{form}} to {row[high]:{form}})"
    return f"{row[value]:{form}}{ends}"


def _shown(case: str, variant: str, pixels: np.ndarray) -> Html:
    height = round(pixels.shape[0] * _WIDTH / pixels.shape[1])
    small = cv2.resize(pixels, (_WIDTH, max(1, height)), interpolation=cv2.INTER_AREA)
    _, content = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])
    return figure(picture(content.tobytes(), "jpeg", f"{case}, {TITLES[variant]}"), f"{case}: {TITLES[variant]}", class_="case")
