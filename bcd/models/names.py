"""Names of networks in timm and segmentation_models_pytorch."""

from typing import Annotated

from pydantic import AfterValidator

from bcd.config.errors import nearest_few
from bcd.models.libraries import smp, timm


def require_timm(name: str) -> str:
    """Return a name that timm knows.

    Raises:
        ValueError: for another, with the nearest names.
    """
    if not timm.is_model(name):
        raise ValueError(f"timm has no model {name!r}. {nearest_few(name, timm.list_models())}")
    return name


def is_smp_encoder(name: str) -> bool:
    """Return whether an encoder is one of segmentation_models_pytorch's own."""
    return name in smp.encoders.encoders


def encoder_name(name: str) -> str:
    """Return segmentation_models_pytorch's name for one of its own encoders, or of timm's.

    Where both have a network of that name, it is smp's; `tu-` before the name asks for timm's, as in smp.

    Raises:
        ValueError: for a name that neither knows, with the nearest.
    """
    if is_smp_encoder(name):
        return name
    bare = name.removeprefix("tu-")
    if timm.is_model(bare):
        return f"tu-{bare}"
    near = nearest_few(bare.removeprefix("timm-"), {*smp.encoders.encoders, *timm.list_models()})
    raise ValueError(f"Neither smp nor timm has an encoder {name!r}. {near}")


def _require_encoder(name: str) -> str:
    encoder_name(name)
    return name


BackboneName = Annotated[str, AfterValidator(require_timm)]
EncoderName = Annotated[str, AfterValidator(_require_encoder)]
