"""The index of a sharded data set: which shards there are, and where in them each file lies.

Beside the shards lie `shards.json` (size and SHA-256 of each shard and table), the tables of the prepared data set as they were,
and `files.npy`: one row a file, sorted by the hash of its path, so that a file among millions is found without reading them all.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

# Raise it when shards are written in a way that an older reader would misread.
VERSION = 1
INDEX = "shards.json"
MANIFEST, GROUPS, COPIES, SPLIT, LOCATIONS = "manifest.csv", "groups.csv", "copies.csv", "split.csv", "files.npy"
TABLES = (MANIFEST, GROUPS, COPIES, SPLIT, LOCATIONS)

# The hash of the path, the row of the case in the manifest, and the bytes of the file in its shard, with their CRC-32.
LOCATION = np.dtype([("path", "<u8"), ("case", "<u4"), ("shard", "<u4"), ("offset", "<u8"), ("bytes", "<u8"), ("crc32", "<u4")])


class ShardError(ValueError):
    """Shards that cannot be used; the message names the shard, the case where there is one, and what to do."""


@dataclass(frozen=True)
class Stamp:
    """What a file must be.

    Args:
        bytes: its length.
        sha256: of its content, 64 hex digits.
    """

    bytes: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> "Stamp":
        """Return the stamp of a file."""
        with path.open("rb") as file:
            return cls(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


@dataclass(frozen=True)
class ShardIndex:
    """What `shards.json` says.

    Args:
        name: the data set's name.
        fingerprint: the data set's, as it was prepared.
        synthetic: whether the images are simulated.
        how_to_get: where others find the data.
        split: how the split beside the shards came about: `folds`, `by`, and `seed`, None where it came from a file.
        n_cases: cases in all.
        made_from: 16 hex digits that change with whatever decided what the shards hold.
        skipped: what is wrong with cases that were left out: case_id, file, reason, remedy.
        shards: file name -> stamp, in their order.
        tables: file name -> stamp.
    """

    name: str
    fingerprint: str
    synthetic: bool
    how_to_get: str
    split: Mapping[str, Any]
    n_cases: int
    made_from: str
    skipped: Sequence[Sequence[str]]
    shards: Mapping[str, Stamp]
    tables: Mapping[str, Stamp]

    def text(self) -> str:
        """Return it as `shards.json` holds it."""
        return json.dumps({"version": VERSION, **asdict(self)}, indent=2) + "\n"

    @classmethod
    def read(cls, text: str, where: str) -> "ShardIndex":
        """Return the index that `shards.json` holds.

        Args:
            text: the file's content.
            where: what to call it in an error.

        Raises:
            ShardError: for a damaged index, one of another version, or one that names files outside its folder.
        """
        try:
            content = json.loads(text)
            version = content.pop("version")
            for key in ("shards", "tables"):
                content[key] = {str(name): Stamp(**stamp) for name, stamp in content[key].items()}
            index = cls(**content)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            remedy = "copy it again, or write the shards anew with scripts/shard_data.py"
            raise ShardError(f"{where} is no index of shards, or damaged ({error}); {remedy}.") from error
        if version != VERSION:
            raise ShardError(f"{where} is of version {version}, this program reads {VERSION}; write the shards anew.")
        for name in (*index.shards, *index.tables):
            if len(PurePosixPath(name).parts) != 1 or name.startswith(".") or "\\" in name or ":" in name:
                remedy = "do not use these shards, get them from their source"
                raise ShardError(f"{where} names {name!r}, which is no plain file name; {remedy}.")
        missing = [name for name in TABLES if name not in index.tables]
        if missing:
            raise ShardError(f"{where} names no {missing[0]}; write the shards anew with scripts/shard_data.py.")
        return index


def path_hash(path: str) -> int:
    """Return the hash by which a file is found, from its path below the data folder, with forward slashes."""
    return int.from_bytes(hashlib.blake2b(path.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "little")


def path_hashes(paths: Iterable[str]) -> np.ndarray:
    """Return the hash of each path, uint64 (N,)."""
    return np.fromiter(map(path_hash, paths), np.uint64)


def find(locations: np.ndarray, paths: Sequence[str]) -> np.ndarray:
    """Return the row of each file in the sorted locations, int64 (N,); -1 where there is none."""
    hashes = path_hashes(paths)
    if not len(locations):
        return np.full(len(hashes), -1)
    rows = np.minimum(np.searchsorted(locations["path"], hashes), len(locations) - 1)
    return np.where(locations["path"][rows] == hashes, rows, -1)


def read_locations(path: Path, index: ShardIndex) -> np.ndarray:
    """Return `files.npy` as a memory map of LOCATION rows.

    Raises:
        ShardError: for anything else, or for rows that point outside the shards.
    """
    remedy = "copy it again, or write the shards anew with scripts/shard_data.py"
    try:
        locations = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ShardError(f"{path} cannot be read ({error}); {remedy}.") from error
    if locations.dtype != LOCATION or locations.ndim != 1:
        raise ShardError(f"{path} holds no locations of files; {remedy}.")
    if len(locations) and int(locations["shard"].max()) >= len(index.shards):
        raise ShardError(f"{path} points to a shard that {INDEX} does not name; {remedy}.")
    return locations
