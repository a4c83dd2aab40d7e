"""Ultrasound images from DICOM files.

What a file says of its patient is kept for the DICOM objects that point back at it, and reaches no name, message or log line.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from bcd.images.dicom.display import Display
from bcd.images.dicom.frames import decode_frames, read_layout
from bcd.images.dicom.header import printable_name, read_header, safe_name, text_of
from bcd.images.dicom.region import Region, Spacing, tissue_region

if TYPE_CHECKING:
    from pydicom import Dataset

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class DicomSource:
    """What a DICOM object needs to point back at its source.

    Args:
        dataset: the elements before the pixel data. They name the patient: never print them.
        modality: the file's, such as US; None where it has none.
        n_frames: number of frames that the file has.
    """

    dataset: "Dataset" = field(repr=False)
    modality: str | None
    n_frames: int


@dataclass(frozen=True, eq=False)
class DicomFrame:
    """One frame: its number from 0, grey uint8 (H, W), and RGB uint8 (H, W, 3) where the file stores colour."""

    number: int
    grey: np.ndarray
    colour: np.ndarray | None


@dataclass(frozen=True, eq=False)
class DicomImage:
    """A file's frames, decoded one by one, and what holds for all of them.

    Args:
        name: without ending, and without what names the patient.
        source: see there.
        size: height and width of a frame, px.
        region: top, left, height, width of the tissue; None for the whole frame.
        spacing_mm: from row to row and from column to column; None where unknown.
        frames: to be taken once; raises an ImageError at the end when some could not be decoded.
    """

    name: str
    source: DicomSource
    size: tuple[int, int]
    region: Region | None
    spacing_mm: Spacing | None
    frames: Iterator[DicomFrame]


def read_dicom(file: BinaryIO, name: str | Path, max_pixels: int, logged_as: str | None = None) -> DicomImage:
    """Return a DICOM file's frames and what is known of them.

    Args:
        file: open for reading in binary, until the last frame was taken.
        name: what to call it.
        max_pixels: refuse larger frames before they are decoded.
        logged_as: what the log calls it; None for its name, without what names the patient.

    Raises:
        ImageError: when the file cannot be read, whatever is wrong with it; the message names no patient.
    """
    header, pixels = read_header(file, name)
    shown = printable_name(name, header, file, pixels)
    logged_as = shown if logged_as is None else logged_as
    layout = read_layout(header, shown, max_pixels)
    size = (layout.height, layout.width)
    region, spacing = tissue_region(header, size, logged_as)
    if region is None and text_of(header, "BurnedInAnnotation", shown) == "YES":
        log.warning("%s: says that text is burnt into its image, and no region of tissue leaves it out.", logged_as)
    display = Display(header, layout)
    frames = (DicomFrame(number, *display.grey_and_colour(values)) for number, values in decode_frames(file, pixels, layout))
    source = DicomSource(header, text_of(header, "Modality", shown), layout.n_frames)
    return DicomImage(safe_name(name, header), source, size, region, spacing, frames)
