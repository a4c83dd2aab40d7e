"""What a sweep would cost: how many jobs, and how long, from training steps that are measured on the spot."""

import logging
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bcd.config import compose
from bcd.runs.assemble import build_datamodule, prepare_data
from bcd.runs.hardware import choose
from bcd.runs.probe import StepProbe
from bcd.sweeps.plan import Plan, grid_point, grid_size
from bcd.sweeps.sampling import as_overrides, distributions, sampler

# So many jobs are measured; they are spread over the sweep, and stand for the rest.
_MEASURED = 6


@dataclass(frozen=True)
class Cost:
    """What a job would take.

    Args:
        overrides: of the job.
        seconds: of its training, validations included.
        is_limit: they are its time limit, `trainer.max_time`.
    """

    overrides: tuple[str, ...]
    seconds: float
    is_limit: bool


def estimate(plan: Plan, workers: int) -> str:
    """Return what the sweep would cost, in words.

    Args:
        plan: of the sweep.
        workers: jobs at a time.
    """
    quiet = logging.getLogger("bcd")
    before = quiet.level
    quiet.setLevel(logging.ERROR)  # each of the jobs would say all that a run says
    try:
        costs = [cost(plan, overrides) for overrides in sample(plan)]
    finally:
        quiet.setLevel(before)
    each = statistics.mean(one.seconds for one in costs)
    total = each * plan.n_trials / 3600
    told = [
        f"sweep.dry_run: {plan.n_trials} jobs, about {total:.2f} hours of training by one worker, {total / workers:.2f} by "
        f"{workers} if they do not slow each other down. {len(costs)} jobs were measured, a few steps each:",
        *(f"  {' '.join(one.overrides)}: {one.seconds / 60:.1f} min{' (its limit)' if one.is_limit else ''}" for one in costs),
        "Starting and testing a job come on top.",
    ]
    if plan.settings["pruner"] != "none":
        told.append(f"Pruning ({plan.settings['pruner']}) will shorten it; that is not counted.")
    return "\n".join(told)


def sample(plan: Plan) -> list[tuple[str, ...]]:
    """Return the overrides of a few jobs, spread over the grid, or drawn at random."""
    if plan.is_grid:
        size = min(plan.n_trials, grid_size(plan.dimensions))
        numbers = sorted({round(place * (size - 1) / max(1, _MEASURED - 1)) for place in range(_MEASURED)})
        return [tuple(as_overrides(grid_point(plan.dimensions, number))) for number in numbers]
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=sampler(plan, 0))
    drawn = [study.ask(distributions(plan.dimensions)).params for _ in range(min(_MEASURED, plan.n_trials))]
    return [tuple(as_overrides(params)) for params in drawn]


def cost(plan: Plan, overrides: Sequence[str]) -> Cost:
    """Return what a job would take, from a few of its own steps on its own data."""
    config = compose("train", [*plan.fixed, *overrides])
    trainer = config["trainer"]
    hardware = choose(trainer["accelerator"], trainer["precision"], config["memory_format"], config["num_workers"])
    datamodule = build_datamodule(config, prepare_data(config), hardware)
    datamodule.select_cases()
    pace = StepProbe(datamodule, hardware).pace(config, config["batch_size"])
    images, valid = (len(datamodule.cases[part]) for part in ("train", "valid"))
    seconds = _epochs(trainer, images, config["batch_size"]) * (images * pace.train + valid * pace.valid * _validations(trainer))
    limit = _seconds(trainer["max_time"])
    return Cost(tuple(overrides), min(seconds, limit), limit < seconds)


def _epochs(trainer: Mapping[str, Any], images: int, batch_size: int) -> float:
    steps = max(1, images // batch_size)
    by_steps = trainer["max_steps"] / steps if trainer["max_steps"] > 0 else float("inf")
    return float(min(trainer["max_epochs"], by_steps))


def _validations(trainer: Mapping[str, Any]) -> float:
    """Return how many validations an epoch has, about."""
    every = trainer["check_val_every_n_epoch"]
    return 1.0 if every is None else 1.0 / every


def _seconds(limit: str | None) -> float:
    """Return `days:hours:minutes:seconds` in seconds; no limit is infinite."""
    if limit is None:
        return float("inf")
    days, hours, minutes, seconds = (int(part) for part in limit.split(":"))
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
