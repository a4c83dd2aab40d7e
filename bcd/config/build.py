"""`build`: the only door from a config to an object."""

import importlib
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate

from bcd.config.moved import of_today, today
from bcd.config.spelling import nearest
from bcd.config.trust import is_named, is_ours, package_of, refusal

HYDRA_KEYS = {"_target_", "_partial_"}


class UntrustedTargetError(ValueError):
    """A config names something that it may not construct."""


def build(node: Mapping[str, Any], *, trusted: Collection[str] = (), from_checkpoint: bool = False, **given: Any) -> Any:
    """Return the object that a plain config node describes.

    Args:
        node: a dict with `_target_`, a dotted name, and the constructor's arguments; nodes may nest.
        trusted: what the user's config allows besides: constructors, such as `mylab.networks.MyNet`, and packages, such as
            `mylab`, of which every class that is written there may be constructed.
        from_checkpoint: the node was read from a checkpoint: optimizers and the parts that a network needs, nothing else.
        **given: arguments that no config can hold, such as objects made before.

    Raises:
        UntrustedTargetError: for a `_target_` that is not a trusted constructor; nothing of it has run then.
        ValueError: for an argument that the constructor does not have, with the valid names and the nearest.
    """
    node = of_today(node)
    for name, target in _targets(node, "config"):
        _check_arguments(name, target, constructor(target, "", trusted, from_checkpoint), given if target is node else {})
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


def constructor(
    node: Mapping[str, Any], key: str = "", trusted: Collection[str] = (), from_checkpoint: bool = False
) -> Callable[..., Any]:
    """Return the class that a node names; nothing is imported for a name that is not trusted.

    Raises:
        UntrustedTargetError: for another name, or one that cannot be found.
    """
    reason = refusal(node["_target_"], trusted, from_checkpoint)
    if reason is not None:
        raise UntrustedTargetError(f"{key}: {reason}" if key else reason)
    target = today(node["_target_"])
    module_name, _, attribute = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        way_out = "" if is_ours(target) else " Your package must be installed, lie where you start the command, or in PYTHONPATH."
        raise UntrustedTargetError(f"_target_ {target!r} cannot be found ({error}).{way_out}") from error
    if is_named(target, trusted, from_checkpoint):
        return found
    # A name of ours must be a class written there: `bcd.models.roi.torch` would else be a way out of the house.
    if is_ours(target, from_checkpoint):
        home, at_home = module_name, inspect.isclass(found) and found.__module__ == module_name
    else:  # a class of the user's package may be offered by its `__init__`, but must be written in the package
        home = package_of(target, trusted) or module_name
        at_home = inspect.isclass(found) and f"{found.__module__}.".startswith(f"{home}.")
    if not at_home:
        raise UntrustedTargetError(f"_target_ {target!r} is not a class defined in {home}.")
    return found


def _check_arguments(name: str, node: Mapping[str, Any], constructor: Callable[..., Any], given: Mapping[str, Any]) -> None:
    parameters = inspect.signature(constructor).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for key in [*node, *given]:
        if key not in HYDRA_KEYS and key not in parameters:
            raise ValueError(f"{name}.{key}: {node['_target_']} has no argument {key!r}. {nearest(key, parameters)}")
