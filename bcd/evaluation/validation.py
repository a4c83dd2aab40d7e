"""Thresholds, temperature and conformal sets, chosen on validation cases, and applied to test cases.

The validation groups are drawn into two halves: the temperature is fitted on the first, conformal sets are calibrated on the
second, at that temperature. Thresholds use both, and are for the probabilities as the model gives them.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from bcd.evaluation.classification import choose_positive, probabilities_of, truth_of
from bcd.evaluation.conformal import conformal_quantile
from bcd.evaluation.decisions import CALIBRATED, POINTS, SENSITIVITIES, Decisions
from bcd.evaluation.intervals import group_numbers
from bcd.metrics.calibration import fit_temperature, scale


def fit_decisions(validation: pd.DataFrame, class_names: Sequence[str], positive: str | None = None) -> Decisions:
    """Choose thresholds, temperature and conformal quantile on the validation cases of one model, rows as in validation.csv.

    `positive` is as for `choose_positive`.

    Raises:
        ValueError: for labels that are none of the classes.
    """
    name = choose_positive(class_names, positive)
    truth, probabilities = truth_of(validation, class_names), probabilities_of(validation, class_names)
    groups = group_numbers(validation["group"].to_numpy(dtype=str))
    first = halves(groups)
    temperature, note = fit_temperature(probabilities[first], truth[first])
    thresholds, notes = choose_thresholds(truth == list(class_names).index(name), validation[f"probability_{name}"].to_numpy(float))
    quantile = conformal_quantile(scale(probabilities[~first], temperature), truth[~first])
    if quantile is None:
        notes.append(f"{int((~first).sum())} validation cases are too few to calibrate conformal sets: every class is in them")
    source = (
        f"{len(validation)} validation cases of {len(np.unique(groups))} groups; temperature on {int(first.sum())} cases, "
        f"conformal sets on the {int((~first).sum())} of the other groups"
    )
    notes = [note] * bool(note) + notes
    return Decisions(
        positive=name, thresholds=thresholds, temperature=temperature, conformal=quantile, source=source, notes=tuple(notes)
    )


def fit_by_fold(validation: pd.DataFrame, class_names: Sequence[str], positive: str | None = None) -> dict[int, Decisions]:
    """Return the decisions of each model, by `fold`; a table without that column is of one model, under 0."""
    parts = validation.groupby("fold") if "fold" in validation else [(0, validation)]
    return {int(str(fold)): fit_decisions(part, class_names, positive) for fold, part in parts}


def folds_of(cases: pd.DataFrame) -> np.ndarray:
    """Return the fold of each case, int (N,); 0 where the table has none."""
    return cases["fold"].to_numpy(dtype=np.int64) if "fold" in cases else np.zeros(len(cases), dtype=np.int64)


def check_folds(cases: pd.DataFrame, decisions: Mapping[int, Decisions]) -> None:
    """Refuse cases of a fold for which nothing was decided, by a ValueError that names the folds."""
    missing = sorted({int(fold) for fold in folds_of(cases)} - set(decisions))
    if missing:
        raise ValueError(f"Nothing was decided on validation for fold {', '.join(map(str, missing))}; known: {sorted(decisions)}.")


def calibrated(cases: pd.DataFrame, class_names: Sequence[str], decisions: Mapping[int, Decisions]) -> np.ndarray:
    """Return the probabilities (N, C) after temperature scaling, each row by the model of its fold."""
    temperatures = np.array([decisions[int(fold)].temperature for fold in folds_of(cases)])
    return scale(probabilities_of(cases, class_names), temperatures)


def called_positive(cases: pd.DataFrame, point: str, decisions: Mapping[int, Decisions]) -> np.ndarray | None:
    """Return the decisions at an operating point, bool (N,), each row by its fold; None where a fold has no such threshold."""
    folds = folds_of(cases)
    chosen = {int(fold): decisions[int(fold)] for fold in np.unique(folds)}
    limits = {fold: one.thresholds[point] for fold, one in chosen.items()}
    if any(limit is None for limit in limits.values()):
        return None
    positive = next(iter(chosen.values())).positive
    return cases[f"probability_{positive}"].to_numpy(float) >= np.array([limits[int(fold)] for fold in folds], dtype=float)


def halves(groups: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return which cases are in the first half, bool (N,): half of the groups, drawn; of an odd number the first half has more."""
    order = np.random.default_rng(seed).permutation(int(groups.max()) + 1 if len(groups) else 0)
    return np.isin(groups, order[: (len(order) + 1) // 2])


def choose_thresholds(positive: np.ndarray, probability: np.ndarray) -> tuple[dict[str, float | None], list[str]]:
    """Return the threshold of each operating point, and what could not be chosen.

    Youden's is where sensitivity + specificity - 1 is highest, of several the lowest (Cancer 3 (1950) 32); that of a wanted
    sensitivity is the highest that reaches it on validation. Candidates are the probabilities of the positive class, (N,), that
    occur.
    """
    thresholds: dict[str, float | None] = dict.fromkeys(POINTS)
    thresholds["0.5"] = 0.5
    if positive.all() or not positive.any():
        return thresholds, [f"no thresholds: {int(positive.sum())} of {len(positive)} validation cases are positive"]
    candidates = np.unique(probability)
    hits = np.sort(probability[positive])
    alarms = np.sort(probability[~positive])
    sensitivity = 1 - np.searchsorted(hits, candidates, side="left") / len(hits)
    specificity = np.searchsorted(alarms, candidates, side="left") / len(alarms)
    thresholds["youden"] = float(candidates[np.argmax(np.round(sensitivity + specificity, 12))])
    for wanted in SENSITIVITIES:
        # The lowest candidate reaches a sensitivity of 1, so there always is one.
        thresholds[f"sensitivity>={wanted:.2f}"] = float(candidates[np.flatnonzero(sensitivity >= wanted - 1e-12)[-1]])
    return thresholds, []


def pooled(
    validation: pd.DataFrame, class_names: Sequence[str], decisions: Mapping[int, Decisions], positive: str | None = None
) -> Decisions:
    """Return one decision for the models of all folds together; its thresholds are for calibrated probabilities.

    Each validation case is calibrated at the temperature of its fold's model, then all are pooled: raw probabilities of several
    models do not share a scale. Conformal sets are calibrated on those that did not fit their fold's temperature. Arguments are as
    for `fit_decisions`.

    Raises:
        ValueError: for a fold for which nothing was decided, or labels that are none of the classes.
    """
    check_folds(validation, decisions)
    name, truth = choose_positive(class_names, positive), truth_of(validation, class_names)
    probabilities = calibrated(validation, class_names, decisions)
    place = list(class_names).index(name)
    thresholds, notes = choose_thresholds(truth == place, probabilities[:, place])
    second = np.zeros(len(validation), dtype=bool)
    for fold in np.unique(folds_of(validation)):
        rows = np.flatnonzero(folds_of(validation) == fold)
        second[rows] = ~halves(group_numbers(validation["group"].to_numpy(dtype=str)[rows]))
    quantile = conformal_quantile(probabilities[second], truth[second])
    source = f"{len(validation)} validation cases of {len(decisions)} folds, each at the temperature of its fold's model"
    return Decisions(positive=name, thresholds=thresholds, on=CALIBRATED, conformal=quantile, source=source, notes=tuple(notes))
