import csv
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from bcd.data.manifest import Case
from bcd.data.sources.phantom import Phantom, near_copy
from bcd.data.sources.phantom_simulator import (
    Echo,
    Lesion,
    Shape,
    draw_anatomy,
    draw_lesion,
    envelope,
    log_compress,
    simulate,
)

SMALL = (96, 128)


def small(root: Path, n_images: int = 12, seed: int = 3, **options: Any) -> Phantom:
    return Phantom(root, n_images, seed, size=SMALL, **options)


def pixels(path: Path) -> np.ndarray:
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert image is not None, path
    return image


def same_pixels(first: list[Case], second: list[Case]) -> bool:
    pairs = zip(first, second, strict=True)
    return all(np.array_equal(pixels(a.image), pixels(b.image)) for a, b in pairs)


def test_equal_seeds_give_equal_data_sets_and_other_seeds_others(tmp_path: Path) -> None:
    first = small(tmp_path / "a").cases()
    again = small(tmp_path / "b").cases()
    other = small(tmp_path / "c", seed=4).cases()
    assert [(c.case_id, c.label, c.patient, c.metadata) for c in first] == [
        (c.case_id, c.label, c.patient, c.metadata) for c in again
    ]
    assert same_pixels(first, again)
    assert not np.array_equal(pixels(first[0].image), pixels(other[0].image))


def test_cases_are_sorted_and_files_are_absolute_grey_pngs(tmp_path: Path) -> None:
    cases = small(tmp_path).cases()
    assert [case.case_id for case in cases] == sorted(case.case_id for case in cases)
    assert cases[0].case_id == "phantom-0001-a"
    for case in cases:
        image = pixels(case.image)
        assert case.image.is_absolute()
        assert image.dtype == np.uint8
        assert image.ndim == 2


def test_sizes_vary_around_the_one_asked_for(tmp_path: Path) -> None:
    shapes = np.array([pixels(case.image).shape for case in small(tmp_path).cases()])
    assert len(np.unique(shapes, axis=0)) > 6
    assert np.all(np.abs(shapes / SMALL - 1) < 0.09)


def test_lesions_have_a_mask_of_the_images_size_and_normals_have_none(tmp_path: Path) -> None:
    for case in small(tmp_path).cases():
        assert len(case.masks) == (0 if case.label == "normal" else 1)
        for path in case.masks:
            mask = pixels(path)
            assert mask.shape == pixels(case.image).shape
            assert set(np.unique(mask)) == {0, 255}
            assert int(case.metadata["lesion_area_px"]) == np.count_nonzero(mask)


def test_labels_come_in_the_proportions_asked_for(tmp_path: Path) -> None:
    labels = [case.label for case in Phantom(tmp_path, 12, seed=0, views=1, size=SMALL).cases()]
    assert [labels.count(name) for name in ("normal", "benign", "malignant")] == [2, 6, 4]
    mix = {"normal": 0.0, "benign": 0.5, "malignant": 0.5}
    labels = [case.label for case in Phantom(tmp_path, 6, seed=0, views=1, mix=mix, size=SMALL).cases()]
    assert [labels.count(name) for name in ("normal", "benign", "malignant")] == [0, 3, 3]


def test_views_share_patient_label_and_lesion_but_not_the_slice(tmp_path: Path) -> None:
    cases = small(tmp_path, n_images=7, views=3).cases()
    assert [case.patient for case in cases] == ["phantom-0001"] * 3 + ["phantom-0002"] * 3 + ["phantom-0003"]
    first, second = cases[0], cases[1]
    assert first.label == second.label
    assert first.metadata.get("suspicion") == second.metadata.get("suspicion")
    assert pixels(first.image).shape != pixels(second.image).shape


def test_a_second_call_reads_what_the_first_one_made(tmp_path: Path) -> None:
    made = small(tmp_path, near_copies=2).cases()
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert small(tmp_path, near_copies=2).cases() == made
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == written


def test_nothing_but_the_data_set_is_left_in_the_root(tmp_path: Path) -> None:
    phantom = small(tmp_path)
    phantom.cases()
    assert list(tmp_path.iterdir()) == [phantom.folder]


