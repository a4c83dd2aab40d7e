"""Names of networks in timm and segmentation_models_pytorch."""

import difflib
from collections.abc import Collection

import segmentation_models_pytorch as smp
import timm


def require_timm(name: str) -> None:
    """Refuse a name that timm does not know.

    Raises:
        ValueError: with the nearest names.
    """
    if not timm.is_model(name):
        raise ValueError(f"timm has no model {name!r}. Near: {_near(name, timm.list_models())}; timm.list_models() lists all.")


def is_smp_encoder(name: str) -> bool:
    """Tell whether an encoder is one of segmentation_models_pytorch's own."""
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
    near = _near(bare.removeprefix("timm-"), [*smp.encoders.encoders, *timm.list_models()])
    raise ValueError(f"Neither smp nor timm has an encoder {name!r}. Near: {near}.")


def _near(name: str, valid: Collection[str]) -> str:
    return ", ".join(difflib.get_close_matches(name, list(dict.fromkeys(valid)), n=3)) or "none"
