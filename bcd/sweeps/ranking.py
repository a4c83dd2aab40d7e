"""Which job of a sweep is the best: by its objective, or, where there are several, which none other beats in all."""

from collections.abc import Sequence

from bcd.sweeps.ledger import Job
from bcd.sweeps.plan import Plan


def ranked(plan: Plan, jobs: Sequence[Job]) -> list[Job]:
    """Return the finished jobs, the best first; those of equal figures in their order.

    With several objectives, those that no other job beats in all of them come first (Deb et al., IEEE Transactions on Evolutionary
    Computation 6 (2002) 182, doi:10.1109/4235.996017), ordered among themselves by the first objective.
    """
    done = [job for job in jobs if job.values is not None]
    return sorted(done, key=lambda job: (sum(beats(plan, other, job) for other in done), losses(plan, job)))


def losses(plan: Plan, job: Job) -> tuple[float, ...]:
    """Return a job's objectives, less being better in each."""
    signs = [-1 if direction == "maximize" else 1 for direction in plan.objectives.values()]
    return tuple(sign * value for sign, value in zip(signs, job.values or (), strict=True))


def beats(plan: Plan, one: Job, other: Job) -> bool:
    """Tell whether a job is at least as good in every objective, and better in one."""
    ours, theirs = losses(plan, one), losses(plan, other)
    return all(a <= b for a, b in zip(ours, theirs, strict=True)) and ours != theirs
