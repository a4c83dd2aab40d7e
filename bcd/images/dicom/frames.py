"""The frames of a DICOM file, decoded one by one; sizes are checked before anything is decoded."""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from bcd.images.decode import ImageError
from bcd.images.dicom.header import RationedFile, within_pydicom
from bcd.images.dicom.streams import StreamSize, check_stream

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.uid import UID

_JPEG_BY_DCT = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")
_RLE = "1.2.840.10008.1.2.5"
_PHOTOMETRICS = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_UNDEFINED = 0xFFFFFFFF
_ITEM = b"\xfe\xff\x00\xe0"
_EXPORT = "export it again or leave it out"
_CONVERT = "export it as PNG, or as DICOM without compression"

_READS = 1_000_000  # four for each fragment

# What a decoder may unfold for a pixel at most, as for pictures, and room for what else a stream may tell.
_BYTES_PER_PIXEL = 16
_BYTES_BESIDES = 1 << 26


@dataclass(frozen=True)
class Layout:
    """How the frames of a file are stored.

    Args:
        name: what to call the file in an error.
        syntax: its transfer syntax.
        height, width: px.
        n_frames: as the header claims it.
        channels: 1 or 3.
        bits: allocated for a value, 8 or 16.
        bits_stored: of them in use.
        signed: whether values are in two's complement.
        planar: whether the channels of a frame follow one another.
        photometric: the photometric interpretation.
        max_pixels: the most that a frame may have.
    """

    name: str
    syntax: "UID"
    height: int
    width: int
    n_frames: int
    channels: int
    bits: int
    bits_stored: int
    signed: bool
    planar: bool
    photometric: str
    max_pixels: int

    @property
    def frame_bytes(self) -> int:
        """Length of an uncompressed frame."""
        samples = 2 if self.photometric == "YBR_FULL_422" and not self.syntax.is_encapsulated else self.channels
        return self.height * self.width * samples * self.bits // 8

    def options(self) -> dict[str, Any]:
        """Return what pydicom's decoders want to know."""
        return {
            "rows": self.height,
            "columns": self.width,
            "samples_per_pixel": self.channels,
            "photometric_interpretation": self.photometric,
            "pixel_representation": int(self.signed),
            "planar_configuration": int(self.planar),
            "bits_allocated": self.bits,
            "bits_stored": self.bits_stored,
            "pixel_keyword": "PixelData",
            "pixel_vr": "OW",
        }


def read_layout(header: "Dataset", name: str, max_pixels: int) -> Layout:
    """Return how a file's frames are stored.

    Raises:
        ImageError: for frames larger than `max_pixels`, and for what is not read.
    """
    with within_pydicom(name, "its description of the pixels is damaged"):
        if "Rows" not in header or "Columns" not in header:
            raise ImageError(name, "holds no image (a DICOM report, plan or the like)", "remove it from what is to be read")
        bits = _number(header, "BitsAllocated", name)
        layout = Layout(
            name=name,
            syntax=_syntax(header, name),
            height=_number(header, "Rows", name),
            width=_number(header, "Columns", name),
            n_frames=_number(header, "NumberOfFrames", name, default=1),
            channels=_number(header, "SamplesPerPixel", name, default=1),
            bits=bits,
            bits_stored=_number(header, "BitsStored", name, default=bits),
            signed=header.get("PixelRepresentation") == 1,
            planar=header.get("PlanarConfiguration") == 1,
            photometric=str(header.get("PhotometricInterpretation", "")).strip(),
            max_pixels=max_pixels,
        )
        high_bit = header.get("HighBit")
    _check(layout, high_bit if isinstance(high_bit, int) else layout.bits_stored - 1)
    return layout


