from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import mannwhitneyu
from sklearn import metrics as reference

from bcd.evaluation.cases import read_table
from bcd.evaluation.classified import classification_block, figures_of
from bcd.evaluation.segmentation import detection_figures, segmentation_figures, weighted_figures
from bcd.evaluation.subgroups import SIZE_NAMES, lesion_size, subgroups
from bcd.evaluation.summary import headline_figures, summarise
from bcd.evaluation.weighted import Froc, Median, evaluate, plain
from bcd.metrics import tables
from bcd.metrics.net_benefit import decision_curve, net_benefit
from bcd.metrics.ranking import Kind, Ranking

CLASSES = ["normal", "benign", "malignant"]


def area(kind: Kind, positive: np.ndarray, score: np.ndarray) -> float:
    return float(Ranking(positive, score).areas(np.ones((1, len(score))))[kind][0])


def made_up(n_groups: int = 60, seed: int = 0, classes: list[str] = CLASSES) -> pd.DataFrame:
    """Return cases of one to three images a group, with classes, outlines and ties among the probabilities."""
    rng = np.random.default_rng(seed)
    rows = []
    for group in range(n_groups):
        label = classes[group % len(classes)]
        for image in range(1 + group % 3):
            drawn = rng.dirichlet([0.6 + 1.2 * (name == label) for name in classes]).round(2)
            drawn[-1] = 1 - drawn[:-1].sum()
            lesion = 0 if label == "normal" else int(rng.integers(200, 9000))
            dice = float(rng.beta(6, 2)) * (group % 7 > 0)
            rows.append(
                {"case_id": f"{group}-{image}", "group": f"g{group}", "patient": f"p{group}", "label": label, "fold": 1 + group % 2}
                | {"height": 200, "width": 300, "lesion_area_px": lesion, "marked": group % 4 == 0}
                | {f"probability_{name}": float(value) for name, value in zip(classes, drawn, strict=True)}
                | {"predicted_label": classes[int(drawn.argmax())], "predicted_area_px": int(dice * 3000)}
                | {"dice": dice if lesion else np.nan, "iou": dice / (2 - dice) if lesion else np.nan}
                | {"hd95_px": 9 - dice if lesion else np.nan, "n_lesions": int(lesion > 0)}
                | {"n_lesions_found": int(lesion > 0 and dice > 0.5), "n_false_positive_lesions": int(dice < 0.4)}
                | {"meta.scanner": "AB"[group % 2], "meta.serial": f"s{group}"}
            )
    return pd.DataFrame(rows)


def detections_of(cases: pd.DataFrame) -> pd.DataFrame:
    rng, rows = np.random.default_rng(1), []
    for _, case in cases.iterrows():
        hits, false = case["n_lesions_found"], case["n_false_positive_lesions"]
        rows += [{"case_id": case["case_id"], "score": round(rng.uniform(0.5, 1), 2), "lesion": "1"}] * hits
        rows += [{"case_id": case["case_id"], "score": round(rng.uniform(0.5, 0.9), 2), "lesion": ""}] * false
    return pd.DataFrame(rows)


def test_figures_of_a_two_by_two_table_by_hand() -> None:
    figures = tables.TwoByTwo(tp=8, fp=3, fn=2, tn=7).figures()
    assert figures == pytest.approx(
        {"sensitivity": 0.8, "specificity": 0.7, "ppv": 8 / 11, "npv": 7 / 9, "accuracy": 0.75, "f1": 16 / 21}
    )


def test_a_rate_without_a_case_is_unknown_and_not_zero() -> None:
    figures = tables.TwoByTwo(tp=0, fp=0, fn=0, tn=5).figures()
    assert np.isnan([figures["sensitivity"], figures["ppv"], figures["f1"]]).all()
    assert (figures["specificity"], figures["npv"], figures["accuracy"]) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("n_classes", [2, 3, 5])
