"""The ledger of a sweep: which jobs there are, who is at them, what they gave. An Optuna study, written by any number of processes.

A job keeps its number and its folder whatever happens. Each attempt at it is a trial of the study: one whose process has died is
closed as failed, and the next attempt goes on in the same folder, from the last checkpoint.
"""

import fcntl
import logging
import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from bcd.runs.training.trial import make_pruner, open_storage
from bcd.sweeps.plan import Plan, grid_point, grid_size
from bcd.sweeps.sampling import as_overrides, distributions, lies_in, sampler

log = logging.getLogger(__name__)

# A process of another machine whose claim is older than that has died; it touches its claim far more often.
_STALE_S = 300.0
_OPEN = (TrialState.RUNNING, TrialState.WAITING)
# How Optuna keeps what a trial had when it was compared with others (ASHA, Hyperband).
_RUNG = "completed_rung_"
# How a figure of a job is kept in its trial.
FIGURES = "figures"


@dataclass(frozen=True)
class Job:
    """A job of a sweep, and what is known of it.

    Args:
        number: from 0, in the order in which the jobs were drawn.
        params: what is varied, by key.
        state: `done`, `pruned`, `running`, `failed`, or `stopped`: ended from outside, and gone on with in the next go.
        attempts: how often it was begun.
        values: of the objectives; None where there are none yet.
        figures: validation figures and costs by name.
        folder: its run's.
        reason: why the last attempt failed or was stopped.
        seconds: that all attempts took together.
        config_hash: of its resolved config.
        same_as: the folder of an earlier run with the same config, whose figures it has.
    """

    number: int
    params: Mapping[str, Any]
    state: str
    attempts: int
    values: tuple[float, ...] | None
    figures: Mapping[str, float]
    folder: Path
    reason: str
    seconds: float
    config_hash: str
    same_as: str


@dataclass(frozen=True)
class Claim:
    """A job that this process has taken.

    Args:
        number: of the job.
        trial: of this attempt.
        overrides: that make its config, on top of what is the same in every job.
        folder: its run's.
        lock: held until this process and those that it started are gone.
        before: how the attempt before ended, in words; empty for a job that was not begun yet.
    """

    number: int
    trial: optuna.Trial
    overrides: tuple[str, ...]
    folder: Path
    lock: "ClaimLock"
    before: str = ""


