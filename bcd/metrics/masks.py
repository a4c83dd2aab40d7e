"""Overlap of a predicted with a true mask, for one image, in numpy; the torch metrics of training stand in `overlap.py`."""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Overlap:
    """Areas of two masks of one image, and of what they share, in pixels.

    The figures are scored on lesion images alone: without a true lesion each of them is NaN, whatever was predicted. With one, each
    is a number in [0, 1]; where nothing was predicted, the lesion is missed and each is 0, precision included.
    """

    predicted_px: int
    true_px: int
    shared_px: int

    @property
    def dice(self) -> float:
        """Twice the shared area over the sum of both; Dice, Ecology 26 (1945) 297, doi:10.2307/1932409."""
        return self._scored(2 * self.shared_px, self.predicted_px + self.true_px)

    @property
    def iou(self) -> float:
        """Intersection over union, also called Jaccard index."""
        return self._scored(self.shared_px, self.predicted_px + self.true_px - self.shared_px)

    @property
    def precision(self) -> float:
        """Share of the predicted area that is lesion."""
        return self._scored(self.shared_px, self.predicted_px)

    @property
    def recall(self) -> float:
        """Share of the lesion that is predicted, also called sensitivity of the pixels."""
        return self._scored(self.shared_px, self.true_px)

    def _scored(self, part: int, whole: int) -> float:
        if not self.true_px:
            return math.nan
        return part / whole if whole else 0.0


def overlap_of(predicted: np.ndarray, true: np.ndarray) -> Overlap:
    """Return the areas of two bool (H, W) masks and of what they share.

    Raises:
        ValueError: when the masks differ in size.
    """
    if predicted.shape != true.shape:
        raise ValueError(f"The masks are {predicted.shape} and {true.shape}; both must be of the same image.")
    return Overlap(int(np.count_nonzero(predicted)), int(np.count_nonzero(true)), int(np.count_nonzero(predicted & true)))
