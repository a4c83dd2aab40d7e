"""What a compressed stream claims to hold, checked before a decoder sees it: a few bytes can claim gigabytes."""

import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pydicom.uid import UID

_START_OF_CODESTREAM = b"\xff\x4f\xff\x51"
# Within a scan, bytes are stuffed so that neither can appear by chance.
_START_OF_SCAN, _END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"
# Start-of-frame markers of JPEG and, the last one, JPEG-LS; C4, C8 and CC are other things.
_FRAMES = {0xC0 + number for number in range(16)} - {0xC4, 0xC8, 0xCC} | {0xF7}
_BARE_MARKERS = {0x01, *range(0xD0, 0xD9)}
_RLE_HEADER = 64
_RLE_UNFOLDS = 64  # two bytes may stand for 128


class StreamSize(NamedTuple):
    """Height and width in px, and channels."""

    height: int
    width: int
    channels: int


def check_stream(stream: bytes, syntax: "UID", expected: StreamSize, bits: int, most_bytes: int) -> bytes:
    """Return the stream of one frame as its decoder may have it.

    Args:
        stream: compressed.
        syntax: transfer syntax.
        expected: what the file's header says of the frame.
        bits: allocated for a value.
        most_bytes: the most that a frame may unfold to.

    Raises:
        ValueError: when the stream claims anything else than its header, or lacks its end.
    """
    if syntax.name.startswith("RLE"):
        segments = struct.unpack("<L", stream[:4].ljust(4, b"\0"))[0]
        if segments != expected.channels * bits // 8 or (len(stream) - _RLE_HEADER) * _RLE_UNFOLDS > most_bytes:
            raise ValueError(f"its RLE data have {segments} parts, or are longer than a frame's")
        return stream
    if "2000" in syntax.name:
        # Without the boxes of a JP2 file around it: pydicom follows their lengths for ever when one is 0.
        stream = stream[max(0, stream.find(_START_OF_CODESTREAM)) :]
    elif stream.rfind(_END_OF_IMAGE) < stream.rfind(_START_OF_SCAN):
        raise ValueError("its compressed image is cut short")  # decoders make up the rest
    found = _jpeg_2000_size(stream) if "2000" in syntax.name else _jpeg_size(stream)
    if found != expected:
        raise ValueError(f"its compressed image is {_told(found)}, its header says {_told(expected)}")
    return stream


def _told(size: StreamSize | None) -> str:
    return "none" if size is None else f"{size.height} x {size.width} of {size.channels}"


def _jpeg_2000_size(stream: bytes) -> StreamSize | None:
    if not stream.startswith(_START_OF_CODESTREAM) or len(stream) < 42:
        return None
    right, bottom, left, top = struct.unpack(">4L", stream[8:24])
    return StreamSize(bottom - top, right - left, struct.unpack(">H", stream[40:42])[0])


def _jpeg_size(stream: bytes) -> StreamSize | None:
    """Return the size in the first start of a frame, as JPEG and JPEG-LS have it."""
    position = 2
    while stream.startswith(b"\xff\xd8") and position + 9 < len(stream) and stream[position] == 0xFF:
        marker, length = stream[position + 1], struct.unpack(">H", stream[position + 2 : position + 4])[0]
        if marker in _FRAMES:
            height, width, channels = struct.unpack(">HHB", stream[position + 5 : position + 10])
            return StreamSize(height, width, channels)
        # A marker without a segment, or a byte that fills up.
        position += 1 if marker == 0xFF else 2 if marker in _BARE_MARKERS else 2 + length
    return None
