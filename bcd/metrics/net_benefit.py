"""Net benefit and decision curves: the value of a decision if a false positive and a miss have different costs.

Vickers and Elkin, Medical Decision Making 26 (2006) 565, doi:10.1177/0272989X06295361.
"""

from typing import TypeVar

import numpy as np

_Counts = TypeVar("_Counts", float, np.ndarray)


def net_benefit(tp: _Counts, fp: _Counts, n: float, exchange_rate: _Counts) -> _Counts:
    """Return the net benefit per case: true positives less what the false positives cost, in true positives; at most 1.

    `n` is all cases, 1 where the others are shares; `exchange_rate` is the true positives that one false positive costs: t / (1 -
    t) for a threshold probability t.
    """
    return tp / n - fp / n * exchange_rate


def decision_curve(positive: np.ndarray, probability: np.ndarray, thresholds: np.ndarray) -> dict[str, np.ndarray]:
    """Return the net benefit at each threshold, float64 (T,): `model`, `treat_all` and `treat_none`.

    Args:
        positive: bool (N,), with both kinds of cases.
        probability: of the positive class, (N,).
        thresholds: (T,) in (0, 1); a case is called positive from its threshold on.

    Raises:
        ValueError: without positive, or without negative cases.
    """
    if positive.all() or not positive.any():
        raise ValueError("A decision curve needs positive and negative cases.")
    share = float(positive.mean())
    called = probability[None, :] >= thresholds[:, None]
    sensitivity, false_rate = called[:, positive].mean(1), called[:, ~positive].mean(1)
    odds = thresholds / (1 - thresholds)
    return {
        "model": net_benefit(share * sensitivity, (1 - share) * false_rate, 1, odds),
        "treat_all": net_benefit(np.full(len(odds), share), np.full(len(odds), 1 - share), 1, odds),
        "treat_none": np.zeros(len(thresholds)),
    }
