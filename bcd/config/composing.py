"""Composing with Hydra: overrides in, checked, plain dicts out."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from itertools import islice, product
from pathlib import Path
from typing import Any

from bcd.config.arguments import CommandLine, checked_choice, read
from bcd.config.errors import ConfigError, nearest, refuse
from bcd.config.options import CONF, groups
from bcd.config.search_space import as_overrides

# Hydra, OmegaConf and what checks values are imported inside functions: `--help` answers without them, at once.

# Of a sweep so many jobs are checked as they are; of a larger one every value in its turn.
_MOST_JOBS = 200
# Of a sweep, not of its jobs.
OF_SWEEPS = ("sweep", "launcher")
# Lists of parts by name: a file of options leaves one out by null, as `~callbacks.pictures` does on the command line.
_OF_PARTS = ("callbacks", "logger")


def compose(
    config_name: str,
    overrides: Sequence[str] = (),
    folder: Path | str = "outputs/run",
    resolve: bool = True,
    check_values: bool = True,
) -> dict[str, Any]:
    """Return a config as a plain dict, as the command line would make it.

    Args:
        config_name: `train`, `prepare_data`, ...
        overrides: as on the command line: `["model=unet", "loss=dice_bce"]`, and `--config-dir=<folder>` for options of your own.
        folder: the run's folder, which Hydra would choose.
        resolve: false leaves what points to another value as it is written, `${...}`, and unchecked; see `resolved`.
        check_values: false checks options and keys alone, which needs no torch: for values that were checked before.

    Raises:
        ConfigError: for a misspelt option, key or value. What cannot work together, and files and folders that are not there, are
            found when a command runs.
    """
    line = read(overrides, config_name)
    with _composer(line) as composer:
        whole = composer.config(line.overrides)
        with _running(whole, folder):
            if resolve and check_values:
                refuse(composer.problems(whole, to_run=False))
            return plain(whole, resolve)


def resolved(config: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config that `compose` left as it is written, with values laid over it, as an experiment's own are, and resolved.

    Args:
        config: composed with `resolve=False`.
        values: nested; what points to them follows. Where the config points to Hydra (`name`, `folder`), a value is needed.

    Raises:
        ConfigError: when something points to nothing.
    """
    from omegaconf import OmegaConf

    register_resolvers()
    return plain(OmegaConf.merge(dict(config), dict(values)))


def check(line: CommandLine) -> None:
    """Refuse a command line of which a job cannot work.

    Raises:
        ConfigError: for an error, in a sweep in any of its jobs.
    """
    with _composer(line) as composer:
        # Names first, for all jobs: values are checked by their classes, whose import takes seconds.
        jobs = [(overrides, composer.config(overrides)) for overrides in composer.jobs()]
        for overrides, whole in jobs if not line.shows else ():
            with _running(whole, "outputs/run"):
                problems = composer.problems(whole, to_run=True)
            which = f"In the sweep's job {' '.join(overrides)}: " if problems and composer.sweeping else ""
            refuse([f"{which}{problem}" for problem in problems])


