"""Altered pictures for the shortcut study: marks painted over, the lesion hidden, marks drawn elsewhere.

Each function takes a grey picture, uint8 (H, W), and gives another of the same size; the same seed gives the same pixels.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from bcd.data.manifest import Case
from bcd.images.marks import find_marks, read_colour, stroke_mask
from bcd.runs.studies.shortcuts.tissue import Image, Mask, fill, grain, grown

# The hole is the lesion and a margin around it, as a share of its equivalent diameter: contours run inside the edge's blur.
MARGIN = 0.12
_LEAST_MARGIN_PX = 4
_MOST = 0.8
# How far in-painting looks around.
_PAINT_PX = 4
# The level of drawn marks; they are drawn, if it can be, where the tissue is darker by so much, and brighter than no tissue.
_BRIGHT, _STANDS_OUT, _TISSUE = 240, 120, 12
_CLEAR_PX = 3
_TRIES, _SHRINK = 80, 0.98
# Marks of a picture without a lesion measure half a width of this share of the picture's shorter side.
_USUAL = (0.09, 0.16)
# What the label takes the picture's width for: a length that could be.
_WIDTH_CM = 4.0


# Image, lesion mask, marks and random numbers in, the altered image out.
Change = Callable[[Image, Mask, Mask, np.random.Generator], Image]


@dataclass(frozen=True)
class Shortcut:
    """An alteration of the images of a data set, as `UltrasoundDataModule.alter_images` takes it.

    Args:
        change: what is done to an image.
        seed: of the noise, and of the places of drawn marks; with the case id, all that these depend on.
    """

    change: Change
    seed: int

    def __call__(self, case: Case, image: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Return the altered image, uint8 (H, W)."""
        return self.change(image, np.asarray(mask > 0), marks_of(case, image), draw_of(self.seed, case.case_id))


def marks_of(case: Case, image: Image) -> Mask:
    """Return the pixels of what is burnt into a case's image, bool (H, W): none if it is not marked."""
    colour = read_colour(case.image)
    return stroke_mask(image, colour) if find_marks(image, colour).is_marked else np.zeros(image.shape, bool)


def without_marks(image: Image, mask: Mask, marks: Mask, rng: np.random.Generator) -> Image:
    """Return the image with its marks painted over."""
    return paint_over(image, marks, rng)


def with_marks_elsewhere(image: Image, mask: Mask, marks: Mask, rng: np.random.Generator) -> Image:
    """Return the image with marks drawn where there is no lesion; its own stay."""
    return draw_marks(image, mask, rng)


def without_lesion(image: Image, mask: Mask, marks: Mask, rng: np.random.Generator) -> Image:
    """Return the image with its lesions hidden; marks stay, also those that lay on them."""
    return hide_lesion(image, mask, rng, keep=marks)


def without_lesion_and_marks(image: Image, mask: Mask, marks: Mask, rng: np.random.Generator) -> Image:
    """Return the image with its marks painted over and then its lesions hidden."""
    return hide_lesion(paint_over(image, marks, rng), mask, rng)


def draw_of(seed: int, case_id: str) -> np.random.Generator:
    """Return the random numbers of one case: the same for any order and number of cases."""
    return np.random.default_rng([seed, zlib.crc32(case_id.encode("utf-8", "surrogateescape"))])


def paint_over(image: Image, strokes: Mask, rng: np.random.Generator) -> Image:
    """Return the picture without its strokes: in-painted from their edges, with noise of the grain around.

    Telea, Journal of Graphics Tools 9 (2004) 23, doi:10.1080/10867651.2004.10487596, gives a smooth patch, which speckle is not;
    hence the noise.

    Args:
        image: uint8 (H, W).
        strokes: bool (H, W), as `bcd.images.marks.stroke_mask` finds them.
        rng: of the noise.
    """
    if not strokes.any():
        return image.copy()
    painted = cv2.inpaint(image, strokes.astype(np.uint8), _PAINT_PX, cv2.INPAINT_TELEA).astype(np.float32)
    return _grey(np.where(strokes, painted + grain(painted, ~strokes, rng), image))


