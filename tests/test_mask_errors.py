"""How predicted masks differ from the truth, perturbations that differ as much, and folds within folds."""

import math

import numpy as np
import pandas as pd
import pytest

from bcd.config.build import build
from bcd.data.augment.perturbation import Perturbation
from bcd.data.guides import GuideError, GuidePolicy
from bcd.data.splits import assign_parts, check_split
from bcd.runs.studies.pipeline.crossfit import inner_split
from bcd.runs.studies.pipeline.mask_errors import mask_error, matched_amounts

SQUARE = np.zeros((64, 64), np.uint8)
SQUARE[24:40, 24:40] = 1  # 256 px: an equivalent diameter of 18.05 px
DIAMETER = math.sqrt(4 * 256 / math.pi)


def test_a_moved_mask_is_shifted_by_its_share_of_the_diameter_and_not_grown() -> None:
    error = mask_error(SQUARE, np.roll(SQUARE, (3, 4), axis=(0, 1)))
    assert error["shift"] == pytest.approx(5 / DIAMETER)
    assert error["growth"] == pytest.approx(0)
    assert error["gone"] is False


def test_a_larger_mask_has_grown_by_the_share_that_its_radius_gained() -> None:
    larger = np.zeros_like(SQUARE)
    larger[16:48, 16:48] = 1  # twice the diameter: the radius gained half a diameter
    assert mask_error(SQUARE, larger) == {"shift": pytest.approx(0), "growth": pytest.approx(0.5), "gone": False}


def test_a_mask_that_hits_nothing_is_gone() -> None:
    elsewhere = np.zeros_like(SQUARE)
    elsewhere[:8, :8] = 1
    for predicted in (elsewhere, np.zeros_like(SQUARE)):
        error = mask_error(SQUARE, predicted)
        assert error["gone"] is True
        assert math.isnan(error["shift"])


def test_the_truth_must_have_a_lesion_and_the_size_of_the_prediction() -> None:
    with pytest.raises(ValueError, match="with a lesion"):
        mask_error(np.zeros_like(SQUARE), SQUARE)
    with pytest.raises(ValueError, match="of its size"):
        mask_error(SQUARE, SQUARE[:32])


def test_matched_amounts_have_the_mean_and_the_spread_of_the_errors() -> None:
    growth = np.linspace(-0.1, 0.3, 2001)
    errors = pd.DataFrame({"shift": np.linspace(0, 0.4, 2001), "growth": growth, "gone": False})
    gone = pd.DataFrame({"shift": math.nan, "growth": math.nan, "gone": [True] * 667})
    amounts = matched_amounts(pd.concat([errors, gone]))
    assert amounts["drop"] == pytest.approx(0.25, abs=1e-3)
    assert amounts["shift"] == pytest.approx(0.4, abs=2e-3)  # its draws are even, and so are these shifts
    # The outer tenth is cut off; the rest is spread evenly about 0.1, from -0.08 to 0.28.
    assert amounts["dilate"] == pytest.approx(0.28, abs=2e-3)
    assert amounts["erode"] == pytest.approx(0.08, abs=2e-3)


def test_a_matched_perturbation_makes_errors_like_those_it_was_matched_to() -> None:
    drawn = Perturbation(1.0, shift=0.3, dilate=0.25, erode=0.1, drop=0.2)
    errors = _errors(drawn)
    again = _errors(Perturbation(**matched_amounts(errors)))
    assert again["gone"].mean() == pytest.approx(errors["gone"].mean(), abs=0.05)
    assert again["shift"].mean() == pytest.approx(errors["shift"].mean(), abs=0.03)
    assert again["growth"].mean() == pytest.approx(errors["growth"].mean(), abs=0.04)


def _errors(perturbation: Perturbation) -> pd.DataFrame:
    large = np.kron(SQUARE, np.ones((4, 4), np.uint8))  # moves are of whole pixels, which are small beside 72 px
    masks = [perturbation(large, (0, 0, 256, 256), seed=0, case_id=str(number), epoch=None) for number in range(400)]
    return pd.DataFrame([mask_error(large, mask) for mask in masks])


def test_without_a_lesion_image_nothing_can_be_matched() -> None:
    with pytest.raises(ValueError, match="cannot be measured"):
        matched_amounts(pd.DataFrame({"shift": [], "growth": [], "gone": []}))


def test_inner_folds_never_learn_from_the_outer_test_fold_or_its_copies() -> None:
    names = [f"c{number:02}" for number in range(60)]
    split = pd.DataFrame({"case_id": names, "group": [f"g{number // 2}" for number in range(60)]})
    split["fold"] = [number // 2 % 5 + 1 for number in range(60)]
    for fold in range(1, 6):
        split[f"valid_{fold}"] = (split["fold"] == fold % 5 + 1).astype(int)
    # c58 is a copy of c00, in test fold 1, under another patient's name: left out for fold 1, with its group.
    split.loc[split["group"] == "g29", "valid_1"] = -1
    groups = dict(zip(names, split["group"], strict=True)) | {"c58": "g0", "c59": "g0"}
    nested = inner_split(split, 1, groups, {name: "ab"[int(name[1:]) // 2 % 2] for name in names}, folds=3, seed=0)
    outer = {name for name, part in assign_parts(split, 1).items() if part in ("test", "left_out")}
    assert set(nested.loc[nested["fold"] == 4, "case_id"]) == outer
    for inner in (1, 2, 3):
        part_of = assign_parts(nested, inner)
        assert {name for name, part in part_of.items() if part == "left_out"} == outer
        assert all((part_of == part).sum() > 5 for part in ("train", "valid", "test"))
    check_split(nested, names, pd.DataFrame({"case_id": names, "group": [groups[name] for name in names]}))


def test_a_predicted_mask_is_perturbed_in_training_alone() -> None:
    amounts = {"strength": 1.0, "shift": 0.5, "dilate": 0.0, "erode": 0.0, "drop": 0.0}
    policy = GuidePolicy("predicted_perturbed", "predicted", masks="/tmp", **amounts)
    assert policy.perturbation == Perturbation(**amounts)
    node = {"_target_": "bcd.data.guides.GuidePolicy", "train": "predicted", "test": "predicted_perturbed", "masks": "/tmp"}
    with pytest.raises(ValueError, match="test"):
        build({**node, **amounts})
    with pytest.raises(GuideError, match=r"needs guide\.masks"):
        GuidePolicy("predicted_perturbed", "none", **amounts)
    with pytest.raises(GuideError, match=r"guide\.strength"):
        GuidePolicy("predicted_perturbed", "predicted", masks="/tmp")
