import itertools

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from bcd.evaluation.delong import delong, delong_clustered, difference_p, placements


def _data(seed: int, n: int = 40, decimals: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    positive = rng.random(n) < 0.4
    return positive, (rng.random((2, n)) + 0.4 * positive).round(decimals)


def _wins(positive: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Return for each positive (row) and negative (column) whether the positive has the higher score; a tie is a half."""
    pairs = itertools.product(score[positive], score[~positive])
    return np.array([1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs]).reshape(positive.sum(), -1)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("decimals", [1, 9])
def test_delong_is_what_all_pairs_of_cases_give(seed: int, decimals: int) -> None:
    positive, scores = _data(seed, decimals=decimals)
    areas, covariance = delong(positive, scores)
    wins = [_wins(positive, score) for score in scores]
    m, n = wins[0].shape
    for a, b in itertools.product(range(2), repeat=2):
        mean_a, mean_b = wins[a].mean(), wins[b].mean()
        first = sum((wins[a][i].mean() - mean_a) * (wins[b][i].mean() - mean_b) for i in range(m)) / (m - 1) / m
        second = sum((wins[a][:, j].mean() - mean_a) * (wins[b][:, j].mean() - mean_b) for j in range(n)) / (n - 1) / n
        assert covariance[a, b] == pytest.approx(first + second, abs=1e-12)
    assert areas == pytest.approx([roc_auc_score(positive, score) for score in scores], abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_the_clustered_variance_is_what_sums_over_clusters_give(seed: int) -> None:
    positive, scores = _data(seed)
    clusters = np.arange(40) // 3
    _, covariance = delong_clustered(positive, scores, clusters)
    wins = [_wins(positive, score) for score in scores]
    of_positives, of_negatives, count = clusters[positive], clusters[~positive], clusters.max() + 1
    m, n = wins[0].shape
    i10, i01 = len(set(of_positives)), len(set(of_negatives))
    for a, b in itertools.product(range(2), repeat=2):
        excess = {}
        for run in (a, b):
            mean = wins[run].mean()
            x = [sum(wins[run][i].mean() - mean for i in range(m) if of_positives[i] == c) for c in range(count)]
            y = [sum(wins[run][:, j].mean() - mean for j in range(n) if of_negatives[j] == c) for c in range(count)]
            excess[run] = np.array(x), np.array(y)
        s10 = i10 / ((i10 - 1) * m) * (excess[a][0] * excess[b][0]).sum()
        s01 = i01 / ((i01 - 1) * n) * (excess[a][1] * excess[b][1]).sum()
        s11 = count / (count - 1) * ((excess[a][0] * excess[b][1]).sum() + (excess[b][0] * excess[a][1]).sum())
        assert covariance[a, b] == pytest.approx(s10 / m + s01 / n + s11 / (m * n), abs=1e-12)


def test_clusters_of_one_case_give_the_plain_variance() -> None:
    positive, scores = _data(0)
    plain, clustered = delong(positive, scores), delong_clustered(positive, scores, np.arange(40))
    assert clustered[0] == pytest.approx(plain[0], abs=1e-12)
    assert clustered[1] == pytest.approx(plain[1], abs=1e-12)


def test_cases_that_stand_twice_double_the_variance_only_where_they_are_not_taken_for_a_cluster() -> None:
    positive, scores = _data(1, n=400, decimals=6)
    _, single = delong(positive, scores)
    _, doubled = delong(np.repeat(positive, 2), np.repeat(scores, 2, axis=1))
    _, clustered = delong_clustered(np.repeat(positive, 2), np.repeat(scores, 2, axis=1), np.repeat(np.arange(400), 2))
    assert clustered == pytest.approx(single, rel=1e-9)
    assert doubled == pytest.approx(single / 2, rel=0.02)


def test_one_rater_has_a_variance_too() -> None:
    positive, scores = _data(2)
    _, covariance = delong(positive, scores[:1])
    assert covariance.shape == (1, 1)
    assert covariance[0, 0] == pytest.approx(delong(positive, scores)[1][0, 0])


def test_a_run_does_not_differ_from_itself() -> None:
    positive, scores = _data(3)
    assert difference_p(*delong(positive, scores[[0, 0]])) == (0.0, 1.0)


def test_a_difference_without_variance_has_no_p() -> None:
    assert difference_p(np.array([0.0, 1.0]), np.zeros((2, 2))) == (1.0, None)


def test_too_few_cases_are_refused() -> None:
    with pytest.raises(ValueError, match="1 positive and 2 negative"):
        placements(np.array([True, False, False]), np.zeros((1, 3)))
    with pytest.raises(ValueError, match="in two clusters"):
        delong_clustered(np.array([True, True, False, False]), np.eye(4)[:1], np.array([0, 0, 1, 1]))
