"""A command line: Hydra's flags, the user's folders of options, and overrides that Hydra can read."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from bcd.config.errors import ConfigError, nearest
from bcd.config.options import CONF, find_file, groups
from bcd.config.processes import OF_PROCESSES, meets_others, starter
from bcd.config.trust import GONE

# Hydra's flags that take a word, and those that show something other than a run of ours: these go to Hydra as they are.
_WITH_WORD = {"--cfg", "-c", "--package", "-p", "--config-name", "-cn", "--config-dir", "-cd"}
_FOR_HYDRA = {
    *("--hydra-help", "--info", "-i", "--version", "--shell-completion", "-sc", "--experimental-rerun"),
    *("--config-path", "-cp"),
}
_FLAGS = _WITH_WORD | _FOR_HYDRA | {"--help", "-h", "--options", "--resolve", "--run", "-r", "--multirun", "-m"}

# Values of these keys, at any position, are used as typed, with any characters that a path or an option may hold.
_PATHS = {
    *("bundle", "delimiter", "dir", "dirpath", "figures", "file", "folder", "guides", "input", "mask_delimiter", "masks"),
    *("multitask_options", "options", "output", "point", "predictions", "prepared", "pretrained", "resume", "roi_options"),
    *("root", "run", "save_dir", "seg_options", "segmentation", "split", "sweep_folder", "token_file", "verify"),
}
_SEARCH = "hydra.searchpath="
_RUN_CONFIG = "config.yaml"
# What a command has of its own under a name that is a group elsewhere.
_OWN_GROUPS = {"sweep_report": {"sweep": "sweep_folder"}}


@dataclass(frozen=True)
class CommandLine:
    """What was asked for.

    Args:
        config_name: of the primary config, `train`.
        flags: Hydra's, less those for folders.
        overrides: `group=option` and `key=value`, as Hydra reads them.
        folders: the user's own, with further options.
        home: the folder of the primary config.
        raw: Hydra is asked for something else; the arguments are not ours to read.
    """

    config_name: str
    flags: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    folders: tuple[Path, ...] = ()
    home: Path = CONF
    raw: bool = False

    @property
    def multirun(self) -> bool:
        """Return whether a sweep is asked for."""
        return bool({"-m", "--multirun"} & set(self.flags))

    @property
    def shows(self) -> bool:
        """Return whether the config is to be shown, not run."""
        return any(flag.startswith(("--cfg", "-c")) and not flag.startswith(("--config", "-cn", "-cd")) for flag in self.flags)

    def arguments(self) -> list[str]:
        """Return it as Hydra takes it."""
        return [*self.flags, *self.overrides]


def read(arguments: Sequence[str], config_name: str) -> CommandLine:
    """Return a command line in its parts, its options checked, paths and options quoted where Hydra would misread them.

    Raises:
        ConfigError: naming the argument, the valid names and the nearest one.
    """
    if any(argument.partition("=")[0] in _FOR_HYDRA for argument in arguments):
        return CommandLine(config_name, tuple(arguments), raw=True)
    flags, words = _split(arguments)
    names = [flag.partition("=")[2] for flag in flags if flag.startswith("--config-name=")]
    named = [flag.partition("=")[2] for flag in flags if flag.startswith("--config-dir=")]
    words, searched = _search_path(words)
    own = _OWN_GROUPS.get(config_name, {})
    words = [own.get(name, name) + equals + value for name, equals, value in (word.partition("=") for word in words)]
    folders = tuple(Path(folder).expanduser() for folder in [*named, *searched])
    absent = [folder for folder in folders if not folder.is_dir()]
    if absent:
        raise ConfigError(f"--config-dir={absent[0]}: there is no such folder. It holds your options as <group>/<option>.yaml.")
    config_name = names[-1] if names else config_name
    home = find_file(config_name, folders).parent
    options = groups(folders)
    _refuse_hidden(folders, options)
    overrides = [_quoted_path(checked_choice(word, options)) for word in words]
    elsewhere = [folder.absolute() for folder in (CONF, *folders) if folder != home]
    if elsewhere:
        overrides.append(f"{_SEARCH}[{','.join(_quoted(f'file://{folder}') for folder in elsewhere)}]")
    flags = [flag for flag in flags if not flag.startswith(("--config-dir=", "--config-name="))]
    return _resumed(CommandLine(config_name, tuple(flags), tuple(overrides), folders, home.absolute()))


def check_folder(line: CommandLine) -> None:
    """Refuse a training whose processes were started one beside the other and would each make a folder of their own.

    Raises:
        ConfigError: saying what to add.
    """
    if line.config_name != "train" or line.raw or line.multirun or line.shows or not meets_others():
        return
    if not any(word.startswith(("hydra.run.dir=", "resume=")) for word in line.overrides):
        raise ConfigError(
            f"{starter()} starts each process separately, and none knows the folder of another; give all of them one that "
            "every machine sees: hydra.run.dir=outputs/runs/<name>"
        )


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the flags, a word joined to each that takes one, and the overrides."""
    flags, words = [], []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        flag, equals, value = argument.partition("=")
        if not argument.startswith("-"):
            if not equals and not argument.startswith("~"):
                raise ConfigError(f"{argument!r} is not an option; write group=option or key=value, such as model=unet.")
            words.append(argument)
        elif flag not in _FLAGS:
            raise ConfigError(f"{flag}: there is no such flag. {nearest(flag, _FLAGS)}")
        elif flag in _WITH_WORD:
            if not equals and not rest:
                raise ConfigError(f"{flag} needs a value.")
            long = {"-c": "--cfg", "-p": "--package", "-cn": "--config-name", "-cd": "--config-dir"}.get(flag, flag)
            flags.append(f"{long}={value if equals else rest.pop(0)}")
        else:
            flags.append(argument)
    return flags, words


