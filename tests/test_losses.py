"""Losses: values worked by hand, and what every loss in conf/loss must keep to."""

import math
from itertools import pairwise
from pydoc import locate
from typing import Any

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
import yaml
from scipy.ndimage import distance_transform_edt
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from torchvision.ops import sigmoid_focal_loss

from bcd.config import CONF, compose, groups
from bcd.config.build import build
from bcd.losses.bce import BCELoss
from bcd.losses.boundary import BoundaryLoss, signed_distance
from bcd.losses.cross_entropy import CrossEntropyLoss, LabelSmoothingLoss, WeightedCrossEntropyLoss
from bcd.losses.dice import DiceBCELoss, DiceLoss, dice_loss
from bcd.losses.focal import FocalCrossEntropyLoss, FocalLoss
from bcd.losses.jaccard import JaccardLoss
from bcd.losses.lovasz import LovaszLoss
from bcd.losses.tversky import FocalTverskyLoss, TverskyLoss

TOP_ROW = torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]]])
EMPTY = torch.zeros(1, 1, 2, 2)
LEFT_COLUMN = torch.tensor([[[[50.0, -50.0], [50.0, -50.0]]]])
NOTHING = torch.full((1, 1, 2, 2), -50.0)


MODELS = {"segmentation": "unet", "classification": "resnet18"}


def _kind(name: str) -> str:
    target = yaml.safe_load((CONF / "loss" / f"{name}.yaml").read_text())["_target_"]
    return str(locate(target).kind)  # type: ignore[attr-defined, union-attr]


KINDS = {name: _kind(name) for name in groups()["loss"]}
NODES = {name: compose("train", [f"model={MODELS[kind]}", f"loss={name}"])["loss"] for name, kind in KINDS.items()}
SEGMENTATION = [name for name, kind in KINDS.items() if kind == "segmentation"]
CLASSIFICATION = [name for name, kind in KINDS.items() if kind == "classification"]


def _loss(name: str) -> nn.Module:
    """Build an option of conf/loss; one that counts the classes is told of as many cases of each."""
    loss: nn.Module = build(NODES[name])
    if isinstance(loss, WeightedCrossEntropyLoss):
        loss.set_class_counts([5, 3, 2])
    return loss


def _blob(side: int = 6) -> Tensor:
    mask = torch.zeros(1, 1, side, side)
    mask[..., 1:4, 2:5] = 1
    return mask


def test_every_option_is_of_one_kind() -> None:
    assert set(SEGMENTATION) | set(CLASSIFICATION) == set(groups()["loss"])
    assert {"bce", "dice", "dice_bce", "focal", "tversky", "focal_tversky", "lovasz", "jaccard", "boundary"} <= set(SEGMENTATION)
    assert {"cross_entropy", "weighted_cross_entropy", "focal_ce", "label_smoothing"} <= set(CLASSIFICATION)


@pytest.mark.parametrize("name", SEGMENTATION)
def test_an_image_without_lesion_costs_nothing_at_first_and_more_with_every_false_pixel(name: str) -> None:
    loss, losses = _loss(name), []
    for n_false in range(17):
        logits = torch.full((1, 1, 4, 4), -50.0)
        logits.view(-1)[:n_false] = 50.0
        losses.append(loss(logits, torch.zeros(1, 1, 4, 4)).item())
    assert losses[0] == pytest.approx(0.0, abs=1e-3)
    assert all(more > fewer for fewer, more in pairwise(losses))


@pytest.mark.parametrize("name", SEGMENTATION)
@pytest.mark.parametrize("level", [0.0, 3.0])
def test_the_gradient_pushes_false_pixels_down_with_and_without_lesions_in_the_batch(name: str, level: float) -> None:
    for others in ([], [_blob()]):
        mask = torch.cat([torch.zeros(1, 1, 6, 6), *others])
        logits = torch.full(mask.shape, level, requires_grad=True)
        _loss(name)(logits, mask).backward()
        assert logits.grad is not None
        assert (logits.grad[0] > 0).all()


@pytest.mark.parametrize("name", SEGMENTATION)
def test_the_gradient_pushes_missed_pixels_up(name: str) -> None:
    logits = torch.zeros(1, 1, 6, 6, requires_grad=True)
    _loss(name)(logits, _blob()).backward()
    assert logits.grad is not None
    assert (logits.grad[_blob() == 1] < 0).all()


@pytest.mark.parametrize("name", SEGMENTATION)
def test_the_truth_costs_nothing(name: str) -> None:
    for mask in (_blob(), torch.ones(1, 1, 6, 6), torch.zeros(1, 1, 6, 6)):
        assert _loss(name)(100 * mask - 50, mask).item() == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("name", SEGMENTATION)
