"""Overlap losses for segmentation that count every image, with or without a lesion."""

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from bcd.config.ranges import NotNegative, Positive


def dice_loss(logits: Tensor, mask: Tensor, smooth: float) -> Tensor:
    """Return one soft Dice loss per image, float32 (B,) in [0, 1]; logits and mask are (B, 1, H, W)."""
    probability = logits.float().sigmoid().flatten(1)
    truth = mask.float().flatten(1)
    overlap = (probability * truth).sum(1)
    return 1 - (2 * overlap + smooth) / (probability.sum(1) + truth.sum(1) + smooth)


class DiceLoss(nn.Module):
    """Soft Dice loss: one Dice per image, then the mean over the batch, in [0, 1].

    Milletari et al., V-Net, 3DV 2016, doi:10.1109/3DV.2016.79. Ours sums p, not p squared, in the denominator, and an image
    without lesion counts: its loss is near 0 when nothing is predicted and grows with every false pixel.

    Args:
        smooth: added to numerator and denominator, in pixels, so that two empty masks do not divide zero by zero.
    """

    kind = "segmentation"

    def __init__(self, smooth: Positive = 1.0) -> None:
        super().__init__()
        self.smooth = smooth

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return the scalar loss of logits (B, 1, H, W) against mask (B, 1, H, W) in {0, 1}."""
        return dice_loss(logits, mask, self.smooth).mean()


class DiceBCELoss(nn.Module):
    """Weighted sum of the Dice loss and the binary cross-entropy per pixel; at least 0.

    Args:
        dice_weight: of the Dice loss.
        bce_weight: of the cross-entropy.
        smooth: of the Dice loss, in pixels.

    Raises:
        ValueError: for two weights of 0.
    """

    kind = "segmentation"

    def __init__(self, dice_weight: NotNegative, bce_weight: NotNegative, smooth: Positive = 1.0) -> None:
        super().__init__()
        if dice_weight + bce_weight == 0:
            raise ValueError("loss.dice_weight and loss.bce_weight are both 0; one must be above.")
        self.dice = DiceLoss(smooth)
        self.dice_weight = dice_weight
        self.bce_weight = bce_weight

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return the scalar loss of logits (B, 1, H, W) against mask (B, 1, H, W) in {0, 1}."""
        bce = binary_cross_entropy_with_logits(logits.float(), mask.float())
        return torch.as_tensor(self.dice_weight * self.dice(logits, mask) + self.bce_weight * bce)
