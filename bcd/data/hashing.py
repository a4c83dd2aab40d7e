"""Perceptual hashes, and the search for near ones: 64 bits an image and window, in time and memory about linear in the images.

Hash: the signs of the 8 x 8 lowest DCT coefficients against their median, as in pHash (Zauner, Implementation and Benchmarking of
Perceptual Image Hash Functions, 2010), after histogram equalisation. A crop of 5 % already changes a third of an image's bits, so
each image is hashed in several windows: a crop resembles one of the windows of the image that it was cut from.

Search: multi-index hashing (Norouzi et al., Fast Search in Hamming Space with Multi-Index Hashing, CVPR 2012): two hashes within
radius r agree in at least one of m bands to r // m bits, so only hashes whose bands nearly agree are ever compared.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations, pairwise
from math import comb

import cv2
import numpy as np
from numpy.typing import NDArray

_TRIMS = (0.0, 0.055)
# Shares trimmed off (left, top, right, bottom). The whole image comes first.
WINDOWS: tuple[tuple[float, float, float, float], ...] = (
    *((left, top, right, bottom) for left in _TRIMS for top in _TRIMS for right in _TRIMS for bottom in _TRIMS),
    (0.14, 0.0, 0.0, 0.0),
    (0.0, 0.14, 0.0, 0.0),
    (0.0, 0.0, 0.14, 0.0),
    (0.0, 0.0, 0.0, 0.14),
    (0.11, 0.11, 0.11, 0.11),
)
# Even: as many bits are set as not, so two hashes differ in an even number.
RADIUS = 16
# In a bucket with more than CROWD entries (black frames, say) a hash is compared with the NEIGHBOURS around it in order alone: that
# chains the members, which is what connected components need, and keeps a thousand blank images from costing a million pairs.
CROWD = 1024
NEIGHBOURS = 32
CHECKS_AT_ONCE = 1 << 20

logger = logging.getLogger(__name__)

Hashes = NDArray[np.uint64]
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Candidates:
    """Pairs of images with a near hash: `first` trimmed to WINDOWS[`window`] resembles the whole of `second`.

    Args:
        first: int64 (P,), index of an image.
        second: int64 (P,), index of another image; each unordered pair stands once, at its smallest distance.
        window: int64 (P,), index into WINDOWS.
        distance: int64 (P,), bits that differ.
    """

    first: Numbers
    second: Numbers
    window: Numbers
    distance: Numbers


def hash_image(image: NDArray[np.uint8]) -> Hashes:
    """Return one 64-bit hash a window, uint64 (W,), the whole image first.

    Args:
        image: grey, uint8 (H, W).
    """
    scale = 256 / max(image.shape)
    if scale < 1:
        image = np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    height, width = image.shape
    return np.array(
        [
            _hash(image[round(top * height) : height - round(bottom * height), round(left * width) : width - round(right * width)])
            for left, top, right, bottom in WINDOWS
        ]
    )


def hash_images(count: int, read: Callable[[int], NDArray[np.uint8]]) -> Hashes:
    """Return the hashes of `count` images, uint64 (count, W); they can be kept with np.save and opened as a memory map."""
    hashes = np.zeros((count, len(WINDOWS)), np.uint64)
    for index in range(count):
        hashes[index] = hash_image(read(index))
    return hashes


def near_hashes(hashes: Hashes, radius: int = RADIUS) -> Candidates:
    """Return the pairs of images of which one's whole is within `radius` bits of one of the other's windows.

    100,000 hashes, one an image, take about 7 s of one core at radius 12 and 30 s at 16; with all windows, choose radius 10.

    Args:
        hashes: uint64 (N, W), or (N,) for one hash an image; an array or a memory map.
        radius: in bits, 0 .. 32.

    Raises:
        ValueError: hashes or radius have another type or range.
    """
    if hashes.dtype != np.uint64 or hashes.ndim not in (1, 2):
        raise ValueError(f"hashes are {hashes.dtype} {hashes.shape}; give uint64 (N,) or (N, W), from hash_images.")
    if not 0 <= radius <= 32:
        raise ValueError(f"radius is {radius} bits; it must lie in 0 .. 32.")
    hashes = hashes[:, None] if hashes.ndim == 1 else hashes
    found = _Found(len(hashes))
    if len(hashes) > 1:
        bands = _cheapest_bands(hashes.size, radius)
        for shift, bits in bands:
            for block in _near_in_band(hashes, shift, bits, radius // len(bands), radius):
                found.add(*block)
    return found.candidates()


class _Found:
    """Collects pairs, each once, at its smallest distance."""

    def __init__(self, n_images: int) -> None:
        self.n_images = max(n_images, 1)
        self.kept: Numbers = np.empty((0, 4), np.int64)
        self.fresh: list[Numbers] = []
        self.n_fresh = 0

    def add(self, whole: Numbers, owner: Numbers, window: Numbers, distance: Numbers) -> None:
        pair = np.minimum(whole, owner) * self.n_images + np.maximum(whole, owner)
        self.fresh.append(np.stack([pair, distance, owner, window], axis=1))
        self.n_fresh += len(whole)
        if self.n_fresh > CHECKS_AT_ONCE:
            self.merge()

    def merge(self) -> None:
        rows = np.concatenate([self.kept, *self.fresh])
        rows = rows[np.lexsort(rows.T[::-1])]
        self.kept = rows[np.unique(rows[:, 0], return_index=True)[1]]
        self.fresh, self.n_fresh = [], 0

    def candidates(self) -> Candidates:
        self.merge()
        pair, distance, owner, window = self.kept.T
        low, high = pair // self.n_images, pair % self.n_images
        return Candidates(owner, np.where(owner == low, high, low), window, distance)


def _hash(image: NDArray[np.uint8]) -> np.uint64:
    small = cv2.equalizeHist(cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA))
    low = cv2.dct(small.astype(np.float32))[:8, :8].ravel()
    return np.packbits(low > np.median(low)).view(np.uint64)[0]


def _cheapest_bands(n_hashes: int, radius: int) -> list[tuple[int, int]]:
    """Return (shift, bits) of each band: the division of 64 bits with the fewest look-ups and comparisons a query."""

    def cost(count: int) -> float:
        bits, flips = 64 // count, radius // count
        return count * sum(comb(bits, k) for k in range(flips + 1)) * (1 + n_hashes / 2**bits)

    count = min(range(3, 17), key=cost)
    edges = [round(64 * k / count) for k in range(count + 1)]
    return [(low, high - low) for low, high in pairwise(edges)]


def _near_in_band(
    hashes: Hashes, shift: int, bits: int, flips: int, radius: int
) -> Iterator[tuple[Numbers, Numbers, Numbers, Numbers]]:
    """Yield (whole, owner, window, distance) of near hashes that agree in the band to `flips` bits."""
    n_windows = hashes.shape[1]
    table = np.asarray(hashes).ravel()
    keys = _band(table, shift, bits)
    order = np.lexsort((table, keys))
    table = table[order]
    starts = np.searchsorted(keys[order], np.arange(2**bits + 1))
    wholes = np.flatnonzero(order % n_windows == 0)  # sorted by key: neighbouring queries read neighbouring memory
    masks = np.array([sum(1 << bit for bit in chosen) for k in range(flips + 1) for chosen in combinations(range(bits), k)])
    crowded = 0
    for block in np.array_split(wholes, max(1, len(wholes) * len(masks) // CHECKS_AT_ONCE)):
        probes = _band(table[block], shift, bits)[:, None] ^ masks
        low, high = starts[probes].ravel(), starts[probes + 1].ravel()
        query = np.repeat(block, len(masks))
        crowd = high - low > CROWD
        if crowd.any():
            crowded += int(crowd.sum())
            low, high = _around(query, low, high, crowd)
        if n_windows == 1:
            low = np.minimum(np.maximum(low, query + 1), high)  # each pair would be met from both sides
        for entry, position in _expand(query, low, high):
            distance = np.bitwise_count(table[entry] ^ table[position])
            near = (distance <= radius) & (order[entry] // n_windows != order[position] // n_windows)
            entry, position = order[entry[near]], order[position[near]]
            yield entry // n_windows, position // n_windows, position % n_windows, distance[near].astype(np.int64)
    if crowded:
        logger.warning("%d look-ups met over %d like hashes (blank images?) and compared the nearest in order.", crowded, CROWD)


def _band(hashes: Hashes, shift: int, bits: int) -> Numbers:
    return ((hashes >> np.uint64(shift)) & np.uint64(2**bits - 1)).astype(np.int64)


def _around(query: Numbers, low: Numbers, high: Numbers, crowd: NDArray[np.bool_]) -> tuple[Numbers, Numbers]:
    """Return ranges cut to NEIGHBOURS entries around the query's own place."""
    low, high = low.copy(), high.copy()
    middle = np.clip(query[crowd], low[crowd], high[crowd])
    low[crowd] = np.maximum(low[crowd], middle - NEIGHBOURS // 2)
    high[crowd] = np.minimum(high[crowd], middle + NEIGHBOURS // 2)
    return low, high


def _expand(query: Numbers, low: Numbers, high: Numbers) -> Iterator[tuple[Numbers, Numbers]]:
    """Yield (query, position) for each position in each range [low, high), CHECKS_AT_ONCE or so at a time."""
    filled = high > low
    query, low, sizes = query[filled], low[filled], (high - low)[filled]
    ends = np.cumsum(sizes)
    begin = 0
    while begin < len(query):
        done = ends[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, done + CHECKS_AT_ONCE, side="right")))
        part = sizes[begin:end]
        offset = np.arange(part.sum()) - np.repeat(np.cumsum(part) - part, part)
        yield np.repeat(query[begin:end], part), np.repeat(low[begin:end], part) + offset
        begin = end
