"""Perturbed guides: how wrong they are, that they repeat, and what the results say of them."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bcd.config import compose
from bcd.data.augment.perturbation import Perturbation
from bcd.data.datamodule import UltrasoundDataModule
from bcd.data.guides import GuideError, GuidePolicy
from bcd.runs.assemble import build_datamodule, prepare_data
from bcd.runs.hardware import Hardware
from bcd.runs.testing.run import evaluate
from bcd.runs.training.train import train

CPU = Hardware("cpu", "test", "32-true", "contiguous", 0)
WHOLE = (0, 0, 64, 64)
# 16 x 16 px: an area of 256 px, so an equivalent diameter of sqrt(4 * 256 / pi) = 18.05 px.
SQUARE = np.zeros((64, 64), np.uint8)
SQUARE[24:40, 24:40] = 1


def _perturbation(**amounts: float) -> Perturbation:
    return Perturbation(**{"strength": 1.0, "shift": 0.0, "dilate": 0.0, "erode": 0.0, "drop": 0.0} | amounts)


def _draws(perturbation: Perturbation, mask: np.ndarray = SQUARE, count: int = 50) -> list[np.ndarray]:
    return [perturbation(mask, WHOLE, seed=0, case_id="a", epoch=epoch) for epoch in range(count)]


def _moves(masks: list[np.ndarray]) -> np.ndarray:
    """Return by how much each mask's centre moved, (N, 2) in px: down, right."""
    return np.array([np.argwhere(mask).mean(axis=0) - 31.5 for mask in masks])


def test_at_strength_0_the_mask_stays_what_it_is() -> None:
    all_of_it = _perturbation(strength=0, shift=1, dilate=1, erode=0.5, drop=1)
    for mask in (SQUARE, np.eye(64, dtype=np.uint8), np.ones((64, 64), np.uint8)):
        same = all_of_it(mask, WHOLE, seed=0, case_id="a", epoch=None)
        assert (same == mask).all()
        assert same is not mask


def test_a_shift_is_no_longer_than_the_stated_share_of_the_diameter_and_goes_everywhere() -> None:
    masks = _draws(_perturbation(shift=0.5), count=200)
    moves = _moves(masks)
    lengths = np.hypot(*moves.T)
    assert lengths.max() <= 0.5 * math.sqrt(4 * 256 / math.pi)
    assert lengths.max() > 7  # of 9.03
    assert all(mask.sum() == 256 for mask in masks)
    assert all((moves[:, axis] * sign > 2).any() for axis in (0, 1) for sign in (-1, 1))


def test_half_the_strength_is_half_the_shift_in_the_same_direction() -> None:
    whole, half = (_moves(_draws(_perturbation(shift=0.5, strength=strength))) for strength in (1.0, 0.5))
    assert np.abs(whole / 2 - half).max() <= 1  # whole pixels


def test_dilation_grows_and_erosion_shrinks_on_all_sides() -> None:
    grown, shrunk = _draws(_perturbation(dilate=0.2)), _draws(_perturbation(erode=0.2))
    assert all((mask >= SQUARE).all() for mask in grown)
    assert all((mask <= SQUARE).all() for mask in shrunk)
    # 0.2 of 18.05 px are 3.6 px: at most 3 px more, or less, on each side.
    assert max(mask.any(axis=0).sum() for mask in grown) == max(mask.any(axis=1).sum() for mask in grown) == 16 + 6
    assert min(mask.any(axis=0).sum() for mask in shrunk) == min(mask.any(axis=1).sum() for mask in shrunk) == 16 - 6


def test_dilation_and_erosion_together_change_the_size_either_way() -> None:
    areas = [mask.sum() for mask in _draws(_perturbation(dilate=0.2, erode=0.2))]
    assert min(areas) < 256 < max(areas)


def test_erosion_may_leave_nothing_of_a_thin_lesion() -> None:
    line = np.zeros((64, 64), np.uint8)
    line[32, 4:60] = 1  # 56 px: a diameter of 8.4 px, while 1 px from all sides is all of it
    emptied = [not mask.any() for mask in _draws(_perturbation(erode=0.5), line)]
    assert any(emptied)
    assert not all(emptied)


def test_dropping_empties_as_often_as_stated() -> None:
    assert not any(mask.any() for mask in _draws(_perturbation(drop=1)))
    emptied = [not mask.any() for mask in _draws(_perturbation(drop=0.5, strength=0.5), count=400)]
    assert 0.18 < np.mean(emptied) < 0.32  # 0.25


def test_nothing_is_outlined_on_the_padding_and_an_empty_mask_stays_empty() -> None:
    box = (16, 0, 32, 64)
    low = np.zeros((64, 64), np.uint8)
    low[32:48, 24:40] = 1
    for epoch in range(50):
        mask = _perturbation(shift=1, dilate=0.5)(low, box, seed=0, case_id="a", epoch=epoch)
        assert not mask[:16].any()
        assert not mask[48:].any()
        assert not _perturbation(dilate=1)(np.zeros_like(low), box, seed=0, case_id="a", epoch=epoch).any()


