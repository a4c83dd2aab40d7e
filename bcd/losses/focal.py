"""Focal losses (Lin et al., ICCV 2017, doi:10.1109/ICCV.2017.324): well-classified examples get a small weight.

The weight (1 - p)^gamma is computed from log-probabilities: torchvision's `sigmoid_focal_loss`, which ours equals else, has
gradients that are not numbers where a pixel is quite certain and gamma lies between 0 and 1.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, logsigmoid

from bcd.config.ranges import NotNegative, Within


class FocalLoss(nn.Module):
    """Binary focal loss per pixel, then the mean over all pixels; at least 0.

    The paper divides by the number of objects; ours by that of pixels, since an image without lesion has no objects. There
    every pixel weighs 1 - alpha.

    Args:
        gamma: how much less a pixel weighs the better it is predicted; 0 is the weighted cross-entropy.
        alpha: weight of lesion pixels; the others weigh 1 - alpha.
    """

    kind = "segmentation"

    def __init__(self, gamma: NotNegative, alpha: Within) -> None:
        super().__init__()
        self.gamma = gamma
        self.alpha = alpha

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return the scalar loss of logits (B, 1, H, W) against mask (B, 1, H, W) in {0, 1}."""
        mask = mask.float()
        towards_truth = logits.float() * (2 * mask - 1)
        weight = self.alpha * mask + (1 - self.alpha) * (1 - mask)
        focus = (self.gamma * logsigmoid(-towards_truth)).exp()
        return -(weight * focus * logsigmoid(towards_truth)).mean()


class FocalCrossEntropyLoss(nn.Module):
    """Focal loss over the classes of a softmax, then the mean over the batch; at least 0.

    Args:
        gamma: how much less a case weighs the better it is predicted; 0 is the cross-entropy.
    """

    kind = "classification"

    def __init__(self, gamma: NotNegative) -> None:
        super().__init__()
        self.gamma = gamma

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Return the scalar loss of logits (B, C), C >= 2, against label int64 (B,)."""
        log_probability = log_softmax(logits.float(), dim=1)
        own = log_probability.gather(1, label[:, None])
        others = log_probability.scatter(1, label[:, None], -torch.inf).logsumexp(1, keepdim=True)
        return -((self.gamma * others).exp() * own).mean()