def test_the_loss_of_a_batch_is_the_mean_of_its_images_losses(name: str) -> None:
    torch.manual_seed(0)
    mask = torch.cat([_blob(), torch.zeros(1, 1, 6, 6), _blob().flip(-1), torch.ones(1, 1, 6, 6)])
    logits, loss = 3 * torch.randn(mask.shape), _loss(name)
    alone = [loss(logits[i : i + 1], mask[i : i + 1]).item() for i in range(len(mask))]
    assert loss(logits, mask).item() == pytest.approx(np.mean(alone), rel=1e-5)


@pytest.mark.parametrize("name", SEGMENTATION)
def test_extreme_logits_give_finite_losses_and_gradients(name: str) -> None:
    right = 1e4 * (2 * _blob() - 1)
    for mask in (_blob(), torch.zeros(1, 1, 6, 6), torch.ones(1, 1, 6, 6)):
        for extreme in (right, -right, torch.full_like(right, 1e4), torch.full_like(right, -1e4)):
            logits = extreme.clone().requires_grad_()
            loss = _loss(name)(logits, mask)
            loss.backward()
            assert loss.isfinite()
            assert logits.grad is not None
            assert logits.grad.isfinite().all()


@pytest.mark.parametrize("name", SEGMENTATION)
def test_low_precision_logits_are_taken_and_computed_on_in_float32(name: str) -> None:
    torch.manual_seed(0)
    logits = torch.randn(1, 1, 6, 6).bfloat16()
    loss = _loss(name)(logits, _blob())
    assert loss.dtype == torch.float32
    assert loss.shape == ()
    assert loss.item() == _loss(name)(logits.float(), _blob()).item()


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_the_loss_of_a_batch_is_the_mean_of_its_cases_losses(name: str) -> None:
    torch.manual_seed(0)
    logits, label, loss = torch.randn(5, 3), torch.tensor([0, 1, 2, 1, 0]), _loss(name)
    alone = [loss(logits[i : i + 1], label[i : i + 1]).item() for i in range(5)]
    assert loss(logits, label).item() == pytest.approx(np.mean(alone), rel=1e-5)


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_extreme_class_logits_give_finite_losses_and_gradients(name: str) -> None:
    for label in (0, 1, 2):
        logits = torch.tensor([[1e4, -1e4, -1e4]], requires_grad=True)
        loss = _loss(name)(logits, torch.tensor([label]))
        loss.backward()
        assert loss.isfinite()
        assert logits.grad is not None
        assert logits.grad.isfinite().all()


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_the_gradient_pushes_the_true_class_up_and_low_precision_is_taken(name: str) -> None:
    logits = torch.zeros(2, 3, dtype=torch.bfloat16, requires_grad=True)
    loss = _loss(name)(logits, torch.tensor([0, 2]))
    loss.backward()
    assert loss.dtype == torch.float32
    assert logits.grad is not None
    assert logits.grad.sign().tolist() == [[-1, 1, 1], [1, 1, -1]]


def test_dice_loss_of_half_overlap_is_one_half() -> None:
    assert DiceLoss(smooth=1e-6)(LEFT_COLUMN, TOP_ROW).item() == pytest.approx(0.5, abs=1e-4)


def test_dice_loss_with_smoothing_is_worked_by_hand() -> None:
    # One shared pixel, two predicted, two true: 1 - (2 * 1 + 1) / (2 + 2 + 1).
    assert DiceLoss(smooth=1.0)(LEFT_COLUMN, TOP_ROW).item() == pytest.approx(0.4, abs=1e-6)


def test_dice_loss_of_an_empty_mask_follows_the_number_of_false_pixels() -> None:
    one, two = NOTHING.clone(), NOTHING.clone()
    one[0, 0, 0, 0] = 50.0
    two[0, 0, 0, :] = 50.0
    # 1 - 1 / (false pixels + 1)
    assert DiceLoss()(one, EMPTY).item() == pytest.approx(1 / 2, abs=1e-6)
    assert DiceLoss()(two, EMPTY).item() == pytest.approx(2 / 3, abs=1e-6)


def test_dice_loss_is_one_figure_per_image() -> None:
    logits, mask = torch.cat([LEFT_COLUMN, NOTHING]), torch.cat([TOP_ROW, EMPTY])
    assert dice_loss(logits, mask, 1e-6).tolist() == pytest.approx([0.5, 0.0], abs=1e-4)


