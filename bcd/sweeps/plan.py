"""What a sweep is: what stays the same, what is varied, how, and its objective. Stored in its folder as `sweep.json`."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler

from bcd.config.errors import nearest
from bcd.config.search_space import Dimension
from bcd.runs import folder as files
from bcd.runs.training.sweep_job import COSTS

PLAN = "sweep.json"
JOURNAL = "ledger.log"
REPORT = "report.html"
LEADERBOARD = "leaderboard.csv"
# What may differ between two goes at the same sweep.
_NOT_ITS_IDENTITY = ("n_trials", "retries", "fail_fast", "test", "storage", "name", "continues", "dry_run")
_MINIMIZED = ("loss", "hd95", "assd", "brier", "ece", "nll")


class SweepError(ValueError):
    """An invalid sweep, or a folder that holds another one."""


@dataclass(frozen=True)
class Plan:
    """A sweep.

    Args:
        name: of the sweep, its folder and its study in the ledger.
        folder: its own.
        fixed: overrides of every job, as on the command line.
        dimensions: what is varied.
        settings: `sweep` of the config, resolved.
        objectives: names of what is judged by, with their directions, `maximize` or `minimize`.
        trusted: constructors of the user's own.
        working_folder: where the command was started; paths on its line are relative to it.
    """

    name: str
    folder: Path
    fixed: tuple[str, ...]
    dimensions: tuple[Dimension, ...]
    settings: Mapping[str, Any]
    objectives: Mapping[str, str]
    trusted: tuple[str, ...]
    working_folder: Path

    @property
    def storage(self) -> str:
        """Return where the ledger is, as `open_storage` takes it."""
        return str(self.settings["storage"] or self.folder / JOURNAL)

    @property
    def is_grid(self) -> bool:
        """Return whether every combination of values is tried, in order."""
        return self.settings["sampler"] == "grid"

    @property
    def n_trials(self) -> int:
        """Return how many jobs there are in total."""
        points = grid_size(self.dimensions) if self.is_grid else None
        wanted = self.settings["n_trials"]
        return min(points, wanted or points) if points is not None else int(wanted)

    @property
    def pruner(self) -> dict[str, Any] | None:
        """Return how jobs are pruned, as `make_pruner` takes it; None where they are not."""
        settings = self.settings
        if settings["pruner"] == "none":
            return None
        return {"kind": settings["pruner"], "least": settings["least_validations"], "reduction": settings["reduction"]}

    def identity(self) -> dict[str, Any]:
        """Return what identifies a sweep: jobs with equal values can be compared in one table."""
        settings = {key: value for key, value in self.settings.items() if key not in _NOT_ITS_IDENTITY}
        space = {dimension.key: dimension.in_words() for dimension in self.dimensions}
        return {"fixed": sorted(self.fixed), "space": space, "objectives": dict(self.objectives), **settings}

    def digest(self) -> str:
        """Return a hash of the identity, eight characters."""
        return hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()[:8]

    def write(self) -> None:
        """Write it into its folder."""
        content = {**asdict(self), "working_folder": str(self.working_folder)}
        del content["folder"]
        files.write_json(self.folder / PLAN, content)


def read_plan(folder: Path) -> Plan:
    """Return the sweep that a folder holds.

    Raises:
        SweepError: when it holds none.
    """
    path = folder / PLAN
    if not path.is_file():
        raise SweepError(
            f"{folder} is not a sweep's folder: it has no {PLAN}. Give the one that python scripts/train.py -m printed."
        )
    content = files.read_json(path)
    content |= {name: tuple(content[name]) for name in ("fixed", "trusted")}
    content |= {"folder": folder.absolute(), "working_folder": Path(content["working_folder"])}
    return Plan(**{**content, "dimensions": tuple(Dimension.from_dict(entry) for entry in content["dimensions"])})


def grid_size(dimensions: Sequence[Dimension]) -> int:
    """Return the number of combinations; every dimension has values."""
    return math.prod(len(dimension.values) for dimension in dimensions)


def grid_point(dimensions: Sequence[Dimension], number: int) -> dict[str, str]:
    """Return the combination of that number, from 0; the last dimension varies fastest, as Hydra's own sweeper has it."""
    point = {}
    for dimension in reversed(dimensions):
        number, place = divmod(number, len(dimension.values))
        point[dimension.key] = dimension.values[place]
    return {dimension.key: point[dimension.key] for dimension in dimensions}


def distributions(dimensions: Iterable[Dimension]) -> dict[str, BaseDistribution]:
    """Return Optuna's distribution of each key."""
    drawn: dict[str, BaseDistribution] = {}
    for one in dimensions:
        if one.values:
            drawn[one.key] = CategoricalDistribution(list(one.values))
        elif one.integer:
            drawn[one.key] = IntDistribution(int(one.low), int(one.high), log=one.log)
        else:
            drawn[one.key] = FloatDistribution(one.low, one.high, log=one.log)
    return drawn


