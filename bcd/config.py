"""The command line: Hydra's groups and overrides in, a plain dict out."""

import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bcd.spelling import nearest

# Hydra and OmegaConf are imported inside functions: `--help` answers without them, at once.

_IN_CHECKOUT = Path(__file__).resolve().parent.parent / "conf"
CONF = _IN_CHECKOUT if _IN_CHECKOUT.is_dir() else Path(__file__).resolve().parent / "conf"

# Values of these keys are taken as they are typed, whatever characters a path may hold.
_LITERAL_KEYS = frozenset(
    {"input", "output", "run", "guides", "pretrained", "folder", "hydra.run.dir", "guide.masks"}
    | {f"data.{key}" for key in ("root", "split", "source.root", "source.file", "source.delimiter", "source.mask_delimiter")}
)

log = logging.getLogger(__name__)

Command = Callable[[dict[str, Any], Path], None]


class ConfigError(ValueError):
    """The command line or a config does not say what it must."""


def command(config_name: str) -> Callable[[Command], Callable[[], None]]:
    """Make a function `(config, run folder)` a Hydra command over `conf/<config_name>.yaml`.

    Errors that a user can mend (ValueError, OSError, RuntimeError raised with a sentence) end the program with that sentence
    and exit status 1, or 2 for the command line itself; `BCD_FULL_ERROR=1` shows the traceback.
    """

    def decorate(function: Command) -> Callable[[], None]:
        def main() -> None:
            arguments = sys.argv[1:]
            if "--help" in arguments or "-h" in arguments:
                sys.stdout.write(help_text(config_name, function.__doc__ or ""))
                return
            try:
                sys.argv[1:] = checked_arguments(arguments, config_name)
            except ConfigError as error:
                _leave(error, 2)
            _run(function, config_name)

        return main

    return decorate


