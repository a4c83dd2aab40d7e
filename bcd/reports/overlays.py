"""Which test cases are drawn, and their overlays: the best, median and worst ones, and the failures."""

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from bcd.reports.contours import overlay
from bcd.reports.figures import panel, save

EACH = 4
MISSED, FALSE_POSITIVE, WRONG = "missed", "false_positive", "wrong"


def choose_extremes(cases: pd.DataFrame) -> dict[str, list[str]]:
    """Return best, median and worst -> up to four case ids each.

    Lesion images are ranked by Dice; a classification by the probability of the true class. A case is in one list only.
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
    """Return kind -> case ids of all the cases that are drawn: the extremes, and the worst of each kind of failure."""
    return choose_extremes(cases) | choose_failures(cases, EACH)


def find_failures(cases: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return kind of failure -> its cases, the worst first; kinds without a case are absent.

    Missed lesions are ordered by the lesion's size, false positives by their area, wrong classes by their probability.
    """
    failed = {}
    if {"dice", "predicted_area_px"} <= set(cases):
        lesion = cases["lesion_area_px"] > 0
        failed[MISSED] = cases[lesion & (cases["dice"] == 0)].sort_values("lesion_area_px", ascending=False, kind="stable")
        drawn = cases[~lesion & (cases["predicted_area_px"] > 0)]
        failed[FALSE_POSITIVE] = drawn.sort_values("predicted_area_px", ascending=False, kind="stable")
    if "predicted_label" in cases:
        wrong = cases[(cases["predicted_label"] != cases["label"]) & cases["label"].astype(bool)]
        failed[WRONG] = wrong.assign(sureness=sureness(wrong)).sort_values("sureness", ascending=False, kind="stable")
    return {kind: rows for kind, rows in failed.items() if len(rows)}


def choose_failures(cases: pd.DataFrame, each: int = 4) -> dict[str, list[str]]:
    """Return kind of failure -> the ids of its worst cases, up to `each`, for pictures of them."""
    return {kind: [str(name) for name in rows["case_id"][:each]] for kind, rows in find_failures(cases).items()}


def sureness(cases: pd.DataFrame) -> list[float]:
    """Return the probability of the predicted class, for each row."""
    return [float(row[f"probability_{row['predicted_label']}"]) for _, row in cases.iterrows()]


def draw_extremes(
    cases: pd.DataFrame, pictures: Mapping[str, tuple[np.ndarray, np.ndarray]], predicted: Mapping[str, np.ndarray], folder: Path
) -> None:
    """Write `<folder>/<kind>_<n>.png` at native size, and `<folder>/panel.png` with the best, median and worst ones.

    Kinds are best, median and worst, and those of failures: missed, false_positive, wrong.

    Args:
        cases: rows of `score_case`.
        pictures: case id -> image uint8 (H, W) and true mask (H, W), for the cases of `choose_drawn`; those of failures may be
            absent, and are then not drawn.
        predicted: case id -> predicted mask (H, W), where the task segments.
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
    dice = [f"Dice {row['dice']:.3f}"] if "dice" in row else []
    known = f"probability_{row['label']}" in row
    return "; ".join([*dice, *([f"{row['label']}, probability {row['probability_' + row['label']]:.3f}"] if known else [])])
