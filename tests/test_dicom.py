import io
import logging
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_files import IDENTIFIERS, LOSSLESS, NAME, NATIVE, NUMBER, dicom, encoded, jpeg, region, speckle
from PIL import Image
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from bcd.images.decode import ImageError
from bcd.images.dicom import header as dicom_header
from bcd.images.dicom.header import is_dicom, stem_of
from bcd.images.read import read_image
from bcd.images.scan import Scan, read_scans, uncrop

GREY = speckle((40, 56))
COLOUR = np.stack([speckle((40, 56), seed=seed) for seed in range(3)], axis=2)
DEEP = speckle((40, 56), 4096)
TWELVE_BITS = {"BitsStored": 12, "HighBit": 11}
SAMPLES = Path(pydicom.__file__).parent / "data" / "test_files"


@pytest.fixture(autouse=True)
def no_word_of_the_patient(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.DEBUG)
    yield
    assert not named_in(caplog.text)


def named_in(text: str) -> list[str]:
    return [word for word in IDENTIFIERS if word in text.lower()]


def read(content: bytes, name: str = "scan.dcm", max_pixels: int = 1 << 20) -> Scan:
    [scan] = read_scans(content, name, max_pixels)
    return scan


def refusal(content: bytes, name: str = "scan.dcm", max_pixels: int = 1 << 20) -> str:
    with pytest.raises(ImageError) as caught:
        list(read_scans(content, name, max_pixels))
    assert caught.value.remedy
    assert not named_in(str(caught.value))
    return str(caught.value)


def luma(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).convert("L"))


@pytest.mark.parametrize("syntax", NATIVE + LOSSLESS, ids=lambda uid: uid.name)
def test_grey_stored_without_loss_comes_back_exactly(syntax: str) -> None:
    scan = read(dicom(GREY, syntax))
    np.testing.assert_array_equal(scan.image, GREY)
    assert (scan.name, scan.colour, scan.frame, scan.region, scan.frame_size) == ("scan", None, None, None, (40, 56))
    assert scan.source is not None
    assert scan.source.modality == "US"


@pytest.mark.parametrize("syntax", [*NATIVE, RLELossless, JPEG2000Lossless, JPEGLSLossless], ids=lambda uid: uid.name)
def test_colour_stored_without_loss_comes_back_exactly_and_its_grey_is_luma(syntax: str) -> None:
    photometric = "YBR_RCT" if syntax == JPEG2000Lossless else "RGB"
    scan = read(dicom(COLOUR, syntax, PhotometricInterpretation=photometric))
    np.testing.assert_array_equal(scan.colour, COLOUR)
    np.testing.assert_array_equal(scan.image, luma(COLOUR))


@pytest.mark.parametrize("syntax", NATIVE + LOSSLESS, ids=lambda uid: uid.name)
def test_twelve_bits_are_scaled_by_their_full_range(syntax: str) -> None:
    np.testing.assert_array_equal(read(dicom(DEEP, syntax, **TWELVE_BITS)).image, np.rint(DEEP * (255 / 4095)))


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEGExtended12Bit], ids=lambda uid: uid.name)
def test_jpeg_comes_out_as_pillow_decodes_it(syntax: str) -> None:
    np.testing.assert_array_equal(read(dicom(GREY, syntax)).image, np.asarray(Image.open(io.BytesIO(jpeg(GREY)))))
    decoded = np.asarray(Image.open(io.BytesIO(jpeg(COLOUR)))).astype(int)
    colour = read(dicom(COLOUR, syntax, PhotometricInterpretation="YBR_FULL_422")).colour
    assert colour is not None
    assert np.abs(colour - decoded).max() <= 2  # two roundings of the same conversion


def test_twelve_bits_of_extended_jpeg_are_read() -> None:
    [scan] = read_scans(SAMPLES / "JPGExtended.dcm", "JPGExtended.dcm")
    stored = pydicom.dcmread(SAMPLES / "JPGExtended.dcm").pixel_array
    np.testing.assert_array_equal(scan.image, np.rint(stored * (255 / 4095)))


