import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import label

from bcd.evaluation.cases import CaseTruth, score_case, to_detections
from bcd.evaluation.segmentation import detection_figures, weighted_figures
from bcd.metrics.detection import (
    CRITERION,
    FROC_POINTS,
    Detection,
    components,
    count_components,
    detect,
    froc_curve,
    froc_sensitivities,
)


def _picture(*rows: str) -> np.ndarray:
    """Return probabilities from digits, tenths; a dot is 0."""
    return np.array([[0 if sign == "." else int(sign) / 10 for sign in row] for row in rows], np.float32)


def _detect(probability: np.ndarray, true: np.ndarray, min_iou: float = 0.5) -> list[Detection]:
    return detect(probability >= 0.5, true > 0, probability, min_iou)


def test_pixels_that_touch_at_a_corner_are_one_component() -> None:
    assert count_components(_picture("9..", ".9.", "..9") > 0) == 1
    assert count_components(_picture("9..9", "....", "9..9") > 0) == 4
    assert count_components(np.zeros((3, 3), bool)) == 0


def test_components_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        mask = rng.random((30, 40)) < 0.3
        numbers, count = components(mask)
        theirs, their_count = label(mask, structure=np.ones((3, 3)))
        assert count == their_count
        assert len(set(zip(numbers.ravel().tolist(), theirs.ravel().tolist(), strict=True))) == count + 1


def test_a_component_knows_its_score_area_and_centre() -> None:
    found = _detect(_picture("......", "..569.", "..765.", "......"), np.zeros((4, 6)))
    assert found == [Detection(pytest.approx(0.9), 6, 1.5, 3.0, None, 0.0)]


def test_an_outline_that_overlaps_a_lesion_enough_hits_it() -> None:
    true = _picture("1111......", "..........", ".......111")
    found = _detect(_picture("66........", "..........", "......8888"), true)
    # The second: 3 shared of 4 in all; the first: 2 of 4, just enough.
    assert [(one.lesion, one.iou) for one in found] == [(2, 0.75), (1, 0.5)]


def test_an_outline_that_overlaps_too_little_is_a_false_positive_with_its_overlap() -> None:
    found = _detect(_picture("6.........", ".........."), _picture("1111......", ".........."))
    assert [(one.lesion, one.iou) for one in found] == [(None, 0.25)]


def test_a_lesion_is_hit_once_by_the_outline_of_higher_score() -> None:
    true = _picture("1111111111")
    found = _detect(_picture("66666.9999"), true, 0.3)
    assert [(one.lesion, pytest.approx(one.score)) for one in found] == [(1, 0.9), (None, 0.6)]
    assert _detect(_picture("9.99999999"), true)[0].area_px == 8  # of equal scores the larger chooses first


def test_an_outline_over_two_lesions_hits_the_one_that_it_overlaps_most() -> None:
    true = _picture("111.11")
    found = _detect(_picture("777777"), true, 0.3)
    assert [(one.lesion, one.iou) for one in found] == [(1, 0.5)]


def test_what_is_taken_leaves_the_next_best_lesion_to_the_lower_score() -> None:
    # Both outlines cross both lesions, and both overlap lesion 2 the most.
    true = _picture("111.1111", "111.1111", "111.1111")
    found = _detect(_picture("99999999", "........", "66666666"), true, 0.1)
    assert [one.lesion for one in found] == [2, 1]


def test_the_number_of_a_lesion_does_not_depend_on_the_prediction() -> None:
    rng = np.random.default_rng(1)
    true = rng.random((31, 41)) < 0.1
    numbers, count = components(true)
    for number in range(1, count + 1):
        lesion = numbers == number
        found = detect(lesion, true, lesion.astype(np.float32))
        assert [(one.lesion, one.iou) for one in found] == [(number, 1.0)]


def test_without_outlines_or_without_lesions_nothing_is_hit() -> None:
    assert _detect(np.zeros((3, 3), np.float32), np.ones((3, 3))) == []
    assert [one.lesion for one in _detect(np.ones((3, 3), np.float32), np.zeros((3, 3)))] == [None]


def test_the_criterion_is_stated_in_words() -> None:
    assert "at least 0.5" in CRITERION


def test_froc_equals_the_published_example() -> None:
    false_positives, sensitivity = froc_curve([0.8, 0.6], [1, 1, 0, 0, 0.8, 0.8, 0], n_lesions=4, n_images=2)
    assert false_positives.tolist() == [0, 0, 0.5, 1]
    assert sensitivity.tolist() == [0, 0.5, 1, 1]
    at_points = froc_sensitivities(false_positives, sensitivity)
    assert at_points[0] == 0.75
    assert at_points.mean() == pytest.approx(0.9583333333333334, abs=1e-15)


def test_froc_begins_at_the_origin_and_ends_with_every_detection() -> None:
    false_positives, sensitivity = froc_curve([0.9, 0.7, 0.7], [0.8, 0.7], n_lesions=4, n_images=10)
    assert false_positives == pytest.approx([0, 0.1, 0.1, 0.3])
    assert sensitivity == pytest.approx([0, 0, 0.25, 0.5])
    # Beyond the end of the curve the sensitivity is that of its end.
    assert froc_sensitivities(false_positives, sensitivity, [0.2, 0.3, 8]) == pytest.approx([0.375, 0.5, 0.5])


