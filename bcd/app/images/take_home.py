"""Files for a visitor to keep: table, sheet, masks, DICOM SEG."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import pandas as pd
import streamlit as st

from bcd.app.images.downloads import masks_zip, seg_file, seg_name, seg_sources, segs_zip
from bcd.app.images.result_sheet import result_sheet
from bcd.app.images.tables import csv_of
from bcd.images.scan import Scan
from bcd.predictor.bundle import Bundle
from bcd.predictor.result import Result

_SEG_HELP = "For archives and viewers: it names the patient and study of the file that it lies on, as every DICOM object does."


@dataclass(frozen=True)
class Found:
    """What was found in the images on the page, one entry an image.

    Args:
        names: each another.
        scans: what was looked at.
        results: what was found.
        by_hand: whether the outline was corrected by hand.
        table: the same as rows.
    """

    names: Sequence[str]
    scans: Sequence[Scan]
    results: Sequence[Result]
    by_hand: Sequence[bool]
    table: pd.DataFrame


def take_home(found: Found, bundle: Bundle, opacity: float) -> None:
    """Offer all that was found as files.

    Args:
        found: in images.
        bundle: by which model.
        opacity: of the overlays on the sheet, in [0, 1].
    """
    names, scans, results, by_hand = found.names, found.scans, found.results, found.by_hand
    st.subheader("Take home")
    with st.container(horizontal=True):
        st.download_button("Table (CSV)", lambda: csv_of(found.table), "bcd_results.csv", "text/csv", on_click="ignore")
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
        _segs(found, bundle.name)


def _segs(found: Found, model_name: str) -> None:
    """Offer the outlines of DICOM files as DICOM SEG: a file for each, several in a ZIP file."""
    sources = seg_sources(found.scans, found.results)
    if len(sources) == 1:
        content = partial(seg_file, sources[0], found.scans, found.results, found.by_hand, model_name)
        title, name, kind = "Outline (DICOM SEG)", seg_name(found.names, sources[0]), "application/dicom"
    elif sources:
        content = partial(segs_zip, sources, found.names, found.scans, found.results, found.by_hand, model_name)
        title, name, kind = "Outlines (DICOM SEG, ZIP)", "bcd_dicom_seg.zip", "application/zip"
    else:
        return
    st.download_button(title, content, name, kind, on_click="ignore", help=_SEG_HELP)
