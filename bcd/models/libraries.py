"""timm and segmentation_models_pytorch, imported without what nothing here uses: wandb, and torch's compiler.

timm imports wandb, where it is installed, for the log of its own training scripts; that takes a third of the time that torch
does. While timm is imported wandb cannot be, and timm works without it; afterwards it can.
"""

import sys

from bcd.models.start_up import without_compiler

_is_free = "wandb" not in sys.modules
if _is_free:
    sys.modules["wandb"] = None  # type: ignore[assignment]  # importing it is an ImportError
try:
    with without_compiler():
        import segmentation_models_pytorch as smp
        import timm
finally:
    if _is_free:
        del sys.modules["wandb"]

__all__ = ["smp", "timm"]
