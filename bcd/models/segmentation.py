"""Segmentation networks of segmentation_models_pytorch, for one grey channel and any image size."""

import difflib
from collections.abc import Sequence

import segmentation_models_pytorch as smp
import timm
from torch import Tensor, nn
from torch.nn.functional import pad

from bcd.models.pretrained import load_into, load_weights


def encoder_name(name: str) -> str:
    """Return smp's name for an encoder of smp or timm.

    Raises:
        ValueError: for a name that neither knows, with the nearest.
    """
    known = smp.encoders.encoders
    if name in known or name.removeprefix("tu-") != name:
        return name
    if timm.is_model(name):
        return f"tu-{name}"
    close = difflib.get_close_matches(name, [*known, *timm.list_models()], n=3)
    raise ValueError(f"Neither smp nor timm has an encoder {name!r}. Near: {', '.join(close) or 'none'}.")


class UNet(nn.Module):
    """U-Net on any smp or timm encoder.

    Ronneberger et al., MICCAI 2015, doi:10.1007/978-3-319-24574-4_28; the decoder is segmentation_models_pytorch's. An image
    whose sides are not multiples of the network's stride is padded by its edge, and the logits are cropped back.

    Args:
        encoder: name in smp or timm, such as `resnet18`.
        decoder_channels: one for each decoder stage, deepest first; their number is the depth of the encoder, 3 to 5.
        pretrained: false, true (BCD_WEIGHTS, then timm) or a weights file.

    Raises:
        ValueError: for an encoder that neither library knows.
    """

    def __init__(self, encoder: str, decoder_channels: Sequence[int], pretrained: bool | str) -> None:
        super().__init__()
        depth = len(decoder_channels)
        self.network = smp.Unet(
            encoder_name(encoder),
            encoder_weights=None,
            in_channels=1,
            encoder_depth=depth,
            decoder_channels=tuple(decoder_channels),
        )
        self.stride = 2**depth
        self.origin = "random weights"
        if pretrained is not False:
            weights = load_weights(encoder.removeprefix("tu-"), pretrained)
            load_into(getattr(self.network.encoder, "model", self.network.encoder), weights)
            self.origin = f"encoder: {weights.origin}; decoder: random weights"

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, 1, H, W) of image (B, 1, H, W)."""
        height, width = image.shape[2:]
        bottom, right = -height % self.stride, -width % self.stride
        if bottom or right:
            image = pad(image, (0, right, 0, bottom), mode="replicate")
        return self.network(image)[..., :height, :width]
