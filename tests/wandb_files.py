"""Reads what Weights & Biases keeps offline: a log of records in blocks of 32 KiB, as LevelDB writes one."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

_BLOCK, _FILE_HEADER, _HEADER = 32768, 7, 7
_WHOLE, _END = 1, 4


def records(path: Path) -> Iterator[Any]:
    """Yield the records of one offline run."""
    content, place, record = path.read_bytes(), _FILE_HEADER, b""
    while place + _HEADER <= len(content):
        left = _BLOCK - place % _BLOCK
        if left < _HEADER:
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, place)
        record += content[place + _HEADER : place + _HEADER + length]
        place += _HEADER + length
        if kind in (_WHOLE, _END):
            yield Record.FromString(record)
            record = b""


def of_run(folder: Path) -> list[Any]:
    """Return the records of all parts of a run, in the order in which they began."""
    paths = sorted((folder / "wandb").glob("offline-run-*/run-*.wandb"))
    return [record for path in paths for record in records(path)]


def points(folder: Path) -> list[tuple[str, int, Any]]:
    """Return all that was logged, as (name, step, value); of pictures and pages the entry `_type`."""
    found = []
    for record in of_run(folder):
        if record.WhichOneof("record_type") == "history":
            for item in record.history.item:
                name = item.key or "/".join(item.nested_key)
                found.append((name.removesuffix("/_type"), record.history.step.num, json.loads(item.value_json)))
    return found
