import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bcd.evaluation.cases import CaseScore, CaseTruth, score_case, to_detections, to_frame
from bcd.evaluation.segmentation import lesion_figures, segmentation_figures
from bcd.images.read import read_mask
from bcd.metrics.masks import Overlap, overlap_of

COLUMNS_OF_OUTLINES = (
    "case_id,group,patient,label,fold,height,width,lesion_area_px,predicted_area_px,max_probability,dice,iou,precision,recall,hd_px,"
    "hd95_px,assd_px,surface_dice_2px,area_error_px,n_lesions,n_lesions_found,n_predicted_lesions,n_false_positive_lesions"
)


def _score(truth: CaseTruth, probability: np.ndarray, **options: object) -> dict[str, object]:
    return _scored(truth, probability, **options).row


def _scored(truth: CaseTruth, probability: np.ndarray, **options: object) -> CaseScore:
    return score_case(
        truth,
        probability=probability,
        threshold=0.5,
        classes=None,
        class_names=["benign", "malignant"],
        guide_is_empty=None,
        **options,  # type: ignore[arg-type]
    )


def _square(top: int, left: int, side: int, shape: tuple[int, int] = (30, 40)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[top : top + side, left : left + side] = True
    return mask


def _probability(mask: np.ndarray, high: float = 0.9) -> np.ndarray:
    return np.where(mask, high, 0.1).astype(np.float32)


def _truth(case_id: str, mask: np.ndarray, label: str = "benign", **known: object) -> CaseTruth:
    return CaseTruth(case_id, group=f"group of {case_id}", label=label, mask=mask, **known)  # type: ignore[arg-type]


def test_overlap_figures_worked_by_hand() -> None:
    overlap = overlap_of(_square(0, 0, 4), _square(2, 0, 4))
    assert overlap == Overlap(predicted_px=16, true_px=16, shared_px=8)
    assert overlap.figures() == {"dice": 0.5, "iou": 1 / 3, "precision": 0.5, "recall": 0.5}
    small = overlap_of(_square(0, 0, 2), _square(0, 0, 4)).figures()
    assert (small["precision"], small["recall"]) == (1, 0.25)


def test_a_missed_lesion_has_zero_overlap_and_an_image_without_lesion_none() -> None:
    missed, free, alarm = Overlap(0, 9, 0), Overlap(0, 0, 0), Overlap(9, 0, 0)
    assert set(missed.figures().values()) == {0}
    for overlap in (free, alarm):
        assert all(math.isnan(value) for value in overlap.figures().values())


def test_overlaps_of_masks_of_two_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="same image"):
        overlap_of(np.ones((2, 2), bool), np.ones((2, 3), bool))


def test_a_row_has_the_columns_in_their_order_and_nothing_that_is_unknown() -> None:
    assert list(_score(_truth("a", _square(5, 5, 10)), _probability(_square(5, 5, 10)))) == COLUMNS_OF_OUTLINES.split(",")


def test_a_row_of_an_outline_moved_by_three_columns() -> None:
    row = _score(_truth("moved", _square(5, 5, 10), fold=2, patient="7"), _probability(_square(5, 8, 10), 0.75))
    assert (row["patient"], row["fold"]) == ("7", 2)
    assert (row["height"], row["width"], row["lesion_area_px"], row["predicted_area_px"]) == (30, 40, 100, 100)
    assert row["dice"] == row["precision"] == row["recall"] == 0.7
    assert row["iou"] == pytest.approx(70 / 130)
    assert (row["hd_px"], row["max_probability"], row["area_error_px"]) == (3, 0.75, 0)
    # Of the 36 boundary pixels of each, 14 are 3 px from the other's: the ten of the outer column, the four in the middle of the
    # inner one; the rest lies on the other's rows or at most 2 px from them.
    assert row["surface_dice_2px"] == pytest.approx((72 - 2 * 14) / 72)
    assert row["n_lesions"] == row["n_lesions_found"] == row["n_predicted_lesions"] == 1
    assert row["n_false_positive_lesions"] == 0


