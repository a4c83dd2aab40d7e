"""The way of the cases: from all that the data set holds to the parts, as a diagram and in words."""

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bcd.reports.markup import Html, element, figure, joined, listed, table
from bcd.reports.run.results import Results, Section
from bcd.reports.wording import number

_PARTS = {"train": "training", "valid": "validation", "test": "test"}
_WIDTH, _LINE, _MAX_PROBLEMS = 760, 17, 100


def flow(results: Results) -> Section | None:
    """Return how many cases there were, which were left out and why, and the parts."""
    data = results.data
    if not data.get("n_cases"):
        return None
    parts = [figure(_diagram(results), _caption(data), class_="chart wide"), _classes(results)]
    if data.get("crossings"):
        pairs = [f"{first} and {second}" for first, second in data["crossings"][:_MAX_PROBLEMS]]
        parts += [element("h3", f"Pairs of one group on both sides of the split: {len(data['crossings'])}"), listed(pairs)]
    if data.get("left_out"):
        parts += [element("h3", "Left out"), listed(_left_out(data))]
    if data.get("skipped"):
        parts += [element("h3", "Skipped, because of problems"), listed(_skipped(data["skipped"]))]
    return Section("data", "Data and flow of cases", joined(parts))


def counts(data: Mapping[str, Any]) -> dict[str, int]:
    """Return how many cases there were at each station: `all`, `skipped`, `left_out`, `kept`."""
    kept, left_out = sum(data["n_cases"].values()), sum(data.get("left_out", {}).values())
    skipped = len({problem["case_id"] for problem in data.get("skipped", []) if problem["case_id"]})  # others are files alone
    everything = data.get("n_total", kept + left_out + skipped)
    if data.get("folds"):  # of some of the folds alone, the others' cases were learned from
        kept = everything - skipped - left_out
    return {"all": everything, "skipped": skipped, "left_out": left_out, "kept": kept}


def part_lines(results: Results) -> dict[str, list[str]]:
    """Return part -> its lines in the diagram: name, images, groups; folds stand for the parts where there are several."""
    data, test = results.data, results.test
    if data.get("folds"):
        return {f"fold {one['fold']}": _fold_lines(one) for one in data["folds"]}
    groups = {"test": test["n_groups"], **(data.get("n_groups") or {})}
    lines = {}
    for part, count in data["n_cases"].items():
        lines[part] = [_PARTS.get(part, part), f"{number(count)} images"]
        if part in groups:
            lines[part].append(f"{number(groups[part])} groups")
        if part == "test" and test["n_cases"] != count:
            lines[part].append(f"{number(test['n_cases'])} scored")
    return lines


def _fold_lines(fold: Mapping[str, Any]) -> list[str]:
    groups = fold.get("n_groups") or {}
    return [f"fold {fold['fold']}"] + [
        f"{_PARTS.get(part, part)} {number(count)}{f' / {number(groups[part])}' if part in groups else ''}"
        for part, count in fold["n_cases"].items()
    ]


def _diagram(results: Results) -> Html:
    found, beside = counts(results.data), _beside(results.data)
    name = results.data.get("name", "the data set")
    middle = _height(beside) / 2 + 62
    below = middle + _height(beside) / 2 + 16
    end, last = below + _height([""]), below + _height([""]) + 44
    placed = _placed(list(part_lines(results).values()), last)
    tall = max(top + _height(lines) for _, top, _, lines in placed) + 8
    boxes = [
        _box(20, 8, 300, [f"{number(found['all'])} images of {name}"], bold=True),
        _box(400, middle - _height(beside) / 2, 340, beside),
        _box(20, below, 300, [f"{number(found['kept'])} images used"], bold=True),
        *(_box(*place, bold=True) for place in placed),
    ]
    arrows = [_arrow(170, 8 + _height([""]), 170, below), _arrow(170, middle, 400, middle)]
    arrows += [_arrow(170, end, left + width / 2, last) for left, top, width, _ in placed if top == last]
    words = [f"{number(found['all'])} images", *beside, *(", ".join(lines) for *_, lines in placed)]
    head = element("path", d="M0 0L8 4L0 8z", fill="#444")
    marker = element("marker", head, id="flow-arrow", markerWidth=8, markerHeight=8, refX=8, refY=4, orient="auto")
    return element(
        "svg",
        element("defs", marker),
        *arrows,
        *boxes,
        viewBox=f"0 0 {_WIDTH} {tall:.0f}",
        role="img",
        aria_label=f"Flow of cases: {'; '.join(words)}",
        class_="plot",
    )


