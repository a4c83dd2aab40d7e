"""`build`: the only way from a config to an object."""

import importlib
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from pydantic import ValidationError

from bcd.config import check
from bcd.config.errors import nearest, refuse, sentence
from bcd.config.trust import is_named, is_ours, of_today, package_of, refusal, today

Constructor = Callable[..., Any]


class UntrustedTargetError(ValueError):
    """A config names something that is not trusted."""


def build(node: Mapping[str, Any], *, trusted: Collection[str] = (), from_checkpoint: bool = False, **given: Any) -> Any:
    """Return the object that a plain config node describes, its arguments checked against the signatures of their classes.

    Args:
        node: a dict with `_target_`, a dotted name, and the constructor's arguments; nodes may nest.
        trusted: what the user's config allows besides: constructors, such as `mylab.networks.MyNet`, and packages, such as
            `mylab`, of which every class that is written there may be constructed.
        from_checkpoint: the node was read from a checkpoint: optimizers and the parts that a network needs, nothing else.
        **given: arguments that no config can hold, such as objects made before.

    Raises:
        UntrustedTargetError: for a `_target_` that is not a trusted constructor; nothing of it has run then.
        ConfigError: for an argument that the constructor does not have, or a value out of its range.
        ValueError: for what the constructor itself refuses.
    """
    node = of_today(node)
    refused: list[str] = []
    for key, part in nodes(node):
        taker = constructor(part, key, trusted, from_checkpoint)
        ours = given if part is node else {}
        # Without a key, which only the whole config has, the class tells what is meant.
        refused += check.problems(key or taker.__name__, part, taker, title=part["_target_"], given=ours)
        takes = check.signature(taker, part["_target_"])
        wrong = [name for name in ours if name not in takes.arguments and not takes.takes_any]
        refused += [f"{part['_target_']} has no argument {name!r}. {check.names_near(name, takes.arguments)}" for name in wrong]
    refuse(refused)
    try:
        return instantiate(dict(node), _convert_="all", **given)
    except InstantiationException as error:
        if error.__cause__ is None:
            raise ValueError(str(error)) from error
        behind = error.__cause__.__cause__
        if isinstance(behind, ValidationError):  # of albumentations, which checks its own arguments by pydantic
            raise ValueError(sentence(behind)) from error
        raise error.__cause__ from None


def nodes(node: Any, key: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Give every dict that describes an object, with its dotted key."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield key, node
        for name, child in node.items():
            yield from nodes(child, f"{key}.{name}" if key else str(name))
    elif isinstance(node, list | tuple):
        for position, child in enumerate(node):
            yield from nodes(child, f"{key}[{position}]")


def constructor(
    node: Mapping[str, Any], key: str = "", trusted: Collection[str] = (), from_checkpoint: bool = False
) -> Constructor:
    """Return the class that a node names; nothing is imported for a name that is not trusted.

    Raises:
        UntrustedTargetError: for another name, one that is not there, or a key by which Hydra would build it differently.
    """
    at = f"{key}: " if key else ""
    _refuse_name(node, at, trusted, from_checkpoint)
    return _import(today(node["_target_"]), at, trusted, from_checkpoint)


def refuse_untrusted(node: Mapping[str, Any], trusted: Collection[str] = (), from_checkpoint: bool = False) -> None:
    """Refuse a plain config node that names a constructor that `build` would refuse; nothing is imported.

    Raises:
        UntrustedTargetError: naming it.
    """
    for key, part in nodes(of_today(node)):
        _refuse_name(part, f"{key}: " if key else "", trusted, from_checkpoint)


def _refuse_name(node: Mapping[str, Any], at: str, trusted: Collection[str], from_checkpoint: bool) -> None:
    foreign = [name for name in node if str(name).startswith("_") and name not in check.HYDRA_KEYS]
    if foreign:
        raise UntrustedTargetError(f"{at}{foreign[0]} is not allowed here; use {', '.join(check.HYDRA_KEYS)} alone.")
    reason = refusal(node["_target_"], trusted, from_checkpoint)
    if reason is not None:
        raise UntrustedTargetError(f"{at}{reason}")


def _import(target: str, at: str, trusted: Collection[str], from_checkpoint: bool) -> Constructor:
    module_name, _, attribute = target.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        way_out = "" if is_ours(target) else " Your package must be installed, lie where you start the command, or in PYTHONPATH."
        raise UntrustedTargetError(f"{at}_target_ {target!r} cannot be found ({error}).{way_out}") from error
    if not hasattr(module, attribute):
        classes = [name for name, value in vars(module).items() if inspect.isclass(value) and value.__module__ == module_name]
        raise UntrustedTargetError(f"{at}there is no class {target}. {nearest(attribute, classes)}")
    named: Constructor = getattr(module, attribute)
    if is_named(target, trusted, from_checkpoint):
        return named
    # A name of ours must be a class written there: `bcd.models.roi.torch` would otherwise give access to other packages.
    if is_ours(target, from_checkpoint):
        home, at_home = module_name, inspect.isclass(named) and named.__module__ == module_name
    else:  # a class of the user's package may be offered by its `__init__`, but must be written in the package
        home = package_of(target, trusted) or module_name
        at_home = inspect.isclass(named) and f"{named.__module__}.".startswith(f"{home}.")
    if not at_home:
        raise UntrustedTargetError(f"{at}_target_ {target!r} is not a class defined in {home}.")
    return named
