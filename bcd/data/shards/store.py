"""Reading single files out of shards that lie in a folder, or that are fetched from a URL as they are needed.

Each file is held against its CRC-32 whenever it is read; a shard against its length when it is opened, and against its SHA-256
when it was fetched.
"""

import json
import logging
import os
import threading
import weakref
import zlib
from collections import OrderedDict
from functools import lru_cache
from io import BytesIO
from pathlib import Path, PosixPath
from typing import Any

import numpy as np
from filelock import FileLock

from bcd.data.manifest import read_manifest
from bcd.data.shards.fetching import fetch, is_url, locate
from bcd.data.shards.index import INDEX, LOCATIONS, MANIFEST, ShardError, ShardIndex, find, read_locations
from bcd.files import write_text

logger = logging.getLogger(__name__)

FILES = "files"
ORIGIN = "origin.json"
_SPOOL = "spool"
_OPEN_AT_ONCE = 32


class ShardPath(PosixPath):
    """The path of a file in a shard, such as `<prepared>/files/benign/a.png`, which no file system has.

    Opening it reads the shard; the store is that of the folder above `files`. A path carries nothing but its name, so it can be
    sent to other processes, and paths below it are of its kind.
    """

    def is_file(self) -> bool:
        """Return True: it is read like one."""
        return True

    def open(self, *_: Any, **__: Any) -> BytesIO:  # type: ignore[override]
        """Return the file's content, opened for reading in binary.

        Raises:
            FileNotFoundError: where the folder holds no index of shards.
            ShardError: when the shard, or the file in it, is missing or damaged.
        """
        path = Path(self)
        for parent in path.parents:
            if parent.name == FILES and (parent.parent / ORIGIN).is_file():
                return BytesIO(store_in(parent.parent).read(path.relative_to(parent).as_posix()))
        raise FileNotFoundError(2, "its index of shards is gone", str(path))


@lru_cache(maxsize=4)
def store_in(folder: Path) -> "ShardStore":
    """Return the store of a folder, the same one for every file."""
    return ShardStore(folder)


def link(folder: Path, root: str, spool_shards: int) -> None:
    """Write into a folder where its shards are, and how many fetched ones it may hold."""
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
        self._shards = list(self.index.shards.items())
        self._descriptors: OrderedDict[int, int] = OrderedDict()
        self._lock = threading.Lock()
        weakref.finalize(self, _close_all, self._descriptors)

    def shards_of(self, names: list[str]) -> np.ndarray:
        """Return the number of the shard that holds each file, int64 (N,), -1 where none does."""
        rows = find(self.locations, names)
        return np.where(rows < 0, -1, self.locations["shard"][np.maximum(rows, 0)].astype(np.int64))

    def read(self, name: str) -> bytes:
        """Return the content of a file, by its path below the data folder, with forward slashes.

        Raises:
            ShardError: when the shard, or the file in it, is missing or damaged.
        """
        row = int(find(self.locations, [name])[0])
        if row < 0:
            raise ShardError(f"{name} is in no shard of {self.root}; write the shards again with scripts/shard_data.py.")
        location = self.locations[row]
        number = int(location["shard"])
        with self._lock:  # the shard may be closed to make room for another
            content = os.pread(self._descriptor(number), int(location["bytes"]), int(location["offset"]))
        if len(content) != location["bytes"] or zlib.crc32(content) != location["crc32"]:
            case = read_manifest(self.folder / MANIFEST, Path())[int(location["case"])].case_id
            shard = locate(self.root, self._shards[number][0])
            raise ShardError(f"{shard}: {name} of case {case} is damaged there; copy the shard again.")
        return content

    def _descriptor(self, number: int) -> int:
        """Return the descriptor of a shard's file."""
        if number in self._descriptors:
            self._descriptors.move_to_end(number)
            return self._descriptors[number]
        descriptor = self._fetched(number) if is_url(self.root) else self._local(number)
        self._descriptors[number] = descriptor
        while len(self._descriptors) > _OPEN_AT_ONCE:
            os.close(self._descriptors.popitem(last=False)[1])
        return descriptor

    def _local(self, number: int) -> int:
        """Return a shard of a folder, opened."""
        name, stamp = self._shards[number]
        path = Path(locate(self.root, name))
        try:
            length = path.stat().st_size
            if length == stamp.bytes:
                return os.open(path, os.O_RDONLY)
        except OSError as error:
            raise ShardError(f"{path} cannot be read ({error.strerror}); copy the shard there again.") from error
        reason = "it was cut short" if length < stamp.bytes else "it is another file"
        raise ShardError(f"{path} has {length} bytes, its index says {stamp.bytes}: {reason}; copy the shard again.")

    def _fetched(self, number: int) -> int:
        """Return a shard from the spool, opened; fetched first where it is not there (any more)."""
        name, stamp = self._shards[number]
        path = self.folder / _SPOOL / name
        path.parent.mkdir(exist_ok=True)
        with FileLock(path.with_suffix(".lock")):  # of several processes one fetches
            if not path.is_file():
                logger.debug("Fetching %s.", name)
                fetch(self.root, name, path, stamp)
            descriptor = os.open(path, os.O_RDONLY)  # a process that makes room meanwhile removes the name, not the open file
            os.utime(descriptor)
        self._make_room()
        return descriptor

    def _make_room(self) -> None:
        """Delete the least recently used shards."""
        times = {}
        for path in (self.folder / _SPOOL).glob("*.tar"):
            try:
                times[path] = path.stat().st_mtime_ns
            except FileNotFoundError:
                continue  # another process made room
        for path in sorted(times, key=lambda one: times[one])[: -self.spool_shards]:
            path.unlink(missing_ok=True)


def _close_all(descriptors: OrderedDict[int, int]) -> None:
    while descriptors:
        os.close(descriptors.popitem()[1])
