import math
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_erosion
from scipy.spatial.distance import cdist

from bcd.images.read import read_mask
from bcd.metrics.boundary import (
    BoundaryFigures,
    boundary,
    boundary_distances,
    boundary_figures,
    bounding_box,
    image_diagonal,
)
from bcd.metrics.masks import overlap_of
from benchmarks.distances import bench_distances, moved


def _pixels(shape: tuple[int, int], *pixels: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    for pixel in pixels:
        mask[pixel] = True
    return mask


def _blobs(rng: np.random.Generator, shape: tuple[int, int] = (40, 30), share: float = 0.01) -> np.ndarray:
    """Return a few irregular pieces, some of them at the edge of the picture; never empty."""
    mask = rng.random(shape) < share
    mask[rng.integers(shape[0]), rng.integers(shape[1])] = True
    return binary_dilation(mask, iterations=int(rng.integers(0, 5)))


def _brute_force(predicted: np.ndarray, true: np.ndarray, tolerance: float, spacing: tuple[float, float]) -> BoundaryFigures:
    edges = [np.argwhere(mask & ~binary_erosion(mask)) * np.array(spacing) for mask in (predicted, true)]
    pairs = cdist(*edges)
    to_true, to_predicted = pairs.min(1), pairs.min(0)
    both = np.concatenate([to_true, to_predicted])
    hd95 = max(np.percentile(to_true, 95), np.percentile(to_predicted, 95))
    return BoundaryFigures(both.max(), hd95, both.mean(), (both <= tolerance + 1e-9).mean())


def _as_tuple(figures: BoundaryFigures) -> tuple[float, float, float, float]:
    return figures.hd, figures.hd95, figures.assd, figures.surface_dice


def test_two_pixels_two_columns_apart_are_two_millimetres_apart() -> None:
    true, predicted = _pixels((128, 128), (50, 70)), _pixels((128, 128), (50, 72))
    assert boundary_figures(predicted, true, tolerance=1.0, spacing=(2, 1)) == BoundaryFigures(2, 2, 2, 0)
    assert overlap_of(predicted, true).figures()["dice"] == 0


def test_rows_and_columns_have_spacings_of_their_own() -> None:
    true, predicted = _pixels((128, 128), (50, 70)), _pixels((128, 128), (53, 70))
    assert boundary_figures(predicted, true, tolerance=1.0, spacing=(2, 1)).hd == 6
    assert boundary_figures(predicted, true, tolerance=1.0, spacing=(1, 2)).hd == 3
    slanted = _pixels((128, 128), (53, 78))
    assert boundary_figures(slanted, true, tolerance=1.0, spacing=(2, 1)).hd == pytest.approx(10)


def test_a_boundary_pixel_has_a_4_neighbour_outside_and_beyond_the_picture_is_outside() -> None:
    cross = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)
    assert np.array_equal(boundary(cross), cross & ~_pixels((3, 3), (1, 1)))
    full = np.ones((4, 5), bool)
    inner = np.zeros((4, 5), bool)
    inner[1:3, 1:4] = True
    assert np.array_equal(boundary(full), ~inner)


def test_the_boundary_is_that_of_a_binary_erosion() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = _blobs(rng)
        assert np.array_equal(boundary(mask), mask & ~binary_erosion(mask))


def test_equal_masks_have_no_distance_and_all_of_the_surface() -> None:
    mask = _blobs(np.random.default_rng(1))
    assert boundary_figures(mask, mask.copy(), tolerance=0.0) == BoundaryFigures(0, 0, 0, 1)


def test_figures_of_a_row_of_pixels_and_its_half_worked_by_hand() -> None:
    # 21 pixels in a row against the first 11: beyond those, the distances are 1 .. 10; none in the other direction.
    true, predicted = np.zeros((3, 30), bool), np.zeros((3, 30), bool)
    true[1, :21] = predicted[1, :11] = True
    figures = boundary_figures(predicted, true, tolerance=2.0)
    assert figures.hd == 10
    assert figures.hd95 == pytest.approx(9)  # the 20th of 21 sorted distances, 0-based position 0.95 * 20 = 19
    assert figures.assd == pytest.approx(55 / 32)
    assert figures.surface_dice == pytest.approx((32 - 8) / 32)


def test_hd95_is_the_larger_directed_percentile_and_not_the_percentile_of_both() -> None:
    # Nine true pixels, all of them outlined, and a tenth far away that is not.
    true, predicted = np.zeros((60, 60), bool), np.zeros((60, 60), bool)
    true[0, :9] = true[50, 0] = predicted[0, :9] = True
    to_true, to_predicted = boundary_distances(predicted, true)
    assert to_true.max() == 0
    figures = boundary_figures(predicted, true, tolerance=1.0)
    assert figures.hd == 50
    assert figures.hd95 == pytest.approx(np.percentile([0] * 9 + [50], 95)) == pytest.approx(27.5)
    assert np.percentile(np.concatenate([to_true, to_predicted]), 95) < 10


def test_figures_do_not_depend_on_which_mask_comes_first() -> None:
    rng = np.random.default_rng(2)
    first, second = _blobs(rng), _blobs(rng)
    one, other = boundary_figures(first, second, 2.0), boundary_figures(second, first, 2.0)
    assert _as_tuple(one) == pytest.approx(_as_tuple(other), abs=1e-12)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.1, 0.1), (2.0, 1.0), (0.07, 0.31)])
