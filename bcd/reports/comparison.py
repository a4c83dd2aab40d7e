"""compare.html: a comparison in one file that needs nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import cv2
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bcd.evaluation.compare import Comparison, Contestant, case_quality, furthest_apart
from bcd.evaluation.intervals import METHOD
from bcd.reports.compare_tables import NOTES, difference_rows, figure_rows, title_of
from bcd.reports.figures import PREDICTED_COLOUR, TRUE_COLOUR, outlined
from bcd.reports.markup import Html, element, figure, listed, picture, table
from bcd.reports.sheet import sheet
from bcd.reports.svg import to_svg
from bcd.reports.wording import number

# Beside the blue of the truth and the orange of the first run; the colour-blind can tell it from both.
SECOND_COLOUR = (204, 121, 167)
_WIDTH = 480


@dataclass(frozen=True)
class Sight:
    """What is there to see of a case.

    Args:
        image: uint8 (H, W).
        mask: the truth, (H, W).
        predicted: run's name -> its mask, (H, W), where it outlines.
    """

    image: np.ndarray
    mask: np.ndarray
    predicted: Mapping[str, np.ndarray]


def cases_to_show(comparison: Comparison) -> list[str]:
    """Return the ids of the cases on which any two runs differ most, each once."""
    pairs = [pair for pair in combinations(comparison.runs, 2) if _have_quality(*pair)]
    return list(dict.fromkeys(name for first, second in pairs for name in furthest_apart(first.cases, second.cases)))


def compare_page(comparison: Comparison, sights: Mapping[str, Sight], notes: Sequence[str], warnings: Sequence[str] = ()) -> str:
    """Return the page as HTML, charts and pictures inside.

    Args:
        comparison: what is told.
        sights: case id -> what there is to see, for the cases of `cases_to_show`.
        notes: sentences about the pictures, such as why there are none.
        warnings: of the runs.
    """
    cases = comparison.runs[0].cases
    intro = f"{len(cases)} cases of {cases['group'].nunique()} groups, the same in all {len(comparison.runs)} runs."
    head, rows = difference_rows(comparison)
    parts: list[object] = [
        element("h1", " and ".join(run.name for run in comparison.runs)),
        *(element("p", warning, class_="warning") for warning in warnings),
        element("p", intro),
        element("h2", "Figures"),
        table(*figure_rows(comparison)),
        element("p", element("small", METHOD)),
        element("h2", "Differences"),
        element("div", *_forests(comparison), class_="charts"),
        table(head, rows, text=(1, 3, 6)),
        element("p", element("small", NOTES)),
        *_by_case(comparison, sights),
        listed(notes) if notes else "",
    ]
    return sheet("Comparison", parts)


def forest_chart(differences: pd.DataFrame) -> Figure:
    """Return the differences of one figure as dots on their intervals, one line a pair of runs.

    Args:
        differences: rows of the primary test.
    """
    chart = Figure(figsize=(4.8, 1.1 + 0.4 * len(differences)), layout="constrained")
    axes = chart.add_subplot()
    for place, (_, row) in enumerate(differences.iterrows()):
        if not pd.isna(row["low"]):
            axes.plot([row["low"], row["high"]], [place, place], color="#0072b2", linewidth=2)
        axes.plot([row["difference"]], [place], "o", color="#d55e00")
    axes.axvline(0, color="#777777", linewidth=0.8, linestyle=":")
    names = [f"{row['second']}\nless {row['first']}" for _, row in differences.iterrows()]
    axes.set_yticks(range(len(names)), [name.replace("$", r"\$") for name in names], fontsize=8)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_title(title_of(str(differences["figure"].iloc[0])).replace("$", r"\$"), fontsize=10)
    return chart


def scatter_chart(first: Contestant, second: Contestant) -> Figure:
    """Return one dot a case: the first run to the right, the second upwards; above the line the second is better."""
    name, x = case_quality(first.cases)
    _, y = case_quality(second.cases)
    chart = Figure(figsize=(4.2, 4.0), layout="constrained")
    axes = chart.add_subplot()
    axes.plot([0, 1], [0, 1], color="#777777", linewidth=0.8, linestyle=":")
    axes.plot(x, y, "o", color="#0072b2", alpha=0.5, markersize=3, markeredgewidth=0)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.set_xlabel(f"{first.name}: {name}".replace("$", r"\$"), fontsize=9)
    axes.set_ylabel(f"{second.name}: {name}".replace("$", r"\$"), fontsize=9)
    return chart


def _forests(comparison: Comparison) -> list[Html]:
    primary = comparison.differences[comparison.differences["test"].str.startswith("permutation")]
    charts = []
    for place, (path, rows) in enumerate(primary.groupby("figure", sort=False)):
        known = rows[rows["difference"].notna()]
        if len(known):
            title = f"{title_of(str(path))}: difference with its 95 % interval"
            charts.append(figure(to_svg(forest_chart(known), f"forest{place}", title), title))
    return charts


def _by_case(comparison: Comparison, sights: Mapping[str, Sight]) -> list[Html]:
    parts = []
    for place, (first, second) in enumerate(combinations(comparison.runs, 2)):
        if not _have_quality(first, second):
            continue
        what = case_quality(first.cases)[0]
        title = f"{second.name} against {first.name}, case by case"
        chart = to_svg(
            scatter_chart(first, second), f"scatter{place}", f"{what} of each case. Above the line {second.name} is better."
        )
        names = furthest_apart(first.cases, second.cases)
        parts += [element("h2", title), figure(chart, f"{what} of each case; above the line {second.name} is better.")]
        parts += [element("h3", "Where they differ most"), _differ_table(first, second, names)]
        shown = [_sight(name, sights[name], first, second) for name in names if name in sights]
        parts += [element("div", *shown, class_="charts")] if shown else []
    return parts


def _differ_table(first: Contestant, second: Contestant, names: Sequence[str]) -> Html:
    what, one = case_quality(first.cases)
    other = case_quality(second.cases)[1]
    place = {str(name): row for row, name in enumerate(first.cases["case_id"])}
    rows = [[name, str(first.cases["label"][place[name]]), number(one[place[name]]), number(other[place[name]])] for name in names]
    return table(["case", "label", f"{first.name}: {what}", f"{second.name}: {what}"], rows, text=(1,))


def _sight(name: str, sight: Sight, first: Contestant, second: Contestant) -> Html:
    masks = [(sight.mask, TRUE_COLOUR)]
    for run, colour in ((first.name, PREDICTED_COLOUR), (second.name, SECOND_COLOUR)):
        if run in sight.predicted:
            masks.append((sight.predicted[run], colour))
    drawn = outlined(sight.image, masks)
    shrunk = cv2.resize(drawn, (_WIDTH, max(1, round(drawn.shape[0] * _WIDTH / drawn.shape[1]))), interpolation=cv2.INTER_AREA)
    _, content = cv2.imencode(".jpg", cv2.cvtColor(shrunk, cv2.COLOR_RGB2BGR))
    words = f"{name}. Blue: truth" + "".join(
        f", {colour}: {run}" for run, colour in ((first.name, "orange"), (second.name, "pink")) if run in sight.predicted
    )
    return figure(picture(content.tobytes(), "jpeg", words), words)


def _have_quality(first: Contestant, second: Contestant) -> bool:
    """Tell whether the cases of both runs have the same kind of number each."""
    if "dice" in first.cases or "dice" in second.cases:
        return "dice" in first.cases and "dice" in second.cases
    return bool(first.class_names) and bool(second.class_names)
