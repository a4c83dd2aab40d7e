"""Near neighbours among hashes, in Hamming distance: by comparing all, or by hash tables where that would take too long.

Tables: bit sampling (Indyk and Motwani, Approximate Nearest Neighbors, STOC 1998, doi:10.1145/276698.276876). A table files each
image's whole under a random choice of its bits; every window then meets the wholes that agree with it in all of these, and only
those are compared. Near hashes agree in some of the tables, and chance agreements are few, so time and memory grow with the
number of images. Crowds (blank frames, one picture a thousand times) are chained instead of compared each with each.
"""

import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from math import comb, log, log1p

import numpy as np
from numpy.typing import NDArray

# Pairs that an image keeps, and from which on it is looked up no more.
PARTNERS = 64
# In a slot with more than CROWD wholes a window is compared with the NEIGHBOURS around it in the order of the images alone.
CROWD = 256
NEIGHBOURS = 32
# From SETTLED tables on, an image that this many earlier ones resemble within a quarter of the radius is left to those.
SETTLED = 16
TWINS = 4
CHECKS_AT_ONCE = 1 << 20
WINDOWS_AT_ONCE = 1 << 16

# A pair in one number: its number, distance (8 bits), window (5), which of the two is the owner of the window, mirrored.
_DISTANCE, _WINDOW, _OWNER = 7, 2, 1
_PAIR = 15

logger = logging.getLogger(__name__)

Hashes = NDArray[np.uint64]
Numbers = NDArray[np.int64]
Marks = NDArray[np.bool_]


@dataclass(frozen=True)
class Candidates:
    """Pairs of images with a near hash: `first` trimmed to the window resembles the whole of `second`.

    Args:
        first: int64 (P,), index of an image.
        second: int64 (P,), index of another image; each unordered pair occurs once, at its smallest distance.
        window: int64 (P,), index of the window.
        distance: int64 (P,), bits that differ.
        mirrored: bool (P,), whether it is the mirrored second that the first resembles.
    """

    first: Numbers
    second: Numbers
    window: Numbers
    distance: Numbers
    mirrored: Marks

    @classmethod
    def none(cls) -> "Candidates":
        """Return no pairs."""
        return _unpack(np.empty(0, np.int64), 1)

    def take(self, chosen: NDArray[np.generic]) -> "Candidates":
        """Return some of the pairs, by mask or index."""
        return Candidates(*(getattr(self, name)[chosen] for name in ("first", "second", "window", "distance", "mirrored")))


