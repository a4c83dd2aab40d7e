"""The cache: every image and mask decoded and fitted once, then read from a memory map."""

import csv
import io
import json
import logging
import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

from bcd.data.manifest import Case, read_case
from bcd.data.parallel import in_threads
from bcd.files import build_folder, write_text
from bcd.images.decode import MAX_PIXELS
from bcd.preprocess import Preprocess

logger = logging.getLogger(__name__)

# Raise it when what the arrays hold changes: reading of files, fitting, layout.
VERSION = 2

# Case, image uint8 (H, W) and lesion mask uint8 (H, W) in {0, 1} in; another image of the same size out.
Alteration = Callable[[Case, np.ndarray, np.ndarray], np.ndarray]

_THREADS = 4
_CHUNK = 1 << 22
_ARRAYS = ("images.npy", "masks.npy")


@dataclass(frozen=True)
class Cache:
    """Fitted images and masks of a data set; rows are found through `index`.

    Args:
        images: uint8 (N, S, S) memory map.
        masks: uint8 (N, S, S) memory map in {0, 1}.
        native_sizes: int64 (N, 2), height and width in pixels of the original image.
        index: row by case id.
    """

    images: np.ndarray
    masks: np.ndarray
    native_sizes: np.ndarray
    index: dict[str, int]

    def read(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the image, uint8 (S, S), and the mask, uint8 (S, S) in {0, 1}, of a row."""
        return np.array(self.images[row]), np.array(self.masks[row])


class Stream:
    """Images and masks that are decoded and fitted whenever they are asked for: nothing is kept, on the disk or in memory.

    Native sizes are int64 (N, 2), height and width in pixels of each case's image.
    """

    def __init__(self, cases: Sequence[Case], preprocess: Preprocess, native_sizes: np.ndarray, max_pixels: int) -> None:
        self.cases = cases
        self.preprocess = preprocess
        self.native_sizes = native_sizes
        self.max_pixels = max_pixels
        self.index = {case.case_id: row for row, case in enumerate(cases)}

    def read(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the image, uint8 (S, S), and the mask, uint8 (S, S) in {0, 1}, of a row.

        Raises:
            ImageError: for a file that cannot be read.
            ShardError: for a shard that is missing or damaged.
        """
        image, mask = read_case(self.cases[row], self.max_pixels)
        return self.preprocess.fit_image(image), self.preprocess.fit_mask(mask)


Fitted = Cache | Stream


def open_cache(cases: Sequence[Case], preprocess: Preprocess, folder: Path, max_pixels: int = MAX_PIXELS) -> Cache:
    """Return the cache `<folder>/cache-<preprocess.key()>`, built first where it is absent, damaged, or of other cases.

    Two runs may build it at once, and either may be killed: see `build_folder`. Whether its arrays are still what was written is
    checked byte by byte; whether the source files are still those is not: `folder`, of the prepared data set, carries the data's
    fingerprint in its name.

    Raises:
        ImageError: for a file that cannot be read.
    """
    ordered = sorted(cases, key=lambda case: case.case_id)
    case_ids = [case.case_id for case in ordered]
    path = folder / f"cache-{preprocess.key()}"
    build_folder(
        path,
        build=lambda aside: _build(ordered, preprocess, aside, max_pixels),
        is_whole=lambda candidate: _is_whole(candidate, case_ids, preprocess.size),
    )
    index, native_sizes = _read_index(path)
    images, masks = (np.load(path / name, mmap_mode="r") for name in _ARRAYS)
    return Cache(images, masks, native_sizes, index)


def altered_cache(cases: Sequence[Case], preprocess: Preprocess, alter: Alteration, max_pixels: int = MAX_PIXELS) -> Cache:
    """Return a cache in memory, of images that `alter` changed at their native size and their masks as they are.

    Raises:
        ValueError: for an alteration that changes the size of an image.
    """
    images, masks = (np.zeros((len(cases), preprocess.size, preprocess.size), np.uint8) for _ in range(2))

    def fit(row: int) -> tuple[int, ...]:
        image, mask = read_case(cases[row], max_pixels)
        altered = alter(cases[row], image, mask)
        if altered.shape != image.shape:
            raise ValueError(f"{cases[row].case_id}: the altered image is {altered.shape}, the image {image.shape}; keep its size.")
        images[row], masks[row] = preprocess.fit_image(altered), preprocess.fit_mask(mask)
        return image.shape

    sizes = np.array(list(in_threads(fit, range(len(cases)), _THREADS)), dtype=np.int64).reshape(-1, 2)
    return Cache(images, masks, sizes, {case.case_id: row for row, case in enumerate(cases)})


def _build(cases: Sequence[Case], preprocess: Preprocess, folder: Path, max_pixels: int) -> None:
    shape = (len(cases), preprocess.size, preprocess.size)
    logger.info("Decoding %d cases to %d x %d pixels, once.", *shape)
    images, masks = (_allocate(folder / name, shape) for name in _ARRAYS)

    def fit(row: int) -> tuple[int, ...]:
        image, mask = read_case(cases[row], max_pixels)
        images[row], masks[row] = preprocess.fit_image(image), preprocess.fit_mask(mask)
        return image.shape

    sizes = []
    for size in in_threads(fit, range(len(cases)), _THREADS):
        sizes.append(size)
        if len(sizes) % 500 == 0:
            logger.info("Decoded %d of %d cases.", len(sizes), len(cases))
    images.flush()
    masks.flush()
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case_id", "height", "width"])
    writer.writerows([case.case_id, *size] for case, size in zip(cases, sizes, strict=True))
    write_text(folder / "index.csv", text.getvalue())
    done = {"version": VERSION, "shape": list(shape), **_checksums(folder)}
    write_text(folder / "done.json", json.dumps(done, indent=2))


def _allocate(path: Path, shape: tuple[int, ...]) -> np.memmap:
    """Return a memory map whose space the disk has granted: on a full one, writing to a map would end the process."""
    array = open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def _read_index(folder: Path) -> tuple[dict[str, int], np.ndarray]:
    with (folder / "index.csv").open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = list(csv.DictReader(file))
    sizes = np.array([(int(row["height"]), int(row["width"])) for row in rows], dtype=np.int64)
    return {row["case_id"]: number for number, row in enumerate(rows)}, sizes.reshape(-1, 2)


def _is_whole(folder: Path, case_ids: Sequence[str], size: int) -> bool:
    """Return whether a folder holds a finished cache of these cases: marker, checked index, arrays of full length."""
    shape = [len(case_ids), size, size]
    try:
        done = json.loads((folder / "done.json").read_text())
        if done["version"] != VERSION or done["shape"] != shape:
            return False
        # np.load refuses a memory map on a file that is shorter than its header says.
        arrays = [np.load(folder / name, mmap_mode="r") for name in _ARRAYS]
        whole = all(list(array.shape) == shape and array.dtype == np.uint8 for array in arrays)
        whole = whole and done == {"version": VERSION, "shape": shape, **_checksums(folder)}
        return whole and list(_read_index(folder)[0]) == list(case_ids)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _checksums(folder: Path) -> dict[str, int]:
    """Return the CRC-32 of each file: against decay, not against malice, at the speed of the disk."""
    values = {}
    for name in ("index.csv", *_ARRAYS):
        values[name] = 0
        with (folder / name).open("rb") as file:
            while chunk := file.read(_CHUNK):
                values[name] = zlib.crc32(chunk, values[name])
    return values
