"""The frames of a DICOM file, decoded one by one; header and streams are checked before anything is decoded.

pydicom and its decoders trust a compressed stream that states a larger size than its header, and would take gigabytes for
a few bytes: so its size is read here first.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from bcd.images.decode import ImageError
from bcd.images.dicom.header import PixelData, RationedFile, within_pydicom

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.uid import UID

_JPEG_BY_DCT = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")
_RLE = "1.2.840.10008.1.2.5"
_PHOTOMETRICS = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_PIXEL_DATA_TAG = 0x7FE00010
_UNDEFINED = 0xFFFFFFFF
_ITEM = b"\xfe\xff\x00\xe0"
_EXPORT = "export it again or leave it out"
_CONVERT = "export it as PNG, or as DICOM without compression"

_READS = 1_000_000  # four for each fragment

# What a decoder may unfold for a pixel at most, as for pictures, and room for what else a stream may tell.
_BYTES_PER_PIXEL = 16
_BYTES_BESIDES = 1 << 26

_START_OF_CODESTREAM = b"\xff\x4f\xff\x51"
# Within a scan, bytes are stuffed so that neither can appear by chance.
_START_OF_SCAN, _END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"
# Start-of-frame markers of JPEG and, the last one, JPEG-LS; C4, C8 and CC are other things.
_START_OF_FRAME = {0xC0 + number for number in range(16)} - {0xC4, 0xC8, 0xCC} | {0xF7}
_BARE_MARKERS = {0x01, *range(0xD0, 0xD9)}
_RLE_HEADER = 64
_RLE_UNFOLDS = 64  # two bytes may encode 128


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
    def most_bytes(self) -> int:
        """The most that the stream of a frame may take, or unfold to."""
        return _BYTES_PER_PIXEL * self.max_pixels + _BYTES_BESIDES


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
    uid_text = f" ({syntax})" if re.fullmatch(r"[0-9.]{1,64}", str(syntax)) else ""
    raise ImageError(name, f"is stored in a private or unknown transfer syntax{uid_text}", _CONVERT)


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


def decode_frames(file: BinaryIO, pixels: PixelData | None, layout: Layout) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each frame's number from 0 and its values, uint8/uint16/int8/int16 (H, W), or (H, W, 3) as RGB.

    A frame that cannot be decoded is left out; the error at the end says how many were. `pixels` is what `read_header` returned.

    Raises:
        ImageError: for pixel data that are missing; after the last frame, when any could not be decoded.
    """
    if pixels is None or pixels.tag != _PIXEL_DATA_TAG:
        raise ImageError(layout.name, "holds no pixel data of whole numbers", "export it again with its image, or leave it out")
    # Fragments are counted before they are read, so twice its length is enough.
    rationed = RationedFile(file, layout.name, _READS, size=2 * file.seek(0, 2))
    sources = (_encapsulated if layout.syntax.is_encapsulated else _native)(rationed, pixels, layout)
    n_read, lost, first = 0, 0, ""
    for number, (source, index) in enumerate(sources):
        n_read += 1
        try:
            yield number, _decode(source, index, layout, pixels.vr)
        except ImageError as error:
            lost, first = lost + 1, first or error.reason
    if not n_read or lost == layout.n_frames == 1:
        raise ImageError(layout.name, first or "its pixel data are cut short", "copy or export it again, or leave it out")
    if lost or n_read < layout.n_frames:
        parts = [f"{lost} of {n_read} frames could not be decoded ({first})"] * bool(lost)
        parts += [f"claims {layout.n_frames} frames and holds {n_read}"] * (n_read < layout.n_frames)
        raise ImageError(layout.name, " and ".join(parts), "copy or export it again; the other frames were read")


