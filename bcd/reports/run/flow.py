"""Flow of cases: from the whole data set to training, validation and test, with the cases that were left out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bcd.reports.rendering import Table
from bcd.reports.run.results import Results, Section
from bcd.reports.wording import number

_PARTS = {"train": "training", "valid": "validation", "test": "test"}
_MAX_PROBLEMS = 100


def flow(results: Results) -> Section | None:
    """Return the number of cases at each stage, those that were left out and why, and the parts."""
    data = results.data
    if not data.get("n_cases"):
        return None
    count = counts(data)
    removed = [f"{number(count['skipped'])} skipped, because of problems"] * bool(count["skipped"])
    removed += [f"{number(n)} left out: {reason}" for reason, n in data.get("left_out", {}).items()]
    return Section(
        id="data",
        title="Data and flow of cases",
        tables=_classes(results),
        template="flow",
        more={
            "all": f"{number(count['all'])} images of {data.get('name', 'the data set')}",
            "removed": removed or ["none left out"],
            "kept": f"{number(count['kept'])} images used",
            "parts": part_lines(results),
            "caption": _caption(data),
            "lists": _lists(data),
        },
    )


def _lists(data: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Return (title, entries) of the cases that were left out or skipped, and of the pairs that cross the split."""
    crossings, left_out, skipped = data.get("crossings") or [], data.get("left_out") or {}, data.get("skipped") or []
    named = data.get("left_out_cases", {})
    lists = []
    if crossings:
        pairs = [f"{first} and {second}" for first, second in crossings[:_MAX_PROBLEMS]]
        lists.append((f"Pairs of one group on both sides of the split: {len(crossings)}", pairs))
    if left_out:
        entries = [f"{number(n)}: {reason}. {', '.join(named.get(reason, [])[:_MAX_PROBLEMS])}" for reason, n in left_out.items()]
        lists.append(("Left out", entries))
    if skipped:
        problems = [f"{one['case_id']} {Path(one['file']).name}: {one['reason']}".strip() for one in skipped[:_MAX_PROBLEMS]]
        if len(skipped) > _MAX_PROBLEMS:
            problems.append(f"... and {len(skipped) - _MAX_PROBLEMS} more, see data.skipped in metrics.json")
        lists.append(("Skipped, because of problems", problems))
    return lists


def counts(data: Mapping[str, Any]) -> dict[str, int]:
    """Return the number of cases at each stage: `all`, `skipped`, `left_out`, `kept`."""
    kept, left_out = sum(data["n_cases"].values()), sum(data.get("left_out", {}).values())
    skipped = len({problem["case_id"] for problem in data.get("skipped", []) if problem["case_id"]})  # others are files alone
    everything = data.get("n_total", kept + left_out + skipped)
    if data.get("folds"):  # only some folds were tested; the others' cases were trained on
        kept = everything - skipped - left_out
    return {"all": everything, "skipped": skipped, "left_out": left_out, "kept": kept}


def part_lines(results: Results) -> list[list[str]]:
    """Return the lines of each part: name, images, groups; where there are several folds, each fold is a part."""
    data, test = results.data, results.test
    if data.get("folds"):
        parts = []
        for fold in data["folds"]:
            of = {part: f" / {number(n)}" for part, n in (fold.get("n_groups") or {}).items()}
            lines = [f"{_PARTS.get(part, part)} {number(count)}{of.get(part, '')}" for part, count in fold["n_cases"].items()]
            parts.append([f"fold {fold['fold']}", *lines])
        return parts
    groups = {"test": test["n_groups"], **(data.get("n_groups") or {})}
    parts = []
    for part, count in data["n_cases"].items():
        lines = [_PARTS.get(part, part), f"{number(count)} images"]
        if part in groups:
            lines.append(f"{number(groups[part])} groups")
        if part == "test" and test["n_cases"] != count:
            lines.append(f"{number(test['n_cases'])} scored")
        parts.append(lines)
    return parts


def _caption(data: Mapping[str, Any]) -> str:
    grouped = f" Images are grouped by {data['grouped_by']}." if data.get("grouped_by") else ""
    crossing = ""
    if "crossings" in data:
        crossing = (
            " Groups are on both sides of the split: see below."
            if data["crossings"]
            else " No group is on both sides of the split."
        )
    split = f" Split: {Path(str(data['split'])).name}." if data.get("split") else ""
    folds = " Each fold with its images / groups." if data.get("folds") else ""
    return f"Images, from the data set to the parts.{folds}{grouped}{crossing}{split}"


def _classes(results: Results) -> list[Table]:
    rows = [[name, number(count)] for name, count in (results.test.get("n_by_class") or {}).items()]
    for title, key in (("with a lesion", "n_lesion_images"), ("without a lesion", "n_lesion_free_images")):
        if key in results.test:
            rows.append([title, number(results.test[key])])
    return [Table(["test images", "number"], rows, "Test images by class")] if rows else []