def _search_path(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the overrides without `hydra.searchpath=[file://a,file://b]`, and its folders."""
    folders = []
    for word in words:
        for entry in re.findall(r"[^\[\],'\"\s]+", word.partition("=")[2]) if word.startswith(_SEARCH) else ():
            folders.append(entry.rpartition("://")[2])
    return [word for word in words if not word.startswith(_SEARCH)], folders


def _refuse_hidden(folders: Sequence[Path], options: dict[str, list[str]]) -> None:
    """Refuse a file of the user's that ours of the same name would hide: Hydra takes the first it finds, and says nothing."""
    for name in [*(f"{group}/{option}" for group in options for option in options[group]), *(p.stem for p in CONF.glob("*.yaml"))]:
        having = [place for place in (CONF, *folders) if (place / f"{name}.yaml").is_file()]
        if len(having) > 1:
            raise ConfigError(
                f"{having[1] / name}.yaml has the name of an option in {having[0]}, which would hide it; rename yours."
            )


def checked_choice(argument: str, options: dict[str, list[str]]) -> str:
    """Return an argument; `guide=true` quoted, since Hydra would read a boolean.

    Raises:
        ConfigError: for an option that its group does not have.
    """
    name, equals, value = argument.partition("=")
    group = name.lstrip("+~").partition("@")[0]
    if not equals or group not in options:
        return argument
    listed = value.startswith("[") and value.count("[") == 1
    if "(" in value or (value.startswith("[") and not listed):
        return argument  # choice(...), glob(...), lists to choose from: Hydra unfolds them
    chosen = [choice.strip().strip("'\"") for choice in value.strip("[]").split(",")]
    for choice in chosen:
        if choice not in options[group] and not (group == "experiment" and choice in ("null", "")):
            remedy = GONE.get(f"{group}={choice}") or nearest(choice, options[group])
            raise ConfigError(f"{group}={choice}: there is no such option. {remedy}")
    quoted = ",".join(f"'{choice}'" if choice in ("true", "false") else choice for choice in chosen)
    return f"{name}=[{quoted}]" if listed else f"{name}={quoted}"


def _quoted_path(argument: str) -> str:
    """Quote a path, or a delimiter, that Hydra's grammar would stumble over: `benign (1).png`, `O'Brien`, `a=b`."""
    name, equals, value = argument.partition("=")
    if not equals or name.lstrip("+").rpartition(".")[2] not in _PATHS or value.startswith(("'", '"')):
        return argument
    is_list = re.fullmatch(r"\[.*\]", value) and not Path(value).exists()
    if re.fullmatch(r"[A-Za-z0-9_./*~$ +@%,:{}-]*", value) or is_list:
        return argument
    return f"{name}={_quoted(value)}"


def _quoted(value: str) -> str:
    escaped = value.replace("'", "\\'")
    return f"'{escaped}'"


def _resumed(line: CommandLine) -> CommandLine:
    """Return a command line that resumes a run with the config in its folder: few other keys are allowed.

    Hydra writes no `.hydra/` again, so that the files there stay those of the run's beginning. The folder is made absolute, as
    those that the run's files name are.
    """
    given = {override.partition("=")[0].lstrip("+"): override.partition("=")[2] for override in line.overrides}
    folder = given.get("resume", "null")
    if folder in ("null", "None", ""):
        return line
    beside = ["trusted", *(f"trainer.{key}" for key in OF_PROCESSES if line.config_name == "train")]
    others = [name for name in given if name not in ("resume", *beside) and not name.startswith("hydra.")]
    if others or line.multirun:
        what = f"{others[0]}=" if others else "-m"
        allowed = ", ".join(f"{key}=" for key in beside)
        raise ConfigError(f"resume= continues a run with the config in its folder; {what} cannot be given with it, only {allowed}.")
    run = Path(folder[1:-1].replace("\\'", "'") if folder.startswith(("'", '"')) else folder).expanduser().absolute()
    whole = _quoted(str(run))
    kept = [override for override in line.overrides if not override.lstrip("+").startswith("resume=")]
    if line.config_name == "train":
        kept += [word for word in _processes_of(run / _RUN_CONFIG) if word.partition("=")[0] not in given]
    return replace(line, overrides=(f"resume={whole}", *kept, f"hydra.run.dir={whole}", "hydra.output_subdir=null"))


def _processes_of(path: Path) -> list[str]:
    """Return the number of processes in a run's config as overrides; none where it cannot be read, which is reported later."""
    try:
        trainer = yaml.safe_load(path.read_text(encoding="utf-8"))["trainer"]
        return [f"trainer.{key}={json.dumps(trainer[key])}" for key in OF_PROCESSES if key in trainer]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError, KeyError):
        return []
