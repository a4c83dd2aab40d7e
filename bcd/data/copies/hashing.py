"""Perceptual hashes: 128 bits an image and window, and the search for near ones in time and memory about linear in the images.

Hash: brightness and contrast are evened out locally, so that gain, gamma and depth compensation hardly matter, and the bits are
the signs of the lowest DCT coefficients of what is left (after pHash: Zauner, Implementation and Benchmarking of Perceptual Image
Hash Functions, 2010). A crop of 5 % already changes a third of an image's bits, so each image is hashed in several windows: a crop
resembles one of the windows of the image that it was cut from. In a mirrored image the coefficients of odd horizontal frequency
change their sign and no other, so its hash is known without looking (MIRROR).
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from bcd.data.copies.neighbours import Candidates, Hashes, compare_all, look_up

SIDE_PX = 128
LOCAL_PX = 51
WORDS = 2
_TRIMS = (0.0, 0.055)
# Shares trimmed off (left, top, right, bottom). The whole image comes first.
WINDOWS: tuple[tuple[float, float, float, float], ...] = (
    *((left, top, right, bottom) for left in _TRIMS for top in _TRIMS for right in _TRIMS for bottom in _TRIMS),
    (0.14, 0.0, 0.0, 0.0),
    (0.0, 0.14, 0.0, 0.0),
    (0.0, 0.0, 0.14, 0.0),
    (0.0, 0.0, 0.0, 0.14),
    (0.0, 0.0, 0.0, 0.22),  # the depth cut short, as three pairs of BUS-BRA are
    (0.11, 0.11, 0.11, 0.11),
)
# (vertical, horizontal) frequencies in half waves, lowest first; below 1.5 they tell gain and shadow, not the image.
_FREQUENCIES = np.array(
    sorted(
        ((row, column) for row in range(14) for column in range(14) if np.hypot(row, column) >= 1.5),
        key=lambda pair: (np.hypot(*pair), pair),
    )[: 64 * WORDS]
)
MIRROR: Hashes = np.packbits(_FREQUENCIES[:, 1] % 2 == 1).view(np.uint64)

# Chance candidates that a default radius allows an image: each costs the alignment of two images.
CHANCE = 8.0
# The default radius in bits of 64: never less, so that a crowd of like images hides no copy, and never more.
NARROWEST, WIDEST = 8, 22
SAMPLE = 1 << 17
# Up to so many comparisons, looking at every pair is quicker than any table, and misses none.
FEW = 1 << 28


def hash_image(image: NDArray[np.uint8]) -> Hashes:
    """Return one hash per window, uint64 (W, 2), the whole image first, of a grey image, uint8 (H, W)."""
    scale = SIDE_PX / max(image.shape)
    size = (max(8, round(image.shape[1] * scale)), max(8, round(image.shape[0] * scale)))
    grey = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR).astype(np.float32)
    centred = grey - cv2.blur(grey, (LOCAL_PX, LOCAL_PX))
    deviation = np.sqrt(cv2.blur(centred**2, (LOCAL_PX, LOCAL_PX)) + 25.0)
    even = np.clip(centred / deviation, -2.5, 2.5).astype(np.float32)  # clipped: burnt-in marks weigh little
    height, width = even.shape
    hashes = []
    for left, top, right, bottom in WINDOWS:
        window = even[round(top * height) : height - round(bottom * height), round(left * width) : width - round(right * width)]
        spectrum = cv2.dct(cv2.resize(window, (32, 32), interpolation=cv2.INTER_AREA))
        hashes.append(np.packbits(spectrum[_FREQUENCIES[:, 0], _FREQUENCIES[:, 1]] > 0).view(np.uint64))
    return np.array(hashes)


def near_hashes(hashes: Hashes, radius: int | None = None, mirror: Hashes | None = None) -> Candidates:
    """Return the pairs of images of which one's whole is within `radius` bits of one of the other's windows.

    Few images are compared each with each. Many are looked up in hash tables (see `neighbours`): pairs within two thirds of
    the radius are found with a probability of 0.99 and more, since most copies are near in several windows; towards the radius it
    falls. Each image keeps at most PARTNERS pairs, those of least distance, unless the other image keeps the pair: the
    candidates grow in proportion to the number of images, for any content.

    Args:
        hashes: uint64 (N, W, K), hashes of 64 K bits for W windows an image; an array or a memory map.
        radius: in bits, up to half of them; None for the widest at which chance alone gives an image CHANCE candidates at most, as
            measured on random pairs of these hashes: narrower the more images there are.
        mirror: bits that change in a mirrored image, uint64 (K,), such as MIRROR, to look for mirrored images as well.

    Raises:
        ValueError: for more windows or words than a packed pair has bits for.
    """
    if hashes.shape[1] > 32 or hashes.shape[2] > 3:
        raise ValueError(f"hashes are {hashes.shape}; the search takes up to 32 windows an image and 3 words a hash.")
    if len(hashes) < 2 or not hashes.size:
        return Candidates.none()
    radius = default_radius(hashes, mirror) if radius is None else radius
    comparisons = len(hashes) ** 2 * hashes.shape[1] * (1 if mirror is None else 2)
    search = compare_all if comparisons <= FEW else look_up
    return search(hashes, radius, mirror)


def default_radius(hashes: Hashes, mirror: Hashes | None = None) -> int:
    """Return the widest radius at which chance gives an image no more than CHANCE candidates, within NARROWEST and WIDEST."""
    rng = np.random.default_rng(len(hashes))
    first = rng.integers(0, len(hashes), SAMPLE)
    second = (first + rng.integers(1, len(hashes), SAMPLE)) % len(hashes)
    distances = np.concatenate(
        [_sample(hashes, *pairs, mirror) for pairs in zip(np.array_split(first, 32), np.array_split(second, 32), strict=True)]
    )
    allowed = min(SAMPLE - 1, int(SAMPLE * 2 * CHANCE / (len(hashes) - 1)))
    words = hashes.shape[2]
    return int(np.clip(np.partition(distances, allowed)[allowed] - 1, NARROWEST * words, WIDEST * words))


def _sample(hashes: Hashes, first: NDArray[np.int64], second: NDArray[np.int64], mirror: Hashes | None) -> NDArray[np.int64]:
    """Return the distance of each pair: the least over all windows of both, and over both sides of the mirror."""
    best = np.full(len(first), 64 * hashes.shape[2], np.int64)
    for windows, whole in ((hashes[first], hashes[second, :1]), (hashes[second], hashes[first, :1])):
        for turned in (whole,) if mirror is None else (whole, whole ^ mirror):
            best = np.minimum(best, np.bitwise_count(windows ^ turned).sum(axis=2, dtype=np.int64).min(axis=1))
    return best
