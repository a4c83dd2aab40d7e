"""Attention U-Net."""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d

from bcd.config.ranges import Channels
from bcd.models.batch_norm import spare_single_values
from bcd.models.sizes import Padding


def _double_convolution(channels_in: int, channels_out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for source in (channels_in, channels_out):
        layers += [nn.Conv2d(source, channels_out, 3, padding=1, bias=False), nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class AttentionGate(nn.Module):
    """Weigh a skip connection by what the coarser level looks for; the weights are (B, 1, H, W) in [0, 1]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(1, channels // 2)
        self.skip = nn.Sequential(nn.Conv2d(channels, inner, 1, bias=False), nn.BatchNorm2d(inner))
        self.gating = nn.Sequential(nn.Conv2d(channels, inner, 1, bias=False), nn.BatchNorm2d(inner))
        self.weight = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(inner, 1, 1), nn.Sigmoid())

    def forward(self, skip: Tensor, gating: Tensor) -> Tensor:
        """Return the weighted skip (B, F, H, W); both inputs are (B, F, H, W)."""
        return skip * self.weight(self.skip(skip) + self.gating(gating))


class AttentionUNet(nn.Module):
    """U-Net whose skip connections pass attention gates.

    Oktay et al., Attention U-Net, MIDL 2018, arXiv:1804.03999. Any size: the image is padded by its edge to a multiple
    of the stride, and the logits are cropped back.

    Args:
        channels: of each level, finest first.

    Attributes:
        fit: the rule by which images are padded.
        feature_channels: channels of the deepest feature map.
    """

    origin = "random weights"

    def __init__(self, channels: Annotated[Sequence[Channels], Field(min_length=2, max_length=8)]) -> None:
        super().__init__()
        stride = 2 ** (len(channels) - 1)
        self.fit = Padding(stride, stride)
        self.feature_channels = channels[-1]
        self.down = nn.ModuleList(_double_convolution(a, b) for a, b in zip([1, *channels[:-1]], channels, strict=True))
        levels = list(zip(channels[:0:-1], channels[-2::-1], strict=True))
        self.up = nn.ModuleList(_double_convolution(coarse, fine) for coarse, fine in levels)
        self.gates = nn.ModuleList(AttentionGate(fine) for _, fine in levels)
        self.merge = nn.ModuleList(_double_convolution(2 * fine, fine) for _, fine in levels)
        self.head = nn.Conv2d(channels[0], 1, 1)
        spare_single_values(self)

    def encode(self, image: Tensor) -> list[Tensor]:
        """Return the feature maps (B, F, h, w) of an image (B, 1, H, W) that `fit` has padded, the deepest last."""
        features = [self.down[0](image)]
        for down in self.down[1:]:
            features.append(down(max_pool2d(features[-1], 2)))
        return features

    def decode(self, features: list[Tensor]) -> Tensor:
        """Return the logits (B, 1, H, W) of the padded image."""
        deep = features[-1]
        for up, gate, merge, skip in zip(self.up, self.gates, self.merge, features[-2::-1], strict=True):
            deep = up(interpolate(deep, scale_factor=2))
            deep = merge(torch.cat([gate(skip, deep), deep], dim=1))
        return self.head(deep)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, 1, H, W) of image (B, 1, H, W)."""
        height, width = image.shape[2:]
        return self.decode(self.encode(self.fit.image(image)))[..., :height, :width]
