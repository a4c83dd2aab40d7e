"""Mask-guided classifiers: image and mask in, class logits out.

The guide is (B, 1, H, W) in [0, 1]; where it is empty, each model falls back to the whole image.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.ops import roi_align

from bcd.config.ranges import Classes, NotNegative, Rest, Side
from bcd.models.backbones import classifying, mapping
from bcd.models.guides import boxes_of, is_empty
from bcd.models.names import BackboneName


class RoiCrop(nn.Module):
    """Classify the square box of the mask plus a margin, resampled to a fixed size.

    Args:
        backbone: any timm name.
        num_classes: C.
        pretrained: false, true (BCD_WEIGHTS, then timm) or a weights file.
        drop_rate: dropout before the last layer.
        margin: on each side, as a share of the longer side of the mask's box.
        crop_size: side of the resampled box in pixels.
        kwargs: further arguments for `timm.create_model`.
    """

    def __init__(
        self,
        backbone: BackboneName,
        num_classes: Classes,
        pretrained: bool | str,
        drop_rate: Rest,
        margin: NotNegative,
        crop_size: Side,
        kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.margin = margin
        self.crop_size = crop_size
        built = classifying(backbone, num_classes, pretrained=pretrained, drop_rate=drop_rate, kwargs=kwargs)
        self.network, self.fit, self.origin = built.network, built.fit, built.origin

    def crop(self, image: Tensor, guide: Tensor) -> Tensor:
        """Return the boxes of image (B, 1, H, W): (B, 1, crop_size, crop_size)."""
        boxes = boxes_of(guide, self.margin).to(torch.float32)
        # Each box after the number of its image: a list of boxes would fix their number in an exported graph.
        numbers = torch.arange(boxes.shape[0], dtype=boxes.dtype, device=boxes.device)[:, None]
        return roi_align(image.float(), torch.cat([numbers, boxes], dim=1), self.crop_size, aligned=True)

    def forward(self, image: Tensor, guide: Tensor) -> Tensor:
        """Return logits (B, C) of image (B, 1, H, W) and guide (B, 1, H, W)."""
        return self.network(self.fit.image(self.crop(image, guide)))


class RoiChannel(nn.Module):
    """Classify image and mask as two channels; an empty guide is a mask of the whole image.

    Args:
        backbone: any timm name.
        num_classes: C.
        pretrained: false, true (BCD_WEIGHTS, then timm) or a weights file; the mask's channel starts at zero.
        drop_rate: dropout before the last layer.
        kwargs: further arguments for `timm.create_model`.
    """

    def __init__(
        self,
        backbone: BackboneName,
        num_classes: Classes,
        pretrained: bool | str,
        drop_rate: Rest,
        kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        built = classifying(backbone, num_classes, pretrained=pretrained, drop_rate=drop_rate, extra_channels=1, kwargs=kwargs)
        self.network, self.fit, self.origin = built.network, built.fit, built.origin

    def forward(self, image: Tensor, guide: Tensor) -> Tensor:
        """Return logits (B, C) of image (B, 1, H, W) and guide (B, 1, H, W)."""
        whole = is_empty(guide)[:, None, None, None].to(guide.dtype)
        outline = self.fit.outline(torch.maximum(guide, whole))
        return self.network(torch.cat([self.fit.image(image), outline], dim=1))


class RoiPool(nn.Module):
    """Pool the features inside the mask and over the whole image, and classify both together.

    Args:
        backbone: any timm name with a feature map.
        num_classes: C.
        pretrained: false, true (BCD_WEIGHTS, then timm) or a weights file.
        drop_rate: dropout before the last layer.
        kwargs: further arguments for `timm.create_model`.
    """

    def __init__(
        self,
        backbone: BackboneName,
        num_classes: Classes,
        pretrained: bool | str,
        drop_rate: Rest,
        kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        built = mapping(backbone, pretrained=pretrained, kwargs=kwargs)
        self.network, self.fit, self.origin, self._look = built.network, built.fit, built.origin, built.look
        features = self._count_features()
        self.head = nn.Sequential(nn.Dropout(drop_rate), nn.Linear(2 * features, num_classes))

    @torch.no_grad()
    def _count_features(self) -> int:
        training = self.network.training
        self.network.eval()
        count = self._look(self.fit.image(torch.zeros(1, 1, 16, 16))).shape[1]
        self.network.train(training)
        return count

    def forward(self, image: Tensor, guide: Tensor) -> Tensor:
        """Return logits (B, C) of image (B, 1, H, W) and guide (B, 1, H, W)."""
        features = self._look(self.fit.image(image))
        inside = self.fit.outline(torch.maximum(guide, is_empty(guide)[:, None, None, None].to(guide.dtype)))
        # Area-averaging keeps a mask smaller than a feature cell from vanishing.
        weight = interpolate(inside.float(), features.shape[2:], mode="area")
        pooled = (features * weight).sum((2, 3)) / weight.sum((2, 3)).clamp_min(1e-6)
        return self.head(torch.cat([pooled.to(features.dtype), features.mean((2, 3))], dim=1))
