"""Pictures of a sweep: its history, the importance of keys, the values.

Optuna's own show no pruned jobs, count trials from 0, and let the names of options lie over each other.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bcd.config.search_space import Dimension
from bcd.sweeps.ledger import Job, beats
from bcd.sweeps.plan import Plan

_DONE, _PRUNED, _BEST = "#0072b2", "#bbbbbb", "#d55e00"
# Behind words that lines may cross.
_PAPER = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5}


def course(plan: Plan, jobs: Sequence[Job]) -> Figure:
    """Return each job's objective in the order of the jobs, and the best so far."""
    figure, judged = Figure(figsize=(7, 3.2), layout="constrained"), _judged(plan, jobs)
    axes = figure.add_subplot()
    done = [(job.number + 1, value) for job, value in judged if job.state != "pruned"]
    pruned = [(job.number + 1, value) for job, value in judged if job.state == "pruned"]
    if pruned:
        axes.plot(*zip(*pruned, strict=True), "x", color=_PRUNED, label="pruned")
    if done:
        numbers, values = zip(*done, strict=True)
        pick = np.maximum if plan.objectives[_objective(plan)] == "maximize" else np.minimum
        axes.plot(numbers, values, "o", color=_DONE, label="finished")
        axes.plot(numbers, pick.accumulate(values), color=_BEST, drawstyle="steps-post", label="best so far")
    if judged:
        axes.legend(fontsize=8)
    axes.set_xlabel("trial")
    axes.set_ylabel(_objective(plan))
    axes.grid(alpha=0.3)
    return figure


def importances(shares: Mapping[str, float]) -> Figure:
    """Return how much of the objective's variance each key explains, as bars."""
    figure = Figure(figsize=(7, 0.9 + 0.35 * len(shares)), layout="constrained")
    axes = figure.add_subplot()
    bars = axes.barh(list(shares)[::-1], list(shares.values())[::-1], color=_DONE)
    axes.bar_label(bars, fmt="%.2f", padding=4, fontsize=8)
    axes.set_xlim(0, 1.08)
    axes.set_xlabel("share of the variance that it explains")
    return figure


