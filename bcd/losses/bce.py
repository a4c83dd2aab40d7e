"""Binary cross-entropy for segmentation."""

from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits


class BCELoss(nn.Module):
    """Binary cross-entropy per pixel, then the mean over all pixels of the batch; at least 0. Every image counts alike."""

    kind = "segmentation"

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return the scalar loss of logits (B, 1, H, W) against mask (B, 1, H, W) in {0, 1}."""
        return binary_cross_entropy_with_logits(logits.float(), mask.float())