def sampler(plan: Plan, number: int) -> BaseSampler:
    """Return the sampler of a job; seeded by the sweep's seed and the job's number: no draw repeats after a restart."""
    seed = int(np.random.SeedSequence([plan.settings["seed"], number]).generate_state(1)[0])
    if plan.settings["sampler"] == "tpe":
        return TPESampler(seed=seed, n_startup_trials=plan.settings["startup"], multivariate=True, constant_liar=True)
    if plan.settings["sampler"] == "nsga2":
        return NSGAIISampler(seed=seed, population_size=max(2, plan.settings["startup"]))
    return RandomSampler(seed=seed)


def as_overrides(params: Mapping[str, Any]) -> list[str]:
    """Return drawn values as on the command line; all digits of a number are kept."""
    return [f"{key}={value!r}" if isinstance(value, float) else f"{key}={value}" for key, value in params.items()]


def lies_in(params: Mapping[str, Any], dimensions: Iterable[Dimension]) -> bool:
    """Return whether drawn values are among those of a space."""
    wanted = {dimension.key: dimension for dimension in dimensions}
    return set(params) == set(wanted) and all(
        params[key] in one.values if one.values else isinstance(params[key], int | float) and one.low <= params[key] <= one.high
        for key, one in wanted.items()
    )


def settle(settings: Mapping[str, Any], dimensions: Sequence[Dimension]) -> dict[str, Any]:
    """Return the settings with `sampler: auto` decided.

    Raises:
        SweepError: for settings that cannot be together.
    """
    ends = [dimension.key for dimension in dimensions if not dimension.values]
    settings = dict(settings)
    if not dimensions:
        raise SweepError(
            "A sweep varies something: list values, such as -m model=unet,unetpp, or choose a space, such as sweep=lr."
        )
    if settings["sampler"] == "auto":
        settings["sampler"] = "tpe" if ends else "grid"
    if settings["sampler"] == "grid" and ends:
        raise SweepError(
            f"sweep.sampler=grid: {ends[0]} is an interval; list its values, or use sweep.sampler=tpe sweep.n_trials=20."
        )
    if settings["sampler"] != "grid" and settings["n_trials"] is None:
        raise SweepError(f"sweep.sampler={settings['sampler']} draws as many jobs as you say: add sweep.n_trials=20.")
    objectives = settings["objective"] if isinstance(settings["objective"], list) else [settings["objective"]]
    if len(objectives) > 1 and settings["pruner"] != "none":
        raise SweepError("A pruner needs one objective; use sweep.pruner=none with several.")
    if len(objectives) > 1 and settings["sampler"] not in ("nsga2", "tpe", "random", "grid"):
        raise SweepError("Several objectives need sweep.sampler=nsga2.")
    return settings


def directed(objective: Any, directions: Any, monitored: Mapping[str, str]) -> dict[str, str]:
    """Return the objectives with their directions.

    Args:
        objective: a name, several, or None for what the task monitors.
        directions: of each, `maximize` or `minimize`; None for what is known of them.
        monitored: log keys that the jobs' tasks monitor, with `max` or `min`.

    Raises:
        SweepError: for a test figure, which chooses nothing, or for jobs that monitor different figures.
    """
    if objective is None and len(monitored) > 1:
        names = ", ".join(monitored)
        raise SweepError(
            f"The jobs are judged by different figures ({names}); sweep over one kind of task, or give sweep.objective=."
        )
    wanted = list(monitored) if objective is None else [objective] if isinstance(objective, str) else list(objective)
    for name in wanted:
        if not name.startswith("val/") and name not in COSTS:
            raise SweepError(
                f"sweep.objective={name}: a sweep is judged by validation figures, val/..., or {', '.join(COSTS)}; "
                f"test figures choose nothing. {nearest(name, sorted({*monitored, 'val/dice', 'val/auroc', 'val/loss', *COSTS}))}"
            )
    if directions is not None and (len(directions) != len(wanted) or set(directions) - {"maximize", "minimize"}):
        raise SweepError(f"sweep.directions={directions}: give maximize or minimize for each of {', '.join(wanted)}.")
    minimized = [monitored[name] == "min" if name in monitored else name in COSTS or name.endswith(_MINIMIZED) for name in wanted]
    known = ["minimize" if is_less_better else "maximize" for is_less_better in minimized]
    return dict(zip(wanted, directions or known, strict=True))


def check_same(plan: Plan, before: Plan) -> Plan:
    """Return the plan, at home in a folder that holds the same sweep.

    Raises:
        SweepError: when another sweep is there, saying what differs.
    """
    now, then = plan.identity(), before.identity()
    changed = [f"{key} is {_text(now[key])}, was {_text(then.get(key))}" for key in now if now[key] != then.get(key)]
    if changed:
        raise SweepError(
            f"{before.folder} holds another sweep: {'; '.join(changed)}. Give it another name, sweep.name={plan.name}-2; with "
            f"sweep.continues={plan.name} beside it, finished jobs that lie in the new space count there too."
        )
    return replace(plan, folder=before.folder)


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {words}" for key, words in value.items()) or "nothing"
    return " ".join(value) if isinstance(value, list) else str(value)
