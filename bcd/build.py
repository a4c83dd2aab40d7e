"""`build`: the only door from a config to an object."""

import importlib
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate

from bcd.spelling import nearest

# Classes defined in these parts of ours may be named; in a checkpoint, only what a network at work needs.
OUR_PARTS = ("bcd.data", "bcd.losses", "bcd.metrics", "bcd.models", "bcd.preprocess", "bcd.runs.callbacks", "bcd.tasks")
OUR_PARTS_IN_CHECKPOINTS = ("bcd.losses", "bcd.models", "bcd.preprocess", "bcd.tasks")

# Constructors of others, one by one: trusting a whole package would admit the likes of `torch.hub.load`.
OPTIMIZERS = frozenset({"torch.optim.AdamW", "torch.optim.SGD"})
THEIRS = OPTIMIZERS | {
    "lightning.pytorch.Trainer",
    "lightning.pytorch.callbacks.EarlyStopping",
    "lightning.pytorch.callbacks.LearningRateMonitor",
    "lightning.pytorch.callbacks.ModelCheckpoint",
    "lightning.pytorch.loggers.CSVLogger",
    "lightning.pytorch.loggers.TensorBoardLogger",
    "lightning.pytorch.loggers.WandbLogger",
    "albumentations.Affine",
    "albumentations.CLAHE",
    "albumentations.CoarseDropout",
    "albumentations.ElasticTransform",
    "albumentations.GaussianBlur",
    "albumentations.GaussNoise",
    "albumentations.GridDistortion",
    "albumentations.HorizontalFlip",
    "albumentations.MultiplicativeNoise",
    "albumentations.RandomBrightnessContrast",
    "albumentations.RandomGamma",
    "albumentations.ShiftScaleRotate",
}

HYDRA_KEYS = {"_target_", "_partial_"}


class UntrustedTargetError(ValueError):
    """A config names something that it may not construct."""


def build(node: Mapping[str, Any], *, trusted: Collection[str] = (), from_checkpoint: bool = False, **given: Any) -> Any:
    """Return the object that a plain config node describes.

    Args:
        node: a dict with `_target_`, a dotted name, and the constructor's arguments; nodes may nest.
        trusted: further constructors that the user's config allows, such as `mylab.networks.MyNet`.
        from_checkpoint: the node was read from a checkpoint: optimizers and the parts that a network needs, nothing else.
        **given: arguments that no config can hold, such as objects made before.

    Raises:
        UntrustedTargetError: for a `_target_` that is not a trusted constructor; nothing of it has run then.
        ValueError: for an argument that the constructor does not have, with the valid names and the nearest.
    """
    for name, target in _targets(node, "config"):
        _check_arguments(name, target, _constructor(target["_target_"], trusted, from_checkpoint), given if target is node else {})
    try:
        return instantiate(dict(node), _convert_="all", **given)
    except InstantiationException as error:
        if error.__cause__ is None:
            raise ValueError(str(error)) from error
        raise error.__cause__ from None


def _targets(node: Any, name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(node, Mapping):
        foreign = [key for key in node if isinstance(key, str) and key.startswith("_") and key not in HYDRA_KEYS]
        if foreign:
            raise UntrustedTargetError(f"{name}: {foreign[0]} is not allowed here; use {', '.join(sorted(HYDRA_KEYS))} alone.")
        if "_target_" in node:
            yield name, node
        for key, child in node.items():
            yield from _targets(child, f"{name}.{key}" if name != "config" else str(key))
    elif isinstance(node, list | tuple):
        for position, child in enumerate(node):
            yield from _targets(child, f"{name}[{position}]")


def _constructor(target: Any, trusted: Collection[str], from_checkpoint: bool) -> Callable[..., Any]:
    """Return the class behind a trusted dotted name; import nothing for any other name."""
    if not isinstance(target, str):
        raise UntrustedTargetError(f"_target_ must be a dotted name, not {target!r}.")
    parts = OUR_PARTS_IN_CHECKPOINTS if from_checkpoint else OUR_PARTS
    ours = any(target.startswith(part + ".") for part in parts)
    theirs = target in (OPTIMIZERS if from_checkpoint else THEIRS) or target in trusted
    if not ours and not theirs:
        remedy = "a checkpoint may not name it" if from_checkpoint else f"if it is your own, add it: trusted=[{target}]"
        raise UntrustedTargetError(f"_target_ {target!r} is not a trusted constructor; {remedy}.")
    module_name, _, attribute = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise UntrustedTargetError(f"_target_ {target!r} cannot be found ({error}).") from error
    # A name of ours must be a class written there: `bcd.models.roi.torch` would else be a way out of the house.
    if ours and not (inspect.isclass(found) and found.__module__ == module_name):
        raise UntrustedTargetError(f"_target_ {target!r} is not a class defined in {module_name}.")
    return found


def _check_arguments(name: str, node: Mapping[str, Any], constructor: Callable[..., Any], given: Mapping[str, Any]) -> None:
    parameters = inspect.signature(constructor).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for key in [*node, *given]:
        if key not in HYDRA_KEYS and key not in parameters:
            raise ValueError(f"{name}.{key}: {node['_target_']} has no argument {key!r}. {nearest(key, parameters)}")
