"""Where the tissue lies in an ultrasound frame, and how large its pixels are."""

import logging
import math
from typing import TYPE_CHECKING

from bcd.images.dicom.header import within_pydicom

if TYPE_CHECKING:
    from pydicom import Dataset

log = logging.getLogger(__name__)

# Region: top, left, height, width; spacing: mm from row to row and from column to column.
Region = tuple[int, int, int, int]
Spacing = tuple[float, float]

_TWO_DIMENSIONAL = 1
_TISSUE = 1
_CENTIMETRES = 3
# A pixel of ultrasound is a few hundredths to tenths of a mm; far outside, the tag means something else.
_SPACING_MM = (0.001, 10.0)


def tissue_region(header: "Dataset", size: tuple[int, int], name: str) -> tuple[Region | None, Spacing | None]:
    """Return the largest 2-D region of tissue, None for the whole frame, and the spacing inside it, None where unknown.

    Regions are those of SequenceOfUltrasoundRegions with RegionSpatialFormat 1 (2-D) and RegionDataType 1 (tissue) that lie inside
    the frame, of `size` height and width. Others of them are named in the log. Spacing is PhysicalDeltaX and PhysicalDeltaY where
    both are in cm, else PixelSpacing, ImagerPixelSpacing or NominalScannedPixelSpacing.

    Raises:
        ImageError: for a sequence of regions that cannot be read.
    """
    with within_pydicom(name, "its SequenceOfUltrasoundRegions is damaged"):
        items = list(header.get("SequenceOfUltrasoundRegions") or [])
        regions = [(region, _physical_spacing(item)) for item in items if (region := _region(item, size)) is not None]
        fallback = _pixel_spacing(header)
    if not regions:
        if items:
            log.warning(
                "%s: none of its %d ultrasound regions is 2-D tissue inside the frame; the whole frame is read.", name, len(items)
            )
        return None, fallback
    regions.sort(key=lambda each: -each[0][2] * each[0][3])  # stable: the first of equal ones
    (region, spacing), others = regions[0], regions[1:]
    if others:
        listed = ", ".join(f"{height} x {width} at {top}, {left}" for (top, left, height, width), _ in others[:4])
        log.warning("%s: %d more regions of tissue are not read (%s).", name, len(others), listed)
    return (None if region == (0, 0, *size) else region), spacing or fallback


def _region(item: "Dataset", size: tuple[int, int]) -> Region | None:
    if item.get("RegionSpatialFormat") != _TWO_DIMENSIONAL or item.get("RegionDataType") != _TISSUE:
        return None
    corners = [item.get(f"RegionLocation{corner}") for corner in ("MinY0", "MinX0", "MaxY1", "MaxX1")]
    if not all(isinstance(corner, int) and corner >= 0 for corner in corners):
        return None
    top, left, bottom, right = (int(corner) for corner in corners)
    # The last row and column belong to the region; some scanners count one more. What reaches farther was written for another
    # size of the frame, and so was its spacing.
    if not (top < bottom <= size[0] and left < right <= size[1]):
        return None
    return top, left, min(bottom + 1, size[0]) - top, min(right + 1, size[1]) - left


def _physical_spacing(item: "Dataset") -> Spacing | None:
    units = [item.get(f"PhysicalUnits{axis}Direction") for axis in "YX"]
    deltas = [item.get(f"PhysicalDelta{axis}") for axis in "YX"]
    is_known = units == [_CENTIMETRES, _CENTIMETRES] and all(isinstance(delta, float) for delta in deltas)
    return _plausible(10 * abs(deltas[0]), 10 * abs(deltas[1])) if is_known else None


def _pixel_spacing(header: "Dataset") -> Spacing | None:
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        values = header.get(keyword)
        if values is not None and not isinstance(values, (str, float)) and len(values) == 2:
            return _plausible(float(values[0]), float(values[1]))
    return None


def _plausible(row: float, column: float) -> Spacing | None:
    low, high = _SPACING_MM
    is_plausible = all(math.isfinite(value) and low <= value <= high for value in (row, column))
    return (row, column) if is_plausible else None
