"""Tversky losses for segmentation that count every image, with or without a lesion."""

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from bcd.config.ranges import Positive


def tversky_loss(logits: Tensor, mask: Tensor, alpha: float, beta: float, smooth: float) -> Tensor:
    """Return one Tversky loss per image, float32 (B,) in [0, 1); logits and mask are (B, 1, H, W).

    That is 1 - (TP + smooth) / (TP + alpha FP + beta FN + smooth), written as a quotient that keeps its digits near 0; TP, FP and
    FN are sums of probabilities. Without a lesion it is alpha FP / (alpha FP + smooth): alpha is positive, or false pixels there
    would cost nothing; so are beta and smooth, in pixels.
    """
    probability, truth = logits.float().sigmoid().flatten(1), mask.float().flatten(1)
    shared = (probability * truth).sum(1)
    false = alpha * (probability * (1 - truth)).sum(1) + beta * ((1 - probability) * truth).sum(1)
    return false / (shared + false + smooth)


class TverskyLoss(nn.Module):
    """Tversky loss: a Dice loss that weighs false and missed pixels apart; one per image, then the mean, in [0, 1).

    Salehi et al., MLMI 2017, doi:10.1007/978-3-319-67389-9_44. alpha = beta = 0.5 is the Dice loss, alpha = beta = 1 the Jaccard
    loss. An image without lesion counts: its loss is near 0 when nothing is predicted and grows with every false pixel.

    Args:
        alpha: weight of false positives.
        beta: weight of false negatives.
        smooth: added to numerator and denominator, in pixels.
    """

    kind = "segmentation"

    def __init__(self, alpha: Positive, beta: Positive, smooth: Positive = 1.0) -> None:
        super().__init__()
        self.alpha = alpha
        self.beta = beta
        self.smooth = smooth

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return the scalar loss of logits (B, 1, H, W) against mask (B, 1, H, W) in {0, 1}."""
        return tversky_loss(logits, mask, self.alpha, self.beta, self.smooth).mean()


class FocalTverskyLoss(nn.Module):
    """Tversky loss to the power 1 / gamma, which makes much of images that are almost right; in [0, 1).

    Abraham and Khan, ISBI 2019, doi:10.1109/ISBI.2019.8759329, whose gamma is 4/3 and whose alpha and beta are called beta and
    alpha here. One per image, then the mean; an image without lesion is treated as in the Tversky loss.

    Args:
        alpha: weight of false positives.
        beta: weight of false negatives.
        gamma: the exponent is 1 / gamma, so that 4/3 means 0.75; 1 is the Tversky loss.
        smooth: added to numerator and denominator, in pixels.
    """

    kind = "segmentation"

    def __init__(self, alpha: Positive, beta: Positive, gamma: Annotated[float, Field(ge=1, le=3)], smooth: Positive = 1.0) -> None:
        super().__init__()
        self.alpha = alpha
        self.beta = beta
        self.gamma = gamma
        self.smooth = smooth

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return the scalar loss of logits (B, 1, H, W) against mask (B, 1, H, W) in {0, 1}."""
        loss = tversky_loss(logits, mask, self.alpha, self.beta, self.smooth)
        # The power's slope is infinite at 0, where a perfect image lies, and with it an image without lesion and prediction.
        return loss.clamp_min(1e-6).pow(1 / self.gamma).mean()
