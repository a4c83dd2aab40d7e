"""What Weights & Biases has on disk of an offline run: a log of records in blocks of 32 KiB, as LevelDB writes one.

Its file is behind by some seconds, and a kill loses them. So what was logged is read from there, and not remembered elsewhere.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_BLOCK, _FILE_HEADER, _HEADER = 32768, 7, 7
# Of a piece: the whole record, or its last part.
_WHOLE, _END = 1, 4


def offline_parts(folder: Path) -> list[Path]:
    """Return the files of a run's parts, one for each time that it was started, in that order."""
    return sorted((folder / "wandb").glob("offline-run-*/run-*.wandb"))


def offline_records(path: Path) -> Iterator[Any]:
    """Yield the records of a file, up to where a kill has cut it off."""
    from google.protobuf.message import DecodeError
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]  # made by protobuf

    content, place, record = path.read_bytes(), _FILE_HEADER, b""
    while place + _HEADER <= len(content):
        left = _BLOCK - place % _BLOCK
        if left < _HEADER:  # too little for another piece
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, place)
        piece = content[place + _HEADER : place + _HEADER + length]
        if len(piece) < length:
            return
        record += piece
        place += _HEADER + length
        if kind in (_WHOLE, _END):
            try:
                yield Record.FromString(record)
            except DecodeError:
                return
            record = b""


def logged_offline(folder: Path) -> set[tuple[str, int]]:
    """Return the name and step of everything that a run has on disk."""
    records = [record for path in offline_parts(folder) for record in offline_records(path)]
    return {
        (item.key or item.nested_key[0], record.history.step.num)
        for record in records
        if record.WhichOneof("record_type") == "history"
        for item in record.history.item
    }
