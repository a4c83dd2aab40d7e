"""What the YAML files say of each key of a config: the value that stands there, and the comment behind it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from bcd.config.options import CONF, LOADER, defaults_of, find_file, groups, load


class Entry(NamedTuple):
    """A key of a YAML file.

    Attributes:
        value: as the file has it.
        comment: what stands behind it on its line.
        ours: whether the file is ours; a user's own is checked like what is typed.
    """

    value: Any
    comment: str
    ours: bool


Said = dict[str, list[Entry]]


def described(config_name: str, choices: Mapping[str, Any], written: Mapping[str, Any], folders: Sequence[Path]) -> Said:
    """Return what the files that a config was composed from say of each dotted key, the last file first.

    Args:
        config_name: of the primary config.
        choices: the option of each group that takes one, as Hydra records them: `selection@data` -> `default`.
        written: the config; of a group that takes several options, it tells which: those whose keys it has.
        folders: the user's own, with further options.
    """
    said: Said = {}
    _add(said, config_name, "", folders)
    several = {name for name in defaults_of(config_name, folders) if name not in choices and isinstance(written.get(name), Mapping)}
    for group in several:
        for option in groups(folders)[group]:
            if set(load(find_file(f"{group}/{option}", folders)) or {}) - {"defaults"} <= set(written[group]):
                _add(said, f"{group}/{option}", group, folders)
    for key, option in reversed(list(choices.items())):  # Hydra records the last first
        group, _, package = key.partition("@")
        if option is not None and not group.startswith("hydra/"):
            _add(said, f"{group}/{option}", package or group, folders)
    return said


def _add(said: Said, name: str, package: str, folders: Sequence[Path]) -> None:
    """Add what a file says, after the files that it includes by name; those that it chooses in a group are among the choices."""
    path = find_file(name, folders)
    package = "" if path.read_text(encoding="utf-8").startswith("# @package _global_") else package
    for included in (load(path) or {}).get("defaults", ()):
        if isinstance(included, str) and included != "_self_":
            other, _, place = included.partition("@")
            whole = other.removeprefix("/") if other.startswith("/") else "/".join([*name.split("/")[:-1], other])
            _add(said, whole, place or package, folders)
    for key, entry in entries(path).items():
        said.setdefault(f"{package}.{key}" if package else key, []).insert(0, entry)


@lru_cache(maxsize=512)
def entries(path: Path) -> dict[str, Entry]:
    """Return the keys of a YAML file, dotted, each with its value and the comment on its line."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    return {
        name: Entry(_plain(value), _comment(lines, value), path.is_relative_to(CONF))
        for name, value in _walk(yaml.compose(text, LOADER), "")
        if name.partition(".")[0] not in ("defaults", "hydra")
    }


def _walk(node: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = f"{prefix}{key.value}"
            yield name, value
            yield from _walk(value, f"{name}.")


def _plain(node: Any) -> Any:
    if isinstance(node, yaml.ScalarNode) and node.style in (None, "") and re.fullmatch(r"-?\d+(\.\d*)?e-?\d+", node.value):
        return float(node.value)  # YAML 1.1 takes 1e-3 for text
    loader = LOADER("")
    try:
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _comment(lines: Sequence[str], value: Any) -> str:
    """Return the comment behind a value that ends on its key's line."""
    line = lines[value.end_mark.line] if value.end_mark.line < len(lines) else ""
    rest = line[value.end_mark.column :] if not isinstance(value, yaml.MappingNode) or value.flow_style else ""
    found = re.match(r"\s*#\s(.*)", rest)
    return found[1].strip() if found else ""