def test_millimetres_follow_a_known_spacing_of_rows_and_columns() -> None:
    row = _score(_truth("mm", _square(5, 5, 10), spacing_mm=(0.5, 0.25)), _probability(_square(5, 9, 12)))
    assert (row["spacing_y_mm"], row["spacing_x_mm"]) == (0.5, 0.25)
    assert (row["lesion_area_mm2"], row["predicted_area_mm2"], row["area_error_mm2"]) == (12.5, 18, 5.5)
    # The farthest pixel of the outline is its lower right corner: 2 rows and 6 columns from the lesion's.
    assert row["hd_px"] == pytest.approx(math.hypot(2, 6))
    assert row["hd_mm"] == pytest.approx(math.hypot(1, 1.5))
    assert list(row).index("hd_mm") == list(row).index("n_false_positive_lesions") + 1
    missed = _score(_truth("mm", _square(5, 5, 10), spacing_mm=(0.5, 0.25)), np.zeros((30, 40), np.float32))
    assert missed["hd_mm"] == missed["hd95_mm"] == missed["assd_mm"] == pytest.approx(math.hypot(15, 10))
    assert missed["surface_dice_1mm"] == 0


def test_a_missed_lesion_is_scored_as_far_as_the_image_is_wide() -> None:
    row = _score(_truth("missed", _square(5, 5, 10)), np.full((30, 40), 0.1, np.float32))
    assert row["dice"] == row["iou"] == row["precision"] == row["recall"] == row["surface_dice_2px"] == 0
    assert row["hd_px"] == row["hd95_px"] == row["assd_px"] == 50
    assert (row["n_lesions"], row["n_lesions_found"], row["n_predicted_lesions"], row["area_error_px"]) == (1, 0, 0, -100)


@pytest.mark.parametrize("outlined", [False, True])
def test_an_image_without_a_lesion_has_no_overlap_and_no_distance(outlined: bool) -> None:
    probability = _probability(_square(5, 5, 4)) if outlined else np.full((30, 40), 0.1, np.float32)
    row = _score(_truth("free", np.zeros((30, 40), bool), spacing_mm=(1, 1)), probability)
    names = ("dice", "iou", "precision", "recall", "hd_px", "hd95_px", "assd_px", "surface_dice_2px", "hd_mm", "surface_dice_1mm")
    assert all(math.isnan(row[name]) for name in names)  # type: ignore[arg-type]
    assert row["predicted_area_px"] == row["area_error_px"] == (16 if outlined else 0)
    assert (row["n_lesions"], row["n_false_positive_lesions"]) == (0, int(outlined))


def test_what_the_data_set_knows_comes_last_under_its_prefix() -> None:
    first = _score(_truth("a", _square(1, 1, 3), marked=True, metadata={"birads": "4"}), _probability(_square(1, 1, 3)))
    second = _score(_truth("b", _square(1, 1, 3), spacing_mm=(1, 1), marked=False), _probability(_square(1, 1, 3)))
    assert list(first)[-1] == "meta.birads"
    table = to_frame([first, second])
    assert table.columns[-1] == "meta.birads"
    assert table["marked"].tolist() == [True, False]
    assert table["hd_mm"].isna().tolist() == [True, False]


def test_a_classified_case_without_outline_has_no_columns_of_outlines() -> None:
    row, components = score_case(
        _truth("c", _square(1, 1, 3)),
        probability=None,
        threshold=None,
        classes=np.array([0.25, 0.75], np.float32),
        class_names=["benign", "malignant"],
        guide_is_empty=False,
    )
    assert row["predicted_label"] == "malignant"
    assert (row["probability_benign"], row["guide_is_empty"]) == (0.25, False)
    assert not {"dice", "hd_px", "n_lesions", "predicted_area_px", "marked", "spacing_y_mm"} & set(row)
    assert components == []


def test_counts_of_a_row_are_those_of_its_detections() -> None:
    truth = _truth("two", _square(2, 2, 6) | _square(15, 20, 8), fold=4)
    for left, found in ((4, 1), (5, 0)):
        probability = np.maximum(_probability(_square(2, left, 6), 0.6), _probability(_square(25, 35, 3), 0.8))
        row, components = _scored(truth, probability)
        detections = to_detections(components)
        assert (row["n_lesions"], row["n_lesions_found"]) == (2, found)
        assert row["n_predicted_lesions"] == len(detections) == 2
        assert row["n_false_positive_lesions"] == (detections["lesion"] == "").sum() == 2 - found
        assert detections["score"].tolist() == pytest.approx([0.8, 0.6])
        assert detections["fold"].tolist() == [4, 4]


