"""What the page says of a result, in words that a reader without the manual understands."""

import re

import numpy as np

from bcd.evaluation.decisions import CALIBRATED
from bcd.metrics.calibration import scale
from bcd.predictor.bundle import Bundle
from bcd.predictor.measurements import Lesion
from bcd.predictor.result import Result
from bcd.reports.wording import point_name

NOTICE = "Research use only. This is not a medical device: no finding here may decide how anybody is treated."
_SENSITIVITY = re.compile(r"sensitivity>=(0\.\d+)")


def shown_threshold(threshold: float, bundle: Bundle) -> float | None:
    """Return a threshold among calibrated probabilities, which are what is shown; None where each image has another one.

    One network's temperature moves the probabilities of two classes, and a threshold between them, alike. Of three classes it
    moves each by what the two others are.
    """
    classifiers = [network for network in bundle.networks if network.role != "segmentation"]
    if bundle.decisions.on == CALIBRATED or all(network.temperature == 1 for network in classifiers):
        return threshold
    if len(classifiers) != 1 or len(bundle.classes) != 2:
        return None
    return float(scale(np.array([[1 - threshold, threshold]]), classifiers[0].temperature)[0, 1])


def point_meaning(point: str, bundle: Bundle) -> str:
    """Return what an operating point is for, in a sentence with its threshold."""
    threshold = bundle.decisions.usable[point]
    positive, shown = bundle.positive, shown_threshold(threshold, bundle)
    counted = f"{shown:.3f} on" if shown is not None else f"{threshold:.3f} on, before calibration"
    said = f"An image counts as {positive} from a probability of {counted}"
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
    """Return what the operating point makes of the image, in a sentence; empty where nothing is classified."""
    if result.label is None:
        return ""
    if result.point is None or result.threshold is None or bundle.positive is None:
        return f"Most probable: {result.label}."
    counts, side = ("Counts", "at or above") if result.is_positive else ("Does not count", "below")
    shown = shown_threshold(result.threshold, bundle)
    if shown is None:
        judged, limit = "the probability before calibration", result.threshold
    else:
        judged, limit = f"its probability, {result.probabilities[bundle.positive]:.3f},", shown
    return f"{counts} as {bundle.positive}: {judged} is {side} the threshold of {limit:.3f} ({point_name(result.point)})."


def outline_in_words(result: Result) -> str:
    """Return what is outlined, in a sentence; empty where nothing is outlined."""
    if result.mask is None:
        return ""
    if not result.lesions:
        return "Nothing is outlined."
    largest = result.lesions[0]
    count = "One lesion is outlined," if len(result.lesions) == 1 else f"{len(result.lesions)} lesions are outlined, the largest"
    return f"{count} {size_of(largest)}."


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
