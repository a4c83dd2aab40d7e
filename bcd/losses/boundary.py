"""Boundary loss for segmentation: false and missed pixels cost by their distance from the true contour."""

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from bcd.config.ranges import NotNegative, Positive


def signed_distance(mask: Tensor) -> Tensor:
    """Return the distance of each pixel from the true contour, in shares of the image's diagonal, float32 (B, 1, H, W).

    Positive outside the lesion, negative inside; the contour runs between pixels, half a pixel from the centres beside it. An image
    without lesion has distance 1 everywhere, as far from any lesion as an image can be; one that is all lesion has -1. The mask is
    (B, 1, H, W) in {0, 1}.
    """
    inside = (mask >= 0.5).squeeze(1).cpu().numpy().astype(np.uint8)
    distances = torch.from_numpy(np.stack([_signed_distance(lesion) for lesion in inside]))
    return distances.unsqueeze(1).to(mask.device)


def _signed_distance(lesion: np.ndarray) -> np.ndarray:
    if not lesion.any() or lesion.all():
        return np.full(lesion.shape, -1.0 if lesion.any() else 1.0, np.float32)
    outside, inside = (cv2.distanceTransform(part, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) for part in (1 - lesion, lesion))
    pixels = np.where(lesion > 0, 0.5 - inside, outside - 0.5)
    return (pixels / np.hypot(*lesion.shape)).astype(np.float32)


class BoundaryLoss(nn.Module):
    """Weighted sum of a region loss and the boundary loss; at least 0.

    Kervadec et al., Medical Image Analysis 67 (2021) 101851, doi:10.1016/j.media.2020.101851. The boundary loss of an image is
    the mean over its pixels of (probability - truth) * signed distance: 0 for the truth, and each wrong pixel adds its distance
    from the contour. Ours differs in three things. Distances are shares of the image's diagonal, so that its size does not
    matter. The truth is subtracted, a constant that the paper leaves out. And an image without lesion, on which the authors'
    code gives 0 for any prediction, contributes: every false pixel is at distance 1. The weights are those of the paper's
    constant scheme; its 0.01 a pixel is 0.01 times the diagonal here, 3.6 for 256 x 256 px.

    Args:
        region: a region loss, (logits, mask) -> scalar; without one, the boundary loss alone leads to empty masks.
        region_weight: of the region loss.
        boundary_weight: of the boundary loss.

    Raises:
        ValueError: for a region loss that is one of classification.
    """

    kind = "segmentation"

    def __init__(self, region: nn.Module, region_weight: Positive, boundary_weight: NotNegative) -> None:
        super().__init__()
        if getattr(region, "kind", self.kind) != self.kind:  # a loss from elsewhere says no kind
            raise ValueError(f"loss.region={type(region).__name__} compares labels; choose a segmentation loss, such as DiceLoss.")
        self.region = region
        self.region_weight = region_weight
        self.boundary_weight = boundary_weight

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Return the scalar loss of logits (B, 1, H, W) against mask (B, 1, H, W) in {0, 1}."""
        boundary = ((logits.float().sigmoid() - mask.float()) * signed_distance(mask)).mean()
        return torch.as_tensor(self.region_weight * self.region(logits, mask) + self.boundary_weight * boundary)
