"""The cost of a sweep: number of jobs and time, from measured training steps."""

import logging
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch

from bcd.config import compose
from bcd.data.datamodule import UltrasoundDataModule
from bcd.runs.assemble import build_datamodule, prepare_data
from bcd.runs.hardware import Hardware, hardware_of
from bcd.runs.planning.probe import Probe, StepProbe
from bcd.runs.planning.rules import processes_of, validations_per_epoch
from bcd.runs.training.callbacks import ProgressiveSize
from bcd.sweeps.plan import Plan, as_overrides, distributions, grid_point, sampler

# So many jobs are measured; they are spread over the sweep, and represent the rest.
_MEASURED = 6
_PROGRESSIVE = f"{ProgressiveSize.__module__}.{ProgressiveSize.__qualname__}"


@dataclass(frozen=True)
class Cost:
    """What a job would take.

    Args:
        overrides: of the job.
        seconds: of its training, validations included.
        is_limit: they are its time limit, `trainer.max_time`.
        opening: seconds that reading its data takes once they are prepared.
    """

    overrides: tuple[str, ...]
    seconds: float
    is_limit: bool
    opening: float = 0.0


def estimate(plan: Plan, workers: int, threads: int | None = None) -> str:
    """Return what the sweep would cost, in words."""
    with _as_a_worker(threads):
        costs = [cost(plan, overrides) for overrides in sample(plan)]
    return in_words(plan, workers, costs, import_seconds())


def in_words(plan: Plan, workers: int, costs: Sequence[Cost], importing: float) -> str:
    """Return the extrapolated costs."""
    training = statistics.mean(one.seconds for one in costs) * plan.n_trials / 3600
    start = importing + statistics.mean(one.opening for one in costs)
    starting = start * plan.n_trials / 3600
    lines = [
        f"sweep.dry_run: {plan.n_trials} jobs, about {training:.2f} hours of training by one worker, {training / workers:.2f} by "
        f"{workers} if they do not slow each other down. {len(costs)} jobs were measured, a few warm steps each:",
        *(f"  {' '.join(one.overrides)}: {one.seconds / 60:.1f} min{' (its limit)' if one.is_limit else ''}" for one in costs),
        f"On top, {start:.0f} s a job to start, {starting:.2f} hours by one worker: its libraries and its prepared data. Scoring "
        "each validation case at its native size at the end, and the test, are not counted.",
    ]
    if plan.settings["pruner"] != "none":
        lines.append(f"Pruning ({plan.settings['pruner']}) will shorten it; that is not counted, and early stopping neither.")
    else:
        lines.append("Early stopping may shorten it; that is not counted.")
    return "\n".join(lines)


@contextmanager
def _as_a_worker(threads: int | None) -> Iterator[None]:
    """Take the threads that a worker has, and let none of the measured jobs say all that a run says."""
    quiet, level, before = logging.getLogger("bcd"), logging.getLogger("bcd").level, torch.get_num_threads()
    quiet.setLevel(logging.ERROR)
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        quiet.setLevel(level)
        torch.set_num_threads(before)


def import_seconds() -> float:
    """Return how long a process of its own takes until it has what a run imports."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import bcd.runs.training.fit"], check=True, capture_output=True)
    return time.perf_counter() - started


def sample(plan: Plan) -> list[tuple[str, ...]]:
    """Return the overrides of a few jobs, spread over the grid, or drawn at random."""
    if plan.is_grid:
        numbers = sorted({round(place * (plan.n_trials - 1) / (_MEASURED - 1)) for place in range(_MEASURED)})
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
    hardware = hardware_of(config)
    _opened(config, hardware)  # prepares what is not prepared yet, which the jobs find done
    started = time.perf_counter()
    datamodule = _opened(config, hardware)
    opening = time.perf_counter() - started
    images, valid = (len(datamodule.cases[part]) for part in ("train", "valid"))
    seconds, limit = training_seconds(config, StepProbe(datamodule, hardware), images, valid), float("inf")
    if trainer["max_time"] is not None:
        days, hours, minutes, rest = (int(part) for part in trainer["max_time"].split(":"))
        limit = timedelta(days, rest, hours=hours, minutes=minutes).total_seconds()
    return Cost(tuple(overrides), min(seconds, limit), limit < seconds, opening)


def _opened(config: Mapping[str, Any], hardware: Hardware) -> UltrasoundDataModule:
    datamodule = build_datamodule(config, prepare_data(config), hardware)
    datamodule.setup("fit")
    return datamodule


def training_seconds(config: Mapping[str, Any], probe: Probe, images: int, valid: int) -> float:
    """Return the time of a training, its validations included, without its time limit."""
    trainer, processes = config["trainer"], processes_of(config["trainer"])
    share = max(1, config["batch_size"] // processes)
    steps = max(1, _limited(images // config["batch_size"], trainer["limit_train_batches"]))
    batches = -(-valid // config["batch_size"])
    paces = [(part, probe.pace(config, share, side)) for part, side in sides(config)]
    train = sum(part * pace.train for part, pace in paces) * steps * config["batch_size"]
    validated = valid * _limited(batches, trainer["limit_val_batches"]) / max(1, batches)
    validations = validations_per_epoch(trainer, steps) * validated * paces[-1][1].valid
    # Steps of the optimizer are counted in `max_steps`.
    by_steps = trainer["max_steps"] * trainer["accumulate_grad_batches"] / steps if trainer["max_steps"] > 0 else float("inf")
    return min(trainer["max_epochs"], by_steps) * (train + validations) / processes


def sides(config: Mapping[str, Any]) -> list[tuple[float, int | None]]:
    """Return what part of the training has images of which size, in pixels; None is the full one, and comes last."""
    node = next((part for part in config["callbacks"].values() if part["_target_"] == _PROGRESSIVE), None)
    if node is None or node["size"] >= config["preprocess"]["size"]:
        return [(1.0, None)]
    return [(node["until"], node["size"]), (1 - node["until"], None)]


def _limited(batches: int, limit: float) -> int:
    """Return how many of an epoch's batches are taken: Lightning's share, or number."""
    return min(batches, limit) if isinstance(limit, int) else int(batches * limit)
