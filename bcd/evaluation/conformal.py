"""Conformal sets, and the gain from leaving uncertain cases to a reader.

Split conformal prediction with the score 1 - probability of the class (LAC: Sadinle et al., Journal of the American Statistical
Association 114 (2019) 223, doi:10.1080/01621459.2017.1395341). A set holds every class whose score is at most the quantile that
was found on calibration cases of other groups. On cases like those, the set holds the true class with at least the wanted
probability; the promise is for cases that can be exchanged for each other, which several images of one patient are only nearly. A
set may be empty: no class is likely enough.
"""

import math
from typing import Any

import numpy as np

COVERAGE = 0.9
# Shares of the cases that are kept in the abstention curve.
KEPT = tuple(round(share / 20, 2) for share in range(20, 0, -1))


def conformal_quantile(probabilities: np.ndarray, truth: np.ndarray) -> float | None:
    """Return the highest score of a class in the set, in [0, 1]; None where cases are too few to promise the coverage.

    Probabilities are (n, C), of n calibration cases, and the truth int (n,).
    """
    rank = math.ceil((len(truth) + 1) * COVERAGE - 1e-12)
    if rank > len(truth):
        return None
    return float(np.sort(1 - probabilities[np.arange(len(truth)), truth])[rank - 1])


def conformal_sets(probabilities: np.ndarray, quantile: np.ndarray) -> np.ndarray:
    """Return which classes are in each case's set, bool (N, C); the quantile, (N,), is infinite for sets of all classes."""
    return 1 - probabilities <= quantile[:, None]


def conformal_summary(sets: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """Return how often the sets, bool (N, C), hold the true class, int (N,), and how large they are; N is at least 1."""
    covered, sizes = sets[np.arange(len(truth)), truth], sets.sum(1)
    single = sizes == 1
    return {
        "method": "split conformal, score 1 - probability (LAC), on validation groups that did not fit the temperature",
        "coverage": COVERAGE,
        "empirical_coverage": float(covered.mean()),
        "mean_set_size": float(sizes.mean()),
        "share_by_size": {str(size): float((sizes == size).mean()) for size in range(sets.shape[1] + 1)},
        "accuracy_of_single": float(covered[single].mean()) if single.any() else None,
    }


def abstention_curve(probabilities: np.ndarray, truth: np.ndarray) -> dict[str, list[float]]:
    """Return the accuracy over the surest of N cases, at least 1: `coverage` (share kept) and `accuracy`.

    Sureness is the highest probability; cases of equal sureness as the last one kept count by their mean.
    """
    sureness, right = probabilities.max(1), probabilities.argmax(1) == truth
    result: dict[str, list[float]] = {"coverage": [], "accuracy": []}
    for share in KEPT:
        kept = max(1, round(share * len(truth)))
        last = np.sort(sureness)[::-1][kept - 1]
        above, equal = sureness > last, sureness == last
        total = right[above].sum() + (kept - above.sum()) * right[equal].mean()
        result["coverage"].append(kept / len(truth))
        result["accuracy"].append(float(total / kept))
    return result
