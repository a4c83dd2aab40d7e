"""A comparison of runs: CSV for programs, Markdown and LaTeX for papers, and compare.html, which needs nothing beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from bcd.evaluation.compare import Comparison, Contestant, case_quality, furthest_apart
from bcd.evaluation.intervals import METHOD
from bcd.reports.charts import plain
from bcd.reports.contours import PREDICTED_COLOUR, TRUE_COLOUR, jpeg, outlined
from bcd.reports.markdown import cell
from bcd.reports.markdown import table as markdown_table
from bcd.reports.rendering import Picture, Table, chart, html_page, picture
from bcd.reports.wording import label_of, number, with_interval

NOTES = (
    "95 % intervals by bootstrap over groups; differences (second run minus first) by paired bootstrap over the same groups. "
    "p: two-sided; p (Holm): corrected by Holm's method over all pairs of runs and figures of the same test."
)
# Beside the blue of the true contour and the orange of the first run; the colour-blind can tell it from both.
SECOND_COLOUR = (204, 121, 167)
_WIDTH = 480


@dataclass(frozen=True)
class ComparedCase:
    """The pixels of a case.

    Args:
        image: uint8 (H, W).
        mask: the true mask, (H, W).
        predicted: run's name -> its predicted mask, (H, W), where it segments.
    """

    image: np.ndarray
    mask: np.ndarray
    predicted: Mapping[str, np.ndarray]


def write_csv(comparison: Comparison) -> str:
    """Return both tables in one; `kind` says whether a row is a figure or a difference."""
    figures = comparison.figures.assign(kind="figure").rename(columns={"run": "first"})
    differences = comparison.differences.assign(kind="difference").rename(columns={"difference": "value"})
    columns = ["kind", "first", "second", "figure", "value", "low", "high", "test", "assumes", "p", "p_holm", "n"]
    return pd.DataFrame([*figures.to_dict("records"), *differences.to_dict("records")], columns=columns).to_csv(index=False)


def figure_rows(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of the table of figures: one row per run, one column a figure."""
    table = comparison.figures
    paths = list(dict.fromkeys(table["figure"]))
    rows = []
    for run in comparison.runs:
        own = table[table["run"] == run.name].set_index("figure")
        rows.append([run.name, *(_with_interval(own.loc[path], "value", path) for path in paths)])
    return ["run", *map(title_of, paths)], rows


