"""Calibration of probabilities: Brier score, expected calibration error, temperature scaling."""

from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax, softmax

BINS = 15
BINNING = (
    f"{BINS} bins of equal width on [0, 1], each with its lower end and without its upper one, the last with both; of two classes "
    "the probability of the positive one against its share, of more the highest probability against the share predicted right"
)
BRIER = (
    "two classes: mean squared difference of the positive class's probability and the truth, in [0, 1]; more: summed over the "
    "classes, in [0, 2]"
)
# A temperature outside would mean probabilities that are all 0 and 1, or all alike.
LOWEST, HIGHEST = 0.05, 20.0
# The nearest that a float32 comes to 1 is 6e-8; what is stored as 0 or 1 is not known any better.
_SMALLEST = 1e-7


@dataclass(frozen=True)
class Bin:
    """One bin of a reliability curve, from `low` to `high`, with n cases.

    Args:
        mean_probability: of its cases; None where it has none.
        observed: share of its cases of which the event is true; None where it has none.
    """

    low: float
    high: float
    n: int
    mean_probability: float | None
    observed: float | None


def brier_per_case(probabilities: np.ndarray, truth: np.ndarray, positive: int) -> np.ndarray:
    """Return the squared error of each case, float64 (N,); its mean is the Brier score.

    Brier, Monthly Weather Review 78 (1950) 1. Probabilities are (N, C), truth is int (N,) in [0, C). With two classes only that of
    the positive class counts, which halves the sum.
    """
    error = (probabilities - np.eye(probabilities.shape[1])[truth]) ** 2
    return error[:, positive] if probabilities.shape[1] == 2 else error.sum(1)


def claims(probabilities: np.ndarray, truth: np.ndarray, positive: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the probability that calibration looks at, float64 (N,), and whether its event came true, bool (N,); see BINNING."""
    if probabilities.shape[1] == 2:
        return probabilities[:, positive], truth == positive
    predicted = probabilities.argmax(1)
    return probabilities[np.arange(len(truth)), predicted], predicted == truth


def bin_numbers(probability: np.ndarray) -> np.ndarray:
    """Return the bin of each probability (N,), int in [0, BINS)."""
    # Searched, not multiplied out: 0.6 * 15 is not 9 in floating point.
    return np.clip(np.searchsorted(np.arange(BINS + 1) / BINS, probability, side="right") - 1, 0, BINS - 1)


def reliability(probability: np.ndarray, event: np.ndarray) -> list[Bin]:
    """Return the bins of the reliability curve of probabilities (N,) and bool events (N,)."""
    numbers, result = bin_numbers(probability), []
    for number in range(BINS):
        inside = numbers == number
        count = int(inside.sum())
        means = (float(probability[inside].mean()), float(event[inside].mean())) if count else (None, None)
        result.append(Bin(number / BINS, (number + 1) / BINS, count, *means))
    return result


def scale(probabilities: np.ndarray, temperature: float | np.ndarray) -> np.ndarray:
    """Return probabilities (N, C) at another temperature: softmax(log p / T); above 1 they become more alike.

    The temperature is positive, one for all or one per case, (N,).
    """
    return softmax(_logits(probabilities) / np.reshape(temperature, (-1, 1)), axis=1)


def fit_temperature(probabilities: np.ndarray, truth: np.ndarray) -> tuple[float, str]:
    """Return the temperature at which the mean negative log-likelihood is lowest, and what kept it from being found, or "".

    Guo et al., ICML 2017, arXiv:1706.04599. Where there is nothing to fit, or no lowest point between LOWEST and HIGHEST (each case
    right: ever sharper would be ever better), the temperature is 1: the probabilities stay as they are. Probabilities are (N, C),
    truth is int (N,) in [0, C).
    """
    from scipy.optimize import minimize_scalar  # late: prediction scales, and fits nothing

    if len(np.unique(truth)) < 2:
        return 1.0, f"temperature 1: {len(truth)} validation cases of {len(np.unique(truth))} class do not determine one"

    def loss(log_temperature: float) -> float:
        return -float(log_softmax(logits / np.exp(log_temperature), axis=1)[np.arange(len(truth)), truth].mean())

    logits, bounds = _logits(probabilities), (np.log(LOWEST), np.log(HIGHEST))
    best = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-8}).x
    if min(best - bounds[0], bounds[1] - best) < 1e-3:
        return 1.0, f"temperature 1: on validation the likelihood has no highest point between {LOWEST:g} and {HIGHEST:g}"
    return round(float(np.exp(best)), 6), ""  # further digits depend on the order of the cases


def _logits(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.clip(probabilities.astype(np.float64), _SMALLEST, 1.0))