def test_froc_without_false_positives_is_the_sensitivity_at_every_point() -> None:
    curve = froc_curve([], [0.9, 0.6], n_lesions=4, n_images=2)
    assert froc_sensitivities(*curve).tolist() == [0.5] * len(FROC_POINTS)
    assert froc_sensitivities(*froc_curve([], [], n_lesions=4, n_images=2)).tolist() == [0.0] * len(FROC_POINTS)


def test_froc_needs_lesions_and_images() -> None:
    with pytest.raises(ValueError, match="0 lesions in 3 images"):
        froc_curve([0.5], [], n_lesions=0, n_images=3)


def _truth(case_id: str, mask: np.ndarray) -> CaseTruth:
    return CaseTruth(case_id, group="g " + case_id, label="benign", mask=mask > 0, fold=3)


def _table(*pairs: tuple[CaseTruth, np.ndarray]) -> tuple[pd.DataFrame, pd.DataFrame]:
    options = {"threshold": 0.5, "classes": None, "class_names": [], "guide_is_empty": None}
    rows = [row for truth, probability in pairs for row in score_case(truth, probability=probability, **options).components]
    cases = [{"case_id": truth.case_id, "n_lesions": count_components(truth.mask)} for truth, _ in pairs]
    return pd.DataFrame(cases), to_detections(rows)


def test_detections_become_rows_and_figures(tmp_path: object) -> None:
    cases, detections = _table(
        (_truth("two", _picture("111...11")), _picture("999...55")),
        (_truth("missed", _picture("11......")), _picture("........")),
        (_truth("free", _picture("........")), _picture("...7...8")),
        (_truth("clean", _picture("........")), _picture("........")),
    )
    assert detections.columns.tolist() == ["case_id", "group", "fold", "score", "area_px", "centre_y", "centre_x", "lesion", "iou"]
    assert detections["lesion"].tolist() == ["1", "2", "", ""]
    assert detections.loc[0, ["case_id", "group", "fold", "area_px", "centre_x", "iou"]].tolist() == ["two", "g two", 3, 3, 1, 1]
    figures = detection_figures(cases, detections)
    assert (figures["n_lesions"], figures["n_images"], figures["n_detections"]) == (3, 4, 4)
    assert figures["sensitivity"] == pytest.approx(2 / 3)
    assert figures["false_positives_per_image"] == 0.5
    # Falling scores .9 (hit), .8 (false), .7 (false), .5 (hit).
    assert figures["froc"]["false_positives_per_image"] == [0, 0, 0.25, 0.5, 0.5]
    assert figures["froc"]["sensitivity"] == pytest.approx([0, 1 / 3, 1 / 3, 1 / 3, 2 / 3])
    assert [point["sensitivity"] for point in figures["froc_points"]] == pytest.approx([1 / 3] + [2 / 3] * 5)
    assert figures["froc_average"] == pytest.approx((1 / 3 + 5 * 2 / 3) / 6)
    assert "intersection over union" in figures["criterion"]


def test_figures_are_the_same_from_the_table_read_back(tmp_path: object) -> None:
    cases, detections = _table(
        (_truth("two", _picture("111...11")), _picture("999...55")), (_truth("free", _picture("....")), _picture("7..8"))
    )
    path = f"{tmp_path}/detections.csv"
    detections.to_csv(path, index=False)
    assert detection_figures(cases, pd.read_csv(path)) == detection_figures(cases, detections)
    assert detection_figures(cases, pd.read_csv(path, keep_default_na=False)) == detection_figures(cases, detections)


def test_without_lesions_there_is_no_froc_and_no_sensitivity() -> None:
    figures = detection_figures(*_table((_truth("free", _picture("....")), _picture("7..8"))))
    assert figures["false_positives_per_image"] == 2
    assert figures["sensitivity"] is figures["froc"] is figures["froc_points"] is figures["froc_average"] is None


def test_without_detections_the_sensitivity_is_zero() -> None:
    figures = detection_figures(*_table((_truth("missed", _picture("11..")), _picture("...."))))
    assert figures["sensitivity"] == figures["false_positives_per_image"] == figures["froc_average"] == 0


def test_scores_of_masks_without_probabilities_give_no_froc_average_to_resample() -> None:
    cases, detections = _table((_truth("a", _picture("11...11")), _picture("99...9.")))
    cases = cases.assign(n_lesions_found=1, n_false_positive_lesions=1, lesion_area_px=4, predicted_area_px=3, dice=0.5)
    assert "detection.froc_average" in weighted_figures(cases, [], detections.assign(score=[0.9, 0.8]))
    assert "detection.froc_average" in weighted_figures(cases, [], detections.assign(score=0.9))
    assert "detection.froc_average" not in weighted_figures(cases, [], detections.assign(score=1.0))
    assert "detection.sensitivity" in weighted_figures(cases, [], detections.assign(score=1.0))
