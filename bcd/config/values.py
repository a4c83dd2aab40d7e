"""Every value of a config against what its place asks for: the arguments of constructors, their types and ranges, and paths.

A constructor is read as text (`constructors`): signature, docstring, and its own refusals. For keys that no constructor takes, the
YAML files speak: the type is that of the value there, and a rule may stand in the comment behind it (`limits`).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bcd.config import names
from bcd.config.annotations import fits, in_words, literals
from bcd.config.constructors import Constructor, constructor
from bcd.config.described import Entry
from bcd.config.limits import limit_in
from bcd.config.source import read_module
from bcd.config.spelling import nearest, nearest_few
from bcd.config.trust import refusal

HYDRA_KEYS = ("_target_", "_partial_")
_ABSENT = object()
_REFERENCE = re.compile(r"\$\{([\w.]+)\}")
_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "a mapping",
    type(None): "null",
}


class Values:
    """The values of one config.

    Args:
        config: resolved, plain.
        written: the same before it was resolved: what points to another key is checked there.
        entries: dotted key -> what the YAML files say of it, the last file first.
        paths: whether the files and folders that are named must be there.
    """

    def __init__(
        self, config: Mapping[str, Any], written: Mapping[str, Any], entries: Mapping[str, Sequence[Entry]], paths: bool
    ) -> None:
        self.config = config
        self.written = written
        self.entries = entries
        self.paths = paths
        self.trusted = [entry for entry in config.get("trusted") or () if isinstance(entry, str)]
        self._read: set[str] = set()

    def problems(self) -> list[str]:
        """Return what is wrong, each in a sentence that names the key."""
        found = [problem for key, node in _nodes(self.written, "") for problem in self._node_problems(key, node)]
        of_entries = [(key, problem) for key in self.entries if (problem := self._entry_problem(key)) is not None]
        return found + [problem for key, problem in of_entries if not any(other.startswith(f"{key}=") for other in found)]

    def _node_problems(self, key: str, written: Mapping[str, Any]) -> Iterator[str]:
        node = _get(self.config, key)
        if not isinstance(node, Mapping):
            return
        if self._is_ours(key.partition("[")[0]) or all(self._is_ours(f"{key}.{name}") for name in written):
            self._read.add(key)
            return
        foreign = [name for name in node if str(name).startswith("_") and name not in HYDRA_KEYS]
        if foreign:
            yield f"{key}: {foreign[0]} is not allowed here; use {', '.join(HYDRA_KEYS)} alone."
        target = node["_target_"]
        reason = refusal(target, self.trusted)
        if reason is not None:
            yield f"{key}: {reason}"
            return
        cls = constructor(target)
        if cls is None:
            yield from _unfound(key, target)
            return
        given = {name: value for name, value in node.items() if name not in HYDRA_KEYS and not self._is_open(value)}
        wrong = list(self._argument_problems(key, written, given, cls))
        yield from wrong
        if not wrong and self._is_own(target):  # what others do, or say, in such words may be meant otherwise
            own_words = cls.refusal(given)
            yield from [own_words] if own_words is not None else self._limit_problems(key, written, given, cls)

    def _argument_problems(self, key: str, written: Mapping[str, Any], given: Mapping[str, Any], cls: Constructor) -> Iterator[str]:
        arguments, name = cls.arguments, written["_target_"]
        if arguments is None:
            return
        self._read.add(key)
        for argument, value in given.items():
            source = self._source(f"{key}.{argument}", written.get(argument))
            if argument not in arguments:
                yield f"{key}.{argument}: {name} has no argument {argument!r}. {nearest(argument, arguments)}"
                continue
            annotation = arguments[argument].annotation
            if self._is_ours(f"{key}.{argument}"):
                continue  # `precision: auto` is for us to understand, not for Lightning
            if annotation is not None and not fits(value, annotation, cls.module):
                yield _misfit(source, value, in_words(annotation, cls.module), literals(annotation, cls.module))
            if str(name).startswith("bcd.") and isinstance(value, str | list):
                listed = value if isinstance(value, list) else [value]
                yield from filter(None, (names.problem(argument, source, str(entry)) for entry in listed))
        missing = [argument for argument, spec in arguments.items() if spec.default is None and argument not in given]
        if not written.get("_partial_"):
            yield from (f"{key}.{argument} must be given: {name} needs it." for argument in missing if argument not in written)

    def _limit_problems(self, key: str, written: Mapping[str, Any], given: Mapping[str, Any], cls: Constructor) -> Iterator[str]:
        for argument in given.keys() & cls.limits.keys():
            source = self._source(f"{key}.{argument}", written.get(argument))
            yield from filter(None, [cls.limits[argument].problem(source, given[argument])])

    def _entry_problem(self, key: str) -> str | None:
        """Check a key by the files alone; types only where no constructor takes it."""
        value = _get(self.config, key)
        said = self.entries[key]
        if value is _ABSENT or self._is_open(value) or self._is_ours(key):
            return None
        limit = next((limit for entry in said if (limit := limit_in(entry.comment)) is not None), None)
        if limit is not None and (limit.path is None or self.paths):
            problem = limit.problem(self._source(key, _get(self.written, key)), value)
            if problem is not None:
                return problem
        if key.rpartition(".")[0] in self._read or not _is_here(self.written, key):
            return None
        kinds = [_kind(entry.value) for entry in said]
        if limit is not None or set(kinds) <= {type(None)} or any(kind is None or _is_kind(value, kind) for kind in kinds):
            return None
        return _misfit(key, value, " or ".join(dict.fromkeys(_KINDS[kind] for kind in kinds if kind is not None)))

    def _source(self, key: str, written: Any) -> str:
        """Return the key that a value comes from: `model.pretrained: ${pretrained}` is given as `pretrained=`."""
        pointed = _REFERENCE.fullmatch(written) if isinstance(written, str) else None
        target = _get(self.written, pointed[1]) if pointed else _ABSENT
        return key if pointed is None or target is _ABSENT else self._source(pointed[1], target)

    def _is_ours(self, key: str) -> bool:
        """Tell whether a value is the one that our own files give it, so that there is nothing to check."""
        value = _get(self.written, key)
        pointed = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
        if pointed is not None and _get(self.written, pointed[1]) is not _ABSENT:
            return self._is_ours(pointed[1])
        if isinstance(value, Mapping) and value and key not in self.entries:
            return False
        said = self.entries.get(key, ())
        return len(said) > 0 and said[0].ours and type(said[0].value) is type(value) and said[0].value == value

    def _is_open(self, value: Any) -> bool:
        """Tell whether a value is left for the run's plan (experiment=auto)."""
        if isinstance(value, Mapping) and value:
            return all(self._is_open(entry) for entry in value.values())
        return value == "auto" and self.config.get("plan") is not None

    def _is_own(self, target: str) -> bool:
        return target.startswith("bcd.") or any(f"{target}.".startswith(f"{entry}.") for entry in self.trusted)