def test_other_parameters_make_another_folder(tmp_path: Path) -> None:
    folders = {small(tmp_path).folder, small(tmp_path, views=3).folder, small(tmp_path, near_copies=1).folder}
    assert len(folders) == 3
    assert all(folder.name.startswith("phantom-12-3-") for folder in folders)


def test_a_build_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("bcd.data.sources.phantom._write_png", no_space)
    with pytest.raises(OSError, match="No space left"):
        small(tmp_path).cases()
    assert list(tmp_path.iterdir()) == []


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    cases = small(tmp_path).cases()
    cases[4].image.unlink()
    with pytest.raises(FileNotFoundError, match=f"{cases[4].case_id}: .*delete"):
        small(tmp_path).cases()


def test_near_copies_are_new_patients_that_look_like_their_original(tmp_path: Path) -> None:
    cases = {case.case_id: case for case in small(tmp_path, near_copies=4).cases()}
    copies = [case for case in cases.values() if "copy_of" in case.metadata]
    assert len(cases) == 16
    assert len(copies) == 4
    for copy in copies:
        original = cases[copy.metadata["copy_of"]]
        assert copy.label == original.label
        assert copy.patient not in {case.patient for case in cases.values() if case is not copy}
        assert np.corrcoef(thumbnail(copy), thumbnail(original))[0, 1] > 0.9
        assert len(copy.masks) == len(original.masks)


def thumbnail(case: Case) -> np.ndarray:
    return cv2.resize(pixels(case.image), (16, 12), interpolation=cv2.INTER_AREA).ravel()


def test_near_copies_leave_the_other_cases_as_they_were(tmp_path: Path) -> None:
    alone = small(tmp_path).cases()
    accompanied = [case for case in small(tmp_path, near_copies=3).cases() if "copy_of" not in case.metadata]
    assert same_pixels(alone, accompanied)


def test_a_near_copys_mask_goes_where_its_image_goes() -> None:
    mask = np.zeros(SMALL, np.uint8)
    mask[30:60, 40:90] = 1
    for seed in range(10):
        image, moved = near_copy(np.random.default_rng(seed), 200 * mask, mask)
        outside_margin = cv2.erode(moved, np.ones((13, 13))) + cv2.erode(1 - moved, np.ones((13, 13)))
        assert image.shape == moved.shape
        assert np.array_equal((image > 90)[outside_margin > 0], (moved > 0)[outside_margin > 0])


def test_a_view_does_not_depend_on_the_views_before_it() -> None:
    anatomy, lesion = draw_anatomy(np.random.default_rng(0)), draw_lesion(np.random.default_rng(1), malignant=True)
    expected = simulate(np.random.default_rng([7, 2]), anatomy, lesion, SMALL)
    simulate(np.random.default_rng([7, 1]), anatomy, lesion, SMALL)
    again = simulate(np.random.default_rng([7, 2]), anatomy, lesion, SMALL)
    assert np.array_equal(expected[0], again[0])
    assert np.array_equal(expected[1], again[1])


def test_a_lesion_lies_in_one_piece_inside_the_image() -> None:
    for seed in range(30):
        rng = np.random.default_rng(seed)
        _, mask = simulate(rng, draw_anatomy(rng), draw_lesion(rng, malignant=seed % 2 == 0), SMALL)
        assert cv2.connectedComponents(mask)[0] == 2
        assert not mask[[0, -1]].any()
        assert not mask[:, [0, -1]].any()


def test_without_lesion_the_mask_is_empty() -> None:
    rng = np.random.default_rng(0)
    image, mask = simulate(rng, draw_anatomy(rng), None, SMALL)
    assert image.shape == mask.shape == SMALL
    assert image.dtype == mask.dtype == np.uint8
    assert not mask.any()


def test_malignant_lesions_are_darker_behind_than_benign_ones() -> None:
    behind = {malignant: [echo_behind(seed, malignant) for seed in range(30)] for malignant in (False, True)}
    assert np.mean(behind[True]) < -5
    assert np.mean(behind[False]) > 5


