"""Augmentation: what each transform of ours does, what none may do, and that every draw can be repeated."""

import importlib
import random
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from bcd.config import compose, groups
from bcd.config.build import build
from bcd.data.augment.deformation import DepthZoom, Elastic
from bcd.data.augment.pipeline import Augmentation
from bcd.data.augment.ultrasound import AcousticShadow, LogCompression, Speckle, TimeGain, content_box
from bcd.runs.training.show_augmentation import show_augmentation

OPTIONS = groups()["augmentation"]
# These do not brighten what is black; `standard` and `strong` have a brightness that does.
BLACK_STAYS = ["light", "none", "ultrasound"]
DECIBELS = {"dynamic_range_db": 60, "p": 1}
GREY = np.full((96, 96), 128, np.uint8)
EMPTY = np.zeros((96, 96), np.uint8)


def _draw(
    transform: Any, image: np.ndarray = GREY, mask: np.ndarray | None = None, epoch: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    mask = np.zeros_like(image) if mask is None else mask
    altered, moved, guide = Augmentation([transform])(image, mask, mask, seed=0, epoch=epoch, case_id="a")
    assert altered.shape == moved.shape == image.shape
    assert altered.dtype == moved.dtype == np.uint8
    assert (moved == guide).all()
    return altered, moved


def _image() -> np.ndarray:
    """Return grey noise in a letterbox: 16 black rows above and below."""
    image = np.random.default_rng(0).integers(1, 256, (96, 96)).astype(np.uint8)
    image[:16] = image[80:] = 0
    return image


def _mask() -> np.ndarray:
    mask = EMPTY.copy()
    mask[40:56, 30:60] = 1
    return mask


def _option(name: str) -> Augmentation:
    augmentation: Augmentation = build(compose("train", [f"augmentation={name}"])["augmentation"])
    return augmentation


def _ours() -> list[dict[str, Any]]:
    nodes = compose("train", ["augmentation=ultrasound"])["augmentation"]["transforms"]
    return [{**node, "p": 1} for node in nodes if node["_target_"].startswith("bcd.")]


OURS = pytest.mark.parametrize("node", _ours(), ids=lambda node: node["_target_"].rpartition(".")[2])


def test_undoing_and_doing_log_compression_returns_every_grey_value() -> None:
    greys = np.arange(256, dtype=np.uint8)
    for decibels in (30, 60, 120):
        compression = LogCompression(decibels)
        assert (compression.grey(compression.amplitude(greys)) == greys).all()
        assert compression.amplitude(greys)[0] == 0
        assert compression.amplitude(greys)[255] == pytest.approx(1, abs=1e-6)


def test_twice_the_dynamic_range_shows_a_gain_half_as_far() -> None:
    # Far above the floor 255 grey values are the dynamic range: 6 dB of 60 are 25.5 of them.
    for decibels, step in ((60, 25.5), (120, 12.75)):
        compression = LogCompression(decibels)
        louder = compression.grey(compression.amplitude(np.array([150], np.uint8)) * np.float32(10 ** (6 / 20)))
        assert louder[0] == pytest.approx(150 + step, abs=1.1)


def test_a_gain_raises_all_of_the_image_by_its_decibels() -> None:
    altered, _ = _draw(TimeGain(gain_db=[6, 6], slider_db=[0, 0], **DECIBELS))
    assert (altered == altered[0, 0]).all()
    assert altered[0, 0] == pytest.approx(128 + 25.5, abs=1.1)


def test_time_gain_depends_on_the_depth_alone_and_smoothly() -> None:
    altered, _ = _draw(TimeGain(gain_db=[0, 0], slider_db=[-10, 10], **DECIBELS))
    assert (altered == altered[:, :1]).all()
    profile = altered[:, 0].astype(int)
    assert np.ptp(profile) > 20
    assert np.abs(np.diff(profile)).max() <= 8  # 20 dB over the 16 rows between two sliders


def test_speckle_has_the_stated_spread_and_leaves_the_mean() -> None:
    image = np.full((256, 256), 128, np.uint8)
    for std_db in (2.0, 5.57):
        altered, _ = _draw(Speckle(std_db=[std_db, std_db], grain=[0.01, 0.01], **DECIBELS), image)
        decibels = (altered.astype(float) - 128) * 60 / 255
        assert decibels.mean() == pytest.approx(0, abs=0.2)
        assert decibels.std() == pytest.approx(std_db, rel=0.1)


def test_fully_developed_speckle_is_rayleigh_distributed() -> None:
    factor = Speckle(std_db=[5.57, 5.57], grain=[0.01, 0.01], **DECIBELS)
    factor.set_random_seed(0)
    amplitude = factor.draw_factor(np.zeros((512, 512), np.uint8), None)
    assert amplitude.mean() / amplitude.std() == pytest.approx(np.sqrt(np.pi / (4 - np.pi)), rel=0.03)  # 1.91


def test_grains_have_the_stated_height_and_are_half_as_wide_again() -> None:
    size, height = 512, 0.02 * 512
    speckle = Speckle(std_db=[5.57, 5.57], grain=[0.02, 0.02], **DECIBELS)
    speckle.set_random_seed(0)
    intensity = speckle.draw_factor(np.zeros((size, size), np.uint8), None) ** 2
    intensity -= intensity.mean()
    for axis, width in ((0, height), (1, 1.5 * height)):
        half = round(width / 2)
        behind, ahead = np.take(intensity, range(size - half), axis), np.take(intensity, range(half, size), axis)
        assert (behind * ahead).mean() / (intensity**2).mean() == pytest.approx(0.5, abs=0.07)


def _shadow(**changes: Any) -> AcousticShadow:
    settings = {"number": [1, 1], "width": [0.2, 0.2], "spread_deg": [0, 0], "loss_db": [20, 20], "below_lesion": 0.0}
    return AcousticShadow(**{**settings, **changes}, **DECIBELS)


def test_a_shadow_only_darkens_and_falls_downwards_to_the_bottom() -> None:
    for epoch in range(20):
        altered, _ = _draw(_shadow(), epoch=epoch)
        assert (altered <= GREY).all()
        dark = altered < 128
        assert dark.any()
        # Below a dark pixel all is as dark or darker.
        assert (np.diff(altered.astype(int), axis=0) <= 0).all()


def test_a_shadow_has_soft_sides() -> None:
    for epoch in range(20):
        altered, _ = _draw(_shadow(), epoch=epoch)
        # 20 dB are 85 grey values; they are spread over the half width of 10 px on each side, and over as many rows.
        assert np.abs(np.diff(altered.astype(int), axis=1)).max() <= 24
        assert np.abs(np.diff(altered.astype(int), axis=0)).max() <= 24


def test_a_fan_is_wider_at_the_bottom_than_a_column() -> None:
    column, fan = (_draw(_shadow(spread_deg=[lean, lean]))[0] for lean in (0, 20))
    assert (fan[-1] < 128).sum() > (column[-1] < 128).sum()


def test_a_shadow_below_the_lesion_spares_it_and_is_as_wide() -> None:
    mask = _mask()
    altered, _ = _draw(_shadow(below_lesion=1.0), mask=mask)
    assert (altered[:50] == 128).all()
    assert (altered[-1, 38:52] < 90).all()  # 20 dB less 40 % at most: 51 grey values
    assert (altered[-1, :20] == 128).all()
    assert (altered[-1, 70:] == 128).all()
    without, _ = _draw(_shadow(below_lesion=1.0))
    assert (without < 128).any()


def test_the_probe_stays_where_it_is_when_the_depth_changes() -> None:
    image = np.zeros((96, 96), np.uint8)
    image[16:80] = 100
    image[16:20, 46:50] = 255  # 4 x 4 px at the probe's face, in the middle
    for depth in (0.5, 2.0):
        altered, _ = _draw(DepthZoom(depth=[depth, depth], p=1), image)
        top, bottom, left, right = content_box(np.where(altered > 177, altered, 0))
        assert top == 16
        assert (left + right) / 2 == 48
        assert bottom - top == pytest.approx(4 / depth, abs=1)
        assert right - left == pytest.approx(4 / depth, abs=1)
        assert not altered[:16].any()
        assert not altered[80:].any()


def test_width_and_height_scale_together() -> None:
    mask = EMPTY.copy()
    mask[10:30, 38:58] = 1
    _, moved = _draw(DepthZoom(depth=[0.8, 0.8], p=1), mask=mask)
    top, bottom, left, right = content_box(moved)
    assert bottom - top == right - left == 25


def test_a_lower_depth_never_cuts_the_lesion_off() -> None:
    mask = EMPTY.copy()
    mask[80:90, 20:40] = 1  # its lower edge bears a scale of 96 / 90 = 1.067
    _, moved = _draw(DepthZoom(depth=[0.5, 0.5], p=1), mask=mask)
    assert moved.sum() == pytest.approx(200 * 1.067**2, rel=0.1)
    assert content_box(moved)[1] >= 95


def test_elastic_moves_no_further_than_stated_and_stays_within_the_frame() -> None:
    rows = np.repeat(np.arange(20, 116, dtype=np.uint8)[:, None], 96, axis=1)
    for epoch in range(10):
        altered, _ = _draw(Elastic(displacement=[0.05, 0.05], cell=0.25, p=1), rows, epoch=epoch)
        # 4.8 px; the smooth passage between two points may overshoot a little.
        assert np.abs(altered.astype(int) - rows).max() <= 6
        assert (altered >= 20).all()


@OURS
def test_black_padding_stays_black(node: dict[str, Any]) -> None:
    for epoch in range(10):
        altered, _ = _draw(build(node), _image(), _mask(), epoch)
        assert not altered[:16].any()
        assert not altered[80:].any()
        assert altered[16:80].any()


@OURS
def test_what_is_all_black_stays_so(node: dict[str, Any]) -> None:
    assert not _draw(build(node), EMPTY)[0].any()


@pytest.mark.parametrize("name", BLACK_STAYS)
def test_an_option_leaves_the_padding_black(name: str) -> None:
    augmentation = _option(name)
    image = np.zeros((96, 96), np.uint8)
    image[16:80] = 255
    inside = (image > 0).astype(np.uint8)
    for epoch in range(20):
        altered, moved, _ = augmentation(image, inside, inside, seed=0, epoch=epoch, case_id="a")
        # Interpolation may carry the border of the image one pixel further.
        assert not altered[cv2.dilate(moved, np.ones((5, 5), np.uint8)) == 0].any()


@pytest.mark.parametrize("name", OPTIONS)
def test_no_option_turns_the_image_upside_down(name: str) -> None:
    augmentation = _option(name)
    # Darker and darker with depth, as any ultrasound image; in the mask the upper half.
    image = np.repeat(np.linspace(250, 5, 96).astype(np.uint8)[:, None], 96, axis=1)
    mask = EMPTY.copy()
    mask[:48] = 1
    for epoch in range(30):
        altered, moved, _ = augmentation(image, mask, mask, seed=0, epoch=epoch, case_id="a")
        assert np.argwhere(moved).mean(axis=0)[0] < 48
        assert altered[:48].mean() > altered[48:].mean()


@pytest.mark.parametrize("name", [name for name in OPTIONS if name != "none"])
def test_a_draw_follows_from_seed_epoch_and_case_alone(name: str) -> None:
    first, second = _option(name), _option(name)
    image, mask = _image(), _mask()
    for epoch in range(5):
        one = first(image, mask, mask, seed=0, epoch=epoch, case_id="a")
        # Whatever was drawn before, and whatever the global generators hold.
        random.seed(epoch)
        np.random.seed(epoch)
        second(image, mask, mask, seed=1, epoch=epoch + 7, case_id="b")
        two = second(image, mask, mask, seed=0, epoch=epoch, case_id="a")
        assert all((x == y).all() for x, y in zip(one, two, strict=True))
        other = second(image, mask, mask, seed=0, epoch=epoch, case_id="b")
        assert (one[0] != other[0]).any()


@OURS
def test_every_range_is_checked_and_the_error_names_it(node: dict[str, Any]) -> None:
    names = [name for name, value in node.items() if isinstance(value, list)]
    assert names
    for name in names:
        for wrong in ([-1000, 1], [0, 1000], [node[name][1] + 0.001, node[name][0]], [0.1], 3):
            with pytest.raises(ValueError, match=rf"{name}="):
                build({**node, name: wrong})


def test_tissue_that_would_fold_over_is_refused() -> None:
    with pytest.raises(ValueError, match=r"displacement=\[0, 0\.06\].*0\.05"):
        Elastic(displacement=[0, 0.06], cell=0.2, p=1)


@OURS
def test_every_transform_says_what_its_arguments_mean(node: dict[str, Any]) -> None:
    module, _, name = node["_target_"].rpartition(".")
    described = getattr(importlib.import_module(module), name).__doc__
    assert all(f"{argument}:" in described for argument in node if argument != "_target_")


def test_the_sheet_shows_each_class_in_turn_and_says_that_phantoms_are_synthetic(tmp_path: Path) -> None:
    small = ["data.source.n_images=12", "preprocess.size=64", "cases=3", "draws=2", f"output={tmp_path}"]
    path = show_augmentation(compose("show_augmentation", [*small, "name=sheet"]))
    assert path == tmp_path / "augmentation" / "sheet.png"
    first = cv2.imread(str(path))
    assert first.shape[1] / first.shape[0] == pytest.approx(1, abs=0.1)  # three rows of three
    again = show_augmentation(compose("show_augmentation", [*small, "name=again"]))
    other = show_augmentation(compose("show_augmentation", [*small, "name=other", "seed=1"]))
    # The legend below tells the name and the seed.
    assert (cv2.imread(str(again))[:900] == first[:900]).all()
    assert (cv2.imread(str(other))[:900] != first[:900]).any()


def test_the_sheet_refuses_a_case_that_is_not_there(tmp_path: Path) -> None:
    small = ["data.source.n_images=12", f"output={tmp_path}"]
    with pytest.raises(ValueError, match=r"no case 'phantom'; the data set has 12, such as"):
        show_augmentation(compose("show_augmentation", [*small, "case_ids=[phantom]"]))
    with pytest.raises(ValueError, match="draws=0 must be a whole number from 1"):
        show_augmentation(compose("show_augmentation", [*small, "draws=0"]))
