import io
import os
import struct
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from bcd.images.decode import EXTENSIONS, ImageError
from bcd.images.read import decode_image, image_size, read_image, read_mask, read_masks

GREY = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
HALF = (GREY >= 120).astype(np.uint8) * 255
ADAM7 = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]


def save(path: Path, pixels: np.ndarray, mode: str | None = None, **options: Any) -> Path:
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def encoded(pixels: np.ndarray, file_format: str, mode: str | None = None, **options: Any) -> bytes:
    image = Image.fromarray(pixels)
    file = io.BytesIO()
    (image.convert(mode) if mode else image).save(file, file_format, **options)
    return file.getvalue()


def png(rows: list[bytes], size: tuple[int, int], depth: int, colour: int, interlaced: bool = False) -> bytes:
    """Write the PNGs that Pillow only reads: 2- and 4-bit grey, 16-bit colour, Adam7."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", size[1], size[0], depth, colour, 0, 0, interlaced)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def deep_png(channels: list[np.ndarray], colour: int) -> bytes:
    return png([row.tobytes() for row in np.stack(channels, axis=2).astype(">u2")], (3, 4), 16, colour)


def interlaced_png() -> bytes:
    passes = [GREY[top::down, left::right] for top, left, down, right in ADAM7]
    return png([row.tobytes() for part in passes for row in part if row.size], (3, 4), 8, 0, interlaced=True)


def one_bit_palette() -> bytes:
    image, file = Image.fromarray(HALF // 255).convert("P"), io.BytesIO()
    image.putpalette([0, 0, 0, 255, 255, 255])
    image.save(file, "PNG", bits=1)
    return file.getvalue()


def white_is_zero_tiff(pixels: np.ndarray) -> bytes:
    """Return an uncompressed TIFF whose PhotometricInterpretation (tag 262, one short) says that 0 is white."""
    data = encoded(pixels, "TIFF")
    entry = struct.pack("<HHIHH", 262, 3, 1, 1, 0)
    assert data.count(entry) == 1
    return data.replace(entry, struct.pack("<HHIHH", 262, 3, 1, 0, 0))


DEEP = GREY.astype(np.uint16) * 257
# What is stored, as which file, and how far a grey value may be off: (content, extension, picture, tolerance).
STORED: dict[str, tuple[Callable[[], bytes], str, np.ndarray, int]] = {
    **{f"PNG {mode}": (lambda mode=mode: encoded(GREY, "PNG", mode), ".png", GREY, 0) for mode in ("L", "LA", "P", "RGB", "RGBA")},
    "PNG 1 bit": (lambda: encoded(HALF, "PNG", "1"), ".png", HALF, 0),
    "PNG 1-bit palette": (one_bit_palette, ".png", HALF, 0),
    "PNG 2 bits": (lambda: png([bytes([0b00011011])] * 3, (3, 4), 2, 0), ".png", np.array([[0, 85, 170, 255]] * 3), 0),
    "PNG 4 bits": (lambda: png([bytes([0x01, 0xEF])] * 3, (3, 4), 4, 0), ".png", np.array([[0, 17, 238, 255]] * 3), 0),
    "PNG 16 bits": (lambda: encoded(DEEP, "PNG"), ".png", GREY, 0),
    "PNG 16-bit grey and alpha": (lambda: deep_png([DEEP, DEEP * 0], 4), ".png", GREY, 0),
    "PNG 16-bit RGB": (lambda: deep_png([DEEP] * 3, 2), ".png", GREY, 0),
    "PNG 16-bit RGBA": (lambda: deep_png([DEEP] * 4, 6), ".png", GREY, 0),
    "PNG interlaced": (interlaced_png, ".png", GREY, 0),
    "PNG palette with transparency": (lambda: encoded(GREY, "PNG", "P", transparency=bytes([0, 128, 255])), ".png", GREY, 0),
    "PNG grey with a transparent level": (lambda: encoded(GREY, "PNG", transparency=40), ".png", GREY, 0),
    **{f"JPEG {mode}": (lambda mode=mode: encoded(GREY, "JPEG", mode, quality=100), ".jpg", GREY, 4) for mode in ("L", "RGB")},
    "JPEG CMYK": (lambda: encoded(GREY, "JPEG", "CMYK", quality=100), ".jpeg", GREY, 8),
    "JPEG progressive": (lambda: encoded(GREY, "JPEG", quality=100, progressive=True), ".jfif", GREY, 4),
    **{f"BMP {mode}": (lambda mode=mode: encoded(GREY, "BMP", mode), ".bmp", GREY, 0) for mode in ("L", "P", "RGB", "RGBA")},
    "BMP 1 bit": (lambda: encoded(HALF, "BMP", "1"), ".bmp", HALF, 0),
    **{
        f"TIFF {mode}": (lambda mode=mode: encoded(GREY, "TIFF", mode), ".tif", GREY, 0)
        for mode in ("L", "LA", "P", "RGB", "RGBA", "CMYK", "F")
    },
    **{
        f"TIFF {name}": (lambda name=name: encoded(GREY, "TIFF", compression=name), ".tiff", GREY, 0)
        for name in ("packbits", "tiff_lzw", "tiff_adobe_deflate", "zstd", "lzma")
    },
    "TIFF JPEG inside": (lambda: encoded(GREY, "TIFF", "RGB", compression="jpeg", quality=100), ".tif", GREY, 6),
    "TIFF fax": (lambda: encoded(HALF, "TIFF", "1", compression="group4"), ".tif", HALF, 0),
    "TIFF 1 bit": (lambda: encoded(HALF, "TIFF", "1"), ".tif", HALF, 0),
    "TIFF white is zero": (lambda: white_is_zero_tiff(GREY), ".tif", 255 - GREY, 0),
    "TIFF 16 bits": (lambda: encoded(DEEP, "TIFF"), ".tif", GREY, 0),
    "TIFF 16 bits, other byte order": (lambda: encoded(DEEP.astype(">u2"), "TIFF"), ".tif", GREY, 0),
    "TIFF 16 bits, compressed": (lambda: encoded(DEEP, "TIFF", compression="tiff_lzw"), ".tif", GREY, 0),
    "TIFF 16-bit RGB": (lambda: cv2.imencode(".tiff", np.dstack([DEEP] * 3))[1].tobytes(), ".tif", GREY, 0),
    "TIFF 32 bits": (lambda: encoded(DEEP.astype(np.int32), "TIFF"), ".tif", GREY, 0),
    "TIFF floats up to one": (lambda: encoded(GREY.astype(np.float32) / 220, "TIFF"), ".tif", np.rint(GREY / 220 * 255), 0),
    **{
        f"WebP {mode}": (lambda mode=mode: encoded(GREY, "WEBP", mode, lossless=True, exact=True), ".webp", GREY, 0)
        for mode in ("L", "RGB", "RGBA")
    },
    "WebP lossy": (lambda: encoded(GREY, "WEBP", quality=100), ".webp", GREY, 12),
}


@pytest.mark.parametrize("stored", STORED.values(), ids=STORED.keys())
def test_the_same_grey_values_come_out_of_whatever_holds_them(
    tmp_path: Path, stored: tuple[Callable[[], bytes], str, np.ndarray, int]
) -> None:
    content, extension, picture, tolerance = stored
    (tmp_path / f"a{extension}").write_bytes(content())
    image = read_image(tmp_path / f"a{extension}")
    assert image.dtype == np.uint8
    assert image.shape == picture.shape == image_size(tmp_path / f"a{extension}")
    assert np.abs(image - picture.astype(int)).max() <= tolerance


def test_every_extension_is_among_them() -> None:
    assert {extension for _, extension, _, _ in STORED.values()} == set(EXTENSIONS)


def test_a_transparent_pixel_keeps_its_grey_value(tmp_path: Path) -> None:
    pixels = np.dstack([GREY, GREY, GREY, np.zeros_like(GREY)])
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.png", pixels)), GREY)


def test_coloured_marks_become_their_luma_and_leave_the_grey_around_them_as_it_was(tmp_path: Path) -> None:
    pixels = np.dstack([GREY] * 3)
    pixels[0, 1], pixels[2, 2], pixels[2, 3] = (255, 255, 0), (255, 0, 0), (0, 0, 255)  # a caliper, and Doppler
    expected = GREY.copy()
    expected[0, 1], expected[2, 2], expected[2, 3] = 226, 76, 29  # 0.299 R + 0.587 G + 0.114 B
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.png", pixels)), expected)


@pytest.mark.parametrize("content", [lambda: deep_png([DEEP // 16] * 3, 2), lambda: deep_png([GREY] * 3 + [DEEP], 6)])
def test_twelve_bits_in_sixteen_bit_colour_are_refused_for_their_lower_half_is_lost(
    tmp_path: Path, content: Callable[[], bytes]
) -> None:
    (tmp_path / "a.png").write_bytes(content())
    for read in (read_image, read_mask):
        with pytest.raises(ImageError, match=r"16-bit colour of which the upper 4 bits are empty .*; export it as 16-bit grey"):
            read(tmp_path / "a.png")


def test_sixteen_bits_with_white_as_zero_are_refused_for_they_would_come_out_inverted(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(white_is_zero_tiff(DEEP))
    with pytest.raises(ImageError, match="white as 0, which would be read inverted; export it with black as 0"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 257, 65535], [0, 1, 255]),
        ([0, 2048, 4095], [0, 128, 255]),
        ([0, 100, 255], [0, 100, 255]),
    ],
    ids=["16 bits", "12 bits in 16", "8 bits in 16"],
)
@pytest.mark.parametrize("extension", ["png", "tiff"])
def test_sixteen_bit_values_are_scaled_by_the_smallest_depth_that_holds_them(
    tmp_path: Path, values: list[int], expected: list[int], extension: str
) -> None:
    path = save(tmp_path / f"a.{extension}", np.array([values], dtype=np.uint16))
    assert read_image(path).tolist() == [expected]


def test_floating_point_up_to_one_spans_the_grey_values(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tiff", np.array([[0.0, 0.5, 1.0]], dtype=np.float32))
    assert read_image(path).tolist() == [[0, 128, 255]]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused_in_images_and_masks(tmp_path: Path, value: float) -> None:
    path = save(tmp_path / "a.tiff", np.array([[0.0, value, 1.0]], dtype=np.float32))
    for read in (read_image, read_mask):
        with pytest.raises(ImageError, match=r"a\.tiff: holds NaN or infinite"):
            read(path)


def test_values_beyond_sixteen_bits_are_refused_with_their_range(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="values run from -5 to 70000, outside 0 to 65535; export it as 8- or 16-bit PNG"):
        read_image(save(tmp_path / "a.tiff", np.array([[-5, 70000]], dtype=np.int32)))


@pytest.mark.parametrize("extension", ["jpg", "png", "tiff", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_and_known_to_image_size(tmp_path: Path, orientation: int, extension: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.kron(np.array([[0, 80, 160], [240, 40, 120]], dtype=np.uint8), np.ones((8, 8), dtype=np.uint8))
    image = read_image(save(tmp_path / f"a.{extension}", stored, exif=exif))
    flip, turn = np.fliplr, np.rot90
    upright = {
        1: stored,
        2: flip(stored),
        3: turn(stored, 2),
        4: np.flipud(stored),
        5: stored.T,
        6: turn(stored, -1),
        7: turn(stored, 2).T,
        8: turn(stored),
    }[orientation]
    assert image.shape == upright.shape == image_size(tmp_path / f"a.{extension}")
    assert np.abs(image[4::8, 4::8].astype(int) - upright[4::8, 4::8]).max() <= 10


@pytest.mark.parametrize("extension", ["png", "jpg", "bmp", "tiff", "webp"])
def test_a_truncated_file_is_refused(tmp_path: Path, extension: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    path = save(tmp_path / f"a.{extension}", noise)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ImageError, match=rf"a\.{extension}: .*(export it again|leave it out)"):
        read_image(path)


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "is empty"), (b"case_id,image\n1,a.png\n", "no PNG, JPEG"), (b"GIF89a" + bytes(40), "no PNG")]
)
def test_a_file_that_is_no_picture_is_refused_whatever_its_name(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ImageError, match=rf"a\.png.*{reason}"):
        read_image(tmp_path / "a.png")


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    for read in (read_image, image_size):
        with pytest.raises(ImageError, match=r"a\.png: cannot be read \(No such file.*restore the file, or leave it out"):
            read(tmp_path / "a.png")


def test_what_is_no_file_is_refused_and_a_pipe_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    for name, reason in (("folder.png", "is a folder, not a file"), ("pipe.png", "is a pipe, socket or device, not a file")):
        with pytest.raises(ImageError, match=reason):
            read_image(tmp_path / name)
    for name, reason in (("a" * 5000, "File name too long"), ("a\0.png", "cannot be the name of a file")):
        with pytest.raises(ImageError, match=reason):
            read_image(tmp_path / name)


def test_a_file_that_may_not_be_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.png", GREY)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # the superuser, who may run this, can read everything
    with pytest.raises(ImageError, match=r"a\.png: cannot be read \(Permission denied\); allow reading it, or leave it out"):
        read_image(path)


def test_a_name_that_is_not_utf_8_comes_out_in_letters(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff.png")
    path.write_bytes(b"no picture")
    with pytest.raises(ImageError) as error:
        read_image(path)
    assert r"/\udcff.png: its content is no" in str(error.value)


def test_too_many_pixels_are_refused_before_decoding(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", GREY)
    assert read_image(path, max_pixels=12).shape == (3, 4)
    for read in (read_image, image_size):
        with pytest.raises(ImageError, match=r"a\.png: 3 x 4 is more than"):
            read(path, max_pixels=11)


def test_a_decompression_bomb_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "a.png", np.zeros((16000, 12000), dtype=bool))
    with pytest.raises(ImageError, match=r"a\.png: .*decompression bomb.*; save it smaller, or raise max_pixels"):
        read_image(tmp_path / "a.png")


def test_a_higher_limit_of_the_users_is_not_stopped_by_pillows_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    with pytest.raises(ImageError, match="decompression bomb"):
        image_size(save(tmp_path / "a.png", GREY), max_pixels=4)
    assert read_image(tmp_path / "a.png", max_pixels=12).shape == (3, 4)


def test_a_file_that_is_far_longer_than_its_picture_may_be_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a.png").open("wb") as file:
        file.write(encoded(GREY, "PNG"))
        file.truncate(1 << 40)  # a hole: it takes no room on the disk
    with pytest.raises(ImageError, match=r"a\.png: 1048576 MB is more than a picture within the limit takes"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("extension", ["png", "webp", "tiff"])
def test_several_frames_are_refused(tmp_path: Path, extension: str) -> None:
    frames = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    frames[0].save(tmp_path / f"a.{extension}", save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match="several frames or pages; export the one"):
        read_image(tmp_path / f"a.{extension}")


WRONG = [("png", "JPEG", ".jpg"), ("jpg", "PNG", ".png"), ("tif", "BMP", ".bmp"), ("bmp", "WEBP", ".webp"), ("dat", "TIFF", ".tif")]


@pytest.mark.parametrize(("extension", "file_format", "right"), WRONG)
def test_a_file_of_another_format_than_its_name_says_is_refused_with_the_right_name(
    tmp_path: Path, extension: str, file_format: str, right: str
) -> None:
    (tmp_path / f"a.{extension}").write_bytes(encoded(GREY, file_format))
    for read in (read_image, read_mask, image_size):
        message = rf"a\.{extension}: ends in \.{extension}, its content is {file_format}; rename it to end in \{right}"
        with pytest.raises(ImageError, match=message):
            read(tmp_path / f"a.{extension}")
    assert decode_image(encoded(GREY, file_format), "an upload without an ending").shape == (3, 4)


def test_upper_case_endings_are_right_too(tmp_path: Path) -> None:
    (tmp_path / "a.JPG").write_bytes(encoded(GREY, "JPEG"))
    assert read_image(tmp_path / "a.JPG").shape == (3, 4)


def _formats() -> dict[str, bytes]:
    """Return a small picture in every format and most codings."""
    pixels = np.random.default_rng(0).integers(0, 256, (12, 17), dtype=np.uint8)
    colour = [encoded(pixels, name, "RGB") for name in ("PNG", "JPEG", "BMP", "TIFF", "WEBP")]
    deep = [encoded(pixels.astype(np.uint16) * 257, name) for name in ("PNG", "TIFF")]
    packed = [encoded(pixels, "TIFF", compression=name) for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits")]
    one_bit = [encoded(pixels, "PNG", "1"), encoded(pixels, "TIFF", "1", compression="group4")]
    lossless = [encoded(pixels, "WEBP", lossless=True), encoded(pixels, "JPEG", progressive=True)]
    every = [*colour, *deep, *packed, *one_bit, *lossless, encoded(pixels.astype(np.float32), "TIFF")]
    return {f"file {number}": content for number, content in enumerate(every)}


def test_what_pillow_says_of_damaged_metadata_is_not_shown() -> None:
    file = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(file, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0")
    command = "import io, sys; from bcd.images.read import decode_image; decode_image(sys.stdin.buffer.read(), 'a.jpg')"
    shown = subprocess.run([sys.executable, "-c", command], input=file.getvalue(), capture_output=True, check=True).stderr
    assert not shown


def _read(content: bytes, name: str) -> np.ndarray | None:
    """Return the picture, or None where it is refused; let anything but an ImageError through."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as in a run; Pillow warns of damaged metadata, and then reads the picture or does not
        try:
            return decode_image(content, name)
        except ImageError as error:
            if not str(error).startswith(f"{name}: "):
                raise AssertionError(f"{error} does not name the file") from error
            return None