def _native(file: RationedFile, pixels: PixelData, layout: Layout) -> Iterator[tuple[Any, int]]:
    """Yield the file and a number for each frame that it holds in full."""
    if pixels.length == _UNDEFINED:
        raise ImageError(layout.name, "its pixel data are in fragments, but not compressed", _EXPORT)
    samples = 2 if layout.photometric == "YBR_FULL_422" else layout.channels
    frame_bytes = layout.height * layout.width * samples * layout.bits // 8
    for number in range(min(min(pixels.length, file.length - pixels.start) // frame_bytes, layout.n_frames)):
        file.seek(pixels.start)
        yield file, number


def _encapsulated(file: RationedFile, pixels: PixelData, layout: Layout) -> Iterator[tuple[Any, int]]:
    """Yield each frame's stream, wrapped as the only one."""
    from pydicom.encaps import generate_frames  # late: keeps --help fast

    file.seek(pixels.start)
    table = file.read(8)
    if table[:4] != _ITEM or len(table) < 8 or struct.unpack("<L", table[4:])[0] > max(4 * layout.n_frames, 1024):
        raise ImageError(layout.name, "its compressed pixel data are not in fragments as DICOM has them", _EXPORT)
    if file.length - pixels.start > layout.most_bytes * layout.n_frames:
        raise ImageError(layout.name, "its compressed pixel data are more than frames within the limit take", _EXPORT)
    file.seek(pixels.start)
    streams = islice(generate_frames(file, number_of_frames=layout.n_frames), layout.n_frames)
    while True:
        try:
            with within_pydicom(layout.name, "its fragments are damaged"):
                stream = next(streams, None)
        except ImageError:
            return  # the caller says how many are missing
        if stream is None:
            return
        yield stream, 0


def _decode(source: Any, index: int, layout: Layout, vr: str) -> np.ndarray:
    from pydicom.encaps import encapsulate  # late: keeps --help fast
    from pydicom.pixels import get_decoder

    if isinstance(source, bytes):
        source = encapsulate([_checked(source, layout)], has_bot=False)
    plugin = ""  # the first that can
    if layout.syntax == _RLE:
        plugin = "pydicom"  # pylibjpeg's ends in a panic, which is no Exception, on damaged data
    elif layout.syntax in _JPEG_BY_DCT and layout.bits_stored == 8:
        plugin = "pillow"  # what it refuses, pylibjpeg's would make up
    with within_pydicom(layout.name, f"its pixel data ({layout.syntax.name}) are damaged or cut short"):
        described: dict[str, Any] = {
            "number_of_frames": index + 1,
            "rows": layout.height,
            "columns": layout.width,
            "samples_per_pixel": layout.channels,
            "photometric_interpretation": layout.photometric,
            "pixel_representation": int(layout.signed),
            "planar_configuration": int(layout.planar),
            "bits_allocated": layout.bits,
            "bits_stored": layout.bits_stored,
            "pixel_keyword": "PixelData",
            "pixel_vr": vr,
        }
        values, decoded = get_decoder(layout.syntax).as_array(source, index=index, decoding_plugin=plugin, **described)
        if layout.channels == 3 and decoded["photometric_interpretation"] != "RGB":
            raise ValueError("its colours are no RGB")
        return np.asarray(values)


def _checked(stream: bytes, layout: Layout) -> bytes:
    """Return the compressed stream of one frame as its decoder may have it.

    Raises:
        ImageError: when the stream claims anything else than its header, or lacks its end.
    """
    if layout.syntax == _RLE:
        segments = struct.unpack("<L", stream[:4].ljust(4, b"\0"))[0]
        if segments != layout.channels * layout.bits // 8 or (len(stream) - _RLE_HEADER) * _RLE_UNFOLDS > layout.most_bytes:
            raise ImageError(layout.name, f"its RLE data have {segments} parts, or are longer than a frame's", _EXPORT)
        return stream
    is_jpeg_2000 = "2000" in layout.syntax.name
    if is_jpeg_2000:
        # Without the boxes of a JP2 file around it: pydicom loops forever when one of their lengths is 0.
        stream = stream[max(0, stream.find(_START_OF_CODESTREAM)) :]
    elif stream.rfind(_END_OF_IMAGE) < stream.rfind(_START_OF_SCAN):
        raise ImageError(layout.name, "its compressed image is cut short", _EXPORT)  # decoders make up the rest
    claimed = _jpeg_2000_size(stream) if is_jpeg_2000 else _jpeg_size(stream)
    expected = f"{layout.height} x {layout.width} of {layout.channels}"
    if claimed != expected:
        raise ImageError(layout.name, f"its compressed image is {claimed}, its header says {expected}", _EXPORT)
    return stream


def _jpeg_2000_size(stream: bytes) -> str:
    """Return height, width and channels in words; "none" for no JPEG 2000."""
    if not stream.startswith(_START_OF_CODESTREAM) or len(stream) < 42:
        return "none"
    right, bottom, left, top = struct.unpack(">4L", stream[8:24])
    return f"{bottom - top} x {right - left} of {struct.unpack('>H', stream[40:42])[0]}"


def _jpeg_size(stream: bytes) -> str:
    """Return height, width and channels of the first start of a frame, of JPEG or JPEG-LS, in words; "none" without one."""
    position = 2
    while stream.startswith(b"\xff\xd8") and position + 9 < len(stream) and stream[position] == 0xFF:
        marker, length = stream[position + 1], struct.unpack(">H", stream[position + 2 : position + 4])[0]
        if marker in _START_OF_FRAME:
            return "{} x {} of {}".format(*struct.unpack(">HHB", stream[position + 5 : position + 10]))
        # A marker without a segment, or a byte that fills up.
        position += 1 if marker == 0xFF else 2 if marker in _BARE_MARKERS else 2 + length
    return "none"
