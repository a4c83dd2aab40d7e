"""The table on the screen at the end of a run."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bcd.reports.study import HEAD, shown_row


def print_results(metrics: dict[str, Any], folder: Path) -> None:
    """Print the test results, any warnings, and the paths."""
    console = Console(soft_wrap=True)
    test = metrics["test"]
    data = metrics["data"]
    where = "all cases" if data["fold"] is None else f"fold {data['fold']}"
    if data.get("folds"):
        where = f"out of fold, folds {', '.join(str(one['fold']) for one in data['folds'])}"
    table = Table(title=f"{metrics['name']}: test, {where}, {test['n_cases']} images of {test['n_groups']} groups")
    for name, is_number in (("", False), ("images", True), ("figure", False), ("value", True), ("95 % interval", True)):
        table.add_column(name, justify="right" if is_number else "left")
    for row in result_rows(test):
        table.add_row(*map(escape, row))
    console.print(table)
    _print_warnings(console, metrics, folder)
    pictures = [folder / "overlays" / "panel.png", folder / "learning_curves.png"]
    console.print(f"Pictures: {', '.join(str(path) for path in pictures if path.is_file())}", markup=False)
    console.print(f"Report: {folder / 'report.html'}", markup=False)


def print_study(metrics: dict[str, Any], folder: Path) -> None:
    """Print the results of a study's variants side by side, any warnings, and the path of its page."""
    console = Console(soft_wrap=True)
    table = Table(title=f"{metrics['name']}: {metrics['question']}")
    for number, name in enumerate(HEAD):
        table.add_column(name, justify="right" if number == 1 else "left", overflow="fold")  # a cut figure is none
    for row in metrics["variants"]:
        table.add_row(*map(escape, shown_row(row)))
    console.print(table)
    _print_warnings(console, metrics, folder)
    console.print(f"Report: {folder / 'study.html'}", markup=False)


def _print_warnings(console: Console, metrics: dict[str, Any], folder: Path) -> None:
    for warning in metrics["warnings"]:
        console.print(warning, style="bold red", markup=False, highlight=False)
    console.print(f"Results: {folder}", markup=False)


def result_rows(test: dict[str, Any]) -> list[tuple[str, str, str, str, str]]:
    """Return the test figures as rows: what, how many images, figure, value, interval."""
    intervals = test.get("intervals", {})
    rows = []
    if "lesion_images" in test:
        blocks = {"lesion_images": ("lesion images", test["lesion_images"])}
        blocks |= {f"lesion_images_by_class.{name}": (name, one) for name, one in test["lesion_images_by_class"].items()}
        for path, (name, figures) in blocks.items():
            rows += [_row(name, figures, path, key, intervals) for key in ("dice", "iou", "hd95_px") if key in figures]
        free = test["lesion_free_images"]
        if free["n"]:
            rows.append(_row("lesion-free images", free, "lesion_free_images", "false_positive_rate", intervals))
            rows.append(_row("lesion-free images", free, "lesion_free_images", "false_positive_area_share", intervals))
    if "auroc" in test:
        whole = {**test, "n": test["n_cases"]}
        rows += [_row("all", whole, "", key, intervals) for key in ("auroc", "accuracy", "balanced_accuracy")]
        for name, figures in test["by_class"].items():
            rows += [_row(name, figures, f"by_class.{name}", key, intervals) for key in ("auroc", "sensitivity", "specificity")]
    if test.get("n_empty_guides"):
        rows.append(("no mask given", str(test["n_empty_guides"]), "whole image used", "", ""))
    return rows


def _row(
    what: str, figures: dict[str, Any], path: str, key: str, intervals: dict[str, list[float]]
) -> tuple[str, str, str, str, str]:
    interval = intervals.get(f"{path}.{key}" if path else key)
    shown = f"{_number(interval[0], key)}\u2013{_number(interval[1], key)}" if interval else ""
    return what, str(figures["n"]), key.replace("_", " "), _number(figures[key], key), shown


def _number(value: float | None, key: str) -> str:
    return "-" if value is None else f"{value:.1f}" if key.endswith("_px") else f"{value:.4f}"