def difference_rows(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of the table of differences: one row a test."""
    rows = []
    for row in comparison.differences.to_dict("records"):
        path = str(row["figure"])
        runs = f"{row['second']} minus {row['first']}"
        p = [p_value(row[name]) for name in ("p", "p_holm")]
        rows.append([runs, title_of(path), _with_interval(row, "difference", path), str(row["test"]), *p, str(row["assumes"])])
    return ["runs", "figure", "difference", "test", "p", "p (Holm)", "assumes"], rows


def write_markdown(comparison: Comparison) -> str:
    """Return the tables in Markdown."""
    parts = ["# Comparison", _size(comparison)]
    for title, (head, rows) in (("Figures", figure_rows(comparison)), ("Differences", difference_rows(comparison))):
        parts += [f"## {title}", markdown_table(head, [[cell(text) for text in row] for row in rows])]
    return "\n\n".join([*parts, NOTES]) + "\n"


def write_latex(comparison: Comparison) -> str:
    """Return the figures, and the differences by the primary test, as two LaTeX tables (package booktabs)."""
    head, rows = difference_rows(comparison)
    differences = pd.DataFrame(rows, columns=head)
    primary = differences[differences["test"].str.startswith("permutation")][["runs", "figure", "difference", "p (Holm)"]]
    figures_head, figures = figure_rows(comparison)
    tables = [_latex(pd.DataFrame(figures, columns=figures_head)), _latex(primary)]
    return "\n".join([f"% {NOTES} Tests: permutation by group.", *tables])


def _latex(table: pd.DataFrame) -> str:
    styled = table.style.hide(axis="index").format(escape="latex").format_index(escape="latex", axis=1)
    columns = "l" + "r" * (len(table.columns) - 1)
    text = styled.to_latex(hrules=True, column_format=columns)
    signs: dict[str, Any] = {
        "\N{EN DASH}": "--",
        "\N{MINUS SIGN}": "$-$",
        "<": "$<$",
        "\N{NARROW NO-BREAK SPACE}": r"\,",
    }
    return text.translate(str.maketrans(signs))


def title_of(path: str) -> str:
    """Return a figure's path in words: `by_class.malignant.sensitivity` is `sensitivity, malignant`."""
    *where, name = path.split(".")
    block = where[-1] if where and where[0] in ("by_class", "lesion_images_by_class") else ""
    lesions = "lesion " if where == ["detection"] and name == "sensitivity" else ""
    return lesions + label_of(name) + (f", {block}" if block else "")


def p_value(p: float | None) -> str:
    """Return a p-value as it is printed: three digits, `< 0.001` below, a dash for None or NaN."""
    return number(None) if p is None or pd.isna(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def cases_to_show(comparison: Comparison) -> list[str]:
    """Return the ids of the cases on which any two runs differ most, each once."""
    pairs = [pair for pair in combinations(comparison.runs, 2) if _have_quality(*pair)]
    return list(dict.fromkeys(name for first, second in pairs for name in furthest_apart(first.cases, second.cases)))


def compare_page(
    comparison: Comparison, compared: Mapping[str, ComparedCase], notes: Sequence[str], warnings: Sequence[str] = ()
) -> str:
    """Return the page as HTML, charts and pictures inside.

    `compared` has the pixels of the cases of `cases_to_show`, by case id; `notes` say why there are none, for example.
    """
    head, rows = difference_rows(comparison)
    primary = comparison.differences[comparison.differences["test"].str.startswith("permutation")].dropna(subset=["difference"])
    forests = [
        chart(forest_chart(of_figure), f"{title_of(str(path))}: difference with its 95 % interval")
        for path, of_figure in primary.groupby("figure", sort=False)
    ]
    return html_page(
        "comparison.html",
        title="Comparison",
        heading=" and ".join(run.name for run in comparison.runs),
        warnings=warnings,
        intro=f"{_size(comparison)} They are the same in all {len(comparison.runs)} runs.",
        figures=Table(*figure_rows(comparison)),
        method=METHOD,
        forests=forests,
        differences=Table(head, rows, text=(1, 3, 6)),
        notes=NOTES,
        pairs=[_pair(*pair, compared) for pair in combinations(comparison.runs, 2) if _have_quality(*pair)],
        remarks=notes,
    )


def forest_chart(differences: pd.DataFrame) -> Figure:
    """Return the differences of one figure by the primary test as dots on their intervals, one line a pair of runs."""
    figure = Figure(figsize=(4.8, 1.1 + 0.4 * len(differences)), layout="constrained")
    axes = figure.add_subplot()
    for place, (_, row) in enumerate(differences.iterrows()):
        if not pd.isna(row["low"]):
            axes.plot([row["low"], row["high"]], [place, place], color="#0072b2", linewidth=2)
        axes.plot([row["difference"]], [place], "o", color="#d55e00")
    axes.axvline(0, color="#777777", linewidth=0.8, linestyle=":")
    names = [f"{row['second']}\nminus {row['first']}" for _, row in differences.iterrows()]
    axes.set_yticks(range(len(names)), map(plain, names), fontsize=8)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_title(plain(title_of(str(differences["figure"].iloc[0]))), fontsize=10)
    return figure


def scatter_chart(first: Contestant, second: Contestant) -> Figure:
    """Return one dot a case: the first run to the right, the second upwards; above the line the second is better."""
    name, x = case_quality(first.cases)
    _, y = case_quality(second.cases)
    figure = Figure(figsize=(4.2, 4.0), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="#777777", linewidth=0.8, linestyle=":")
    axes.plot(x, y, "o", color="#0072b2", alpha=0.5, markersize=3, markeredgewidth=0)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.set_xlabel(plain(f"{first.name}: {name}"), fontsize=9)
    axes.set_ylabel(plain(f"{second.name}: {name}"), fontsize=9)
    return figure


def _size(comparison: Comparison) -> str:
    cases = comparison.runs[0].cases
    return f"{len(cases)} cases of {cases['group'].nunique()} groups."


def _pair(first: Contestant, second: Contestant, compared: Mapping[str, ComparedCase]) -> dict[str, Any]:
    """Return the case-by-case part of two runs: title, chart, table and pictures of the cases that differ most."""
    what, values = case_quality(first.cases)
    others = case_quality(second.cases)[1]
    names = furthest_apart(first.cases, second.cases)
    place = {str(name): row for row, name in enumerate(first.cases["case_id"])}
    rows = [
        [name, str(first.cases["label"][place[name]]), number(values[place[name]]), number(others[place[name]])] for name in names
    ]
    return {
        "title": f"{second.name} against {first.name}, case by case",
        "chart": chart(scatter_chart(first, second), f"{what} of each case; above the line {second.name} is better."),
        "table": Table(["case", "label", f"{first.name}: {what}", f"{second.name}: {what}"], rows, text=(1,)),
        "cases": [_case(name, compared[name], first, second) for name in names if name in compared],
    }


def _case(name: str, case: ComparedCase, first: Contestant, second: Contestant) -> Picture:
    runs = ((first.name, "orange", PREDICTED_COLOUR), (second.name, "pink", SECOND_COLOUR))
    drawn = [run for run in runs if run[0] in case.predicted]
    masks = [(case.mask, TRUE_COLOUR), *((case.predicted[run], colour) for run, _, colour in drawn)]
    colours = ", ".join(["Blue: truth", *(f"{colour}: {run}" for run, colour, _ in drawn)])
    return picture(jpeg(outlined(case.image, masks), _WIDTH), "jpeg", f"{name}. {colours}")


def _have_quality(first: Contestant, second: Contestant) -> bool:
    """Return whether the cases of both runs have the same kind of number each."""
    if "dice" in first.cases or "dice" in second.cases:
        return "dice" in first.cases and "dice" in second.cases
    return bool(first.class_names) and bool(second.class_names)


def _with_interval(row: Mapping[Any, Any] | pd.Series, value: str, path: str) -> str:
    known = [None if row[name] is None or pd.isna(row[name]) else float(row[name]) for name in (value, "low", "high")]
    return with_interval(known[0], known[1:], path.rpartition(".")[2])
