"""Segmentation networks of segmentation_models_pytorch, for one grey channel and any image size."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from pydantic import Field
from torch import Tensor, nn

from bcd.config.ranges import Channels, Count, Rest
from bcd.models.batch_norm import spare_single_values
from bcd.models.encoders import build_with_encoder, fit_of, load_encoder
from bcd.models.libraries import smp
from bcd.models.names import EncoderName
from bcd.models.sizes import example, leave_out_unused

# One for each decoder stage, deepest first; their number is the depth of the encoder.
DecoderChannels = Annotated[Sequence[Channels], Field(min_length=3, max_length=5)]
WideDecoderChannels = Annotated[Sequence[Annotated[int, Field(ge=16, le=1 << 14)]], Field(min_length=3, max_length=5)]
# Dilations, in cells of the deepest map.
AtrousRates = Annotated[Sequence[Count], Field(min_length=3, max_length=3)]


class EncoderDecoder(nn.Module):
    """An encoder of smp or timm, and the decoder of one of smp's architectures.

    Any size: the image is padded by its edge as the network needs, and the logits are cropped back.

    Args:
        architecture: of smp.
        encoder: name in smp or timm, such as `resnet18`.
        pretrained: false, true (BCD_WEIGHTS, then the encoder's own library) or a weights file.
        depth: how often the encoder halves the image.
        from_half: the architecture needs a feature map at half size.
        **arguments: of the architecture.

    Attributes:
        fit: the rule by which images are padded.
        feature_channels: channels of the deepest feature map.
        origin: where the weights come from, in words.

    Raises:
        ValueError: for an encoder that neither library knows, or that does not fit, with what would.
    """

    def __init__(
        self,
        architecture: Callable[..., smp.base.SegmentationModel],
        encoder: str,
        pretrained: bool | str,
        depth: int = 5,
        from_half: bool = False,
        **arguments: Any,
    ) -> None:
        super().__init__()
        self.network = build_with_encoder(architecture, encoder, depth, from_half=from_half, **arguments)
        spare_single_values(self.network)
        self.network.eval()
        self.fit = fit_of(self.network, encoder, self._logits)
        leave_out_unused(self.network, self._logits, example(*self.fit.examples()[0], channels=1))
        self.network.train()
        self.feature_channels = int(self.network.encoder.out_channels[-1])
        self.origin = load_encoder(self.network.encoder, encoder, pretrained)

    def encode(self, image: Tensor) -> list[Tensor]:
        """Return the feature maps (B, F, h, w) of an image (B, 1, H, W) that `fit` has padded, the deepest last."""
        return self.network.encoder(image)

    def decode(self, features: list[Tensor]) -> Tensor:
        """Return the logits (B, 1, H, W) of the padded image."""
        return self.network.segmentation_head(self.network.decoder(features))

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, 1, H, W) of image (B, 1, H, W)."""
        height, width = image.shape[2:]
        return self.decode(self.encode(self.fit.image(image)))[..., :height, :width]

    def _logits(self, image: Tensor) -> Tensor:
        logits = self.decode(self.encode(image))
        if logits.shape != image.shape:
            raise ValueError(f"the logits come out as {tuple(logits.shape[2:])}: its feature maps are not exact halves")
        return logits


class UNet(EncoderDecoder):
    """U-Net: Ronneberger et al., MICCAI 2015, doi:10.1007/978-3-319-24574-4_28.

    Args:
        encoder: name in smp or timm, such as `resnet18`.
        decoder_channels: one for each decoder stage, deepest first; their number is the depth of the encoder, 3 to 5.
        pretrained: false, true (BCD_WEIGHTS, then the encoder's own library) or a weights file.
    """

    def __init__(self, encoder: EncoderName, decoder_channels: DecoderChannels, pretrained: bool | str) -> None:
        super().__init__(smp.Unet, encoder, pretrained, len(decoder_channels), decoder_channels=tuple(decoder_channels))


class UNetScSE(EncoderDecoder):
    """U-Net whose decoder weighs channels and places: Roy et al., MICCAI 2018, doi:10.1007/978-3-030-00928-1_48.

    The arguments are UNet's; each stage has 16 channels or more, since what weighs them is a sixteenth as wide.
    """

    def __init__(self, encoder: EncoderName, decoder_channels: WideDecoderChannels, pretrained: bool | str) -> None:
        arguments: dict[str, Any] = {"decoder_channels": tuple(decoder_channels), "decoder_attention_type": "scse"}
        super().__init__(smp.Unet, encoder, pretrained, len(decoder_channels), **arguments)


class UNetPlusPlus(EncoderDecoder):
    """U-Net++ with its nested skip connections: Zhou et al., DLMIA 2018, doi:10.1007/978-3-030-00889-5_1.

    The arguments are UNet's; the encoder must have a feature map at half size.
    """

    def __init__(self, encoder: EncoderName, decoder_channels: DecoderChannels, pretrained: bool | str) -> None:
        arguments = {"decoder_channels": tuple(decoder_channels)}
        super().__init__(smp.UnetPlusPlus, encoder, pretrained, len(decoder_channels), from_half=True, **arguments)


class MANet(EncoderDecoder):
    """MA-Net, attention over places and over scales: Fan et al., IEEE Access 2020, doi:10.1109/ACCESS.2020.3025372.

    Attention over places compares each cell of the deepest map with every other: memory grows with the fourth power of the
    image's side.

    Args:
        encoder: name in smp or timm, with a feature map at half size.
        decoder_channels: one for each decoder stage, deepest first; their number is the depth of the encoder, 3 to 5.
        attention_channels: in which places are compared.
        pretrained: false, true (BCD_WEIGHTS, then the encoder's own library) or a weights file.
    """

    def __init__(
        self, encoder: EncoderName, decoder_channels: DecoderChannels, attention_channels: Channels, pretrained: bool | str
    ) -> None:
        arguments: dict[str, Any] = {"decoder_channels": tuple(decoder_channels), "decoder_pab_channels": attention_channels}
        super().__init__(smp.MAnet, encoder, pretrained, len(decoder_channels), from_half=True, **arguments)


class LinkNet(EncoderDecoder):
    """LinkNet, a light decoder that adds the skips: Chaurasia and Culurciello, VCIP 2017, doi:10.1109/VCIP.2017.8305148.

    Args:
        encoder: name in smp or timm, with a feature map at half size.
        pretrained: false, true (BCD_WEIGHTS, then the encoder's own library) or a weights file.
    """

    def __init__(self, encoder: EncoderName, pretrained: bool | str) -> None:
        super().__init__(smp.Linknet, encoder, pretrained, from_half=True)


class FPN(EncoderDecoder):
    """Feature pyramid network: Lin et al., CVPR 2017, doi:10.1109/CVPR.2017.106, with a mask head on the sum of its levels.

    Args:
        encoder: name in smp or timm, such as `resnet18`.
        pyramid_channels: of the pyramid.
        channels: of the mask head.
        dropout: of whole channels before the last layer.
        pretrained: false, true (BCD_WEIGHTS, then the encoder's own library) or a weights file.
    """

    def __init__(
        self, encoder: EncoderName, pyramid_channels: Channels, channels: Channels, dropout: Rest, pretrained: bool | str
    ) -> None:
        super().__init__(
            smp.FPN,
            encoder,
            pretrained,
            decoder_pyramid_channels=pyramid_channels,
            decoder_segmentation_channels=channels,
            decoder_dropout=dropout,
        )


class PSPNet(EncoderDecoder):
    """Pyramid scene parsing: Zhao et al., CVPR 2017, doi:10.1109/CVPR.2017.660. The encoder ends at an eighth of the size.

    Args:
        encoder: name in smp or timm, such as `resnet18`.
        channels: of the decoder.
        dropout: of whole channels before the last layer.
        pretrained: false, true (BCD_WEIGHTS, then the encoder's own library) or a weights file.
    """

    def __init__(self, encoder: EncoderName, channels: Channels, dropout: Rest, pretrained: bool | str) -> None:
        super().__init__(smp.PSPNet, encoder, pretrained, depth=3, psp_out_channels=channels, psp_dropout=dropout)


class DeepLabV3Plus(EncoderDecoder):
    """DeepLabv3+: Chen et al., ECCV 2018, doi:10.1007/978-3-030-01234-2_49. The encoder is dilated and ends at a sixteenth.

    Args:
        encoder: name in smp or timm; one that can be dilated, such as `resnet18`.
        channels: of the decoder.
        atrous_rates: three dilations, in cells of the deepest map.
        dropout: before the last layer of the pyramid.
        pretrained: false, true (BCD_WEIGHTS, then the encoder's own library) or a weights file.
    """

    def __init__(
        self, encoder: EncoderName, channels: Channels, atrous_rates: AtrousRates, dropout: Rest, pretrained: bool | str
    ) -> None:
        super().__init__(
            smp.DeepLabV3Plus,
            encoder,
            pretrained,
            encoder_output_stride=16,
            decoder_channels=channels,
            decoder_atrous_rates=tuple(atrous_rates),
            decoder_aspp_dropout=dropout,
        )


class SegFormer(EncoderDecoder):
    """SegFormer's decoder of linear layers: Xie et al., NeurIPS 2021, arXiv:2105.15203; its own encoders are mit_b0 to mit_b5.

    Args:
        encoder: name in smp or timm, such as `mit_b0`.
        channels: of the decoder.
        pretrained: false, true (BCD_WEIGHTS, then the encoder's own library) or a weights file.
    """

    def __init__(self, encoder: EncoderName, channels: Channels, pretrained: bool | str) -> None:
        super().__init__(smp.Segformer, encoder, pretrained, decoder_segmentation_channels=channels)