class ClaimLock:
    """Says that a process, or one that it started and handed the lock to, is at work on a trial. The system frees it after a kill.

    Args:
        path: of the lock's file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)

    def acquire(self) -> bool:
        """Take it if nobody has it."""
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def touch(self) -> None:
        """Tell other machines that somebody is at work."""
        os.utime(self.path)

    def age(self) -> float:
        """Return the seconds since the last touch."""
        return time.time() - self.path.stat().st_mtime

    def release(self) -> None:
        """Give it back."""
        os.close(self.descriptor)


class Ledger:
    """The jobs of a sweep.

    Args:
        plan: of the sweep.
        session: names one go at it, so that a crashed job is tried again in the next go, and not for ever in this one.
    """

    def __init__(self, plan: Plan, session: str) -> None:
        self.plan = plan
        self.session = session
        self.study = optuna.create_study(
            storage=open_storage(plan.storage),
            study_name=plan.name,
            directions=[StudyDirection[direction.upper()] for direction in plan.objectives.values()],
            pruner=make_pruner(**pruner_of(plan) or {"kind": "none", "least": 1, "reduction": 3}),
            load_if_exists=True,
        )
        self._host = socket.gethostname()

    def claim(self) -> Claim | None:
        """Return the next job to do, now this process's own; None where there is none.

        First what a dead process has left, then what has crashed in an earlier go, then a new one.
        """
        with FileLock(self.plan.folder / ".ledger.lock"):
            if self.study.user_attrs.get("stopped") == self.session:
                return None
            self._close_orphans()
            attempts = attempts_of(self.study.get_trials(deepcopy=False))
            for number, tried in attempts.items():
                # Its process was killed between entering it and beginning it; Optuna begins no other one before it.
                if tried[-1].state == TrialState.WAITING:
                    return self._begin(None, number, tried[:-1])
            again = self._to_repeat()
            if again is not None:
                return self._begin(_params(again[-1]), again[0].user_attrs["job"], again)
            if len(attempts) >= self.plan.n_trials:
                return None
            return self._begin(self._free_point() if self.plan.is_grid else None, len(attempts), [])

    def close_orphans(self) -> None:
        """Close what dead processes were at, so that it is repeated in the next go."""
        with FileLock(self.plan.folder / ".ledger.lock"):
            self._close_orphans()

    def running(self) -> bool:
        """Tell whether any process is at a job; one that was killed is not."""
        with FileLock(self.plan.folder / ".ledger.lock"):  # to look at a claim is to take it for a moment
            trials = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
            return any(not self._is_orphan(trial) for trial in trials)

    def is_over(self) -> bool:
        """Tell whether nothing is left to do in this go."""
        with FileLock(self.plan.folder / ".ledger.lock"):
            trials = self.study.get_trials(deepcopy=False)
            if self.study.user_attrs.get("stopped") == self.session:
                return True
            left = any(trial.state in _OPEN for trial in trials) or self._to_repeat() is not None
            return not left and len(attempts_of(trials)) >= self.plan.n_trials

    def settle(self, claim: Claim, outcome: Mapping[str, Any], seconds: float, config_hash: str, same_as: str = "") -> None:
        """Enter what a job gave: state `done` or `pruned`, and its figures."""
        figures = outcome["figures"]
        trial = claim.trial
        for name, value in {FIGURES: figures, "seconds": seconds, "config_hash": config_hash, "same_as": same_as}.items():
            trial.set_user_attr(name, value)
        if outcome["state"] == "pruned":
            self.study.tell(trial.number, state=TrialState.PRUNED)
            return
        missing = [name for name in self.plan.objectives if name not in figures]
        if missing:
            there = ", ".join(figures) or "no validation figure"
            self.fail(trial.number, f"it has no {missing[0]}, which the sweep is judged by; it has {there}", seconds=seconds)
            return
        self.study.tell(trial.number, [figures[name] for name in self.plan.objectives])

    def fail(self, number: int, reason: str, killed: bool = False, seconds: float = 0.0) -> None:
        """Close an attempt.

        Args:
            number: of the trial.
            reason: in words.
            killed: it was ended from outside, and is repeated at once.
            seconds: that it took.
        """
        trial = self.study.get_trials(deepcopy=False)[number]
        for name, value in {"reason": reason, "killed": killed, "seconds": seconds}.items():
            self.study._storage.set_trial_user_attr(trial._trial_id, name, value)
        self.study.tell(number, state=TrialState.FAIL)

    def stop(self) -> None:
        """Begin no further job in this go."""
        self.study.set_user_attr("stopped", self.session)

    def same(self, config_hash: str) -> Job | None:
        """Return a job that is done and has the same config; its figures would be the same."""
        return next((job for job in self.jobs() if job.state == "done" and job.config_hash == config_hash), None)

    def jobs(self) -> list[Job]:
        """Return all jobs by number."""
        attempts = attempts_of(self.study.get_trials(deepcopy=False))
        return [_job(number, trials, self.folder_of(number)) for number, trials in sorted(attempts.items())]

    def folder_of(self, number: int) -> Path:
        """Return the folder of a job's run."""
        return self.plan.folder / f"trial_{number:04d}"

    def has_begun(self) -> bool:
        """Tell whether a job of its own has been begun, and not merely been taken over from another sweep."""
        return any("session" in trial.user_attrs for trial in self.study.get_trials(deepcopy=False))

    def take_over(self, other: "Ledger") -> int:
        """Enter the finished jobs of another sweep that lie in this one's space, before its own begin; return how many."""
        with FileLock(self.plan.folder / ".ledger.lock"):
            space, there = distributions(self.plan.dimensions), len(self.jobs())  # some, where a kill came between
            wanted = [job for job in other.jobs() if self._counts(job)]
            for number, job in list(enumerate(wanted))[there:]:
                about = {
                    "job": number,
                    FIGURES: dict(job.figures),
                    "config_hash": job.config_hash,
                    "same_as": str(job.folder),
                    "seconds": 0.0,
                }
                values = [job.figures[name] for name in self.plan.objectives]
                self.study.add_trial(create_trial(params=dict(job.params), distributions=space, values=values, user_attrs=about))
        return len(wanted)

    def _counts(self, job: Job) -> bool:
        """Tell whether another sweep's job is finished, and could be one of this."""
        return (
            job.state == "done" and lies_in(job.params, self.plan.dimensions) and not set(self.plan.objectives) - set(job.figures)
        )

    def _close_orphans(self) -> None:
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if self._is_orphan(trial) and self._is_open(trial.number):
                self.fail(trial.number, "its process was killed", killed=True)
                if "job" in trial.user_attrs:
                    log.warning("Trial %d: its process was killed; it is to be gone on with.", trial.user_attrs["job"] + 1)

    def _begin(self, params: Mapping[str, Any] | None, number: int, before: Sequence[FrozenTrial]) -> Claim:
        if params is not None:
            self.study.enqueue_trial(dict(params), user_attrs={"job": number})
        self.study.sampler = sampler(self.plan, number)
        trial = self.study.ask(distributions(self.plan.dimensions))  # what was entered and not begun goes before a draw
        for name, value in {"job": number, "session": self.session, "host": self._host, "pid": os.getpid()}.items():
            trial.set_user_attr(name, value)
        lock = self._lock_of(trial.number)
        lock.acquire()
        for earlier in before:  # a job that goes on has been judged before
            for step, value in earlier.intermediate_values.items():
                trial.report(value, step)
            for name, value in earlier.system_attrs.items():
                if name.startswith(_RUNG):  # else it would stand there with what it reached later
                    self.study._storage.set_trial_system_attr(trial._trial_id, name, value)
        folder = self.folder_of(number)
        trial.set_user_attr("folder", folder.name)
        told = str(before[-1].user_attrs.get("reason", "")) if before else ""
        return Claim(number, trial, tuple(as_overrides(trial.params)), folder, lock, told)

    def _free_point(self) -> dict[str, str]:
        """Return the first combination of the grid that no job has."""
        taken = [dict(job.params) for job in self.jobs()]
        points = (grid_point(self.plan.dimensions, number) for number in range(grid_size(self.plan.dimensions)))
        return next(point for point in points if point not in taken)

    def _to_repeat(self) -> list[FrozenTrial] | None:
        """Return the attempts at the first job that is to be tried again."""
        attempts = attempts_of(self.study.get_trials(deepcopy=False))
        for _, trials in sorted(attempts.items()):
            last = trials[-1]
            if any(trial.state != TrialState.FAIL for trial in trials):
                continue
            crashed = [t for t in trials if not t.user_attrs.get("killed") and t.user_attrs.get("session") == self.session]
            if last.user_attrs.get("killed") or len(crashed) <= (self.plan.settings["retries"] if crashed else 0):
                return trials
        return None

    def _is_open(self, number: int) -> bool:
        """Tell whether nothing was entered for a trial yet; asked anew, as its process may have ended well since it was listed."""
        return self.study.get_trials(deepcopy=False)[number].state == TrialState.RUNNING

    def _is_orphan(self, trial: FrozenTrial) -> bool:
        """Tell whether nobody is at a trial any more."""
        lock = self._lock_of(trial.number)
        try:
            if not lock.acquire():
                return False
            return trial.user_attrs.get("host", self._host) == self._host or lock.age() > _STALE_S
        finally:
            lock.release()

    def _lock_of(self, number: int) -> ClaimLock:
        return ClaimLock(self.plan.folder / "claims" / f"{number}.lock")


