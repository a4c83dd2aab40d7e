"""Writing a prepared data set as shards: tar files by the convention of WebDataset, and the index that finds each file in them.

A case is a run of members with one key, its row in the manifest: `000000007.json`, `000000007.image.png`, `000000007.mask.png`
and, where it has several masks, `000000007.mask1.png` and so on. Pictures are the bytes of the original files. The cases of one
fold lie together, so that what reads one part passes the shards of others over. The same data give the same bytes.
"""

import hashlib
import io
import json
import logging
import shutil
import tarfile
import zlib
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bcd.data.manifest import Case, read_manifest, read_sizes
from bcd.data.prepare import Prepared
from bcd.data.shards.index import COPIES, GROUPS, INDEX, LOCATION, LOCATIONS, MANIFEST, SPLIT, TABLES, ShardIndex, Stamp, path_hash
from bcd.data.splits import write_split
from bcd.files import build_folder, write_text
from bcd.images.decode import open_file

logger = logging.getLogger(__name__)

_MB = 1_000_000

# One row of LOCATION.
_Location = tuple[int, int, int, int, int, int]


def write_shards(prepared: Prepared, folder: Path, shard_mb: int, split: Mapping[str, Any]) -> ShardIndex:
    """Write a prepared data set as shards into a folder of its own, whole or not at all; return the index.

    A folder that holds the same data, split and size of shards is left as it is.

    Args:
        prepared: the data set; its split must name every case.
        folder: for the shards; it must be absent, empty, or hold shards.
        shard_mb: a shard is closed once it holds so many MB (10^6 bytes), from 1.
        split: how the split came about: `folds`, `by`, `seed`; for those who read the shards.

    Raises:
        ValueError: for a folder that holds something else.
        ImageError: for a file that cannot be read.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / INDEX).is_file():
        raise ValueError(f"shards={folder} holds something that is not shards; choose a folder of its own, or empty it.")
    tables = [(prepared.folder / name).read_bytes().hex() for name in (MANIFEST, GROUPS)]
    decisive = [prepared.fingerprint, str(shard_mb), prepared.split.to_csv(index=False), *tables]
    wanted = hashlib.sha256("\n".join(decisive).encode()).hexdigest()[:16]
    build_folder(folder, lambda aside: _build(prepared, aside, shard_mb, split, wanted), lambda built: _is_whole(built, wanted))
    return ShardIndex.read((folder / INDEX).read_text(encoding="utf-8"), str(folder / INDEX))


def _is_whole(folder: Path, wanted: str) -> bool:
    try:
        index = ShardIndex.read((folder / INDEX).read_text(encoding="utf-8"), INDEX)
        files = {**index.shards, **index.tables}
        return index.made_from == wanted and all((folder / name).stat().st_size == files[name].bytes for name in files)
    except (OSError, ValueError):
        return False


def _build(prepared: Prepared, folder: Path, shard_mb: int, split: Mapping[str, Any], wanted: str) -> None:
    sizes = read_sizes(prepared.folder / MANIFEST)
    # The same cases with their paths relative to the data folder.
    named = read_manifest(prepared.folder / MANIFEST, Path())
    fold_of_case = dict(zip(prepared.split["case_id"], prepared.split["fold"].astype(int), strict=True))
    folds = [fold_of_case[case.case_id] for case in named]
    rows = deque(sorted(range(len(named)), key=lambda row: folds[row]))
    shards: dict[str, Stamp] = {}
    locations: list[_Location] = []
    while rows:
        name, fold = f"shard-{len(shards):06d}.tar", folds[rows[0]]
        with tarfile.open(folder / name, "w", format=tarfile.USTAR_FORMAT) as tar:
            while rows and folds[rows[0]] == fold and tar.offset < shard_mb * _MB:
                row = rows.popleft()
                about = _about(named[row], sizes[named[row].case_id])
                locations += _add_case(tar, len(shards), row, prepared.cases[row], about)
                if len(rows) % 5000 == 0:
                    logger.info("Wrote %d of %d cases.", len(named) - len(rows), len(named))
        shards[name] = Stamp.of(folder / name)
    for name in (MANIFEST, GROUPS, COPIES):
        shutil.copyfile(prepared.folder / name, folder / name)
    method = f"as the data set had it when its shards were written, from {prepared.split_file.name}"
    write_split(
        prepared.split, folder / SPLIT, seed=split["seed"], fingerprint=prepared.fingerprint, method=method, name=prepared.name
    )
    np.save(folder / LOCATIONS, _sorted_locations(locations))
    index = ShardIndex(
        name=prepared.name,
        fingerprint=prepared.fingerprint,
        synthetic=prepared.synthetic,
        how_to_get=prepared.how_to_get,
        split=dict(split),
        n_cases=len(named),
        made_from=wanted,
        skipped=[[str(entry) for entry in problem] for problem in prepared.skipped],
        shards=shards,
        tables={name: Stamp.of(folder / name) for name in TABLES},
    )
    write_text(folder / INDEX, index.text())


def _about(named: Case, size: tuple[int, int]) -> dict[str, Any]:
    return {
        "case_id": named.case_id,
        "image": named.image.as_posix(),
        "masks": [mask.as_posix() for mask in named.masks],
        "label": named.label,
        "patient": named.patient,
        "height": size[0],
        "width": size[1],
        "metadata": dict(named.metadata),
    }


def _add_case(tar: tarfile.TarFile, shard: int, row: int, case: Case, about: Mapping[str, Any]) -> Iterator[_Location]:
    """Write a case into a shard; yield where each of its files lies."""

    def add(ending: str, content: bytes) -> int:
        info = tarfile.TarInfo(f"{row:09d}.{ending}")
        info.size, info.mode = len(content), 0o644
        tar.addfile(info, io.BytesIO(content))
        return tar.offset - -(-len(content) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE  # where the content begins

    add("json", json.dumps(about, ensure_ascii=False).encode("utf-8", "surrogateescape"))
    kinds = ["image", *(f"mask{number or ''}" for number in range(len(case.masks)))]
    for kind, file, name in zip(kinds, (case.image, *case.masks), (about["image"], *about["masks"]), strict=True):
        with open_file(file) as opened:
            content = opened.read()
        offset = add(f"{kind}{file.suffix.lower()}", content)
        yield path_hash(name), row, shard, offset, len(content), zlib.crc32(content)


def _sorted_locations(locations: list[_Location]) -> np.ndarray:
    """Return the location of every file, sorted by the hash of its path.

    Raises:
        ValueError: when two files have the same hash.
    """
    table = np.array(locations, LOCATION)
    table = table[np.argsort(table["path"], kind="stable")]
    again = np.flatnonzero(table["path"][1:] == table["path"][:-1])
    # One file may serve several cases; any of its copies will do.
    differ = table["crc32"][again] != table["crc32"][again + 1]
    if differ.any():
        cases = table["case"][[again[differ][0], again[differ][0] + 1]].tolist()
        raise ValueError(f"The files of the cases in rows {cases} of {MANIFEST} have paths of one hash; rename one of them.")
    return np.delete(table, again + 1)
