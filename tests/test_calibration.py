import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from bcd.evaluation.classification import calibration_error
from bcd.metrics.calibration import (
    BINS,
    bin_numbers,
    brier_per_case,
    claims,
    fit_temperature,
    reliability,
    scale,
)


def _drawn(n: int = 400, n_classes: int = 3, sharpness: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities that are `sharpness` times as sure as they should be, and truths drawn from the right ones."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, n_classes)) * 1.5
    truth = np.array([rng.choice(n_classes, p=row) for row in softmax(logits, axis=1)])
    return softmax(logits * sharpness, axis=1), truth


def test_brier_of_two_classes_is_that_of_the_positive_one() -> None:
    probabilities, truth = _drawn(n_classes=2)
    assert brier_per_case(probabilities, truth, 1).mean() == pytest.approx(brier_score_loss(truth, probabilities[:, 1]))
    assert brier_per_case(probabilities, truth, 0).mean() == pytest.approx(brier_score_loss(truth, probabilities[:, 1]))


def test_brier_of_three_classes_adds_up_over_them_by_hand() -> None:
    probabilities = np.array([[0.5, 0.3, 0.2], [0.0, 0.0, 1.0]])
    assert brier_per_case(probabilities, np.array([0, 1]), 2) == pytest.approx([0.25 + 0.09 + 0.04, 2.0])


def _error(probability: np.ndarray, event: np.ndarray) -> float:
    figure = calibration_error(probability, event)
    return float(figure.finish(figure.columns.sum(0)))


def test_calibration_error_by_hand() -> None:
    probability = np.array([0.01, 0.02, 0.99, 1.0])
    event = np.array([False, True, True, True])
    by_hand = (2 * abs(0.015 - 0.5) + 2 * abs(0.995 - 1)) / 4
    assert _error(probability, event) == pytest.approx(by_hand)
    assert np.isnan(_error(probability[:0], event[:0]))


def test_a_bin_has_its_lower_end_and_the_last_one_both() -> None:
    edges = np.array([number / BINS for number in range(BINS + 1)])
    assert bin_numbers(edges).tolist() == [*range(BINS), BINS - 1]
    assert bin_numbers(np.nextafter(edges[1:], 0)).tolist() == list(range(BINS))


def test_the_reliability_curve_is_that_of_scikit_learn() -> None:
    probabilities, truth = _drawn(n_classes=2)
    bins = [one for one in reliability(probabilities[:, 1], truth == 1) if one.n]
    observed, mean = calibration_curve(truth, probabilities[:, 1], n_bins=BINS)
    assert [one.observed for one in bins] == pytest.approx(observed)
    assert [one.mean_probability for one in bins] == pytest.approx(mean)
    by_bins = sum(one.n * abs((one.mean_probability or 0) - (one.observed or 0)) for one in bins) / len(truth)
    assert _error(probabilities[:, 1], truth == 1) == pytest.approx(by_bins)


def test_an_empty_bin_has_no_mean() -> None:
    first = reliability(np.array([0.99]), np.array([True]))[0]
    assert (first.n, first.mean_probability, first.observed) == (0, None, None)


def test_the_error_under_weights_is_that_of_repeated_cases() -> None:
    probability, event = claims(*_drawn(), 0)
    weights = np.arange(len(event)) % 3
    weighted = calibration_error(probability, event)
    repeated = _error(np.repeat(probability, weights), np.repeat(event, weights))
    assert weighted.finish(weights @ weighted.columns) == pytest.approx(repeated)


def test_of_three_classes_the_predicted_one_is_claimed() -> None:
    probability, event = claims(np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]), np.array([1, 2]), 0)
    assert probability.tolist() == [0.5, 0.8]
    assert event.tolist() == [False, True]


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("sharpness", [0.5, 3.0])
def test_the_temperature_undoes_what_made_the_probabilities_too_sure(n_classes: int, sharpness: float) -> None:
    probabilities, truth = _drawn(4000, n_classes, sharpness)
    temperature, note = fit_temperature(probabilities, truth)
    assert note == ""
    assert temperature == pytest.approx(sharpness, rel=0.1)
    after = scale(probabilities, temperature)
    assert log_loss(truth, after) < log_loss(truth, probabilities)
    before, now = (_error(*claims(values, truth, 1)) for values in (probabilities, after))
    assert now < before / 2


def test_the_temperature_is_the_one_that_a_general_minimiser_finds() -> None:
    probabilities, truth = _drawn(300, 3, 2.0)
    logits = np.log(probabilities)
    loss = lambda t: -log_softmax(logits / t[0], axis=1)[np.arange(300), truth].mean()  # noqa: E731
    found = minimize(loss, [1.0], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-12})
    assert fit_temperature(probabilities, truth)[0] == pytest.approx(found.x[0], rel=1e-4)


def test_temperature_one_changes_nothing_and_a_high_one_makes_all_alike() -> None:
    probabilities, _ = _drawn(5)
    assert scale(probabilities, 1.0) == pytest.approx(probabilities)
    assert scale(probabilities, 1e6) == pytest.approx(np.full((5, 3), 1 / 3), abs=1e-4)
    assert scale(np.array([[0.0, 1.0]]), np.array([2.0]))[0] == pytest.approx([0.000316, 0.999684], abs=1e-6)


def test_validation_that_cannot_tell_leaves_the_probabilities_as_they_are_and_says_so() -> None:
    right = np.array([[0.9, 0.1], [0.2, 0.8]])
    for truth, words in (([0, 0], "of 1 class"), ([0, 1], "no highest point"), ([1, 0], "no highest point")):
        temperature, note = fit_temperature(right, np.array(truth))
        assert temperature == 1.0
        assert words in note
    assert "0 validation cases" in fit_temperature(right[:0], np.zeros(0, int))[1]
