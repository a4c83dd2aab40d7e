"""From a search space to values: Optuna's distributions and samplers."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler

from bcd.config.search_space import Dimension
from bcd.sweeps.plan import Plan


def distributions(dimensions: Iterable[Dimension]) -> dict[str, BaseDistribution]:
    """Return Optuna's distribution of each key."""
    return {dimension.key: _distribution(dimension) for dimension in dimensions}


def _distribution(dimension: Dimension) -> BaseDistribution:
    if dimension.values:
        return CategoricalDistribution(list(dimension.values))
    if dimension.integer:
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)


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
    """Tell whether drawn values are among those of a space."""
    wanted = {dimension.key: dimension for dimension in dimensions}
    return set(params) == set(wanted) and all(_is_in(params[key], dimension) for key, dimension in wanted.items())


def _is_in(value: Any, dimension: Dimension) -> bool:
    if dimension.values:
        return value in dimension.values
    return isinstance(value, int | float) and dimension.low <= value <= dimension.high
