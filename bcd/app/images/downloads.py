"""What a visitor takes home: masks as PNG files at the size of the frame, and as DICOM SEG."""

import io
import re
import zipfile
from collections.abc import Sequence

import numpy as np

from bcd.app.images.drawing import png
from bcd.images.scan import Scan, uncrop
from bcd.images.seg import seg_content, seg_obstacle
from bcd.predictor.result import Result

_FRAME = re.compile(r"_frame_\d+")
_UNSAFE = set('/\\:*?"<>|') | {chr(code) for code in range(32)}


def mask_png(scan: Scan, mask: np.ndarray) -> bytes:
    """Return a mask as PNG, 255 for lesion, at the size of the whole frame."""
    return png(uncrop(mask.astype(np.uint8) * 255, scan))


def masks_zip(names: Sequence[str], scans: Sequence[Scan], results: Sequence[Result]) -> bytes:
    """Return `<name>_mask.png` of every outlined image in one ZIP file."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for name, scan, result in zip(names, scans, results, strict=True):
            if result.mask is not None:
                archive.writestr(f"{file_stem(name)}_mask.png", mask_png(scan, result.mask))
    return content.getvalue()


class SegError(RuntimeError):
    """A DICOM SEG that cannot be made; it says nothing of the file, for whoever catches it may log it."""


def seg_sources(scans: Sequence[Scan], results: Sequence[Result]) -> list[list[int]]:
    """Return, for each DICOM file that a SEG can point back at, the places of its outlined frames, in the file's order."""
    places: dict[int, list[int]] = {}
    for place, (scan, result) in enumerate(zip(scans, results, strict=True)):
        if scan.source is not None and result.mask is not None and seg_obstacle(scan) is None:
            places.setdefault(id(scan.source), []).append(place)
    return list(places.values())


def seg_file(
    places: Sequence[int], scans: Sequence[Scan], results: Sequence[Result], by_hand: Sequence[bool], model_name: str
) -> bytes:
    """Return the DICOM SEG of one file's outlined frames.

    Raises:
        SegError: when what the file says of patient or study does not fit the standard.
    """
    masks = [mask for place in places if (mask := results[place].mask) is not None]
    try:
        return seg_content(masks, [scans[place] for place in places], model_name, any(by_hand[place] for place in places))
    except ValueError:
        raise SegError("The DICOM SEG cannot be made: take the masks as PNG.") from None


def segs_zip(
    sources: Sequence[Sequence[int]],
    names: Sequence[str],
    scans: Sequence[Scan],
    results: Sequence[Result],
    by_hand: Sequence[bool],
    model_name: str,
) -> bytes:
    """Return the DICOM SEGs of several files in one ZIP file; see `seg_sources`."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for places in sources:
            archive.writestr(seg_name(names, places), seg_file(places, scans, results, by_hand, model_name))
    return content.getvalue()


def seg_name(names: Sequence[str], places: Sequence[int]) -> str:
    """Return the name of a DICOM file's SEG: that of its frames, without the number of one where there are several."""
    name = names[places[0]]
    return f"{file_stem(_FRAME.sub('', name) if len(places) > 1 else name)}_seg.dcm"


def file_stem(name: str) -> str:
    """Return a name as every system's files may have it."""
    return "".join("_" if letter in _UNSAFE else letter for letter in name).strip(". ")[:120] or "image"
