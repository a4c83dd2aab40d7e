import numpy as np
import pandas as pd
import pytest
from test_classification_figures import CLASSES, made_up

from bcd.evaluation.patients import join_patients
from bcd.evaluation.summary import summarise


def _cases() -> pd.DataFrame:
    rows = [
        ("a1", "p1", "benign", 0.0, 0.8, 0.2),
        ("a2", "p1", "malignant", 0.2, 0.2, 0.6),
        ("b1", "p2", "benign", 0.5, 0.5, 0.0),
        ("b2", "p2", "normal", 0.5, 0.5, 0.0),
        ("c1", "", "normal", 1.0, 0.0, 0.0),
    ]
    columns = ["case_id", "patient", "label", *(f"probability_{name}" for name in CLASSES)]
    return pd.DataFrame(rows, columns=columns).assign(group=["g1", "g1", "g2", "g2", "g3"], fold=1, predicted_label="benign")


def test_the_mean_of_a_patients_images() -> None:
    joined = join_patients(_cases(), CLASSES, "malignant", "mean")
    assert joined["patient"].tolist() == ["p1", "p2"]
    assert joined["group"].tolist() == ["g1", "g2"]
    assert joined["n_images"].tolist() == [2, 2]
    assert joined[[f"probability_{name}" for name in CLASSES]].to_numpy() == pytest.approx(
        np.array([[0.1, 0.5, 0.4], [0.5, 0.5, 0.0]])
    )
    assert joined["predicted_label"].tolist() == ["benign", "normal"]


def test_the_most_suspicious_image_of_a_patient() -> None:
    joined = join_patients(_cases(), CLASSES, "malignant", "max")
    expected = np.array([[0.4 / 6, 0.4 * 5 / 6, 0.6], [0.5, 0.5, 0.0]])
    assert joined[[f"probability_{name}" for name in CLASSES]].to_numpy() == pytest.approx(expected)


def test_a_patient_is_positive_with_one_positive_image_and_else_goes_by_most_images() -> None:
    joined = join_patients(_cases(), CLASSES, "malignant", "mean")
    assert joined["label"].tolist() == ["malignant", "benign"]  # of one normal and one benign image, the later class


def test_images_of_unknown_patients_are_left_out() -> None:
    assert "" not in set(join_patients(_cases(), CLASSES, "malignant", "mean")["patient"])
    test = summarise(_cases().assign(patient="", lesion_area_px=1), CLASSES)
    assert "patient_level" not in test


def test_a_certain_patient_stays_certain() -> None:
    sure = pd.DataFrame(
        {"patient": ["p"], "group": "g", "label": "malignant", "probability_benign": 0.0, "probability_malignant": 1.0}
    )
    joined = join_patients(sure, ["benign", "malignant"], "malignant", "max")
    assert joined[["probability_benign", "probability_malignant"]].to_numpy().tolist() == [[0.0, 1.0]]


def test_another_way_is_refused() -> None:
    with pytest.raises(ValueError, match="way=median: images are joined by one of mean, max"):
        join_patients(_cases(), CLASSES, "malignant", "median")


def test_every_classification_figure_exists_at_the_level_of_patients() -> None:
    cases, validation = made_up(seed=2), made_up(seed=1)
    test = summarise(cases, CLASSES, validation=validation)
    for way in ("mean", "max"):
        block = test["patient_level"][way]
        assert (block["n"], block["n_images"]) == (60, len(cases))
        assert block["thresholds_chosen_on"] == "patients"
        shared = {"auroc", "auprc", "accuracy", "mcc", "kappa", "brier", "ece", "by_class", "operating_points", "calibration"}
        assert shared <= set(block)
        alone = summarise(join_patients(cases, CLASSES, "malignant", way).assign(lesion_area_px=1), CLASSES)
        assert block["auroc"] == alone["auroc"]
        low, high = test["intervals"][f"patient_level.{way}.auroc"]
        assert low < block["auroc"] < high


def test_one_image_a_patient_gives_the_figures_of_images() -> None:
    cases = made_up().drop_duplicates("patient")
    test = summarise(cases, CLASSES)
    for way in ("mean", "max"):
        assert test["patient_level"][way]["auroc"] == pytest.approx(test["auroc"], abs=0.02)
    assert test["patient_level"]["mean"]["accuracy"] == test["accuracy"]
