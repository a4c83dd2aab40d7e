"""Prepare a data set ahead of training, and show what it holds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bcd.config.build import build
from bcd.data.cache import open_cache
from bcd.data.prepare import Prepared, summary
from bcd.data.splits import check_split
from bcd.runs.assemble import prepare_data
from bcd.runs.preparing.audit import describe, read_findings, write_audit


def prepare_and_show(config: Mapping[str, Any]) -> Prepared:
    """Verify, group, split, cache and audit a data set; print a short table and the folder.

    Raises:
        DataProblems: when anything is wrong with any case, and `on_error` is `stop`.
        SplitError: when the split does not fit the data.
        FileNotFoundError: when the data set is absent; says where to get it and where to put it.
    """
    prepared = prepare_data(config)
    case_ids = [case.case_id for case in prepared.cases]
    check_split(prepared.split, case_ids, prepared.groups, config["data"]["allow_leak"])
    if prepared.streaming is None:
        open_cache(prepared.cases, build(config["preprocess"]), prepared.folder, prepared.max_pixels)
    table = Table(title=escape(f"{prepared.name}, fingerprint {prepared.fingerprint}"), show_header=False)
    page = write_audit(prepared)
    for name, value in [*summary(prepared), *describe(read_findings(prepared))]:
        table.add_row(escape(name), escape(value))
    console = Console(soft_wrap=True)
    console.print(table)
    console.print(f"Split: {_short(prepared.split_file)}", markup=False)
    console.print(f"Audit: {_short(page)}", markup=False)
    console.print(f"Prepared data: {_short(prepared.folder)}", markup=False)
    return prepared


def _short(path: Path) -> str:
    """Return a path relative to where the user stands, if it lies below."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