def plain(config: Any, resolve: bool = True, whole: bool = False) -> dict[str, Any]:
    """Return a composed config as a plain dict, without Hydra's own part; only the whole command has the sweep's settings.

    Raises:
        ConfigError: for a value that must be given, or one that cannot be resolved.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if not OmegaConf.is_dict(config):
        raise ConfigError("The config must be a mapping.")
    dropped = ("hydra",) if whole or "sweep" not in config else ("hydra", *OF_SWEEPS)
    written = {str(key): _contained(config, key, resolve=False) for key in config if key not in dropped}
    missing = sorted(_missing(written))
    if missing:
        raise ConfigError(f"{missing[0]} must be given: {missing[0]}=...")
    try:
        content = {key: _contained(config, key, resolve=True) for key in written} if resolve else written
    except OmegaConfBaseException as error:
        raise ConfigError(f"The config cannot be resolved: {error}") from error
    for key in _OF_PARTS:
        if isinstance(content.get(key), dict):
            content[key] = {name: part for name, part in content[key].items() if part is not None}
    return content


def _contained(config: Any, key: str, resolve: bool) -> Any:
    """Return the plain value of one key of a composed config; only this part of the config is resolved."""
    from omegaconf import OmegaConf

    node = config._get_node(key)
    if OmegaConf.is_config(node):
        return OmegaConf.to_container(node, resolve=resolve)
    return config[key] if resolve else node._value()


def _missing(content: Any, key: str = "") -> Iterator[str]:
    """Give the key of each value that is still to be given."""
    if content == "???":
        yield key
    elif isinstance(content, Mapping):
        for name, child in content.items():
            yield from _missing(child, f"{key}.{name}" if key else str(name))
    elif isinstance(content, list):
        for position, child in enumerate(content):
            yield from _missing(child, f"{key}[{position}]")


def register_resolvers() -> None:
    """Make `${count:...}` and `${conf:...}` known."""
    from omegaconf import OmegaConf

    OmegaConf.register_new_resolver("count", len, replace=True)
    OmegaConf.register_new_resolver("conf", lambda path: str(CONF / path), replace=True)


class Composer:
    """Composes the configs of one command line, and says what is wrong with them."""

    def __init__(self, line: CommandLine, loader: Any) -> None:
        self.line = line
        self.loader = loader
        self.options = groups(line.folders)
        self.sweeping = line.multirun
        self._has_ledger = False  # whether the sweeper is ours
        self._bases: dict[tuple[str, ...], Any] = {}

    def jobs(self) -> Iterator[tuple[str, ...]]:
        """Give the overrides of every job of a sweep; those of the one job where it is none.

        Raises:
            ConfigError: if several values are given for one key without a sweep.
        """
        parsed = self._parsed(self.line.overrides)
        sweeps = [override for override in parsed if override.is_sweep_override()]
        if sweeps or self.line.multirun:
            typed = {override.key_or_group for override in parsed}
            of_config = self._swept_by_config([override for override in parsed if override not in sweeps])
            parsed = [*(override for override in of_config if override.key_or_group not in typed), *parsed]
        if sweeps and not self.sweeping:
            raise ConfigError(f"{sweeps[0].input_line} names several values; add -m for a sweep, or quote the value.")
        # crossval.py and predict.py have launchers of their own, and need no -m for them.
        names = OF_SWEEPS if "sweep" in self._base(()) else ("sweep",)
        of_sweeps = [override for override in parsed if override.key_or_group.partition(".")[0] in names]
        if of_sweeps and not self.sweeping:
            raise ConfigError(f"{of_sweeps[0].input_line} is for a sweep; add -m, or leave it out.")
        if of_sweeps and not self._has_ledger:
            raise ConfigError(
                f"{of_sweeps[0].input_line} is for python scripts/train.py -m; this command's -m runs every combination."
            )
        choices = [_values(override) for override in parsed]
        jobs = list(islice(product(*choices), _MOST_JOBS + 1))
        if len(jobs) <= _MOST_JOBS:
            yield from jobs
            return
        first = tuple(values[0] for values in choices)
        yield first
        for number, values in enumerate(choices):
            yield from ((*first[:number], value, *first[number + 1 :]) for value in values[1:])

    def config(self, overrides: Sequence[str]) -> Any:
        """Return the composed config of a job, Hydra's part included.

        Raises:
            ConfigError: for a key that its options do not have.
        """
        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException

        parsed = self._parsed(overrides)
        base = self._base(self._chosen(overrides))
        container = OmegaConf.to_container(base)
        of_values = [override for override in parsed if not self._is_choice(override)]
        refuse([p for override in of_values if (p := _key_problem(container, override, [*self.options])) is not None])
        refuse([f"{one.input_line} is empty; give a value, or null for none." for one in of_values if _is_empty(base, one)])
        config = deepcopy(base)
        try:
            for override in of_values:
                _lay_over(config, override)
        except (OmegaConfBaseException, AttributeError) as error:  # the latter is OmegaConf's too, for a dict laid over null
            new = getattr(error, "full_key", None) or override.key_or_group
            way_out = f"Add a new key with a plus: +{new}=..."
            raise ConfigError(f"{override.input_line} cannot be set: {str(error).splitlines()[0]}. {way_out}") from error
        return config

    def problems(self, config: Any, to_run: bool) -> list[str]:
        """Return what is wrong with the values of a composed config; for one that will run, also what cannot be combined."""
        from bcd.config.values import problems

        values, written = plain(config, whole=True), plain(config, resolve=False, whole=True)
        typed = [word.lstrip("+~").partition("=")[0] for word in self.line.overrides]
        return problems(values, written, self.line.config_name, self.line.folders, to_run, typed)

    def _parsed(self, overrides: Sequence[str]) -> list[Any]:
        from hydra.core.override_parser.overrides_parser import OverridesParser
        from hydra.errors import HydraException

        try:
            return list(OverridesParser.create(config_loader=self.loader).parse_overrides(list(overrides)))
        except HydraException as error:
            raise ConfigError(f"The command line cannot be read: {error}") from error

    def _swept_by_config(self, fixed: Sequence[Any]) -> list[Any]:
        """Return what the config itself sweeps over (`sweep.space`, Hydra's own `params`); see whether it asks for a sweep."""
        from omegaconf import OmegaConf

        whole = self.config([override.input_line for override in fixed])
        mode, params = whole.hydra.mode, whole.hydra.sweeper.get("params") or {}
        self.sweeping = self.sweeping or getattr(mode, "name", mode) == "MULTIRUN"
        if not self.sweeping:
            return []
        self._has_ledger = str(whole.hydra.sweeper.get("_target_", "")).startswith("hydra_plugins.bcd.")
        space: Any = OmegaConf.to_container(whole.sweep.space, resolve=True) if self._has_ledger else {}
        return self._parsed([*(f"{key}={value}" for key, value in params.items()), *as_overrides(space)])

    def _is_choice(self, override: Any) -> bool:
        return override.key_or_group in self.options or "/" in override.key_or_group or override.package is not None

    def _chosen(self, overrides: Sequence[str]) -> tuple[str, ...]:
        """Return the overrides that choose options, and where these are looked for."""
        return tuple(
            override.input_line
            for override in self._parsed(overrides)
            if self._is_choice(override) or override.key_or_group == "hydra.searchpath"
        )

    def _base(self, chosen: tuple[str, ...]) -> Any:
        """Return the config of a choice of options, before values are laid over it."""
        from hydra import compose as hydra_compose
        from hydra.errors import HydraException

        if chosen not in self._bases:
            for choice in chosen:  # a sweep's own, too
                checked_choice(choice, self.options)
            try:
                self._bases[chosen] = hydra_compose(self.line.config_name, overrides=list(chosen), return_hydra_config=True)
            except HydraException as error:
                raise ConfigError(str(error)) from error
        return self._bases[chosen]


@contextmanager
def _composer(line: CommandLine) -> Iterator[Composer]:
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    register_resolvers()
    running = GlobalHydra.instance().hydra  # of the command that composes, if one does
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(line.home), version_base="1.3"):
            yield Composer(line, GlobalHydra.instance().config_loader())
    finally:
        GlobalHydra.instance().hydra = running


