"""Measuring segmented lesions: boxes, areas and diameters of single lesions, in pixels and in millimetres.

A lesion is a component of the mask: pixels that touch at an edge or a corner (8-connectivity). Its long diameter is the longest
distance between two points of it (Feret), its short one the widest extent across that. Pixels have an extent: points run from the
outer corners of pixels, so a single pixel is 1 px wide and the square root of 2 long from corner to corner.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

Spacing = tuple[float, float]


@dataclass(frozen=True)
class Lesion:
    """One component of a mask.

    Attributes:
        box: top, left, height, width in pixels.
        area_px: pixels.
        long_px: longest diameter in pixels.
        short_px: widest extent across it in pixels.
        area_mm2: None where the spacing is unknown, as are the next two.
        long_mm: longest diameter.
        short_mm: widest extent across it.
        probability: mean inside, in [0, 1]; None where the mask does not come from probabilities, as is the next.
        max_probability: highest inside.
    """

    box: tuple[int, int, int, int]
    area_px: int
    long_px: float
    short_px: float
    area_mm2: float | None
    long_mm: float | None
    short_mm: float | None
    probability: float | None
    max_probability: float | None


def measure(mask: np.ndarray, probability: np.ndarray | None = None, spacing_mm: Spacing | None = None) -> tuple[Lesion, ...]:
    """Return the lesions of a bool mask (H, W), the largest first; probabilities are floating (H, W) in [0, 1].

    `spacing_mm` is the distance of rows, and of columns, in mm.
    """
    pixels = np.ascontiguousarray(mask).view(np.uint8)
    x, y, across, down = cv2.boundingRect(pixels)
    if not across:
        return ()
    part_of_image = pixels[y : y + down, x : x + across]  # numbering the components takes the longest, and lesions are small
    count, numbers, stats, _ = cv2.connectedComponentsWithStats(part_of_image, connectivity=8, ltype=cv2.CV_32S)
    lesions: list[Lesion] = []
    for left, top, width, height, area in stats[1:count].tolist():
        rows, columns = slice(top, top + height), slice(left, left + width)
        inside = np.equal(numbers[rows, columns], len(lesions) + 1)
        part = probability[y:, x:][rows, columns][inside] if probability is not None else None
        lesions.append(_lesion(inside, (y + top, x + left, height, width), area, part, spacing_mm))
    return tuple(sorted(lesions, key=lambda lesion: (-lesion.area_px, lesion.box)))


def _lesion(
    inside: np.ndarray, box: tuple[int, int, int, int], area: int, probability: np.ndarray | None, spacing_mm: Spacing | None
) -> Lesion:
    corners = hull(inside)
    long_px, short_px = diameters(corners)
    long_mm, short_mm = diameters(corners * np.array(spacing_mm)) if spacing_mm is not None else (None, None)
    return Lesion(
        box=box,
        area_px=area,
        long_px=long_px,
        short_px=short_px,
        area_mm2=area * spacing_mm[0] * spacing_mm[1] if spacing_mm is not None else None,
        long_mm=long_mm,
        short_mm=short_mm,
        probability=float(probability.mean(dtype=np.float64)) if probability is not None else None,
        max_probability=float(probability.max()) if probability is not None else None,
    )


def hull(inside: np.ndarray) -> np.ndarray:
    """Return the corners of the convex hull of a bool (H, W) mask's pixels, float64 (N, 2) as row, column; N is at least 4."""
    rows = np.flatnonzero(inside.any(1))
    first = inside.argmax(1)[rows]
    last = inside.shape[1] - inside[:, ::-1].argmax(1)[rows]  # the right edge of the last pixel
    points = np.empty((4, len(rows), 2), np.int32)
    points[:2, :, 0], points[2:, :, 0] = rows, rows + 1
    points[::2, :, 1], points[1::2, :, 1] = first, last
    return cv2.convexHull(points.reshape(-1, 2))[:, 0].astype(np.float64)


def diameters(corners: np.ndarray) -> tuple[float, float]:
    """Return the longest distance between two corners (N, 2) of a convex hull, and the widest extent across it.

    Where several pairs are equally far apart, the widest extent across any of them.
    """
    down, right = (places[:, None] - places for places in corners.T)
    squared = down * down + right * right
    longest = math.sqrt(squared.max())
    first, second = np.nonzero(squared >= squared.max() * (1 - 2e-9))  # each pair twice, which changes nothing
    along = (corners[first] - corners[second]) / longest
    across = corners @ np.stack([-along[:, 1], along[:, 0]])
    return longest, float(np.ptp(across, axis=0).max())


def dice_of(first: np.ndarray, second: np.ndarray) -> float:
    """Return the Dice between two bool masks (H, W); 1 for two empty ones, 0 where their sizes differ."""
    if first.shape != second.shape:
        return 0.0
    total = int(first.sum()) + int(second.sum())
    return 2 * int((first & second).sum()) / total if total else 1.0
