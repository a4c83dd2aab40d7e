"""The audit of a prepared data set: audit.csv and audit.html in its folder."""

import json
import logging
from collections.abc import Callable, Hashable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from bcd.data.audit.findings import KINDS, audit
from bcd.data.manifest import Case, read_case
from bcd.data.prepare import Prepared
from bcd.files import write_text
from bcd.reports.audit import Section, audit_page
from bcd.reports.rendering import Picture, picture

# Raise it when the audit finds or shows something else in the same data.
VERSION = 1
CLUSTERS_SHOWN = 80
OF_A_CLUSTER = 12
PICTURES_SHOWN = 40
THUMBNAIL_PX = 200

TITLES = {
    "contradiction": "Copies that contradict each other",
    "near_copy": "Clusters of near-copies",
    "same_scene": "Frames of one scene",
    "leak": "What a random split by image would leak",
    "mark": "Text, calipers and colour burnt in",
    "outlier": "Images far from the rest",
    "mask_tiny": "Tiny masks",
    "mask_large": "Masks of nearly the whole image",
    "mask_border": "Masks that touch the edge",
    "mask_pieces": "Masks in several pieces",
    "mask_holes": "Masks with holes",
}
TEXTS = {
    "contradiction": "The same picture under different labels: one of them is wrong. Runs leave all of them out unless "
    "data.exclude_contradictions=false.",
    "near_copy": "Found by perceptual hash despite crops, rescaling, grey levels, marks and mirroring, and confirmed by "
    "registering one picture to the other: their speckle agrees. They stay in one fold.",
    "same_scene": "Similar, but not copies: other frames, or other crops of one lesion. They stay in one group.",
    "leak": "Test images that a model has seen in training inflate every figure; the splits used here keep groups whole.",
    "mark": "Flat, crisp, bright strokes, and pixels with colour. A classifier may read them instead of the tissue: calipers show "
    "where somebody measured a lesion.",
    "outlier": "A robust Mahalanobis distance over shape, grey levels and texture: other organs, devices, photographs, noise. "
    "The line names what is most unlike the others.",
    "mask_border": "The lesion may extend beyond the picture, or the mask was filled to the edge by mistake.",
    "mask_pieces": "Several lesions, or specks that slipped into the mask.",
}

log = logging.getLogger(__name__)


def write_audit(prepared: Prepared) -> Path:
    """Write audit.csv and audit.html into the prepared data set's folder, unless they are there; return the page's path."""
    page, table = prepared.folder / "audit.html", prepared.folder / "audit.csv"
    stamp = prepared.folder / "audit.json"
    content = json.dumps({"version": VERSION, "cases": len(prepared.cases)})
    if page.is_file() and table.is_file() and stamp.is_file() and stamp.read_text() == content:
        return page
    log.info("Auditing %d images.", len(prepared.cases))
    copies = pd.read_csv(prepared.folder / "copies.csv", dtype={"first": str, "second": str}, keep_default_na=False)
    findings = audit(prepared.cases, prepared.groups, copies, prepared.max_pixels)
    write_text(table, findings.to_csv(index=False, float_format="%.4g"))
    title = f"Audit of {prepared.name}: {len(prepared.cases)} images"
    notes = [f"Fingerprint {prepared.fingerprint}. Every finding, shown here or not, is a row of audit.csv beside this page."]
    if prepared.synthetic:
        notes.append("Simulated images, not patients.")
    write_text(page, audit_page(title, notes, _sections(findings, prepared)))
    write_text(stamp, content)
    return page


def describe(findings: pd.DataFrame) -> list[tuple[str, str]]:
    """Return (what, how many) for each kind of finding."""
    return [(TITLES[kind], _count(kind, findings[findings["kind"] == kind])) for kind in TITLES]


