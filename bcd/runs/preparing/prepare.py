"""Prepare a data set ahead of training, show what it holds, or write it as shards, for training where it does not fit."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bcd.config.build import build
from bcd.data.cache import open_cache
from bcd.data.prepare import Prepared, summary
from bcd.data.shards.index import ShardIndex
from bcd.data.shards.writing import write_shards
from bcd.data.splits import check_split
from bcd.runs.assemble import prepare_data
from bcd.runs.preparing.audit import describe, read_findings, write_audit

log = logging.getLogger(__name__)


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


def shard_data(config: Mapping[str, Any]) -> ShardIndex:
    """Prepare a data set, check its split, and write it as shards; return their index.

    Raises:
        DataProblems: when anything is wrong with any case, and `on_error` is `stop`.
        SplitError: when the split does not fit the data.
        ValueError: when the folder holds something else.
    """
    prepared, data = prepare_data(config), config["data"]
    check_split(prepared.split, [case.case_id for case in prepared.cases], prepared.groups, data["allow_leak"])
    split = {
        "folds": int(prepared.split["fold"].nunique()),
        "by": data["split_by"],
        "seed": data["split_seed"] if data["split"] is None else None,
    }
    folder = Path(config["shards"]).expanduser().absolute()
    index = write_shards(prepared, folder, config["shard_mb"], split)
    size_mb = sum(stamp.bytes for stamp in index.shards.values()) / 1e6
    log.info("%d cases in %d shards of %.0f MB in all: %s", index.n_cases, len(index.shards), size_mb, folder)
    return index


def _short(path: Path) -> str:
    """Return a path relative to where the user stands, if it lies below."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
