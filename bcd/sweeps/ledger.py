"""The ledger of a sweep: the jobs, their processes, their results. An Optuna study, written by any number of processes.

A job is one trial of the study from its draw to its end: number, values and folder never change. Until it is finished or
pruned its trial is running; a lock, which the system releases after a kill, shows whether a process works on it. Optuna's own
heartbeat is not suitable: a journal has none, and it would begin a job again whose training has outlived the worker that started
it.
"""

import fcntl
import logging
import math
import os
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from bcd.runs.training.sweep_job import make_pruner, open_storage
from bcd.sweeps.plan import Plan, as_overrides, distributions, grid_point, grid_size, lies_in, sampler

log = logging.getLogger(__name__)

# A process of another machine whose lock file is older than that has died; it touches the file far more often.
_STALE_S = 300.0
_OVER = {TrialState.COMPLETE: "done", TrialState.PRUNED: "pruned"}
_KILLED = "its process was killed"


@dataclass(frozen=True)
class Job:
    """A job of a sweep, and what is known of it.

    Args:
        number: from 0, in the order in which the jobs were drawn.
        params: what is varied, by key.
        state: `done`, `pruned`, `running`, `failed`, or `stopped`: ended from outside, and resumed in the next go.
        attempts: how often it was started.
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


class JobLock:
    """Held while a process, or one that it started and handed the lock to, works on a job; the system releases it after kills."""

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
        """Show other machines that a process works on it."""
        os.utime(self.path)

    def release(self) -> None:
        """Give it back."""
        os.close(self.descriptor)


@dataclass(frozen=True)
class Claim:
    """A job that this process has taken.

    Args:
        number: of the job.
        trial: of the study.
        overrides: that make its config, on top of what is the same in every job.
        folder: its run's.
        lock: held until this process and those that it started are gone.
        before: how the attempt before ended, in words; empty for a job that was not started yet.
    """

    number: int
    trial: optuna.Trial
    overrides: tuple[str, ...]
    folder: Path
    lock: JobLock
    before: str = ""


class Ledger:
    """The jobs of a sweep.

    Args:
        plan: of the sweep.
        session: names one call, so that a crashed job is tried again in the next call, and not endlessly in this one.
    """

    def __init__(self, plan: Plan, session: str) -> None:
        self.plan = plan
        self.session = session
        self.study = optuna.create_study(
            storage=open_storage(plan.storage),
            study_name=plan.name,
            directions=[StudyDirection[direction.upper()] for direction in plan.objectives.values()],
            pruner=make_pruner(**plan.pruner or {"kind": "none", "least": 1, "reduction": 3}),
            load_if_exists=True,
        )
        self._alone = FileLock(plan.folder / ".ledger.lock")
        self._host = socket.gethostname()

    def claim(self) -> Claim | None:
        """Return the next job to do, now this process's own; None where there is none: first what was begun, then a new one."""
        with self._alone:
            jobs = trials_of_jobs(self.study)
            free = [number for number, trial in jobs.items() if self._is_to_do(trial) and not self._is_held(trial)]
            if self._is_stopped() or (not free and len(jobs) >= self.plan.n_trials):
                return None
            # One that was entered and not begun comes first: Optuna begins no other one before it.
            free.sort(key=lambda number: (jobs[number].state != TrialState.WAITING, number))
            number = free[0] if free else len(jobs)
            before = jobs.get(number)
            if before is None or before.state == TrialState.FAIL:  # as early ledgers left a crashed job
                params = _params(before) if before else self._free_point(jobs.values()) if self.plan.is_grid else {}
                self.study.enqueue_trial(params, user_attrs={"job": number})
            return self._begin(number, before)

    def running(self) -> bool:
        """Return whether any living process works on a job."""
        with self._alone:  # to look at a lock is to take it for a moment
            return any(self._is_held(trial) for trial in trials_of_jobs(self.study).values())

    def is_over(self) -> bool:
        """Return whether nothing is left to do in this call."""
        with self._alone:
            trials = trials_of_jobs(self.study).values()
            left = any(self._is_to_do(trial) or self._is_held(trial) for trial in trials)
            return self._is_stopped() or (not left and len(trials) >= self.plan.n_trials)

    def settle(self, claim: Claim, outcome: Mapping[str, Any], seconds: float, config_hash: str, same_as: str = "") -> None:
        """Enter the results of a job: state `done` or `pruned`, and its figures."""
        figures = outcome["figures"]
        missing = [name for name in self.plan.objectives if not math.isfinite(figures.get(name, math.nan))]
        if missing and outcome["state"] != "pruned":
            there = ", ".join(figures) or "no validation figure"
            self.fail(claim, f"it has no finite {missing[0]}, which ranks the jobs of this sweep; it has {there}", seconds=seconds)
            return
        _note(claim.trial, figures=figures, seconds=seconds, config_hash=config_hash, same_as=same_as)
        if outcome["state"] == "pruned":
            self.study.tell(claim.trial.number, state=TrialState.PRUNED)
        else:
            self.study.tell(claim.trial.number, [figures[name] for name in self.plan.objectives])

    def fail(self, claim: Claim, reason: str, killed: bool = False, seconds: float = 0.0) -> None:
        """Enter that an attempt has ended and its job has not.

        Args:
            claim: of the job.
            reason: in words.
            killed: it was ended from outside; else it crashed, which is repeated in this go as often as `retries` says.
            seconds: that it took.
        """
        crashed = {} if killed else {"crashes": self._crashes(claim.trial) + 1, "crashed_in": self.session}
        _note(claim.trial, reason=reason, killed=killed, seconds=seconds, **crashed)

    def stop(self) -> None:
        """Begin no further job in this call."""
        self.study.set_user_attr("stopped", self.session)

    def same(self, config_hash: str) -> Job | None:
        """Return a job that is done and has the same config; its figures would be the same."""
        return next((job for job in self.jobs() if job.state == "done" and job.config_hash == config_hash), None)

    def jobs(self) -> list[Job]:
        """Return all jobs by number."""
        with self._alone:
            return [self._job(number, trial) for number, trial in trials_of_jobs(self.study).items()]

    def has_begun(self) -> bool:
        """Return whether a job of its own has been begun, and not merely been taken over from another sweep."""
        return any("session" in trial.user_attrs for trial in self.study.get_trials(deepcopy=False))

    def take_over(self, other: "Ledger") -> int:
        """Enter the finished jobs of another sweep that lie in this one's space, before its own begin; return how many."""
        wanted = [
            job
            for job in other.jobs()
            if job.state == "done" and lies_in(job.params, self.plan.dimensions) and {*self.plan.objectives} <= {*job.figures}
        ]
        with self._alone:
            there = len(trials_of_jobs(self.study))  # some, where a kill came between
            for number, job in list(enumerate(wanted))[there:]:
                about = {"job": number, "figures": dict(job.figures), "config_hash": job.config_hash, "same_as": str(job.folder)}
                trial = create_trial(
                    params=dict(job.params),
                    distributions=distributions(self.plan.dimensions),
                    values=[job.figures[name] for name in self.plan.objectives],
                    user_attrs=about,
                )
                self.study.add_trial(trial)
        return len(wanted)

    def _begin(self, number: int, before: FrozenTrial | None) -> Claim:
        self.study.sampler = sampler(self.plan, number)
        if before is not None and before.state == TrialState.RUNNING:
            trial = optuna.Trial(self.study, before._trial_id)
        else:
            trial = self.study.ask()  # what was entered is begun
        for name, distribution in distributions(self.plan.dimensions).items():
            trial._suggest(name, distribution)  # those that it has, it keeps
        lock = self._lock_of(trial.number)
        lock.acquire()
        folder = self.plan.folder / f"trial_{number:04d}"
        reason = before.user_attrs.get("reason", "") if before is not None else ""
        about = {"session": self.session, "host": self._host, "pid": os.getpid(), "folder": folder.name}
        # The reason that remains if no other can be recorded.
        _note(trial, **about, attempts=_attempts(trial) + 1, reason=_KILLED, killed=True)
        return Claim(number, trial, tuple(as_overrides(trial.params)), folder, lock, reason)

    def _free_point(self, jobs: Iterable[FrozenTrial]) -> dict[str, str]:
        """Return the first combination of the grid that no job has."""
        taken = [_params(trial) for trial in jobs]
        points = (grid_point(self.plan.dimensions, number) for number in range(grid_size(self.plan.dimensions)))
        return next(point for point in points if point not in taken)

    def _is_stopped(self) -> bool:
        return self.study.user_attrs.get("stopped") == self.session

    def _is_to_do(self, trial: FrozenTrial) -> bool:
        """Return whether a job is to be begun, or resumed, in this go, unless somebody is at it."""
        crashes = self._crashes(trial)
        return trial.state not in _OVER and crashes <= (self.plan.settings["retries"] if crashes else 0)

    def _crashes(self, trial: optuna.Trial | FrozenTrial) -> int:
        """Return how often a job has crashed in this call."""
        return int(trial.user_attrs.get("crashes", 0)) if trial.user_attrs.get("crashed_in") == self.session else 0

    def _is_held(self, trial: FrozenTrial) -> bool:
        """Return whether a process works on a job."""
        if trial.state != TrialState.RUNNING:
            return False
        lock = self._lock_of(trial.number)
        try:
            is_foreign = trial.user_attrs.get("host", self._host) != self._host  # whose locks may not be seen here
            return not lock.acquire() or (is_foreign and time.time() - lock.path.stat().st_mtime < _STALE_S)
        finally:
            lock.release()

    def _lock_of(self, number: int) -> JobLock:
        return JobLock(self.plan.folder / "claims" / f"{number}.lock")

    def _job(self, number: int, trial: FrozenTrial) -> Job:
        about = trial.user_attrs
        state = _OVER.get(trial.state) or (
            "running" if self._is_held(trial) else "stopped" if about.get("killed", True) else "failed"
        )
        same_as = str(about.get("same_as", ""))
        return Job(
            number=number,
            params=_params(trial),
            state=state,
            attempts=_attempts(trial),
            values=tuple(trial.values) if state == "done" else None,
            figures=about.get("figures", {}),
            folder=Path(same_as) if same_as else self.plan.folder / f"trial_{number:04d}",
            reason=str(about.get("reason", _KILLED)) if state in ("failed", "stopped") else "",
            seconds=float(about.get("seconds", 0.0)),
            config_hash=str(about.get("config_hash", "")),
            same_as=same_as,
        )


