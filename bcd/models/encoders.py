"""Encoders of segmentation networks: of segmentation_models_pytorch or timm, for one grey channel and images of any size."""

import warnings
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from bcd.models.backbones import any_size_arguments
from bcd.models.libraries import smp, timm
from bcd.models.names import encoder_name, is_smp_encoder
from bcd.models.pretrained import from_smp, from_timm, load_into, load_weights
from bcd.models.sizes import Fit, Padding, first_that_works

# Suggested for an encoder that does not fit; a test tries them all.
FITTING = ("resnet18", "resnet34", "resnet50", "efficientnet_b0", "mobilenetv2_100", "regnety_008")
FITTING_FROM_QUARTER = ("convnext_tiny", "swin_tiny_patch4_window7_224", "mit_b0")


def build_with_encoder(
    architecture: Callable[..., smp.base.SegmentationModel], encoder: str, depth: int, *, from_half: bool, **arguments: Any
) -> smp.base.SegmentationModel:
    """Return a segmentation network of smp on an encoder, with random weights, for one grey channel.

    Args:
        architecture: of smp.
        encoder: name in smp or timm.
        depth: how often the encoder halves the image, 3 to 5.
        from_half: the architecture needs a feature map at half size.
        **arguments: of the architecture.

    Raises:
        ValueError: for an encoder that neither library knows, with the nearest, or one that does not fit, with what would.
    """
    name = encoder_name(encoder)
    title = architecture.__name__
    strides = _strides(encoder, name)
    _require_levels(encoder, title, strides, depth, from_half)
    if name.startswith("tu-"):
        arguments |= any_size_arguments(name.removeprefix("tu-"))
    try:
        with warnings.catch_warnings():
            # smp's own copies of efficientnets and sknets are on their way out; until then they work.
            warnings.filterwarnings("ignore", message="`timm-` encoders are deprecated", category=DeprecationWarning)
            return architecture(name, encoder_weights=None, in_channels=1, encoder_depth=depth, **arguments)
    except Exception as error:  # an encoder without dilation may raise any exception
        raise _misfit(encoder, title, _in_words(error)) from error


def fit_of(network: smp.base.SegmentationModel, encoder: str, look: Callable[[Tensor], Tensor]) -> Fit:
    """Return the rule by which images are padded for a network.

    Args:
        network: in evaluation mode.
        encoder: its encoder's name, for the error.
        look: runs the network, and raises if the logits are not of the image's size.

    Raises:
        ValueError: when no rule works, with encoders that fit.
    """
    try:
        return first_that_works(_rules(network.encoder), look, channels=1)
    except ValueError as error:
        raise _misfit(encoder, type(network).__name__, f"it cannot take images of any size ({error})") from error


def load_encoder(encoder: nn.Module, name: str, pretrained: bool | str) -> str:
    """Load pretrained weights into an encoder; return where the network's weights come from, in words.

    Args:
        encoder: of a network of smp.
        name: of the encoder, in smp or timm.
        pretrained: false, true (BCD_WEIGHTS, then the encoder's own library) or a weights file.

    Raises:
        FileNotFoundError: when the weights cannot be reached.
        ValueError: when they do not fit.
    """
    if pretrained is False:
        return "random weights"
    weights = load_weights(name.removeprefix("tu-"), pretrained, from_smp if is_smp_encoder(name) else from_timm)
    load_into(encoder.model if isinstance(encoder, smp.encoders.TimmUniversalEncoder) else encoder, weights)
    return f"encoder: {weights.origin}; decoder: random weights"


def _strides(encoder: str, name: str) -> list[int]:
    """Return the strides of an encoder's feature maps."""
    if not name.startswith("tu-"):
        channels = smp.encoders.encoders[name]["params"]["out_channels"]
        return [2**level for level, count in enumerate(channels) if level and count]
    try:
        with torch.device("meta"):  # shapes alone: nothing is computed
            features: Any = timm.create_model(name.removeprefix("tu-"), features_only=True).feature_info
            return list(features.reduction())
    except Exception as error:  # families without feature maps may raise any exception
        raise _misfit(encoder, "A segmentation network", f"timm takes no feature maps from it ({_in_words(error)})") from error


def _require_levels(encoder: str, title: str, strides: list[int], depth: int, from_half: bool) -> None:
    """Refuse an encoder whose maps do not halve from 1, 2 or 4 down to the depth."""
    first = strides[0] if strides else 0
    has = f"its feature maps have strides {', '.join(map(str, strides))}"
    if first not in (1, 2, 4) or any(b != 2 * a for a, b in pairwise(strides)):
        raise _misfit(encoder, title, f"{has}, and a decoder needs them at 2 (or 4), 8, 16 and 32")
    if strides[-1] < 2**depth:
        raise _misfit(encoder, title, f"{has}, and {depth} levels need one at {2**depth}; take fewer levels")
    if from_half and first == 4:
        raise _misfit(encoder, title, f"{has}, and this architecture needs one at 2")


def _misfit(encoder: str, title: str, reason: str) -> ValueError:
    return ValueError(
        f"{title} cannot use the encoder {encoder}: {reason}. Encoders that fit: {', '.join(FITTING)}; U-Net, FPN, PSPNet and "
        f"SegFormer also take {', '.join(FITTING_FROM_QUARTER)}."
    )


def _in_words(error: Exception) -> str:
    if "output_stride" in str(error):
        return "it cannot be dilated"
    words = str(error).splitlines()
    return words[0].rstrip(".") if words else type(error).__name__


def _rules(encoder: Any) -> Iterator[Fit]:
    """Yield paddings, the least first; last a multiple of the size that a timm encoder was made for, whose windows that divides."""
    stride = int(encoder.output_stride)
    for minimum in (stride, 2 * stride, 4 * stride):
        yield Padding(stride, minimum)
    if isinstance(encoder, smp.encoders.TimmUniversalEncoder):
        side = max(encoder.model.default_cfg["input_size"][-2:])
        yield Padding(side, side)