def test_figures_of_a_confusion_matrix_equal_those_of_scikit_learn(n_classes: int) -> None:
    rng = np.random.default_rng(n_classes)
    truth, predicted = rng.integers(n_classes, size=(2, 200))
    counts = tables.confusion(truth, predicted, n_classes)
    assert (counts == reference.confusion_matrix(truth, predicted)).all()
    assert tables.balanced_accuracy(counts) == pytest.approx(reference.balanced_accuracy_score(truth, predicted))
    assert tables.macro_f1(counts) == pytest.approx(reference.f1_score(truth, predicted, average="macro"))
    assert tables.mcc(counts) == pytest.approx(reference.matthews_corrcoef(truth, predicted))
    assert tables.kappa(counts) == pytest.approx(reference.cohen_kappa_score(truth, predicted))


def test_correlation_and_kappa_are_unknown_where_all_is_of_one_class() -> None:
    assert np.isnan(tables.mcc(np.array([[5, 2], [0, 0]])))
    assert np.isnan(tables.kappa(np.array([[5, 0], [0, 0]])))


def test_the_area_of_the_published_example_is_seven_ninths() -> None:
    positive = np.array([0, 0, 0, 1, 1, 1], bool)
    assert area("auroc", positive, np.array([0.21, 0.35, 0.63, 0.92, 0.32, 0.79])) == pytest.approx(7 / 9, abs=1e-15)


@pytest.mark.parametrize("decimals", [1, 2, 8])
def test_areas_equal_those_of_scikit_learn_and_of_the_rank_test_with_ties_and_without(decimals: int) -> None:
    rng = np.random.default_rng(decimals)
    positive = rng.random(150) < 0.3
    score = (rng.random(150) + 0.3 * positive).round(decimals)
    assert area("auroc", positive, score) == pytest.approx(reference.roc_auc_score(positive, score), abs=1e-12)
    assert area("auprc", positive, score) == pytest.approx(reference.average_precision_score(positive, score), abs=1e-12)
    wins = mannwhitneyu(score[positive], score[~positive]).statistic
    assert area("auroc", positive, score) == pytest.approx(wins / (positive.sum() * (~positive).sum()), abs=1e-12)


def test_weighted_areas_are_those_of_a_table_in_which_cases_stand_as_often_as_they_weigh() -> None:
    rng = np.random.default_rng(3)
    positive, score = rng.random(40) < 0.4, rng.random(40).round(1)
    weights = rng.integers(0, 4, size=(6, 40))
    areas = Ranking(positive, score).areas(weights)
    for row, counts in enumerate(weights):
        truth, repeated = np.repeat(positive, counts), np.repeat(score, counts)
        assert areas["auroc"][row] == pytest.approx(reference.roc_auc_score(truth, repeated), abs=1e-12)
        assert areas["auprc"][row] == pytest.approx(reference.average_precision_score(truth, repeated), abs=1e-12)


def test_areas_are_unknown_with_cases_of_one_kind_only() -> None:
    assert np.isnan(area("auroc", np.ones(3, bool), np.arange(3.0)))
    assert np.isnan(area("auprc", np.zeros(3, bool), np.arange(3.0)))


def test_scores_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="1 of 2 scores are not finite"):
        area("auroc", np.array([True, False]), np.array([np.nan, 0.5]))


def test_net_benefit_of_the_published_examples() -> None:
    assert net_benefit(30, 75, 105, 1 / 9) == pytest.approx(0.206, abs=5e-4)
    assert net_benefit(20, 60, 105, 1 / 9) == pytest.approx(0.127, abs=5e-4)


def test_a_decision_curve_is_the_net_benefit_at_each_threshold() -> None:
    rng = np.random.default_rng(0)
    positive = rng.random(80) < 0.4
    probability = np.clip(0.3 * positive + 0.7 * rng.random(80), 0, 1)
    curve = decision_curve(positive, probability, np.array([0.1, 0.5]))
    for place, threshold in enumerate((0.1, 0.5)):
        called = probability >= threshold
        by_hand = net_benefit((called & positive).sum(), (called & ~positive).sum(), 80, threshold / (1 - threshold))
        assert curve["model"][place] == pytest.approx(by_hand)
        everyone = net_benefit(positive.sum(), (~positive).sum(), 80, threshold / (1 - threshold))
        assert curve["treat_all"][place] == pytest.approx(everyone)
    with pytest.raises(ValueError, match="positive and negative"):
        decision_curve(np.ones(3, bool), np.ones(3), np.array([0.5]))


