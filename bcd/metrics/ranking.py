"""Areas under the ROC and the precision-recall curve, of one set of scores under many weightings at once.

The scores are sorted once; each weighting then costs two cumulative sums. A bootstrap is a weighting: a case that was drawn
twice weighs 2, one that was not drawn 0. Cases of equal score are one step of the curve, in any weighting.
"""

from collections.abc import Collection
from typing import Literal

import numpy as np

from bcd.metrics.tables import ratio

Kind = Literal["auroc", "auprc"]


class Ranking:
    """Positive and negative cases in the order of a score.

    Args:
        positive: bool (N,).
        score: float (N,), higher where a case is more likely positive.

    Raises:
        ValueError: for scores that are not finite.
    """

    def __init__(self, positive: np.ndarray, score: np.ndarray) -> None:
        if not np.isfinite(score).all():
            raise ValueError(f"{int((~np.isfinite(score)).sum())} of {len(score)} scores are not finite; they cannot be ranked.")
        self._order = np.argsort(-score, kind="stable")
        ordered = score[self._order]
        self._positive = positive[self._order].astype(np.float64)
        # The last position of each run of equal scores.
        self._ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True)) if len(score) else np.zeros(0, np.intp)

    def areas(self, weights: np.ndarray, kinds: Collection[Kind] = ("auroc", "auprc")) -> dict[Kind, np.ndarray]:
        """Return the wanted areas, float64 (R,) each, NaN where a weighting leaves no positive or no negative case.

        AUROC is the probability that a positive case has a higher score than a negative one, an equal score counting half (Hanley
        and McNeil, Radiology 143 (1982) 29, doi:10.1148/radiology.143.1.7063747). AUPRC is the average precision: the precision at
        each step, weighted by the recall that the step gains, without interpolation. Weights are (R, N), not negative.
        """
        called, hits = self._steps(weights)
        gain, positives = np.diff(hits, axis=1, prepend=0.0), hits[:, -1]
        negatives = called[:, -1] - positives
        areas: dict[Kind, np.ndarray] = {}
        if "auroc" in kinds:
            # Negatives above a step's positives: those of earlier steps, and half of those of the step itself.
            false = called - hits
            above = np.einsum("rn,rn->r", gain, false) + np.einsum("rn,rn->r", gain[:, 1:], false[:, :-1])
            areas["auroc"] = 1 - ratio(above / 2, positives * negatives)
        if "auprc" in kinds:
            precision = np.divide(hits, called, out=np.zeros_like(hits), where=called > 0)
            areas["auprc"] = ratio(np.einsum("rn,rn->r", gain, precision), np.where(negatives > 0, positives, 0))
        return areas

    def _steps(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the weight of the cases, and of the positive ones, from the highest score down to each step, (R, S) each."""
        ordered = np.take(weights, self._order, axis=1).astype(np.float64, copy=False)
        called, hits = np.cumsum(ordered, axis=1), np.cumsum(ordered * self._positive, axis=1)
        return (called[:, self._ends], hits[:, self._ends]) if len(self._ends) < len(self._order) else (called, hits)
