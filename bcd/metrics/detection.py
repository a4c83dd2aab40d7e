"""Lesions as objects: which of them were found, by which predicted components, and at how many false alarms.

A mask falls into components, pixels that touch at an edge or a corner (8-connectivity). A predicted component has a score, the
highest probability inside it, and hits at most one true one; each true component is hit at most once. So of two components on one
lesion the one of higher score finds it, and the other is a false positive.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from bcd.metrics.boundary import bounding_box

FROC_POINTS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False positives per image at which sensitivity is averaged, as in CAMELYON16 and LUNA16."""

MIN_IOU = 0.5
CRITERION = (
    f"A predicted component (8-connectivity) finds a lesion by intersection over union of at least {MIN_IOU:g} with it; one "
    "component a lesion and one lesion a component, the higher score first; every other component is a false positive."
)


@dataclass(frozen=True)
class Detection:
    """A predicted component.

    Attributes:
        score: highest probability inside it, in [0, 1].
        area_px: its area.
        centre_y: row of its centre of gravity, in pixels from the centre of the first row.
        centre_x: column of it.
        lesion: number of the true component that it hits, from 1, as `components` counts them; None for a false positive.
        iou: intersection over union with that component; of a false positive the largest with any, 0 where it overlaps none.
    """

    score: float
    area_px: int
    centre_y: float
    centre_x: float
    lesion: int | None
    iou: float


def components(mask: np.ndarray) -> tuple[NDArray[np.int32], int]:
    """Return the components of a bool (H, W) mask, int32 (H, W) with 0 outside and numbers from 1 on, and how many there are."""
    count, numbers = cv2.connectedComponents(np.ascontiguousarray(mask).view(np.uint8), connectivity=8, ltype=cv2.CV_32S)
    return np.asarray(numbers, dtype=np.int32), count - 1


def count_components(mask: np.ndarray) -> int:
    """Return how many components a bool (H, W) mask has."""
    return components(mask[bounding_box(mask)])[1] if mask.any() else 0


def detect(predicted: np.ndarray, true: np.ndarray, probability: np.ndarray, min_iou: float = MIN_IOU) -> list[Detection]:
    """Return the components of a predicted mask, bool (H, W), the highest score first, and which lesion of the true one each hits.

    A component chooses among the lesions that no better one has taken, and takes the one that it overlaps most. Components of equal
    score choose in the order of their areas, the largest first. The predicted mask was made of `probability`, (H, W) in [0, 1].
    """
    if not predicted.any():
        return []
    box = bounding_box(predicted | true)
    pixels = np.ascontiguousarray(predicted[box]).view(np.uint8)
    count, numbers, measures, centroids = cv2.connectedComponentsWithStats(pixels, connectivity=8, ltype=cv2.CV_32S)
    areas, centres = measures[1:, cv2.CC_STAT_AREA], centroids[1:, ::-1]
    lesions, n_lesions = components(true)  # of the whole mask, so that a lesion's number does not depend on the prediction
    lesions = lesions[box]
    highest = np.zeros(count, dtype=probability.dtype)  # of the same type: numpy is ten times slower where it must convert
    inside = numbers > 0
    np.maximum.at(highest, numbers[inside].astype(np.intp), probability[box][inside])
    scores = highest[1:]  # without that of the background, number 0
    ious = _ious(numbers, count - 1, lesions, n_lesions)
    order = np.lexsort((-areas, -scores))
    hits = _assign(ious >= min_iou, ious, order)
    origin = box[0].start, box[1].start
    return [
        Detection(
            score=float(scores[number]),
            area_px=int(areas[number]),
            centre_y=float(centres[number, 0] + origin[0]),
            centre_x=float(centres[number, 1] + origin[1]),
            lesion=hits[number] + 1 if number in hits else None,
            iou=float(ious[number, hits[number]] if number in hits else ious[number].max(initial=0.0)),
        )
        for number in order.tolist()
    ]


def froc_curve(
    false_positive_scores: Sequence[float] | np.ndarray,
    true_positive_scores: Sequence[float] | np.ndarray,
    n_lesions: int,
    n_images: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return false positives per image and sensitivity at falling thresholds, float64 (T,) each, both from 0 on and never falling.

    The thresholds are all scores, the lowest included, so that the last point counts every detection; a score of 0 is no detection.
    (MONAI's curve leaves the lowest out; the two agree where its list of true positives holds a zero for a lesion that was not
    found.) Images without a lesion are counted in `n_images`.

    Bandos et al., Biometrics 65 (2009) 247, doi:10.1111/j.1541-0420.2008.01049.x.

    Raises:
        ValueError: without a lesion or an image.
    """
    if n_lesions < 1 or n_images < 1:
        raise ValueError(f"{n_lesions} lesions in {n_images} images: a FROC curve needs at least one of each.")
    false, true = (np.asarray(scores, dtype=np.float64) for scores in (false_positive_scores, true_positive_scores))
    thresholds = np.unique(np.concatenate([false[false > 0], true[true > 0]]))[::-1]
    counts = [len(scores) - np.searchsorted(np.sort(scores), thresholds, side="left") for scores in (false, true)]
    return np.concatenate([[0.0], counts[0] / n_images]), np.concatenate([[0.0], counts[1] / n_lesions])


def froc_sensitivities(
    false_positives_per_image: np.ndarray, sensitivity: np.ndarray, points: Sequence[float] = FROC_POINTS
) -> NDArray[np.float64]:
    """Return the sensitivity of a `froc_curve` at given numbers of false positives per image, float64 (P,).

    Between two points of the curve it is interpolated linearly; beyond its end, it is that of the end: more false positives than
    are made bring nothing. The mean over `FROC_POINTS` is the score of CAMELYON16 (MONAI computes the same).
    """
    return np.asarray(np.interp(points, false_positives_per_image, sensitivity), dtype=np.float64)


def _ious(numbers: np.ndarray, count: int, lesions: np.ndarray, n_lesions: int) -> NDArray[np.float64]:
    """Return the intersection over union of each predicted with each true component, (count, n_lesions)."""
    pairs = np.bincount((numbers * np.int64(n_lesions + 1) + lesions).ravel(), minlength=(count + 1) * (n_lesions + 1))
    shared = pairs.reshape(count + 1, n_lesions + 1)
    union = shared.sum(1)[1:, None] + shared.sum(0)[None, 1:] - shared[1:, 1:]
    return np.asarray(shared[1:, 1:] / union, dtype=np.float64)


def _assign(able: np.ndarray, ious: np.ndarray, order: np.ndarray) -> dict[int, int]:
    """Return predicted -> true component, from 0; each true one goes to the first in the order that can have it."""
    free = np.ones(able.shape[1], dtype=bool)
    hits: dict[int, int] = {}
    for number in order.tolist():
        open_to = able[number] & free
        if open_to.any():
            hits[number] = int(np.where(open_to, ious[number], -1.0).argmax())
            free[hits[number]] = False
    return hits
