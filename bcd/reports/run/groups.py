"""The same figures for parts of the test: patients, subgroups, folds."""

from collections.abc import Mapping, Sequence
from typing import Any

from bcd.evaluation.intervals import LEAST_GROUPS
from bcd.reports.markup import Html, element, joined, table
from bcd.reports.run.results import Results, Section
from bcd.reports.wording import figures_in, is_number, label_of, number, with_interval

_RULES = {"mean": "mean over the patient's images", "max": "highest over the patient's images"}
_BAR = 150


def patient_level(results: Results) -> Section | None:
    """Return the classification of patients, for each way to join the images of one."""
    block = results.test.get("patient_level")
    if not block:
        return None
    names = list(dict.fromkeys(name for part in block.values() for name in figures_in(part)))
    rows = [
        [
            label_of(name) if name != "n" else "patients",
            *(results.figure(part, name, f"patient_level.{rule}") for rule, part in block.items()),
        ]
        for name in names
    ]
    for label in dict.fromkeys(label for part in block.values() for label in part.get("by_class", {})):
        rows.append(
            [f"AUROC, {label}"]
            + [
                results.figure(part.get("by_class", {}).get(label, {}), "auroc", f"patient_level.{rule}.by_class.{label}")
                for rule, part in block.items()
            ]
        )
    return Section("patients", "Patient level", table(["figure", *(_RULES.get(rule, rule) for rule in block)], rows))


def subgroups(results: Results) -> Section | None:
    """Return a table for each property that divides the test cases; bars show the first figure with its interval."""
    entries = results.test.get("subgroups") or []
    if not entries:
        return None
    properties = list(dict.fromkeys(str(entry["by"]) for entry in entries))
    tables = [_subgroup(by, [entry for entry in entries if str(entry["by"]) == by]) for by in properties]
    note = (
        f"Small subgroups have wide intervals, and with fewer than {LEAST_GROUPS} groups still too narrow ones; differences "
        "between subgroups were not tested, and not corrected for their number."
    )
    return Section("subgroups", "Subgroups", joined([element("p", note), *tables]))


def _subgroup(by: str, entries: Sequence[Mapping[str, Any]]) -> Html:
    names = figures_in({name: value for entry in entries for name, value in entry["figures"].items()})
    drawn = [name for name in names if all(_in_unit(entry["figures"].get(name)) for entry in entries)][:1]
    rows = [
        [
            str(entry["value"]),
            number(entry["n"]),
            number(entry.get("n_groups")),
            *(_stacked(with_interval(entry["figures"].get(name), _interval(entry, name), name)) for name in names),
            *(_bar(entry["figures"][name], _interval(entry, name), label_of(name)) for name in drawn),
        ]
        for entry in entries
    ]
    bars = [f"{label_of(name)}, 0 to 1" for name in drawn]
    title = by.removeprefix("meta.").replace("_", " ")
    head = [title, "images", "groups", *(label_of(name) for name in names), *bars]
    return table(head, rows, f"By {title}", class_="stacked")


def _interval(entry: Mapping[str, Any], name: str) -> Sequence[float | None] | None:
    return (entry.get("intervals") or {}).get(name)


def _stacked(shown: str) -> Html:
    """Return a figure whose interval goes below it where there is no room."""
    value, bracket, interval = shown.partition(" (")
    return joined([value, " ", element("span", f"({interval}")]) if bracket else joined([value])


def _in_unit(value: Any) -> bool:
    return is_number(value) and 0 <= value <= 1


def _bar(value: Any, interval: Sequence[float | None] | None, name: str) -> Html:
    """Return a dot with its interval on a line from 0 to 1."""
    if not is_number(value):
        return Html("")
    low, high = (float(end) if end is not None else float(value) for end in (interval or (None, None)))
    parts = [
        element("line", x1=4, x2=_BAR - 4, y1=9, y2=9, stroke="#ccc"),
        element("line", x1=f"{_at(low):.1f}", x2=f"{_at(high):.1f}", y1=9, y2=9, stroke="#0072b2", stroke_width=3),
        element("circle", cx=f"{_at(value):.1f}", cy=9, r=4.5, fill="#d55e00"),
    ]
    return element(
        "svg",
        *parts,
        viewBox=f"0 0 {_BAR} 18",
        width=_BAR,
        height=18,
        role="img",
        aria_label=f"{name} {with_interval(value, interval)}",
        class_="bar",
    )


def _at(value: float) -> float:
    return 4 + (_BAR - 8) * min(max(value, 0.0), 1.0)


def folds(results: Results) -> Section | None:
    """Return the figures of each fold, and their mean and standard deviation."""
    entries = results.test.get("folds") or []
    if len(entries) < 2:
        return None
    names = [
        name
        for name in dict.fromkeys(name for entry in entries for name in figures_in(entry))
        if name not in ("fold", "n_cases", "n_groups")
    ]
    counts = [name for name in ("n_cases", "n_groups") if any(name in entry for entry in entries)]
    mean = results.test.get("mean_over_folds") or {}
    # Figures are rows, as everywhere: a figure with its interval is too wide for a column of its own.
    rows: list[list[object]] = [
        [label_of(name), *(number(entry.get(name), name) for entry in entries), "", number(results.test.get(name), name)]
        for name in counts
    ]
    for name in names:
        spread = _spread(mean[name], name) if name in mean else None
        pooled = results.figure(results.test, name) if name in results.test else None
        rows.append([label_of(name), *(number(entry.get(name), name) for entry in entries), spread, pooled])
    head = ["", *(f"fold {entry['fold']}" for entry in entries), "mean \N{PLUS-MINUS SIGN} standard deviation", "all together"]
    words = (
        "Each fold was tested by a model that had not seen it. The mean over folds and the figure of all cases together answer "
        "different questions: of a model of this kind, and of all predictions ranked on one scale."
    )
    return Section("folds", "Folds", joined([element("p", words), table(head, rows)]))


def _spread(figure: Mapping[str, Any], name: str) -> str:
    return f"{number(figure['mean'], name)} \N{PLUS-MINUS SIGN} {number(figure['sd'], name)}"
