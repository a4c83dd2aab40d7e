"""Jaccard loss for segmentation that counts every image, with or without a lesion."""

from torch import Tensor, nn

from bcd.config.ranges import Positive
from bcd.losses.tversky import tversky_loss


class JaccardLoss(nn.Module):
    """Soft Jaccard (intersection over union) loss: one per image, then the mean over the batch, in [0, 1).

    Rahman and Wang, ISVC 2016, doi:10.1007/978-3-319-50835-1_22. It is the Tversky loss whose weights are both 1; an image without
    lesion counts: its loss is near 0 when nothing is predicted and grows with every false pixel.

    Args:
        smooth: added to intersection and union, in pixels.
    """

    kind = "segmentation"

    def __init__(self, smooth: Positive = 1.0) -> None:
        super().__init__()
        self.smooth = smooth

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return the scalar loss of logits (B, 1, H, W) against mask (B, 1, H, W) in {0, 1}."""
        return tversky_loss(logits, mask, 1.0, 1.0, self.smooth).mean()
