"""timm networks for one grey channel and images of any size."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bcd.models.batch_norm import spare_single_values
from bcd.models.libraries import timm
from bcd.models.names import require_timm
from bcd.models.pretrained import load_into, load_weights
from bcd.models.sizes import Fit, Padding, Resampling, example, first_that_works, leave_out_unused

# MobileNetV2 with TensorFlow's padding, which the weights of google-coral's release were trained with.
BACKBONE_DEFAULTS: dict[str, dict[str, Any]] = {"mobilenetv2_100": {"pad_type": "same"}}


@dataclass(frozen=True)
class Backbone:
    """A timm network ready for use.

    Attributes:
        network: image (B, C, H, W), made to fit -> what `look` makes of it.
        look: image -> Tensor; runs the network.
        fit: the rule by which images are made to fit.
        origin: where the weights come from, in words.
    """

    network: nn.Module
    look: Callable[[Tensor], Tensor]
    fit: Fit
    origin: str


def classifying(
    name: str, num_classes: int, *, pretrained: bool | str, drop_rate: float, extra_channels: int = 0, kwargs: dict[str, Any] | None
) -> Backbone:
    """Return a timm network that gives logits (B, C).

    Args:
        name: any name that timm knows.
        num_classes: C.
        pretrained: false, true (BCD_WEIGHTS, then timm) or a weights file.
        drop_rate: dropout before the last layer, in [0, 1).
        extra_channels: channels beside the image, such as the mask.
        kwargs: further arguments for `timm.create_model`.

    Raises:
        ValueError: for a name that timm does not know, with the nearest, or a network that cannot classify such images.
    """

    def logits(image: Tensor) -> Tensor:
        output = network(image)
        if not isinstance(output, Tensor) or output.shape != (len(image), num_classes):
            shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise ValueError(f"it gives {shape} instead of logits (B, {num_classes})")
        return output

    arguments = {"num_classes": num_classes, "drop_rate": drop_rate, **(kwargs or {})}
    network, origin = create_backbone(name, pretrained=pretrained, extra_channels=extra_channels, **arguments)
    fit = _made_to_fit(name, network, logits, 1 + extra_channels, arguments.get("img_size"))
    return Backbone(network, network, fit, origin)


def mapping(name: str, *, pretrained: bool | str, kwargs: dict[str, Any] | None) -> Backbone:
    """Return a timm network that gives a feature map (B, F, h, w), whichever layout it works in.

    Args:
        name: any timm name with a feature map.
        pretrained: false, true (BCD_WEIGHTS, then timm) or a weights file.
        kwargs: further arguments for `timm.create_model`.

    Raises:
        ValueError: for a name that timm does not know, with the nearest, or a network without a feature map.
    """
    arguments = {"num_classes": 0, **(kwargs or {})}
    ways = [True, False]
    try:
        network, origin = create_backbone(name, pretrained=pretrained, **{"global_pool": "", **arguments})
    except ValueError:  # some cannot be built without their pooling, but show what comes before it
        network, origin = create_backbone(name, pretrained=pretrained, **arguments)
        ways = [False]
    reason: Exception = ValueError(f"timm's {name} has no feature map to pool from: it pools by itself.")
    for whole in ways:
        look = FeatureMap(network, whole)
        try:
            fit = _made_to_fit(name, network, look, 1, arguments.get("img_size"))
        except ValueError as error:
            reason = error
            continue
        if not look.is_pooled(fit):
            return Backbone(network, look, fit, origin)
    raise reason


class FeatureMap:
    """Shows an image to a timm network and returns its feature map (B, F, h, w).

    Args:
        network: without classifier and pooling.
        whole: run all of it, last norm included; else only up to its features, for networks that pool all the same.
    """

    def __init__(self, network: nn.Module, whole: bool) -> None:
        self.network = network
        self.whole = whole

    def __call__(self, image: Tensor) -> Tensor:
        """Return the map.

        Raises:
            ValueError: for a network that gives something else.
        """
        output = self.network(image) if self.whole else self.network.forward_features(image)  # type: ignore[operator]
        if not isinstance(output, Tensor) or output.ndim not in (3, 4):
            raise ValueError(f"it gives {tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__} and no map")
        return self._from_tokens(output, image) if output.ndim == 3 else self._channels_first(output)

    @torch.no_grad()
    def is_pooled(self, fit: Fit) -> bool:
        """Return whether the map is a single cell even of an image several times the smallest size."""
        side = max(128, 2 * max(fit.examples()[0]))
        return self(fit.image(example(side, side, 1))).shape[2:] == (1, 1)

    def _from_tokens(self, tokens: Tensor, image: Tensor) -> Tensor:
        """Return tokens (B, N, F) on their grid, which has the proportions of the image; those that see all of it come first."""
        tokens = tokens[:, int(getattr(self.network, "num_prefix_tokens", 0)) :]
        height, width = image.shape[2:]
        side = (height * width / tokens.shape[1]) ** 0.5
        grid = round(height / side), round(width / side)
        if grid[0] * grid[1] != tokens.shape[1]:
            raise ValueError(f"its {tokens.shape[1]} tokens lie on no grid")
        return tokens.transpose(1, 2).unflatten(2, grid)

    def _channels_first(self, features: Tensor) -> Tensor:
        count = getattr(self.network, "num_features", None)
        by_count = count is not None and features.shape[1] != count == features.shape[3]
        last = by_count or getattr(self.network, "output_fmt", "NCHW") == "NHWC"
        return features.permute(0, 3, 1, 2) if last else features


def create_backbone(name: str, *, pretrained: bool | str, extra_channels: int = 0, **kwargs: Any) -> tuple[nn.Module, str]:
    """Return a timm network for one grey channel (and `extra_channels` more), and where its weights come from.

    Args:
        name: any name that timm knows.
        pretrained: false, true (BCD_WEIGHTS, then timm) or a weights file.
        extra_channels: channels beside the image, such as the mask.
        **kwargs: for `timm.create_model`.

    Raises:
        ValueError: for a name that timm does not know, with the nearest, or arguments that the network does not take.
    """
    require_timm(name)
    arguments = {**any_size_arguments(name), **BACKBONE_DEFAULTS.get(name, {}), **kwargs}
    try:
        network = timm.create_model(name, pretrained=False, in_chans=1 + extra_channels, **arguments)
    except Exception as error:  # each family has its own way to refuse an argument
        raise ValueError(f"timm cannot build {name} with {arguments} and {1 + extra_channels} channels: {error}") from error
    spare_single_values(network)
    if arguments.get("num_classes") != 0:
        _start_small(network)
    if pretrained is False:
        return network, "random weights"
    weights = load_weights(name, pretrained)
    load_into(network, weights, extra_channels)
    return network, weights.origin


def any_size_arguments(name: str) -> dict[str, Any]:
    """Return what tells a timm network to take images of other sizes than the one it was made for; nothing where none is needed."""
    try:
        with torch.device("meta"):  # shapes alone: nothing is computed
            parameters = inspect.signature(type(timm.create_model(name)).__init__).parameters
    except Exception:  # a network that cannot be made of shapes alone is built as it is, and tells then what is wrong
        return {}
    if "dynamic_img_size" in parameters:
        return {"dynamic_img_size": True}
    return {"strict_img_size": False} if "strict_img_size" in parameters else {}


def _made_to_fit(
    name: str, network: nn.Module, look: Callable[[Tensor], Tensor], channels: int, size: int | Sequence[int] | None
) -> Fit:
    """Return the rule by which images are made to fit; leave the network ready to train on them.

    Args:
        name: timm's.
        network: to be tried.
        look: runs it.
        channels: of the image.
        size: `img_size`, where the network was built for another one than timm's.

    Raises:
        ValueError: when the network takes no image.
    """
    training = network.training
    network.eval()
    try:
        fit = first_that_works(_rules(network, size), look, channels)
    except ValueError as error:
        raise ValueError(f"timm's {name} does not fit here, at {error}. Choose another backbone, such as resnet18.") from error
    leave_out_unused(network, look, example(*fit.examples()[0], channels))
    network.train(training)
    return fit


def _rules(network: nn.Module, size: int | Sequence[int] | None) -> Iterator[Fit]:
    """Yield the ways to make an image fit, the cheapest first: as it is, padded, resampled to the network's own size."""
    yield Padding(1, 16)
    yield Padding(1, 32)
    patch = getattr(getattr(network, "patch_embed", None), "patch_size", (16, 16))
    side = max(patch) if isinstance(patch, tuple) else patch
    yield Padding(side, side * -(-16 // side))
    yield Padding(16, 16)
    for minimum in (32, 64, 128):
        yield Padding(32, minimum)
    configured: Any = network.pretrained_cfg
    own: Sequence[int] = configured["input_size"][-2:] if size is None else (size, size) if isinstance(size, int) else size
    height, width = own
    yield Resampling(height, width)


def _start_small(network: nn.Module) -> None:
    """Start a classifier with equal probabilities: some of timm's initialisations give logits in the tens for few classes."""
    find = getattr(network, "get_classifier", None)
    head = find() if callable(find) else None
    if isinstance(head, nn.Linear):
        nn.init.trunc_normal_(head.weight, std=0.01)
        nn.init.zeros_(head.bias)
