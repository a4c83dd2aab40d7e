"""Reading single files out of shards that lie in a folder, or that are fetched from a URL as they are needed.

A case of a sharded data set has paths such as `<prepared>/files/benign/a.png`, which are in no file system: `open_file` finds
the store in the folder above `files`, and the store the bytes in a shard. So everything that reads images reads shards as well.
A shard is held against its SHA-256 before its first use, each file against its CRC-32.
"""

import json
import logging
import os
import threading
import weakref
from collections import OrderedDict
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from filelock import FileLock

from bcd.data.shards.fetching import fetch, is_url, locate
from bcd.data.shards.index import (
    INDEX,
    LOCATIONS,
    MANIFEST,
    ShardError,
    ShardIndex,
    Stamp,
    checksum,
    find,
    path_hashes,
    read_locations,
)
from bcd.files import write_text

logger = logging.getLogger(__name__)

FILES = "files"
ORIGIN = "origin.json"
_SPOOL, _CHECKED = "spool", "checked"
_OPEN_AT_ONCE = 32


def open_inside(path: Path) -> BinaryIO | None:
    """Return a file of a sharded data set, opened; None where the path is none of such a set.

    Raises:
        ShardError: when the shard, or the file in it, is missing or damaged.
    """
    for parent in path.parents:
        if parent.name == FILES and (parent.parent / ORIGIN).is_file():
            return BytesIO(store_in(parent.parent).read(path.relative_to(parent).as_posix()))
    return None


@lru_cache(maxsize=8)
def store_in(folder: Path) -> "ShardStore":
    """Return the store of a folder, the same one for every file."""
    return ShardStore(folder)


def link(folder: Path, root: str, spool_shards: int) -> None:
    """Say in a folder where its shards lie, and how many of them may lie there once they are fetched."""
    text = json.dumps({"root": root, "spool_shards": spool_shards}, indent=2)
    origin = folder / ORIGIN
    if not origin.is_file() or origin.read_text(encoding="utf-8") != text:
        write_text(origin, text)
    store_in.cache_clear()


class ShardStore:
    """The shards of one data set.

    Args:
        folder: holds the index, its tables and `origin.json`; fetched shards lie in `spool/` below.

    Raises:
        ShardError: when index or tables cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.index = ShardIndex.read((folder / INDEX).read_text(encoding="utf-8"), str(folder / INDEX))
        self.locations = read_locations(folder / LOCATIONS, self.index)
        origin = json.loads((folder / ORIGIN).read_text(encoding="utf-8"))
        self.root, self.spool_shards = str(origin["root"]), int(origin["spool_shards"])
        self._names = list(self.index.shards)
        self._stamps = list(self.index.shards.values())
        self._open: OrderedDict[int, int] = OrderedDict()
        self._lock = threading.Lock()
        weakref.finalize(self, _close_all, self._open)

    def shards_of(self, names: list[str]) -> np.ndarray:
        """Return the number of the shard that holds each file, int64 (N,), -1 where none does."""
        rows = find(self.locations, path_hashes(names))
        return np.where(rows < 0, -1, self.locations["shard"][np.maximum(rows, 0)].astype(np.int64))

    def read(self, name: str) -> bytes:
        """Return a file's content.

        Args:
            name: its path below the data folder, with forward slashes.

        Raises:
            ShardError: when the shard, or the file in it, is missing or damaged.
        """
        row = int(find(self.locations, path_hashes([name]))[0])
        if row < 0:
            raise ShardError(f"{name} is in no shard of {self.root}; write the shards anew with scripts/shard_data.py.")
        where = self.locations[row]
        number = int(where["shard"])
        with self._lock:  # the file may be closed to make room for another
            content = os.pread(self._opened(number), int(where["bytes"]), int(where["offset"]))
        if len(content) != where["bytes"] or checksum(content) != where["crc32"]:
            raise ShardError(
                f"{self._place(number)}: {name} of case {self._case(int(where['case']))} is damaged there; copy the shard again."
            )
        return content

    def _opened(self, number: int) -> int:
        """Return the descriptor of a shard's file."""
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number]
        file = self._fetched(number) if is_url(self.root) else self._local(number)
        self._open[number] = file
        while len(self._open) > _OPEN_AT_ONCE:
            os.close(self._open.popitem(last=False)[1])
        return file

    def _local(self, number: int) -> int:
        """Return a shard of a folder, opened; checked if it has not been since it was last changed."""
        path, stamp = Path(self._place(number)), self._stamps[number]
        try:
            status = path.stat()
            mark = json.dumps([str(path), status.st_size, status.st_mtime_ns, stamp.sha256])
            checked = self.folder / _CHECKED / f"{self._names[number]}.json"
            if not checked.is_file() or checked.read_text(encoding="utf-8") != mark:
                _refuse_other(path, Stamp.of(path) if status.st_size == stamp.bytes else Stamp(status.st_size, ""), stamp)
                write_text(checked, mark)
            return os.open(path, os.O_RDONLY)
        except OSError as error:
            raise ShardError(f"{path} cannot be read ({error.strerror}); copy the shard there again.") from error

    def _fetched(self, number: int) -> int:
        """Return a shard from the spool, opened; fetched first where it is not there (any more)."""
        path = self.folder / _SPOOL / self._names[number]
        path.parent.mkdir(exist_ok=True)
        with FileLock(path.with_suffix(".lock")):  # of several processes one fetches
            if not path.is_file():
                logger.debug("Fetching %s.", self._place(number))
                fetch(self.root, self._names[number], path, self._stamps[number])
            descriptor = os.open(path, os.O_RDONLY)  # whoever makes room meanwhile takes the name away, not the file
            os.utime(descriptor)
        self._make_room()
        return descriptor

    def _make_room(self) -> None:
        """Take away the shards that were opened longest ago."""
        times = {}
        for path in (self.folder / _SPOOL).glob("*.tar"):
            try:
                times[path] = path.stat().st_mtime_ns
            except FileNotFoundError:
                continue  # another process made room
        for path in sorted(times, key=lambda one: times[one])[: -self.spool_shards]:
            path.unlink(missing_ok=True)

    def _place(self, number: int) -> str:
        return locate(self.root, self._names[number])

    def _case(self, row: int) -> str:
        from bcd.data.manifest import read_manifest  # manifest reads files through us

        cases = read_manifest(self.folder / MANIFEST, Path())
        return cases[row].case_id if row < len(cases) else f"in row {row}"


def _refuse_other(path: Path, found: Stamp, wanted: Stamp) -> None:
    if found.bytes != wanted.bytes:
        how = "it was cut short" if found.bytes < wanted.bytes else "it is another file"
        raise ShardError(f"{path} has {found.bytes} bytes, its index says {wanted.bytes}: {how}; copy the shard again.")
    if found.sha256 != wanted.sha256:
        raise ShardError(
            f"{path} is not what its index says (SHA-256 {found.sha256[:12]}, not {wanted.sha256[:12]}); copy it again."
        )


def _close_all(opened: OrderedDict[int, int]) -> None:
    for descriptor in opened.values():
        os.close(descriptor)
    opened.clear()
