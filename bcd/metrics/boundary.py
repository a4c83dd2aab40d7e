"""Distances between the boundaries of two masks: Hausdorff, its 95th percentile, mean distance, surface Dice.

A boundary is the centres of the pixels that lie in the mask and have one of their 4 neighbours outside it; what lies beyond the
edge of the picture is outside. Each boundary pixel has one distance: that to the nearest boundary pixel of the other mask. This is
the convention of MONAI, whose figures ours equal; surfaces that run along the edges or corners of pixels give others.

Conventions for the 95th percentile differ: here, as in MONAI, it is the larger of the two directed percentiles (linear
interpolation); MedPy pools both directions first.

Taha and Hanbury, BMC Medical Imaging 15 (2015) 29, doi:10.1186/s12880-015-0068-x; surface Dice: Nikolov et al., Journal of Medical
Internet Research 23 (2021) e26151, doi:10.2196/26151.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

Spacing = tuple[float, float]
PIXELS: Spacing = (1.0, 1.0)

_FOUR_NEIGHBOURS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
# A distance that equals the tolerance up to rounding (ten pixels of 0.1 mm) is within it.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class BoundaryFigures:
    """How far two boundaries lie apart, in the unit of the spacing.

    Attributes:
        hd: Hausdorff distance, the largest of all distances.
        hd95: the larger of the two directed 95th percentiles.
        assd: average symmetric surface distance, the mean over the boundary pixels of both masks.
        surface_dice: share of all boundary pixels within the tolerance of the other boundary, in [0, 1].
    """

    hd: float
    hd95: float
    assd: float
    surface_dice: float


UNKNOWN = BoundaryFigures(math.nan, math.nan, math.nan, math.nan)
"""Where neither mask has a boundary."""


def boundary_figures(predicted: np.ndarray, true: np.ndarray, tolerance: float, spacing: Spacing = PIXELS) -> BoundaryFigures:
    """Return how far the boundaries of two masks lie apart.

    Where both masks are empty, nothing is known: all is NaN. Where one is, the distances are the diagonal of the image and the
    surface Dice is 0: figures that count in a mean, and that no two boundaries on the image reach. Count such cases beside it.

    Args:
        predicted: bool (H, W).
        true: bool (H, W).
        tolerance: of the surface Dice, not negative, in the unit of the spacing.
        spacing: distance of two rows and of two columns; (1, 1) gives pixels.

    Raises:
        ValueError: when the masks differ in size, or are not of two dimensions.
    """
    if predicted.shape != true.shape or predicted.ndim != 2:
        raise ValueError(f"The masks are {predicted.shape} and {true.shape}; both must be (H, W) of the same image.")
    has_predicted, has_true = bool(predicted.any()), bool(true.any())
    if not (has_predicted or has_true):
        return UNKNOWN
    if not (has_predicted and has_true):
        diagonal = image_diagonal(true.shape, spacing)
        return BoundaryFigures(diagonal, diagonal, diagonal, 0.0)
    to_true, to_predicted = boundary_distances(predicted, true, spacing)
    both = np.concatenate([to_true, to_predicted])
    return BoundaryFigures(
        hd=float(both.max()),
        hd95=float(max(np.quantile(to_true, 0.95), np.quantile(to_predicted, 0.95))),
        assd=float(both.mean()),
        surface_dice=float((both <= tolerance * (1 + _ROUNDING)).mean()),
    )


def boundary_distances(
    predicted: np.ndarray, true: np.ndarray, spacing: Spacing = PIXELS
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the distance of each predicted boundary pixel to the true boundary, and of each true one to the predicted.

    Masks are bool (H, W), not empty; the distances are float64 (N,) and (M,), row by row.
    """
    # Beyond the box around both masks there is nothing to see; its edge is outside for both, as that of the picture is.
    box = bounding_box(predicted | true)
    ours, theirs = (np.argwhere(boundary(mask[box])) * np.asarray(spacing) for mask in (predicted, true))
    # Only the distances at boundary pixels are wanted, so trees of these few points are no slower than distance transforms of the
    # box, and exact for any spacing.
    return np.asarray(KDTree(theirs).query(ours)[0]), np.asarray(KDTree(ours).query(theirs)[0])


def boundary(mask: np.ndarray) -> NDArray[np.bool_]:
    """Return the pixels of a bool (H, W) mask that have a 4-neighbour outside it or beyond the edge of the picture, bool (H, W)."""
    values = np.ascontiguousarray(mask).view(np.uint8)
    inner = cv2.erode(values, _FOUR_NEIGHBOURS, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return (values != inner).astype(bool, copy=False)


def bounding_box(mask: np.ndarray) -> tuple[slice, slice]:
    """Return the rows and columns of the smallest box around a bool (H, W) mask; an empty box around an empty one."""
    left, top, width, height = cv2.boundingRect(np.ascontiguousarray(mask).view(np.uint8))
    return slice(top, top + height), slice(left, left + width)


def image_diagonal(shape: tuple[int, ...], spacing: Spacing = PIXELS) -> float:
    """Return the length of the diagonal of an image (H, W), in the unit of the spacing."""
    return math.hypot(shape[0] * spacing[0], shape[1] * spacing[1])
