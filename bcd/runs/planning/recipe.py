"""A run's config as an experiment file: its options by name, and the values by which it differs from them."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from bcd.config import compose, groups, resolved
from bcd.config.options import defaults_of, find_file
from bcd.runs.folder import moved, with_absolute_paths

AUTO = "auto"

# What belongs to one run, not to a way of training.
_OF_THE_RUN = ("plan", "folder", "output", "name", "group", "resume")

Keys = tuple[str, ...]
Choices = dict[str, str | list[str]]
_ABSENT = object()


def folders_of(config: Mapping[str, Any]) -> list[Path]:
    """Return the user's own folders of options (`--config-dir`), as `plan.sources` tells."""
    sources = config["plan"]["sources"]
    return [Path(source["path"]) for source in sources if source["schema"] == "file" and source["provider"] != "main"]


def choices_of(config: Mapping[str, Any]) -> Choices:
    """Return the option of each group that a config was composed from, as `plan.choices` and its own keys tell.

    Hydra records the options of a group that takes one; of a group that takes several, those are found whose keys are there.
    """
    folders = folders_of(config)
    options = groups(folders)
    recorded = {str(group): option for group, option in config["plan"]["choices"].items()}
    chosen: Choices = {}
    for group in defaults_of("train"):
        if group in ("experiment", "sweep", "launcher"):
            continue
        if isinstance(recorded.get(group), str):
            chosen[group] = recorded[group]
            continue
        keys: dict[str, set[str]] = {}
        for option in options[group]:
            content = yaml.safe_load(find_file(f"{group}/{option}", folders).read_text(encoding="utf-8")) or {}
            keys[option] = {str(key) for key in content} - {"defaults"}
        there = [option for option, own in keys.items() if own and own <= set(config[group])]
        chosen |= {group: there} if there else {group: "none"} if "none" in options[group] else {}
    return chosen


class Recipe:
    """What a config is made of: options, and values laid over them.

    Args:
        config: plain, resolved, paths absolute; what is open holds `auto`.
        open_keys: dotted keys that may hold `auto`; an `auto` there, or in what points there, is not a value.

    Attributes:
        choices: the option of each group.
        folders: the user's own, which hold further options.
        values: path of keys -> value, for all values that differ from the options.
        removed: dotted keys that the options have and the config has not; no experiment file can say that.
    """

    def __init__(self, config: Mapping[str, Any], open_keys: Sequence[str]) -> None:
        self.config = config
        self.open_keys = {path_of(key) for key in open_keys}
        self.choices: Choices = {}
        self.values: dict[Keys, Any] = {}
        self._written: dict[str, Any] = {}
        self.folders = folders_of(config)
        self.choose(choices_of(config))
        base = self.with_values({})
        self.values = {path: value for path, value in self._differences(base).items() if not self._points(path)}
        # What a value points to has moved with it by now; what still differs was set on its own.
        self.values |= self._differences(self.with_values({}))
        self.removed = sorted(".".join(path) for path in _missing(base, config) if path[0] not in _OF_THE_RUN)

    def choose(self, choices: Choices) -> None:
        """Take these options of their groups; the values stay as they are."""
        if choices:
            self.choices = {**self.choices, **choices}
            options = {
                group: f"[{','.join(option)}]" if isinstance(option, list) else option for group, option in self.choices.items()
            }
            given = [
                *(f"--config-dir={folder}" for folder in self.folders),
                *(f"{group}={option}" for group, option in options.items()),
            ]
            self._written = compose("train", given, self.config["folder"], resolve=False)

    def default(self, key: str) -> Any:
        """Return what the options themselves have under a dotted key; None where they do not have it."""
        node: Any = self._written
        for part in path_of(key):
            if not isinstance(node, Mapping) or part not in node:
                return None
            node = node[part]
        return node

    def with_values(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the config with these values (by dotted key) on top, and with what points to them."""
        own = {path_of(key): self.config[key] for key in _OF_THE_RUN if key in self.config}
        laid = self.values | {path_of(key): value for key, value in values.items()} | own
        return with_absolute_paths(resolved(self._written, _nest(laid)))

    def experiment(self, head: Sequence[str], values: Mapping[str, Any], reasons: Mapping[str, str]) -> str:
        """Return the recipe as the text of an experiment file, these values first.

        Args:
            head: comment lines at the top; the first explains the option.
            values: dotted key -> value, on top of the recipe's own.
            reasons: dotted key, or group -> why; a comment above it.
        """
        lines = ["# @package _global_", *(f"# {line}".rstrip() for line in head), "defaults:"]
        for group, option in self.choices.items():
            lines += [*_comment(reasons.get(group), "  "), f"  - override /{group}: {_yaml(option)}"]
        laid = {path_of(key): value for key, value in values.items()} | self.values
        return "\n".join([*lines, "", *_lines(_nest(laid), reasons, ())]) + "\n"

    def _differences(self, base: Mapping[str, Any]) -> dict[Keys, Any]:
        changed = {
            path: value
            for path, value in _changed(base, self.config)
            if path[0] not in _OF_THE_RUN and not (value == AUTO and (path in self.open_keys or self._points(path)))
        }
        # A path in the run's folder is a path in the folder of the next run.
        return {path: moved(value, str(self.config["folder"]), "${folder}") for path, value in changed.items()}

    def _points(self, path: Keys) -> bool:
        """Return whether a value stands where the options point to another one."""
        node: Any = self._written
        for part in path:
            if isinstance(node, str):
                break
            if not isinstance(node, Mapping) or part not in node:
                return False
            node = node[part]
        return isinstance(node, str) and "${" in node


def path_of(key: str) -> Keys:
    """Return a dotted key as a path of keys."""
    return tuple(key.split("."))


def _nest(values: Mapping[Keys, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for (*parents, last), value in values.items():
        node = nested
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return nested


def _lines(node: Mapping[str, Any], reasons: Mapping[str, str], path: Keys) -> list[str]:
    lines = []
    indent = "  " * len(path)
    for key, value in node.items():
        here = (*path, key)
        reason = reasons.get(".".join(here))
        lines += _comment(reason, indent)
        if isinstance(value, dict) and value:
            lines += [f"{indent}{_yaml(key)}:", *_lines(value, reasons, here)]
        else:
            lines.append(f"{indent}{_yaml(key)}: {_yaml(value)}")
    return lines


def _comment(text: str | None, indent: str) -> list[str]:
    return [] if text is None else [f"{indent}# {line}" for line in textwrap.wrap(text, 120)]


def _yaml(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**9, sort_keys=False)
    return text.removesuffix("\n").removesuffix("...").removesuffix("\n")


def _changed(base: Any, config: Any, path: Keys = ()) -> list[tuple[Keys, Any]]:
    """Return where and what a config says differently from a base; lists count whole."""
    if isinstance(config, Mapping) and (config or isinstance(base, Mapping)):
        there = base if isinstance(base, Mapping) else {}
        return [found for key, value in config.items() for found in _changed(there.get(key, _ABSENT), value, (*path, str(key)))]
    return [] if base == config and type(base) is type(config) else [(path, config)]


def _missing(base: Any, config: Any, path: Keys = ()) -> list[Keys]:
    if not (isinstance(base, Mapping) and isinstance(config, Mapping)):
        return []
    gone = [(*path, str(key)) for key in base if key not in config]
    return gone + [found for key in base if key in config for found in _missing(base[key], config[key], (*path, str(key)))]
