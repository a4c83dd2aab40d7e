"""Pictures of cases: the best, typical and worst ones, and the failures with their reasons."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from bcd.reports.markup import Html, element, figure, joined, picture, table
from bcd.reports.overlays import FALSE_POSITIVE, MISSED, WRONG, choose_extremes, choose_failures, find_failures
from bcd.reports.run.results import Results, Section
from bcd.reports.wording import number, share

_LONGEST, _QUALITY, _LISTED = 640, 88, 20
KINDS = {
    MISSED: "Missed lesions: nothing of the lesion was outlined",
    FALSE_POSITIVE: "Outlines on images without a lesion",
    WRONG: "Wrong classes, the surest first",
}
_TITLES = {"best": "Best", "median": "Typical", "worst": "Worst"}
_LEGEND = "Light blue: the true outline. Orange: the predicted one."


def gallery(results: Results) -> Section | None:
    """Return pictures of the best, typical and worst cases."""
    if results.cases is None or not len(results.cases):
        return None
    chosen = choose_extremes(results.cases)
    parts: list[object] = []
    for kind, names in chosen.items():
        shown = _pictures(results, kind, names)
        if shown:
            parts += [element("h3", _TITLES.get(kind, kind)), element("div", *shown, class_="pictures")]
    if not parts:
        return None
    by = "Dice" if "dice" in results.cases else "the probability of the true class"
    legend = f" {_LEGEND}" if results.outlines else " Light blue: the true outline, where there is one."
    return Section(
        "gallery", "Best, typical and worst cases", joined([element("p", f"Chosen by {by}, not by hand.{legend}"), *parts])
    )


def failures(results: Results) -> Section | None:
    """Return the cases in which the model failed, each kind with its number, the worst ones listed and shown."""
    if results.cases is None:
        return None
    found, chosen = find_failures(results.cases), choose_failures(results.cases)
    if not found:
        return None
    parts: list[object] = []
    for kind, rows in found.items():
        whole = _out_of(results.cases, kind)
        parts += [
            element("h3", f"{KINDS[kind]} ({share(len(rows), whole)})"),
            element("div", *_pictures(results, kind, chosen[kind]), class_="pictures"),
            table(
                ["case", "group", "reason"],
                [[row["case_id"], row["group"], _reason(kind, row)] for _, row in rows[:_LISTED].iterrows()],
                text=(1, 2),
            ),
        ]
        if len(rows) > _LISTED:
            parts.append(element("p", f"... and {number(len(rows) - _LISTED)} more, see cases.csv.", class_="more"))
    return Section("failures", "Where it failed", joined(parts))


def _out_of(cases: pd.DataFrame, kind: str) -> int:
    lesion = int((cases["lesion_area_px"] > 0).sum())
    return {MISSED: lesion, FALSE_POSITIVE: len(cases) - lesion}.get(kind, len(cases))


def _reason(kind: str, row: pd.Series) -> str:
    if kind == WRONG:
        return f"{row['label']}, called {row['predicted_label']} with probability {number(float(row['sureness']))}"
    highest = f"; highest probability {number(float(row['max_probability']))}" if "max_probability" in row else ""
    if kind == MISSED:
        outside = (
            f", {number(int(row['predicted_area_px']))} px outlined elsewhere" if row["predicted_area_px"] else ", nothing outlined"
        )
        return f"lesion of {number(int(row['lesion_area_px']))} px missed{outside}{highest}"
    part = row["predicted_area_px"] / (row["height"] * row["width"])
    return f"{number(int(row['predicted_area_px']))} px ({100 * part:.1f} % of the image) outlined{highest}"


def _pictures(results: Results, kind: str, names: list[str]) -> list[Html]:
    """Return the pictures of a kind that lie in the folder of overlays as `<kind>_<number>.png`."""
    if results.cases is None:
        return []
    shown = []
    for place, name in enumerate(names, start=1):
        content = small_jpeg(results.overlays / f"{kind}_{place}.png")
        if content is None:
            continue
        row = results.cases.loc[results.cases["case_id"] == name].iloc[0]
        words = describe(row)
        caption = joined([element("b", name), element("br"), words])
        shown.append(figure(picture(content, "jpeg", f"Case {name}: {words}"), caption, class_="case"))
    return shown


def describe(row: Any) -> str:
    """Return what a case was and what was said of it, in a line."""
    told = [str(row["label"])] if row["label"] else []
    if pd.notna(row.get("dice", np.nan)):
        told.append(f"Dice {number(float(row['dice']))}")
        unit = next((unit for unit in ("mm", "px") if pd.notna(row.get(f"hd95_{unit}", np.nan))), None)
        if unit is not None:
            told.append(f"HD95 {number(float(row[f'hd95_{unit}']), f'hd95_{unit}')} {unit}")
    elif "predicted_area_px" in row:
        told.append(f"no lesion, {number(int(row['predicted_area_px']))} px outlined")
    if "predicted_label" in row:
        told.append(f"called {row['predicted_label']} ({_given(row, str(row['predicted_label']))})")
        if row["label"] and row["label"] != row["predicted_label"] and f"probability_{row['label']}" in row:
            told.append(f"{row['label']} given {_given(row, str(row['label']))}")
    return ", ".join(told)


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
