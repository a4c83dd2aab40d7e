import numpy as np
import pytest

from bcd.predictor.measurements import dice_of, measure


def mask_of(*rows: str) -> np.ndarray:
    return np.array([[letter == "#" for letter in row] for row in rows])


def test_a_rectangle_is_measured_from_corner_to_corner() -> None:
    mask = np.zeros((20, 30), bool)
    mask[5:8, 10:14] = True  # 3 high, 4 wide
    (lesion,) = measure(mask)
    assert (lesion.box, lesion.area_px) == ((5, 10, 3, 4), 12)
    assert lesion.long_px == pytest.approx(5)
    assert lesion.short_px == pytest.approx(2 * 12 / 5)  # the other two corners, each 3 x 4 / 5 from the diagonal
    assert (lesion.area_mm2, lesion.long_mm, lesion.short_mm, lesion.probability) == (None, None, None, None)


def test_a_single_pixel_has_an_extent() -> None:
    (lesion,) = measure(mask_of("...", ".#.", "..."))
    assert lesion.box == (1, 1, 1, 1)
    assert lesion.long_px == pytest.approx(2**0.5)
    assert lesion.short_px == pytest.approx(2**0.5)


def test_millimetres_follow_the_spacing_of_rows_and_columns() -> None:
    mask = np.zeros((20, 30), bool)
    mask[5:8, 10:14] = True
    (lesion,) = measure(mask, spacing_mm=(0.5, 2.0))  # 1.5 mm high, 8 mm wide
    assert lesion.area_mm2 == pytest.approx(12)
    assert lesion.long_mm == pytest.approx((1.5**2 + 8**2) ** 0.5)
    assert lesion.short_mm == pytest.approx(2 * 1.5 * 8 / (1.5**2 + 8**2) ** 0.5)
    assert lesion.long_px == pytest.approx(5)


def test_the_long_axis_in_millimetres_may_be_another_than_in_pixels() -> None:
    mask = mask_of("#....", "#....", "#....", "#####")
    (lesion,) = measure(mask, spacing_mm=(10.0, 0.1))
    assert lesion.long_mm == pytest.approx((40**2 + 0.5**2) ** 0.5)


def test_pixels_that_touch_at_a_corner_are_one_lesion_and_the_largest_comes_first() -> None:
    mask = mask_of("#......", ".#.....", ".......", "....###", "....###")
    probability = np.where(mask, 0.75, 0.0)
    probability[3, 4] = 1.0
    first, second = measure(mask, probability)
    assert (first.box, first.area_px) == ((3, 4, 2, 3), 6)
    assert first.probability == pytest.approx((1 + 5 * 0.75) / 6)
    assert first.max_probability == 1
    assert (second.box, second.area_px) == ((0, 0, 2, 2), 2)
    assert second.long_px == pytest.approx(8**0.5)
    assert second.short_px == pytest.approx(2**0.5)


def test_an_empty_mask_has_no_lesion_and_a_full_one_a_single_one() -> None:
    assert measure(np.zeros((5, 5), bool)) == ()
    (whole,) = measure(np.ones((30, 40), bool))
    assert (whole.area_px, whole.long_px, whole.short_px) == (1200, 50, pytest.approx(48))


def test_diameters_agree_with_brute_force_over_all_corners() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = np.zeros((16, 16), bool)
        mask[4:12, 4:12] = rng.random((8, 8)) < 0.7
        for lesion in measure(mask):
            top, left, height, width = lesion.box
            inside = np.argwhere(mask)
            there = [(row, column) for row, column in inside if top <= row < top + height and left <= column < left + width]
            if len(there) != lesion.area_px:
                continue  # another lesion reaches into the box
            corners = np.array([(row + down, column + right) for row, column in there for down in (0, 1) for right in (0, 1)])
            apart = np.linalg.norm(corners[:, None] - corners[None], axis=2)
            assert lesion.long_px == pytest.approx(apart.max())


def test_dice_of_masks() -> None:
    first, second = mask_of("##.."), mask_of(".##.")
    assert dice_of(first, second) == 0.5
    assert dice_of(first & False, second & False) == 1
    assert dice_of(first, np.ones((2, 2), bool)) == 0
