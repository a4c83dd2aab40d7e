import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_curve
from test_classification_figures import CLASSES, made_up

from bcd.evaluation.conformal import abstention_curve, conformal_quantile, conformal_sets, conformal_summary
from bcd.evaluation.decisions import Decisions
from bcd.evaluation.summary import summarise
from bcd.evaluation.validation import (
    calibrated,
    called_positive,
    choose_thresholds,
    fit_by_fold,
    fit_decisions,
    halves,
    pooled,
)
from bcd.metrics.calibration import scale


def _scores(n: int = 120, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    positive = rng.random(n) < 0.4
    return positive, np.clip(0.25 * positive + 0.75 * rng.random(n), 0, 1).round(2)


def test_thresholds_by_hand() -> None:
    positive = np.array([False] * 4 + [True] * 20)
    probability = np.array([0.1, 0.2, 0.3, 0.55, *np.linspace(0.3, 0.68, 20)])
    thresholds, notes = choose_thresholds(positive, probability)
    assert notes == []
    assert thresholds["0.5"] == 0.5
    assert thresholds["sensitivity>=0.95"] == pytest.approx(0.32)  # 19 of 20 reach it
    assert thresholds["sensitivity>=0.90"] == pytest.approx(0.34)


def test_youden_is_where_the_roc_curve_is_furthest_from_chance() -> None:
    positive, probability = _scores()
    false, true, limits = roc_curve(positive, probability, drop_intermediate=False)
    chosen = choose_thresholds(positive, probability)[0]["youden"]
    assert (true - false)[limits == chosen][0] == pytest.approx((true - false).max())


@pytest.mark.parametrize("seed", range(4))
def test_a_wanted_sensitivity_is_reached_with_the_best_specificity_there_is(seed: int) -> None:
    positive, probability = _scores(seed=seed)
    for wanted in (0.90, 0.95):
        limit = choose_thresholds(positive, probability)[0][f"sensitivity>={wanted:.2f}"] or 0
        assert (probability[positive] >= limit).mean() >= wanted
        higher = np.unique(probability[probability > limit])[0]
        assert (probability[positive] >= higher).mean() < wanted


def test_without_positive_validation_cases_there_is_the_default_threshold_alone() -> None:
    thresholds, notes = choose_thresholds(np.zeros(5, bool), np.linspace(0, 1, 5))
    assert thresholds == {"0.5": 0.5, "youden": None, "sensitivity>=0.90": None, "sensitivity>=0.95": None}
    assert notes == ["no thresholds: 0 of 5 validation cases are positive"]


def test_halves_are_disjoint_in_groups() -> None:
    groups = np.repeat(np.arange(11), 3)
    first = halves(groups, 0)
    assert not set(groups[first]) & set(groups[~first])
    assert len(set(groups[first])) == 6
    assert (halves(groups, 1) != first).any()


def test_decisions_survive_json() -> None:
    decisions = fit_decisions(made_up(), CLASSES)
    assert Decisions.from_dict(json.loads(json.dumps(decisions.to_dict()))) == decisions
    with pytest.raises(ValueError, match="no decisions: thresholds is missing"):
        Decisions.from_dict({"positive": "malignant"})


def test_decisions_do_not_depend_on_the_order_of_the_rows() -> None:
    cases = made_up()
    assert fit_decisions(cases, CLASSES) == fit_decisions(cases.iloc[::-1].reset_index(drop=True), CLASSES)


def test_the_positive_class_is_malignant_or_the_one_asked_for() -> None:
    assert fit_decisions(made_up(), CLASSES).positive == "malignant"
    assert fit_decisions(made_up(), CLASSES, "benign").positive == "benign"
    with pytest.raises(ValueError, match="positive=cyst is none of the classes"):
        fit_decisions(made_up(), CLASSES, "cyst")


def test_each_row_goes_by_the_model_of_its_fold() -> None:
    cases = pd.DataFrame({"fold": [1, 2, 1], "probability_benign": [0.6, 0.6, 0.3], "probability_malignant": [0.4, 0.4, 0.7]})
    decisions = {
        1: Decisions(positive="malignant", thresholds={"youden": 0.5}),
        2: Decisions(positive="malignant", thresholds={"youden": 0.3}, temperature=4.0),
    }
    called = called_positive(cases, "youden", decisions)
    assert called is not None
    assert called.tolist() == [False, True, True]
    after = calibrated(cases, ["benign", "malignant"], decisions)
    assert after[[0, 2]] == pytest.approx(cases[["probability_benign", "probability_malignant"]].to_numpy()[[0, 2]])
    assert after[1] == pytest.approx(scale(np.array([[0.6, 0.4]]), 4.0)[0])


def test_pooled_thresholds_are_for_calibrated_probabilities() -> None:
    validation = made_up(120)
    decisions = {
        fold: Decisions(positive="malignant", thresholds={"0.5": 0.5}, temperature=1 + fold / 2)
        for fold in map(int, validation["fold"].unique())
    }
    found = pooled(validation, CLASSES, decisions)
    scaled = calibrated(validation, CLASSES, decisions)[:, CLASSES.index("malignant")]
    expected, _ = choose_thresholds((validation["label"] == "malignant").to_numpy(), scaled)
    assert found.thresholds == expected
    assert (
        found.thresholds
        != choose_thresholds((validation["label"] == "malignant").to_numpy(), validation["probability_malignant"])[0]
    )
    assert (found.temperature, found.positive) == (1.0, "malignant")
    assert found.conformal is not None
    with pytest.raises(ValueError, match="Nothing was decided"):
        pooled(validation, CLASSES, {})


def test_a_fold_without_decisions_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Nothing was decided on validation for fold 2; known: \[1\]"):
        summarise(made_up(), CLASSES, decisions={1: fit_decisions(made_up(), CLASSES)})


def test_test_data_choose_nothing() -> None:
    validation, cases = made_up(seed=1), made_up(seed=2)
    points = summarise(cases, CLASSES, validation=validation)["operating_points"]
    other = summarise(cases.iloc[:40], CLASSES, validation=validation)["operating_points"]
    assert [point["thresholds"] for point in points] == [point["thresholds"] for point in other]


def test_operating_points_have_their_table_on_test_with_intervals() -> None:
    validation, cases = made_up(seed=1), made_up(seed=2)
    test = summarise(cases, CLASSES, validation=validation)
    decisions = fit_by_fold(validation, CLASSES)
    assert [point["name"] for point in test["operating_points"]] == ["0.5", "youden", "sensitivity>=0.90", "sensitivity>=0.95"]
    for point in test["operating_points"]:
        assert point["thresholds"] == {str(fold): one.thresholds[point["name"]] for fold, one in decisions.items()}
        limit = cases["fold"].map({fold: one.thresholds[point["name"]] for fold, one in decisions.items()})
        called, positive = cases["probability_malignant"] >= limit, cases["label"] == "malignant"
        assert (point["tp"], point["fp"]) == ((called & positive).sum(), (called & ~positive).sum())
        assert point["tp"] + point["fp"] + point["fn"] + point["tn"] == point["n"] == len(cases)
        assert point["sensitivity"] == pytest.approx((called & positive).sum() / positive.sum())
        low, high = point["intervals"]["specificity"]
        assert low <= point["specificity"] <= high


def test_an_operating_point_that_a_fold_could_not_choose_has_no_figures() -> None:
    validation, cases = made_up(seed=1), made_up(seed=2)
    without = validation[(validation["fold"] == 1) | (validation["label"] != "malignant")]
    points = summarise(cases, CLASSES, validation=without)["operating_points"]
    assert points[0]["n"] == len(cases)
    assert points[1]["thresholds"]["2"] is None
    assert (points[1]["n"], points[1]["sensitivity"]) == (0, None)


def test_calibration_is_given_before_and_after() -> None:
    test = summarise(made_up(200, seed=2), CLASSES, validation=made_up(200, seed=1))
    block = test["calibration"]
    assert (block["before"]["brier"], block["before"]["ece"]) == (test["brier"], test["ece"])
    assert block["after"]["brier"] < block["before"]["brier"] + 0.01
    assert set(block["temperature"]) == {"1", "2"}
    assert sum(one["n"] for one in block["after"]["reliability"]) == test["n_cases"]
    assert "calibration.after.ece" in test["intervals"]


def test_the_whole_of_it_is_plain_json_without_nan() -> None:
    cases = made_up(seed=2)
    cases.loc[cases["label"] == "malignant", "label"] = "benign"  # so that much is undefined
    test = summarise(cases, CLASSES, validation=made_up(seed=1))
    json.dumps(test, allow_nan=False)
    assert (test["auroc"], test["by_class"]["malignant"]["sensitivity"]) == (None, None)
    assert "decision_curve" not in test


def test_conformal_quantile_by_hand() -> None:
    probabilities = np.stack([np.arange(19) / 20, 1 - np.arange(19) / 20], axis=1)
    assert conformal_quantile(probabilities, np.zeros(19, int)) == pytest.approx(0.95)  # the 18th of 19 scores
    assert conformal_quantile(probabilities[:9], np.zeros(9, int)) == pytest.approx(1.0)
    assert conformal_quantile(probabilities[:8], np.zeros(8, int)) is None


def test_conformal_sets_hold_the_truth_as_often_as_asked() -> None:
    rng, covered = np.random.default_rng(0), []
    for _ in range(60):
        logits = rng.normal(size=(400, 3))
        probabilities = scale(np.exp(logits) / np.exp(logits).sum(1, keepdims=True), 0.5)  # too sure, which must not matter
        truth = np.array([rng.choice(3, p=np.exp(row) / np.exp(row).sum()) for row in logits])
        quantile = conformal_quantile(probabilities[:200], truth[:200])
        sets = conformal_sets(probabilities[200:], np.full(200, quantile))
        covered.append(conformal_summary(sets, truth[200:])["empirical_coverage"])
    assert np.mean(covered) == pytest.approx(0.9, abs=0.015)


def test_without_a_quantile_every_class_is_in_the_set() -> None:
    sets = conformal_sets(np.array([[0.9, 0.1]]), np.array([np.inf]))
    summary = conformal_summary(sets, np.array([1]))
    assert (summary["empirical_coverage"], summary["mean_set_size"], summary["accuracy_of_single"]) == (1.0, 2.0, None)
    few = made_up(8)
    assert summarise(made_up(), CLASSES, validation=few)["conformal"]["folds_without_quantile"] == ["1", "2"]


def test_the_surest_cases_come_first_when_abstaining() -> None:
    probabilities = np.stack([np.linspace(0.5, 1, 20), np.linspace(0.5, 0, 20)], axis=1)
    truth = np.array([1] * 10 + [0] * 10)
    curve = abstention_curve(probabilities, truth)
    by_coverage = dict(zip(curve["coverage"], curve["accuracy"], strict=True))
    assert (by_coverage[1.0], by_coverage[0.5], by_coverage[0.05]) == (0.5, 1.0, 1.0)
    assert by_coverage[0.75] == pytest.approx(10 / 15)


def test_cases_that_are_as_sure_as_each_other_count_by_their_mean() -> None:
    curve = abstention_curve(np.tile([0.6, 0.4], (10, 1)), np.array([0] * 5 + [1] * 5))
    assert curve["accuracy"] == pytest.approx([0.5] * len(curve["accuracy"]))