def hide_lesion(image: Image, mask: np.ndarray, rng: np.random.Generator, keep: Mask | None = None) -> Image:
    """Return the picture with tissue from elsewhere in it where its lesions are; without a lesion, the picture itself.

    What a lesion does to its surroundings, a shadow or a brightening below it, stays.

    Args:
        image: uint8 (H, W).
        mask: the lesions, (H, W).
        rng: of the noise, where a lesion leaves no room to take tissue from.
        keep: bool (H, W), pixels that stay what they are, such as marks.
    """
    lesion = np.asarray(mask > 0)
    if not lesion.any():
        return image.copy()
    margin = max(_LEAST_MARGIN_PX, round(MARGIN * 2 * np.sqrt(lesion.sum() / np.pi)))
    holes = grown(lesion, margin)
    if holes.mean() > _MOST:  # of a lesion that fills the picture, what is left around it is needed to go by
        margin = _LEAST_MARGIN_PX
        holes = grown(lesion, margin)
    strokes = np.zeros_like(lesion) if keep is None else keep
    # Tissue is taken from a picture without marks, or copies of them would lie in it.
    clean = paint_over(image, strokes, rng)
    count, numbers = cv2.connectedComponents(holes.astype(np.uint8))
    result = clean.astype(np.float32)
    for number in range(1, count):
        hole = np.asarray(numbers == number)
        share = np.clip(cv2.distanceTransform(hole.astype(np.uint8), cv2.DIST_L2, 5) / margin, 0, 1)
        filled = fill(_grey(result), hole, holes, rng)
        result = share * filled + (1 - share) * result
    # Of the marks their bright pixels stay, not the rim of lesion that the mask of them takes in.
    result = np.where(strokes, np.maximum(result, image), result)
    return _grey(np.where(holes, result, image))


def draw_marks(image: Image, mask: np.ndarray, rng: np.random.Generator) -> Image:
    """Return the picture with calipers and a label at a place without a lesion, of a size as the lesion's.

    Two pairs of crosses, each joined by a dotted line, are placed as if they measured an oval; a number and a length are below.
    Where they do not fit beside the lesion they are smaller, and where nothing fits the picture stays as it is.

    Args:
        image: uint8 (H, W).
        mask: the lesions, (H, W); neither the marks nor the measured oval touch them.
        rng: of the place.
    """
    lesion = np.asarray(mask > 0)
    near = grown(lesion, _CLEAR_PX)
    if lesion.any():
        rows, columns = np.nonzero(lesion)
        half = ((float(np.ptp(rows)) + 1) / 2, (float(np.ptp(columns)) + 1) / 2)
    else:
        width = rng.uniform(*_USUAL) * min(lesion.shape)
        half = (0.7 * width, width)
    for attempt in range(_TRIES):
        size = (half[0] * _SHRINK**attempt, half[1] * _SHRINK**attempt)
        centre = (rng.uniform(0.05, 0.95) * image.shape[0], rng.uniform(0.05, 0.95) * image.shape[1])
        drawn = _drawn((image.shape[0], image.shape[1]), centre, size)
        if drawn is None:
            continue
        strokes, oval = drawn
        is_easy = attempt < _TRIES // 2
        # The marks stand out from what they are drawn on, and measure tissue rather than the edge of the scan.
        is_seen = np.percentile(image[strokes], 80) <= _BRIGHT - _STANDS_OUT and np.median(image[oval]) > _TISSUE
        if not (near & (strokes | oval)).any() and (is_seen or not is_easy):
            return np.where(strokes, np.uint8(_BRIGHT), image)
    return image.copy()


def _drawn(shape: tuple[int, int], centre: tuple[float, float], half: tuple[float, float]) -> tuple[Mask, Mask] | None:
    """Return the pixels of the marks and those of the oval that they measure, bool (H, W); None where they leave the picture."""
    arm = max(3, round(min(shape) / 80))
    row, column = round(centre[0]), round(centre[1])
    down, right = max(2 * arm, round(half[0])), max(2 * arm, round(half[1]))
    scale, thickness = max(0.7, min(shape) / 450), max(1, round(min(shape) / 300))
    baseline = row + down + arm + round(14 * scale)
    if row - down - arm < 1 or baseline >= shape[0] - 2 or column - right - arm < 1 or column + right + arm >= shape[1] - 1:
        return None
    canvas = np.zeros(shape, np.uint8)
    ends = [((column - right, row), (column + right, row)), ((column, row - down), (column, row + down))]
    for first, second in ends:
        steps = max(1, round(float(np.hypot(second[0] - first[0], second[1] - first[1])) / max(4, 2 * arm)))
        for step in range(steps + 1):
            x, y = (round(start + (end - start) * step / steps) for start, end in zip(first, second, strict=True))
            canvas[y, x] = 1
        for place in (first, second):
            cv2.drawMarker(canvas, place, 1, cv2.MARKER_CROSS, 2 * arm + 1, thickness)
    label = f"1 {2 * right / shape[1] * _WIDTH_CM:.2f}cm"
    cv2.putText(canvas, label, (column - right, baseline), cv2.FONT_HERSHEY_PLAIN, scale, 1, thickness)
    oval = cv2.ellipse(np.zeros(shape, np.uint8), (column, row), (right, down), 0, 0, 360, 1, -1)
    return canvas > 0, oval > 0


def _grey(values: np.ndarray) -> Image:
    return np.asarray(np.clip(np.rint(values), 0, 255), dtype=np.uint8)