def trials_of_jobs(study: optuna.Study) -> dict[int, FrozenTrial]:
    """Return the trial of each job by number; of early ledgers, where each attempt was a trial, the last one."""
    trials = [trial for trial in study.get_trials(deepcopy=False) if "job" in trial.user_attrs]
    return {int(trial.user_attrs["job"]): trial for trial in trials}


def ranked(plan: Plan, jobs: Sequence[Job]) -> list[Job]:
    """Return the finished jobs, the best first; those of equal figures in their order.

    With several objectives, those that no other job beats in all of them come first (Deb et al., IEEE Transactions on Evolutionary
    Computation 6 (2002) 182, doi:10.1109/4235.996017), ordered among themselves by the first objective.
    """
    done = [job for job in jobs if job.values is not None]
    return sorted(done, key=lambda job: (sum(beats(plan, other, job) for other in done), _losses(plan, job)))


def beats(plan: Plan, one: Job, other: Job) -> bool:
    """Return whether a job is at least as good in every objective, and better in one."""
    ours, theirs = _losses(plan, one), _losses(plan, other)
    return all(a <= b for a, b in zip(ours, theirs, strict=True)) and ours != theirs


def _losses(plan: Plan, job: Job) -> tuple[float, ...]:
    """Return a job's objectives, less being better in each."""
    signs = [-1 if direction == "maximize" else 1 for direction in plan.objectives.values()]
    return tuple(sign * value for sign, value in zip(signs, job.values or (), strict=True))


def _note(trial: optuna.Trial, **about: Any) -> None:
    """Enter what is known of an attempt; its seconds are added to those of the attempts before."""
    if "seconds" in about:
        about["seconds"] += trial.user_attrs.get("seconds", 0.0)
    for name, value in about.items():
        trial.set_user_attr(name, value)


def _attempts(trial: optuna.Trial | FrozenTrial) -> int:
    """Return how often a trial was begun; early ledgers do not count it, and began each once."""
    begun = "session" in trial.user_attrs or "figures" in trial.user_attrs
    return int(trial.user_attrs.get("attempts", begun))


def _params(trial: FrozenTrial) -> dict[str, Any]:
    """Return all that was entered for a trial: it may have been killed before it had taken each."""
    return {**trial.params, **trial.system_attrs.get("fixed_params", {})}