def _beside(data: Mapping[str, Any]) -> list[str]:
    """Return the lines of the box that says what was left out."""
    skipped = counts(data)["skipped"]
    told = [f"{number(skipped)} skipped, because of problems"] * bool(skipped)
    told += [f"{number(count)} left out: {reason}" for reason, count in data.get("left_out", {}).items()]
    return [line for text in told for line in textwrap.wrap(textwrap.shorten(text, 120, placeholder=" ..."), 46)] or [
        "none left out"
    ]


def _placed(parts: list[list[str]], top: float) -> list[tuple[float, float, float, list[str]]]:
    """Return left, top, width and lines of the boxes of the parts, up to five in a row."""
    columns = min(5, len(parts))
    step, tall = (_WIDTH - 20) / columns, max(_height(lines) for lines in parts) + 12
    return [
        (10 + place % columns * step, top + place // columns * tall, min(230, step - 12), lines)
        for place, lines in enumerate(parts)
    ]


def _height(lines: list[str]) -> float:
    return _LINE * len(lines) + 16


def _box(left: float, top: float, width: float, lines: list[str], bold: bool = False) -> Html:
    texts = [
        element(
            "text",
            line,
            x=f"{left + width / 2:.0f}",
            y=f"{top + 22 + _LINE * place:.0f}",
            font_weight=600 if bold and place == 0 else None,
        )
        for place, line in enumerate(lines)
    ]
    frame = element(
        "rect",
        x=f"{left:.0f}",
        y=f"{top:.0f}",
        width=f"{width:.0f}",
        height=f"{_height(lines):.0f}",
        rx=5,
        fill="#f3f7fa",
        stroke="#0072b2",
    )
    return element("g", frame, element("g", *texts, text_anchor="middle", font_size=13))


def _arrow(x1: float, y1: float, x2: float, y2: float) -> Html:
    return element(
        "line", x1=f"{x1:.0f}", y1=f"{y1:.0f}", x2=f"{x2:.0f}", y2=f"{y2:.0f}", stroke="#444", marker_end="url(#flow-arrow)"
    )


def _caption(data: Mapping[str, Any]) -> str:
    grouped = f" Images are grouped by {data['grouped_by']}." if data.get("grouped_by") else ""
    crossing = ""
    if "crossings" in data:
        crossing = (
            " Groups stand on both sides of the split: see below."
            if data["crossings"]
            else " No group stands on both sides of the split."
        )
    split = f" Split: {Path(str(data['split'])).name}." if data.get("split") else ""
    folds = " Each fold with its images / groups." if data.get("folds") else ""
    return f"Images, from the data set to the parts.{folds}{grouped}{crossing}{split}"


def _classes(results: Results) -> Html:
    counted = results.test.get("n_by_class") or {}
    rows = [[name, number(count)] for name, count in counted.items()]
    for title, key in (("with a lesion", "n_lesion_images"), ("without a lesion", "n_lesion_free_images")):
        if key in results.test:
            rows.append([title, number(results.test[key])])
    return table(["test images", "number"], rows, "Test images by class") if rows else Html("")


def _left_out(data: Mapping[str, Any]) -> list[object]:
    named = data.get("left_out_cases", {})
    return [
        joined([f"{number(count)}: {reason}. ", element("small", ", ".join(named.get(reason, [])[:_MAX_PROBLEMS]))])
        for reason, count in data["left_out"].items()
    ]


def _skipped(problems: list[dict[str, str]]) -> list[str]:
    told = [" ".join([problem["case_id"], Path(problem["file"]).name + ":", problem["reason"]]).strip() for problem in problems]
    more = [f"... and {len(told) - _MAX_PROBLEMS} more, see data.skipped in metrics.json"] if len(told) > _MAX_PROBLEMS else []
    return [*told[:_MAX_PROBLEMS], *more]
