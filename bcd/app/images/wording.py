"""Results in sentences and rows, for the page and what is downloaded from it."""

import re

import numpy as np

from bcd.evaluation.decisions import CALIBRATED
from bcd.metrics.calibration import scale
from bcd.predictor.bundle import Bundle
from bcd.predictor.measurements import Lesion
from bcd.predictor.result import Result
from bcd.reports.wording import point_name

NOTICE = "Research use only. This is not a medical device: do not use its results for decisions about a patient."
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
    from_where = f"{shown:.3f} on" if shown is not None else f"{threshold:.3f} on, before calibration"
    rule = f"An image is classified as {positive} from a probability of {from_where}"
    wanted = _SENSITIVITY.fullmatch(point)
    if wanted:
        share = f"{float(wanted[1]):.0%}".replace("%", " %")
        return f"{rule}: chosen so that sensitivity on the validation images is at least {share}."
    if point == "youden":
        return f"{rule}: where the sum of sensitivity and specificity on the validation images is highest."
    if point == "0.5":
        return f"{rule}: the middle, not chosen on any images."
    return f"{rule}: {point_name(point)}."


def verdict(result: Result, bundle: Bundle) -> str:
    """Return the classification at the operating point, in a sentence; empty where nothing is classified."""
    if result.label is None:
        return ""
    if result.point is None or result.threshold is None or bundle.positive is None:
        return f"Most probable: {result.label}."
    name, side = (bundle.positive, "at or above") if result.is_positive else (f"not {bundle.positive}", "below")
    shown = shown_threshold(result.threshold, bundle)
    probability = "the probability of malignancy" if bundle.positive == "malignant" else f"the probability of {bundle.positive}"
    if shown is None:
        probability, limit = f"{probability} before calibration", result.threshold
    else:
        probability, limit = f"{probability}, {result.probabilities[bundle.positive]:.3f},", shown
    return f"Classified as {name}: {probability} is {side} the threshold of {limit:.3f} ({point_name(result.point)})."


def segmentation_in_words(result: Result) -> str:
    """Return what is segmented, in a sentence; empty for a model that does not segment."""
    if result.mask is None:
        return ""
    if not result.lesions:
        return "No lesion is segmented."
    largest = result.lesions[0]
    size = f"{largest.long_px:.0f} x {largest.short_px:.0f} px"
    if largest.long_mm is not None and largest.short_mm is not None:
        size = f"{largest.long_mm:.1f} x {largest.short_mm:.1f} mm"
    n = len(result.lesions)
    return f"One lesion is segmented, {size}." if n == 1 else f"{n} lesions are segmented, the largest {size}."


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
