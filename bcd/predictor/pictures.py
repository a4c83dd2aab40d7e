"""Images in any form that a Predictor is given, as one kind of thing."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image

from bcd.data.decoding import ImageError
from bcd.data.images import decode_image, read_image
from bcd.predictor.measurements import Spacing

ImageLike: TypeAlias = np.ndarray | Image.Image | Path | str | bytes


@dataclass(frozen=True)
class Picture:
    """An image to be judged.

    Attributes:
        name: of the image.
        image: grey, uint8 (H, W).
        colour: RGB, uint8 (H, W, 3), where it has colour; else None.
        spacing_mm: distance of rows, and of columns, in mm; None if unknown.
    """

    name: str
    image: np.ndarray
    colour: np.ndarray | None
    spacing_mm: Spacing | None


def picture_of(image: ImageLike) -> Picture:
    """Return an image in any form as a picture.

    Raises:
        ImageError: when it cannot be read.
    """
    if isinstance(image, Path | str):
        return Picture(Path(image).stem, read_image(Path(image)), None, None)
    if isinstance(image, bytes):
        return Picture("image", decode_image(image, "image"), None, None)
    if isinstance(image, Image.Image):
        return _of_array(np.asarray(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")))
    return _of_array(np.asarray(image))


def _of_array(pixels: np.ndarray) -> Picture:
    is_grey, is_colour = pixels.ndim == 2, pixels.ndim == 3 and pixels.shape[2] == 3
    if pixels.dtype != np.uint8 or not (is_grey or is_colour) or 0 in pixels.shape:
        raise ImageError("image", f"is an array {pixels.shape} of {pixels.dtype}", "give grey uint8 (H, W) or RGB uint8 (H, W, 3)")
    if is_grey:
        return Picture("image", pixels, None, None)
    # Pillow's luma, as for files: the same picture gives the same digits however it came.
    return Picture("image", np.asarray(Image.fromarray(pixels).convert("L")), pixels, None)
