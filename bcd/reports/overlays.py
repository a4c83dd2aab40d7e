"""Overlays of the best, median and worst test cases."""

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from bcd.evaluation.failures import choose_failures
from bcd.reports.figures import overlay, panel, save

EACH = 4


def choose_extremes(cases: pd.DataFrame) -> dict[str, list[str]]:
    """Return best, median and worst -> up to four case ids each.

    Lesion images go by Dice; a classification goes by the probability of the true class. A case stands in one list only.

    Args:
        cases: rows of `score_case`.
    """
    quality = _quality(cases).dropna()
    ordered = quality.sort_values(kind="stable").index.tolist()
    each = min(EACH, len(ordered) // 3) or min(1, len(ordered))
    worst, best = ordered[:each], ordered[len(ordered) - each :][::-1]
    rest = ordered[each : len(ordered) - each]
    start = max(0, (len(rest) - each) // 2)
    names = {"best": best, "median": rest[start : start + each], "worst": worst if len(ordered) > each else []}
    return {kind: [str(cases.loc[row, "case_id"]) for row in rows] for kind, rows in names.items()}


def choose_drawn(cases: pd.DataFrame) -> dict[str, list[str]]:
    """Return kind -> case ids of all the cases that are drawn: the extremes, and the worst of each kind of failure.

    Args:
        cases: rows of `score_case`.
    """
    return choose_extremes(cases) | choose_failures(cases, EACH)


def draw_extremes(
    cases: pd.DataFrame, pictures: Mapping[str, tuple[np.ndarray, np.ndarray]], predicted: Mapping[str, np.ndarray], folder: Path
) -> None:
    """Write `<folder>/<kind>_<n>.png` at native size, and `<folder>/panel.png` with the best, median and worst ones.

    Kinds are best, median and worst, and those of failures: missed, false_positive, wrong.

    Args:
        cases: rows of `score_case`.
        pictures: case id -> image uint8 (H, W) and true mask (H, W), for the cases of `choose_drawn`; those of failures may be
            absent, and are then not drawn.
        predicted: case id -> predicted mask (H, W), where the task outlines.
        folder: made if absent; earlier overlays in it are removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.png"):
        old.unlink()
    by_id = {str(row["case_id"]): row for _, row in cases.iterrows()}
    drawn, titles = [], []
    extremes = choose_extremes(cases)
    for kind, names in choose_drawn(cases).items():
        for number, name in enumerate(names, start=1):
            if kind not in extremes and name not in pictures:
                continue
            image, mask = pictures[name]
            picture = overlay(image, mask if mask.any() else None, predicted.get(name))
            cv2.imwrite(str(folder / f"{kind}_{number}.png"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
            if kind in extremes:
                drawn.append(picture)
                titles.append(f"{kind}: {name}\n{_caption(by_id[name])}")
    if drawn:
        save(panel(drawn, titles, "blue: truth, orange: prediction"), folder / "panel.png")


def _quality(cases: pd.DataFrame) -> pd.Series:
    if "dice" in cases:
        return cases["dice"]
    return cases.apply(lambda row: row[f"probability_{row['label']}"], axis=1)


def _caption(row: pd.Series) -> str:
    outline = [f"Dice {row['dice']:.3f}"] if "dice" in row else []
    known = f"probability_{row['label']}" in row
    return "; ".join([*outline, *([f"{row['label']}, given {row['probability_' + row['label']]:.3f}"] if known else [])])
