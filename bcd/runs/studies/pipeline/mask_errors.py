"""How predicted masks differ from the truth, and the perturbation of true masks that differs as much."""

import math
from collections.abc import Sequence

import cv2
import numpy as np
import pandas as pd

from bcd.data.augment.perturbation import Perturbation

# Of each amount the lowest and highest twentieth is cut off: a mask that lies elsewhere in the image is no shifted one.
_TRIM = 0.05
COLUMNS = ("shift", "growth", "gone")


def mask_error(truth: np.ndarray, predicted: np.ndarray) -> dict[str, float | bool]:
    """Return how a predicted mask differs from the truth, in shares of the lesion's equivalent diameter.

    `shift` is the distance of the centroids; `growth` by how much the equivalent radius is larger, as a share of the diameter; both
    NaN where nothing was predicted, or nothing of the lesion was hit, which is `gone`.

    Args:
        truth: (H, W), not empty; non-zero is lesion.
        predicted: (H, W); non-zero is lesion.

    Raises:
        ValueError: for an empty truth, or masks of unlike sizes.
    """
    if truth.shape != predicted.shape or not truth.any():
        raise ValueError(f"A true mask {truth.shape} with a lesion, and a predicted one {predicted.shape} of its size, are wanted.")
    truth, predicted = truth.astype(np.uint8), predicted.astype(np.uint8)
    if not (truth & predicted).any():
        return {"shift": math.nan, "growth": math.nan, "gone": True}
    diameter = math.sqrt(4 * int(truth.sum()) / math.pi)
    down, right = (a - b for a, b in zip(_centroid(predicted), _centroid(truth), strict=True))
    growth = (math.sqrt(4 * int(predicted.sum()) / math.pi) / diameter - 1) / 2
    return {"shift": math.hypot(down, right) / diameter, "growth": growth, "gone": False}


def matched_amounts(errors: pd.DataFrame) -> dict[str, float]:
    """Return the amounts of a `Perturbation` of strength 1 that alters true masks as much as predicted ones differ from them.

    Mean shift, mean and spread of the growth, and the share of missed lesions are those of the errors; shift and growth are drawn
    evenly by the perturbation, so their ends follow from mean and standard deviation. Amounts beyond what a `Perturbation` takes
    are cut to that.

    Args:
        errors: columns `shift`, `growth`, `gone` as from `mask_error`, one row a lesion image.

    Raises:
        ValueError: without a single row.
    """
    if not len(errors):
        raise ValueError("No lesion image has a predicted mask: how masks differ from the truth cannot be measured.")
    hit = errors[~errors["gone"].astype(bool)]
    shift, growth = (_trimmed(hit[name].to_numpy(dtype=np.float64)) for name in ("shift", "growth"))
    mean, half = (float(growth.mean()), math.sqrt(3) * float(growth.std())) if len(growth) else (0.0, 0.0)
    amounts = {
        "strength": 1.0,
        "shift": min(2 * float(shift.mean()), 1.0) if len(shift) else 0.0,
        "dilate": min(max(mean + half, 0.0), 1.0),
        "erode": min(max(half - mean, 0.0), 0.5),
        "drop": float(errors["gone"].astype(bool).mean()),
    }
    Perturbation(**amounts)
    return {name: round(amount, 4) for name, amount in amounts.items()}


def _centroid(mask: np.ndarray) -> Sequence[float]:
    moments = cv2.moments(mask, binaryImage=True)
    return moments["m01"] / moments["m00"], moments["m10"] / moments["m00"]


def _trimmed(values: np.ndarray) -> np.ndarray:
    if not len(values):
        return values
    low, high = np.quantile(values, [_TRIM, 1 - _TRIM])
    return values[(values >= low) & (values <= high)]
