import numpy as np
import pandas as pd
import pytest
import torch

from bcd.evaluation.cases import CaseTruth, score_case, to_frame
from bcd.evaluation.summary import summarise
from bcd.metrics.training import FalsePositiveRate, LesionDice, LesionIoU, dice_per_image, iou_per_image
from bcd.reports.overlays import choose_extremes

TOP_ROW = torch.tensor([[[[1, 1], [0, 0]]]])
LEFT_COLUMN = torch.tensor([[[[1, 0], [1, 0]]]])
EMPTY = torch.zeros(1, 1, 2, 2, dtype=torch.long)


def test_dice_and_iou_of_half_overlap() -> None:
    assert dice_per_image(LEFT_COLUMN, TOP_ROW).item() == pytest.approx(0.5)
    assert iou_per_image(LEFT_COLUMN, TOP_ROW).item() == pytest.approx(1 / 3)


def test_a_missed_lesion_counts_zero_in_the_mean() -> None:
    metric = LesionDice()
    metric.update(torch.cat([TOP_ROW, EMPTY]), torch.cat([TOP_ROW, TOP_ROW]))
    assert metric.compute().item() == pytest.approx(0.5)


def test_lesion_free_images_do_not_enter_dice_and_iou() -> None:
    for metric in (LesionDice(), LesionIoU()):
        metric.update(torch.cat([TOP_ROW, TOP_ROW]), torch.cat([TOP_ROW, EMPTY]))
        assert metric.compute().item() == 1.0


def test_false_positive_rate_counts_lesion_free_images_alone() -> None:
    metric = FalsePositiveRate()
    metric.update(torch.cat([TOP_ROW, EMPTY, LEFT_COLUMN]), torch.cat([EMPTY, EMPTY, TOP_ROW]))
    assert metric.compute().item() == 0.5


def test_batches_of_different_sizes_weigh_every_image_alike() -> None:
    metric = LesionDice()
    metric.update(torch.cat([TOP_ROW, TOP_ROW, TOP_ROW]), torch.cat([TOP_ROW, TOP_ROW, TOP_ROW]))
    metric.update(EMPTY, TOP_ROW)
    assert metric.compute().item() == pytest.approx(0.75)


def _row(case_id: str, label: str, truth: list[list[int]], probability: list[list[float]]) -> dict[str, object]:
    return score_case(
        CaseTruth(case_id, group=case_id, label=label, mask=np.array(truth, bool)),
        probability=np.array(probability, np.float32),
        threshold=0.5,
        classes=None,
        class_names=["normal", "benign"],
        guide_is_empty=None,
    ).row


def test_a_table_of_scored_cases_gives_lesion_and_lesion_free_figures_apart() -> None:
    table = to_frame(
        [
            _row("half", "benign", [[1, 1], [0, 0]], [[0.9, 0.1], [0.9, 0.1]]),
            _row("missed", "benign", [[1, 1], [0, 0]], [[0.1, 0.1], [0.1, 0.1]]),
            _row("clean", "normal", [[0, 0], [0, 0]], [[0.1, 0.1], [0.1, 0.1]]),
            _row("false alarm", "normal", [[0, 0], [0, 0]], [[0.9, 0.1], [0.1, 0.1]]),
        ]
    )
    test = summarise(table, ["normal", "benign"])
    assert test["dice"] == pytest.approx(0.25)
    assert test["iou"] == pytest.approx(1 / 6)
    assert test["lesion_images"]["n_missed"] == 1
    assert test["lesion_images"]["dice_pooled"] == pytest.approx(2 * 1 / (2 + 2 + 2))
    assert test["lesion_free_images"]["false_positive_rate"] == 0.5
    assert test["lesion_free_images"]["false_positive_area_share"] == pytest.approx(0.125)
    assert test["lesion_images_by_class"] == {"benign": test["lesion_images"]}


def test_a_threshold_is_reached_by_an_equal_probability() -> None:
    row = _row("edge", "benign", [[1, 0], [0, 0]], [[0.5, 0.0], [0.0, 0.0]])
    assert row["dice"] == 1.0


def test_a_prediction_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="must be native"):
        _row("bad", "benign", [[1, 1], [0, 0]], [[0.9, 0.9, 0.9]])


def _classified(probabilities: list[float], labels: list[str]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "case_id": [str(number) for number in range(len(labels))],
            "group": "g",
            "label": labels,
            "lesion_area_px": 1,
            "probability_benign": [1 - value for value in probabilities],
            "probability_malignant": probabilities,
            "predicted_label": ["malignant" if value > 0.5 else "benign" for value in probabilities],
        }
    )


def test_auroc_equals_the_published_example() -> None:
    labels = ["benign"] * 3 + ["malignant"] * 3
    test = summarise(_classified([0.21, 0.35, 0.63, 0.92, 0.32, 0.79], labels), ["benign", "malignant"])
    assert test["auroc"] == pytest.approx(7 / 9)
    assert test["confusion"]["counts"] == [[2, 1], [1, 2]]
    assert test["by_class"]["malignant"]["sensitivity"] == pytest.approx(2 / 3)
    assert test["by_class"]["malignant"]["specificity"] == pytest.approx(2 / 3)


def test_auroc_is_none_where_a_class_has_no_case() -> None:
    test = summarise(_classified([0.2, 0.4], ["benign", "benign"]), ["benign", "malignant"])
    assert test["auroc"] is None
    assert test["by_class"]["malignant"]["sensitivity"] is None


def test_a_case_stands_in_one_list_of_extremes_only() -> None:
    for count in range(1, 20):
        labels = ["benign", "malignant"] * count
        table = _classified([number / (2 * count) for number in range(2 * count)], labels)
        lists = choose_extremes(table)
        names = [name for kind in lists.values() for name in kind]
        assert len(names) == len(set(names))
        assert lists["best"]
