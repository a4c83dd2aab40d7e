import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from bcd.losses.bce import BCELoss
from bcd.losses.cross_entropy import CrossEntropyLoss
from bcd.losses.dice import DiceBCELoss, DiceLoss, dice_loss

TOP_ROW = torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]]])
EMPTY = torch.zeros(1, 1, 2, 2)
LEFT_COLUMN = torch.tensor([[[[50.0, -50.0], [50.0, -50.0]]]])
NOTHING = torch.full((1, 1, 2, 2), -50.0)


def test_dice_loss_of_half_overlap_is_one_half() -> None:
    assert DiceLoss(smooth=1e-6)(LEFT_COLUMN, TOP_ROW).item() == pytest.approx(0.5, abs=1e-4)


def test_dice_loss_with_smoothing_is_worked_by_hand() -> None:
    # One shared pixel, two predicted, two true: 1 - (2 * 1 + 1) / (2 + 2 + 1).
    assert DiceLoss(smooth=1.0)(LEFT_COLUMN, TOP_ROW).item() == pytest.approx(0.4, abs=1e-6)


def test_dice_loss_of_an_empty_mask_is_near_zero_when_nothing_is_predicted() -> None:
    assert DiceLoss()(NOTHING, EMPTY).item() == pytest.approx(0.0, abs=1e-6)


def test_dice_loss_of_an_empty_mask_grows_with_every_false_pixel() -> None:
    one, two = NOTHING.clone(), NOTHING.clone()
    one[0, 0, 0, 0] = 50.0
    two[0, 0, 0, :] = 50.0
    # 1 - 1 / (false pixels + 1)
    assert DiceLoss()(one, EMPTY).item() == pytest.approx(1 / 2, abs=1e-6)
    assert DiceLoss()(two, EMPTY).item() == pytest.approx(2 / 3, abs=1e-6)


def test_false_pixels_on_an_empty_mask_have_a_gradient() -> None:
    logits = torch.zeros(1, 1, 2, 2, requires_grad=True)
    DiceLoss()(logits, EMPTY).backward()
    assert logits.grad is not None
    assert (logits.grad > 0).all()


def test_dice_loss_is_one_figure_per_image_then_the_mean() -> None:
    logits, mask = torch.cat([LEFT_COLUMN, NOTHING]), torch.cat([TOP_ROW, EMPTY])
    assert dice_loss(logits, mask, 1e-6).tolist() == pytest.approx([0.5, 0.0], abs=1e-4)
    assert DiceLoss(1e-6)(logits, mask).item() == pytest.approx(0.25, abs=1e-4)


def test_dice_bce_is_the_weighted_sum_of_its_parts() -> None:
    logits, mask = torch.randn(3, 1, 5, 5), (torch.rand(3, 1, 5, 5) > 0.5).float()
    expected = 0.5 * DiceLoss()(logits, mask) + 2.0 * binary_cross_entropy_with_logits(logits, mask)
    assert DiceBCELoss(dice_weight=0.5, bce_weight=2.0)(logits, mask).item() == pytest.approx(expected.item(), abs=1e-6)


def test_bce_equals_the_reference_and_an_empty_mask_counts() -> None:
    logits = torch.zeros(1, 1, 2, 2)
    assert BCELoss()(logits, EMPTY).item() == pytest.approx(0.6931472, abs=1e-6)


def test_losses_are_computed_in_float32_whatever_comes() -> None:
    loss = DiceBCELoss(dice_weight=1.0, bce_weight=1.0)(LEFT_COLUMN.bfloat16(), TOP_ROW)
    assert loss.dtype == torch.float32


def test_cross_entropy_equals_the_reference() -> None:
    logits, label = torch.randn(4, 3), torch.tensor([0, 1, 2, 1])
    assert torch.equal(CrossEntropyLoss()(logits, label), cross_entropy(logits, label))


@pytest.mark.parametrize(("dice", "bce"), [(-1.0, 1.0), (0.0, 0.0)])
def test_weights_that_cannot_be_are_refused(dice: float, bce: float) -> None:
    with pytest.raises(ValueError, match="loss weights"):
        DiceBCELoss(dice_weight=dice, bce_weight=bce)


def test_a_smoothing_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="must be positive"):
        DiceLoss(smooth=0.0)