@pytest.mark.parametrize("depth", [8, 12])
def test_monochrome1_is_inverted_exactly(depth: int) -> None:
    pixels, tags = (GREY, {}) if depth == 8 else (DEEP, TWELVE_BITS)
    plain = read(dicom(pixels, **tags)).image
    np.testing.assert_array_equal(read(dicom(pixels, PhotometricInterpretation="MONOCHROME1", **tags)).image, 255 - plain)


def test_planes_one_after_another_are_put_together() -> None:
    planar = [np.moveaxis(COLOUR, 2, 0).tobytes()]
    np.testing.assert_array_equal(read(dicom(COLOUR, streams=planar, PlanarConfiguration=1)).colour, COLOUR)


def test_ybr_becomes_rgb_with_and_without_half_of_its_colour() -> None:
    flat = np.tile(np.array([[[200, 60, 30]]], np.uint8), (40, 56, 1))
    flat[:20] = 90
    ybr = np.asarray(Image.fromarray(flat).convert("YCbCr"))
    full = read(dicom(ybr, PhotometricInterpretation="YBR_FULL"))
    pairs = np.concatenate([ybr[:, ::2, :1], ybr[:, 1::2, :1], ybr[:, ::2, 1:]], axis=2)  # Y Y Cb Cr
    half = read(dicom(ybr, streams=[pairs.tobytes()], PhotometricInterpretation="YBR_FULL_422"))
    for scan in (full, half):
        assert scan.colour is not None
        assert np.abs(scan.colour.astype(int) - flat).max() <= 2


def palette(**tags: Any) -> bytes:
    ramps = {"Red": np.arange(256), "Green": np.arange(256)[::-1], "Blue": np.full(256, 7)}
    for colour, ramp in ramps.items():
        tags[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        tags[f"{colour}PaletteColorLookupTableData"] = (ramp * 256).astype("<u2").tobytes()
    return dicom(GREY, PhotometricInterpretation="PALETTE COLOR", **tags)


def test_a_palette_gives_its_colours() -> None:
    expected = np.stack([GREY, 255 - GREY, np.full_like(GREY, 7)], axis=2)
    np.testing.assert_array_equal(read(palette()).colour, expected)


def test_a_palette_in_segments_is_refused_before_it_unfolds() -> None:
    assert "palette" in refusal(palette(SegmentedRedPaletteColorLookupTableData=b"\x01\x00\xff\xff\xff\xff" * 1000))


def test_signed_values_run_from_the_lowest_to_the_highest() -> None:
    stored = np.array([[-2048, -1, 0, 2047]], np.int16)
    np.testing.assert_array_equal(read(dicom(stored, **TWELVE_BITS)).image, [[0, 127, 128, 255]])


def test_bits_above_those_stored_are_not_looked_at() -> None:
    np.testing.assert_array_equal(read(dicom(DEEP | 0xF000, **TWELVE_BITS)).image, read(dicom(DEEP, **TWELVE_BITS)).image)


STORED = np.array([[0, 100, 150, 200, 4095]], np.uint16)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        # (x - (c - 0.5)) / (w - 1) + 0.5, PS3.3 C.11.2.1.2
        ({"WindowCenter": 150.5, "WindowWidth": 101}, [0, 0, 128, 255, 255]),
        ({"WindowCenter": [150.5, 9], "WindowWidth": [101, 9]}, [0, 0, 128, 255, 255]),
        ({"WindowCenter": 150, "WindowWidth": 100, "VOILUTFunction": "LINEAR_EXACT"}, [0, 0, 128, 255, 255]),
        # 1 / (1 + exp(-4 (x - c) / w))
        ({"WindowCenter": 150, "WindowWidth": 100, "VOILUTFunction": "SIGMOID"}, [1, 30, 128, 225, 255]),
        # The window is one of values after the rescale.
        ({"WindowCenter": 290.5, "WindowWidth": 201, "RescaleSlope": 2, "RescaleIntercept": -10}, [0, 0, 128, 255, 255]),
        ({"RescaleSlope": -1, "RescaleIntercept": 0, "RescaleType": "US"}, [255, 249, 246, 243, 0]),
        # A window of no width is none: 12 bits.
        ({"WindowCenter": 150, "WindowWidth": 1}, [0, 6, 9, 12, 255]),
        ({"WindowCenter": 150, "WindowWidth": 0, "VOILUTFunction": "SIGMOID"}, [0, 6, 9, 12, 255]),
    ],
)
@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
def test_the_first_window_decides_what_is_shown(tags: dict[str, Any], expected: list[int], photometric: str) -> None:
    image = read(dicom(STORED, PhotometricInterpretation=photometric, **TWELVE_BITS, **tags)).image
    shown = 255 - np.array([expected]) if photometric == "MONOCHROME1" else np.array([expected])
    assert np.abs(image.astype(int) - shown).max() <= (photometric == "MONOCHROME1")  # a half rounds to the even one on either side


