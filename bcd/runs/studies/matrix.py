"""Trained on A, tested on B: several runs, each on its own test fold and on the data sets of the others."""

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bcd.reports.markdown import cell
from bcd.reports.markdown import table as markdown_table
from bcd.reports.study import FIGURES
from bcd.reports.wording import label_of
from bcd.runs import folder as files
from bcd.runs.studies.compare import short_names
from bcd.runs.testing.external import evaluate_external

log = logging.getLogger(__name__)

_HEAD = ("run", "trained on", "tested on", "images", "figure", "value (95 % interval)", "")


def matrix(runs: Sequence[str], output: Path, trusted: Collection[str] = ()) -> pd.DataFrame:
    """Test every run on every run's data set; write matrix.csv and matrix.md, and return the table, one row per run and data set.

    A run is tested on its own fold of its own data, and on all cases of another data set (an external validation, with its own
    folder and report below `output`). A pair whose classes do not go together is left empty, and says why.

    Args:
        runs: folders of runs, of at least two data sets.
        output: where the results go.
        trusted: constructors of the user's own that the runs' configs may name.

    Raises:
        ValueError: for fewer than two data sets.
    """
    folders = [Path(run).expanduser() for run in runs]
    configs = {folder: files.read_config(folder) for folder in folders}
    for folder in folders:
        if "test" not in files.read_metrics(folder):
            raise files.RunError(f"{folder} was not tested yet: scripts/evaluate.py run={folder} first.")
    data = {str(config["data"]["name"]): config["data"] for config in configs.values()}
    if len(data) < 2:
        named = f"runs= are all of {data.popitem()[0]}" if data else "runs= is empty"
        raise ValueError(f"{named}; a matrix needs two data sets or more (data.name= tells folders apart).")
    rows = []
    for folder, title in zip(folders, short_names(folders), strict=True):
        for name, node in data.items():
            rows += _cell(folder, title, configs[folder], name, node, output, trusted)
    table = pd.DataFrame(rows)
    files.write_text(output / "matrix.csv", table.to_csv(index=False))
    shown = [_texts({str(key): value for key, value in row.items()}) for row in table.to_dict("records")]
    files.write_text(output / "matrix.md", markdown_table(_HEAD, [[cell(text) for text in row] for row in shown]) + "\n")
    printed = Table(title="Trained on A, tested on B")
    for name in _HEAD:
        printed.add_column(name, overflow="fold")
    for row in shown:
        printed.add_row(*map(escape, row))
    Console(soft_wrap=True).print(printed)
    return table


def _cell(
    run: Path,
    title: str,
    config: Mapping[str, Any],
    name: str,
    data: Mapping[str, Any],
    output: Path,
    trusted: Collection[str],
) -> list[dict[str, Any]]:
    """Return the figures of one run on one data set, one row a figure."""
    known: dict[str, Any] = {"run": title, "trained_on": config["data"]["name"], "tested_on": name}
    shared = [str(one) for one in config["data"]["classes"] if one in data["classes"]]
    own = str(config["data"]["name"]) == name
    note = "own test fold" if own else f"external: {', '.join(shared)}"
    folder = output / f"{title.replace('/', '-')}_on_{name}"
    try:
        tested = {**data, "classes": shared or data["classes"]}
        metrics = files.read_metrics(run) if own else evaluate_external(run, tested, folder, trusted=trusted)
    except ValueError as error:
        log.warning("%s on %s: %s", title, name, error)
        return [{**known, "note": str(error)}]
    test = metrics["test"]
    rows = []
    for figure in FIGURES:
        if test.get(figure) is not None:
            low, high = test.get("intervals", {}).get(figure) or (None, None)
            row = {"n_cases": test["n_cases"], "figure": figure, "value": test[figure], "low": low, "high": high, "note": note}
            rows.append({**known, **row})
    return rows


def _texts(row: Mapping[str, Any]) -> list[str]:
    names = [str(row["run"]), str(row["trained_on"]), str(row["tested_on"])]
    if pd.isna(row.get("value")):
        return [*names, "", "", "", str(row["note"])]
    interval = "" if pd.isna(row["low"]) else f" ({row['low']:.3f}\u2013{row['high']:.3f})"
    return [*names, str(int(row["n_cases"])), label_of(str(row["figure"])), f"{row['value']:.3f}{interval}", str(row["note"])]
