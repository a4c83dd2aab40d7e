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
COLUMNS = (
    "variant",
    "figure",
    "subset",
    "n",
    "value",
    "low",
    "high",
    "difference",
    "difference_low",
    "difference_high",
)
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
_CHANCE = 0.5

Row = Mapping[str, Any]
# Variant, figure, subset -> row.
Rows = Mapping[tuple[str, str, str], Row]


@dataclass(frozen=True)
class VariantCases:
    """How a run did on the images of one variant.

    Args:
        name: a key of TITLES.
        cases: one row a case, rows of all variants in the same order.
    """

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
    for subset, counted in _subsets(marked).items():
        base = variants[0].cases[counted].reset_index(drop=True)
        groups, base_figures = base["group"].to_numpy(str), chosen_figures(base, class_names, positive)
        for variant in variants:
            cases = variant.cases[counted].reset_index(drop=True)
            figures = chosen_figures(cases, class_names, positive)
            values, ends = plain(figures, len(cases)), intervals(figures, groups, seed=seed)
            gaps = {} if variant is variants[0] else difference_intervals(base_figures, figures, groups, seed=seed)
            first = plain(base_figures, len(base))
            for name, value in values.items():
                start, gap = first[name], gaps.get(name)
                known = gap is not None and value is not None and start is not None
                rows.append(
                    {
                        "variant": variant.name,
                        "figure": name,
                        "subset": subset,
                        "n": _counted(cases, name),
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
        if PAINTED_OVER in present:
            sentences.append(_on_marks(rows, figure))
        if MARKS_ELSEWHERE in present:
            sentences.append(_elsewhere(rows, figure))
        if LESION_HIDDEN in present:
            sentences.append(_hidden_dice(rows) if figure == DICE else _hidden_auroc(rows))
    if PAINTED_OVER not in present:
        sentences.append("No marks were found on the images: there is nothing to paint over, and no figure can depend on them.")
    if LESION_HIDDEN not in present:
        sentences.append("No image has a lesion mask: no lesion could be hidden.")
    return sentences


def _on_marks(rows: Rows, figure: str) -> str:
    subset = MARKED if (PAINTED_OVER, figure, MARKED) in rows else ALL
    row = rows[PAINTED_OVER, figure, subset]
    sentence = f"{_short(figure)} on the {row['n']} images with marks: {_change(rows, PAINTED_OVER, figure, subset)}"
    return f"{sentence} with the marks painted over. " + _verdict(
        row,
        worse="That much depends on the marks, or on what was painted over with them.",
        better="It is better without them.",
        same="A dependence on the marks is not shown",
    )


def _elsewhere(rows: Rows, figure: str) -> str:
    row = rows[MARKS_ELSEWHERE, figure, ALL]
    sentence = f"{_short(figure)} on all {row['n']} images: {_change(rows, MARKS_ELSEWHERE, figure, ALL)}"
    return f"{sentence} with marks drawn where there is no lesion. " + _verdict(
        row,
        worse="Marks mislead the model by that much.",
        better="It is better with them, which uninformative marks cannot explain.",
        same="That they mislead the model is not shown",
    )


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


def _change(rows: Rows, variant: str, figure: str, subset: str) -> str:
    row, first = rows[variant, figure, subset], rows[AS_THEY_ARE, figure, subset]
    ends = f", 95 % interval {row['difference_low']:+.3f} to {row['difference_high']:+.3f}"
    ends = "" if pd.isna(row["difference_low"]) else ends
    return f"{first['value']:.3f} as they are, {row['value']:.3f} ({row['difference']:+.3f}{ends})"


def _verdict(row: Row, *, worse: str, better: str, same: str) -> str:
    low, high = row["difference_low"], row["difference_high"]
    if np.isnan(row["difference"]):
        return "It is undefined on these images, for lack of a class."
    if np.isnan(low):
        unsure = "It has no interval (too few groups, or the same change in all of them), so chance cannot be ruled out."
        return "Nothing changed." if row["difference"] == 0 else unsure
    if high < 0:
        return worse
    return better if low > 0 else f"{same}; a loss of up to {max(0.0, -low):.3f} cannot be ruled out."


def _number(row: Row) -> str:
    ends: str = "" if pd.isna(row["low"]) else f" ({row['low']:.3f} to {row['high']:.3f})"
    return "undefined" if pd.isna(row["value"]) else f"{row['value']:.3f}{ends}"


def _percent(value: float) -> str:
    return f"{value:.0%}".replace("%", " %")


def _short(figure: str) -> str:
    return {DICE: "Dice", AUROC: "AUROC"}[figure]


def _subsets(marked: np.ndarray) -> dict[str, np.ndarray]:
    whole = {ALL: np.ones(len(marked), bool)}
    return whole | {MARKED: marked, UNMARKED: ~marked} if marked.any() and not marked.all() else whole


def _counted(cases: pd.DataFrame, figure: str) -> int:
    """Return the number of images that a figure is calculated on."""
    lesion = cases["lesion_area_px"] > 0
    if figure.startswith("lesion_images") or figure == "detection.sensitivity":
        return int(lesion.sum())
    return int((~lesion).sum()) if figure.startswith("lesion_free_images") else len(cases)
