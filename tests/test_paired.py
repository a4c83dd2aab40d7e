import itertools

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from bcd.evaluation.paired import (
    delong,
    delong_tests,
    difference_intervals,
    difference_p,
    holm,
    mcnemar_test,
    permutation_test,
    placements,
    wilcoxon_test,
)
from bcd.evaluation.weighted import Area, mean

_ALL = np.ones(12, bool)


def _groups(n: int, size: int = 2) -> np.ndarray:
    return (np.arange(n) // size).astype(str)


def test_few_groups_are_exchanged_in_every_way() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.random(12), rng.random(12) + 0.2
    test = permutation_test({"dice": mean(first, _ALL)}, {"dice": mean(second, _ALL)}, _groups(12))["dice"]
    sums = (second - first).reshape(6, 2).sum(1)
    reached = [abs(np.dot(signs, sums)) >= abs(sums.sum()) - 1e-12 for signs in itertools.product((1, -1), repeat=6)]
    assert test.p == np.mean(reached)
    assert test.n == 64
    assert test.difference == pytest.approx((second - first).mean())
    assert "all exchanges" in test.test


def test_drawn_exchanges_come_near_to_all_of_them() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.random(12), rng.random(12) + 0.15
    figures = ({"dice": mean(first, _ALL)}, {"dice": mean(second, _ALL)})
    every = permutation_test(*figures, np.arange(12).astype(str))["dice"].p
    drawn = permutation_test(*figures, np.arange(12).astype(str), permutations=4000)["dice"]
    assert drawn.n == 4000
    assert drawn.p == pytest.approx(every, abs=0.02)
    assert (drawn.p or 0) * 4001 == pytest.approx(round((drawn.p or 0) * 4001))  # (b + 1) / (m + 1)


def test_areas_are_exchanged_as_ranks() -> None:
    rng = np.random.default_rng(2)
    positive = np.array([True, False] * 6)
    first, second = rng.random(12), rng.random(12) / 1000  # another scale, which must not matter
    test = permutation_test({"a": Area(positive, first, "auroc")}, {"a": Area(positive, second, "auroc")}, _groups(12))["a"]
    ranks = stats.rankdata(first), stats.rankdata(second)
    observed = roc_auc_score(positive, second) - roc_auc_score(positive, first)
    reached = []
    for swaps in itertools.product((False, True), repeat=6):
        swapped = np.repeat(swaps, 2)
        one, other = np.where(swapped, ranks[1], ranks[0]), np.where(swapped, ranks[0], ranks[1])
        reached.append(abs(roc_auc_score(positive, other) - roc_auc_score(positive, one)) >= abs(observed) - 1e-12)
    assert test.p == pytest.approx(np.mean(reached))
    assert test.difference == pytest.approx(observed)


def test_a_run_is_not_better_than_itself() -> None:
    values = np.random.default_rng(0).random(12)
    test = permutation_test({"dice": mean(values, _ALL)}, {"dice": mean(values, _ALL)}, _groups(12))["dice"]
    assert (test.difference, test.p) == (0.0, 1.0)


def test_a_figure_that_is_undefined_has_no_p() -> None:
    nothing = mean(np.zeros(12), np.zeros(12, bool))
    test = permutation_test({"dice": nothing}, {"dice": nothing}, _groups(12))["dice"]
    assert (test.difference, test.p) == (None, None)


def test_p_is_uniform_where_runs_differ_by_chance_in_whole_patients() -> None:
    rng, values = np.random.default_rng(11), []
    for _ in range(150):
        groups = np.repeat(np.arange(20), 3)
        shift = rng.normal(size=20)[groups]  # one run is better on all images of a patient, by chance
        first, second = rng.normal(size=60), rng.normal(size=60)
        figures = ({"x": mean(first, np.ones(60, bool))}, {"x": mean(second + shift, np.ones(60, bool))})
        values.append(permutation_test(*figures, groups.astype(str), permutations=199)["x"].p)
    assert stats.kstest(values, "uniform").pvalue > 0.01
    assert np.mean(np.array(values) <= 0.05) < 0.1


def test_differences_are_resampled_in_pairs() -> None:
    rng = np.random.default_rng(0)
    easy = rng.normal(size=200)
    figures = ({"x": mean(easy, np.ones(200, bool))}, {"x": mean(easy + 0.1 + 0.01 * rng.normal(size=200), np.ones(200, bool))})
    low, high = difference_intervals(*figures, np.arange(200).astype(str))["x"].ends() or (0, 0)
    assert (low, high) == pytest.approx((0.1, 0.1), abs=0.004)
    assert low < high


def test_mcnemar_is_the_binomial_test_of_the_pairs_that_differ() -> None:
    first = np.array([True] * 10 + [False] * 9 + [True])
    second = np.array([True] * 10 + [True] * 8 + [False] + [False])
    test = mcnemar_test(first, second)
    assert (test.n, test.difference) == (9, pytest.approx(7 / 20))
    assert test.p == pytest.approx(stats.binomtest(1, 9).pvalue)
    assert "independent cases" in test.assumes
    assert mcnemar_test(first, first).p == 1.0
    assert mcnemar_test(first[:0], first[:0]).p is None


def test_wilcoxon_leaves_out_cases_without_a_difference() -> None:
    rng = np.random.default_rng(0)
    first = rng.random(30)
    second = first + np.where(np.arange(30) < 5, 0, rng.normal(0.05, 0.1, size=30))
    test = wilcoxon_test(first, second)
    assert test.n == 25
    assert test.p == pytest.approx(stats.wilcoxon((second - first)[5:]).pvalue)
    assert wilcoxon_test(first, first).p == 1.0


def test_delong_says_which_of_the_two_assumes_independent_cases() -> None:
    rng = np.random.default_rng(0)
    positive = rng.random(60) < 0.5
    clustered, plain = delong_tests(positive, rng.random(60), rng.random(60), _groups(60))
    assert "independent groups" in clustered.assumes
    assert "independent cases" in plain.assumes
    assert delong_tests(np.arange(60) < 1, rng.random(60), rng.random(60), _groups(60)) == []


def test_holm_by_hand() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": None, "e": 0.5}) == {
        "a": pytest.approx(0.04),
        "c": pytest.approx(0.09),
        "b": pytest.approx(0.09),  # 0.08, and not below the one before
        "d": None,
        "e": 0.5,
    }
    assert holm({"a": 0.9, "b": 0.9}) == {"a": 1.0, "b": 1.0}
    assert holm({"a": 0.02, "b": float("nan")}) == {"a": 0.02, "b": None}  # what a table makes of None


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
    areas, covariance = delong(positive, scores, np.arange(40))
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
    _, covariance = delong(positive, scores, clusters)
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