@pytest.mark.parametrize(("name", "content"), _formats().items(), ids=_formats())
def test_a_file_that_is_cut_anywhere_is_refused_or_still_has_every_pixel(name: str, content: bytes) -> None:
    whole = decode_image(content, name)
    for length in range(0, len(content), 1 + len(content) // 400):
        image = _read(content[:length], name)
        assert image is None or np.array_equal(image, whole), f"{length} of {len(content)} bytes"


@pytest.mark.parametrize(("name", "content"), _formats().items(), ids=_formats())
def test_a_file_with_wrong_bytes_is_read_or_refused_and_nothing_else(name: str, content: bytes) -> None:
    random = np.random.default_rng(1)
    for attempt in range(120):
        damaged = bytearray(content)
        start = min(len(content), 200) if attempt % 2 else len(content)  # the header decides most
        for position in random.integers(0, start, random.integers(1, 6)):
            damaged[position] = random.integers(0, 256)
        _read(bytes(damaged), name)
        _read(content[: random.integers(0, 40)] + random.bytes(random.integers(0, 300)), name)


def test_a_tiff_whose_header_claims_more_rows_than_it_holds_is_refused() -> None:
    content = encoded(GREY, "TIFF")
    rows = struct.pack("<HHII", 257, 4, 1, 3)
    assert content.count(rows) == 1
    with pytest.raises(ImageError, match="its header claims more than it holds"):
        decode_image(content.replace(rows, struct.pack("<HHII", 257, 4, 1, 300)), "a.tif")


def test_a_tiff_whose_pages_go_round_in_a_circle_is_refused_at_once() -> None:
    content = bytearray(encoded(GREY, "TIFF"))
    first = struct.unpack_from("<I", content, 4)[0]
    (entries,) = struct.unpack_from("<H", content, first)
    struct.pack_into("<I", content, first + 2 + 12 * entries, len(content))  # its second page follows, and points to itself
    page = bytes(content[first : first + 2 + 12 * entries])
    content += page + struct.pack("<I", len(content))
    with pytest.raises(ImageError, match="several frames or pages"):
        decode_image(bytes(content), "a.tif")


def test_a_constant_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="every pixel is 7"):
        read_image(save(tmp_path / "a.png", np.full((3, 4), 7, dtype=np.uint8)))