def test_dice_bce_is_the_weighted_sum_of_its_parts() -> None:
    logits, mask = torch.randn(3, 1, 5, 5), (torch.rand(3, 1, 5, 5) > 0.5).float()
    expected = 0.5 * DiceLoss()(logits, mask) + 2.0 * binary_cross_entropy_with_logits(logits, mask)
    assert DiceBCELoss(dice_weight=0.5, bce_weight=2.0)(logits, mask).item() == pytest.approx(expected.item(), abs=1e-6)


def test_bce_of_an_undecided_pixel_is_the_logarithm_of_two() -> None:
    assert BCELoss()(torch.zeros(1, 1, 2, 2), EMPTY).item() == pytest.approx(math.log(2), abs=1e-6)


def test_focal_loss_of_undecided_pixels_is_worked_by_hand() -> None:
    # p = 1/2: (1/2)^2 ln 2 a pixel, times 1/4 for the two lesion pixels and 3/4 for the two others: a mean weight of 1/2.
    loss = FocalLoss(gamma=2.0, alpha=0.25)(torch.zeros(1, 1, 2, 2), TOP_ROW)
    assert loss.item() == pytest.approx(math.log(2) / 8, abs=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_loss_equals_torchvisions(gamma: float) -> None:
    torch.manual_seed(0)
    logits, mask = 3 * torch.randn(2, 1, 6, 6), _blob().repeat(2, 1, 1, 1)
    reference = sigmoid_focal_loss(logits, mask, alpha=0.3, gamma=gamma, reduction="mean")
    assert FocalLoss(gamma=gamma, alpha=0.3)(logits, mask).item() == pytest.approx(reference.item(), rel=1e-5)


def test_focal_gradients_are_finite_where_torchvisions_are_not() -> None:
    for loss in (FocalLoss(gamma=0.5, alpha=0.25), lambda z, t: sigmoid_focal_loss(z, t, 0.25, 0.5, "mean")):
        logits = torch.full((1, 1, 2, 2), -1e4, requires_grad=True)
        loss(logits, EMPTY).backward()
        assert logits.grad is not None
        assert bool(logits.grad.isfinite().all()) == isinstance(loss, FocalLoss)


def test_tversky_loss_weighs_false_and_missed_pixels_apart() -> None:
    loss = TverskyLoss(alpha=0.3, beta=0.7)
    # One found, one false, one missed: 1 - (1 + 1) / (1 + 0.3 + 0.7 + 1).
    assert loss(LEFT_COLUMN, TOP_ROW).item() == pytest.approx(1 / 3, abs=1e-6)
    corner, three = NOTHING.clone(), torch.tensor([[[[50.0, 50.0], [50.0, -50.0]]]])
    corner[0, 0, 0, 0] = 50.0
    # One found, one missed: 0.7 / (1 + 0.7 + 1). Two found, one false: 0.3 / (2 + 0.3 + 1).
    assert loss(corner, TOP_ROW).item() == pytest.approx(0.7 / 2.7, abs=1e-6)
    assert loss(three, TOP_ROW).item() == pytest.approx(0.3 / 3.3, abs=1e-6)


def test_tversky_loss_with_halves_is_the_dice_loss() -> None:
    logits, mask = torch.randn(3, 1, 5, 5), (torch.rand(3, 1, 5, 5) > 0.5).float()
    # 1 - (TP + s) / (TP + FP/2 + FN/2 + s) = 1 - (2 TP + 2 s) / (sum p + sum g + 2 s)
    assert TverskyLoss(0.5, 0.5, smooth=1.0)(logits, mask).item() == pytest.approx(DiceLoss(2.0)(logits, mask).item(), rel=1e-5)


def test_focal_tversky_loss_is_a_power_of_the_tversky_loss_of_each_image() -> None:
    logits, mask = torch.cat([LEFT_COLUMN, NOTHING]), torch.cat([TOP_ROW, TOP_ROW])
    # Images of 1/3 (see above) and 0.7 * 2 / (0.7 * 2 + 1) = 7/12, each to the power 3/4.
    expected = ((1 / 3) ** 0.75 + (7 / 12) ** 0.75) / 2
    assert FocalTverskyLoss(0.3, 0.7, gamma=4 / 3)(logits, mask).item() == pytest.approx(expected, abs=1e-6)


def test_jaccard_loss_is_worked_by_hand() -> None:
    # One shared pixel of three in the union: 1 - (1 + 1) / (3 + 1).
    assert JaccardLoss()(LEFT_COLUMN, TOP_ROW).item() == pytest.approx(0.5, abs=1e-6)


def test_lovasz_hinge_of_two_pixels_is_worked_by_hand() -> None:
    mask, logits = torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[[[0.5, 0.5]]]])
    # Errors 1 + 0.5 (false) and 1 - 0.5 (lesion). Jaccard losses with smooth 1: the false pixel wrong 1 / (1 + 1 + 1),
    # both wrong 2 / (2 + 1); steps of 1/3 each: (1.5 + 0.5) / 3.
    assert LovaszLoss()(logits, mask).item() == pytest.approx(2 / 3, abs=1e-6)


