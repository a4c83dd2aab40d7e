"""Image classifiers on any timm backbone."""

from typing import Any

from torch import Tensor, nn

from bcd.config.ranges import Classes, Rest
from bcd.models.backbones import classifying
from bcd.models.names import BackboneName


class Classifier(nn.Module):
    """A timm network on the whole image; the guide is not used.

    Any size from 16 px: an image that a network cannot take is padded by its edge, or, where a network knows a single size
    (`model.kwargs.img_size` may change it), resampled to that.

    Args:
        backbone: any timm name, such as `resnet18`.
        num_classes: C.
        pretrained: false, true (BCD_WEIGHTS, then timm) or a weights file.
        drop_rate: dropout before the last layer.
        kwargs: further arguments for `timm.create_model`.

    Raises:
        ValueError: for a name that timm does not know, with the nearest, or a network that cannot classify such images.
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
        built = classifying(backbone, num_classes, pretrained=pretrained, drop_rate=drop_rate, kwargs=kwargs)
        self.network, self.fit, self.origin = built.network, built.fit, built.origin

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, C) of image (B, 1, H, W)."""
        return self.network(self.fit.image(image))
