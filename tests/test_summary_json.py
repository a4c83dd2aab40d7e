import json
import math

import numpy as np
import pandas as pd
import pytest

from bcd.evaluation.cases import CaseTruth, score_case, to_frame
from bcd.runs.testing.results import pixel_counts, summary_json


def _row(case_id: str, true: np.ndarray, predicted: np.ndarray) -> dict[str, object]:
    return score_case(
        CaseTruth(case_id, group=case_id, label="benign", mask=true),
        probability=predicted.astype(np.float32),
        threshold=0.5,
        classes=None,
        class_names=["benign"],
        guide_is_empty=None,
    ).row


def _random_pairs(count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    shapes = rng.integers(3, 60, (count, 2))
    shares = rng.choice([0.0, 0.001, 0.3, 1.0], (count, 2))
    return [(rng.random(shape) < share[0], rng.random(shape) < share[1]) for shape, share in zip(shapes, shares, strict=True)]


def test_pixel_counts_come_back_exactly_from_a_table_and_from_its_csv(tmp_path: object) -> None:
    pairs = _random_pairs(200)
    table = to_frame([_row(str(number), true, predicted) for number, (true, predicted) in enumerate(pairs)])
    path = f"{tmp_path}/cases.csv"
    table.to_csv(path, index=False)
    for cases in (table, pd.read_csv(path)):
        counts = pixel_counts(cases)
        for (true, predicted), row in zip(pairs, counts.to_dict("records"), strict=True):
            assert row == {
                "TP": (true & predicted).sum(),
                "FP": (~true & predicted).sum(),
                "FN": (true & ~predicted).sum(),
                "TN": (~true & ~predicted).sum(),
                "n_pred": predicted.sum(),
                "n_ref": true.sum(),
            }


def _mask(pixels: int) -> np.ndarray:
    return np.arange(12).reshape(3, 4) < pixels


def test_the_file_has_the_shape_and_the_figures_of_nnunet() -> None:
    table = to_frame([_row("a", _mask(4), _mask(2)), _row("b", _mask(4), _mask(4))])
    content = json.loads(summary_json(table))
    assert set(content) == {"foreground_mean", "mean", "metric_per_case"}
    first, second = content["metric_per_case"]
    assert first == {
        "metrics": {"1": {"Dice": 4 / 6, "IoU": 0.5, "TP": 2, "FP": 0, "FN": 2, "TN": 8, "n_pred": 2, "n_ref": 4}},
        "prediction_file": "a",
        "reference_file": "a",
    }
    assert second["metrics"]["1"]["Dice"] == second["metrics"]["1"]["IoU"] == 1
    assert content["mean"] == {"1": content["foreground_mean"]}
    assert content["foreground_mean"]["Dice"] == pytest.approx((4 / 6 + 1) / 2)
    assert content["foreground_mean"]["TP"] == 3
    assert isinstance(first["metrics"]["1"]["TP"], int)


def test_without_a_lesion_an_outline_counts_zero_and_none_is_no_number_as_with_nnunet() -> None:
    table = to_frame([_row("lesion", _mask(4), _mask(4)), _row("clean", _mask(0), _mask(0)), _row("alarm", _mask(0), _mask(3))])
    text = summary_json(table)
    assert '"Dice": NaN' in text
    content = json.loads(text)
    clean, alarm = (content["metric_per_case"][number]["metrics"]["1"] for number in (1, 2))
    assert math.isnan(clean["Dice"])
    assert math.isnan(clean["IoU"])
    assert clean["TN"] == 12
    assert (alarm["Dice"], alarm["FP"]) == (0, 3)
    assert content["foreground_mean"]["Dice"] == 0.5


def test_a_mean_of_no_number_is_no_number() -> None:
    content = json.loads(summary_json(to_frame([_row("clean", _mask(0), _mask(0))])))
    assert math.isnan(content["mean"]["1"]["Dice"])
