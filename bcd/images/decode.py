"""From a file to a decoded picture, upright; or an error that names the file, what is wrong with it, and what to do.

Files come from anywhere: truncated, renamed, crafted. For any failure of a decoder, the caller gets an ImageError, soon, and
before much memory is taken.
"""

import errno
import os
import stat
import warnings
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

# How files of each format may end; MPO is what Pillow calls a JPEG that holds several.
_ENDINGS = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg", ".jfif"),
    "MPO": (".jpg", ".jpeg", ".jfif"),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
EXTENSIONS = tuple(dict.fromkeys(ending for endings in _ENDINGS.values() for ending in endings))

# Our own limit is lower, or else Pillow's is raised to it: what it warns of is refused.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
# It warns of damaged metadata, in the file's own words; what counts is whether the picture can be read.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

# 64 Mpx: ten times a large ultrasound frame. A small file can claim far more (a decompression bomb).
MAX_PIXELS = 64 * 1024 * 1024

# Twice what a pixel of 16-bit RGBA takes, and room for what else a file may tell.
_BYTES_PER_PIXEL = 16
_BYTES_BESIDES = 1 << 26

_ORIENTATION_TAG = 0x0112
_PHOTOMETRIC_TAG = 262
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TOO_LARGE = "save it smaller, or raise max_pixels if you trust the file"


class ImageError(ValueError):
    """A file that cannot be used as an image or mask; the message names it, what is wrong, and what to do (`reason`, `remedy`)."""

    def __init__(self, file: str | Path, reason: str, remedy: str) -> None:
        super().__init__(f"{printable(file)}: {reason}; {remedy}.")
        self.file, self.reason, self.remedy = str(file), reason, remedy

    def __reduce__(self) -> tuple[type["ImageError"], tuple[str, str, str]]:
        """Make the error picklable, for worker processes."""
        return type(self), (self.file, self.reason, self.remedy)


def printable(text: object) -> str:
    """Return a text that every log and file takes: bytes of a file's name that are not UTF-8 become escapes in letters."""
    return str(text).encode("utf-8", errors="backslashreplace").decode("utf-8")


def pixel_limit(max_pixels: object) -> int:
    """Return a limit as a config gives it.

    Raises:
        ValueError: when it is no whole number from 1.
    """
    if not isinstance(max_pixels, int) or isinstance(max_pixels, bool) or max_pixels < 1:
        raise ValueError(f"max_pixels={max_pixels}: give the most pixels that a picture may have, such as {MAX_PIXELS}.")
    return max_pixels


def open_file(path: Path) -> BinaryIO:
    """Return a regular file, opened; a pipe, which would wait forever, is refused.

    A path that opens in another way than files do, such as one in a shard, may raise errors of its own.

    Raises:
        ImageError: when there is none that may be read.
    """
    try:
        is_file = path.is_file()
        mode = 0 if is_file else path.stat().st_mode
    except OSError as error:
        raise _unreadable(path, error) from error
    except ValueError as error:
        raise ImageError(path, f"cannot be the name of a file ({error})", "correct it") from error
    if not is_file:
        kind = "folder" if stat.S_ISDIR(mode) else "pipe, socket or device"
        raise ImageError(path, f"is a {kind}, not a file", "remove it, or put the picture in its place")
    try:
        return path.open("rb")
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> ImageError:
    remedy = "allow reading it" if error.errno in (errno.EACCES, errno.EPERM) else "restore the file"
    return ImageError(path, f"cannot be read ({error.strerror})", f"{remedy}, or leave it out")