def test_a_lookup_table_goes_before_a_window() -> None:
    table = Dataset()
    table.LUTDescriptor = [256, 0, 8]
    table.LUTData = np.arange(256, dtype="<u2")[::-1].tobytes()
    image = read(dicom(GREY, VOILUTSequence=[table], WindowCenter=10, WindowWidth=2)).image
    np.testing.assert_array_equal(image, 255 - GREY)


def test_the_window_that_covers_eight_bits_changes_nothing() -> None:
    np.testing.assert_array_equal(read(dicom(GREY, WindowCenter=128, WindowWidth=256)).image, GREY)


@pytest.mark.parametrize("syntax", [*NATIVE, RLELossless, JPEGLSLossless])
def test_each_frame_is_a_scan(syntax: str) -> None:
    frames = np.stack([speckle((15, 17), seed=seed) for seed in range(12)])  # odd, so that frames of big endian lie askew
    scans = list(read_scans(dicom(frames, syntax, NumberOfFrames=12), "cine.dcm"))
    assert [scan.name for scan in scans[::11]] == ["cine_frame_000", "cine_frame_011"]
    assert [scan.frame for scan in scans] == list(range(12))
    np.testing.assert_array_equal([scan.image for scan in scans], frames)
    assert len({id(scan.source) for scan in scans}) == 1


def test_frames_without_a_table_of_offsets_are_told_apart_by_their_ends() -> None:
    frames = np.stack([speckle((40, 56), seed=seed) for seed in range(3)])
    streams = [encoded(frame, JPEGLSLossless) for frame in frames]
    halves = [part for stream in streams for part in (stream[:500], stream[500:])]
    content = dicom(frames, JPEGLSLossless, NumberOfFrames=3, PixelData=encapsulate(halves, has_bot=False))
    np.testing.assert_array_equal([scan.image for scan in read_scans(content, "cine.dcm")], frames)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
def test_memory_stays_that_of_a_few_frames(syntax: str, tmp_path: Path) -> None:
    frame = speckle((128, 128))
    path = tmp_path / "cine.dcm"
    path.write_bytes(dicom(np.broadcast_to(frame, (40, 128, 128)), syntax, NumberOfFrames=40))
    tracemalloc.start()
    try:
        count = sum(1 for _ in read_scans(path, path.name))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 40
    assert peak < 16 * frame.nbytes  # the whole file is 40


def damaged_frame() -> bytes:
    streams = [encoded(GREY, JPEGLSLossless)] * 3
    return dicom(np.stack([GREY] * 3), JPEGLSLossless, [streams[0], streams[1][:400], streams[2]], NumberOfFrames=3)


