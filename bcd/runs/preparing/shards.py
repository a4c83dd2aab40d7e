"""Write a prepared data set as shards, for training where it does not fit."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bcd.data.shards.index import ShardIndex
from bcd.data.shards.writing import write_shards
from bcd.data.splits import check_split
from bcd.runs.assemble import prepare_data

log = logging.getLogger(__name__)


def shard_data(config: Mapping[str, Any]) -> ShardIndex:
    """Prepare a data set, check its split, and write it as shards; return their index.

    Args:
        config: resolved, plain, as `conf/shard_data.yaml` composes it.

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
