"""Figures of counts: 2x2 tables and confusion matrices, one or many at once.

Every function takes an array whose last axes hold the counts, and works alike on one table and on a stack of thousands, such as
those of a bootstrap. Counts may be weighted. A figure whose denominator is 0 is not a number (NaN): sensitivity without a positive
case is unknown, and neither 0 nor 1. Means over the classes leave out the classes for which the figure is unknown.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TwoByTwo:
    """Counts of a yes-or-no decision: true and false positives, false and true negatives."""

    tp: float
    fp: float
    fn: float
    tn: float

    @classmethod
    def count(cls, positive: np.ndarray, called: np.ndarray) -> "TwoByTwo":
        """Return the table of bool (N,) truths and bool (N,) decisions."""
        cells = (positive & called, ~positive & called, positive & ~called, ~positive & ~called)
        return cls(*(int(cell.sum()) for cell in cells))

    def figures(self) -> dict[str, float]:
        """Return sensitivity, specificity, PPV, NPV, accuracy and F1, NaN where the denominator is 0."""
        counts = np.array([self.tp, self.fp, self.fn, self.tn], dtype=np.float64)
        return {name: float(ratio(counts @ upper, counts @ lower)) for name, (upper, lower) in RATIOS.items()}


# Of the counts (tp, fp, fn, tn): figure -> numerator and denominator.
RATIOS = {
    "sensitivity": (np.array([1.0, 0, 0, 0]), np.array([1.0, 0, 1, 0])),
    "specificity": (np.array([0, 0, 0, 1.0]), np.array([0, 1.0, 0, 1])),
    "ppv": (np.array([1.0, 0, 0, 0]), np.array([1.0, 1, 0, 0])),
    "npv": (np.array([0, 0, 0, 1.0]), np.array([0, 0, 1.0, 1])),
    "accuracy": (np.array([1.0, 0, 0, 1]), np.array([1.0, 1, 1, 1])),
    "f1": (np.array([2.0, 0, 0, 0]), np.array([2.0, 1, 1, 0])),
}


def ratio(numerator: np.ndarray | float, denominator: np.ndarray | float) -> np.ndarray:
    """Return numerator / denominator, NaN where the denominator is 0."""
    lower = np.asarray(denominator, dtype=np.float64)
    known = lower != 0
    return np.where(known, np.asarray(numerator, dtype=np.float64) / np.where(known, lower, 1.0), np.nan)


def confusion(truth: np.ndarray, predicted: np.ndarray, n_classes: int) -> np.ndarray:
    """Return the counts, int64 (C, C): rows are the truth, columns the prediction, both int (N,) in [0, C)."""
    return np.bincount(truth * n_classes + predicted, minlength=n_classes**2).reshape(n_classes, n_classes)


def balanced_accuracy(counts: np.ndarray) -> np.ndarray:
    """Return the mean sensitivity over the classes that have cases, (...), of confusion matrices (..., C, C)."""
    return _mean_of_known(ratio(np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(-1)))


def macro_f1(counts: np.ndarray) -> np.ndarray:
    """Return the mean F1 over the classes that are true or predicted somewhere, (...), of confusion matrices (..., C, C)."""
    return _mean_of_known(ratio(2 * np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(-1) + counts.sum(-2)))


def mcc(counts: np.ndarray) -> np.ndarray:
    """Return Matthews' correlation coefficient in [-1, 1], (...), of confusion matrices (..., C, C).

    For more than two classes it is R_K of Gorodkin, Computational Biology and Chemistry 28 (2004) 367,
    doi:10.1016/j.compbiolchem.2004.09.006. NaN where all cases are of one class, or predicted as one class.
    """
    true, predicted, total = counts.sum(-1), counts.sum(-2), counts.sum((-2, -1))
    shared = np.trace(counts, axis1=-2, axis2=-1) * total - (true * predicted).sum(-1)
    spread_true, spread_predicted = total**2 - (true**2).sum(-1), total**2 - (predicted**2).sum(-1)
    # Two roots, not one of the product: the product of large counts would not be exact.
    return ratio(shared, np.sqrt(spread_true) * np.sqrt(spread_predicted))


def kappa(counts: np.ndarray) -> np.ndarray:
    """Return Cohen's kappa, unweighted, at most 1, (...), of confusion matrices (..., C, C).

    Cohen, Educational and Psychological Measurement 20 (1960) 37, doi:10.1177/001316446002000104. NaN where chance alone agrees
    in every case.
    """
    total = counts.sum((-2, -1))
    chance = (counts.sum(-1) * counts.sum(-2)).sum(-1)
    return ratio(np.trace(counts, axis1=-2, axis2=-1) * total - chance, total**2 - chance)


def _mean_of_known(values: np.ndarray) -> np.ndarray:
    known = ~np.isnan(values)
    return ratio(np.where(known, values, 0).sum(-1), known.sum(-1))
