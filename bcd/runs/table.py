"""The table on the screen at the end of a run."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table


def print_results(metrics: dict[str, Any], folder: Path) -> None:
    """Print what the test gave, any warnings, and where everything is."""
    console = Console(soft_wrap=True)
    test = metrics["test"]
    table = Table(
        title=f"{metrics['name']}: test, fold {metrics['data']['fold']}, {test['n_cases']} images of {test['n_groups']} groups"
    )
    table.add_column("")
    table.add_column("images", justify="right")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for row in result_rows(test):
        table.add_row(*map(escape, row))
    console.print(table)
    for warning in metrics["warnings"]:
        console.print(warning, style="bold red", markup=False, highlight=False)
    console.print(f"Results: {folder}", markup=False)
    console.print(f"Pictures: {folder / 'overlays' / 'panel.png'}, {folder / 'learning_curves.png'}", markup=False)
    console.print(f"Report: {folder / 'report.html'}", markup=False)


def result_rows(test: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """Return the test figures as rows: what, how many images, figure, value."""
    rows = []
    if "lesion_images" in test:
        for name, figures in {"lesion images": test["lesion_images"], **test["lesion_images_by_class"]}.items():
            rows += [(name, str(figures["n"]), key, _number(figures[key])) for key in ("dice", "iou")]
        free = test["lesion_free_images"]
        if free["n"]:
            rows.append(("lesion-free images", str(free["n"]), "false-positive rate", _number(free["false_positive_rate"])))
            rows.append(
                ("lesion-free images", str(free["n"]), "false-positive area", f"{100 * free['false_positive_area_share']:.2f} %")
            )
    if "auroc" in test:
        rows += [
            ("all", str(test["n_cases"]), key.replace("_", " "), _number(test[key]))
            for key in ("auroc", "accuracy", "balanced_accuracy")
        ]
        for name, figures in test["by_class"].items():
            rows += [(name, str(figures["n"]), key, _number(figures[key])) for key in ("auroc", "sensitivity", "specificity")]
    if test.get("n_empty_guides"):
        rows.append(("no outline given", str(test["n_empty_guides"]), "whole image used", ""))
    return rows


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