def test_figures_equal_those_of_all_pairs_of_boundary_pixels(spacing: tuple[float, float]) -> None:
    rng = np.random.default_rng(3)
    for _ in range(25):
        predicted, true = _blobs(rng), _blobs(rng)
        tolerance = 2 * spacing[0]
        figures = boundary_figures(predicted, true, tolerance, spacing)
        assert _as_tuple(figures) == pytest.approx(_as_tuple(_brute_force(predicted, true, tolerance, spacing)), abs=1e-10)


def test_a_distance_of_exactly_the_tolerance_is_within_it_whatever_the_rounding() -> None:
    for columns in range(1, 40):
        true, predicted = _pixels((1, 60), (0, 5)), _pixels((1, 60), (0, 5 + columns))
        assert boundary_figures(predicted, true, tolerance=1.0, spacing=(1.0, 1 / columns)).surface_dice == 1
        assert boundary_figures(predicted, true, tolerance=0.999, spacing=(1.0, 1 / columns)).surface_dice == 0


def test_one_empty_mask_gives_the_diagonal_of_the_image() -> None:
    empty, mask = np.zeros((30, 40), bool), _pixels((30, 40), (3, 3))
    for predicted, true in ((empty, mask), (mask, empty)):
        assert boundary_figures(predicted, true, tolerance=2.0) == BoundaryFigures(50, 50, 50, 0)
    assert boundary_figures(empty, mask, tolerance=1.0, spacing=(0.1, 0.1)).hd == pytest.approx(5)
    assert image_diagonal((30, 40), (2, 1)) == pytest.approx(math.hypot(60, 40))


def test_no_outline_on_the_image_lies_as_far_as_the_diagonal() -> None:
    corners = _pixels((30, 40), (0, 0)), _pixels((30, 40), (29, 39))
    assert boundary_figures(*corners, tolerance=2.0).hd < image_diagonal((30, 40))


def test_two_empty_masks_give_no_number() -> None:
    empty = np.zeros((4, 4), bool)
    assert all(math.isnan(value) for value in _as_tuple(boundary_figures(empty, empty, tolerance=2.0)))


def test_masks_of_two_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="same image"):
        boundary_figures(np.ones((4, 4), bool), np.ones((4, 5), bool), tolerance=2.0)


def test_the_box_around_a_mask_is_tight() -> None:
    mask = _pixels((20, 30), (4, 7), (9, 11))
    assert bounding_box(mask) == (slice(4, 10), slice(7, 12))
    assert mask[bounding_box(np.zeros_like(mask))].size == 0


def test_a_view_into_a_larger_mask_is_as_good_as_a_copy() -> None:
    rng = np.random.default_rng(4)
    large, other = _blobs(rng, (80, 80)), _blobs(rng, (40, 40))
    view = large[::2, ::2]
    assert boundary_figures(view, other, 2.0) == boundary_figures(view.copy(), other, 2.0)


def test_a_moved_mask_loses_what_leaves_the_image() -> None:
    mask = np.zeros((5, 6), bool)
    mask[0, :2] = True
    assert np.array_equal(np.argwhere(moved(mask, 2, -1)), [[2, 0]])
    assert np.array_equal(moved(mask, 0, 0), mask)


@pytest.mark.slow
def test_the_bench_scores_phantoms_where_busbra_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BCD_DATA", str(tmp_path))
    row = bench_distances({"masks": 3, "shift_px": 4, "threads": 1})
    assert (row["masks"], row["data"]) == (3, "phantoms")
    assert row["ours_ms"] > 0
    assert row["largest_difference"] is None or row["largest_difference"] < 1e-4


def test_without_monai_the_bench_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("BCD_DATA", str(tmp_path))
    monkeypatch.setattr("benchmarks.distances._monai", lambda: None)
    row = bench_distances({"masks": 1, "shift_px": 4, "threads": 1})
    assert row["ratio"] is row["monai_ms"] is row["largest_difference"] is None
    assert "pip install" in caplog.text


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning:monai")
def test_figures_equal_those_of_monai() -> None:
    torch = pytest.importorskip("torch")
    metrics = pytest.importorskip("monai.metrics", reason="monai is not installed; make setup brings it")
    rng = np.random.default_rng(5)
    for spacing in ((1.0, 1.0), (2.0, 0.5)):
        predicted, true = _blobs(rng), _blobs(rng)
        pair = [torch.from_numpy(mask)[None, None] for mask in (predicted, true)]
        options = {"include_background": True, "spacing": spacing}
        figures = boundary_figures(predicted, true, 2.0, spacing)
        assert figures.hd == pytest.approx(float(metrics.compute_hausdorff_distance(*pair, **options)), abs=1e-4)
        assert figures.hd95 == pytest.approx(float(metrics.compute_hausdorff_distance(*pair, percentile=95, **options)), abs=1e-4)
        average = float(metrics.compute_average_surface_distance(*pair, symmetric=True, **options))
        assert figures.assd == pytest.approx(average, abs=1e-4)
        share = float(metrics.compute_surface_dice(*pair, class_thresholds=[2.0], **options))
        assert figures.surface_dice == pytest.approx(share, abs=1e-4)


@pytest.mark.realdata
def test_figures_of_native_masks_equal_those_of_all_pairs(busbra: Path) -> None:
    for path in sorted((busbra / "Masks").glob("*.png"))[::200]:
        true = read_mask(path).astype(bool)
        predicted = moved(true, 3, -4)
        figures = boundary_figures(predicted, true, 2.0)
        assert _as_tuple(figures) == pytest.approx(_as_tuple(_brute_force(predicted, true, 2.0, (1, 1))), abs=1e-9)
