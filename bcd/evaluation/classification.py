"""The classification figures of a table of cases, as functions of case weights.

Paths are those of metrics.json: `auroc`, `by_class.malignant.sensitivity`. Decisions are the class of the highest probability.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pandas as pd

from bcd.evaluation.weighted import Area, Figure, MeanOf, Sums, first_by_second, mean
from bcd.metrics import tables
from bcd.metrics.calibration import BINNING, BINS, BRIER, bin_numbers, brier_per_case, claims

DEFINITIONS = {
    "auroc": "one class against the rest, mean over the classes; None where a class has no test case",
    "auprc": "average precision, one class against the rest, mean over the classes; None where a class has no test case",
    "balanced_accuracy": "mean sensitivity over the classes that have test cases",
    "f1": "mean over the classes that are true or predicted somewhere",
    "mcc": "Matthews' coefficient, over all classes at once (R_K)",
    "kappa": "Cohen's, unweighted",
    "brier": BRIER,
    "ece": f"{BINNING}. Resampling raises it, so that its interval lies high",
    "undefined": "a figure whose denominator is 0 is None",
}
_OF_CONFUSION = {
    "balanced_accuracy": tables.balanced_accuracy,
    "f1": tables.macro_f1,
    "mcc": tables.mcc,
    "kappa": tables.kappa,
}


def choose_positive(class_names: Sequence[str], positive: str | None = None) -> str:
    """Return the class that decisions are about: the one asked for, else `malignant`, else the last.

    Raises:
        ValueError: when the one asked for is not a class.
    """
    if positive is not None and positive not in class_names:
        raise ValueError(f"positive={positive} is none of the classes {', '.join(class_names)}.")
    return positive or ("malignant" if "malignant" in class_names else class_names[-1])


def probabilities_of(cases: pd.DataFrame, class_names: Sequence[str]) -> np.ndarray:
    """Return the columns `probability_<class>`, float64 (N, C)."""
    return cases[[f"probability_{name}" for name in class_names]].to_numpy(dtype=np.float64)


def truth_of(cases: pd.DataFrame, class_names: Sequence[str]) -> np.ndarray:
    """Return the number of each case's class, int (N,).

    Raises:
        ValueError: for a label that is none of the classes, naming the case.
    """
    number = {name: position for position, name in enumerate(class_names)}
    unknown = cases[~cases["label"].isin(list(class_names))]
    if len(unknown):
        first = unknown.iloc[0]
        raise ValueError(
            f"{first['case_id']}: the label {first['label']!r} is none of the classes {', '.join(class_names)} "
            f"({len(unknown)} such cases); leave them out, or rename them by data.relabel."
        )
    return cases["label"].map(number).to_numpy(dtype=np.int64)


def classification_figures(
    probabilities: np.ndarray, truth: np.ndarray, class_names: Sequence[str], positive: str
) -> dict[str, Figure]:
    """Return path -> figure for all classification figures.

    Probabilities are (N, C), truth is int (N,) in [0, C). Brier score and ECE look at the positive class where there are two.
    """
    predicted, number = probabilities.argmax(1), list(class_names).index(positive)
    figures: dict[str, Figure] = {
        kind: MeanOf(tuple(f"by_class.{name}.{kind}" for name in class_names)) for kind in ("auroc", "auprc")
    }
    figures["accuracy"] = mean(truth == predicted, np.ones(len(truth), bool), is_rate=True)
    size = len(class_names)
    cells = np.eye(size**2)[truth * size + predicted]
    for name, function in _OF_CONFUSION.items():
        figures[name] = Sums(cells, partial(_of_confusion, function=function, size=size))
    figures["brier"] = mean(brier_per_case(probabilities, truth, number), np.ones(len(truth), bool))
    figures["ece"] = calibration_error(*claims(probabilities, truth, number))
    for position, name in enumerate(class_names):
        score = np.ascontiguousarray(probabilities[:, position])
        own = one_class_figures(truth == position, predicted == position, score)
        figures |= {f"by_class.{name}.{key}": figure for key, figure in own.items()}
    return figures


def one_class_figures(positive: np.ndarray, called: np.ndarray, score: np.ndarray | None = None) -> dict[str, Figure]:
    """Return the figures of one class against the rest: those of `table_figures` but accuracy, and areas where there is a score.

    Arrays are bool (N,), bool (N,) and float (N,).
    """
    areas: dict[str, Figure] = (
        {} if score is None else {"auroc": Area(positive, score, "auroc"), "auprc": Area(positive, score, "auprc")}
    )
    return areas | {name: figure for name, figure in table_figures(positive, called).items() if name != "accuracy"}


def table_figures(positive: np.ndarray, called: np.ndarray) -> dict[str, Figure]:
    """Return the figures of the 2x2 table of bool (N,) truths and bool (N,) decisions."""
    cells = np.stack([positive & called, ~positive & called, positive & ~called, ~positive & ~called], axis=1).astype(np.float64)
    return {
        name: Sums(np.stack([cells @ upper, cells @ lower], axis=1), first_by_second, is_rate=name != "f1")
        for name, (upper, lower) in tables.RATIOS.items()
    }


def calibration_error(probability: np.ndarray, event: np.ndarray) -> Sums:
    """Return the expected calibration error of probabilities (N,) and bool events (N,): see BINNING; in [0, 1], NaN without cases.

    It is the mean over the cases of |mean probability - share of events| of the case's bin: Naeini et al., AAAI 2015,
    doi:10.1609/aaai.v29i1.9602; with equal-width bins.
    """
    gaps = np.eye(BINS)[bin_numbers(probability)] * (probability - event)[:, None]
    return Sums(np.concatenate([gaps, np.ones((len(gaps), 1))], axis=1), _mean_gap)


def _of_confusion(cells: np.ndarray, function: Callable[[np.ndarray], np.ndarray], size: int) -> np.ndarray:
    return function(cells.reshape(*cells.shape[:-1], size, size))


def _mean_gap(sums: np.ndarray) -> np.ndarray:
    return tables.ratio(np.abs(sums[..., :-1]).sum(-1), sums[..., -1])
