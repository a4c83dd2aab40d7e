"""Trained on A, tested on B: several runs, each on its own test fold and on the data sets of the others."""

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bcd.evaluation.markdown import cell
from bcd.evaluation.markdown import table as markdown_table
from bcd.evaluation.study import FIGURES
from bcd.runs import files
from bcd.runs.external import check_classes, evaluate_external

log = logging.getLogger(__name__)

_HEAD = ("run", "trained on", "tested on", "images", "figure", "value (95 % interval)", "")


def matrix(runs: Sequence[str], output: Path, trusted: Collection[str] = ()) -> pd.DataFrame:
    """Test every run on every run's data set; write matrix.csv and matrix.md, and return the table, one row a run and data set.

    A run is tested on its own fold of its own data, and on all cases of another data set (an external validation, with its own
    folder and report below `output`). A pair whose classes do not go together is left empty, and says why.

    Args:
        runs: folders of runs, of at least two data sets.
        output: where the results go.
        trusted: constructors of the user's own that the runs' configs may name.

    Raises:
        ValueError: for fewer than two data sets.
    """
    folders = [Path(run) for run in runs]
    configs = {folder: files.read_config(folder) for folder in folders}
    data = {str(config["data"]["name"]): config["data"] for config in configs.values()}
    if len(data) < 2:
        raise ValueError(f"runs= are all of {', '.join(data)}; a matrix needs runs of two data sets or more.")
    rows = []
    for folder in folders:
        for name, node in data.items():
            rows += _cell(folder, configs[folder], name, node, output, trusted)
    table = pd.DataFrame(rows)
    files.write_text(output / "matrix.csv", table.to_csv(index=False))
    shown = [_texts({str(key): value for key, value in row.items()}) for row in table.to_dict("records")]
    files.write_text(output / "matrix.md", markdown_table(_HEAD, [[cell(text) for text in row] for row in shown]) + "\n")
    _print(shown)
    return table


def _cell(
    run: Path, config: Mapping[str, Any], name: str, data: Mapping[str, Any], output: Path, trusted: Collection[str]
) -> list[dict[str, Any]]:
    """Return the figures of one run on one data set, one row a figure."""
    own = str(config["data"]["name"]) == name
    note = "own test fold" if own else "external, all cases"
    try:
        metrics = files.read_metrics(run) if own else _external(run, config, data, output / f"{run.name}_on_{name}", trusted)
    except ValueError as error:
        log.warning("%s on %s: %s", run.name, name, error)
        return [{"run": run.name, "trained_on": config["data"]["name"], "tested_on": name, "note": str(error)}]
    test = metrics["test"]
    intervals = test.get("intervals", {})
    rows = []
    for figure, (_, path) in FIGURES.items():
        if test.get(figure) is not None:
            low, high = intervals.get(figure) or intervals.get(path) or (None, None)
            known = {"run": run.name, "trained_on": config["data"]["name"], "tested_on": name, "n_cases": test["n_cases"]}
            rows.append({**known, "figure": figure, "value": test[figure], "low": low, "high": high, "note": note})
    return rows


def _external(
    run: Path, config: Mapping[str, Any], data: Mapping[str, Any], output: Path, trusted: Collection[str]
) -> dict[str, Any]:
    shared = [name for name in config["data"]["classes"] if name in data["classes"]]
    node = {**data, "classes": shared or data["classes"]}
    check_classes(node, [str(name) for name in config["data"]["classes"]])
    return evaluate_external(run, node, output, trusted=trusted)


def _texts(row: Mapping[str, Any]) -> list[str]:
    names = [str(row["run"]), str(row["trained_on"]), str(row["tested_on"])]
    if pd.isna(row.get("value")):
        return [*names, "", "", "", str(row["note"])]
    interval = "" if pd.isna(row["low"]) else f" ({row['low']:.3f}\u2013{row['high']:.3f})"
    return [*names, str(int(row["n_cases"])), FIGURES[row["figure"]][0], f"{row['value']:.3f}{interval}", str(row["note"])]


def _print(rows: Sequence[Sequence[str]]) -> None:
    shown = Table(title="Trained on A, tested on B")
    for name in _HEAD:
        shown.add_column(name)
    for row in rows:
        shown.add_row(*map(escape, row))
    Console(soft_wrap=True).print(shown)
