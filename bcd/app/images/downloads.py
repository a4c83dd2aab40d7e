"""Downloads: the table, the sheet to print, masks as PNG files at the size of the frame and as DICOM SEG."""

import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import streamlit as st

from bcd.app.images.drawing import png
from bcd.app.images.result_sheet import result_sheet
from bcd.app.images.tables import csv_of
from bcd.images.scan import Scan, uncrop
from bcd.images.seg import seg_content, seg_obstacle
from bcd.predictor.bundle import Bundle
from bcd.predictor.result import Result

_FRAME = re.compile(r"_frame_\d+")
_UNSAFE = set('/\\:*?"<>|') | {chr(code) for code in range(32)}
_SEG_HELP = "For archives and viewers: it names the patient and study of the file that it lies on, as every DICOM object does."


@dataclass(frozen=True)
class Results:
    """The results on the page, one entry per image; the table holds the same as rows."""

    names: Sequence[str]
    scans: Sequence[Scan]
    results: Sequence[Result]
    by_hand: Sequence[bool]
    table: pd.DataFrame


def show_downloads(shown: Results, bundle: Bundle, opacity: float) -> None:
    """Offer the results as files."""
    st.subheader("Downloads")
    with st.container(horizontal=True):
        st.download_button("Table (CSV)", lambda: csv_of(shown.table), "bcd_results.csv", "text/csv", on_click="ignore")
        st.download_button(
            "Sheet to print (HTML)",
            lambda: result_sheet(shown.names, shown.scans, shown.results, bundle, shown.by_hand, opacity).encode(),
            "bcd_results.html",
            "text/html",
            on_click="ignore",
        )
        if len(shown.scans) > 1 and any(one.mask is not None for one in shown.results):
            st.download_button("All masks (ZIP)", lambda: masks_zip(shown), "bcd_masks.zip", "application/zip", on_click="ignore")
        sources = seg_sources(shown)
        if len(sources) == 1:
            seg = "Segmentation (DICOM SEG)", lambda: seg_file(shown, sources[0], bundle.name), seg_name(shown, sources[0])
            st.download_button(*seg, "application/dicom", on_click="ignore", help=_SEG_HELP)
        elif sources:
            segs = "Segmentations (DICOM SEG, ZIP)", lambda: segs_zip(shown, bundle.name), "bcd_dicom_seg.zip"
            st.download_button(*segs, "application/zip", on_click="ignore", help=_SEG_HELP)


def mask_png(scan: Scan, mask: np.ndarray) -> bytes:
    """Return a mask as PNG, 255 for lesion, at the size of the whole frame."""
    return png(uncrop(mask.astype(np.uint8) * 255, scan))


def masks_zip(shown: Results) -> bytes:
    """Return `<name>_mask.png` of every segmented image in one ZIP file."""
    entries = zip(shown.names, shown.scans, shown.results, strict=True)
    return _zip({f"{file_stem(name)}_mask.png": mask_png(scan, one.mask) for name, scan, one in entries if one.mask is not None})


class SegError(RuntimeError):
    """A DICOM SEG that cannot be made; it has no data of the file, because the caller may log it."""


def seg_sources(shown: Results) -> list[list[int]]:
    """Return, for each DICOM file that a SEG can refer to, the places of its segmented frames, in the file's order."""
    places: dict[int, list[int]] = {}
    for place, (scan, result) in enumerate(zip(shown.scans, shown.results, strict=True)):
        if scan.source is not None and result.mask is not None and seg_obstacle(scan) is None:
            places.setdefault(id(scan.source), []).append(place)
    return list(places.values())


def seg_file(shown: Results, places: Sequence[int], model_name: str) -> bytes:
    """Return the DICOM SEG of one file's segmented frames.

    Raises:
        SegError: when the file's patient or study data do not fit the standard.
    """
    masks = [mask for place in places if (mask := shown.results[place].mask) is not None]
    by_hand = any(shown.by_hand[place] for place in places)
    try:
        return seg_content(masks, [shown.scans[place] for place in places], model_name, by_hand)
    except ValueError:
        raise SegError("The DICOM SEG cannot be made: take the masks as PNG.") from None


def segs_zip(shown: Results, model_name: str) -> bytes:
    """Return the DICOM SEGs of all files in one ZIP file; see `seg_sources`."""
    return _zip({seg_name(shown, places): seg_file(shown, places, model_name) for places in seg_sources(shown)})


def seg_name(shown: Results, places: Sequence[int]) -> str:
    """Return the name of a DICOM file's SEG: that of its frames, without the number of one where there are several."""
    name = shown.names[places[0]]
    return f"{file_stem(_FRAME.sub('', name) if len(places) > 1 else name)}_seg.dcm"


def _zip(files: Mapping[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for name, file in files.items():
            archive.writestr(name, file)
    return content.getvalue()


def file_stem(name: str) -> str:
    """Return a name as every system's files may have it."""
    return "".join("_" if letter in _UNSAFE else letter for letter in name).strip(". ")[:120] or "image"