def test_a_draw_depends_on_seed_epoch_and_case_alone() -> None:
    perturbation = _perturbation(shift=0.5, dilate=0.3, erode=0.2)

    def draw(**changes: Any) -> np.ndarray:
        settings: dict[str, Any] = {"seed": 0, "epoch": 0, "case_id": "a"}
        return perturbation(SQUARE, WHOLE, **{**settings, **changes})

    first = draw()
    draw(case_id="b")
    assert (draw() == first).all()
    for change in ({"seed": 1}, {"epoch": 1}, {"epoch": None}, {"case_id": "b"}):
        assert (draw(**change) != first).any()


def test_amounts_and_perturbed_guides_need_each_other() -> None:
    with pytest.raises(GuideError, match=r"needs guide\.strength.*guide=perturbed guide\.train=true"):
        GuidePolicy(train="true", test="perturbed")
    with pytest.raises(GuideError, match="for guide=perturbed"):
        GuidePolicy(train="true", test="true", strength=0.5)


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def make(output: Path) -> Callable[..., UltrasoundDataModule]:
    small = ["data.source.n_images=60", "preprocess.size=64", "batch_size=8", f"output={output}"]

    def _make(*overrides: str) -> UltrasoundDataModule:
        config = compose("train", [*small, "guide=perturbed", *overrides])
        module = build_datamodule(config, prepare_data(config), CPU)
        module.setup()
        return module

    return _make


def _guides(module: UltrasoundDataModule, part: str, epoch: int) -> dict[str, torch.Tensor]:
    loader = {"train": module.train_dataloader, "valid": module.val_dataloader, "test": module.test_dataloader}[part]()
    loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
    return {case_id: guide for batch in loader for case_id, guide in zip(batch["case_id"], batch["guide"], strict=True)}


def test_training_sees_other_outlines_in_each_epoch_and_validation_and_test_never(
    make: Callable[..., UltrasoundDataModule],
) -> None:
    module = make("data.lesions_only=true", "augmentation=none")
    for part in ("train", "valid", "test"):
        first, second = _guides(module, part, 0), _guides(module, part, 1)
        same = [torch.equal(first[name], second[name]) for name in first.keys() & second.keys()]
        assert not all(same) if part == "train" else all(same)
        assert part == "train" or len(same) == len(module.cases[part])


def test_the_test_meets_the_truth_at_strength_0_and_the_stated_outlines_otherwise(
    make: Callable[..., UltrasoundDataModule],
) -> None:
    exact, wrong = (
        make("data.lesions_only=true", "guide.train=true", "guide.test=perturbed", f"guide.strength={s}") for s in (0, 1)
    )
    for batch in exact.test_dataloader():
        assert torch.equal(batch["guide"], batch["mask"])
    truths = {name: mask for batch in wrong.test_dataloader() for name, mask in zip(batch["case_id"], batch["mask"], strict=True)}
    assert any(not torch.equal(guide, truths[name]) for name, guide in _guides(wrong, "test", 0).items())
    for batch in wrong.train_dataloader():
        assert torch.equal(batch["guide"], batch["mask"])


def test_perturbed_masks_of_normals_are_refused_as_true_ones_are(make: Callable[..., UltrasoundDataModule]) -> None:
    with pytest.raises(GuideError, match=r"guide=perturbed.*reveals the class"):
        make()


@pytest.mark.slow
def test_the_curve_over_strengths_begins_with_the_runs_own_figures(output: Path, tmp_path: Path) -> None:
    overrides = ["data.source.n_images=60", "preprocess.size=64", "batch_size=8", "trainer.max_epochs=1", "logger=[csv]"]
    roi = ["model=roi_crop", "model.backbone=resnet10t", "model.crop_size=48", "preprocess.size=64"]
    folder = output / "runs" / "roi"
    metrics = train(compose("train", [*overrides, *roi, f"output={output}"], folder), folder)
    assert metrics["guide"]["dice"] == 1
    assert metrics["guide"]["perturbation"] == {"train": None, "test": None}
    tested = {}
    for strength in (0.0, 0.5, 1.0):
        guide = {"test": "perturbed", "strength": strength, "drop": 0.5}
        tested[strength] = evaluate(folder, tmp_path / str(strength), {"guide": guide})
        said = tested[strength]["guide"]
        assert said["train"] == "true"
        assert said["test"] == "perturbed"
        assert said["perturbation"]["test"] == {"strength": strength, "shift": 0.5, "dilate": 0.5, "erode": 0.25, "drop": 0.5}
        assert any("Perturbed true masks" in warning for warning in tested[strength]["warnings"])
    assert tested[0.0]["test"] == metrics["test"]
    assert 1 == tested[0.0]["guide"]["dice"] > tested[0.5]["guide"]["dice"] > tested[1.0]["guide"]["dice"]
    assert 0 == tested[0.0]["test"]["n_empty_guides"] < tested[1.0]["test"]["n_empty_guides"]
    again = evaluate(folder, tmp_path / "again", {"guide": {"test": "perturbed", "strength": 1.0, "drop": 0.5}})
    assert again["test"] == tested[1.0]["test"]
    assert (tmp_path / "again" / "cases.csv").read_bytes() == (tmp_path / "1.0" / "cases.csv").read_bytes()
    with pytest.raises(GuideError, match=r"add guide\.test=perturbed"):
        evaluate(folder, tmp_path / "none", {"guide": {"strength": 0.5}})
