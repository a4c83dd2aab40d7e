import numpy as np
import pytest
from scipy.stats import binomtest

from bcd.evaluation.intervals import (
    bootstrap,
    bootstrap_weights,
    extreme_rate_interval,
    few_groups_warnings,
    group_numbers,
    intervals,
    multiplicities,
    percentile_interval,
)
from bcd.evaluation.weighted import Area, mean


def test_whole_groups_are_drawn_as_many_as_there_are() -> None:
    numbers = group_numbers(["b", "a", "b", "c"])
    assert numbers.tolist() == [1, 0, 1, 2]
    weights = np.concatenate(list(bootstrap_weights(numbers, 50)))
    assert weights.shape == (50, 4)
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, 0] + weights[:, 1] + weights[:, 3] == 3).all()


def test_each_group_is_drawn_once_on_average() -> None:
    drawn = multiplicities(10, 20_000, np.random.default_rng(0))
    assert drawn.mean(0) == pytest.approx(np.ones(10), abs=0.04)
    assert drawn.var(0) == pytest.approx(np.full(10, 0.9), abs=0.05)


def test_an_interval_is_what_resampling_row_by_row_gives() -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 25, 60).astype(str)
    values = rng.normal(size=60)
    drawn = bootstrap({"mean": mean(values, np.ones(60, bool))}, groups)["mean"]
    for row, weights in enumerate(np.concatenate(list(bootstrap_weights(group_numbers(groups), 200)))):
        assert drawn[row] == pytest.approx(np.repeat(values, weights.astype(int)).mean(), abs=1e-12)
    found = intervals({"mean": mean(values, np.ones(60, bool))}, groups)["mean"]
    assert found.ends() == pytest.approx(np.quantile(drawn, [0.025, 0.975]).tolist())


def test_the_same_seed_gives_the_same_interval_and_another_one_a_similar_one() -> None:
    values = np.random.default_rng(0).normal(size=300)
    figures, groups = {"mean": mean(values, np.ones(300, bool))}, np.arange(300).astype(str)
    first, again, other = (intervals(figures, groups, seed=seed)["mean"].ends() for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert other == pytest.approx(first, abs=0.02)


def test_intervals_of_independent_cases_are_those_of_the_textbook() -> None:
    values = np.random.default_rng(0).normal(size=400)
    low, high = intervals({"mean": mean(values, np.ones(400, bool))}, np.arange(400).astype(str))["mean"].ends() or (0, 0)
    half = 1.96 * values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.015)


def test_images_of_one_patient_widen_the_interval() -> None:
    values = np.repeat(np.random.default_rng(0).normal(size=50), 8)
    figures = {"mean": mean(values, np.ones(400, bool))}
    by_group = intervals(figures, np.repeat(np.arange(50), 8).astype(str))["mean"].ends() or [0, 0]
    by_image = intervals(figures, np.arange(400).astype(str))["mean"].ends() or [0, 0]
    assert (by_group[1] - by_group[0]) / (by_image[1] - by_image[0]) == pytest.approx(8**0.5, rel=0.1)


def test_intervals_over_groups_hold_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(7)
    held, held_by_image = 0, 0
    for _ in range(120):
        patients = rng.normal(size=60)
        groups = np.repeat(np.arange(60), rng.integers(1, 6, size=60))
        values = patients[groups] + 0.5 * rng.normal(size=len(groups))
        figures = {"mean": mean(values, np.ones(len(groups), bool))}
        for names, by_image in ((groups, False), (np.arange(len(groups)), True)):
            low, high = intervals(figures, names.astype(str))["mean"].ends() or (0, 0)
            held += (low <= 0 <= high) * (not by_image)
            held_by_image += (low <= 0 <= high) * by_image
    assert 0.88 <= held / 120 <= 0.99
    assert held_by_image / 120 < 0.85  # what is wrong with resampling images


def test_resamples_without_the_figure_are_left_out_and_counted() -> None:
    positive, score = np.array([True] * 3 + [False] * 9), np.linspace(0, 1, 12)
    found = intervals({"auroc": Area(positive, score, "auroc")}, np.arange(12).astype(str))["auroc"]
    assert 0 < found.n_undefined < 200
    assert found.ends() is None  # a lowest score each of the positives: every resample gives 0


def test_there_is_no_interval_where_too_many_resamples_lack_the_figure() -> None:
    rng = np.random.default_rng(0)
    positive = np.array([True] + [False] * 9)
    found = intervals({"auroc": Area(positive, rng.random(10), "auroc")}, np.arange(10).astype(str))["auroc"]
    assert found.ends() is None
    assert found.n_undefined == pytest.approx(2000 * 0.9**10, rel=0.1)


def test_a_rate_of_one_has_the_exact_interval_over_groups() -> None:
    right, groups = np.ones(20), np.repeat(np.arange(10), 2).astype(str)
    found = intervals({"accuracy": mean(right, np.ones(20, bool), is_rate=True)}, groups)["accuracy"].ends()
    exact = binomtest(10, 10).proportion_ci(method="exact")
    assert found == pytest.approx([exact.low, exact.high])
    assert extreme_rate_interval(0.0, 10) == pytest.approx((0, 1 - exact.low))


def test_a_mean_that_no_resample_changes_has_no_interval() -> None:
    assert intervals({"dice": mean(np.ones(5), np.ones(5, bool))}, np.arange(5).astype(str))["dice"].ends() is None


def test_no_cases_have_no_interval() -> None:
    assert intervals({"dice": mean(np.zeros(0), np.zeros(0, bool))}, np.zeros(0, str))["dice"].ends() is None


def test_all_undefined_is_no_interval() -> None:
    assert percentile_interval(np.full(10, np.nan)).n_undefined == 10


def test_few_groups_are_warned_of() -> None:
    assert few_groups_warnings({"all images": 20, "benign images": 20, "normal images": 0}) == []
    (said,) = few_groups_warnings({"all images": 30, "benign images": 23, "malignant images": 7})
    assert said.endswith("there are fewer than 20 groups: malignant images (7 groups).")
    (said,) = few_groups_warnings({"all images": 19, "benign images": 12, "malignant images": 7})
    assert said.endswith("fewer than 20 groups: all images (19 groups).")