def test_lovasz_hinge_of_an_empty_mask_weighs_false_pixels_by_halves_and_sixths() -> None:
    # Two pixels at logit 1 have errors 2, steps 1/2 and 2/3 - 1/2 = 1/6; the others, at -50, none.
    logits = torch.tensor([[[[1.0, 1.0], [-50.0, -50.0]]]])
    assert LovaszLoss()(logits, EMPTY).item() == pytest.approx(2 / 2 + 2 / 6, abs=1e-6)


def test_lovasz_hinge_without_smoothing_is_the_original_where_there_is_a_lesion() -> None:
    torch.manual_seed(0)
    logits = 2 * torch.randn(3, 1, 6, 6)
    mask = torch.cat([_blob(), _blob().flip(-1), _blob().flip(-2)])
    reference = smp.losses.LovaszLoss("binary", per_image=True)(logits, mask)
    assert LovaszLoss(smooth=1e-9)(logits, mask).item() == pytest.approx(reference.item(), rel=1e-5)


class _NoRegion(nn.Module):
    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        return torch.zeros(())


def _boundary() -> BoundaryLoss:
    return BoundaryLoss(_NoRegion(), region_weight=1.0, boundary_weight=1.0)


def test_boundary_loss_is_worked_by_hand() -> None:
    # 3 x 4 px, diagonal 5; the lesion is the first column. Distances -0.5, 0.5, 1.5, 2.5 px are -0.1, 0.1, 0.3, 0.5.
    mask = torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(1, 1, 3, 4)
    assert signed_distance(mask)[0, 0, 1].tolist() == pytest.approx([-0.1, 0.1, 0.3, 0.5], abs=1e-6)
    third_column = torch.tensor([-50.0, -50.0, 50.0, -50.0]).expand(1, 1, 3, 4)
    # Three missed pixels at 0.1 and three false ones at 0.3, over 12 px.
    assert _boundary()(third_column, mask).item() == pytest.approx(0.1, abs=1e-6)


def test_boundary_loss_without_a_lesion_is_the_share_of_false_pixels() -> None:
    logits = NOTHING.clone()
    logits[0, 0, 0, 0] = 50.0
    assert _boundary()(logits, EMPTY).item() == pytest.approx(1 / 4, abs=1e-6)
    assert _boundary()(NOTHING, torch.ones(1, 1, 2, 2)).item() == pytest.approx(1.0, abs=1e-6)


def test_distances_equal_scipys() -> None:
    mask = torch.zeros(1, 1, 37, 53)
    mask[0, 0, 5:20, 8:30] = 1
    mask[0, 0, 25:30, 40:50] = 1
    lesion = mask[0, 0].numpy() > 0
    pixels = np.where(lesion, 0.5 - distance_transform_edt(lesion), distance_transform_edt(~lesion) - 0.5)
    np.testing.assert_allclose(signed_distance(mask)[0, 0].numpy(), pixels / math.hypot(37, 53), atol=1e-5)


def test_the_image_size_does_not_matter_to_the_boundary_loss() -> None:
    mask, logits = torch.zeros(1, 1, 64, 64), torch.full((1, 1, 64, 64), -50.0)
    mask[..., 16:40, 10:30] = 1
    logits[..., 20:50, 16:40] = 50.0
    doubled = [tensor.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3) for tensor in (logits, mask)]
    assert _boundary()(*doubled).item() == pytest.approx(_boundary()(logits, mask).item(), rel=0.01)


def test_boundary_and_region_loss_are_added_by_their_weights() -> None:
    loss = BoundaryLoss(DiceLoss(), region_weight=0.5, boundary_weight=2.0)
    expected = 0.5 * DiceLoss()(LEFT_COLUMN, TOP_ROW) + 2 * _boundary()(LEFT_COLUMN, TOP_ROW)
    assert loss(LEFT_COLUMN, TOP_ROW).item() == pytest.approx(expected.item(), abs=1e-6)


