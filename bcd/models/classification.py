"""Image classifiers on any timm backbone."""

import difflib
from typing import Any

import timm
from torch import Tensor, nn

from bcd.models.pretrained import load_into, load_weights

# MobileNetV2 with TensorFlow's padding, which the weights of google-coral's release were trained with.
BACKBONE_DEFAULTS: dict[str, dict[str, Any]] = {"mobilenetv2_100": {"pad_type": "same"}}


def create_backbone(name: str, *, pretrained: bool | str, extra_channels: int = 0, **kwargs: Any) -> tuple[nn.Module, str]:
    """Return a timm network for one grey channel (and `extra_channels` more), and where its weights come from.

    Args:
        name: any name that timm knows.
        pretrained: false, true (BCD_WEIGHTS, then timm) or a weights file.
        extra_channels: channels beside the image, such as the outline.
        **kwargs: for `timm.create_model`.

    Raises:
        ValueError: for a name that timm does not know, with the nearest.
    """
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=3)
        raise ValueError(f"timm has no model {name!r}. Near: {', '.join(close) or 'none'}; timm.list_models() lists all.")
    arguments = {**BACKBONE_DEFAULTS.get(name, {}), **kwargs}
    network = timm.create_model(name, pretrained=False, in_chans=1 + extra_channels, **arguments)
    _start_small(network)
    if pretrained is False:
        return network, "random weights"
    weights = load_weights(name, pretrained)
    load_into(network, weights, extra_channels)
    return network, weights.origin


def _start_small(network: nn.Module) -> None:
    """Let a classifier begin undecided: some of timm's own starts give few classes logits in the tens."""
    find = getattr(network, "get_classifier", None)
    head = find() if callable(find) else None
    if isinstance(head, nn.Linear):
        nn.init.trunc_normal_(head.weight, std=0.01)
        nn.init.zeros_(head.bias)


class Classifier(nn.Module):
    """A timm network on the whole image; the outline is not looked at.

    Args:
        backbone: any timm name, such as `resnet18`.
        num_classes: C.
        pretrained: false, true (BCD_WEIGHTS, then timm) or a weights file.
        drop_rate: dropout before the last layer, in [0, 1).
        kwargs: further arguments for `timm.create_model`.
    """

    def __init__(
        self, backbone: str, num_classes: int, pretrained: bool | str, drop_rate: float, kwargs: dict[str, Any] | None = None
    ) -> None:
        super().__init__()
        self.network, self.origin = create_backbone(
            backbone, pretrained=pretrained, num_classes=num_classes, drop_rate=drop_rate, **(kwargs or {})
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, C) of image (B, 1, H, W)."""
        return self.network(image)