def _nodes(node: Any, key: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Give every dict that describes an object, with its dotted key."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield key, node
        for name, child in node.items():
            yield from _nodes(child, f"{key}.{name}" if key else str(name))
    elif isinstance(node, list):
        for position, child in enumerate(node):
            yield from _nodes(child, f"{key}[{position}]")


def _unfound(key: str, target: str) -> Iterator[str]:
    """Say that a module of ours has no such class; what is not ours may be made in ways that no file shows."""
    module_name, _, name = target.rpartition(".")
    if target.startswith("bcd."):
        module = read_module(module_name)
        classes = module.top_level() if module is not None else []
        yield f"{key}: there is no class {target}. " + (nearest(name, classes) if classes else "There is no such module.")


def _get(config: Any, key: str) -> Any:
    """Return the value of a dotted key, `augmentation.transforms[1].p`."""
    node = config
    for part in re.findall(r"[^.\[\]]+|\[\d+\]", key):
        if part.startswith("["):
            node = node[int(part[1:-1])]
        elif isinstance(node, Mapping) and part in node:
            node = node[part]
        else:
            return _ABSENT
    return node


def _is_here(written: Any, key: str) -> bool:
    """Tell whether a key stands where it is written, and not in what points elsewhere."""
    return not isinstance(_get(written, key.rpartition(".")[0]) if "." in key else written, str)


def _kind(value: Any) -> type | None:
    """Return the type that a value in YAML stands for; None where it points elsewhere."""
    return None if isinstance(value, str) and "${" in value else type(value)


def _is_kind(value: Any, kind: type) -> bool:
    if kind is type(None):
        return value is None
    if kind is str:
        return isinstance(value, str | int | float)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _shown(value: Any) -> str:
    return (
        {None: "null", True: "true", False: "false"}.get(value, str(value))
        if value is None or isinstance(value, bool)
        else str(value)
    )


def _misfit(key: str, value: Any, wanted: str, words: Sequence[str] = ()) -> str:
    """Say what a value must be, and how to write it."""
    shown = _shown(value)
    way_out = ""
    if isinstance(value, str) and words:
        way_out = f" {nearest_few(value, words)}"
    elif "a list" in wanted and not isinstance(value, list | dict):
        way_out = f" Write {key}=[{shown}]."
    elif "text" in wanted and isinstance(value, int | float):
        way_out = f""" Write '{key}="{shown}"'."""
    return f"{key}={shown} must be {wanted}.{way_out}"