def echo_behind(seed: int, malignant: bool) -> float:
    """Return the mean grey level below the lesion minus that at its sides."""
    rng = np.random.default_rng([seed, malignant])
    image, mask = simulate(rng, draw_anatomy(rng), draw_lesion(rng, malignant), SMALL)
    left, top, width, height = cv2.boundingRect(mask)
    rows = image[top + height : top + height + 20].astype(float)
    inner = rows[:, left + width // 4 : left + 3 * width // 4]
    sides = np.hstack([rows[:, max(0, left - 12) : left], rows[:, left + width : left + width + 12]])
    return float(inner.mean() - sides.mean())


def test_no_sign_separates_the_classes_alone() -> None:
    rng = np.random.default_rng(0)
    lesions = {malignant: [draw_lesion(rng, malignant) for _ in range(200)] for malignant in (False, True)}
    for sign in (lambda lesion: lesion.shape.aspect, lambda lesion: -lesion.echo.posterior_db):
        benign, malignant = ([sign(lesion) for lesion in lesions[key]] for key in (False, True))
        auroc = np.mean(np.array(malignant)[:, None] > np.array(benign)[None, :])
        assert 0.7 < auroc < 0.92


def test_an_oval_without_irregularity_has_the_area_of_an_ellipse() -> None:
    shape = Shape(size=0.3, aspect=0.5, irregularity=0.0, lobulation=0.0, spiculation=0.0, seed=0)
    echo = Echo("hypoechoic", -12.0, 1.0, 0.0, 1.0, 0.0, 0.0)
    rng = np.random.default_rng(0)
    lesion = Lesion(0.0, (0.5, 0.5), shape, echo)
    areas = [simulate(rng, draw_anatomy(rng), lesion, (150, 180))[1].sum() for _ in range(20)]
    assert np.mean(areas) == pytest.approx(np.pi / 4 * (0.3 * 180) ** 2, rel=0.1)


def test_the_envelope_of_speckle_is_rayleigh_with_the_power_of_its_scatterers() -> None:
    amplitude = np.full((400, 400), 3.0, np.float32)
    speckle = envelope(np.random.default_rng(0), amplitude, (0.9, 2.0))
    assert speckle.dtype == np.float32
    assert speckle.mean() / speckle.std() == pytest.approx(np.sqrt(np.pi / (4 - np.pi)), rel=0.03)  # 1.91
    assert np.mean(speckle**2) == pytest.approx(9.0, rel=0.03)


def test_speckle_is_wider_than_deep() -> None:
    speckle = envelope(np.random.default_rng(0), np.ones((300, 300), np.float32), (0.9, 2.0))
    deviation = speckle - speckle.mean()
    lateral, axial = (np.mean(deviation * np.roll(deviation, 2, axis)) for axis in (1, 0))
    assert lateral > 2 * axial


def test_log_compression_maps_the_dynamic_range_onto_the_grey_levels() -> None:
    echo_db = np.repeat(np.array([10.0, 0.0, -30.0, -60.0, -90.0], np.float32)[:, None], 9, axis=1)
    echo_db = np.repeat(echo_db, 5, axis=0)  # five rows each, so that the middle one has equal neighbours
    assert log_compress(echo_db, 60.0)[2::5, 4].tolist() == [255, 255, 127, 0, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"near_copies": 5}, "near_copies=5"),
        ({"mix": {"normal": 0.5, "benign": 0.5}}, "normal, benign, malignant"),
        ({"mix": {"normal": 0.5, "benign": 0.5, "malignant": 0.5}}, "sum to 1"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused_by_name(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Phantom(tmp_path, **({"n_images": 4, "seed": 0} | options))


def test_the_table_can_be_read_without_this_library(tmp_path: Path) -> None:
    phantom = small(tmp_path)
    cases = phantom.cases()
    with (phantom.folder / "cases.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["case_id"] for row in rows] == [case.case_id for case in cases]
    assert all((phantom.folder / row["image"]).is_file() for row in rows)
