"""Burnt-in marks: text, calipers and other drawings, found by properties that speckle does not have.

A drawn stroke is a few pixels wide, far brighter than what lies on both sides of it, and flat: its pixels have nearly one level. An
echo is as bright at most along horizontal layers, and fades over the width of the beam. So: pixels that stand out from the median
around them, in connected pieces the size of a letter or a caliper, of nearly one level; and pixels with colour.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from bcd.images.decode import open_file

AROUND_PX = 11
# A stroke stands out from the median around it by this many grey levels; its brightest half differs by no more, smooth letters
# included.
CONTRAST = 100
LEVELS = 26.0
SMALLEST_PX, LARGEST_PX = 4, 44
# Pieces from which on a picture is taken as marked: a lone one may be an echo (a clip, a calcification).
PIECES = 3
COLOUR = 48
COLOURED_SHARE = 0.0005
# A drawn stroke falls off by so much from one pixel to the next, where an echo takes several; it is thinner than a disc of so many
# pixels, and as bright.
STEP = 45
THICK_PX = 11
BRIGHT = 110
SIDEWAYS, SIDEWAYS_LONG = 0.35, 0.45
MOST_PIECES = 220
# Letters of one line are so many heights apart at most; beyond the outermost that was seen the line may go on for so many.
LINE, ENDS = 12, 5
# So bright, of the strokes that were seen, are the others of the line.
LIKE = 0.75
# The soft edge of a stroke: pixels so close to it that still stand out by so much.
RIM_PX = 2
RIM_CONTRAST = 25

_Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Marks:
    """What is burnt into a picture.

    Args:
        pieces: connected strokes, about one a letter, digit or caliper.
        in_rows: those of them beside another of similar height, like letters.
        coloured: share of pixels with colour, in [0, 1].
    """

    pieces: int
    in_rows: int
    coloured: float

    @property
    def is_marked(self) -> bool:
        """Whether the picture is taken as marked."""
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
    """Return what is burnt into a picture, grey, uint8 (H, W), and in colour, uint8 (H, W, 3), where the file has colour."""
    boxes = list(_pieces(image)[1].values())
    in_rows = sum(any(_beside(box, other) for other in boxes if other is not box) for box in boxes)
    coloured = 0.0 if colour is None else float((colour.max(axis=2) - colour.min(axis=2) > COLOUR).mean())
    return Marks(len(boxes), in_rows, coloured)


def stroke_mask(image: NDArray[np.uint8], colour: NDArray[np.uint8] | None = None) -> NDArray[np.bool_]:
    """Return the pixels of what is burnt into a picture, bool (H, W): strokes with their soft edges, and pixels with colour.

    A lone piece counts here too; whether the picture is marked at all, `find_marks` tells, which takes the same pictures. The mask
    goes a pixel beyond the edges.
    """
    numbers, boxes = _pieces(image)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (THICK_PX, THICK_PX))
    thin = np.asarray(cv2.morphologyEx(image, cv2.MORPH_TOPHAT, disc), dtype=np.uint8)
    sure = np.isin(numbers, list(boxes))
    core = sure | _crisp_strokes(image, thin)
    if sure.any():
        alike = image >= LIKE * np.median(image[sure])
        core |= _lines_of_text(image.shape, list(boxes.values())) & (thin >= STEP) & alike
    if colour is not None and colour.shape[:2] == image.shape:
        core |= colour.max(axis=2) - colour.min(axis=2) > COLOUR
    edge = _grown(core, RIM_PX) & (thin >= RIM_CONTRAST)
    return _grown(core | edge, 1)


def _crisp_strokes(image: NDArray[np.uint8], thin: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return pixels of thin bright pieces that end within a pixel, sideways too: layers are sharp above and below alone.

    These are strokes on tissue nearly as bright as they are, and the dots of measuring lines, which `find_marks` does not count.
    """
    # By how much each pixel is brighter than the darkest of its neighbours.
    sideways, upright = (cv2.subtract(image, cv2.erode(image, np.ones(shape, np.uint8))) for shape in ((1, 3), (3, 1)))
    stands_out = (thin >= STEP) & (image >= BRIGHT)
    sharp = stands_out & (np.maximum(sideways, upright) >= STEP)
    closed = cv2.morphologyEx(sharp.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    count, numbers, stats, _ = cv2.connectedComponentsWithStats(closed, connectivity=8)
    area = stats[:, cv2.CC_STAT_AREA]
    crisp = np.bincount(numbers[stands_out & (sideways >= STEP)], minlength=count)
    is_long = stats[:, cv2.CC_STAT_WIDTH] > 3 * stats[:, cv2.CC_STAT_HEIGHT]  # a layer, or letters that touch
    keep = crisp >= np.where(is_long, SIDEWAYS_LONG, SIDEWAYS) * area
    keep[0] = False
    if keep.sum() > MOST_PIECES:  # speckle so coarse or sharp that marks do not differ from it
        return np.zeros(image.shape, bool)
    return np.asarray(keep[numbers])


def _lines_of_text(shape: tuple[int, ...], boxes: Sequence[_Box]) -> NDArray[np.bool_]:
    """Return where lines of text run, bool (H, W): from each letter to the others of its line, and some letters further."""
    lines = np.zeros(shape, bool)
    for box in boxes:
        if not any(_beside(box, other) for other in boxes if other is not box):
            continue
        top, height = box[1], box[3]
        line = [other for other in boxes if _is_level(box, other) and _gap(box, other) <= LINE * height]
        left, right = min(other[0] for other in line) - ENDS * height, max(other[0] + other[2] for other in line) + ENDS * height
        lines[max(0, top - 1) : top + height + 1, max(0, left) : right] = True
    return lines


def read_colour(path: Path) -> NDArray[np.uint8] | None:
    """Return a picture's colours, uint8 (H, W, 3), or None where it has none, or is of a kind that OpenCV does not read."""
    decode: Callable[[NDArray[np.uint8], int], NDArray[np.uint8] | None] = cv2.imdecode  # type: ignore[assignment]
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg", ".bmp", ".webp"):
        return None
    with open_file(path) as file:
        image = decode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_ANYCOLOR)
    return image if image is not None and image.ndim == 3 and image.shape[2] == 3 else None


