"""Pictures with something burnt in: text, calipers and other drawings, found by what speckle cannot do.

A drawn stroke is a few pixels wide, far brighter than what lies on both sides of it, and flat: its pixels have nearly one level. An
echo is as bright at most along horizontal layers, and fades over the width of the beam. So: pixels that stand out from the median
around them, in connected pieces the size of a letter or a caliper, of nearly one level; and pixels with colour.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

AROUND_PX = 11
# A stroke stands out from the median around it by this many grey levels; its brightest half differs by no more, smooth letters
# included.
CONTRAST = 100
LEVELS = 26.0
SMALLEST_PX, LARGEST_PX = 4, 44
# Pieces from which on a picture counts as marked: a lone one may be an echo (a clip, a calcification).
PIECES = 3
COLOUR = 48
COLOURED_SHARE = 0.0005


@dataclass(frozen=True)
class Marks:
    """What is burnt into a picture.

    Args:
        pieces: connected strokes, about one a letter, digit or caliper.
        in_rows: those of them that stand beside another of like height, as letters do.
        coloured: share of pixels with colour, in [0, 1].
    """

    pieces: int
    in_rows: int
    coloured: float

    @property
    def found(self) -> bool:
        """Whether the picture counts as marked."""
        return self.pieces >= PIECES or self.coloured >= COLOURED_SHARE

    def __str__(self) -> str:
        parts = [
            f"{self.in_rows} letters or digits" if self.in_rows >= PIECES else "",
            f"{self.pieces - self.in_rows} calipers or other strokes"
            if self.pieces - self.in_rows and self.pieces >= PIECES
            else "",
            f"colour in {self.coloured:.1%} of the picture" if self.coloured >= COLOURED_SHARE else "",
        ]
        return ", ".join(part for part in parts if part) or "none"


def find_marks(image: NDArray[np.uint8], colour: NDArray[np.uint8] | None = None) -> Marks:
    """Return what is burnt into a picture.

    Args:
        image: grey, uint8 (H, W).
        colour: uint8 (H, W, 3), where the file has colour.
    """
    boxes = _pieces(image)
    in_rows = sum(any(_beside(box, other) for other in boxes if other is not box) for box in boxes)
    coloured = 0.0 if colour is None else float((colour.max(axis=2) - colour.min(axis=2) > COLOUR).mean())
    return Marks(len(boxes), in_rows, coloured)


def _pieces(image: NDArray[np.uint8]) -> list[tuple[int, int, int, int]]:
    """Return (left, top, width, height) of each stroke-like piece."""
    around = cv2.medianBlur(image, AROUND_PX)
    bright = cv2.subtract(image, around) >= CONTRAST
    count, numbers, stats, _ = cv2.connectedComponentsWithStats(bright.astype(np.uint8), connectivity=8)
    boxes = []
    for number in range(1, count):
        left, top, width, height, area = (int(value) for value in stats[number])
        if (
            not SMALLEST_PX <= max(width, height) <= LARGEST_PX
            or area < 5
            or (area > 0.75 * width * height and min(width, height) > 4)
        ):
            continue
        if width > 3 * height:  # a layer, or the minus sign that nobody misses
            continue
        levels = image[top : top + height, left : left + width][numbers[top : top + height, left : left + width] == number]
        if levels[levels >= np.median(levels)].std() <= LEVELS and _is_crisp(image, numbers == number, (left, top, width, height)):
            boxes.append((left, top, width, height))
    return boxes


def _is_crisp(image: NDArray[np.uint8], piece: NDArray[np.bool_], box: tuple[int, int, int, int]) -> bool:
    """Tell whether the picture falls off within two pixels of the piece."""
    left, top, width, height = box
    rows, columns = slice(max(0, top - 3), top + height + 3), slice(max(0, left - 3), left + width + 3)
    inside = piece[rows, columns].astype(np.uint8)
    ring = (cv2.dilate(inside, np.ones((5, 5), np.uint8)) > 0) & (cv2.dilate(inside, np.ones((3, 3), np.uint8)) == 0)
    levels = image[rows, columns]
    return bool(ring.any() and np.median(levels[inside > 0]) - np.percentile(levels[ring], 75) >= CONTRAST)


def _beside(box: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> bool:
    """Tell whether two pieces could be letters of one line."""
    left, top, width, height = box
    other_left, other_top, other_width, other_height = other
    gap = max(left, other_left) - min(left + width, other_left + other_width)
    level = abs((top + height) - (other_top + other_height)) <= 0.25 * max(height, other_height)
    return level and gap <= 1.5 * max(height, other_height) and 0.6 <= height / other_height <= 1.7
