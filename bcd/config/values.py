"""Checks of every value of a composed config against the model of its command, and the classes that it names."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bcd.config import check, combinations, schema
from bcd.config.build import Constructor, UntrustedTargetError, build, constructor, nodes
from bcd.config.trust import refusal

# Parts that cost nothing to make: they are made, and thrown away, so that what their constructors refuse is known at once.
_CHEAP = ("loss", "scheduler", "finetune", "mixing", "preprocess", "augmentation", "guide")
_ABSENT = object()
_REFERENCE = re.compile(r"\$\{([\w.]+)\}")


def problems(
    config: Mapping[str, Any],
    written: Mapping[str, Any],
    config_name: str,
    folders: Sequence[Path],
    run: bool,
    typed: Sequence[str] = (),
) -> list[str]:
    """Return what is wrong with a config, each in a sentence that names the key.

    Args:
        config: resolved, plain.
        written: the same before it was resolved: a value that is pointed to is named by its own key.
        config_name: of the command.
        folders: the user's own, with further options.
        run: the command will run, so files must exist, and all values must fit together.
        typed: dotted keys of the command line: what is wrong with these is known once their own classes are imported.
    """
    trusted = [entry for entry in config.get("trusted") or () if isinstance(entry, str)]
    model = schema.of_command(config_name, folders)
    checks = _Checks(config, written, run)
    wrong = list(checks.keys("", config, model)) if model is not None else []
    # Where it is written: `task.model: ${model}` is one network, not two.
    objects = {key: _get(config, key) for key, _ in nodes(written)}
    if model is not None and issubclass(model, schema.Training):
        objects["guide"] = {"_target_": schema.GUIDE, **config["guide"]}
    classes: dict[str, Constructor] = {}
    wrong += [f"{key}: {reason}" for key, node in objects.items() if (reason := refusal(node["_target_"], trusted))]
    out_of_range = {key: list(check.range_problems(key, checks.closed(node), checks.source)) for key, node in objects.items()}
    wrong += [problem for of_object in out_of_range.values() for problem in of_object]
    of_typed = [key for key in objects if not out_of_range[key] and any(word.startswith(f"{key}.") for word in typed)]
    to_combine = [key for key in objects if key not in of_typed and combinations.needs(key)]
    others = [key for key in objects if key not in (*of_typed, *to_combine)]
    for keys in (of_typed, to_combine, others):
        for key in keys:
            try:
                classes[key] = constructor(objects[key], key, trusted)
            except UntrustedTargetError as error:
                wrong.append(str(error))
                continue
            wrong += checks.keys(key, objects[key], classes[key], objects[key]["_target_"])
        if keys is to_combine and run and model is not None and not wrong:
            wrong += combinations.problems(config, classes)
        if wrong:  # the other classes need not be imported, which takes seconds
            return wrong
    if not run:
        return []
    cheap = {key: objects[key] for key in _CHEAP if key in objects and not any(map(checks.is_open, objects[key].values()))}
    return [problem for key, node in cheap.items() for problem in _refusal(key, node, trusted)]


class _Checks:
    """A config, and how its values are called. With `run`, files and folders must be there."""

    def __init__(self, config: Mapping[str, Any], written: Mapping[str, Any], run: bool) -> None:
        self.written = written
        self.has_plan = config.get("plan") is not None
        self.run = run

    def keys(self, key: str, values: Mapping[str, Any], taker: Constructor, title: str = "") -> Iterator[str]:
        """Give what is wrong with the values of a mapping; those that are left for the run's plan are not looked at."""
        closed = self.closed(values)
        yield from check.problems(key, closed, taker, title=title, given=set(values), name_of=self.source, run=self.run)

    def closed(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values that are not left for the run's plan."""
        return {name: value for name, value in values.items() if not self.is_open(value)}

    def is_open(self, value: Any) -> bool:
        """Return whether a value is left for the run's plan (experiment=auto)."""
        if isinstance(value, Mapping) and value:
            return all(self.is_open(entry) for entry in value.values())
        return self.has_plan and value == "auto"

    def source(self, key: str) -> str:
        """Return the key that a value comes from: `model.pretrained: ${pretrained}` is given as `pretrained=`."""
        written = _get(self.written, key)
        pointed = _REFERENCE.fullmatch(written) if isinstance(written, str) else None
        return key if pointed is None or _get(self.written, pointed[1]) is _ABSENT else self.source(pointed[1])


def _refusal(key: str, node: Mapping[str, Any], trusted: Sequence[str]) -> Iterator[str]:
    """Give what the constructor of an object, or of one inside it, refuses."""
    try:
        build(node, trusted=trusted)
    except (ValueError, TypeError) as error:
        message = " ".join(str(error).split())
        yield message if message.startswith(key) else f"{key}: {message}"


def _get(config: Any, key: str) -> Any:
    """Return the value of a dotted key, `augmentation.transforms[1].p`."""
    node = config
    for part in re.findall(r"[^.\[\]]+|\[\d+\]", key):
        if part.startswith("[") and isinstance(node, list):
            node = node[int(part[1:-1])]
        elif isinstance(node, Mapping) and part in node:
            node = node[part]
        else:
            return _ABSENT
    return node
