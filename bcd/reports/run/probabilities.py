"""The probabilities: operating points, calibration, net benefit, abstention, conformal sets."""

from collections.abc import Mapping, Sequence
from typing import Any

from bcd.reports.charts import abstention_chart, decision_chart, reliability_chart
from bcd.reports.rendering import Table, chart
from bcd.reports.run.results import Results, Section
from bcd.reports.wording import figures_in, is_number, label_of, number, point_name, with_interval

_CONFORMAL = {
    "coverage": "wanted share of sets with the true class",
    "empirical_coverage": "share of sets with the true class, on test",
    "share_by_size": "share of sets by their number of classes",
    "accuracy_of_single": "share of sets of one class with the true class",
}
_RELIABILITY = "Reliability: on the dotted line, probabilities agree with the observed frequencies. Larger dots: more images."
_POINT_FIGURES = ("sensitivity", "specificity", "ppv", "npv", "accuracy", "f1")


def operating_points(results: Results) -> Section | None:
    """Return the figures and the 2x2 table of each threshold that validation chose."""
    points = results.test.get("operating_points") or []
    if not points:
        return None
    names = [name for name in _POINT_FIGURES if any(name in point for point in points)]
    rows = _thresholds(points)
    rows += [
        [
            label_of(name),
            *(with_interval(point.get(name), (point.get("intervals") or {}).get(name), name) for point in points),
        ]
        for name in names
    ]
    positive = points[0]["positive"]
    note = (
        f"An image is called {positive} when the probability of {positive} is at least the threshold. Thresholds were chosen on "
        "validation, and are scored here on test."
    )
    return Section(
        id="operating-points",
        title=f"Operating points for {positive}",
        text=[note],
        tables=[Table(["chosen for", *(point_name(str(point["name"])) for point in points)], rows)],
        beside=[_two_by_two(point) for point in points],
    )


def _thresholds(points: Sequence[Mapping[str, Any]]) -> list[list[object]]:
    """Return a row for the model of each fold, or the one row where there is one model."""
    folds = list(dict.fromkeys(fold for point in points for fold in point.get("thresholds") or {}))
    rows: list[list[object]] = []
    for fold in folds:
        name = f"threshold, fold {fold}" if len(folds) > 1 else "threshold"
        rows.append([name, *(number((point.get("thresholds") or {}).get(fold)) for point in points)])
    return rows


def _two_by_two(point: Mapping[str, Any]) -> Table:
    positive = point["positive"]
    rows = [[positive, number(point["tp"]), number(point["fn"])], [f"not {positive}", number(point["fp"]), number(point["tn"])]]
    head = ["truth \N{DOWNWARDS ARROW}", f"called {positive}", f"called not {positive}"]
    return Table(head, rows, f"Chosen for: {point_name(str(point['name']))}; {number(point['n'])} images", style="small")


def by_fold(values: Any) -> str:
    """Return the value chosen for each fold's model as printed; the value alone where there is one."""
    if not isinstance(values, Mapping):
        return number(values)
    if len(values) == 1:
        return number(next(iter(values.values())))
    return ", ".join(f"{number(value)} (fold {fold})" for fold, value in values.items())


def calibration(results: Results) -> Section | None:
    """Return Brier score, ECE and reliability before and after temperature scaling."""
    block = results.test.get("calibration")
    if not block or not block.get("before"):
        return None
    parts = {part: block[part] for part in ("before", "after") if block.get(part)}
    names = [name for name in figures_in(block["before"]) if name != "n"]
    rows = [[label_of(name), *(results.figure(parts[part], name, f"calibration.{part}") for part in parts)] for name in names]
    temperature = block.get("temperature")
    sentences = [] if temperature is None else [f"Temperature, fitted on validation: {by_fold(temperature)}."]
    sentences += [f"Binning: {block['binning'].rstrip('.')}."] if block.get("binning") else []
    figures = Table(["figure", *(f"{part} scaling" for part in parts)], rows)
    curve = all(part.get("reliability") for part in parts.values())
    charts = [chart(reliability_chart(block), _RELIABILITY)] if curve else []
    bins = [_bins(name, part["reliability"]) for name, part in parts.items()] if curve else []
    return Section(
        id="calibration",
        title="Calibration",
        text=[" ".join(sentences)] if sentences else [],
        beside=[figures],
        charts=charts,
        folded=[("The bins as a table", bins)] if bins else [],
    )


def _bins(name: str, bins: Sequence[Mapping[str, Any]]) -> Table:
    rows = [
        [f"{number(float(one['low']))} to {number(float(one['high']))}"]
        + [number(one[figure]) for figure in ("n", "mean_probability", "observed")]
        for one in bins
    ]
    return Table(["probability", "images", "mean", "observed"], rows, f"{name.capitalize()} scaling")


def decision_curve(results: Results) -> Section | None:
    """Return the net benefit of the model beside recalling everyone or nobody."""
    block = results.test.get("decision_curve")
    if not block or not block.get("thresholds"):
        return None
    better = [
        threshold
        for threshold, model, everyone in zip(block["thresholds"], block["model"], block["treat_all"], strict=True)
        if model is not None and model > max(everyone or 0.0, 0.0)
    ]
    of = f" of {block['positive']}" if block.get("positive") else ""
    caption = (
        f"Net benefit (Vickers and Elkin 2006). Prevalence{of} in the test: {number(block.get('prevalence'))}. The model is above "
        f"both at {len(better)} of {len(block['thresholds'])} thresholds."
    )
    return Section(id="decision-curve", title="Decision curve", charts=[chart(decision_chart(block), caption)])


def uncertainty(results: Results) -> Section | None:
    """Return accuracy with abstention, and the coverage of conformal sets."""
    abstention, conformal = results.test.get("abstention"), results.test.get("conformal")
    charts, tables = [], []
    if abstention and abstention.get("coverage"):
        charts.append(chart(abstention_chart(abstention), _abstaining(abstention)))
    if conformal:
        rows = [
            [_CONFORMAL.get(name, label_of(name)), _as_text(value, name)]
            for name, value in conformal.items()
            if is_number(value) or isinstance(value, str | Mapping)
        ]
        caption = "Sets of classes that contain the true one with the wanted probability"
        tables.append(Table(["conformal sets", "value"], rows, caption, text=(1,)))
    title = "Abstention and conformal sets"
    return Section(id="uncertainty", title=title, beside=tables, charts=charts) if charts or tables else None


def _abstaining(abstention: Mapping[str, Any]) -> str:
    by_coverage = sorted(zip(abstention["coverage"], abstention["accuracy"], strict=True))
    _, accuracy = by_coverage[-1]
    coverage, confident = min(by_coverage, key=lambda point: abs(point[0] - 0.5))
    return (
        f"Abstention: the least confident cases are left to a reader first. Accuracy on all cases {number(accuracy)}, on the most "
        f"confident {100 * coverage:.0f} % of them {number(confident)}."
    )


def _as_text(value: Any, name: str) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {number(part, name)}" for key, part in value.items())
    return number(value, name)
