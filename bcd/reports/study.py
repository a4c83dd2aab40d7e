"""The result of a study: the figures of its variants with intervals, as a table, a chart and a page."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from bcd.evaluation.paired import difference_intervals, holm, permutation_test
from bcd.evaluation.summary import headline_figures
from bcd.evaluation.weighted import with_parts
from bcd.reports.comparison import p_value
from bcd.reports.markdown import cell
from bcd.reports.markdown import table as markdown_table
from bcd.reports.rendering import Table, html_page, picture
from bcd.reports.wording import label_of

# The figures that are compared, where a result has them; names as in metrics.json["test"].
FIGURES = ("dice", "iou", "auroc", "accuracy", "balanced_accuracy")
HEAD = ("variant", "images", "figure", "value (95 % interval)", "difference from the first", "p", "p (Holm)")
_DIFFERENCES = (
    "Differences: interval by a paired bootstrap over groups, p by a permutation by group, only where both variants tested the "
    "same cases. p (Holm): corrected by Holm's method over all rows that have a p."
)
_UNKNOWN: dict[str, float | None] = {"difference_low": None, "difference_high": None, "p": None}


@dataclass(frozen=True)
class StudyResult:
    """The result of a variant: the content of its metrics.json, and its cases.csv, without which differences have no interval."""

    name: str
    title: str
    metrics: Mapping[str, Any]
    cases: pd.DataFrame | None = None


@dataclass(frozen=True, kw_only=True)
class StudyPart(Table):
    """A further table of a study, cells as text, with a title above it and a remark below."""

    title: str
    remark: str


def study_table(results: Sequence[StudyResult]) -> pd.DataFrame:
    """Return one row a variant and figure.

    Columns: variant, title, n_cases, figure, value, low, high; difference from the first variant, and where both tested the same
    cases its interval, difference_low and difference_high, p, from a permutation by group, and p_holm, corrected by Holm's method
    over all rows that have a p.
    """
    rows = []
    for result in results:
        test = result.metrics["test"]
        differences = paired_differences(results[0], result)
        other_cases = not differences and result.cases is not None and results[0].cases is not None
        for figure in FIGURES:
            value, first = test.get(figure), results[0].metrics["test"].get(figure)
            if value is None:
                continue
            low, high = test.get("intervals", {}).get(figure) or (None, None)
            row = {"variant": result.name, "title": result.title, "n_cases": test["n_cases"], "figure": figure}
            apart = None if first is None or (other_cases and result is not results[0]) else value - first
            row |= {"value": value, "low": low, "high": high, "difference": apart}
            rows.append({**row, **differences.get(figure, _UNKNOWN)})
    corrected = holm({number: row["p"] for number, row in enumerate(rows)})
    return pd.DataFrame([{**row, "p_holm": corrected[number]} for number, row in enumerate(rows)])


def paired_differences(first: StudyResult, other: StudyResult) -> dict[str, dict[str, float | None]]:
    """Return path -> interval and p of the difference of two variants; nothing where they did not test the same cases."""
    if other.name == first.name or first.cases is None or other.cases is None:
        return {}
    theirs = other.cases.set_index("case_id")
    if set(theirs.index) != set(first.cases["case_id"]) or len(theirs) != len(first.cases):
        return {}
    theirs = theirs.loc[first.cases["case_id"]].reset_index()
    class_names = list(first.metrics["data"]["selection"]["classes"])
    ours, others = (headline_figures(cases, class_names) for cases in (first.cases, theirs))
    wanted = set(FIGURES) & set(ours) & set(others)
    ours, others = (with_parts(figures, wanted) for figures in (ours, others))
    groups = first.cases["group"].astype(str).to_numpy()
    intervals, tests = difference_intervals(ours, others, groups), permutation_test(ours, others, groups)
    return {
        path: {"difference_low": intervals[path].low, "difference_high": intervals[path].high, "p": tests[path].p}
        for path in sorted(wanted)
    }


def study_files(
    results: Sequence[StudyResult], name: str, question: str, remark: str, parts: Sequence[StudyPart] = ()
) -> dict[str, bytes]:
    """Return the files of a study by name: study.csv, study.md, study.png, study.html, and metrics.json, the last.

    Args:
        results: of the variants, the first is what the others are compared with.
        name: of the study.
        question: what it asks.
        remark: what to bear in mind.
        parts: further tables.
    """
    table = study_table(results)
    warnings = _warnings(results)
    drawn = io.BytesIO()
    draw_study(table).savefig(drawn, format="png", dpi=130)
    rows = [shown_row({str(key): value for key, value in row.items()}) for row in table.to_dict("records")]
    remark_on_all = f"{remark} {_DIFFERENCES}"
    variants = [{key: None if pd.isna(value) else value for key, value in row.items()} for row in table.to_dict("records")]
    metrics = {"name": name, "question": question, "remark": remark, "warnings": warnings, "variants": variants}
    markdown = [f"# {name}", question, _markdown_table(HEAD, rows), remark_on_all]
    for part in parts:
        markdown += [f"## {part.title}", _markdown_table(part.head, part.rows), part.remark]
    texts = {
        "study.csv": table.to_csv(index=False),
        "study.md": "\n\n".join(markdown) + "\n",
        "study.html": html_page(
            "study.html",
            title=name,
            warnings=warnings,
            question=question,
            chart=picture(drawn.getvalue(), "png", "Figures of each variant with 95 % intervals"),
            variants=Table(HEAD, rows, text=(2,)),
            remark=remark_on_all,
            parts=parts,
            results=results,
        ),
        "metrics.json": json.dumps(metrics, indent=2, allow_nan=False, ensure_ascii=False) + "\n",
    }
    return {"study.png": drawn.getvalue(), **{name: text.encode(errors="replace") for name, text in texts.items()}}


def _markdown_table(head: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    return markdown_table([str(name) for name in head], [[cell(text) for text in row] for row in rows])


def _warnings(results: Sequence[StudyResult]) -> list[str]:
    """Return the warnings of all variants once, and those of some with their names."""
    having: dict[str, list[str]] = {}
    for result in results:
        for warning in result.metrics["warnings"]:
            having.setdefault(warning, []).append(result.title)
    return [text if len(titles) == len(results) else f"{', '.join(titles)}: {text}" for text, titles in having.items()]


def draw_study(table: pd.DataFrame) -> Figure:
    """Return a figure with one panel a figure, and a point with its interval for each variant."""
    names = [name for name in FIGURES if name in set(table["figure"])]
    titles = list(dict.fromkeys(table["title"]))
    longest = max(len(title) for title in titles)
    figure = Figure(figsize=(0.075 * longest + 2.6 * len(names), 1.2 + 0.45 * len(titles)), layout="constrained")
    for number, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), number + 1)
        rows = table[table["figure"] == name].set_index("title").reindex(titles)
        for place, (_, row) in enumerate(rows.iterrows()):
            if pd.isna(row["value"]):
                continue
            if not pd.isna(row["low"]):
                axes.plot([row["low"], row["high"]], [place, place], color="#0072b2", linewidth=2)
            axes.plot([row["value"]], [place], "o", color="#0072b2")
            axes.annotate(f"{row['value']:.3f}", (row["value"], place), (0, 6), textcoords="offset points", ha="center", fontsize=8)
        if not pd.isna(rows["value"].iloc[0]):
            axes.axvline(float(rows["value"].iloc[0]), color="#999999", linewidth=1, linestyle=":")
        axes.set_title(label_of(name), fontsize=10)
        axes.set_yticks(range(len(titles)), titles)
        axes.set_ylim(len(titles) - 0.5, -0.7)
        axes.grid(alpha=0.3, axis="x")
        if number:
            axes.tick_params(labelleft=False)
    return figure


def _shown(row: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """Return a figure with its interval, how far it is from the first variant's, and both p of that."""
    interval = "" if pd.isna(row["low"]) else f" ({row['low']:.3f}\u2013{row['high']:.3f})"
    if pd.isna(row["difference"]):
        return f"{row['value']:.3f}{interval}", "", "", ""
    difference = f"{row['difference']:+.3f}"
    if not pd.isna(row["difference_low"]):
        difference += f" ({row['difference_low']:+.3f} to {row['difference_high']:+.3f})"
    p, corrected = ("" if pd.isna(row[name]) else p_value(row[name]) for name in ("p", "p_holm"))
    return f"{row['value']:.3f}{interval}", difference, p, corrected


def shown_row(row: Mapping[str, Any]) -> list[str]:
    """Return a row of `study_table`, or of `variants` in metrics.json, as it is shown below `HEAD`."""
    return [str(row["title"]), str(row["n_cases"]), label_of(row["figure"]), *_shown(row)]