@pytest.mark.parametrize("classes", [CLASSES, CLASSES[1:]])
def test_headline_figures_of_cases_csv_are_those_that_scikit_learn_finds_in_it(tmp_path: Path, classes: list[str]) -> None:
    made_up(classes=classes).to_csv(tmp_path / "cases.csv", index=False)
    cases = read_table(tmp_path / "cases.csv")
    test = summarise(cases, classes)
    plain_table = pd.read_csv(tmp_path / "cases.csv")
    lesions = plain_table[plain_table["lesion_area_px"] > 0]
    assert test["lesion_images"]["dice"] == pytest.approx(lesions["dice"].mean(), abs=1e-12)
    assert test["lesion_images"]["dice_median"] == lesions["dice"].median()
    truth, predicted = plain_table["label"], plain_table["predicted_label"]
    probability = plain_table[[f"probability_{name}" for name in classes]].to_numpy()
    onehot = np.stack([truth == name for name in classes], axis=1)
    assert test["accuracy"] == reference.accuracy_score(truth, predicted)
    assert test["balanced_accuracy"] == pytest.approx(reference.balanced_accuracy_score(truth, predicted))
    assert test["f1"] == pytest.approx(reference.f1_score(truth, predicted, average="macro"))
    assert test["mcc"] == pytest.approx(reference.matthews_corrcoef(truth, predicted))
    assert test["kappa"] == pytest.approx(reference.cohen_kappa_score(truth, predicted))
    assert test["auroc"] == pytest.approx(reference.roc_auc_score(onehot, probability, average="macro"))
    assert test["auprc"] == pytest.approx(reference.average_precision_score(onehot, probability, average="macro"))
    brier = ((probability - onehot) ** 2).sum(1).mean()
    if len(classes) == 2:
        brier = reference.brier_score_loss(truth == "malignant", plain_table["probability_malignant"])
    assert test["brier"] == pytest.approx(brier)
    for number, name in enumerate(classes):
        of_class = test["by_class"][name]
        assert of_class["auroc"] == pytest.approx(reference.roc_auc_score(truth == name, probability[:, number]))
        assert of_class["sensitivity"] == pytest.approx(reference.recall_score(truth == name, predicted == name))
        assert of_class["specificity"] == pytest.approx(reference.recall_score(truth != name, predicted != name))
        assert of_class["ppv"] == pytest.approx(reference.precision_score(truth == name, predicted == name))
        assert of_class["npv"] == pytest.approx(reference.precision_score(truth != name, predicted != name))


def test_every_figure_as_a_function_of_weights_is_the_figure_of_the_table() -> None:
    cases = made_up()
    detections = detections_of(cases)
    test = summarise(cases, CLASSES, detections=detections)
    for path, value in plain(headline_figures(cases, CLASSES, None, detections), len(cases)).items():
        found = test
        for name in path.split("."):
            found = found[name]
        assert value == pytest.approx(found, abs=1e-12), path


def test_every_figure_under_weights_is_that_of_a_table_in_which_cases_stand_as_often() -> None:
    cases = made_up(30)
    detections = detections_of(cases)
    weights = np.random.default_rng(2).integers(0, 3, size=(4, len(cases)))
    found = evaluate(headline_figures(cases, CLASSES, None, detections), weights)
    for row, counts in enumerate(weights):
        repeated = cases.loc[cases.index.repeat(counts)]
        assert found["ece"][row] == pytest.approx(classification_block(repeated, CLASSES)["ece"], abs=1e-12)
        for path, value in plain(figures_of(repeated, CLASSES), len(repeated)).items():
            assert found[path][row] == pytest.approx(np.nan if value is None else value, abs=1e-12, nan_ok=True), path
        outlines = segmentation_figures(repeated, CLASSES)
        assert found["lesion_images.dice_median"][row] == pytest.approx(outlines["lesion_images"]["dice_median"], abs=1e-12)
        assert found["lesion_images.dice_pooled"][row] == pytest.approx(outlines["lesion_images"]["dice_pooled"], abs=1e-12)
        often = dict(zip(cases["case_id"], counts, strict=True))
        objects = detection_figures(repeated, detections.loc[detections.index.repeat(detections["case_id"].map(often))])
        for name in ("sensitivity", "false_positives_per_image", "froc_average"):
            assert found[f"detection.{name}"][row] == pytest.approx(objects[name], abs=1e-12), name


