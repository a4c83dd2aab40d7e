"""What a visitor takes home: masks as PNG files at the size of the frame."""

import io
import zipfile
from collections.abc import Sequence

import numpy as np

from bcd.app.drawing import png
from bcd.data.scans import Scan, uncrop
from bcd.predictor.result import Result

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


def file_stem(name: str) -> str:
    """Return a name as every system's files may have it."""
    return "".join("_" if letter in _UNSAFE else letter for letter in name).strip(". ")[:120] or "image"