@contextmanager
def _running(whole: Any, folder: Path | str) -> Iterator[None]:
    """Let `${hydra:...}` in a config be its own, as in a run in this folder."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    OmegaConf.set_readonly(whole.hydra, False)
    whole.hydra.runtime.output_dir = str(folder)
    before = HydraConfig.instance().cfg  # of the command that composes, if one does
    HydraConfig.instance().set_config(whole)
    try:
        yield
    finally:
        HydraConfig.instance().cfg = before


def _values(override: Any) -> list[str]:
    """Return an override once for each value that it names; for an interval, its ends."""
    if override.is_interval_sweep():
        ends = override.value()
        return [f"{override.get_key_element()}={end}" for end in (ends.start, ends.end)]
    if override.is_sweep_override():
        return [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
    return [override.input_line]


def _lay_over(config: Any, override: Any) -> None:
    """Set a value as Hydra would."""
    from omegaconf import OmegaConf, open_dict

    key = override.key_or_group
    if override.is_delete():
        parent = OmegaConf.select(config, key.rpartition(".")[0]) if "." in key else config
        with open_dict(config):
            del parent[key.rpartition(".")[2]]
        return
    OmegaConf.update(config, key, override.value(), merge=True, force_add=override.is_add() or override.is_force_add())


def _is_empty(config: Any, override: Any) -> bool:
    """Return whether a key that needs a value has none behind the equals sign, as after an unset shell variable."""
    from omegaconf import OmegaConf

    if override.is_delete() or not str(override.input_line).rstrip().endswith("="):
        return False
    return bool(OmegaConf.select(config, override.key_or_group, throw_on_missing=False) != "")


def _key_problem(node: Any, override: Any, option_names: Sequence[str]) -> str | None:
    """Return what is wrong with a dotted key that the config does not have.

    An empty dict is open, and takes any; behind `+`, so is a description of an object: its class knows what it takes.
    """
    key = override.key_or_group
    path = key.split(".")
    adds = override.is_add() or override.is_force_add()
    for depth, part in enumerate(path):
        if depth > 0 and (node == {} or node is None or isinstance(node, list)):
            return None
        names = {str(name) for name in node} if isinstance(node, dict) else set()
        if part not in names:
            is_object = "_target_" in names
            if adds and is_object and depth == len(path) - 1:
                return None
            where = f" in {'.'.join(path[:depth])!r}" if depth else ""
            valid = names if depth else (names | set(option_names)) - {"hydra"}
            more = f" Add another argument of its class with a plus: +{override.input_line}" if is_object else ""
            return f"{key}: there is no key {part!r}{where}. {nearest(part, valid - {'_target_', '_partial_'})}{more}"
        node = node[part]
    return None
