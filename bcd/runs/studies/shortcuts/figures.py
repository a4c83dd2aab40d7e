"""Shortcuts of a run: its figures on altered images beside those on the original images, and the conclusions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bcd.evaluation.intervals import intervals
from bcd.evaluation.paired import difference_intervals
from bcd.evaluation.summary import headline_figures
from bcd.evaluation.weighted import Figure, mean, plain, with_parts

AS_THEY_ARE = "as_they_are"
PAINTED_OVER = "marks_painted_over"
MARKS_ELSEWHERE = "marks_drawn_elsewhere"
LESION_HIDDEN = "lesion_hidden"
BOTH_HIDDEN = "lesion_hidden_marks_painted_over"
TITLES = {
    AS_THEY_ARE: "as they are",
    PAINTED_OVER: "marks painted over",
    MARKS_ELSEWHERE: "marks drawn elsewhere",
    LESION_HIDDEN: "lesion hidden",
    BOTH_HIDDEN: "lesion hidden, marks painted over",
}
COLUMNS = ("variant", "figure", "subset", "n", "value", "low", "high", "difference", "difference_low", "difference_high")
ALL, MARKED, UNMARKED = "all", "marked", "unmarked"
DICE, AUROC, OUTLINED = "lesion_images.dice", "auroc", "lesion_images.outlined_rate"
FIGURES = {
    DICE: "Dice of the lesion",
    OUTLINED: "lesion images with a predicted lesion",
    "lesion_images.outlined_share": "share of a lesion image that is predicted lesion",
    "detection.sensitivity": "lesions found",
    "lesion_free_images.false_positive_rate": "lesion-free images with a predicted lesion",
    AUROC: "AUROC",
    "auprc": "AUPRC",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
}
_SHORT = {DICE: "Dice", AUROC: "AUROC"}
_CHANCE = 0.5

Row = Mapping[str, Any]
# Variant, figure, subset -> row.
Rows = Mapping[tuple[str, str, str], Row]


@dataclass(frozen=True)
class VariantCases:
    """How a run did on the images of one variant."""

    name: str
    cases: pd.DataFrame


def shortcut_table(
    variants: Sequence[VariantCases], marked: np.ndarray, class_names: Sequence[str], positive: str | None, seed: int = 0
) -> pd.DataFrame:
    """Return one row a variant, subset and figure, COLUMNS; NaN where a value, an interval or a difference is undefined.

    Intervals and paired differences are by bootstrap over groups, see `bcd.evaluation.intervals`; the difference is the variant's
    figure less that of the images as they are.

    Args:
        variants: the first is of the images as they are.
        marked: whether each image has marks burnt in, bool (N,).
        class_names: in the order of the probabilities.
        positive: the class that decisions are about; None where nothing is classified.
        seed: of the bootstrap.
    """
    rows: list[dict[str, object]] = []
    subsets = {ALL: np.ones(len(marked), bool)}
    if marked.any() and not marked.all():
        subsets |= {MARKED: marked, UNMARKED: ~marked}
    for subset, counted in subsets.items():
        base = variants[0].cases[counted].reset_index(drop=True)
        groups, base_figures = base["group"].to_numpy(str), chosen_figures(base, class_names, positive)
        for variant in variants:
            cases = variant.cases[counted].reset_index(drop=True)
            figures = chosen_figures(cases, class_names, positive)
            values, ends = plain(figures, len(cases)), intervals(figures, groups, seed=seed)
            gaps = {} if variant is variants[0] else difference_intervals(base_figures, figures, groups, seed=seed)
            first, lesions = plain(base_figures, len(base)), int((cases["lesion_area_px"] > 0).sum())
            for name, value in values.items():
                start, gap = first[name], gaps.get(name)
                counts_lesions = name.startswith("lesion_images") or name == "detection.sensitivity"
                others = len(cases) - lesions if name.startswith("lesion_free_images") else len(cases)
                known = gap is not None and value is not None and start is not None
                rows.append(
                    {
                        "variant": variant.name,
                        "figure": name,
                        "subset": subset,
                        "n": lesions if counts_lesions else others,
                        "value": value,
                        "low": ends[name].low,
                        "high": ends[name].high,
                        "difference": value - start if known and value is not None and start is not None else None,
                        "difference_low": gap.low if gap else None,
                        "difference_high": gap.high if gap else None,
                    }
                )
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.astype(dict.fromkeys(COLUMNS[4:], float))


def chosen_figures(cases: pd.DataFrame, class_names: Sequence[str], positive: str | None) -> dict[str, Figure]:
    """Return path -> figure for those of FIGURES that the table of cases has."""
    figures = headline_figures(cases, class_names, positive)
    if "dice" in cases:
        area, pixels = cases["predicted_area_px"].to_numpy(float), (cases["height"] * cases["width"]).to_numpy(float)
        lesion = (cases["lesion_area_px"] > 0).to_numpy()
        figures[OUTLINED] = mean(area > 0, lesion, is_rate=True)
        figures["lesion_images.outlined_share"] = mean(area / pixels, lesion)
    return with_parts(figures, [name for name in FIGURES if name in figures])


def records(table: pd.DataFrame) -> list[Row]:
    """Return the rows of a table as dicts."""
    return [{str(key): cell for key, cell in row.items()} for row in table.to_dict("records")]


def conclusions(table: pd.DataFrame) -> list[str]:
    """Return a sentence or two for each variant and main figure (Dice, AUROC)."""
    rows: Rows = {(row["variant"], row["figure"], row["subset"]): row for row in records(table)}
    present = set(table["variant"])
    sentences = []
    for figure in (DICE, AUROC):
        if (AS_THEY_ARE, figure, ALL) not in rows:
            continue
        sentences += [_on_marks(rows, figure, variant) for variant in (PAINTED_OVER, MARKS_ELSEWHERE) if variant in present]
        if LESION_HIDDEN in present:
            sentences.append(_hidden_dice(rows) if figure == DICE else _hidden_auroc(rows))
    if PAINTED_OVER not in present:
        sentences.append("No marks were found on the images: there is nothing to paint over, and no figure can depend on them.")
    if LESION_HIDDEN not in present:
        sentences.append("No image has a lesion mask: no lesion could be hidden.")
    return sentences


# Variant -> what was done, and what a worse, a better and an unchanged figure mean.
_OF_MARKS = {
    PAINTED_OVER: (
        "with the marks painted over",
        "That much depends on the marks, or on what was painted over with them.",
        "It is better without them.",
        "A dependence on the marks is not shown",
    ),
    MARKS_ELSEWHERE: (
        "with marks drawn where there is no lesion",
        "Marks mislead the model by that much.",
        "It is better with them, which uninformative marks cannot explain.",
        "That they mislead the model is not shown",
    ),
}


def _on_marks(rows: Rows, figure: str, variant: str) -> str:
    how, worse, better, same = _OF_MARKS[variant]
    subset = MARKED if variant == PAINTED_OVER and (variant, figure, MARKED) in rows else ALL
    row, first = rows[variant, figure, subset], rows[AS_THEY_ARE, figure, subset]
    images = f"all {row['n']} images" if variant == MARKS_ELSEWHERE else f"the {row['n']} images with marks"
    low, high = row["difference_low"], row["difference_high"]
    ends: str = "" if pd.isna(low) else f", 95 % interval {low:+.3f} to {high:+.3f}"
    sentence = f"{_SHORT[figure]} on {images}: {first['value']:.3f} as they are, "
    sentence += f"{row['value']:.3f} ({row['difference']:+.3f}{ends}) {how}. "
    if np.isnan(row["difference"]):
        return f"{sentence}It is undefined on these images, for lack of a class."
    if np.isnan(low):
        unsure = "It has no interval (too few groups, or the same change in all of them), so chance cannot be ruled out."
        return sentence + ("Nothing changed." if row["difference"] == 0 else unsure)
    if high < 0:
        return sentence + worse
    return sentence + (better if low > 0 else f"{same}; a loss of up to {max(0.0, -low):.3f} cannot be ruled out.")


def _hidden_dice(rows: Rows) -> str:
    first, then = (rows[name, OUTLINED, ALL]["value"] for name in (AS_THEY_ARE, LESION_HIDDEN))
    sentence = (
        f"With the lesion hidden, {_percent(then)} of the lesion images have a predicted lesion ({_percent(first)} as they are), "
    )
    sentence += f"with a Dice of {_number(rows[LESION_HIDDEN, DICE, ALL])} with the hidden lesion"
    if (BOTH_HIDDEN, DICE, ALL) in rows:
        sentence += f", and of {_number(rows[BOTH_HIDDEN, DICE, ALL])} where the marks are painted over too"
    return f"{sentence}. What is left comes from marks, shadows, or the usual place of lesions, not from the lesion itself."


def _hidden_auroc(rows: Rows) -> str:
    first, row = rows[AS_THEY_ARE, AUROC, ALL], rows[LESION_HIDDEN, AUROC, ALL]
    sentence = f"AUROC {_number(first)} as they are, {_number(row)} with the lesion hidden"
    if (BOTH_HIDDEN, AUROC, ALL) in rows:
        sentence += f", {_number(rows[BOTH_HIDDEN, AUROC, ALL])} with the marks painted over too"
    value, low, start = row["value"], row["low"], first["value"]
    if np.isnan(value) or np.isnan(start):
        return f"{sentence}; it is undefined, for lack of a class."
    if np.isnan(low) and value < 1:  # at 1 no resample differs, and there is no interval
        return f"{sentence}; there are too few groups to say whether that is more than chance (0.5)."
    if low <= _CHANCE:
        return f"{sentence}: without the lesion, no more than chance (0.5) is shown."
    if start <= _CHANCE:
        return f"{sentence}."
    share = (value - _CHANCE) / (start - _CHANCE)
    return f"{sentence}: {_percent(share)} of the part above chance (0.5) does not need the lesion."


def _number(row: Row) -> str:
    ends: str = "" if pd.isna(row["low"]) else f" ({row['low']:.3f} to {row['high']:.3f})"
    return "undefined" if pd.isna(row["value"]) else f"{row['value']:.3f}{ends}"


def _percent(value: float) -> str:
    return f"{value:.0%}".replace("%", " %")
