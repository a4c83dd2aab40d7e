"""Images in any form that a Predictor is given, as scans."""

from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image

from bcd.images.decode import MAX_PIXELS, ImageError
from bcd.images.scan import Scan, read_scans

ImageLike: TypeAlias = np.ndarray | Image.Image | Path | bytes | Scan


def is_one(images: object) -> bool:
    """Tell whether this is one image in any form, and not several."""
    return isinstance(images, np.ndarray | Image.Image | Path | str | bytes | Scan)


def scan_of(image: ImageLike, max_pixels: int = MAX_PIXELS) -> Scan:
    """Return an image in any form as a scan.

    Raises:
        ImageError: when it cannot be read, or holds several frames.
    """
    if isinstance(image, Scan):
        return image
    if isinstance(image, Path | str):
        return _only(Path(image), Path(image), max_pixels)
    if isinstance(image, bytes):
        return _only(image, "image", max_pixels)
    if isinstance(image, Image.Image):
        return _of_array(np.asarray(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")))
    return _of_array(np.asarray(image))


def _only(file: Path | bytes, name: str | Path, max_pixels: int) -> Scan:
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
