"""Reading images and masks: all common files of breast-ultrasound collections, or an error that says what to do."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from bcd.images.decode import MAX_PIXELS, ImageError, decode, open_file, upright_size


def read_image(path: Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Return a file's grey values, uint8 (H, W), turned upright by its EXIF orientation.

    See `decode_image` for the rules and errors.
    """
    with open_file(path) as file:
        return grey_values(read_values(file, path, max_pixels), path)


def decode_image(data: bytes, name: str | Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Return the grey values of an encoded picture, uint8 (H, W).

    Colour becomes luma (ITU-R 601; equal channels stay exactly what they are), alpha is ignored. More than 8 bits are
    scaled by the full scale of the smallest depth among 8, 12 and 16 bits that holds the largest value: scanners store
    12 bits in 16 without stretching them, and what this could mistake is a picture darker than 16 of 255. Floating
    point up to 1 is read as [0, 1]. 16-bit colour keeps its upper 8 bits.

    Args:
        data: the file's content.
        name: what to call it in an error; where it ends like a file, it must end as its format does.
        max_pixels: refuse a larger picture before it is decoded.

    Raises:
        ImageError: for a file that is unreadable, truncated, animated, too large, constant, of another format than its name
            says, or that holds NaN or infinity.
    """
    return grey_values(read_values(io.BytesIO(data), name, max_pixels), name)


def read_mask(path: Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Return one mask, uint8 (H, W) in {0, 1}: black is background, the one other level or colour is lesion.

    Raises:
        ImageError: for a file that is unreadable, that holds two levels besides black, or whose lesion is in its transparency.
    """
    with open_file(path) as file:
        picture = decode(file, path, max_pixels)
    hides_parts = False
    if picture.has_transparency_data:
        alpha = np.asarray(picture.convert("RGBA").getchannel("A"))
        hides_parts = bool(alpha.min() != alpha.max())
    values = _pixels(picture, path)
    lesion = (values != 0) if values.ndim == 2 else (values != 0).any(axis=2)
    if hides_parts and lesion.all():
        raise ImageError(path, "the mask is in its transparency, which is not read", "export it as lesion on black")
    inside = values[lesion]
    if inside.size and (inside != inside[0]).any():
        levels = np.unique(values.reshape(-1, *values.shape[2:]), axis=0)
        first = ", ".join([str(level.tolist()) for level in levels[:4]] + ["..."] * (len(levels) > 4))
        raise ImageError(
            path,
            f"a mask has black and one other level, this one has {len(levels)} levels ({first})",
            "threshold it and save it as PNG (JPEG and smooth edges blur levels), with each lesion the same level",
        )
    return np.asarray(lesion, dtype=np.uint8)


def read_masks(
    paths: Sequence[Path], shape: tuple[int, int], image: str | Path = "its image", max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """Return the logical OR of the masks of an image of that shape, uint8 (H, W) in {0, 1}; all zero for no mask.

    `image` is what to call the image in an error.

    Raises:
        ImageError: for a mask of another size, or one that `read_mask` refuses.
    """
    lesion = np.zeros(shape, dtype=np.uint8)
    for path in paths:
        mask = read_mask(path, max_pixels)
        if mask.shape != tuple(shape):
            size, wanted = (f"{height} x {width}" for height, width in (mask.shape, shape))
            reason = f"the mask is {size}, {image} is {wanted} (height x width)"
            raise ImageError(path, reason, "export both again at one size or leave it out")
        lesion |= mask
    return lesion


def image_size(path: Path, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Return height and width in pixels, upright, from the file's header alone."""
    with open_file(path) as file:
        return upright_size(file, path, max_pixels)


def read_values(file: BinaryIO, name: str | Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Return a picture's values without alpha: of any depth (H, W), or uint8 (H, W, 3) for colour; errors as of `decode_image`."""
    return _pixels(decode(file, name, max_pixels), name)


def grey_values(values: np.ndarray, name: str | Path) -> np.ndarray:
    """Return the grey values, uint8 (H, W), of what `read_values` returned; see `decode_image` for the rules and errors."""
    image = _scale_to_8_bit(np.asarray(Image.fromarray(values).convert("L")) if values.ndim == 3 else values, name)
    if image.min() == image.max():
        raise ImageError(name, f"every pixel is {image.flat[0]}", "export the image again or leave it out")
    return image


def _pixels(image: Image.Image, name: str | Path) -> np.ndarray:
    """Return the values without alpha: (H, W), or (H, W, 3) for colour."""
    image.info.pop("transparency", None)
    if image.mode == "L" or image.mode.startswith(("I", "F")):  # 8 bits, or more
        values = np.asarray(image)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ImageError(name, "holds NaN or infinite values", "export it as 8- or 16-bit PNG or leave it out")
        return values
    try:
        return np.asarray(image.convert("L" if image.mode in {"1", "LA", "La"} else "RGB"))
    except ValueError as error:
        raise ImageError(name, f"its colours cannot be read ({error})", "export it as RGB or grey") from error


def _scale_to_8_bit(values: np.ndarray, name: str | Path) -> np.ndarray:
    if values.dtype == np.uint8:
        return values
    largest = float(values.max())
    if values.min() < 0 or largest > 65535:
        reason = f"values run from {values.min():g} to {largest:g}, outside 0 to 65535"
        raise ImageError(name, reason, "export it as 8- or 16-bit PNG")
    is_float = values.dtype.kind == "f"
    full_scale = next(depth for depth in [1.0] * is_float + [255.0, 4095.0, 65535.0] if largest <= depth)
    if is_float:
        return np.rint(values.astype(np.float64) * (255.0 / full_scale)).astype(np.uint8)
    return np.rint(np.arange(65536) * (255.0 / full_scale)).astype(np.uint8)[values]  # a table needs no float of each pixel
