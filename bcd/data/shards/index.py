"""The index of a sharded data set: which shards there are, and where in them each file lies.

Beside the shards lie `shards.json` (size and SHA-256 of each shard and table), the tables of the prepared data set as they were,
and `files.npy`: one row per file, sorted by the hash of its path, so that a file among millions is found without reading them all.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from bcd.config.errors import sentence

# Raise it when shards are written in a way that an older reader would misread.
VERSION = 1
INDEX = "shards.json"
MANIFEST, GROUPS, COPIES, SPLIT, LOCATIONS = "manifest.csv", "groups.csv", "copies.csv", "split.csv", "files.npy"
TABLES = (MANIFEST, GROUPS, COPIES, SPLIT, LOCATIONS)

# The hash of the path, the row of the case in the manifest, and the bytes of the file in its shard, with their CRC-32.
LOCATION = np.dtype([("path", "<u8"), ("case", "<u4"), ("shard", "<u4"), ("offset", "<u8"), ("bytes", "<u8"), ("crc32", "<u4")])


class ShardError(ValueError):
    """Shards that cannot be used; the message names the shard, the case where there is one, and what to do."""


class Stamp(BaseModel):
    """What a file must be: its length in bytes, and the SHA-256 of its content, 64 hex digits."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bytes: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> "Stamp":
        """Return the stamp of a file."""
        with path.open("rb") as file:
            return cls(bytes=path.stat().st_size, sha256=hashlib.file_digest(file, "sha256").hexdigest())


class ShardIndex(BaseModel):
    """What `shards.json` says.

    Args:
        name: the data set's name.
        fingerprint: the data set's, as it was prepared.
        synthetic: whether the images are simulated.
        how_to_get: where others find the data.
        split: how the split beside the shards came about: `folds`, `by`, and `seed`, None where it came from a file.
        n_cases: cases in all.
        made_from: 16 hex digits that change with everything that determines the content of the shards.
        skipped: what is wrong with cases that were left out: case_id, file, reason, remedy.
        shards: file name -> stamp, in their order.
        tables: file name -> stamp.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = VERSION
    name: str
    fingerprint: str
    synthetic: bool
    how_to_get: str
    split: dict[str, Any]
    n_cases: int
    made_from: str
    skipped: list[list[str]]
    shards: dict[str, Stamp]
    tables: dict[str, Stamp]

    def text(self) -> str:
        """Return it as `shards.json` holds it."""
        return self.model_dump_json(indent=2) + "\n"

    @classmethod
    def read(cls, text: str, where: str) -> "ShardIndex":
        """Return the index that the text of `shards.json` holds; errors call the file `where`.

        Raises:
            ShardError: for a damaged index, one of another version, or one that names files outside its folder.
        """
        try:
            index = cls.model_validate_json(text)
        except ValidationError as error:
            remedy = "copy it again, or write the shards again with scripts/shard_data.py"
            raise ShardError(f"{where} is no index of shards, or damaged ({sentence(error)}); {remedy}.") from error
        if index.version != VERSION:
            raise ShardError(f"{where} is of version {index.version}, this program reads {VERSION}; write the shards again.")
        for name in (*index.shards, *index.tables):
            if len(PurePosixPath(name).parts) != 1 or name.startswith(".") or "\\" in name or ":" in name:
                remedy = "do not use these shards, get them from their source"
                raise ShardError(f"{where} names {name!r}, which is no plain file name; {remedy}.")
        missing = [name for name in TABLES if name not in index.tables]
        if missing:
            raise ShardError(f"{where} names no {missing[0]}; write the shards again with scripts/shard_data.py.")
        return index


def path_hash(path: str) -> int:
    """Return the hash by which a file is found, from its path below the data folder, with forward slashes."""
    return int.from_bytes(hashlib.blake2b(path.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "little")


def find(locations: np.ndarray, paths: Sequence[str]) -> np.ndarray:
    """Return the row of each file in the sorted locations, int64 (N,); -1 where there is none."""
    hashes = np.fromiter(map(path_hash, paths), np.uint64)
    if not len(locations):
        return np.full(len(hashes), -1)
    rows = np.minimum(np.searchsorted(locations["path"], hashes), len(locations) - 1)
    return np.where(locations["path"][rows] == hashes, rows, -1)


def read_locations(path: Path, index: ShardIndex) -> np.ndarray:
    """Return `files.npy` as a memory map of LOCATION rows.

    Raises:
        ShardError: for anything else, or for rows that point outside the shards.
    """
    remedy = "copy it again, or write the shards again with scripts/shard_data.py"
    try:
        locations = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ShardError(f"{path} cannot be read ({error}); {remedy}.") from error
    if locations.dtype != LOCATION or locations.ndim != 1:
        raise ShardError(f"{path} holds no locations of files; {remedy}.")
    if len(locations) and int(locations["shard"].max()) >= len(index.shards):
        raise ShardError(f"{path} points to a shard that {INDEX} does not name; {remedy}.")
    return locations