@pytest.mark.parametrize(
    ("content", "whole", "reason"),
    [
        (damaged_frame, [0, 2], "1 of 3 frames could not be decoded"),
        (lambda: dicom(np.stack([GREY, GREY * 0, GREY]), NumberOfFrames=3), [0, 2], r"the same in 1 frames, 1 \(from 0\)"),
        (lambda: dicom(np.stack([GREY] * 3), NumberOfFrames=3)[: -GREY.size - 9], [0], "claims 3 frames and holds 1"),
    ],
    ids=["damaged", "black", "cut short"],
)
def test_a_frame_that_cannot_be_used_is_named_after_the_others(content: Callable[[], bytes], whole: list[int], reason: str) -> None:
    scans = read_scans(content(), "cine.dcm")
    assert [next(scans).frame for _ in whole] == whole
    with pytest.raises(ImageError, match=reason):
        next(scans)


def test_the_largest_region_of_tissue_is_cut_out_with_its_spacing(caplog: pytest.LogCaptureFixture) -> None:
    items = [
        region(0, 0, 9, 9),
        region(10, 5, 49, 34, delta=0.02),
        region(0, 0, 55, 39, RegionSpatialFormat=3),
        region(0, 0, 55, 39, RegionDataType=2),
    ]
    scan = read(dicom(GREY, SequenceOfUltrasoundRegions=items, PixelSpacing=[9, 9]))
    assert scan.region == (5, 10, 30, 40)
    np.testing.assert_array_equal(scan.image, GREY[5:35, 10:50])
    assert scan.spacing_mm == pytest.approx((0.4, 0.2))  # rows are twice as far apart as columns
    assert scan.frame_size == (40, 56)
    assert "1 more regions of tissue are not read (10 x 10 at 0, 0)" in caplog.text


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (region(0, 0, 55, 39), None),  # all of it
        (region(0, 0, 56, 40), None),  # as those count who give the first that is outside
        (region(6, 0, 56, 40), (0, 6, 40, 50)),
        (region(6, 0, 111, 79), None),  # written for a frame twice the size
        (region(30, 30, 20, 20), None),
    ],
)
def test_a_region_is_believed_where_it_lies_inside_the_frame(item: Dataset, expected: tuple[int, ...] | None) -> None:
    scan = read(dicom(GREY, SequenceOfUltrasoundRegions=[item]))
    assert scan.region == expected
    assert scan.image.shape == (expected[2:] if expected else GREY.shape)


def test_a_file_without_a_usable_region_says_so(caplog: pytest.LogCaptureFixture) -> None:
    scan = read(dicom(GREY, SequenceOfUltrasoundRegions=[region(6, 0, 111, 79)], BurnedInAnnotation="YES"))
    assert scan.spacing_mm is None
    assert "the whole frame is read" in caplog.text
    assert "text burnt into its image" in caplog.text


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({}, None),
        ({"PixelSpacing": [0.3, 0.2]}, (0.3, 0.2)),
        ({"ImagerPixelSpacing": [0.3, 0.2]}, (0.3, 0.2)),
        ({"PixelSpacing": [0.3, 0.2], "ImagerPixelSpacing": [0.5, 0.5]}, (0.3, 0.2)),
        ({"PixelSpacing": [0, 0.2]}, None),
        ({"PixelSpacing": [1e9, 1e9]}, None),
        ({"SequenceOfUltrasoundRegions": [region(0, 0, 55, 39, -0.01)]}, (0.2, 0.1)),  # towards the left
        ({"SequenceOfUltrasoundRegions": [region(0, 0, 55, 39, float("nan"))], "PixelSpacing": [0.3, 0.2]}, (0.3, 0.2)),
        ({"SequenceOfUltrasoundRegions": [region(0, 0, 55, 39, PhysicalUnitsXDirection=4)]}, None),  # seconds
    ],
)
def test_spacing_is_that_of_the_region_else_of_the_pixels(tags: dict[str, Any], expected: tuple[float, float] | None) -> None:
    spacing = read(dicom(GREY, **tags)).spacing_mm
    assert spacing == (expected if expected is None else pytest.approx(expected))


