"""Test-time augmentation: further views of an image, whose probabilities are averaged with those of the image itself."""

from collections.abc import Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from bcd.config.errors import nearest


class View(Protocol):
    """Another view of the same case. There is no vertical flip: the probe is on top, and shadows fall downwards."""

    def image(self, image: Tensor) -> Tensor:
        """Return the view of an image (B, 1, H, W), standardised in any way."""
        ...

    def outline(self, outline: Tensor) -> Tensor:
        """Return the view of a guide (B, 1, H, W) in [0, 1]."""
        ...

    def back(self, probability: Tensor) -> Tensor:
        """Bring a map (B, 1, H, W) of the view back to the image's place; 0 where the view did not reach."""
        ...


class Mirror:
    """Left and right change places."""

    def image(self, image: Tensor) -> Tensor:
        """Return the mirrored image."""
        return image.flip(-1)

    outline = back = image


class Zoom:
    """Magnified about the centre; what comes in from outside is black. A factor below 1 moves the edges inwards."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def image(self, image: Tensor) -> Tensor:
        """Return the image magnified; its darkest value is black, for any standardisation."""
        black = image.amin((1, 2, 3), keepdim=True)
        return self._sample(image - black, 1 / self.factor) + black

    def outline(self, outline: Tensor) -> Tensor:
        """Return the guide magnified."""
        return self._sample(outline, 1 / self.factor)

    def back(self, probability: Tensor) -> Tensor:
        """Return the map at its old size."""
        return self._sample(probability, self.factor)

    @staticmethod
    def _sample(picture: Tensor, step: float) -> Tensor:
        theta = torch.tensor([[step, 0.0, 0.0], [0.0, step, 0.0]], dtype=picture.dtype, device=picture.device)
        grid = affine_grid(theta.expand(len(picture), 2, 3), list(picture.shape), align_corners=False)
        return grid_sample(picture, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


class Gamma:
    """Brighter (exponent below 1) or darker mid-tones, as the gain of the scanner makes them; black and white stay."""

    def __init__(self, exponent: float) -> None:
        self.exponent = exponent

    def image(self, image: Tensor) -> Tensor:
        """Return the image with its grey values, taken between its darkest and brightest, raised to the exponent."""
        black, white = image.amin((1, 2, 3), keepdim=True), image.amax((1, 2, 3), keepdim=True)
        span = (white - black).clamp_min(1e-6)
        return black + span * ((image - black) / span).pow(self.exponent)

    def outline(self, outline: Tensor) -> Tensor:
        """Return the guide as it is."""
        return outline

    back = outline


ViewName = Literal["mirror", "zoom_in", "zoom_out", "brighter", "darker"]
VIEWS: dict[ViewName, View] = {
    "mirror": Mirror(),
    "zoom_in": Zoom(1.15),
    "zoom_out": Zoom(1 / 1.15),
    "brighter": Gamma(0.8),
    "darker": Gamma(1.25),
}


def named_views(names: Sequence[ViewName]) -> list[View]:
    """Return the views of `task.tta`; a bundle's come here unchecked.

    Raises:
        ValueError: for a name that does not exist, with the nearest, or that is given twice.
    """
    for name in names:
        if name not in VIEWS:
            raise ValueError(f"task.tta: there is no view {name!r}. {nearest(name, VIEWS)}")
    if len(set(names)) < len(names):
        raise ValueError(f"task.tta={list(names)} names a view twice; each counts once, as the image itself does.")
    return [VIEWS[name] for name in names]
