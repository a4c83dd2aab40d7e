"""How long the intervals take: 2,000 resamples of every headline figure, over groups."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from bcd.evaluation.intervals import RESAMPLES, intervals
from bcd.evaluation.summary import headline_figures

CLASSES = ("benign", "malignant")


def bench_intervals(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Print and return how long the intervals of made-up cases take, and of how many figures they are.

    Args:
        settings: `cases`, how many, and `patients`, whose images they are.
    """
    cases = made_up_cases(settings["cases"], settings["patients"])
    figures = headline_figures(cases, CLASSES)
    started = time.perf_counter()
    found = intervals(figures, cases["group"].astype(str).to_numpy())
    seconds = time.perf_counter() - started
    Console().print(
        f"Intervals: {RESAMPLES} resamples of {len(found)} figures of {len(cases)} cases in {cases['group'].nunique()} groups took "
        f"{seconds:.1f} s."
    )
    return {"cases": len(cases), "figures": len(found), "seconds": seconds}


def made_up_cases(n_cases: int, n_patients: int) -> pd.DataFrame:
    """Return rows as in cases.csv, of a task that outlines and classifies, drawn at random."""
    rng = np.random.default_rng(0)
    malignant = rng.random(n_cases) < 0.32
    probability = 1 / (1 + np.exp(-rng.normal(2.0 * malignant - 1.0, 1.0)))
    area = rng.integers(500, 20_000, n_cases)
    dice = rng.beta(8, 2, n_cases)
    cases = pd.DataFrame(
        {
            "case_id": [f"case {number}" for number in range(n_cases)],
            "group": rng.integers(0, n_patients, n_cases).astype(str),
            "label": np.where(malignant, "malignant", "benign"),
            "height": 400,
            "width": 400,
            "lesion_area_px": area,
            "probability_benign": 1 - probability,
            "probability_malignant": probability,
            "predicted_label": np.where(probability > 0.5, "malignant", "benign"),
            "predicted_area_px": area,
            "max_probability": 1.0,
            "dice": dice,
            "iou": dice / (2 - dice),
        }
    )
    for name in ("precision", "recall", "hd_px", "hd95_px", "assd_px", "surface_dice_2px"):
        cases[name] = rng.random(n_cases)
    return cases
