"""Lovász hinge for segmentation that counts every image, with or without a lesion."""

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from bcd.config.ranges import Positive


def lovasz_hinge(logits: Tensor, mask: Tensor, smooth: float) -> Tensor:
    """Return one Lovász hinge per image, float32 (B,), at least 0; logits and mask are (B, 1, H, W).

    So many lesion pixels as `smooth`, positive, are imagined that are always found.
    """
    truth = mask.flatten(1) >= 0.5
    errors = 1 - logits.float().flatten(1) * (2.0 * truth - 1)
    errors, order = errors.sort(dim=1, descending=True, stable=True)
    return (relu(errors) * _steps(truth.gather(1, order), smooth)).sum(1)


def _steps(truth: Tensor, smooth: float) -> Tensor:
    """Return by how much the Jaccard loss grows with each further wrong pixel, float32 (B, N); truth is bool (B, N)."""
    # Integers: their running sums are exact, and the same in every run on a GPU as well.
    wrong = torch.arange(1, truth.shape[1] + 1, device=truth.device)
    union = truth.sum(1, keepdim=True) + (~truth).cumsum(1)
    jaccard = wrong / (union + smooth)
    return jaccard.diff(dim=1, prepend=torch.zeros_like(jaccard[:, :1]))


class LovaszLoss(nn.Module):
    """Lovász hinge: the convex surrogate of the Jaccard loss; one per image, then the mean over the batch, at least 0.

    Berman et al., CVPR 2018, doi:10.1109/CVPR.2018.00464. In the original, an image without lesion asks for its worst pixel alone:
    a second false pixel costs nothing. Ours takes the smoothed Jaccard loss, wrong / (union + smooth), which is that of a mask
    with `smooth` lesion pixels more that are always found. So it stays convex. On an image without lesion it is 0 when every
    logit is below -1, and grows with every false pixel, weighing them 1/2, 1/6, 1/12, ... for smooth=1.

    Args:
        smooth: in pixels.
    """

    kind = "segmentation"

    def __init__(self, smooth: Positive = 1.0) -> None:
        super().__init__()
        self.smooth = smooth

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return the scalar loss of logits (B, 1, H, W) against mask (B, 1, H, W) in {0, 1}."""
        return lovasz_hinge(logits, mask, self.smooth).mean()