def compose(config_name: str, overrides: Sequence[str] = (), folder: Path | str = "outputs/run") -> dict[str, Any]:
    """Return a resolved config as a plain dict, as the command line would make it.

    Args:
        config_name: `train`, `prepare_data`, ...
        overrides: as on the command line: `["model=unet", "loss=dice_bce"]`.
        folder: the run's folder, which Hydra would choose.

    Raises:
        ConfigError: for a misspelt option, key or value.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    _register_resolvers()
    arguments = checked_arguments(list(overrides), config_name)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        whole = hydra_compose(config_name, overrides=arguments, return_hydra_config=True)
    OmegaConf.set_readonly(whole.hydra, False)
    whole.hydra.runtime.output_dir = str(folder)
    HydraConfig.instance().set_config(whole)
    return _plain(whole)


def groups() -> dict[str, list[str]]:
    """Return every config group with its options, sorted."""
    found = {path.name: sorted(file.stem for file in path.glob("*.yaml")) for path in sorted(CONF.iterdir()) if path.is_dir()}
    return {name: options for name, options in found.items() if options and name != "selection"}


def help_text(config_name: str, description: str) -> str:
    """Return the help page: what the command does, its groups, options and keys."""
    config = (CONF / f"{config_name}.yaml").read_text(encoding="utf-8")
    used = {name: options for name, options in groups().items() if f"  - {name}:" in config}
    lines = [description.strip(), "", f"python scripts/{config_name}.py [group=option] [key=value] ...", ""]
    if used:
        lines += ["Groups and their options:", *(f"  {name:<14}{' '.join(options)}" for name, options in used.items()), ""]
    body = config.partition("\nhydra:")[0].splitlines()
    keys = [
        line
        for line in body
        if (line[:1].isalpha() and not line.startswith("defaults:")) or (line.startswith("  ") and ":" in line)
    ]
    keys = [line for line in keys if not line.lstrip().startswith("- ")]
    lines += ["Keys:", *(f"  {line}" for line in keys), ""]
    lines += ["--cfg job shows the whole config, -m runs a sweep, --hydra-help says what Hydra offers.", ""]
    return "\n".join(lines)


def checked_arguments(arguments: Sequence[str], config_name: str) -> list[str]:
    """Return the arguments as Hydra can take them, or refuse a misspelt one.

    Hydra reads `guide=true` as a boolean and refuses it as a group's option, so such options are quoted. A key must be one
    that the composed config has, also behind `+`, which Hydra would let pass: only an open (empty) dict takes new keys.

    Raises:
        ConfigError: naming the argument, the valid names and the nearest one.
    """
    flags = [argument for argument in arguments if argument.startswith("-")]
    overrides = [
        argument for argument in arguments if (not argument.startswith("-") and "=" in argument) or argument.startswith("~")
    ]
    stray = [argument for argument in arguments if argument not in flags and argument not in overrides]
    if stray and not any(flag in ("--config-dir", "-cd", "--config-name", "--cfg", "-c", "--package", "-p") for flag in flags):
        raise ConfigError(f"{stray[0]!r} is not an option; write group=option or key=value, such as model=unet.")
    if any(flag.startswith(("--config-dir", "-cd", "--config-name", "--hydra-help", "--info")) for flag in flags):
        return list(arguments)
    options = groups()
    prepared = [_quoted_path(_checked_choice(argument, options)) for argument in arguments]
    _check_keys(
        [word for word in prepared if not word.startswith("-") and ("=" in word or word.startswith("~"))], config_name, options
    )
    return prepared


def _quoted_path(argument: str) -> str:
    """Quote a path, or a delimiter, that Hydra's grammar would stumble over: `benign (1).png`, `O'Brien`, `a=b`."""
    name, equals, value = argument.partition("=")
    if not equals or name.lstrip("+") not in _LITERAL_KEYS or value.startswith(("'", '"')):
        return argument
    if re.fullmatch(r"[A-Za-z0-9_./*~$ +@%,:{}-]*", value) or re.fullmatch(r"\[.*,.*\]", value):
        return argument
    escaped = value.replace("'", "\\'")
    return f"{name}='{escaped}'"


def _checked_choice(argument: str, options: dict[str, list[str]]) -> str:
    name, equals, value = argument.partition("=")
    group = name.lstrip("+~")
    if not equals or group not in options or argument.startswith("-"):
        return argument
    listed = value.startswith("[")
    chosen = [choice.strip().strip("'\"") for choice in value.strip("[]").split(",")]
    for choice in chosen:
        if choice not in options[group] and not (group == "experiment" and choice in ("null", "")):
            raise ConfigError(f"{group}={choice}: there is no such option. {nearest(choice, options[group])}")
    quoted = ",".join(f"'{choice}'" if choice in ("true", "false") else choice for choice in chosen)
    return f"{name}=[{quoted}]" if listed else f"{name}={quoted}"


def _check_keys(overrides: Sequence[str], config_name: str, options: dict[str, list[str]]) -> None:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException
    from omegaconf import OmegaConf

    _register_resolvers()
    GlobalHydra.instance().clear()
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise ConfigError(f"The command line cannot be read: {error}") from error
    chosen = [override.input_line or "" for override in parsed if override.key_or_group in options]
    # One option of each group is enough to see the keys: a sweep's further options are checked when their job starts.
    chosen = [line if line.partition("=")[2].startswith("[") else line.split(",")[0] for line in chosen]
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = hydra_compose(config_name, overrides=chosen)
    except HydraException as error:
        raise ConfigError(str(error)) from error
    for override in parsed:
        key = override.key_or_group
        if key in options or key.startswith("hydra") or "@" in key:
            continue
        _check_path(OmegaConf.to_container(config), key, [*options])


def _check_path(node: Any, key: str, option_names: Sequence[str]) -> None:
    """Refuse a dotted key that the config does not have; an empty dict is open, and takes any."""
    path = key.split(".")
    for depth, part in enumerate(path):
        if depth > 0 and (node == {} or isinstance(node, list)):
            return
        names = {str(name) for name in node} if isinstance(node, dict) else set()
        if part not in names:
            where = f" in {'.'.join(path[:depth])!r}" if depth else ""
            valid = names if depth else names | set(option_names)
            raise ConfigError(f"{key}: there is no key {part!r}{where}. {nearest(part, valid)}")
        node = node[part]


def _register_resolvers() -> None:
    from omegaconf import OmegaConf

    OmegaConf.register_new_resolver("count", len, replace=True)
    OmegaConf.register_new_resolver("conf", lambda path: str(CONF / path), replace=True)


def _plain(config: Any) -> dict[str, Any]:
    from omegaconf import OmegaConf, open_dict
    from omegaconf.errors import OmegaConfBaseException

    with open_dict(config):
        config = OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise ConfigError(f"{missing[0]} must be given: {missing[0]}=...")
    try:
        plain = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"The config cannot be resolved: {error}") from error
    if not isinstance(plain, dict):
        raise ConfigError("The config must be a mapping.")
    return {str(key): value for key, value in plain.items()}


def _run(function: Command, config_name: str) -> None:
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    _register_resolvers()

    @hydra.main(config_path=str(CONF), config_name=config_name, version_base="1.3")
    def job(config: Any) -> None:
        try:
            function(_plain(config), Path(HydraConfig.get().runtime.output_dir))
        except (ValueError, OSError, RuntimeError) as error:
            log.debug("Traceback:", exc_info=True)
            if os.environ.get("BCD_FULL_ERROR") or HydraConfig.get().mode == RunMode.MULTIRUN:
                raise
            _leave(error, 1)

    job()


def _leave(error: Exception, status: int) -> None:
    sys.stderr.write(f"error: {error}\n")
    raise SystemExit(status)
