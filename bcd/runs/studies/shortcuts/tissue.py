"""Tissue where a lesion was: a patch from elsewhere in the same picture, shifted in brightness until it joins its new surroundings.

The patch comes from about the same depth, so that its speckle has the grain that the beam has there; of all places that hold no
lesion, the one is taken that is most like a smooth continuation of what surrounds the hole. The shift is the smooth surface that
equals the difference of the two on the rim, as in gradient-domain cloning (Perez et al., ACM Transactions on Graphics 22 (2003)
313, doi:10.1145/882262.882269). Where no place is large enough, the hole is filled in halves; where those are too large
as well, with the smooth continuation itself and noise of the surroundings' grain.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

# The search for a place, and the smooth surfaces, work on a picture of at most so many pixels a side.
_COARSE = 96
# Surfaces settle from wide to narrow blurs, in coarse pixels.
_SIGMAS = (32.0, 16.0, 8.0, 4.0, 2.0, 1.0)
_ROUNDS = 6
# A place one coarse pixel higher or lower must be this many grey levels more alike: the grain changes with depth.
_DEPTH_COST = 0.25
# A hole may be cut in two so many times in a row.
_SPLITS = 4
# Darker than this there is no tissue but a shadow or the edge of the scan.
_DARK = 6
# In pixels: detail is what a blur so wide takes away, speckle is about so coarse, and its spread is that of so wide a surrounding.
_FINE, _GRAIN, _NEARBY = 3.0, 0.9, 8.0

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Floats = NDArray[np.float32]


def fill(image: Image, hole: Mask, avoid: Mask, rng: np.random.Generator) -> Floats:
    """Return the picture with tissue in the hole, float32 (H, W).

    Args:
        image: grey, uint8 (H, W).
        hole: bool (H, W), one connected region; the rest of the picture stays as it is.
        avoid: bool (H, W), where no tissue may be taken from: lesions, marks.
        rng: of the noise, where no place is large enough.
    """
    return _filled(image.astype(np.float32), hole, avoid, rng, _SPLITS)


def _filled(values: Floats, hole: Mask, avoid: Mask, rng: np.random.Generator, splits: int) -> Floats:
    rim = grown(hole, max(3, round(np.sqrt(hole.sum()) / 8))) & ~hole & ~avoid
    if not rim.any():
        return values
    shift = _place(values, hole, avoid, rim)
    if shift is None and splits:
        first, second = _halves(hole)
        half_done = _filled(values, first, avoid | second, rng, splits - 1)
        return _filled(half_done, second, avoid & ~first, rng, splits - 1)
    surface = smooth_surface(values, hole, rim)
    if shift is None:
        patch = surface + grain(values, rim, rng)
    else:
        patch = _shifted(values, *shift)
        patch += surface - smooth_surface(patch, hole, rim)
    return np.where(hole, patch, values)


def _halves(hole: Mask) -> tuple[Mask, Mask]:
    """Return the hole cut across its longer side."""
    rows, columns = np.nonzero(hole)
    places, middle = (columns, np.median(columns)) if np.ptp(columns) >= np.ptp(rows) else (rows, np.median(rows))
    first = np.zeros_like(hole)
    first[rows[places <= middle], columns[places <= middle]] = True
    return first, hole & ~first


def smooth_surface(values: Floats, hole: Mask, known: Mask) -> Floats:
    """Return a smooth surface that is near the values where they are known and carries on between them into the hole.

    Args:
        values: (H, W).
        hole: bool (H, W).
        known: bool (H, W), around the hole.
    """
    height, width = values.shape
    size = _coarse(height, width)
    weight = cv2.resize(known.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    total = cv2.resize(np.where(known, values, 0).astype(np.float32), size, interpolation=cv2.INTER_AREA)
    fixed = weight > 0.05
    coarse = np.where(fixed, total / np.maximum(weight, 1e-6), values[known].mean()).astype(np.float32)
    start = coarse.copy()
    for sigma in _SIGMAS:
        for _ in range(_ROUNDS):
            coarse = np.where(fixed, start, _blurred(coarse, sigma))
    coarse = _blurred(coarse, 1.0)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.float32)


def grain(values: Floats, like: Mask, rng: np.random.Generator) -> Floats:
    """Return noise (H, W) of mean 0 with the spread that the picture's fine detail has nearby where `like` is true."""
    squares = (values - cv2.GaussianBlur(values, (0, 0), _FINE)) ** 2
    overall, weight = float(squares[like].mean()), like.astype(np.float32)
    near = cv2.GaussianBlur(squares * weight, (0, 0), _NEARBY) + 1e-3 * overall
    variance = near / (cv2.GaussianBlur(weight, (0, 0), _NEARBY) + 1e-3)
    noise = cv2.GaussianBlur(rng.standard_normal(values.shape).astype(np.float32), (0, 0), _GRAIN)
    return np.asarray(noise / noise.std() * np.sqrt(variance), dtype=np.float32)


def grown(mask: Mask, by_px: int) -> Mask:
    """Return the mask, grown by so many pixels on all sides."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * by_px + 1, 2 * by_px + 1))
    return np.asarray(cv2.dilate(mask.astype(np.uint8), kernel) > 0)


def _place(values: Floats, hole: Mask, avoid: Mask, rim: Mask) -> tuple[int, int] | None:
    """Return how far down and to the right the patch lies in pixels, or None where no place is large enough."""
    height, width = values.shape
    size = _coarse(height, width)
    coarse = cv2.resize(values, size, interpolation=cv2.INTER_AREA)
    target = cv2.resize(smooth_surface(values, hole, rim), size, interpolation=cv2.INTER_AREA)
    needed, barred = (cv2.resize(part.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0 for part in (hole, hole | avoid))
    barred |= cv2.GaussianBlur(coarse, (0, 0), 1.5) < _DARK
    rows, columns = np.nonzero(needed)
    best, lowest = None, np.inf
    for down in range(-rows.min(), size[1] - rows.max()):
        if abs(down) > size[1] // 3:
            continue
        for right in range(-columns.min(), size[0] - columns.max()):
            there = (rows + down, columns + right)
            if barred[there].any():
                continue
            cost = np.sqrt(np.square(coarse[there] - target[rows, columns]).mean()) + _DEPTH_COST * abs(down)
            if cost < lowest:
                best, lowest = (down, right), cost
    return None if best is None else (round(best[0] * height / size[1]), round(best[1] * width / size[0]))


def _shifted(values: Floats, down: int, right: int) -> Floats:
    """Return the picture moved so that what lies (down, right) of a pixel comes to lie on it; mirrored at the edges."""
    height, width = values.shape
    matrix = np.array([[1, 0, -right], [0, 1, -down]], dtype=np.float32)
    moved = cv2.warpAffine(values, matrix, (width, height), flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(moved, dtype=np.float32)


def _blurred(values: Floats, sigma: float) -> Floats:
    return np.asarray(cv2.GaussianBlur(values, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE), dtype=np.float32)


def _coarse(height: int, width: int) -> tuple[int, int]:
    """Return width and height of the coarse picture, as OpenCV takes them."""
    scale = min(1.0, _COARSE / max(height, width))
    return max(1, round(width * scale)), max(1, round(height * scale))
