"""MixUp and CutMix: train a classifier on pairs of images, with a loss for both labels."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Beta

from bcd.config.ranges import NotNegative, Part


@dataclass(frozen=True)
class Mixed:
    """A batch of mixed images.

    Attributes:
        image: (B, 1, H, W); each is one case's image with something of its partner's.
        partner: int64 (B,), the position in the batch of the case that was mixed in.
        share: of the case's own image, in [0.5, 1]; the loss weighs its own label with it, the partner's with the rest.
    """

    image: Tensor
    partner: Tensor
    share: float


class Mixing:
    """Mix the images of a batch by MixUp or CutMix; labels stay whole, it is the loss that is mixed.

    MixUp (Zhang et al., ICLR 2018, arXiv:1710.09412) adds the images up, CutMix (Yun et al., ICCV 2019, arXiv:1905.04899)
    pastes a box of the partner's image. The share of the case itself is the larger one: a share of 0.3 of one image is a
    share of 0.7 of the other, which is in the batch as well, so that the mixtures are those of the papers. So the case's own label
    is the right one for training metrics.

    Args:
        mixup: alpha of the Beta distribution that MixUp draws its share from; 0 leaves MixUp out.
        cutmix: the same for CutMix; with both, every batch draws one of them; with neither, nothing is mixed.
        probability: of mixing a batch at all.
    """

    def __init__(self, mixup: NotNegative, cutmix: NotNegative, probability: Part) -> None:
        self.mixup = mixup
        self.cutmix = cutmix
        self.probability = probability

    @property
    def mixes(self) -> bool:
        """Return whether anything is mixed at all."""
        return self.mixup > 0 or self.cutmix > 0

    def __call__(self, image: Tensor) -> Mixed:
        """Return the images (B, 1, H, W) mixed; everything is drawn from torch's generator of the CPU."""
        if torch.rand(()) >= self.probability:
            return Mixed(image, torch.arange(len(image), device=image.device), 1.0)
        partner = torch.randperm(len(image)).to(image.device)
        pastes = self.cutmix > 0 and (self.mixup == 0 or bool(torch.rand(()) < 0.5))
        alpha = self.cutmix if pastes else self.mixup
        share = float(Beta(alpha, alpha).sample())
        share = max(share, 1 - share)
        return paste(image, partner, share) if pastes else blend(image, partner, share)


def blend(image: Tensor, partner: Tensor, share: float) -> Mixed:
    """Return MixUp's images: `share` of each and the rest of its partner."""
    return Mixed(share * image + (1 - share) * image[partner], partner, share)


def paste(image: Tensor, partner: Tensor, share: float) -> Mixed:
    """Return CutMix's images: a box of the partner's, of the image's shape, its centre anywhere, cut off at the edges.

    The share returned is the one that is left to see, exact to the pixel.
    """
    height, width = image.shape[2:]
    side = (1 - share) ** 0.5
    center_y, center_x = (float(value) for value in torch.rand(2))
    top, bottom = _edges(center_y, side, height)
    left, right = _edges(center_x, side, width)
    mixed = image.clone()
    mixed[:, :, top:bottom, left:right] = image[partner, :, top:bottom, left:right]
    return Mixed(mixed, partner, 1 - (bottom - top) * (right - left) / (height * width))


def _edges(center: float, side: float, length: int) -> tuple[int, int]:
    """Return where a box begins and ends, in pixels, from its centre and side as shares of the length."""
    return round(max(center - side / 2, 0.0) * length), round(min(center + side / 2, 1.0) * length)
