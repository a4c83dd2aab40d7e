"""What the probabilities are worth: operating points, calibration, net benefit, abstention, conformal sets."""

from collections.abc import Mapping, Sequence
from typing import Any

from bcd.reports.charts import abstention_chart, decision_chart, reliability_chart
from bcd.reports.markup import Html, element, figure, folded, joined, table
from bcd.reports.run.results import Results, Section
from bcd.reports.svg import to_svg
from bcd.reports.wording import figures_in, is_number, label_of, number, point_name, with_interval

_CONFORMAL = {
    "coverage": "share of sets that shall hold the true class",
    "empirical_coverage": "share of sets that do, on test",
    "share_by_size": "share of sets by their number of classes",
    "accuracy_of_single": "share of sets of one class that hold it",
}
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
    words = (
        f"An image counts as {points[0]['positive']} from the threshold on. Thresholds were chosen on validation, and are scored "
        "here on test."
    )
    return Section(
        "operating-points",
        f"Operating points for {points[0]['positive']}",
        joined(
            [
                element("p", words),
                table(["chosen for", *(point_name(str(point["name"])) for point in points)], rows),
                element("div", *(_two_by_two(point) for point in points), class_="charts"),
            ]
        ),
    )


def _thresholds(points: Sequence[Mapping[str, Any]]) -> list[list[object]]:
    """Return a row for the model of each fold, or the one row where there is one model."""
    folds = list(dict.fromkeys(fold for point in points for fold in point.get("thresholds") or {}))
    rows: list[list[object]] = []
    for fold in folds:
        name = f"threshold, fold {fold}" if len(folds) > 1 else "threshold"
        rows.append([name, *(number((point.get("thresholds") or {}).get(fold)) for point in points)])
    return rows


def _two_by_two(point: Mapping[str, Any]) -> Html:
    positive = point["positive"]
    rows = [
        [str(positive), number(point["tp"]), number(point["fn"])],
        [f"not {positive}", number(point["fp"]), number(point["tn"])],
    ]
    return table(
        ["truth \N{DOWNWARDS ARROW}", f"called {positive}", "called otherwise"],
        rows,
        f"Chosen for: {point_name(str(point['name']))}; {number(point['n'])} images",
        class_="small",
    )


def by_fold(values: Any) -> str:
    """Return what was chosen for each fold's model, in print: the value itself where there is one."""
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
    scaled = f"Temperature, fitted on validation: {by_fold(block['temperature'])}. " if block.get("temperature") is not None else ""
    told = "; ".join(
        f"{part}: {', '.join(f'{label_of(name)} {number(parts[part].get(name), name)}' for name in names)}" for part in parts
    )
    sentences = element("p", scaled + (f"Binning: {block['binning'].rstrip('.')}." if block.get("binning") else ""))
    figures = table(["figure", *(f"{part} scaling" for part in parts)], rows)
    if not all(part.get("reliability") for part in parts.values()):
        return Section("calibration", "Calibration", joined([sentences, figures]))
    chart = figure(
        to_svg(reliability_chart(block), "reliability", f"Reliability curve. {told}."),
        "Reliability: on the dotted line, probabilities are what they say. Larger dots: more images.",
    )
    beside = element("div", figures, chart, class_="charts")
    return Section("calibration", "Calibration", joined([sentences, beside, _bins(parts)]))


def _bins(parts: Mapping[str, Mapping[str, Any]]) -> Html:
    tables = []
    for part, block in parts.items():
        rows = [
            [
                f"{number(float(bin_['low']))} to {number(float(bin_['high']))}",
                *(number(bin_[name]) for name in ("n", "mean_probability", "observed")),
            ]
            for bin_ in block["reliability"]
        ]
        tables.append(table(["probability", "images", "mean", "observed"], rows, f"{part.capitalize()} scaling"))
    return folded("The bins as a table", element("div", *tables, class_="charts"))


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
    words = f"Net benefit (Vickers and Elkin 2006). Prevalence{of} in the test: {number(block.get('prevalence'))}."
    span = f" The model is above both at {len(better)} of {len(block['thresholds'])} thresholds."
    chart = to_svg(decision_chart(block), "net-benefit", f"Decision curve.{span}")
    return Section("decision-curve", "Decision curve", figure(chart, words + span))


def uncertainty(results: Results) -> Section | None:
    """Return what abstaining gains, and how conformal sets hold."""
    abstention, conformal = results.test.get("abstention"), results.test.get("conformal")
    parts: list[object] = []
    if abstention and abstention.get("coverage"):
        words = _abstaining(abstention)
        parts.append(figure(to_svg(abstention_chart(abstention), "abstention", words), words))
    if conformal:
        rows = [
            [_CONFORMAL.get(name, label_of(name)), _told(value, name)] for name, value in conformal.items() if _printable(value)
        ]
        caption = "Sets of classes that shall hold the true one as often as asked"
        parts.append(table(["conformal sets", "value"], rows, caption, text=(1,)))
    content = element("div", *parts, class_="charts")
    return Section("uncertainty", "Abstention and conformal sets", content) if parts else None


def _abstaining(abstention: Mapping[str, Any]) -> str:
    by_coverage = sorted(zip(abstention["coverage"], abstention["accuracy"], strict=True))
    _, accuracy = by_coverage[-1]
    coverage, surer = min(by_coverage, key=lambda point: abs(point[0] - 0.5))
    return (
        f"Abstention: the least sure cases are left to a reader first. Accuracy on all cases {number(accuracy)}, on the surest "
        f"{100 * coverage:.0f} % of them {number(surer)}."
    )


def _printable(value: object) -> bool:
    return is_number(value) or isinstance(value, str) or (isinstance(value, Mapping) and all(map(is_number, value.values())))


def _told(value: Any, name: str) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {number(part, name)}" for key, part in value.items())
    return number(value, name)