def slices(plan: Plan, jobs: Sequence[Job]) -> Figure:
    """Return the objective against each key; a legend names the kinds of job that are there."""
    columns = 2 if len(plan.dimensions) == 4 else min(3, len(plan.dimensions))
    rows = -(-len(plan.dimensions) // columns)
    figure = Figure(figsize=(max(4.8, 3.6 * columns), 2.9 * rows + 0.4), layout="constrained")
    kinds = _kinds(plan, jobs)
    for number, dimension in enumerate(plan.dimensions, start=1):
        axes = figure.add_subplot(rows, columns, number)
        for name, (marker, colour, judged) in kinds.items():
            positions = [_position(dimension, job) for job, _ in judged]
            axes.plot(positions, [value for _, value in judged], marker, color=colour, alpha=0.8, label=name)
        if dimension.values:
            crowded = sum(len(value) for value in dimension.values) > 24
            axes.set_xticks(
                range(len(dimension.values)), dimension.values, rotation=30 * crowded, ha="right" if crowded else "center"
            )
            axes.set_xlim(-0.5, len(dimension.values) - 0.5)
            axes.tick_params(axis="x", labelsize=8)
        elif dimension.log:
            axes.set_xscale("log")
        axes.set_xlabel(dimension.key)
        if number % columns == 1 or columns == 1:
            axes.set_ylabel(_objective(plan))
        axes.grid(alpha=0.3)
    if kinds:
        handles, names = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper center", ncols=len(kinds), fontsize=8)
    return figure


def _kinds(plan: Plan, jobs: Sequence[Job]) -> dict[str, tuple[str, str, list[tuple[Job, float]]]]:
    """Return marker, colour and judged jobs of each kind that there is, by what a legend calls it; the best is drawn last."""
    done, judged = [job for job in jobs if job.values is not None], _judged(plan, jobs)
    best = [job for job in done if not any(beats(plan, other, job) for other in done)]
    leads = "best" if len(plan.objectives) == 1 else "beaten by none"
    kinds = {
        "pruned: its best validation": ("x", _PRUNED, [pair for pair in judged if pair[0].state == "pruned"]),
        "finished": ("o", _DONE, [pair for pair in judged if pair[0].state != "pruned" and pair[0] not in best]),
        leads: ("o", _BEST, [pair for pair in judged if pair[0] in best]),
    }
    return {name: kind for name, kind in kinds.items() if kind[2]}


def parallel(plan: Plan, jobs: Sequence[Job]) -> Figure:
    """Return every job as a line through its values, coloured by the objective; the best is drawn last."""
    objective = _objective(plan)
    judged = sorted(_judged(plan, jobs), key=lambda pair: pair[1], reverse=plan.objectives[objective] == "minimize")
    values = np.array([value for _, value in judged])
    names = [*(dimension.key for dimension in plan.dimensions), objective]
    figure = Figure(figsize=(max(6, 1.9 * len(names)), 3.6), layout="constrained")
    axes = figure.add_subplot()
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    span = (high - low) or 1.0

    colours = colormaps["viridis"]
    for job, value in judged:
        line = [*(_height(dimension, _position(dimension, job)) for dimension in plan.dimensions), (value - low) / span]
        style = ":" if job.state == "pruned" else "-"
        axes.plot(range(len(names)), line, style, color=colours((value - low) / span), linewidth=1.4)
    for number, dimension in enumerate(plan.dimensions):
        ends = dimension.values or [f"{dimension.low:g}", f"{dimension.high:g}"]
        for place, text in enumerate(ends):
            _write_beside(axes, (number, place / max(1, len(ends) - 1)), text)
    for height, value in ((0.0, low), (1.0, high)):
        _write_beside(axes, (len(names) - 1, height), f"{value:.3f}")
    if any(job.state == "pruned" for job, _ in judged):
        lines = [axes.plot([], [], style, color="#555555", label=name)[0] for style, name in (("-", "finished"), (":", "pruned"))]
        figure.legend(handles=lines, loc="outside upper center", ncols=2, fontsize=8)
    axes.set_xticks(range(len(names)), names, fontsize=8)
    axes.set_yticks([])
    axes.set_xlim(-0.1, len(names) - 0.6)
    for number in range(len(names)):
        axes.axvline(number, color="#999999", linewidth=0.8)
    return figure


def _write_beside(axes: Axes, point: tuple[float, float], text: str) -> None:
    axes.annotate(text, point, (4, 0), textcoords="offset points", fontsize=7, va="center", bbox=_PAPER)


def front(plan: Plan, jobs: Sequence[Job]) -> Figure:
    """Return two objectives against each other; those that none beats in both are marked."""
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for name, (marker, colour, judged) in _kinds(plan, jobs).items():
        points = [(job.values[0], job.values[1]) for job, _ in judged if job.values is not None]
        axes.plot(*zip(*points, strict=True), marker, color=colour, label=name)
        for (job, _), point in zip(judged, points, strict=True):
            axes.annotate(str(job.number + 1), point, (4, 4), textcoords="offset points", fontsize=7)
    if axes.get_lines():
        axes.legend(fontsize=8)
    first, second = list(plan.objectives)[:2]
    axes.set_xlabel(first)
    axes.set_ylabel(second)
    axes.grid(alpha=0.3)
    return figure


def _objective(plan: Plan) -> str:
    """Return the objective that pictures show: the first."""
    return next(iter(plan.objectives))


def _judged(plan: Plan, jobs: Sequence[Job]) -> list[tuple[Job, float]]:
    """Return the jobs that have a value of the objective: finished ones theirs, pruned ones the best that they had."""
    objective = _objective(plan)
    done = [(job, job.values[0]) for job in jobs if job.values is not None]
    return done + [(job, job.figures[objective]) for job in jobs if job.state == "pruned" and objective in job.figures]


def _position(dimension: Dimension, job: Job) -> float:
    value = job.params[dimension.key]
    return float(dimension.values.index(value)) if dimension.values else float(value)


def _height(dimension: Dimension, position: float) -> float:
    """Return where a job's value lies between the lowest and the highest, in [0, 1]."""
    if dimension.values:
        return position / max(1, len(dimension.values) - 1)
    low, high, value = dimension.low, dimension.high, position
    if dimension.log:
        low, high, value = np.log([low, high, value])
    return float((value - low) / (high - low))