def _sections(findings: pd.DataFrame, prepared: Prepared) -> list[Section]:
    cases = {case.case_id: case for case in prepared.cases}
    draw = lru_cache(maxsize=4096)(lambda case_id, with_contour: _thumbnail(cases[case_id], with_contour, prepared.max_pixels))
    sections = []
    for kind, title in TITLES.items():
        rows = findings[(findings["kind"] == kind) & (findings["case_id"] != "")]
        text = TEXTS.get(kind, KINDS[kind].partition(";")[0].capitalize() + ".")
        count = _count(kind, findings[findings["kind"] == kind])
        if kind == "leak":
            details = findings.loc[findings["kind"] == kind, "detail"]
            sections.append(Section(title, " ".join([*(f"{line[0].upper()}{line[1:]}." for line in details), text]), count))
            continue
        if kind in ("near_copy", "contradiction"):
            sets, more = _by_cluster(rows)
        else:
            rest = len(rows) - PICTURES_SHOWN
            sets, more = [rows.head(PICTURES_SHOWN)] if len(rows) else [], f"{rest} more are in audit.csv." if rest > 0 else ""
        pictures = [[_picture(kind, row, draw) for row in members.to_dict("records")] for members in sets]
        sections.append(Section(title, text, count, pictures, more, loud=kind == "contradiction"))
    return sections


def _picture(kind: str, row: Mapping[Hashable, Any], draw: Callable[[str, bool], bytes]) -> Picture:
    detail, partners = row["detail"], row["detail"].split("; ")
    if kind in ("near_copy", "contradiction", "same_scene") and len(partners) > 2:
        detail = f"{partners[0]} and {len(partners) - 1} more"
    elif kind == "outlier":
        detail = f"{detail} · {row['value']:.1f}"
    text = f"{row['label'] or 'no label'} · {detail}"
    return picture(draw(row["case_id"], kind.startswith("mask")), "jpeg", text, name=row["case_id"])


def _by_cluster(rows: pd.DataFrame) -> tuple[list[pd.DataFrame], str]:
    """Return the rows of the largest clusters, and what is left out, in words."""
    sizes = rows["cluster"].value_counts(sort=True, ascending=False)
    shown = sizes.index[:CLUSTERS_SHOWN]
    members = dict(list(rows.groupby("cluster", sort=False)))
    cut = sum(size > OF_A_CLUSTER for size in sizes.iloc[:CLUSTERS_SHOWN])
    notes = [f"{len(sizes) - len(shown)} more clusters are in audit.csv."] if len(sizes) > len(shown) else []
    notes += [f"{cut} clusters show their first {OF_A_CLUSTER} images alone."] if cut else []
    return [members[name].head(OF_A_CLUSTER) for name in shown], " ".join(notes)


def _count(kind: str, rows: pd.DataFrame) -> str:
    if kind == "leak":
        shares = [float(value) for value, detail in zip(rows["value"], rows["detail"], strict=True) if detail != "none found"]
        return " / ".join(f"{share:.1%}" for share in shares) or "too few images"
    of_cases = rows[rows["case_id"] != ""]
    if not len(of_cases):
        return "none found"
    images = f"{len(of_cases)} image{'s' if len(of_cases) > 1 else ''}"
    if kind in ("near_copy", "contradiction"):
        clusters = of_cases["cluster"].nunique()
        return f"{images} in {clusters} cluster{'s' if clusters > 1 else ''}"
    return images


def _thumbnail(case: Case, with_contour: bool, max_pixels: int) -> bytes:
    """Return the image as a small JPEG, with the contour of the mask where that is the matter."""
    image, mask = read_case(case, max_pixels)
    scale = THUMBNAIL_PX / max(image.shape)
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    small = cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_GRAY2BGR)
    if with_contour:
        mask = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
        contours, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(small, contours, -1, (0, 220, 255), 1)
    return bytes(np.asarray(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 75])[1]).tobytes())


def read_findings(prepared: Prepared) -> pd.DataFrame:
    """Return audit.csv."""
    text = dict.fromkeys(("kind", "case_id", "group", "cluster", "label", "detail"), str)
    return pd.read_csv(prepared.folder / "audit.csv", dtype=text, keep_default_na=False)