def _grown(mask: NDArray[np.bool_], by_px: int) -> NDArray[np.bool_]:
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * by_px + 1, 2 * by_px + 1))
    return np.asarray(cv2.dilate(mask.astype(np.uint8), kernel) > 0)


def _pieces(image: NDArray[np.uint8]) -> tuple[NDArray[np.int32], dict[int, _Box]]:
    """Return the number of the bright piece that each pixel belongs to, and number -> box of those that are like strokes.

    A box is left, top, width, height.
    """
    around = cv2.medianBlur(image, AROUND_PX)
    bright = cv2.subtract(image, around) >= CONTRAST
    count, numbers, stats, _ = cv2.connectedComponentsWithStats(bright.astype(np.uint8), connectivity=8)
    boxes: dict[int, _Box] = {}
    for number in range(1, count):
        left, top, width, height, area = (int(value) for value in stats[number])
        is_solid = area > 0.75 * width * height and min(width, height) > 4
        is_layer = width > 3 * height  # or a minus sign, which is not needed
        if not SMALLEST_PX <= max(width, height) <= LARGEST_PX or area < 5 or is_solid or is_layer:
            continue
        levels = image[top : top + height, left : left + width][numbers[top : top + height, left : left + width] == number]
        if levels[levels >= np.median(levels)].std() <= LEVELS and _is_crisp(image, numbers == number, (left, top, width, height)):
            boxes[number] = (left, top, width, height)
    return np.asarray(numbers, dtype=np.int32), boxes


def _is_crisp(image: NDArray[np.uint8], piece: NDArray[np.bool_], box: _Box) -> bool:
    """Return whether the picture falls off within two pixels of the piece."""
    left, top, width, height = box
    rows, columns = slice(max(0, top - 3), top + height + 3), slice(max(0, left - 3), left + width + 3)
    inside = piece[rows, columns].astype(np.uint8)
    ring = (cv2.dilate(inside, np.ones((5, 5), np.uint8)) > 0) & (cv2.dilate(inside, np.ones((3, 3), np.uint8)) == 0)
    levels = image[rows, columns]
    return bool(ring.any() and np.median(levels[inside > 0]) - np.percentile(levels[ring], 75) >= CONTRAST)


def _beside(box: _Box, other: _Box) -> bool:
    """Return whether two pieces could be letters of one line."""
    return _is_level(box, other) and _gap(box, other) <= 1.5 * max(box[3], other[3])


def _is_level(box: _Box, other: _Box) -> bool:
    """Return whether two pieces are on one line and have about the same height."""
    (_, top, _, height), (_, other_top, _, other_height) = box, other
    level = abs((top + height) - (other_top + other_height)) <= 0.25 * max(height, other_height)
    return level and 0.6 <= height / other_height <= 1.7


def _gap(box: _Box, other: _Box) -> int:
    """Return how many pixels lie between two pieces from left to right; negative where they overlap."""
    return max(box[0], other[0]) - min(box[0] + box[2], other[0] + other[2])
