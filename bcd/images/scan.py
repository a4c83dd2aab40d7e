"""Pictures, DICOM files and arrays as scans: the input of a model, from any format.

Patient data of a DICOM file are kept for the DICOM objects that refer to it, and appear in no name, message or log line.
"""

import logging
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

import numpy as np
from PIL import Image

from bcd.images.decode import MAX_PIXELS, ImageError, open_file, printable
from bcd.images.dicom.display import Display
from bcd.images.dicom.frames import decode_frames, read_layout
from bcd.images.dicom.header import is_dicom, printable_name, read_header, safe_name, stem_of, text_of
from bcd.images.dicom.region import tissue_region
from bcd.images.read import grey_values, read_values

if TYPE_CHECKING:
    from pydicom import Dataset

log = logging.getLogger(__name__)

# Channels that differ less are grey: what compressing them as brightness and colour leaves behind.
_COLOURLESS = 8


@dataclass(frozen=True, eq=False)
class DicomSource:
    """What a DICOM object needs to refer to its source: the elements before the pixel data, and the modality, such as US."""

    dataset: "Dataset" = field(repr=False)  # they name the patient: never print them
    modality: str | None


@dataclass(frozen=True, eq=False)
class Scan:
    """One picture to predict: a file, or one frame of a DICOM file, cut to its region of ultrasound.

    Args:
        name: for people, file names and rows: the file's stem, with `_frame_003` behind it where there are several frames; what
            names a patient is replaced.
        image: grey, uint8 (H, W): the region.
        colour: RGB, uint8 (H, W, 3), where channels differ by more than 8 of 255; else None.
        spacing_mm: from row to row and from column to column; None where unknown.
        region: top, left, height, width inside the frame; None for the whole frame.
        frame_size: height and width of the whole frame.
        frame: number from 0 in a DICOM file of several frames; else None.
        source: what a DICOM SEG needs to point back; None for pictures.
    """

    name: str
    image: np.ndarray
    colour: np.ndarray | None
    spacing_mm: tuple[float, float] | None
    region: tuple[int, int, int, int] | None
    frame_size: tuple[int, int]
    frame: int | None
    source: DicomSource | None


ImageLike: TypeAlias = np.ndarray | Image.Image | Path | bytes | Scan


def read_scans(file: Path | bytes, name: str | Path, max_pixels: int = MAX_PIXELS, logged_as: str | None = None) -> Iterator[Scan]:
    """Yield the scans of a PNG, JPEG, BMP, TIFF, WebP or DICOM file; its content says which.

    A picture gives one scan, by the rules of `decode_image`; DICOM one for each frame, decoded when it is asked for (see
    `tissue_region` for region and spacing, `Display` for grey values).

    Args:
        file: path or content.
        name: what to call it; a picture must end as its format does, DICOM may end in anything.
        max_pixels: refuse larger frames before they are decoded.
        logged_as: what the log calls a DICOM file; None for its name, without what names the patient.

    Raises:
        ImageError: when the file cannot be read; after the other frames, when some of several cannot.
    """
    with BytesIO(file) if isinstance(file, bytes) else closing(open_file(file)) as content:
        head = content.read(132)
        content.seek(0)
        if is_dicom(head):
            yield from _dicom_scans(content, name, max_pixels, logged_as)
        else:
            values = read_values(content, name, max_pixels)
            image = grey_values(values, name)
            size = (image.shape[0], image.shape[1])
            yield Scan(printable(stem_of(name)), image, _colour(values), None, None, size, frame=None, source=None)


def is_one(images: object) -> bool:
    """Return whether this is one image in any form, and not several."""
    return isinstance(images, np.ndarray | Image.Image | Path | str | bytes | Scan)


