"""Overlap of a predicted with a true mask, for one image, in numpy; the torch metrics of training are in `training.py`."""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Overlap:
    """Areas of two masks of one image, and of what they share, in pixels.

    The figures are scored on lesion images alone: without a true lesion each of them is NaN, for any prediction. With one, each
    is a number in [0, 1]; where nothing was predicted, the lesion is missed and each is 0, precision included.
    """

    predicted_px: int
    true_px: int
    shared_px: int

    def figures(self) -> dict[str, float]:
        """Return `dice` (Dice, Ecology 26 (1945) 297, doi:10.2307/1932409), `iou`, and `precision` and `recall` of the pixels."""
        parts = {
            "dice": (2 * self.shared_px, self.predicted_px + self.true_px),
            "iou": (self.shared_px, self.predicted_px + self.true_px - self.shared_px),
            "precision": (self.shared_px, self.predicted_px),
            "recall": (self.shared_px, self.true_px),
        }
        if not self.true_px:
            return dict.fromkeys(parts, math.nan)
        return {name: part / whole if whole else 0.0 for name, (part, whole) in parts.items()}


def overlap_of(predicted: np.ndarray, true: np.ndarray) -> Overlap:
    """Return the areas of two bool (H, W) masks and of what they share.

    Raises:
        ValueError: when the masks differ in size.
    """
    if predicted.shape != true.shape:
        raise ValueError(f"The masks are {predicted.shape} and {true.shape}; both must be of the same image.")
    return Overlap(int(np.count_nonzero(predicted)), int(np.count_nonzero(true)), int(np.count_nonzero(predicted & true)))
