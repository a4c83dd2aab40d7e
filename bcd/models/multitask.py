"""One encoder, two outputs: the mask of the lesion and the class of the image."""

from typing import Protocol

from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from bcd.config.ranges import Classes, Rest
from bcd.models.sizes import Fit


class Outliner(Protocol):
    """What a segmentation network must offer: EncoderDecoder's and AttentionUNet's `fit`, `encode` and `decode`."""

    fit: Fit
    feature_channels: int
    origin: str

    def encode(self, image: Tensor) -> list[Tensor]:
        """Return the feature maps of a padded image, the deepest last."""
        ...

    def decode(self, features: list[Tensor]) -> Tensor:
        """Return the logits of the padded image."""
        ...


class MultitaskNetwork(nn.Module):
    """A segmentation network whose deepest features also predict the class: averaged over the image, then one linear layer.

    Both losses train the one encoder (Caruana, Multitask Learning, Machine Learning 28 (1997), doi:10.1023/A:1007379606734).

    Args:
        network: a segmentation network of this package.
        num_classes: C.
        drop_rate: dropout before the class layer.

    Raises:
        TypeError: for a network that does not part encoder and decoder.
    """

    def __init__(self, network: Outliner, num_classes: Classes, drop_rate: Rest) -> None:
        super().__init__()
        if not isinstance(network, nn.Module) or not all(hasattr(network, name) for name in ("encode", "decode", "fit")):
            raise TypeError(
                f"model.network={type(network).__name__}: a multitask network segments by a segmentation network, "
                "such as bcd.models.segmentation.UNet."
            )
        self.network: Outliner = network
        self.origin = network.origin
        self.head = nn.Sequential(nn.Dropout(drop_rate), nn.Linear(network.feature_channels, num_classes))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits of the mask (B, 1, H, W) and of the classes (B, C) for an image (B, 1, H, W)."""
        height, width = image.shape[2:]
        features = self.network.encode(self.network.fit.image(image))
        classes = self.head(adaptive_avg_pool2d(features[-1], 1).flatten(1))
        return self.network.decode(features)[..., :height, :width], classes
