"""What Hydra runs behind `-m`: it hands the command line over to `bcd.sweeps`."""

import logging
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import configure_log
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from bcd.config.composing import OF_SWEEPS
from bcd.config.search_space import as_overrides, split, with_space
from bcd.sweeps.plan import SweepError
from bcd.sweeps.sweep import make_plan, sweep


class LedgerSweeper(Sweeper):
    """Hydra's interface to `bcd.sweeps`; its settings are the groups `sweep` and `launcher` of the config."""

    # Hydra builds a sweeper by the name that its module gives it, and from this package alone.
    __module__ = "hydra_plugins.bcd"

    def __init__(self, **_: Any) -> None:
        self.config: DictConfig | None = None
        self.launcher = None
        self.hydra_context: HydraContext | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra has read."""
        self.config, self.hydra_context = config, hydra_context

    def sweep(self, arguments: list[str]) -> Any:
        """Run the sweep that a command line asks for; return its jobs.

        Raises:
            SweepError: for one that cannot be.
        """
        if self.config is None or self.hydra_context is None:
            raise RuntimeError("Hydra calls setup first.")
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        for handler in logging.getLogger().handlers:
            handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S"))
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        ours: dict[str, Any] = {name: OmegaConf.to_container(self.config[name], resolve=True) for name in OF_SWEEPS}
        typed = parser.parse_overrides(arguments)
        swept = [o.input_line for o in typed if o.is_sweep_override() and o.key_or_group.partition(".")[0] in OF_SWEEPS]
        if swept:
            raise SweepError(f"{swept[0]}: a sweep has one space and one launcher; run one sweep after the other.")
        of_config = parser.parse_overrides(as_overrides(ours["sweep"]["space"]))
        own = [o for o in with_space(typed, of_config) if o.key_or_group.partition(".")[0] not in OF_SWEEPS]
        fixed, dimensions = split(own)
        searched = [word for word in self.config.hydra.overrides.hydra if word.startswith("hydra.searchpath=")]
        settings = {key: value for key, value in ours["sweep"].items() if key != "space"}
        plan = make_plan([*fixed, *searched], dimensions, settings, Path(self.config.output))
        return sweep(plan, ours["launcher"])


def register() -> None:
    """Let Hydra find the sweeper under the required name."""
    plugins = Plugins.instance()  # which looks through packages of that name
    package = sys.modules.setdefault("hydra_plugins", ModuleType("hydra_plugins"))
    package.bcd = sys.modules["hydra_plugins.bcd"] = sys.modules[register.__module__]  # type: ignore[attr-defined]
    plugins.register(LedgerSweeper)
