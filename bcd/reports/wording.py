"""Names, digits and definitions of the figures, the same in the report and in the model card."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

DASH = "\N{EN DASH}"

LABELS = {
    "n": "images",
    "n_cases": "images",
    "n_groups": "groups",
    "n_images": "images",
    "n_lesions": "lesions",
    "n_detections": "predicted components",
    "n_missed": "missed lesions",
    "n_not_outlined": "empty predicted masks",
    "n_with_spacing": "images with known spacing",
    "dice": "Dice",
    "dice_median": "Dice, median",
    "dice_pooled": "Dice, pooled pixels",
    "iou": "IoU",
    "hd_px": "HD (px)",
    "hd95_px": "HD95 (px)",
    "assd_px": "ASSD (px)",
    "surface_dice_2px": "surface Dice at 2 px",
    "hd_mm": "HD (mm)",
    "hd95_mm": "HD95 (mm)",
    "assd_mm": "ASSD (mm)",
    "surface_dice_1mm": "surface Dice at 1 mm",
    "area_error_px": "area error (px)",
    "area_error_mm2": "area error (mm\N{SUPERSCRIPT TWO})",
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "f1": "F1",
    "mcc": "MCC",
    "kappa": "kappa",
    "brier": "Brier score",
    "ece": "ECE",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "ppv": "PPV",
    "npv": "NPV",
    "false_positive_rate": "false-positive rate",
    "false_positive_area_px": "false-positive area (px)",
    "false_positive_area_share": "false-positive area, share of the image",
    "false_positives_per_image": "false positives per image",
    "froc_average": "FROC average sensitivity",
    "mean_set_size": "mean set size",
}

DEFINITIONS = {
    "dice": "Dice: twice the shared area over the sum of both areas, per lesion image, then the mean.",
    "dice_pooled": "Dice, pooled pixels: one Dice over the pixels of all lesion images together; large lesions weigh more.",
    "iou": "IoU: shared area over joint area, per lesion image, then the mean.",
    "precision": "Precision and recall (segmentation): the share of the predicted pixels that are lesion, and of the lesion's "
    "pixels that are predicted, per image, then the mean.",
    "hd95_px": "HD95: the larger of the two directed 95th percentiles of the distances between the contours, a contour being the "
    "centres of the mask's boundary pixels. HD is the maximum, ASSD the mean over both contours. Where the predicted mask of a "
    "lesion image is empty, distances are the diagonal of the image.",
    "surface_dice_2px": "Surface Dice: the share of both contours that lies within the tolerance of the other.",
    "auroc": "AUROC: of one class against the rest; without a class, the mean over the classes.",
    "auprc": "AUPRC: average precision of one class against the rest; without a class, the mean over the classes.",
    "balanced_accuracy": "Balanced accuracy: mean sensitivity over the classes.",
    "mcc": "MCC: Matthews correlation coefficient.",
    "brier": "Brier score: mean squared distance between probabilities and truth; 0 is best.",
    "ece": "ECE: expected calibration error; 0 is best. Its binning is named with the calibration.",
}

_PLACES = {"area_share": 4, "_px": 1, "_mm": 2, "_mm2": 1, "mean_set_size": 2, "false_positives_per_image": 2, "n_images": 0}
_COUNTS = {"n", "tp", "fp", "fn", "tn"}


def label_of(name: str) -> str:
    """Return the printed name of a figure."""
    return LABELS.get(name, name.replace("_", " "))


def places_of(name: str) -> int:
    """Return the decimals of a figure: none for counts and areas in pixels, 1-2 for lengths, else 3."""
    if name.endswith(("area_px", "area_error_px")):
        return 0
    return next((places for ending, places in _PLACES.items() if name.endswith(ending) and "surface" not in name), 3)


def is_number(value: object) -> TypeGuard[int | float]:
    """Return whether a value of metrics.json is a number; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def number(value: Any, name: str = "") -> str:
    """Return a figure as it is printed, a dash for None. An int is a count; the figure's name decides the decimals."""
    if value is None:
        return DASH
    if not is_number(value):
        return str(value)
    if isinstance(value, int) or name in _COUNTS or name.startswith("n_"):
        return f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}") if abs(value) >= 10_000 else f"{value:.0f}"
    return f"{value:.{places_of(name)}f}".replace("-", "\N{MINUS SIGN}")


def with_interval(value: Any, interval: Sequence[float | None] | None, name: str = "") -> str:
    """Return `0.887 (0.871-0.901)` with an en dash between the ends, and without the brackets where there is no interval."""
    text = number(value, name)
    if value is None or not interval or any(end is None for end in interval):
        return text
    low, high = (number(float(end), name) for end in interval if end is not None)
    between = " to " if "\N{MINUS SIGN}" in low + high else DASH
    return f"{text} ({low}{between}{high})"


def point_name(name: str) -> str:
    """Return the printed name of an operating point."""
    known = {"youden": "Youden's index", "0.5": "no choice (0.5)"}
    return known.get(name, name.replace(">=", " \N{GREATER-THAN OR EQUAL TO} "))


def short(text: str, most: int = 28) -> str:
    """Return a name of at most so many letters, for legends."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def share(part: Any, whole: Any) -> str:
    """Return `12 of 40`; empty where a count is missing."""
    if part is None or whole is None:
        return ""
    return f"{number(int(part))} of {number(int(whole))}"


def figures_in(block: Mapping[str, Any]) -> list[str]:
    """Return the names of a block's numbers, those with a printed name first and in its order."""
    names = [name for name, value in block.items() if is_number(value)]
    order = list(LABELS)
    return sorted(names, key=lambda name: order.index(name) if name in order else len(order))


def definitions_for(names: Sequence[str], given: Mapping[str, str | None] | None = None) -> list[str]:
    """Return the definitions of those figures that have one; one that is given goes before the one known here."""
    named = {name: label_of(name) for name in given or {}}
    known = {
        name: f"{named[name][:1].upper()}{named[name][1:]}: {text.rstrip('.')}." for name, text in (given or {}).items() if text
    }
    return [{**DEFINITIONS, **known}[name] for name in {**DEFINITIONS, **known} if name in names]
