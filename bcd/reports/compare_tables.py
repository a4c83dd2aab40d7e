"""A comparison as tables: CSV for programs, Markdown and LaTeX for papers."""

from collections.abc import Sequence

import pandas as pd

from bcd.evaluation.compare import Comparison
from bcd.reports.markdown import cell, table
from bcd.reports.wording import label_of, number, with_interval

NOTES = (
    "95 % intervals by bootstrap over groups; differences by paired bootstrap over the same groups, the second run less the first. "
    "p: two-sided; p (Holm): corrected by Holm's method over all pairs of runs and figures of the same test."
)
_TEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"} | {
    sign: f"\\{sign}" for sign in "&%$#_{}"
}


def write_csv(comparison: Comparison) -> str:
    """Return both tables in one, `kind` telling figures and differences apart."""
    figures = comparison.figures.assign(kind="figure").rename(columns={"run": "first"})
    differences = comparison.differences.assign(kind="difference").rename(columns={"difference": "value"})
    columns = ["kind", "first", "second", "figure", "value", "low", "high", "test", "assumes", "p", "p_holm", "n"]
    return pd.DataFrame([*figures.to_dict("records"), *differences.to_dict("records")], columns=columns).to_csv(index=False)


def figure_rows(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of the table of figures: one row a run, one column a figure."""
    table = comparison.figures
    paths = list(dict.fromkeys(table["figure"]))
    rows = []
    for run in comparison.runs:
        own = table[table["run"] == run.name].set_index("figure")
        cells = [with_interval(_known(own["value"][path]), _ends(own.loc[path]), path.rpartition(".")[2]) for path in paths]
        rows.append([run.name, *cells])
    return ["run", *map(title_of, paths)], rows


def difference_rows(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of the table of differences: one row a test."""
    rows = []
    for row in comparison.differences.to_dict("records"):
        shown = with_interval(_known(row["difference"]), _ends(pd.Series(row)), str(row["figure"]).rpartition(".")[2])
        p = [p_value(_known(row[name])) for name in ("p", "p_holm")]
        rows.append(
            [f"{row['second']} less {row['first']}", title_of(str(row["figure"])), shown, str(row["test"]), *p, str(row["assumes"])]
        )
    return ["runs", "figure", "difference", "test", "p", "p (Holm)", "assumes"], rows


def write_markdown(comparison: Comparison) -> str:
    """Return the tables in Markdown."""
    parts = [
        "# Comparison",
        "",
        f"{len(comparison.runs[0].cases)} cases of {comparison.runs[0].cases['group'].nunique()} groups.",
        "",
    ]
    for title, (head, rows) in (("Figures", figure_rows(comparison)), ("Differences", difference_rows(comparison))):
        parts += [f"## {title}", "", table(head, [[cell(text) for text in row] for row in rows]), ""]
    return "\n".join([*parts, NOTES, ""])


def write_latex(comparison: Comparison) -> str:
    """Return the figures, and the differences by the primary test, as two LaTeX tables (package booktabs)."""
    head, rows = difference_rows(comparison)
    primary = [row[:3] + row[5:6] for row in rows if row[3].startswith("permutation")]
    tables = [_latex_table(*figure_rows(comparison)), _latex_table([*head[:3], *head[5:6]], primary)]
    return "\n\n".join([f"% {NOTES} Tests: permutation by group.", *tables]) + "\n"


def title_of(path: str) -> str:
    """Return a figure's path in words: `by_class.malignant.sensitivity` is `sensitivity, malignant`."""
    *where, name = path.split(".")
    block = where[-1] if where and where[0] in ("by_class", "lesion_images_by_class") else ""
    lesions = "lesion " if where == ["detection"] and name == "sensitivity" else ""
    return lesions + label_of(name) + (f", {block}" if block else "")


def p_value(p: float | None) -> str:
    """Return a p-value as it is printed: three digits, `< 0.001` below."""
    return number(None) if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def _latex_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [" & ".join(map(_tex, row)) + r" \\" for row in rows]
    columns = "l" + "r" * (len(head) - 1)
    body = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", " & ".join(map(_tex, head)) + r" \\", r"\midrule", *lines]
    return "\n".join([*body, r"\bottomrule", r"\end{tabular}"])


def _tex(text: str) -> str:
    escaped = "".join(_TEX.get(sign, sign) for sign in text)
    return (
        escaped.replace("\N{EN DASH}", "--")
        .replace("\N{MINUS SIGN}", "$-$")
        .replace("<", "$<$")
        .replace("\N{NARROW NO-BREAK SPACE}", r"\,")
    )


def _known(value: float | None) -> float | None:
    return None if value is None or pd.isna(value) else float(value)


def _ends(row: pd.Series) -> list[float | None]:
    return [_known(row["low"]), _known(row["high"])]
