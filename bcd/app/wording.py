"""What the page says of a result, in words that a reader without the manual understands."""

import re

from bcd.evaluation.wording import point_name
from bcd.predictor.bundle import Bundle
from bcd.predictor.measurements import Lesion
from bcd.predictor.result import Result

NOTICE = "Research use only. This is not a medical device: no finding here may decide how anybody is treated."
_SENSITIVITY = re.compile(r"sensitivity>=(0\.\d+)")


def point_meaning(point: str, bundle: Bundle) -> str:
    """Return what an operating point is for, in a sentence with its threshold."""
    threshold = bundle.decisions.usable[point]
    positive = bundle.positive
    said = f"An image counts as {positive} from a probability of {threshold:.3f} on"
    wanted = _SENSITIVITY.fullmatch(point)
    if wanted:
        share = f"{float(wanted[1]):.0%}".replace("%", " %")
        return f"{said}: chosen so that on validation images at least {share} of the {positive} ones were found."
    if point == "youden":
        return f"{said}: where, on validation images, sensitivity and specificity together were highest."
    if point == "0.5":
        return f"{said}: nothing was chosen, it is the middle."
    return f"{said}: {point_name(point)}."


def verdict(result: Result, bundle: Bundle) -> str:
    """Return the class, and what the operating point makes of it, in a sentence; empty where nothing is classified."""
    if result.label is None:
        return ""
    if result.point is None or result.threshold is None:
        return f"Most probable: {result.label}."
    side = "at or above" if result.is_positive else "below"
    name = point_name(result.point)
    called = bundle.positive if result.is_positive else f"not {bundle.positive}"
    return f"{called.capitalize() if called else ''}: {side} the threshold of {result.threshold:.3f} ({name})."


def outline_in_words(result: Result) -> str:
    """Return what is outlined, in a sentence; empty where nothing is outlined."""
    if result.mask is None:
        return ""
    if not result.lesions:
        return "Nothing is outlined."
    largest = result.lesions[0]
    count = "One lesion is outlined" if len(result.lesions) == 1 else f"{len(result.lesions)} lesions are outlined, the largest"
    return f"{count}, {size_of(largest)}."


def size_of(lesion: Lesion) -> str:
    """Return a lesion's diameters, in mm where they are known."""
    if lesion.long_mm is not None and lesion.short_mm is not None:
        return f"{lesion.long_mm:.1f} x {lesion.short_mm:.1f} mm"
    return f"{lesion.long_px:.0f} x {lesion.short_px:.0f} px"


def lesion_rows(result: Result) -> list[dict[str, object]]:
    """Return a result's lesions as rows of a table; millimetres only where they are known."""
    return [_lesion_row(number, lesion) for number, lesion in enumerate(result.lesions, start=1)]


def _lesion_row(number: int, lesion: Lesion) -> dict[str, object]:
    top, left, height, width = lesion.box
    row: dict[str, object] = {"lesion": number}
    if lesion.long_mm is not None and lesion.short_mm is not None and lesion.area_mm2 is not None:
        row |= {"long (mm)": round(lesion.long_mm, 1), "short (mm)": round(lesion.short_mm, 1)}
        row |= {"area (mm\N{SUPERSCRIPT TWO})": round(lesion.area_mm2, 1)}
    row |= {"long (px)": round(lesion.long_px, 1), "short (px)": round(lesion.short_px, 1), "area (px)": lesion.area_px}
    row |= {"box (px)": f"top {top}, left {left}, {height} x {width}"}
    if lesion.probability is not None:
        row |= {"mean probability": round(lesion.probability, 3)}
    return row
