"""Pictures of cases: the best, typical and worst ones, and the failures with their reasons."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from bcd.reports.overlays import FALSE_POSITIVE, MISSED, WRONG, choose_extremes, choose_failures, find_failures
from bcd.reports.rendering import Picture, Table, picture
from bcd.reports.run.results import Results, Section
from bcd.reports.wording import number, share

_LONGEST, _QUALITY, _LISTED = 640, 88, 20
KINDS = {
    MISSED: "Missed lesions: no pixel of the lesion was predicted",
    FALSE_POSITIVE: "Predicted lesions on images without a lesion",
    WRONG: "Wrong classes, the most confident first",
}
_TITLES = {"best": "Best", "median": "Typical", "worst": "Worst"}


def gallery(results: Results) -> Section | None:
    """Return pictures of the best, typical and worst cases."""
    if results.cases is None or not len(results.cases):
        return None
    by_kind = {kind: _pictures(results, results.cases, kind, names) for kind, names in choose_extremes(results.cases).items()}
    groups = [{"title": _TITLES[kind], "pictures": pictures} for kind, pictures in by_kind.items() if pictures]
    if not groups:
        return None
    by = "Dice" if "dice" in results.cases else "the probability of the true class"
    predicted = " Orange: predicted contour." if results.outlines else ""
    text = [f"Chosen by {by}, not by hand. Light blue: true contour.{predicted}"]
    return Section(id="gallery", title="Best, typical and worst cases", text=text, template="pictures", more={"groups": groups})


def failures(results: Results) -> Section | None:
    """Return the cases in which the model failed, each kind with its number, the worst ones listed and shown."""
    if results.cases is None:
        return None
    chosen = choose_failures(results.cases)
    lesions = int((results.cases["lesion_area_px"] > 0).sum())
    out_of = {MISSED: lesions, FALSE_POSITIVE: len(results.cases) - lesions}
    groups = []
    for kind, rows in find_failures(results.cases).items():
        listed = [[row["case_id"], row["group"], _reason(kind, row)] for _, row in rows[:_LISTED].iterrows()]
        groups.append(
            {
                "title": f"{KINDS[kind]} ({share(len(rows), out_of.get(kind, len(results.cases)))})",
                "pictures": _pictures(results, results.cases, kind, chosen[kind]),
                "table": Table(["case", "group", "reason"], listed, text=(1, 2)),
                "unlisted": max(0, len(rows) - _LISTED),
            }
        )
    return Section(id="failures", title="Failures", template="pictures", more={"groups": groups}) if groups else None


def _reason(kind: str, row: pd.Series) -> str:
    if kind == WRONG:
        return f"{row['label']}, predicted {row['predicted_label']} with probability {number(float(row['sureness']))}"
    highest = f"; highest probability {number(float(row['max_probability']))}" if "max_probability" in row else ""
    predicted = f"{number(int(row['predicted_area_px']))} px"
    if kind == MISSED:
        elsewhere = f"{predicted} predicted elsewhere" if row["predicted_area_px"] else "nothing predicted"
        return f"lesion of {number(int(row['lesion_area_px']))} px missed, {elsewhere}{highest}"
    part = row["predicted_area_px"] / (row["height"] * row["width"])
    return f"{predicted} ({100 * part:.1f} % of the image) predicted{highest}"


def _pictures(results: Results, cases: pd.DataFrame, kind: str, names: list[str]) -> list[Picture]:
    """Return the pictures of a kind, `<kind>_<number>.png` in the folder of overlays, that are there."""
    pictures = []
    for place, name in enumerate(names, start=1):
        content = small_jpeg(results.overlays / f"{kind}_{place}.png")
        if content is not None:
            caption = describe(cases.loc[cases["case_id"] == name].iloc[0])
            pictures.append(picture(content, "jpeg", caption, f"Case {name}: {caption}", name))
    return pictures


def describe(row: Any) -> str:
    """Return the truth and the prediction of a case in a line."""
    parts = [str(row["label"])] if row["label"] else []
    if pd.notna(row.get("dice", np.nan)):
        parts.append(f"Dice {number(float(row['dice']))}")
        unit = next((unit for unit in ("mm", "px") if pd.notna(row.get(f"hd95_{unit}", np.nan))), None)
        if unit is not None:
            parts.append(f"HD95 {number(float(row[f'hd95_{unit}']), f'hd95_{unit}')} {unit}")
    elif "predicted_area_px" in row:
        parts.append(f"no lesion, {number(int(row['predicted_area_px']))} px predicted")
    if "predicted_label" in row:
        parts.append(f"predicted {row['predicted_label']} ({_given(row, str(row['predicted_label']))})")
        if row["label"] and row["label"] != row["predicted_label"] and f"probability_{row['label']}" in row:
            parts.append(f"probability of {row['label']} {_given(row, str(row['label']))}")
    return ", ".join(parts)


def _given(row: Any, name: str) -> str:
    return number(float(row[f"probability_{name}"]))


def small_jpeg(path: Path) -> bytes | None:
    """Return a picture as JPEG with its longer side at most 640 px, or None where there is none."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR) if path.is_file() else None
    if image is None:
        return None
    scale = _LONGEST / max(image.shape[:2])
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    _, content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return content.tobytes()