def test_a_mask_of_the_region_goes_back_to_the_frame() -> None:
    scan = read(dicom(GREY, SequenceOfUltrasoundRegions=[region(10, 5, 49, 34)]))
    np.testing.assert_array_equal(uncrop(scan.image, scan)[5:35, 10:50], scan.image)
    assert uncrop(np.ones((30, 40), bool), scan).sum() == 1200
    with pytest.raises(ValueError, match="give one of its size"):
        uncrop(np.ones((40, 56)), scan)
    whole = read(dicom(GREY))
    np.testing.assert_array_equal(uncrop(GREY, whole), GREY)


def test_another_modality_is_read_and_carried() -> None:
    source = read(dicom(GREY, Modality="CT")).source
    assert source is not None
    assert source.modality == "CT"
    assert read(dicom(GREY, Modality=None)).source.modality is None  # type: ignore[union-attr]


def test_content_tells_dicom_whatever_the_name_and_the_beginning(tmp_path: Path) -> None:
    content = dicom(GREY)
    for name in ("scan", "scan.png", "1.2.840.7", "scan.DCM"):
        path = tmp_path / name
        path.write_bytes(content)
        [scan] = read_scans(path, path)
        np.testing.assert_array_equal(scan.image, GREY)
        assert scan.name == stem_of(name)
    bare = io.BytesIO()
    header = pydicom.dcmread(io.BytesIO(content))
    del header.file_meta
    for implicit, little in ((True, True), (False, True), (False, False)):
        bare = io.BytesIO()
        pydicom.dcmwrite(bare, header, implicit_vr=implicit, little_endian=little, enforce_file_format=False)
        np.testing.assert_array_equal(read(bare.getvalue()).image, GREY)
    assert [stem_of(name) for name in ("a.b.dcm", "1.2.840.7", "x.IMA", "p.png")] == ["a.b", "1.2.840.7", "x", "p"]
    assert not any(is_dicom(head) for head in (b"", b"\x89PNG" + bytes(128), jpeg(GREY), b"II*\0" + bytes(127), b"\x08\0" * 66))


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp", "tif", "webp"])
def test_pictures_are_read_as_ever(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"picture.{ending}"
    for pixels in (GREY, COLOUR, np.stack([GREY] * 3, axis=2)):
        Image.fromarray(pixels).save(path)
        [scan] = read_scans(path, path)
        np.testing.assert_array_equal(scan.image, read_image(path))
        [again] = read_scans(path.read_bytes(), path.name)
        np.testing.assert_array_equal(again.image, scan.image)
        assert (scan.colour is not None) == (pixels is COLOUR)
        assert (scan.name, scan.source, scan.spacing_mm, scan.frame_size) == ("picture", None, None, GREY.shape)


def test_what_is_neither_picture_nor_dicom_is_refused_as_ever(tmp_path: Path) -> None:
    assert "no PNG" in refusal(b"hello, this is text", "notes.txt")
    assert "empty" in refusal(b"", "scan.dcm")
    with pytest.raises(ImageError, match="folder"):
        list(read_scans(tmp_path, tmp_path))


def edited(content: bytes, tag: bytes, change: Callable[[bytes], bytes]) -> bytes:
    position = content.index(tag)
    return content[:position] + change(content[position:])


def long_header(items: bytes) -> bytes:
    """Put a private sequence of undefined length in front of the pixel data."""
    element = b"\x2b\x00\x10\x10SQ\0\0\xff\xff\xff\xff"
    return edited(dicom(GREY), b"\xe0\x7f\x10\x00", lambda rest: element + items + b"\xfe\xff\xdd\xe0\0\0\0\0" + rest)


def nested(depth: int) -> bytes:
    return b"\xfe\xff\x00\xe0\xff\xff\xff\xff\x2b\x00\x10\x10SQ\0\0\xff\xff\xff\xff" * depth


def claiming(stream: bytes, marker: bytes, offset: int, size: bytes) -> bytes:
    position = stream.index(marker) + offset
    return stream[:position] + size + stream[position + len(size) :]


HUGE = b"\xff\xff\xff\xff"
HOSTILE = {
    "pixel data cut short": (lambda: dicom(GREY)[:-100], "cut short"),
    "no pixel data": (lambda: edited(dicom(GREY), b"\xe0\x7f\x10\x00", lambda _: b""), "no pixel data"),
    "floating-point pixel data": (lambda: dicom(GREY).replace(b"\xe0\x7f\x10\x00", b"\xe0\x7f\x08\x00"), "no pixel data"),
    "no image at all": (lambda: dicom(GREY, Rows=None), "holds no image"),
    "65535 x 65535": (lambda: dicom(GREY, Rows=65535, Columns=65535), "the limit"),
    "no rows": (lambda: dicom(GREY, Rows=0), "Rows"),
    "frames below one": (lambda: dicom(GREY[None], NumberOfFrames=-3), "NumberOfFrames"),
    "frames without end": (lambda: dicom(np.stack([GREY]), RLELossless, NumberOfFrames=2**31 - 1), "claims 2147483647 frames"),
    "an unknown photometric interpretation": (
        lambda: dicom(GREY, PhotometricInterpretation="DOE JANE 4711"),
        "photometric interpretation",
    ),
    "three values of grey": (lambda: dicom(GREY, SamplesPerPixel=3), "do not fit"),
    "32 bits": (lambda: dicom(GREY, BitsAllocated=32, BitsStored=32, HighBit=31), "bits"),
    "bits at the upper end": (lambda: dicom(DEEP, BitsStored=12, HighBit=15), "bits"),
    "a private transfer syntax": (
        lambda: dicom(GREY).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.113619.5.99\0"),
        r"private or unknown transfer syntax \(1.2.840.113619.5.99\)",
    ),
    "a name as transfer syntax": (
        lambda: dicom(GREY).replace(b"1.2.840.10008.1.2.1\0", b"DOE^JANE 4711 00000\0"),
        "unknown transfer",
    ),
    "video": (lambda: dicom(GREY, MPEG2MPML, [b"\0\0\1\xb3" * 20]), "MPEG2"),
    "a deflated file": (lambda: dicom(GREY, DeflatedExplicitVRLittleEndian), "deflated"),
    "garbage in fragments": (lambda: dicom(GREY, JPEGLSLossless, [b"\xab" * 999]), "compressed image is none"),
    "garbage for fragments": (
        lambda: dicom(GREY, RLELossless, PixelData=None) + b"\xe0\x7f\x10\x00OB\0\0" + HUGE + b"x" * 99,
        "fragments",
    ),
    "a fragment of 4 GB": (
        lambda: edited(dicom(GREY, RLELossless), b"\xfe\xff\x00\xe0\x04", lambda rest: rest[:16] + HUGE + rest[20:]),
        "cut short|damaged",
    ),
    "a table of offsets of 4 GB": (
        lambda: edited(dicom(GREY, RLELossless), b"\xfe\xff\x00\xe0\x04", lambda rest: rest[:4] + b"\xf0\xff\xff\xff" + rest[8:]),
        "not in fragments",
    ),
    "a JPEG that claims more": (
        lambda: dicom(GREY, JPEGBaseline8Bit, [claiming(jpeg(GREY), b"\xff\xc0", 5, HUGE)]),
        "65535 x 65535",
    ),
    "a lossless JPEG that claims more": (
        lambda: dicom(GREY, JPEGLosslessSV1, [claiming(encoded(GREY, JPEGLosslessSV1), b"\xff\xc3", 5, HUGE)]),
        "65535 x 65535",
    ),
    "a JPEG-LS that claims more": (
        lambda: dicom(GREY, JPEGLSLossless, [claiming(encoded(GREY, JPEGLSLossless), b"\xff\xf7", 5, HUGE)]),
        "65535 x 65535",
    ),
    "a JPEG 2000 that claims more": (
        lambda: dicom(GREY, JPEG2000Lossless, [claiming(encoded(GREY, JPEG2000Lossless), b"\xff\x51", 6, HUGE * 2)]),
        "4294967295 x 4294967295",
    ),
    "boxes of JPEG 2000 without length": (
        lambda: dicom(GREY, JPEG2000Lossless, [b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(400)]),
        "compressed image is none",
    ),
    "RLE that unfolds without end": (
        lambda: dicom(GREY, RLELossless, [struct.pack("<16L", 1, 64, *[0] * 14) + b"\x81\0" * (1 << 21)]),
        "longer than a frame",
    ),
    "RLE of too many parts": (lambda: dicom(GREY, RLELossless, [struct.pack("<16L", 15, *[64] * 15) + b"\x81\0" * 99]), "15 parts"),
    "a window in words": (lambda: dicom(GREY, WindowCenter="1", WindowWidth="300").replace(b"300 ", b"DOE "), "windows"),
    "a lookup table of nothing": (lambda: dicom(GREY, VOILUTSequence=[Dataset()]), "lookup tables"),
    "a palette without colours": (lambda: dicom(GREY, PhotometricInterpretation="PALETTE COLOR"), "palette"),
    "sequences in sequences": (lambda: long_header(nested(5000)), "header"),
    "a header that is cut short": (lambda: dicom(GREY)[:400], "holds no image|damaged|no pixel data"),
    "nothing behind the mark": (lambda: bytes(128) + b"DICM", "holds no image|damaged"),
    "random bytes behind the mark": (lambda: bytes(128) + b"DICM" + np.random.default_rng(0).bytes(5000), "holds no image|damaged"),
    "one grey": (lambda: dicom(np.full_like(GREY, 7)), "every pixel is the same"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_meets_a_sentence(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    make, reason = HOSTILE[kind]
    content = make()
    caplog.clear()  # encoders write
    with pytest.raises(ImageError, match=reason):
        list(read_scans(content, "scan.dcm", 1 << 16))
    tracemalloc.start()
    try:
        refusal(content, f"{NAME}_{NUMBER}.dcm" if kind in ("video", "one grey", "65535 x 65535") else "scan.dcm", 1 << 16)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 << 20
    assert caplog.text == ""


@pytest.mark.parametrize("cut", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("syntax", [*LOSSLESS, JPEGBaseline8Bit], ids=lambda uid: uid.name)
def test_a_stream_that_is_cut_short_is_refused(syntax: str, cut: float) -> None:
    stream = encoded(GREY, syntax)
    refusal(dicom(GREY, syntax, [stream[: int(cut * len(stream))]]))


def test_empty_items_without_end_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom_header, "_READS", 2000)
    assert read(long_header(b"\xfe\xff\x00\xe0\0\0\0\0" * 100)).image.shape == GREY.shape
    assert "header" in refusal(long_header(b"\xfe\xff\x00\xe0\0\0\0\0" * 1000))


def test_large_values_of_no_use_are_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom_header, "_BYTES", 1 << 20)
    private = Dataset()
    private.add_new(0x00091001, "OB", bytes(3 << 20))
    content = edited(
        dicom(GREY), b"\x10\x00\x10\x00", lambda rest: b"\x09\0\x01\x10OB\0\0" + struct.pack("<L", 3 << 20) + bytes(3 << 20) + rest
    )
    scan = read(content)
    assert scan.source is not None
    assert 0x00091001 not in scan.source.dataset


def test_the_identity_reaches_no_name_message_or_representation(tmp_path: Path) -> None:
    folder = tmp_path / NAME
    folder.mkdir()
    path = folder / f"doe_Jane_{NUMBER}_view.dcm"
    path.write_bytes(dicom(GREY, SequenceOfUltrasoundRegions=[region(9, 9, 99, 99)]))
    [scan] = read_scans(path, path)
    assert scan.name.startswith("hidden_hidden_hidden_view_")
    assert not named_in(repr(scan) + str(scan) + repr(scan.source))
    path.write_bytes(dicom(GREY, MPEG2MPML, [b"\0\0\1\xb3" * 20]))
    with pytest.raises(ImageError) as caught:
        list(read_scans(path, path))
    assert not named_in(str(caught.value) + caught.value.file)
    assert "hidden" in caught.value.file


BREAKS_OFF = {
    "a sequence without end": (b"\x20\x00\x0d\x00", b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff" + bytes(range(1, 9))),
    "a text without end before the patient": (b"\x08\x00\x60\x00", b"\x08\x00\x08\x00UT\0\0\xff\xff\xff\xff" + b"a" * 50),
    "a sequence of garbage": (b"\x28\x00\x02\x00", b"\x20\x00\x0c\x00SQ\0\0\x40\0\0\0\xff\xfe\0\xe0\xff\xff\xff\xff" + b"q" * 40),
}


@pytest.mark.parametrize("kind", BREAKS_OFF)
def test_the_identity_in_a_header_that_breaks_off_reaches_no_message(kind: str, tmp_path: Path) -> None:
    place, junk = BREAKS_OFF[kind]
    folder = tmp_path / NAME
    folder.mkdir()
    path = folder / f"doe_Jane_{NUMBER}_view.dcm"
    path.write_bytes(edited(dicom(GREY), place, lambda rest: junk + rest))
    with pytest.raises(ImageError) as caught:
        list(read_scans(path, path))
    assert not named_in(str(caught.value) + caught.value.file)
    assert caught.value.file.endswith("_view.dcm")


def test_two_files_of_hidden_names_stay_apart() -> None:
    names = {read(dicom(GREY, SOPInstanceUID=f"1.2.{number}"), f"{NUMBER}.dcm").name for number in range(3)}
    assert len(names) == 3


def test_a_file_whose_identity_was_removed_keeps_its_name() -> None:
    assert read(dicom(GREY, PatientIdentityRemoved="YES"), f"{NUMBER}.dcm").name == NUMBER


def test_hidden_names_of_other_alphabets() -> None:
    tags = {"SpecificCharacterSet": "ISO_IR 192", "PatientName": "Müller^Änne=谷口^太郎子", "PatientID": "x"}
    name = read(dicom(GREY, **tags), "谷口_müller_x_ÄNNE_view.dcm").name
    assert name.startswith("谷口_hidden_x_hidden_view_")  # two characters are too few to look for


def test_without_pydicom_dicom_meets_a_sentence_and_pictures_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    content = dicom(GREY)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    assert 'pip install "bcd[dicom]"' in refusal(content)
    file = io.BytesIO()
    Image.fromarray(GREY).save(file, "PNG")
    np.testing.assert_array_equal(read(file.getvalue(), "picture.png").image, GREY)


def test_pictures_need_no_pydicom_to_be_imported() -> None:
    command = "import sys, bcd.images.scan; sys.exit('pydicom' in sys.modules or 'highdicom' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], check=False).returncode == 0


def test_pydicoms_settings_and_log_are_left_as_they_were() -> None:
    def settings() -> tuple[object, int]:
        return pydicom.config.settings.reading_validation_mode, logging.getLogger("pydicom").level

    before = settings()
    refusal(dicom(GREY)[:-100])
    assert settings() == before


@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda uid: uid.name)
def test_a_damaged_stream_leaves_no_trace_of_its_decoder_in_the_log(syntax: str, caplog: pytest.LogCaptureFixture) -> None:
    stream = encoded(GREY, syntax)
    content = dicom(GREY, syntax, [stream[: len(stream) // 2] + b"\xff\xd9"])
    caplog.set_level(logging.DEBUG)
    caplog.clear()
    with suppress(ImageError):  # some decoders make up the rest
        list(read_scans(content, "scan.dcm"))
    assert not caplog.records


def test_threads_read_side_by_side() -> None:
    contents = [dicom(np.stack([speckle((40, 56), seed=seed)] * 4), RLELossless, NumberOfFrames=4) for seed in range(4)]

    def total(content: bytes) -> list[int]:
        return [int(scan.image.sum()) for scan in read_scans(content, "cine.dcm")]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(total, contents)) == [total(content) for content in contents]