LESION = np.array([[0, 1, 1], [0, 0, 1]], dtype=np.uint8)


@pytest.mark.parametrize(
    "pixels",
    [
        LESION,
        LESION * 255,
        LESION * 37,
        LESION.astype(bool),
        LESION.astype(np.uint16) * 65535,
        np.dstack([LESION * 255] * 3),
        np.dstack([LESION * 255, LESION * 0, LESION * 0]),
        np.dstack([LESION * 255] * 3 + [np.full_like(LESION, 255)]),
        np.dstack([LESION * 255] * 3 + [np.array([[0, 9, 99], [3, 0, 1]], dtype=np.uint8)]),
    ],
    ids=["0/1", "0/255", "0/37", "1-bit", "16-bit", "RGB", "red", "RGBA", "RGBA with uneven alpha"],
)
def test_a_mask_is_read_from_every_mode(tmp_path: Path, pixels: np.ndarray) -> None:
    mask = read_mask(save(tmp_path / "a_mask.png", pixels))
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, LESION)


@pytest.mark.parametrize(
    "pixels",
    [
        np.array([[0, 128, 255]], dtype=np.uint8),
        np.array([[100, 200, 200]], dtype=np.uint8),
        np.array([[[0, 0, 0], [255, 0, 0], [0, 255, 0]]], dtype=np.uint8),
    ],
    ids=["smooth edge", "no black", "two colours"],
)
def test_a_mask_of_more_levels_is_refused_with_their_count(tmp_path: Path, pixels: np.ndarray) -> None:
    levels = len(np.unique(pixels.reshape(3, -1), axis=0))
    with pytest.raises(ImageError, match=rf"a_mask\.png: .* has {levels} levels .*threshold it and save it as PNG"):
        read_mask(save(tmp_path / "a_mask.png", pixels))