def test_a_table_without_detections_has_its_columns() -> None:
    assert len(to_detections([])) == 0
    assert "lesion" in to_detections([])


def _cases() -> pd.DataFrame:
    empty = np.zeros((30, 40), bool)
    return to_frame(
        [
            _score(_truth("right", _square(5, 5, 10)), _probability(_square(5, 5, 10))),
            _score(_truth("moved", _square(5, 5, 10), "malignant"), _probability(_square(5, 8, 10))),
            _score(_truth("missed", _square(5, 5, 10), "malignant"), _probability(empty)),
            _score(_truth("beside", _square(5, 5, 10), "malignant"), _probability(_square(5, 25, 10))),
            _score(_truth("clean", empty, "normal"), _probability(empty)),
            _score(_truth("alarm", empty, "normal"), _probability(_square(0, 0, 3))),
        ]
    )


def test_figures_are_means_over_lesion_images_and_misses_count_in_them() -> None:
    figures = segmentation_figures(_cases(), ["normal", "benign", "malignant"])
    lesions = figures["lesion_images"]
    assert (lesions["n"], lesions["n_missed"], lesions["n_not_outlined"]) == (4, 2, 1)
    assert figures["dice"] == lesions["dice"] == pytest.approx((1 + 0.7) / 4)
    assert lesions["dice_median"] == pytest.approx(0.35)
    assert lesions["dice_pooled"] == pytest.approx(2 * 170 / 700)
    assert lesions["precision"] == lesions["recall"] == pytest.approx(1.7 / 4)
    assert lesions["hd_px"] == pytest.approx((0 + 3 + 50 + 20) / 4)
    assert lesions["surface_dice_2px"] == pytest.approx((1 + 44 / 72) / 4)
    assert set(figures["lesion_images_by_class"]) == {"benign", "malignant"}
    assert figures["lesion_images_by_class"]["malignant"]["dice"] == pytest.approx(0.7 / 3)
    assert "hd_mm" not in lesions


def test_figures_of_images_without_a_lesion_stand_apart() -> None:
    figures = segmentation_figures(_cases(), ["normal", "benign", "malignant"])["lesion_free_images"]
    assert figures == {
        "n": 2,
        "false_positive_rate": 0.5,
        "false_positive_area_px": 4.5,
        "false_positive_area_share": pytest.approx(4.5 / 1200),
    }


def test_figures_of_no_image_are_none() -> None:
    cases = _cases()
    none = lesion_figures(cases[:0], np.ones(0, bool))
    assert (none["n"], none["n_missed"]) == (0, 0)
    assert none["dice"] is none["hd95_px"] is none["dice_median"] is none["dice_pooled"] is None
    lesions_alone = segmentation_figures(cases[cases["lesion_area_px"] > 0], ["benign"])
    assert lesions_alone["lesion_free_images"]["false_positive_rate"] is None


def test_means_in_millimetres_say_over_how_many_images_they_are() -> None:
    rows = [
        _score(_truth("known", _square(5, 5, 10), spacing_mm=(0.5, 0.5)), _probability(_square(5, 8, 10))),
        _score(_truth("unknown", _square(5, 5, 10)), _probability(_square(5, 8, 10))),
    ]
    figures = lesion_figures(to_frame(rows), np.ones(len(rows), bool))
    assert figures["hd_mm"] == pytest.approx(1.5)
    assert (figures["n"], figures["n_with_spacing"]) == (2, 1)


@pytest.mark.realdata
def test_a_native_mask_scored_against_itself_is_perfect(busbra: Path) -> None:
    for path in sorted((busbra / "Masks").glob("*.png"))[::250]:
        mask = read_mask(path).astype(bool)
        row = _score(_truth(path.stem, mask), _probability(mask))
        assert row["dice"] == row["surface_dice_2px"] == 1
        assert row["hd_px"] == row["assd_px"] == 0
        assert row["n_lesions"] == row["n_lesions_found"] == row["n_predicted_lesions"]
