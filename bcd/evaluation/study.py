"""The result of a study: the variants' figures with intervals, in a table, a picture and a page."""

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from bcd.evaluation.paired import difference_intervals, permutation_test
from bcd.evaluation.summary import headline_figures

# The figures that are compared, where a result has them, and where their intervals stand.
FIGURES = {
    "dice": ("Dice", "lesion_images.dice"),
    "iou": ("IoU", "lesion_images.iou"),
    "auroc": ("AUROC", "auroc"),
    "accuracy": ("accuracy", "accuracy"),
    "balanced_accuracy": ("balanced accuracy", "balanced_accuracy"),
}
_UNKNOWN: dict[str, float | None] = {"difference_low": None, "difference_high": None, "p": None}
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1c1c1c; }
table { border-collapse: collapse; margin: 1rem 0; } th, td { padding: .3rem .9rem; text-align: left; }
th, td { border-bottom: 1px solid #ddd; }
td.number { font-variant-numeric: tabular-nums; } img { max-width: 100%; } .remark { color: #444; }
.warning { background: #b00000; color: white; padding: .6rem 1rem; border-radius: 4px; }
"""


@dataclass(frozen=True)
class StudyResult:
    """What one variant gave.

    Args:
        name: of the variant.
        title: in a few words.
        metrics: the content of its metrics.json.
        cases: its cases.csv; None where differences need no interval.
    """

    name: str
    title: str
    metrics: Mapping[str, Any]
    cases: pd.DataFrame | None = None


def study_table(results: Sequence[StudyResult]) -> pd.DataFrame:
    """Return one row a variant and figure.

    Columns: variant, title, n_cases, figure, value, low, high; difference from the first variant, and where both tested the same
    cases its interval, difference_low and difference_high, and p, from a permutation by group.
    """
    rows = []
    for result in results:
        test = result.metrics["test"]
        differences = paired_differences(results[0], result)
        for figure, (_, path) in FIGURES.items():
            value, first = test.get(figure), results[0].metrics["test"].get(figure)
            if value is None:
                continue
            intervals = test.get("intervals", {})
            low, high = intervals.get(figure) or intervals.get(path) or (None, None)
            row = {"variant": result.name, "title": result.title, "n_cases": test["n_cases"], "figure": figure}
            row |= {"value": value, "low": low, "high": high, "difference": None if first is None else value - first}
            rows.append({**row, **differences.get(path, _UNKNOWN)})
    return pd.DataFrame(rows)


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
    wanted = {path for _, path in FIGURES.values()} & set(ours) & set(others)
    # A mean over the classes is made of theirs.
    parts = {part for path in wanted for part in getattr(ours[path], "names", ())}
    ours, others = ({path: figures[path] for path in figures if path in wanted | parts} for figures in (ours, others))
    groups = first.cases["group"].astype(str).to_numpy()
    found, tests = difference_intervals(ours, others, groups), permutation_test(ours, others, groups)
    return {
        path: {"difference_low": found[path].low, "difference_high": found[path].high, "p": tests[path].p}
        for path in sorted(wanted)
    }


def write_study(folder: Path, results: Sequence[StudyResult], name: str, question: str, remark: str) -> dict[str, Any]:
    """Write study.csv, study.md, study.png, study.html and metrics.json; return the content of the last.

    Args:
        folder: of the study.
        results: of the variants, the first is what the others are compared with.
        name: of the study.
        question: what it asks.
        remark: what to bear in mind.
    """
    table = study_table(results)
    warnings = list(dict.fromkeys(warning for result in results for warning in result.metrics["warnings"]))
    _write(folder / "study.csv", table.to_csv(index=False))
    figure = draw_study(table)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=130)
    (folder / "study.png").write_bytes(picture.getvalue())
    _write(folder / "study.md", f"# {name}\n\n{question}\n\n{_markdown(table)}\n\n{remark}\n")
    page = [
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(name)}</title><style>{_STYLE}</style>',
        f"<h1>{html.escape(name)}</h1>",
        *(f'<p class="warning">{html.escape(warning)}</p>' for warning in warnings),
        f"<p>{html.escape(question)}</p>",
        f'<img alt="The figures of each variant with 95 % intervals" src="data:image/png;base64,{_base64(picture.getvalue())}">',
        _html(table),
        f'<p class="remark">{html.escape(remark)}</p>',
        '<p class="remark">Differences: interval by a paired bootstrap over groups, p by a permutation by group, not corrected for '
        "the number of rows; only where both variants tested the same cases.</p>",
        "<p>Each variant's own report: "
        + ", ".join(f'<a href="{html.escape(one.name)}/report.html">{html.escape(one.title)}</a>' for one in results)
        + ".</p></html>\n",
    ]
    _write(folder / "study.html", "\n".join(page))
    rows = [{key: None if pd.isna(value) else value for key, value in row.items()} for row in table.to_dict("records")]
    metrics = {"name": name, "question": question, "remark": remark, "warnings": warnings, "variants": rows}
    _write(folder / "metrics.json", json.dumps(metrics, indent=2, allow_nan=False, ensure_ascii=False) + "\n")
    return metrics


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
        axes.set_title(FIGURES[name][0], fontsize=10)
        axes.set_yticks(range(len(titles)), titles)
        axes.set_ylim(len(titles) - 0.5, -0.7)
        axes.grid(alpha=0.3, axis="x")
        if number:
            axes.tick_params(labelleft=False)
    return figure


def _shown(row: Mapping[str, Any]) -> tuple[str, str]:
    """Return a figure with its interval, and how far it is from the first variant's."""
    interval = "" if pd.isna(row["low"]) else f" ({row['low']:.3f}\u2013{row['high']:.3f})"
    if pd.isna(row["difference"]):
        return f"{row['value']:.3f}{interval}", ""
    difference = f"{row['difference']:+.3f}"
    if not pd.isna(row["difference_low"]):
        difference += f" ({row['difference_low']:+.3f} to {row['difference_high']:+.3f})"
    if not pd.isna(row["p"]):
        difference += f", p {'< 0.001' if row['p'] < 0.001 else format(row['p'], '.3f')}"
    return f"{row['value']:.3f}{interval}", difference


def _markdown(table: pd.DataFrame) -> str:
    lines = ["| variant | images | figure | value (95 % interval) | difference from the first |", "|---|---:|---|---|---|"]
    for row in table.to_dict("records"):
        value, difference = _shown({str(key): cell for key, cell in row.items()})
        lines.append(f"| {row['title']} | {row['n_cases']} | {FIGURES[row['figure']][0]} | {value} | {difference} |")
    return "\n".join(lines)


def _html(table: pd.DataFrame) -> str:
    rows = []
    for row in table.to_dict("records"):
        value, difference = _shown({str(key): cell for key, cell in row.items()})
        cells = "".join(
            f'<td class="number">{cell}</td>' for cell in (str(row["n_cases"]), FIGURES[row["figure"]][0], value, difference)
        )
        rows.append(f'<tr><th scope="row">{html.escape(str(row["title"]))}</th>{cells}</tr>')
    head = "".join(
        f'<th scope="col">{name}</th>' for name in ("variant", "images", "figure", "value (95 % interval)", "difference")
    )
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