def test_a_mask_whose_outline_is_in_its_transparency_is_refused(tmp_path: Path) -> None:
    white = np.full_like(LESION, 255)
    with pytest.raises(ImageError, match=r"a_mask\.png: the mask is in its transparency, .*; export it as lesion on black"):
        read_mask(save(tmp_path / "a_mask.png", np.dstack([white] * 3 + [LESION * 255])))


def test_masks_are_joined_by_or_and_do_not_wrap(tmp_path: Path) -> None:
    first = save(tmp_path / "a_mask.png", np.array([[255, 255, 0]], dtype=np.uint8))
    second = save(tmp_path / "a_mask_1.png", np.array([[False, True, True]]))
    assert read_masks([first, second], (1, 3)).tolist() == [[1, 1, 1]]


def test_no_mask_is_all_zero() -> None:
    assert read_masks([], (2, 3)).tolist() == [[0, 0, 0], [0, 0, 0]]


def test_a_mask_of_another_size_is_refused_naming_both_files_and_sizes(tmp_path: Path) -> None:
    mask = save(tmp_path / "a_mask.png", LESION)
    with pytest.raises(ImageError, match=r"a_mask\.png: the mask is 2 x 3, a\.png is 3 x 4"):
        read_masks([mask], (3, 4), "a.png")