def decode(file: BinaryIO, name: str | Path, max_pixels: int) -> Image.Image:
    """Return a picture of at most `max_pixels` decoded and upright, in its own mode.

    Where its name, which errors tell, ends like a file, it must end as its format does.

    Raises:
        ImageError: for anything but one whole picture whose values come out as they are meant.
    """
    image = _open(file, name, max_pixels)
    orientation = _orientation(image)  # before load(): afterwards Pillow may know more than upright_size can
    is_deep_colour = len(image.getbands()) > 1 and ";16" in str(image.tile)
    try:
        # Pillow leaves black what none of the parts that a file lists fills; sorted, since a TIFF may lie on its side.
        extents = [tile.extents for tile in image.tile if tile.extents is not None]
        reached = sorted(max((extent[side] for extent in extents), default=0) for side in (2, 3))
        if extents and not all(has >= needs for has, needs in zip(reached, sorted(image.size), strict=True)):
            raise ValueError("its header claims more than it holds")
        image.load()
    except Exception as error:  # a decoder raises anything on a hostile file
        reason = f"is damaged or cut short ({printable(error) or type(error).__name__})"
        raise ImageError(name, reason, "copy or export it again, or leave it out") from error
    if is_deep_colour:  # Pillow keeps the upper 8 bits of 16-bit colour
        ranges: Any = image.getextrema()
        if max(int(high) for band, (_, high) in zip(image.getbands(), ranges, strict=True) if band.upper() != "A") < 16:
            reason = "is 16-bit colour of which the upper 4 bits are empty and the lower 8 are lost"
            raise ImageError(name, reason, "export it as 16-bit grey, or in 8 bits")
    if isinstance(image, TiffImageFile) and image.mode == "I;16" and image.tag_v2.get(_PHOTOMETRIC_TAG) == 0:
        raise ImageError(name, "is 16-bit grey with white as 0, which would be read inverted", "export it with black as 0")
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def upright_size(file: BinaryIO, name: str | Path, max_pixels: int) -> tuple[int, int]:
    """Return height and width in pixels after turning, from the header alone."""
    image = _open(file, name, max_pixels)
    return (image.width, image.height) if _orientation(image) >= 5 else (image.height, image.width)


def _open(file: BinaryIO, name: str | Path, max_pixels: int) -> ImageFile:
    """Return a picture whose length, header, size and name are in order; nothing is decoded yet."""
    length = file.seek(0, os.SEEK_END)
    file.seek(0)
    if length == 0:
        raise ImageError(name, "the file is empty", "copy it again or leave it out")
    if length > _BYTES_PER_PIXEL * max_pixels + _BYTES_BESIDES:
        raise ImageError(name, f"{length / 2**20:.0f} MB is more than a picture within the limit takes", _TOO_LARGE)
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = max_pixels  # else Pillow's own limit would override a higher one of the user
    try:
        image = Image.open(file, formats=FORMATS)
        is_animated = getattr(image, "is_animated", False)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        reason = f"has more than {max_pixels / 2**20:g} Mpx, the limit, and may be a decompression bomb"
        raise ImageError(name, reason, _TOO_LARGE) from error
    except UnidentifiedImageError as error:
        kinds = ", ".join(FORMATS[:-1]) + f" or {FORMATS[-1]}"
        raise ImageError(name, f"its content is no {kinds} picture", "export it as PNG or leave it out") from error
    except Exception as error:  # a decoder raises anything on a hostile file
        reason = f"cannot be opened ({printable(error) or type(error).__name__})"
        raise ImageError(name, reason, "export it again or leave it out") from error
    if image.width * image.height > max_pixels:
        reason = f"{image.height} x {image.width} is more than {max_pixels / 2**20:g} Mpx, the limit"
        raise ImageError(name, reason, _TOO_LARGE)
    if is_animated:  # not n_frames: counting the pages of a crafted TIFF never ends
        raise ImageError(name, "holds several frames or pages", "export the one to be read as a still PNG")
    ending, endings = Path(name).suffix.lower(), _ENDINGS[str(image.format)]
    if ending and ending not in endings:
        reason = f"ends in {printable(ending)}, its content is {image.format}"
        raise ImageError(name, reason, f"rename it to end in {endings[0]}, or export it again")
    return image


def _orientation(image: ImageFile) -> int:
    if isinstance(image, TiffImageFile):
        return 1  # Pillow turns TIFF by itself, and gives its size upright.
    try:
        # The base class's method: the PNG plugin's own would decode the picture to look for EXIF at its end.
        return int(Image.Image.getexif(image).get(_ORIENTATION_TAG, 1))
    except Exception:  # a decoder raises anything on a hostile file
        return 1  # Damaged EXIF is ignored; viewers show such a picture as it is stored.
