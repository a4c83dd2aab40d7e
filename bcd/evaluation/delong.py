"""The variance of an AUROC, and the difference of two AUROCs on the same cases, without resampling.

DeLong et al., Biometrics 44 (1988) 837, doi:10.2307/2531595, for independent cases, by the ranks of Sun and Xu, IEEE Signal
Processing Letters 21 (2014) 1389, doi:10.1109/LSP.2014.2337313. Obuchowski, Biometrics 53 (1997) 567, doi:10.2307/2533958, for
cases in clusters, such as the images of a patient; where each cluster is one case, it is DeLong's.
"""

import numpy as np
from scipy.stats import norm, rankdata


def delong(positive: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return K AUROCs, (K,), and their covariance, (K, K), for independent cases.

    Args:
        positive: bool (N,), at least two of each kind.
        scores: (K, N), of K raters on the same cases.

    Raises:
        ValueError: with fewer than two positive or negative cases.
    """
    of_positives, of_negatives = placements(positive, scores)
    covariance = np.cov(of_positives) / of_positives.shape[1] + np.cov(of_negatives) / of_negatives.shape[1]
    return of_positives.mean(1), np.reshape(covariance, (len(scores), len(scores)))


def delong_clustered(positive: np.ndarray, scores: np.ndarray, clusters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return K AUROCs, (K,), and their covariance, (K, K), for cases in clusters.

    Args:
        positive: bool (N,), of each kind in at least two clusters.
        scores: (K, N).
        clusters: number of each case's cluster, int (N,), from 0 on without gaps.

    Raises:
        ValueError: where positive or negative cases stand in fewer than two clusters.
    """
    of_positives, of_negatives = placements(positive, scores)
    areas, n_clusters = of_positives.mean(1), int(clusters.max()) + 1
    excess = []  # of each kind: the sum over a cluster's cases of placement less AUROC, (K, clusters)
    n_with = []
    for inside, values in ((clusters[positive], of_positives), (clusters[~positive], of_negatives)):
        excess.append(np.stack([np.bincount(inside, row, n_clusters) for row in values - areas[:, None]]))
        n_with.append(len(np.unique(inside)))
    if min(n_with) < 2:
        raise ValueError("A clustered variance needs positive, and negative, cases in two clusters or more.")
    m, n = of_positives.shape[1], of_negatives.shape[1]
    first = excess[0] @ excess[0].T * n_with[0] / (n_with[0] - 1) / m**2
    second = excess[1] @ excess[1].T * n_with[1] / (n_with[1] - 1) / n**2
    across = excess[0] @ excess[1].T * n_clusters / (n_clusters - 1) / (m * n)
    return areas, first + second + across + across.T


def placements(positive: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of negatives below each positive, (K, M), and of positives above each negative, (K, N - M); ties half.

    Raises:
        ValueError: with fewer than two positive or negative cases.
    """
    m = int(positive.sum())
    n = len(positive) - m
    if min(m, n) < 2:
        raise ValueError(f"{m} positive and {n} negative cases: the variance of an AUROC needs two of each.")
    scores = np.asarray(scores, dtype=np.float64)
    ranks = rankdata(scores, axis=1)
    below = (ranks[:, positive] - rankdata(scores[:, positive], axis=1)) / n
    above = 1 - (ranks[:, ~positive] - rankdata(scores[:, ~positive], axis=1)) / m
    return below, above


def difference_p(areas: np.ndarray, covariance: np.ndarray) -> tuple[float, float | None]:
    """Return the second AUROC less the first, and the two-sided p of no difference; None where the variance is 0 but they differ.

    Args:
        areas: (2,).
        covariance: (2, 2).
    """
    difference = float(areas[1] - areas[0])
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    if variance < 1e-15:
        return difference, 1.0 if abs(difference) < 1e-12 else None
    return difference, float(2 * norm.sf(abs(difference) / variance**0.5))
