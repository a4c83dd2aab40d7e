from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bcd.data.images import ImageError, image_size, read_image, read_mask, read_masks

GREY = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20


def save(path: Path, pixels: np.ndarray, mode: str | None = None, **options: Any) -> Path:
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P"])
@pytest.mark.parametrize("extension", ["png", "tiff"])
def test_grey_comes_out_unchanged_from_every_mode(tmp_path: Path, mode: str, extension: str) -> None:
    image = read_image(save(tmp_path / f"a.{extension}", GREY, mode))
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, GREY)


@pytest.mark.parametrize(("extension", "options"), [("bmp", {}), ("webp", {"lossless": True}), ("jpg", {"quality": 100})])
def test_other_formats_are_read(tmp_path: Path, extension: str, options: dict[str, Any]) -> None:
    image = read_image(save(tmp_path / f"a.{extension}", GREY, **options))
    assert np.abs(image.astype(int) - GREY).max() <= (4 if extension == "jpg" else 0)


def test_a_transparent_pixel_keeps_its_grey_value(tmp_path: Path) -> None:
    pixels = np.dstack([GREY, GREY, GREY, np.zeros_like(GREY)])
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.png", pixels)), GREY)


def test_a_palette_with_transparency_is_read_without_a_warning(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", GREY, "P", transparency=bytes([0, 128, 255]))
    np.testing.assert_array_equal(read_image(path), GREY)


def test_one_bit_images_are_black_and_white(tmp_path: Path) -> None:
    image = read_image(save(tmp_path / "a.png", np.array([[True, False], [False, True]])))
    assert image.tolist() == [[255, 0], [0, 255]]


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


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_are_refused(tmp_path: Path, value: float) -> None:
    path = save(tmp_path / "a.tiff", np.array([[0.0, value, 1.0]], dtype=np.float32))
    with pytest.raises(ImageError, match=r"a\.tiff: holds NaN or infinite"):
        read_image(path)


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


def test_image_size_is_height_then_width(tmp_path: Path) -> None:
    assert image_size(save(tmp_path / "a.png", GREY)) == (3, 4)


@pytest.mark.parametrize("extension", ["png", "jpg", "bmp", "tiff", "webp"])
def test_a_truncated_file_is_refused(tmp_path: Path, extension: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    path = save(tmp_path / f"a.{extension}", noise)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ImageError, match=rf"a\.{extension}: .*(export it again|drop the case)"):
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
        with pytest.raises(ImageError, match=r"a\.png: cannot be read \(No such file"):
            read(tmp_path / "a.png")


def test_too_many_pixels_are_refused_before_decoding(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", GREY)
    assert read_image(path, max_pixels=12).shape == (3, 4)
    for read in (read_image, image_size):
        with pytest.raises(ImageError, match=r"a\.png: 3 x 4 is more than"):
            read(path, max_pixels=11)


def test_a_decompression_bomb_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "a.png", np.zeros((16000, 12000), dtype=bool))
    with pytest.raises(ImageError, match=r"a\.png: .*decompression bomb"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("extension", ["png", "webp", "tiff"])
def test_several_frames_are_refused(tmp_path: Path, extension: str) -> None:
    frames = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    frames[0].save(tmp_path / f"a.{extension}", save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match="holds 2 frames or pages"):
        read_image(tmp_path / f"a.{extension}")


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
