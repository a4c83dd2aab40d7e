"""Where a model failed: missed lesions, outlines on images without a lesion, wrong classes that it was sure of."""

import pandas as pd

MISSED, FALSE_POSITIVE, WRONG = "missed", "false_positive", "wrong"
KINDS = {
    MISSED: "Missed lesions: nothing of the lesion was outlined",
    FALSE_POSITIVE: "Outlines on images without a lesion",
    WRONG: "Wrong classes, the surest first",
}


def find_failures(cases: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return kind of failure -> its cases, the worst first; kinds without a case are absent.

    Missed lesions are ordered by the lesion's size, false outlines by their area, wrong classes by the probability that was given
    to the wrong class.

    Args:
        cases: rows of `score_case`.
    """
    found = {}
    if {"dice", "predicted_area_px"} <= set(cases):
        lesion = cases["lesion_area_px"] > 0
        found[MISSED] = cases[lesion & (cases["dice"] == 0)].sort_values("lesion_area_px", ascending=False, kind="stable")
        drawn = cases[~lesion & (cases["predicted_area_px"] > 0)]
        found[FALSE_POSITIVE] = drawn.sort_values("predicted_area_px", ascending=False, kind="stable")
    if "predicted_label" in cases:
        wrong = cases[(cases["predicted_label"] != cases["label"]) & cases["label"].astype(bool)]
        found[WRONG] = wrong.assign(sureness=sureness(wrong)).sort_values("sureness", ascending=False, kind="stable")
    return {kind: rows for kind, rows in found.items() if len(rows)}


def choose_failures(cases: pd.DataFrame, each: int = 4) -> dict[str, list[str]]:
    """Return kind of failure -> the ids of its worst cases, up to `each`, for pictures of them.

    Args:
        cases: rows of `score_case`.
        each: from 1.
    """
    return {kind: [str(name) for name in rows["case_id"][:each]] for kind, rows in find_failures(cases).items()}


def sureness(cases: pd.DataFrame) -> list[float]:
    """Return the probability of the predicted class, for each row."""
    return [float(row[f"probability_{row['predicted_label']}"]) for _, row in cases.iterrows()]
