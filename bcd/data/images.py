"""Reading images and masks: whatever a breast-ultrasound collection may hold, or an error that says what to do."""

import io
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from bcd.data.manifest import Case

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")

# 64 Mpx: ten times a large ultrasound frame. A small file can claim far more (a decompression bomb).
MAX_PIXELS = 64 * 1024 * 1024

# Pillow's decoders raise whatever their format does; the last one is for `python -W error`.
_DECODER_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, IndexError, KeyError, TypeError, Warning,
)  # fmt: skip

_ORIENTATION_TAG = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageError(ValueError):
    """A file that cannot serve as an image or mask; the message names it, what is wrong, and what to do.

    Args:
        file: path or name of the file.
        reason: what is wrong with it.
        remedy: what to do about it.
    """

    def __init__(self, file: str | Path, reason: str, remedy: str) -> None:
        super().__init__(f"{file}: {reason}; {remedy}.")
        self.file, self.reason, self.remedy = str(file), reason, remedy

    def __reduce__(self) -> tuple[type["ImageError"], tuple[str, str, str]]:
        """Survive the way back from a worker process."""
        return type(self), (self.file, self.reason, self.remedy)


def read_image(path: Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Return a file's grey values, uint8 (H, W), turned upright by its EXIF orientation.

    See `decode_image` for the rules and errors.
    """
    return decode_image(_read_bytes(path), path, max_pixels)


def decode_image(data: bytes, name: str | Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Return the grey values of an encoded picture, uint8 (H, W).

    Colour becomes luma (ITU-R 601; equal channels stay exactly what they are), alpha is ignored. More than 8 bits are
    scaled by the full scale of the smallest depth among 8, 12 and 16 bits that holds the largest value: scanners store
    12 bits in 16 without stretching them, and what this could mistake is a picture darker than 16 of 255. Floating
    point up to 1 counts as [0, 1]. 16-bit colour keeps its upper 8 bits.

    Args:
        data: the file's content.
        name: what to call it in an error.
        max_pixels: refuse a larger picture before it is decoded.

    Raises:
        ImageError: for a file that is unreadable, truncated, animated, too large, constant, or holds NaN or infinity.
    """
    image = _scale_to_8_bit(_to_grey(_decode(data, name, max_pixels)), name)
    if image.min() == image.max():
        raise ImageError(name, f"every pixel is {image.flat[0]}", "export the image again or drop the case")
    return image


def read_mask(path: Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Return one mask, uint8 (H, W) in {0, 1}: black is background, the one other level or colour is lesion.

    Raises:
        ImageError: for a file that is unreadable, or that holds two levels besides black.
    """
    values = _decode(_read_bytes(path), path, max_pixels)
    lesion = (values != 0) if values.ndim == 2 else (values != 0).any(axis=2)
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
    """Return the logical OR of masks, uint8 (H, W) in {0, 1}; all zero for no mask.

    Args:
        paths: the masks of one image.
        shape: height and width of the image, upright.
        image: what to call the image in an error.
        max_pixels: as for `read_image`.

    Raises:
        ImageError: for a mask of another size, or one that `read_mask` refuses.
    """
    lesion = np.zeros(shape, dtype=np.uint8)
    for path in paths:
        mask = read_mask(path, max_pixels)
        if mask.shape != tuple(shape):
            reason = f"the mask is {_size(mask.shape)}, {image} is {_size(shape)} (height x width)"
            raise ImageError(path, reason, "export both again at one size or drop the case")
        lesion |= mask
    return lesion


def read_case(case: Case, max_pixels: int = MAX_PIXELS) -> tuple[np.ndarray, np.ndarray]:
    """Return a case's image, uint8 (H, W), and lesion mask, uint8 (H, W) in {0, 1}."""
    image = read_image(case.image, max_pixels)
    return image, read_masks(case.masks, (image.shape[0], image.shape[1]), case.image, max_pixels)


def image_size(path: Path, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Return height and width in pixels, upright, from the file's header alone."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise _unreadable(path, error) from error
    with file:
        image = _open(file, path, max_pixels)
        turned = _orientation(image) >= 5
    return (image.width, image.height) if turned else (image.height, image.width)


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> ImageError:
    return ImageError(path, f"cannot be read ({error.strerror})", "restore the file or drop the case")


def _open(file: BinaryIO, name: str | Path, max_pixels: int) -> Image.Image:
    try:
        image = Image.open(file, formats=FORMATS)
        frames = getattr(image, "n_frames", 1)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(name, str(error).rstrip("."), "save it smaller") from error
    except UnidentifiedImageError as error:
        kinds = ", ".join(FORMATS[:-1]) + f" or {FORMATS[-1]}"
        raise ImageError(name, f"its content is no {kinds} picture", "export it as PNG or drop the case") from error
    except _DECODER_ERRORS as error:
        raise ImageError(name, f"cannot be opened ({error})", "export it again or drop the case") from error
    if image.width * image.height > max_pixels:
        reason = f"{image.height} x {image.width} is more than {max_pixels / 2**20:g} Mpx, the limit"
        raise ImageError(name, reason, "save it smaller, or raise max_pixels if you trust the file")
    if frames > 1:
        raise ImageError(name, f"holds {frames} frames or pages", "export the one that counts as a still PNG")
    return image


def _decode(data: bytes, name: str | Path, max_pixels: int) -> np.ndarray:
    """Return the pixels upright and without alpha: (H, W), or (H, W, 3) for colour."""
    if not data:
        raise ImageError(name, "the file is empty", "copy it again or drop the case")
    image = _open(io.BytesIO(data), name, max_pixels)
    orientation = _orientation(image)  # before load(): afterwards Pillow may know more than image_size can
    try:
        image.load()
        image = _without_alpha(image)
    except _DECODER_ERRORS as error:
        raise ImageError(name, f"is damaged or cut short ({error})", "copy or export it again, or drop the case") from error
    return np.asarray(image.transpose(_TURNS[orientation]) if orientation in _TURNS else image)


def _orientation(image: Image.Image) -> int:
    if image.format == "TIFF":
        return 1  # Pillow turns TIFF by itself, and gives its size upright.
    try:
        # The base class's method: the PNG plugin's own would decode the picture to look for EXIF at its end.
        return int(Image.Image.getexif(image).get(_ORIENTATION_TAG, 1))
    except _DECODER_ERRORS:
        return 1  # Damaged EXIF says nothing; viewers show such a picture as it is stored.


def _without_alpha(image: Image.Image) -> Image.Image:
    image.info.pop("transparency", None)
    if image.mode == "L" or image.mode.startswith(("I", "F")):  # 8 bits, or more
        return image
    return image.convert("L" if image.mode in {"1", "LA"} else "RGB")


def _to_grey(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).convert("L")) if pixels.ndim == 3 else pixels


def _scale_to_8_bit(values: np.ndarray, name: str | Path) -> np.ndarray:
    if values.dtype == np.uint8:
        return values
    if not np.isfinite(values).all():
        raise ImageError(name, "holds NaN or infinite values", "export it as 8- or 16-bit PNG or drop the case")
    largest = float(values.max())
    if values.min() < 0 or largest > 65535:
        reason = f"values run from {values.min():g} to {largest:g}, outside 0 to 65535"
        raise ImageError(name, reason, "export it as 8- or 16-bit PNG")
    depths = [1.0] * (values.dtype.kind == "f") + [255.0, 4095.0, 65535.0]
    full_scale = next(depth for depth in depths if largest <= depth)
    return np.rint(values.astype(np.float64) * (255.0 / full_scale)).astype(np.uint8)


def _size(shape: Sequence[int]) -> str:
    return f"{shape[0]} x {shape[1]}"
