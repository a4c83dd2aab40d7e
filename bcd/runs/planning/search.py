"""The search of a plan: which image size and which network the time and the memory allow.

Resolution first, up to the size at which the small lesions are large enough; then the stronger network; then more resolution.
What the time must allow is a number of epochs in which the network has seen enough images.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bcd.runs.planning.probe import Footprint, Pace, Probe

log = logging.getLogger(__name__)

# Share of the time that steps and validation may take; the rest is for checkpoints, pictures and a machine that is not alone.
TIME_SHARE = 0.9
# Share of the free memory that a training may take.
MEMORY_SHARE = 0.7
# Batch norm learns little from fewer images than that, and nothing from one.
SMALLEST_BATCH, LEAST_BATCH = 4, 2

# Two measurements of the same setting may differ by this factor where others use the machine.
_SCATTER = 1.25
# What a setting that does not run raises: a network that refuses the size, weights that cannot be had, memory that is full.
_DOES_NOT_RUN = (RuntimeError, ValueError, OSError, AssertionError)


@dataclass(frozen=True)
class Candidate:
    """A setting to try.

    Args:
        size: side of the network's input in pixels.
        network: encoder or backbone; None where it is no question.
    """

    size: int
    network: str | None

    def __str__(self) -> str:
        return f"{self.size} px" if self.network is None else f"{self.network} at {self.size} px"


@dataclass(frozen=True)
class Space:
    """The settings that are open.

    Args:
        sizes: ascending; one where the user chose it.
        enough: the size among them at which small lesions are large enough.
        networks: from the cheapest to the strongest; one where the user chose it, or None alone.
    """

    sizes: Sequence[int]
    enough: int
    networks: Sequence[str | None]


@dataclass(frozen=True)
class Goal:
    """What a setting must make possible to be affordable.

    Args:
        seconds: the time for training, validation included.
        memory: bytes that are free.
        epochs: that are wanted at least.
        batch_size: that is wanted, over all processes.
        batch_is_given: the user chose it, so that memory cannot lower it.
        n_train: training cases an epoch.
        n_valid: validation cases an epoch, several passes counted.
        processes: that train together.
    """

    seconds: float
    memory: float
    epochs: int
    batch_size: int
    batch_is_given: bool
    n_train: int
    n_valid: float
    processes: int = 1


@dataclass(frozen=True)
class Trial:
    """The result of trying a setting.

    Args:
        candidate: the setting.
        batch_size: the largest wanted one that the memory holds, over all processes.
        footprint: memory; None where it does not run.
        pace: time for an image; None where it does not run, or its batch does not fit.
        epoch_seconds: an epoch with its validation.
        epochs: that the time holds.
        problem: why it is not affordable, in words; None where it is.
    """

    candidate: Candidate
    batch_size: int = 0
    footprint: Footprint | None = None
    pace: Pace | None = None
    epoch_seconds: float = float("inf")
    epochs: int = 0
    problem: str | None = None

    def epochs_in(self, goal: Goal) -> float:
        """Return how many epochs the time holds, parts of one counted."""
        return TIME_SHARE * goal.seconds / self.epoch_seconds

    def summary(self) -> dict[str, Any]:
        """Return the figures as plain values."""
        known: dict[str, Any] = {"size": self.candidate.size, "network": self.candidate.network}
        if self.footprint is not None:
            known |= {"batch_size": self.batch_size, "memory_mb": round(self.footprint.of(self.batch_size) / 2**20)}
        if self.pace is not None:
            known |= {
                "train_ms_per_image": round(1000 * self.pace.train, 2),
                "valid_ms_per_image": round(1000 * self.pace.valid, 2),
                "epoch_seconds": round(self.epoch_seconds, 2),
                "epochs_in_time": self.epochs,
            }
        return known | {"problem": self.problem}


@dataclass
class Search:
    """Tries settings until the best affordable one is known.

    Args:
        space: what is open.
        goal: what must be possible.
        probe: measures.
        configure: a setting -> the run's config with it.
        limit: seconds of measuring after which nothing stronger is tried any more.

    Attributes:
        trials: in the order in which they were made.
        remarks: why the search stopped, in words.
    """

    space: Space
    goal: Goal
    probe: Probe
    configure: Callable[[Candidate], Mapping[str, Any]]
    limit: float
    trials: list[Trial] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    _first_error: Exception | None = None
    _absent: set[str | None] = field(default_factory=set)

    def run(self) -> Trial:
        """Return the best affordable setting; where none is, the cheapest that runs, which then has a `problem`.

        Raises:
            ValueError: and others, what the first setting raised, where none runs.
        """
        best = self._largest_affordable()
        if best.problem is not None or best.candidate.size != self.space.enough:
            return best
        best = self._strongest(best)
        return self._more_resolution(best) if best.candidate.network == self.space.networks[-1] else best

    def _largest_affordable(self) -> Trial:
        """Go down from the size that is enough, with the cheapest network that runs; up, where none of these sizes does."""
        downwards = [size for size in reversed(self.space.sizes) if size <= self.space.enough]
        upwards = [size for size in self.space.sizes if size > self.space.enough]
        for network in self.space.networks:
            cheapest = None
            for size in downwards + upwards:
                if (size > self.space.enough and cheapest is not None) or network in self._absent:
                    break
                if cheapest is not None and cheapest.pace is not None and size != downwards[-1]:
                    # It would not do even if its time were less by its area, beyond what measurements scatter.
                    most = _SCATTER * (cheapest.candidate.size / size) ** 2
                    if cheapest.epochs_in(self.goal) * most < self.goal.epochs:
                        continue
                trial = self._try(Candidate(size, network))
                if trial.problem is None:
                    return trial
                cheapest = trial if trial.footprint is not None else cheapest
            if cheapest is not None:
                return cheapest
        if self._first_error is None:
            raise ValueError("plan: there is no size or network to try; list some in plan.sizes.")
        raise self._first_error

    def _strongest(self, best: Trial) -> Trial:
        for network in self.space.networks[self.space.networks.index(best.candidate.network) + 1 :]:
            if self._is_over(f"networks stronger than {best.candidate.network}"):
                break
            trial = self._try(Candidate(best.candidate.size, network))
            if trial.problem is None:
                best = trial
        return best

    def _more_resolution(self, best: Trial) -> Trial:
        for size in [size for size in self.space.sizes if size > self.space.enough]:
            if self._is_over(f"sizes above {best.candidate.size} px"):
                break
            trial = self._try(Candidate(size, best.candidate.network))
            if trial.problem is not None:
                break
            best = trial
        return best

    def _is_over(self, rest: str) -> bool:
        over = self.probe.seconds() > self.limit
        if over:
            self.remarks.append(f"the time for measuring (plan.probe_minutes) was over before {rest} could be tried")
        return over

    def _try(self, candidate: Candidate) -> Trial:
        try:
            trial = self._measure(candidate)
        except _DOES_NOT_RUN as error:
            self._first_error = self._first_error or error
            if isinstance(error, OSError):  # weights that are not available, for any size
                self._absent.add(candidate.network)
            trial = Trial(candidate, problem=f"it does not run: {str(error).partition(chr(10))[0]}")
        self.trials.append(trial)
        if trial.pace is not None:
            log.info(
                "Plan: %s, batch %d: %.1f ms an image, epochs in the time: %d.",
                candidate, trial.batch_size, 1000 * trial.pace.train, trial.epochs,
            )  # fmt: skip
        else:
            log.info("Plan: %s: %s.", candidate, trial.problem)
        return trial

    def _measure(self, candidate: Candidate) -> Trial:
        goal, config = self.goal, self.configure(candidate)
        footprint = self.probe.footprint(config)
        batch_size = fitting_batch(footprint, goal)
        least = goal.batch_size if goal.batch_is_given else LEAST_BATCH * goal.processes
        if batch_size < least:
            needed, allowed = footprint.of(least // goal.processes), MEMORY_SHARE * goal.memory
            reason = f"a batch of {least} takes {needed / 2**30:.1f} GB, and {allowed / 2**30:.1f} GB may be used"
            return Trial(candidate, least, footprint, problem=reason)
        pace = self.probe.pace(config, batch_size // goal.processes)
        epoch_seconds = (goal.n_train * pace.train + goal.n_valid * pace.valid) / goal.processes
        epochs = int(TIME_SHARE * goal.seconds / epoch_seconds)
        problem: str | None = None
        if not goal.batch_is_given and batch_size < min(goal.batch_size, SMALLEST_BATCH * goal.processes):
            problem = f"the memory holds a batch of {batch_size} only"
        elif epochs < goal.epochs:
            problem = f"the time holds {epochs} of {goal.epochs} epochs"
        return Trial(candidate, batch_size, footprint, pace, epoch_seconds, epochs, problem)


def fitting_batch(footprint: Footprint, goal: Goal) -> int:
    """Return the wanted batch size, halved until each process has the memory for its share; 0 where none fits."""
    batch_size = goal.batch_size
    while batch_size >= goal.processes:
        if footprint.of(-(-batch_size // goal.processes)) <= MEMORY_SHARE * goal.memory:
            return batch_size
        if goal.batch_is_given:
            return 0
        batch_size //= 2
    return 0