def attempts_of(trials: Sequence[FrozenTrial]) -> dict[int, list[FrozenTrial]]:
    """Return the attempts at each job; a trial that was killed before it got a job's number is nobody's."""
    found: dict[int, list[FrozenTrial]] = {}
    for trial in trials:
        if "job" in trial.user_attrs:
            found.setdefault(int(trial.user_attrs["job"]), []).append(trial)
    return found


def pruner_of(plan: Plan) -> dict[str, Any] | None:
    """Return how jobs are pruned, as `make_pruner` takes it; None where they are not."""
    settings = plan.settings
    if settings["pruner"] == "none":
        return None
    return {"kind": settings["pruner"], "least": settings["least_validations"], "reduction": settings["reduction"]}


def _params(trial: FrozenTrial) -> dict[str, Any]:
    """Return all that was entered for a trial, where it was: it may have been killed before it had taken each."""
    return {**trial.params, **trial.system_attrs.get("fixed_params", {})}


def _job(number: int, trials: Sequence[FrozenTrial], folder: Path) -> Job:
    last = trials[-1]
    states = {TrialState.COMPLETE: "done", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
    state = states.get(last.state, "running")
    if state == "failed" and last.user_attrs.get("killed"):
        state = "stopped"
    same_as = str(last.user_attrs.get("same_as", ""))
    return Job(
        number=number,
        params=_params(last),
        state=state,
        attempts=len(trials),
        values=tuple(last.values) if state == "done" else None,
        figures=last.user_attrs.get(FIGURES, {}),
        folder=Path(same_as) if same_as else folder,
        reason=str(last.user_attrs.get("reason", "")) if state in ("failed", "stopped") else "",
        seconds=sum(float(trial.user_attrs.get("seconds", 0.0)) for trial in trials),
        config_hash=str(last.user_attrs.get("config_hash", "")),
        same_as=same_as,
    )