def scan_of(image: ImageLike, max_pixels: int = MAX_PIXELS) -> Scan:
    """Return an image in any form as a scan.

    Raises:
        ImageError: when it cannot be read, or holds several frames.
    """
    if isinstance(image, Scan):
        return image
    if isinstance(image, Path | str):
        return _only_scan(Path(image), Path(image), max_pixels)
    if isinstance(image, bytes):
        return _only_scan(image, "image", max_pixels)
    if isinstance(image, Image.Image):
        return _of_array(np.asarray(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")))
    return _of_array(np.asarray(image))


def uncrop(array: np.ndarray, scan: Scan) -> np.ndarray:
    """Return an array of the region's size, (H, W), as (frame height, frame width) with zeros outside the region.

    Raises:
        ValueError: for an array of another size.
    """
    if array.shape != scan.image.shape:
        raise ValueError(f"{scan.name}: the array is {array.shape}, the scan's image {scan.image.shape}; give one of its size.")
    if scan.region is None:
        return array
    whole = np.zeros(scan.frame_size, array.dtype)
    whole[_part(scan.region)] = array
    return whole


def _dicom_scans(content: BinaryIO, name: str | Path, max_pixels: int, logged_as: str | None) -> Iterator[Scan]:
    header, pixels = read_header(content, name)
    public_name = printable_name(name, header, content, pixels)
    logged_as = public_name if logged_as is None else logged_as
    layout = read_layout(header, public_name, max_pixels)
    size = (layout.height, layout.width)
    region, spacing_mm = tissue_region(header, size, logged_as)
    if region is None and text_of(header, "BurnedInAnnotation", public_name) == "YES":
        log.warning("%s: declares text burnt into its image, and has no tissue region that excludes it.", logged_as)
    display = Display(header, layout)
    part = (slice(None), slice(None)) if region is None else _part(region)
    source = DicomSource(header, text_of(header, "Modality", public_name))
    stem, is_one_of_many = safe_name(name, header), layout.n_frames > 1
    constant = []
    for number, values in decode_frames(content, pixels, layout):
        grey, colour = display.grey_and_colour(values)
        image = grey[part].copy()  # a copy, so that the frame can go
        if image.min() == image.max():
            constant.append(number)
            continue
        colour = None if colour is None else _colour(colour[part].copy())
        scan_name, frame = (f"{stem}_frame_{number:03d}", number) if is_one_of_many else (stem, None)
        yield Scan(scan_name, image, colour, spacing_mm, region, size, frame, source)
    if constant:
        which = f" in {len(constant)} frames, {constant[0]} (from 0) the first of them" if is_one_of_many else ""
        raise ImageError(stem, f"every pixel is the same{which}", "export it again or leave it out")


def _part(region: tuple[int, int, int, int]) -> tuple[slice, slice]:
    top, left, height, width = region
    return slice(top, top + height), slice(left, left + width)


def _colour(values: np.ndarray) -> np.ndarray | None:
    if values.ndim != 3:
        return None
    spread = values.max(axis=2) - values.min(axis=2)
    return values if spread.max() > _COLOURLESS else None


def _only_scan(file: Path | bytes, name: str | Path, max_pixels: int) -> Scan:
    scans = read_scans(file, name, max_pixels)
    scan = next(scans)
    if scan.frame is not None:
        remedy = "read them by bcd.images.scan.read_scans, and give them one by one, or as a list"
        raise ImageError(scan.name, "holds several frames", remedy)
    return scan


def _of_array(pixels: np.ndarray) -> Scan:
    is_grey, is_colour = pixels.ndim == 2, pixels.ndim == 3 and pixels.shape[2] == 3
    if pixels.dtype != np.uint8 or not (is_grey or is_colour) or 0 in pixels.shape:
        reason = f"is an array {pixels.shape} of {pixels.dtype}"
        raise ImageError("image", reason, "give grey uint8 (H, W) or RGB uint8 (H, W, 3)")
    # Pillow's luma, as for files: the same picture gives the same digits however it came.
    grey = pixels if is_grey else np.asarray(Image.fromarray(pixels).convert("L"))
    size = (grey.shape[0], grey.shape[1])
    is_coloured = is_colour and bool((pixels != pixels[..., :1]).any())
    return Scan("image", grey, pixels if is_coloured else None, None, None, size, None, None)
