"""Transforms of ultrasound geometry: another depth setting, tissue that gives way. Image, mask and guide move together.

They draw from `self.py_random` and `self.random_generator` alone, which `Augmentation` sets for each draw.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Any

import cv2
import numpy as np
from albumentations import DualTransform
from albumentations.core.type_definitions import Targets
from pydantic import Field

from bcd.config.ranges import Ascending, NotNegative, Share
from bcd.data.augment.ultrasound import content_box


class DepthZoom(DualTransform):
    """Another depth setting: width and height scale together about the middle of the probe, which is on top.

    A lower depth magnifies; what then lies beyond the image's sides and bottom is cut off, never any of the lesion. A greater
    depth shrinks; the rest is black, because it was not recorded. After Singla et al., Speckle and Shadows, MIDL
    2022, PMLR 172.

    Args:
        depth: new depth as a multiple of the old one, drawn from this range (evenly in its logarithm), within 0.5 to 2.
        p: how often it is applied.
    """

    _targets = (Targets.IMAGE, Targets.MASK)

    def __init__(self, depth: Annotated[Sequence[Annotated[float, Field(ge=0.5, le=2)]], Ascending], p: Share) -> None:
        super().__init__(p=p)
        self.depth = tuple(depth)

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw the scale, and find the probe."""
        scale = math.exp(-self.py_random.uniform(*(math.log(depth) for depth in self.depth)))
        box = content_box(data["image"])
        mask = data.get("mask")
        return {"scale": scale if mask is None else min(scale, _largest_scale(mask, box)), "box": box}

    def apply(self, img: np.ndarray, scale: float, box: tuple[int, int, int, int], **params: Any) -> np.ndarray:
        """Return the zoomed image, uint8 (H, W)."""
        return _zoom(img, scale, box, cv2.INTER_LINEAR)

    def apply_to_mask(self, mask: np.ndarray, scale: float, box: tuple[int, int, int, int], **params: Any) -> np.ndarray:
        """Return the zoomed mask, uint8 (H, W)."""
        return _zoom(mask, scale, box, cv2.INTER_NEAREST)


class Elastic(DualTransform):
    """Tissue that gives way: a coarse grid of points, each moved at random, with smooth displacements between them.

    The grid is that of Ronneberger et al., U-Net, MICCAI 2015, doi:10.1007/978-3-319-24574-4_28.

    Args:
        displacement: how far a point moves at most along each axis, as a share of the image's side, drawn from this range,
            at most a quarter of `cell`, so that tissue never folds over.
        cell: distance of the points as a share of the image's side.
        p: how often it is applied.

    Raises:
        ValueError: for a displacement of more than a quarter of `cell`.
    """

    _targets = (Targets.IMAGE, Targets.MASK)

    def __init__(
        self, displacement: Annotated[Sequence[NotNegative], Ascending], cell: Annotated[float, Field(ge=0.05, le=0.5)], p: Share
    ) -> None:
        super().__init__(p=p)
        if max(displacement) > cell / 4:
            raise ValueError(f"Elastic.displacement={list(displacement)} must be at most a quarter of cell, {cell / 4:g}.")
        self.cell = cell
        self.displacement = tuple(displacement)

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw where each pixel comes from: within what is not black, and nowhere else, so that the image's frame stays."""
        height, width = params["shape"][:2]
        points = round(1 / self.cell) + 1
        largest = self.py_random.uniform(*self.displacement) * max(height, width)
        drawn = self.random_generator.uniform(-largest, largest, (2, points, points)).astype(np.float32)
        top, bottom, left, right = content_box(data["image"])
        rows, columns = (cv2.resize(moves, (width, height), interpolation=cv2.INTER_CUBIC) for moves in drawn)
        return {
            "rows": _reflected(rows + np.arange(height, dtype=np.float32)[:, None], top, bottom, axis=0),
            "columns": _reflected(columns + np.arange(width, dtype=np.float32), left, right, axis=1),
        }

    def apply(self, img: np.ndarray, rows: np.ndarray, columns: np.ndarray, **params: Any) -> np.ndarray:
        """Return the deformed image, uint8 (H, W)."""
        return cv2.remap(img, columns, rows, cv2.INTER_LINEAR)

    def apply_to_mask(self, mask: np.ndarray, rows: np.ndarray, columns: np.ndarray, **params: Any) -> np.ndarray:
        """Return the deformed mask, uint8 (H, W)."""
        return cv2.remap(mask, columns, rows, cv2.INTER_NEAREST)


def _reflected(sources: np.ndarray, first: int, end: int, axis: int) -> np.ndarray:
    """Return pixel positions, float32 (H, W), along an axis; those of pixels in [first, end) stay in there, others stay put."""
    own = np.arange(sources.shape[axis], dtype=np.float32).reshape((-1, 1) if axis == 0 else (1, -1))
    mirrored = np.minimum(np.abs(sources - first) + first, 2 * (end - 1) - sources)
    mirrored = np.maximum(mirrored, first)
    return np.where((own >= first) & (own < end), mirrored, own)


def _largest_scale(mask: np.ndarray, box: tuple[int, int, int, int]) -> float:
    """Return the scale, at least 1, that just keeps the lesion within the box; infinite without one."""
    if not mask.any():
        return math.inf
    top, bottom, left, right = box
    _, lowest, first, last = content_box(mask)
    middle = (left + right) / 2
    aside = max(last - middle, middle - first, 0.5)
    return max(1.0, min((bottom - top) / max(lowest - top, 1), (right - left) / 2 / aside))


def _zoom(array: np.ndarray, scale: float, box: tuple[int, int, int, int], interpolation: int) -> np.ndarray:
    """Return the array scaled about the middle of the box's upper side, with nothing outside the box."""
    top, bottom, left, right = box
    # Pixel centres: the probe's face is the upper edge of the first row, half a pixel above its centre.
    middle, face = (left + right - 1) / 2, top - 0.5
    matrix = np.array([[scale, 0, middle * (1 - scale)], [0, scale, face * (1 - scale)]])
    zoomed = cv2.warpAffine(array, matrix, array.shape[::-1], flags=interpolation)
    inside = np.zeros_like(array)
    inside[top:bottom, left:right] = zoomed[top:bottom, left:right]
    return inside