def test_the_region_loss_is_an_option_of_its_own() -> None:
    node = compose("train", ["loss=boundary", "loss@loss.region=dice_bce", "loss.region.bce_weight=2.0"])["loss"]
    assert isinstance(build(node).region, DiceBCELoss)
    with pytest.raises(ValueError, match="CrossEntropyLoss compares labels"):
        BoundaryLoss(CrossEntropyLoss(), 1.0, 1.0)


def test_cross_entropy_equals_the_reference() -> None:
    logits, label = torch.randn(4, 3), torch.tensor([0, 1, 2, 1])
    assert torch.equal(CrossEntropyLoss()(logits, label), cross_entropy(logits, label))


HALF = torch.tensor([[0.5, 0.25, 0.25]]).log()


def test_label_smoothing_is_worked_by_hand() -> None:
    # Asked for: 0.7 + 0.1, 0.1, 0.1. 0.8 ln 2 + 0.2 ln 4 = 1.2 ln 2.
    assert LabelSmoothingLoss(0.3)(HALF, torch.tensor([0])).item() == pytest.approx(1.2 * math.log(2), abs=1e-6)


def test_focal_cross_entropy_is_worked_by_hand() -> None:
    # Class 0: (1/2)^2 ln 2. Class 1: (3/4)^2 ln 4.
    assert FocalCrossEntropyLoss(2.0)(HALF, torch.tensor([0])).item() == pytest.approx(math.log(2) / 4, abs=1e-6)
    assert FocalCrossEntropyLoss(2.0)(HALF, torch.tensor([1])).item() == pytest.approx(9 / 16 * math.log(4), abs=1e-6)


def test_focal_cross_entropy_without_focus_is_the_cross_entropy() -> None:
    logits, label = torch.randn(4, 3), torch.tensor([0, 1, 2, 1])
    assert FocalCrossEntropyLoss(0.0)(logits, label).item() == pytest.approx(cross_entropy(logits, label).item(), rel=1e-6)


def test_balanced_weights_are_inverse_frequencies_whose_mean_over_the_cases_is_one() -> None:
    loss = WeightedCrossEntropyLoss("balanced", 3)
    loss.set_class_counts([6, 3, 1])
    # 10 / (3 * 6), 10 / (3 * 3), 10 / (3 * 1)
    assert loss.class_weights.tolist() == pytest.approx([5 / 9, 10 / 9, 10 / 3])
    assert (loss.class_weights * torch.tensor([6, 3, 1])).sum().item() == pytest.approx(10)
    assert loss.class_weights.dtype == torch.float32


def test_a_weighted_batch_is_the_mean_and_not_torchs_quotient_by_its_weights() -> None:
    loss = WeightedCrossEntropyLoss([1.0, 3.0], 2)
    # Undecided: ln 2 each, weighed 1 and 3: (1 + 3) / 2 ln 2. torch divides by 1 + 3 and gives ln 2.
    assert loss(torch.zeros(2, 2), torch.tensor([0, 1])).item() == pytest.approx(2 * math.log(2), abs=1e-6)


def test_given_weights_need_no_counts_and_stay() -> None:
    loss = WeightedCrossEntropyLoss([1, 2], 2)
    loss.set_class_counts([10, 0])
    assert loss.class_weights.tolist() == [1.0, 2.0]


def test_balanced_weights_come_back_with_a_checkpoint_and_are_asked_for_without_one() -> None:
    loss, again = WeightedCrossEntropyLoss("balanced", 2), WeightedCrossEntropyLoss("balanced", 2)
    logits, label = torch.zeros(1, 2), torch.tensor([1])
    with pytest.raises(RuntimeError, match="needs the number of training cases of each class"):
        again(logits, label)
    loss.set_class_counts([3, 1])
    again.load_state_dict(loss.state_dict())
    assert again(logits, label).item() == loss(logits, label).item() == pytest.approx(2 * math.log(2))


def test_a_class_without_training_cases_is_named() -> None:
    with pytest.raises(ValueError, match=r"Class 1 .* has no training cases"):
        WeightedCrossEntropyLoss("balanced", 3).set_class_counts([5, 0, 2])
    with pytest.raises(ValueError, match="2 class counts for 3 classes"):
        WeightedCrossEntropyLoss("balanced", 3).set_class_counts([5, 2])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DiceBCELoss(dice_weight=0.0, bce_weight=0.0), "both 0"),
        (lambda: WeightedCrossEntropyLoss([1.0, 2.0], 3), "give 3"),
    ],
)
def test_weights_that_do_not_go_together_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