def test_cases_that_stand_twice_double_the_variance_only_where_they_are_not_taken_for_a_cluster() -> None:
    positive, scores = _data(1, n=400, decimals=6)
    _, single = delong(positive, scores, np.arange(400))
    twice = np.repeat(positive, 2), np.repeat(scores, 2, axis=1)
    _, doubled = delong(*twice, np.arange(800))
    _, clustered = delong(*twice, np.repeat(np.arange(400), 2))
    assert clustered == pytest.approx(single, rel=1e-9)
    assert doubled == pytest.approx(single / 2, rel=0.02)


def test_the_auroc_of_a_run_does_not_differ_from_itself() -> None:
    positive, scores = _data(3)
    assert difference_p(*delong(positive, scores[[0, 0]], np.arange(40))) == (0.0, 1.0)


def test_a_difference_without_variance_has_no_p() -> None:
    assert difference_p(np.array([0.0, 1.0]), np.zeros((2, 2))) == (1.0, None)


def test_too_few_cases_are_refused() -> None:
    with pytest.raises(ValueError, match="1 positive and 2 negative"):
        placements(np.array([True, False, False]), np.zeros((1, 3)))
    with pytest.raises(ValueError, match="in two clusters"):
        delong(np.array([True, True, False, False]), np.eye(4)[:1], np.array([0, 0, 1, 1]))