def compare_all(hashes: Hashes, radius: int, mirror: Hashes | None = None) -> Candidates:
    """Return every pair within the radius, having compared each whole with each window; arguments as for `look_up`."""
    n_images, n_windows = hashes.shape[:2]
    queries, entries = _queries(hashes, mirror), _words(hashes).reshape(hashes.shape[2], -1)
    n_queries = queries.shape[1]
    packed, fresh = np.empty(0, np.int64), [np.empty(0, np.int64)]
    for block in np.array_split(np.arange(n_queries), max(1, n_queries * entries.shape[1] // CHECKS_AT_ONCE)):
        distance = _distance(queries[:, block, None], entries[:, None])
        rows, columns = np.nonzero(distance <= radius)
        sides = n_queries // n_images
        fresh.append(_merge([_pack(block[rows], columns, distance[rows, columns], n_images, n_windows, sides)]))
        if sum(map(len, fresh)) > 4 * CHECKS_AT_ONCE:
            packed, fresh = _thin(_merge([packed, *fresh]), n_images), []
    return _unpack(_thin(_merge([packed, *fresh]), n_images), n_images)


def look_up(hashes: Hashes, radius: int, mirror: Hashes | None = None) -> Candidates:
    """Return pairs within the radius, in bits, that meet in a hash table, far from all pairs having been compared.

    Hashes are uint64 (N, W, K), an array or a memory map; `mirror` has the bits that change in a mirrored image, uint64 (K,).
    """
    n_images = len(hashes)
    words, queries = _words(hashes), _queries(hashes, mirror)
    n_tables, n_sampled = plan_tables(words[0].size, queries.shape[1], radius, 64 * len(words))
    logger.info("Looking up %d hashes in %d tables of %d bits, radius %d.", words[0].size, n_tables, n_sampled, radius)
    rng = np.random.default_rng(0)
    tables = [_Table.draw(rng, n_sampled, *queries.shape) for _ in range(n_tables)]
    packed, active = np.empty(0, np.int64), np.ones(n_images, bool)
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        done = 0
        while done < n_tables and active.any():
            # Rounds, so that the result does not depend on which thread is done first.
            some = tables[done : done + max(2, min(8, done))]
            done += len(some)
            hits = pool.map(_look_up_in, some, repeat(words), repeat(queries), repeat(active.copy()), repeat(radius))
            packed = _merge([packed, *hits])
            active = ~_retired(packed, n_images, radius, done)
    if not active.all():
        logger.info("%d of %d images have many similar ones and were not searched completely.", (~active).sum(), n_images)
    return _unpack(_thin(packed, n_images), n_images)


def plan_tables(n_entries: int, n_queries: int, radius: int, n_bits: int) -> tuple[int, int]:
    """Return (tables, sampled bits) of the cheapest plan.

    Pairs within two thirds of the radius are missed with a probability of 0.01. Where there are few windows, further tables cost
    little: then pairs at the radius itself are missed with a probability of 0.001, as far as 2**28 look-ups allow.
    """

    def count(n_sampled: int, distance: int, miss: float) -> int:
        agree = comb(n_bits - distance, n_sampled) / comb(n_bits, n_sampled)
        return max(1, round(log(miss) / log1p(-agree))) if agree < 1 else 1

    def cost(n_sampled: int) -> float:
        # Real bits are not independent: in skewed slots some four times as many meet.
        return count(n_sampled, 2 * radius // 3, 0.01) * n_entries * (1.0 + 2.0 * n_queries / 2**n_sampled)

    n_sampled = min(range(8, 33), key=cost)
    least, most = count(n_sampled, 2 * radius // 3, 0.01), count(n_sampled, radius, 0.001)
    return int(np.clip(2**28 // n_entries, least, max(least, most))), n_sampled


@dataclass(frozen=True)
class _Table:
    """A choice of bits, and the slot that they lead to: multiply-shift hashing of the masked words."""

    mask: Hashes
    factor: Hashes
    shift: np.uint64

    @classmethod
    def draw(cls, rng: np.random.Generator, n_sampled: int, words: int, n_queries: int) -> "_Table":
        bits = np.zeros(64 * words, np.uint8)
        bits[rng.permutation(64 * words)[:n_sampled]] = 1
        factor = rng.integers(0, 2**63, words, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
        slot_bits = min(24, max(8, n_queries.bit_length() + 2))
        return cls(np.packbits(bits).view(np.uint64), factor, np.uint64(64 - slot_bits))

    def slots(self, words: Hashes) -> Numbers:
        """Return the slot, int64 (...), of each hash (K, ...)."""
        mixed = np.zeros(words.shape[1:], np.uint64)
        for word, mask, factor in zip(words, self.mask, self.factor, strict=True):
            part = word & mask
            part *= factor
            mixed += part
        mixed >>= self.shift
        return mixed.view(np.int64)

    @property
    def n_slots(self) -> int:
        return 1 << int(64 - self.shift)


def _words(hashes: Hashes) -> Hashes:
    """Return the hashes word by word, uint64 (K, N, W)."""
    return np.ascontiguousarray(np.moveaxis(np.asarray(hashes), 2, 0))


def _queries(hashes: Hashes, mirror: Hashes | None) -> Hashes:
    """Return the wholes, uint64 (K, N), or with a mirror each followed by its mirrored self, (K, 2 N)."""
    wholes = np.asarray(hashes[:, 0]).T
    if mirror is not None:
        wholes = np.stack([wholes, wholes ^ mirror[:, None]], axis=2).reshape(len(wholes), -1)
    return np.ascontiguousarray(wholes)


def _look_up_in(table: _Table, words: Hashes, queries: Hashes, active: Marks, radius: int) -> Numbers:
    """Return the near pairs of active images that meet in a table, packed."""
    _, n_images, n_windows = words.shape
    sides = queries.shape[1] // n_images
    active_queries = np.flatnonzero(np.repeat(active, sides))
    filed = np.sort((table.slots(queries[:, active_queries]) << 32) | active_queries)
    counts = np.bincount(filed >> 32, minlength=table.n_slots)
    starts, used = counts.cumsum() - counts, counts > 0
    filed_words = queries.take(filed & 0xFFFFFFFF, axis=1)
    hits = [np.empty(0, np.int64)]
    for images in np.array_split(np.flatnonzero(active), max(1, n_windows * int(active.sum()) // WINDOWS_AT_ONCE)):
        # Without a copy where the images follow one another.
        adjacent = len(images) > 0 and images[-1] - images[0] + 1 == len(images)
        some = words[:, images[0] : images[-1] + 1] if adjacent else words.take(images, axis=1)
        entries = some.reshape(len(words), -1)
        slots = table.slots(entries)
        rows = np.flatnonzero(used.take(slots))
        low, high = _ranges(slots[rows], starts, counts, images[rows // n_windows] * sides, filed)
        for entry, position in _expand(rows, low, high):
            distance = _distance(entries.take(entry, axis=1), filed_words.take(position, axis=1))
            near = np.flatnonzero(distance <= radius)
            query, entry = filed[position[near]] & 0xFFFFFFFF, entry[near]
            numbers = images[entry // n_windows] * n_windows + entry % n_windows
            hits.append(_merge([_pack(query, numbers, distance[near], n_images, n_windows, sides)]))
    return np.concatenate(hits)


def _ranges(slots: Numbers, starts: Numbers, counts: Numbers, places: Numbers, filed: Numbers) -> tuple[Numbers, Numbers]:
    """Return where in `filed` each entry's partners begin and end: its slot, or in a crowd the NEIGHBOURS around its own place."""
    low, sizes = starts.take(slots), counts.take(slots)
    crowd = np.flatnonzero(sizes > CROWD)
    high = low + sizes
    if len(crowd):
        middle = np.searchsorted(filed, (slots[crowd] << 32) | places[crowd])
        low[crowd] = np.maximum(low[crowd], middle - NEIGHBOURS // 2)
        high[crowd] = np.minimum(high[crowd], middle + NEIGHBOURS // 2)
    return low, high


def _distance(first: Hashes, second: Hashes) -> NDArray[np.uint8]:
    """Return the bits that differ, uint8 (...), between hashes (K, ...)."""
    distance = np.bitwise_count(first[0] ^ second[0])
    for ours, theirs in zip(first[1:], second[1:], strict=True):
        distance += np.bitwise_count(ours ^ theirs)
    return distance


def _expand(rows: Numbers, low: Numbers, high: Numbers) -> Iterator[tuple[Numbers, Numbers]]:
    """Yield (row, position) for each position in each range [low, high), CHECKS_AT_ONCE or so at a time."""
    sizes = high - low
    ends = np.cumsum(sizes)
    begin = 0
    while begin < len(rows):
        before = ends[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, before + CHECKS_AT_ONCE, side="right")))
        part = sizes[begin:end]
        offset = np.arange(part.sum()) - np.repeat(np.cumsum(part) - part, part)
        yield np.repeat(rows[begin:end], part), np.repeat(low[begin:end], part) + offset
        begin = end


def _retired(packed: Numbers, n_images: int, radius: int, n_tables: int) -> Marks:
    """Return which images need no more looking up: they have PARTNERS pairs, or TWINS among the images before them."""
    low, high = np.divmod(packed >> _PAIR, n_images)
    retired = np.bincount(np.concatenate([low, high]), minlength=n_images) >= PARTNERS
    if n_tables >= SETTLED:
        tight = ((packed >> _DISTANCE) & 255) <= radius // 4
        retired |= np.bincount(high[tight], minlength=n_images) >= TWINS
    return np.asarray(retired)


def _pack(query: Numbers, entry: Numbers, distance: NDArray[np.uint8], n_images: int, n_windows: int, sides: int) -> Numbers:
    """Return pairs of two different images as one number each; sorted, the nearest of equal pairs comes first."""
    owner, image = entry // n_windows, query // sides
    other = owner != image
    owner, image = owner[other], image[other]
    pair = np.minimum(owner, image) * n_images + np.maximum(owner, image)
    packed = (pair << _PAIR) | (distance[other].astype(np.int64) << _DISTANCE) | (entry[other] % n_windows << _WINDOW)
    return np.asarray(packed | ((owner > image).astype(np.int64) << _OWNER) | (query[other] % sides))


def _merge(parts: list[Numbers]) -> Numbers:
    """Return each pair once, at its smallest distance, sorted."""
    rows = np.sort(np.concatenate(parts))
    pairs = rows >> _PAIR
    first = np.ones(len(rows), bool)
    first[1:] = pairs[1:] != pairs[:-1]
    return rows[first]


def _thin(packed: Numbers, n_images: int) -> Numbers:
    """Return the pairs that are among the PARTNERS nearest of either image, nearest in distance, then in the listing."""
    low, high = np.divmod(packed >> _PAIR, n_images)
    counts = np.bincount(np.concatenate([low, high]), minlength=n_images)
    if counts.max() <= PARTNERS:
        return packed
    ends = np.concatenate([low, high])
    order = np.lexsort((np.tile(high - low, 2), np.tile(packed >> _DISTANCE & 255, 2), ends))
    rank = np.empty(len(ends), np.int64)
    rank[order] = np.arange(len(ends)) - (counts.cumsum() - counts)[ends[order]]
    kept = (rank < PARTNERS).reshape(2, -1).any(axis=0)
    if not kept.all():
        message = "%d images have over %d similar hashes each (blank frames?); they are compared only with the nearest of these."
        logger.warning(message, (counts > PARTNERS).sum(), PARTNERS)
    return np.asarray(packed[kept])


def _unpack(packed: Numbers, n_images: int) -> Candidates:
    low, high = np.divmod(packed >> _PAIR, n_images)
    owned_by_high = (packed >> _OWNER & 1).astype(bool)
    first, second = np.where(owned_by_high, high, low), np.where(owned_by_high, low, high)
    return Candidates(first, second, packed >> _WINDOW & 31, packed >> _DISTANCE & 255, (packed & 1).astype(bool))
