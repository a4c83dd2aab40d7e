"""Figures of parts of the test: patients, subgroups, folds."""

from collections.abc import Mapping, Sequence
from typing import Any

from bcd.evaluation.intervals import LEAST_GROUPS
from bcd.reports.rendering import Table
from bcd.reports.run.results import Results, Section
from bcd.reports.wording import figures_in, is_number, label_of, number, with_interval

_RULES = {"mean": "mean over the patient's images", "max": "highest over the patient's images"}


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
    head = ["figure", *(_RULES.get(rule, rule) for rule in block)]
    return Section(id="patients", title="Patient level", tables=[Table(head, rows)])


def subgroups(results: Results) -> Section | None:
    """Return a table for each property that divides the test cases; bars show the first figure with its interval."""
    entries = results.test.get("subgroups") or []
    if not entries:
        return None
    properties = list(dict.fromkeys(str(entry["by"]) for entry in entries))
    groups = [_subgroup(by, [entry for entry in entries if str(entry["by"]) == by]) for by in properties]
    tables, bars = [table for table, _ in groups], [drawn for _, drawn in groups]
    note = (
        f"Small subgroups have wide intervals, and with fewer than {LEAST_GROUPS} groups still too narrow ones; differences "
        "between subgroups were not tested, and not corrected for their number."
    )
    return Section(id="subgroups", title="Subgroups", text=[note], tables=tables, template="subgroups", more={"bars": bars})


def _subgroup(by: str, entries: Sequence[Mapping[str, Any]]) -> tuple[Table, dict[str, Any]]:
    """Return the table of a property, and the title and the bars of a figure that lies in [0, 1]."""
    names = figures_in({name: value for entry in entries for name, value in entry["figures"].items()})
    rows = []
    for entry in entries:
        figures, intervals = entry["figures"], entry.get("intervals") or {}
        texts = [with_interval(figures.get(name), intervals.get(name), name) for name in names]
        rows.append([entry["value"], number(entry["n"]), number(entry.get("n_groups")), *texts])
    property_ = by.removeprefix("meta.").replace("_", " ")
    table = Table([property_, "images", "groups", *map(label_of, names)], rows, f"By {property_}")
    for name in names:
        values = [entry["figures"].get(name) for entry in entries]
        if all(is_number(value) and 0 <= value <= 1 for value in values):
            break
    else:
        return table, {"title": "", "bars": []}
    bars = []
    for value, entry in zip(values, entries, strict=True):
        interval = (entry.get("intervals") or {}).get(name)
        low, high = (value if end is None else min(max(end, 0.0), 1.0) for end in (interval or (None, None)))
        # The label is for those who cannot see the bar.
        bars.append({"value": value, "low": low, "high": high, "label": f"{label_of(name)} {with_interval(value, interval)}"})
    return table, {"title": f"{label_of(name)}, 0 to 1", "bars": bars}


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
        average, deviation = (number(mean[name][part], name) for part in ("mean", "sd")) if name in mean else (None, None)
        spread = f"{average} \N{PLUS-MINUS SIGN} {deviation}" if name in mean else None
        pooled = results.figure(results.test, name) if name in results.test else None
        rows.append([label_of(name), *(number(entry.get(name), name) for entry in entries), spread, pooled])
    head = ["", *(f"fold {entry['fold']}" for entry in entries), "mean \N{PLUS-MINUS SIGN} standard deviation", "all together"]
    note = (
        "Each fold was tested by a model that was not trained on it. The mean over folds describes a model of this kind; the "
        "figure of all cases together ranks all predictions on one scale."
    )
    return Section(id="folds", title="Folds", text=[note], tables=[Table(head, rows)])
