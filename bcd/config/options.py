"""The available options: groups, their options, the keys of a command, and their descriptions."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from bcd.config.errors import ConfigError, nearest

_HERE = Path(__file__).resolve()
CHECKOUT = _HERE.parents[2]
CONF = CHECKOUT / "conf" if (CHECKOUT / "conf").is_dir() else _HERE.parents[1] / "conf"

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NO_GROUPS = ("hydra", "selection")
_FLAGS = (
    "--options            every option and key, with a line on each",
    "--cfg job            the config that would run, and nothing else",
    "-m                   a sweep over values that are separated by commas",
    "--config-dir=FOLDER  options of your own, as FOLDER/<group>/<option>.yaml",
    "--hydra-help         what else Hydra offers",
)


def groups(folders: Sequence[Path] = ()) -> dict[str, list[str]]:
    """Return every config group with its options, sorted: ours, and those of the user's own folders (`--config-dir`)."""
    options: dict[str, set[str]] = {}
    for folder in (CONF, *folders):
        for path in folder.iterdir():
            if path.is_dir() and path.name not in _NO_GROUPS:
                options.setdefault(path.name, set()).update(file.stem for file in path.glob("*.yaml"))
    return {name: sorted(names) for name, names in sorted(options.items()) if names}


def program(config_name: str) -> str:
    """Return how a command is called: from a checkout, or from what was installed."""
    return f"python scripts/{config_name}.py" if CONF.parent == CHECKOUT else f"bcd {config_name}"


def help_text(config_name: str, description: str) -> str:
    """Return the help page: what the command does, its groups, options and keys."""
    all_options = groups()
    used = {name: all_options[name] for name in defaults_of(config_name) if name in all_options}
    width = max((len(name) for name in used), default=0) + 2
    lines = [description.strip(), "", f"{program(config_name)} [group=option] [key=value] ...", ""]
    if used:
        lines += ["Groups and their options:", *(f"  {name:<{width}}{' '.join(options)}" for name, options in used.items()), ""]
    lines += ["Keys:", *_key_lines(config_name), ""]
    return "\n".join([*lines, *_FLAGS, ""])


def options_text(config_name: str, folders: Sequence[Path] = ()) -> str:
    """Return every group with its options, a line on each, and every key with its comment."""
    all_options = groups(folders)
    lines = []
    for name, default in defaults_of(config_name, folders).items():
        if name in all_options:
            chosen = ", ".join(default) if isinstance(default, list) else default
            lines += [f"{name}=  (default: {'nothing' if chosen is None else chosen})"]
            lines += [_explained(option, name, folders) for option in all_options[name]] + [""]
    return "\n".join([*lines, "Keys:", *_key_lines(config_name, folders), ""])


def defaults_of(config_name: str, folders: Sequence[Path] = ()) -> dict[str, Any]:
    """Return the groups that a command composes, in order, each with the option or options it starts from."""
    chosen: dict[str, Any] = {}
    for entry in (load(find_file(config_name, folders)) or {}).get("defaults", []):
        if isinstance(entry, str) and entry != "_self_":
            chosen |= defaults_of(entry, folders)
        elif isinstance(entry, dict):
            chosen |= {name: option for name, option in entry.items() if not name.startswith("override ")}
    return chosen


def included_in(config_name: str, folders: Sequence[Path] = ()) -> list[str]:
    """Return the configs of commands that a command's config builds on."""
    defaults = (load(find_file(config_name, folders)) or {}).get("defaults", [])
    return [entry for entry in defaults if isinstance(entry, str) and entry != "_self_"]


def find_file(name: str, folders: Sequence[Path] = ()) -> Path:
    """Return the file of a config, `train` or `model/unet`.

    Raises:
        ConfigError: where there is none.
    """
    for folder in (CONF, *folders):
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    beside = [path.stem for folder in (CONF, *folders) for path in (folder / name).parent.glob("*.yaml")]
    raise ConfigError(f"There is no config {name}. {nearest(name, beside)}")


def _key_lines(config_name: str, folders: Sequence[Path] = ()) -> list[str]:
    """Return the keys of a command's own file, and of those it includes, as they are written there."""
    path = find_file(config_name, folders)
    lines = [line for name in included_in(config_name, folders) for line in _key_lines(name, folders)]
    body = path.read_text(encoding="utf-8").partition("\nhydra:")[0]
    return lines + [
        f"  {line}" for line in body.splitlines() if re.match(r" *(?!_)\w+:", line) and not line.startswith("defaults:")
    ]


def _explained(option: str, group: str, folders: Sequence[Path]) -> str:
    lines = find_file(f"{group}/{option}", folders).read_text(encoding="utf-8").splitlines()
    first = next((line for line in lines if not line.startswith("# @package")), "")
    return f"  {option:<23} {first.removeprefix('#').strip() if first.startswith('#') else ''}".rstrip()


def load(path: Path) -> Mapping[str, Any] | None:
    """Return the content of a YAML file."""
    return yaml.load(path.read_text(encoding="utf-8"), LOADER)
