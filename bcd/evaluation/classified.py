"""The classification blocks of metrics.json: figures, operating points, calibration, net benefit, abstention, conformal sets."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from bcd.evaluation.classification import (
    DEFINITIONS,
    calibration_error,
    choose_positive,
    classification_figures,
    probabilities_of,
    table_figures,
    truth_of,
)
from bcd.evaluation.conformal import abstention_curve, conformal_sets, conformal_summary
from bcd.evaluation.decisions import Decisions
from bcd.evaluation.intervals import intervals, present_ends
from bcd.evaluation.validation import calibrated, called_positive, check_folds, folds_of
from bcd.evaluation.weighted import Figure, mean, plain
from bcd.metrics.calibration import BINNING, brier_per_case, claims, reliability
from bcd.metrics.net_benefit import decision_curve
from bcd.metrics.tables import RATIOS, TwoByTwo, confusion

# From 0.01 to 0.99: at 0 and 1 a miss, or a false alarm, would cost nothing.
_THRESHOLDS = np.arange(1, 100) / 100


def classification_block(cases: pd.DataFrame, class_names: Sequence[str], positive: str | None = None) -> dict[str, Any]:
    """Return the figures of cases.csv that need no decisions: over all classes, by class, and the confusion matrix."""
    probabilities, truth = probabilities_of(cases, class_names), truth_of(cases, class_names)
    values = plain(figures_of(cases, class_names, positive), len(cases))
    result: dict[str, Any] = {name: value for name, value in values.items() if "." not in name}
    result["auroc_definition"] = DEFINITIONS["auroc"]
    result["definitions"] = DEFINITIONS
    result["by_class"] = {
        name: {"n": int((truth == number).sum())} | _below(values, f"by_class.{name}.") for number, name in enumerate(class_names)
    }
    result["confusion"] = {
        "rows": "truth",
        "columns": "prediction (highest probability)",
        "classes": list(class_names),
        "counts": confusion(truth, probabilities.argmax(1), len(class_names)).tolist(),
    }
    return result


def figures_of(cases: pd.DataFrame, class_names: Sequence[str], positive: str | None = None) -> dict[str, Figure]:
    """Return path -> figure for the classification figures of a table of cases."""
    chosen = choose_positive(class_names, positive)
    return classification_figures(probabilities_of(cases, class_names), truth_of(cases, class_names), class_names, chosen)


def decision_blocks(cases: pd.DataFrame, class_names: Sequence[str], decisions: Mapping[int, Decisions]) -> dict[str, Any]:
    """Return `operating_points`, `calibration`, `decision_curve`, `abstention` and `conformal` of cases.csv.

    Probabilities are calibrated by each fold's temperature for the last three; thresholds are for them as the model gives them.
    `decisions` are by fold.

    Raises:
        ValueError: for a fold without decisions.
    """
    check_folds(cases, decisions)
    truth, after = truth_of(cases, class_names), calibrated(cases, class_names, decisions)
    positive = next(iter(decisions.values())).positive
    number = list(class_names).index(positive)
    is_positive = truth == number
    limits = {fold: decision.conformal for fold, decision in decisions.items()}
    quantile = np.array([np.inf if limits[int(fold)] is None else limits[int(fold)] for fold in folds_of(cases)], dtype=float)
    without = [str(fold) for fold, limit in limits.items() if limit is None]
    result: dict[str, Any] = {
        "operating_points": operating_points(cases, is_positive, decisions),
        "calibration": {
            "binning": BINNING,
            "temperature": {str(fold): decision.temperature for fold, decision in decisions.items()},
            "before": _calibration(probabilities_of(cases, class_names), truth, number),
            "after": _calibration(after, truth, number),
            "notes": [f"fold {fold}: {note}" for fold, decision in decisions.items() for note in decision.notes],
        },
        "abstention": abstention_curve(after, truth),
        "conformal": conformal_summary(conformal_sets(after, quantile), truth) | {"folds_without_quantile": without},
    }
    if is_positive.any() and not is_positive.all():
        curve = decision_curve(is_positive, after[:, number], _THRESHOLDS)
        lists = {name: values.tolist() for name, values in curve.items()}
        about = {"prevalence": float(is_positive.mean()), "positive": positive, "thresholds": _THRESHOLDS.tolist()}
        result["decision_curve"] = about | lists
    return result


def calibration_figures(cases: pd.DataFrame, class_names: Sequence[str], decisions: Mapping[int, Decisions]) -> dict[str, Figure]:
    """Return path -> figure for Brier score and ECE before and after temperature scaling."""
    truth, number = truth_of(cases, class_names), list(class_names).index(next(iter(decisions.values())).positive)
    parts = {"before": probabilities_of(cases, class_names), "after": calibrated(cases, class_names, decisions)}
    figures: dict[str, Figure] = {}
    for part, probabilities in parts.items():
        every = np.ones(len(truth), bool)
        figures[f"calibration.{part}.brier"] = mean(brier_per_case(probabilities, truth, number), every)
        figures[f"calibration.{part}.ece"] = calibration_error(*claims(probabilities, truth, number))
    return figures


def operating_points(cases: pd.DataFrame, is_positive: np.ndarray, decisions: Mapping[int, Decisions]) -> list[dict[str, Any]]:
    """Return the 2x2 table and its figures at each operating point; one that some fold could not choose has figures None."""
    used = {int(fold): decisions[int(fold)] for fold in np.unique(folds_of(cases))}
    positive, names = next((decision.positive, list(decision.thresholds)) for decision in used.values())
    called = {name: called_positive(cases, name, decisions) for name in names}
    figures = {
        f"{name}/{figure}": one
        for name, decided in called.items()
        if decided is not None
        for figure, one in table_figures(is_positive, decided).items()
    }
    ends = present_ends(intervals(figures, cases["group"].to_numpy(str)))
    result = []
    for name in names:
        point: dict[str, Any] = {"name": name, "positive": positive}
        point["thresholds"] = {str(fold): decision.thresholds[name] for fold, decision in used.items()}
        decided = called[name]
        if decided is None:
            point |= {"n": 0, **dict.fromkeys(("tp", "fp", "fn", "tn", *RATIOS))}
        else:
            table = TwoByTwo.count(is_positive, decided)
            point |= {"n": len(decided), **asdict(table)}
            point |= {figure: None if np.isnan(value) else value for figure, value in table.figures().items()}
        result.append(point | {"intervals": _below(ends, f"{name}/")})
    return result


def _calibration(probabilities: np.ndarray, truth: np.ndarray, positive: int) -> dict[str, Any]:
    probability, event = claims(probabilities, truth, positive)
    error = calibration_error(probability, event)
    return {
        "brier": float(brier_per_case(probabilities, truth, positive).mean()),
        "ece": float(error.finish(error.columns.sum(0))),
        "reliability": [asdict(one) for one in reliability(probability, event)],
    }


def _below(values: Mapping[str, Any], start: str) -> dict[str, Any]:
    return {path.removeprefix(start): value for path, value in values.items() if path.startswith(start)}
