"""Images of any size: by which rule they are made to fit a network, found by trying."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad


@dataclass(frozen=True)
class Padding:
    """Pad at the right and at the bottom.

    Args:
        multiple: height and width become multiples of it, in pixels.
        minimum: and are at least so long; itself a multiple.
    """

    multiple: int = 1
    minimum: int = 1

    def image(self, image: Tensor) -> Tensor:
        """Return an image (B, C, H, W) padded by its edge."""
        return self._pad(image, "replicate")

    def outline(self, outline: Tensor) -> Tensor:
        """Return a mask (B, 1, H, W) padded with 0: beyond the image's edge there is no lesion."""
        return self._pad(outline, "constant")

    def examples(self) -> list[tuple[int, int]]:
        """Return heights and widths that tell whether a network can live with this rule: the smallest, and an oblong one."""
        step = self.multiple if self.multiple > 1 else 17
        return [(self.minimum, self.minimum), (self.minimum + step, self.minimum + 2 * step)]

    def _pad(self, picture: Tensor, mode: str) -> Tensor:
        bottom, right = (self._target(length) - length for length in picture.shape[2:])
        return pad(picture, (0, right, 0, bottom), mode=mode) if bottom or right else picture

    def _target(self, length: int) -> int:
        return max(self.minimum, math.ceil(length / self.multiple) * self.multiple)


@dataclass(frozen=True)
class Resampling:
    """Resample to the one size that a network takes.

    Args:
        height: in pixels.
        width: in pixels.
    """

    height: int
    width: int

    def image(self, image: Tensor) -> Tensor:
        """Return an image (B, C, H, W) as (B, C, height, width)."""
        if image.shape[2:] == (self.height, self.width):
            return image
        return interpolate(image, (self.height, self.width), mode="bilinear", antialias=True)

    def outline(self, outline: Tensor) -> Tensor:
        """Return a mask (B, 1, H, W) in [0, 1] as (B, 1, height, width)."""
        return self.image(outline)

    def examples(self) -> list[tuple[int, int]]:
        """Return the one height and width that there is."""
        return [(self.height, self.width)]


Fit = Padding | Resampling


def first_that_works(rules: Iterable[Fit], look: Callable[[Tensor], object], channels: int) -> Fit:
    """Return the first rule by which a network takes its examples.

    Args:
        rules: the cheapest first.
        look: shows an image (1, C, H, W) to the network; raises any exception if the network cannot take it.
        channels: C.

    Raises:
        ValueError: when none works; the network's own words about the last one.
    """
    reason = "there is nothing to try"
    for rule in rules:
        refusal = _refusal(rule, look, channels)
        if refusal is None:
            return rule
        reason = refusal
    raise ValueError(reason)


def example(height: int, width: int, channels: int) -> Tensor:
    """Return an image (1, channels, height, width) that rises from -1 to 1."""
    return torch.linspace(-1, 1, channels * height * width).view(1, channels, height, width)


def leave_out_unused(network: nn.Module, look: Callable[[Tensor], Tensor], image: Tensor) -> None:
    """Ask for no gradient of parameters that the output does not depend on, such as stages that a shallow decoder skips.

    Training in several processes would otherwise wait for gradients that never come.
    """
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    with torch.enable_grad():
        gradients = torch.autograd.grad(look(image).sum(), parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.requires_grad_(gradient is not None)


@torch.no_grad()
def _refusal(rule: Fit, look: Callable[[Tensor], object], channels: int) -> str | None:
    for height, width in rule.examples():
        try:
            look(example(height, width, channels))
        except Exception as error:  # the networks of two libraries refuse an image by any exception
            words = str(error).splitlines() or [type(error).__name__]
            return f"{height} x {width} px: {words[0] or type(error).__name__}"
    return None