def _syntax(header: "Dataset", name: str) -> "UID":
    from pydicom import uid  # late: keeps --help fast

    syntax = header.file_meta.get("TransferSyntaxUID")
    if syntax is None:  # a bare data set: as it was found to be written
        implicit, little = header.original_encoding
        return uid.ImplicitVRLittleEndian if implicit else uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian
    if syntax in uid.AllTransferSyntaxes:
        return uid.UID(syntax)
    shown = f" ({syntax})" if re.fullmatch(r"[0-9.]{1,64}", str(syntax)) else ""
    raise ImageError(name, f"is stored in a private or unknown transfer syntax{shown}", _CONVERT)


def _number(header: "Dataset", keyword: str, name: str, default: Any = None) -> int:
    value = header.get(keyword)
    value = default if value is None else value
    if not isinstance(value, int) or value < 1:
        raise ImageError(name, f"its {keyword} is missing or no whole number from 1 on", _EXPORT)
    return int(value)


def _check(layout: Layout, high_bit: int) -> None:
    from pydicom.pixels import get_decoder  # late: keeps --help fast

    def refuse(reason: str, remedy: str = _CONVERT) -> None:
        raise ImageError(layout.name, reason, remedy)

    if layout.height * layout.width > layout.max_pixels:
        size = f"{layout.height} x {layout.width} is more than {layout.max_pixels / 2**20:g} Mpx, the limit"
        refuse(size, "save it smaller, or raise max_pixels if you trust the file")
    if layout.photometric not in _PHOTOMETRICS:
        refuse(f"its photometric interpretation is none of {', '.join(_PHOTOMETRICS)}")
    if layout.channels != (1 if layout.photometric.startswith(("MONO", "PALETTE")) else 3):
        refuse(f"{layout.channels} values for a pixel do not fit {layout.photometric}", _EXPORT)
    if layout.bits not in (8, 16) or not 2 <= layout.bits_stored <= layout.bits or high_bit != layout.bits_stored - 1:
        refuse(f"{layout.bits_stored} bits stored in {layout.bits} are not read; 8 and 16 are, filled from the lowest")
    try:
        decoder = get_decoder(layout.syntax)
    except NotImplementedError:
        refuse(f"is stored as {layout.syntax.name}, which is not read")
    if not decoder.is_available:
        refuse(f"is stored as {layout.syntax.name}, for which the decoder is missing", 'pip install "bcd[dicom]"')


