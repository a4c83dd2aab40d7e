"""Downloads: the table, the sheet to print, masks as PNG files at the size of the frame and as DICOM SEG."""

import io
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

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
    """The results on the page, one entry an image.

    Args:
        names: each another.
        scans: the images.
        results: of the images.
        by_hand: whether the mask was corrected by hand.
        table: the same as rows.
    """

    names: Sequence[str]
    scans: Sequence[Scan]
    results: Sequence[Result]
    by_hand: Sequence[bool]
    table: pd.DataFrame


def show_downloads(shown: Results, bundle: Bundle, opacity: float) -> None:
    """Offer the results as files.

    Args:
        shown: the results on the page.
        bundle: that gave them.
        opacity: of the overlays on the sheet, in [0, 1].
    """
    names, scans, results, by_hand = shown.names, shown.scans, shown.results, shown.by_hand
    st.subheader("Downloads")
    with st.container(horizontal=True):
        st.download_button("Table (CSV)", lambda: csv_of(shown.table), "bcd_results.csv", "text/csv", on_click="ignore")
        st.download_button(
            "Sheet to print (HTML)",
            lambda: result_sheet(names, scans, results, bundle, by_hand, opacity).encode(),
            "bcd_results.html",
            "text/html",
            on_click="ignore",
        )
        if len(scans) > 1 and any(one.mask is not None for one in results):
            st.download_button(
                "All masks (ZIP)", lambda: masks_zip(names, scans, results), "bcd_masks.zip", "application/zip", on_click="ignore"
            )
        _show_seg_download(shown, bundle.name)


def _show_seg_download(shown: Results, model_name: str) -> None:
    """Offer the masks of DICOM files as DICOM SEG: a file for each, several in a ZIP file."""
    sources = seg_sources(shown.scans, shown.results)
    if len(sources) == 1:
        content = partial(seg_file, sources[0], shown.scans, shown.results, shown.by_hand, model_name)
        title, name, kind = "Segmentation (DICOM SEG)", seg_name(shown.names, sources[0]), "application/dicom"
    elif sources:
        content = partial(segs_zip, sources, shown.names, shown.scans, shown.results, shown.by_hand, model_name)
        title, name, kind = "Segmentations (DICOM SEG, ZIP)", "bcd_dicom_seg.zip", "application/zip"
    else:
        return
    st.download_button(title, content, name, kind, on_click="ignore", help=_SEG_HELP)


def mask_png(scan: Scan, mask: np.ndarray) -> bytes:
    """Return a mask as PNG, 255 for lesion, at the size of the whole frame."""
    return png(uncrop(mask.astype(np.uint8) * 255, scan))


def masks_zip(names: Sequence[str], scans: Sequence[Scan], results: Sequence[Result]) -> bytes:
    """Return `<name>_mask.png` of every segmented image in one ZIP file."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for name, scan, result in zip(names, scans, results, strict=True):
            if result.mask is not None:
                archive.writestr(f"{file_stem(name)}_mask.png", mask_png(scan, result.mask))
    return content.getvalue()


class SegError(RuntimeError):
    """A DICOM SEG that cannot be made; it says nothing of the file, for whoever catches it may log it."""


def seg_sources(scans: Sequence[Scan], results: Sequence[Result]) -> list[list[int]]:
    """Return, for each DICOM file that a SEG can point back at, the places of its segmented frames, in the file's order."""
    places: dict[int, list[int]] = {}
    for place, (scan, result) in enumerate(zip(scans, results, strict=True)):
        if scan.source is not None and result.mask is not None and seg_obstacle(scan) is None:
            places.setdefault(id(scan.source), []).append(place)
    return list(places.values())


def seg_file(
    places: Sequence[int], scans: Sequence[Scan], results: Sequence[Result], by_hand: Sequence[bool], model_name: str
) -> bytes:
    """Return the DICOM SEG of one file's segmented frames.

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