def test_the_median_under_weights_of_nothing_is_unknown() -> None:
    assert np.isnan(evaluate({"median": Median(np.array([1.0, np.nan]))}, np.array([[0, 1]]))["median"][0])
    assert np.isnan(evaluate({"median": Median(np.array([np.nan]))}, np.array([[1]]))["median"][0])


def test_a_froc_average_without_lesions_is_unknown() -> None:
    nothing = Froc(np.zeros(0), np.zeros(0, bool), np.zeros(0, int), np.zeros(2))
    assert np.isnan(evaluate({"froc": nothing}, np.ones((1, 2)))["froc"][0])


def test_a_label_outside_the_classes_is_refused_by_name() -> None:
    cases = made_up(6)
    cases.loc[2, "label"] = "cyst"
    with pytest.raises(
        ValueError, match=r"1-1: the label 'cyst' is none of the classes normal, benign, malignant \(1 such cases\)"
    ):
        summarise(cases, CLASSES)


def test_a_task_lacks_the_blocks_of_the_other() -> None:
    cases = made_up()
    classes_alone = summarise(cases.drop(columns=["dice", "iou", "hd95_px", "predicted_area_px", "n_lesions"]), CLASSES)
    assert "lesion_images" not in classes_alone
    assert not [path for path in classes_alone["intervals"] if path.startswith(("lesion", "detection"))]
    outlines = cases.drop(columns=[name for name in cases if str(name).startswith(("probability", "predicted_label"))])
    outlines_alone = summarise(outlines, CLASSES)
    assert not {"auroc", "by_class", "patient_level", "operating_points"} & set(outlines_alone)
    assert set(outlines_alone["folds"][0]) == {"fold", "n_cases", "n_groups", "dice", "iou"}


def test_figures_of_folds_and_their_spread() -> None:
    cases = made_up()
    test = summarise(cases, CLASSES)
    alone = [summarise(cases[cases["fold"] == fold], CLASSES) for fold in (1, 2)]
    assert [fold["auroc"] for fold in test["folds"]] == [one["auroc"] for one in alone]
    assert test["mean_over_folds"]["auroc"]["mean"] == pytest.approx((alone[0]["auroc"] + alone[1]["auroc"]) / 2)
    assert test["mean_over_folds"]["dice"]["sd"] == pytest.approx(np.std([one["dice"] for one in alone], ddof=1))
    assert "mean_over_folds" not in alone[0]


def test_subgroups_are_by_class_size_marks_and_what_the_data_know() -> None:
    cases = made_up()
    parts = subgroups(cases, CLASSES, "malignant")
    assert {part["by"] for part in parts} == {
        "label",
        "lesion_size",
        "marked",
        "meta.scanner",
    }  # a serial number divides too finely
    part = next(part for part in parts if part["value"] == "A")
    own = cases[cases["meta.scanner"] == "A"]
    assert (part["n"], part["n_groups"]) == (len(own), own["group"].nunique())
    assert part["figures"]["auroc"] == pytest.approx(
        area("auroc", (own["label"] == "malignant").to_numpy(), own["probability_malignant"].to_numpy())
    )
    low, high = part["intervals"]["auroc"]
    assert low < part["figures"]["auroc"] < high
    benign = next(part for part in parts if part["value"] == "benign")
    assert "auroc" not in benign["figures"]
    assert "sensitivity" not in benign["figures"]


def test_small_parts_are_left_out() -> None:
    cases = made_up()
    cases["meta.side"] = ["left"] * 4 + ["right"] * (len(cases) - 4)
    values = [part["value"] for part in subgroups(cases, CLASSES, None) if part["by"] == "meta.side"]
    assert values == ["right"]


def test_sizes_of_lesions_are_shares_of_the_image() -> None:
    cases = pd.DataFrame({"lesion_area_px": [0, 299, 300, 999, 1000], "height": 100, "width": 100})
    assert lesion_size(cases).tolist() == ["", SIZE_NAMES[0], SIZE_NAMES[1], SIZE_NAMES[1], SIZE_NAMES[2]]


def test_outlines_without_lesion_free_images_have_no_figure_of_them() -> None:
    cases = made_up(classes=CLASSES[1:])
    assert not [path for path in weighted_figures(cases, CLASSES) if path.startswith("lesion_free")]