def decode_frames(file: BinaryIO, start: int, layout: Layout) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each frame's number from 0 and its values, uint8/uint16/int8/int16 (H, W), or (H, W, 3) as RGB.

    A frame that cannot be decoded is left out; what was left out is told at the end.

    Args:
        file: open for reading in binary.
        start: where the element of the pixel data begins.
        layout: how they are stored.

    Raises:
        ImageError: for pixel data that are missing; after the last frame, when any could not be decoded.
    """
    # Fragments are counted before they are read, so twice its length is enough.
    rationed = RationedFile(file, layout.name, _READS, size=2 * file.seek(0, 2))
    length, vr = _open_pixel_data(rationed, start, layout)
    stored = _encapsulated(rationed, layout) if layout.syntax.is_encapsulated else _native(rationed, length, layout)
    n_read, lost, first = 0, 0, ""
    for number, (source, index) in enumerate(stored):
        n_read += 1
        try:
            yield number, _decode(source, index, layout, vr)
        except ImageError as error:
            lost, first = lost + 1, first or error.reason
    if not n_read or lost == layout.n_frames == 1:
        raise ImageError(layout.name, first or "its pixel data are cut short", "copy or export it again, or leave it out")
    if lost or n_read < layout.n_frames:
        parts = [f"{lost} of {n_read} frames could not be decoded ({first})"] * bool(lost)
        parts += [f"claims {layout.n_frames} frames and holds {n_read}"] * (n_read < layout.n_frames)
        raise ImageError(layout.name, " and ".join(parts), "copy or export it again; the other frames were read")


def _open_pixel_data(file: RationedFile, start: int, layout: Layout) -> tuple[int, str]:
    """Move to the value of the pixel data; return its length and VR."""
    file.seek(start)
    order = "<" if layout.syntax.is_little_endian else ">"
    head = file.read(8)
    if len(head) < 8 or struct.unpack(f"{order}HH", head[:4]) != (0x7FE0, 0x0010):
        raise ImageError(layout.name, "holds no pixel data of whole numbers", "export it again with its image, or leave it out")
    if head[4:6] not in (b"OB", b"OW", b"UN"):  # without its type, whatever the syntax says; as a length, all three would be odd
        return struct.unpack(f"{order}L", head[4:])[0], "OW"
    length = file.read(4)
    if len(length) < 4:
        raise ImageError(layout.name, "its pixel data are cut short", "copy or export it again, or leave it out")
    return struct.unpack(f"{order}L", length)[0], head[4:6].decode("ascii", errors="replace")


def _native(file: RationedFile, length: int, layout: Layout) -> Iterator[tuple[Any, int]]:
    """Yield the file and a number for each frame that it holds in full."""
    begin = file.tell()
    if length == _UNDEFINED:
        raise ImageError(layout.name, "its pixel data are in fragments, but not compressed", _EXPORT)
    n_frames = min(length, file.length - begin) // layout.frame_bytes
    for number in range(min(n_frames, layout.n_frames)):
        file.seek(begin)
        yield file, number


def _encapsulated(file: RationedFile, layout: Layout) -> Iterator[tuple[Any, int]]:
    """Yield each frame's stream, wrapped as the only one."""
    from pydicom.encaps import generate_frames  # late: keeps --help fast

    begin = file.tell()
    table = file.read(8)
    limit = (_BYTES_PER_PIXEL * layout.max_pixels + _BYTES_BESIDES) * layout.n_frames
    if table[:4] != _ITEM or len(table) < 8 or struct.unpack("<L", table[4:])[0] > max(4 * layout.n_frames, 1024):
        raise ImageError(layout.name, "its compressed pixel data are not in fragments as DICOM has them", _EXPORT)
    if file.length - begin > limit:
        raise ImageError(layout.name, "its compressed pixel data are more than frames within the limit take", _EXPORT)
    file.seek(begin)
    streams = islice(generate_frames(file, number_of_frames=layout.n_frames), layout.n_frames)
    while True:
        try:
            with within_pydicom(layout.name, "its fragments are damaged"):
                stream = next(streams, None)
        except ImageError:
            return  # the caller tells how many are missing
        if stream is None:
            return
        yield stream, 0


def _decode(source: Any, index: int, layout: Layout, vr: str) -> np.ndarray:
    from pydicom.encaps import encapsulate  # late: keeps --help fast
    from pydicom.pixels import get_decoder

    if isinstance(source, bytes):
        most_bytes = _BYTES_PER_PIXEL * layout.max_pixels + _BYTES_BESIDES
        size = StreamSize(layout.height, layout.width, layout.channels)
        try:
            source = encapsulate([check_stream(source, layout.syntax, size, layout.bits, most_bytes)], has_bot=False)
        except ValueError as error:
            raise ImageError(layout.name, str(error), _EXPORT) from None
    with within_pydicom(layout.name, f"its pixel data ({layout.syntax.name}) are damaged or cut short"):
        options = layout.options() | {"pixel_vr": vr, "number_of_frames": index + 1}
        values, found = get_decoder(layout.syntax).as_array(source, index=index, decoding_plugin=_plugin(layout), **options)
        if layout.channels == 3 and found["photometric_interpretation"] != "RGB":
            raise ValueError("its colours are no RGB")
        return np.asarray(values)


def _plugin(layout: Layout) -> str:
    """Return which decoder pydicom is to use; empty for the first that can."""
    if layout.syntax == _RLE:
        return "pydicom"  # pylibjpeg's ends in a panic, which is no Exception, on damaged data
    # What Pillow refuses of a JPEG of 8 bits, pylibjpeg's would make up.
    return "pillow" if layout.syntax in _JPEG_BY_DCT and layout.bits_stored == 8 else ""
