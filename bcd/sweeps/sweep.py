"""A sweep from its plan to its report; run again, it continues where it was stopped."""

import logging
import re
import signal
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bcd.config import compose
from bcd.config.build import build
from bcd.config.search_space import Dimension
from bcd.launchers.command import Command, Launcher
from bcd.runs import folder as files
from bcd.runs.signals import RunStopped, StopSignals
from bcd.sweeps import worker
from bcd.sweeps.ledger import Job, Ledger, ranked
from bcd.sweeps.plan import PLAN, Plan, SweepError, as_overrides, check_same, directed, read_plan, settle
from bcd.sweeps.worker import sweep_log

log = logging.getLogger(__name__)

_POLL_S = 2.0
# Jobs whose tasks are looked at for what they monitor.
_MOST_COMPOSED = 40


def make_plan(fixed: Sequence[str], dimensions: Sequence[Dimension], settings: Mapping[str, Any], output: Path) -> Plan:
    """Return the plan of a sweep, its name made up where it has none.

    Args:
        fixed: overrides of every job.
        dimensions: what is varied.
        settings: `sweep` of the config.
        output: the folder that `sweeps/` goes below.

    Raises:
        SweepError: for settings that cannot be together.
    """
    settings = settle(settings, dimensions)
    if settings["name"] is not None and not re.fullmatch(r"[\w][\w.-]*", str(settings["name"])):
        raise SweepError(f"sweep.name={settings['name']}: it names a folder; letters, digits, points, lines and hyphens will do.")
    # The command line's check has looked at all values, and this at names alone, which needs no torch.
    config = compose("train", [*fixed, *_first(dimensions)], check_values=False)
    if config["resume"] is not None or config["refit"]:
        raise SweepError("A sweep begins runs of its own that are judged by validation: resume= and refit=true are not for it.")
    plan = Plan(
        name=str(settings["name"] or ""),
        folder=(output / "sweeps").absolute(),
        fixed=tuple(fixed),
        dimensions=tuple(dimensions),
        settings=settings,
        objectives=directed(settings["objective"], settings["directions"], monitored(fixed, dimensions)),
        trusted=tuple(config["trusted"]),
        working_folder=Path.cwd(),
    )
    name = plan.name or f"{config['name']}-{plan.digest()}"
    return replace(plan, name=name, folder=plan.folder / name)


def monitored(fixed: Sequence[str], dimensions: Sequence[Dimension]) -> dict[str, str]:
    """Return the log keys that the tasks of the jobs monitor, each with `max` or `min`; each value is looked at once."""
    first = _first(dimensions)
    jobs = [first]
    for place, dimension in enumerate(dimensions):
        others = [f"{dimension.key}={value}" for value in dimension.values[1:]]
        jobs += [[*first[:place], other, *first[place + 1 :]] for other in others]
    tasks = [compose("train", [*fixed, *words], check_values=False)["task"] for words in jobs[:_MOST_COMPOSED]]
    return {task["monitor"]: task["mode"] for task in tasks}


def _first(dimensions: Sequence[Dimension]) -> list[str]:
    return as_overrides({one.key: one.values[0] if one.values else int(one.low) if one.integer else one.low for one in dimensions})


def sweep(plan: Plan, launcher_node: Mapping[str, Any]) -> list[Job]:
    """Run a sweep, or resume it; return its jobs.

    Raises:
        SweepError: where another sweep has its folder, or where jobs have failed, with the reason of each.
        KeyboardInterrupt: after Ctrl-C; what is finished is kept, running jobs are resumed in the next call.
        SystemExit: after SIGTERM, with status 143; likewise.
    """
    launcher: Launcher = build(launcher_node, trusted=plan.trusted)
    if plan.settings["dry_run"]:
        from bcd.sweeps.estimate import estimate  # late: torch takes seconds

        log.info(estimate(plan, launcher.workers, getattr(launcher, "threads", None)))
        return []
    if launcher.dry_run:
        log.info("launcher.dry_run: nothing was started.\n%s", launcher.describe(*_workers(plan, launcher, "SESSION")))
        return []
    if (plan.folder / PLAN).is_file():
        plan = check_same(plan, read_plan(plan.folder))
    plan.folder.mkdir(parents=True, exist_ok=True)
    plan.write()
    with sweep_log(plan.folder):
        ledger = Ledger(plan, uuid.uuid4().hex[:8])
        other = plan.settings["continues"]
        if other is not None and not ledger.has_begun():  # finished jobs that lie in this sweep's space count
            count = ledger.take_over(Ledger(read_plan(plan.folder.parent / other), ledger.session))
            log.info("Of %s, %d finished jobs lie in this space, and count.", other, count)
        over = sum(job.state in ("done", "pruned") for job in ledger.jobs())
        log.info("Sweep %s in %s: %d jobs, %d of them finished.", plan.name, plan.folder, plan.n_trials, over)
        try:
            with StopSignals():
                is_over = _run(ledger, launcher)
        except (RunStopped, KeyboardInterrupt) as stop:
            signum = stop.signum if isinstance(stop, RunStopped) else signal.SIGINT
            message = f"Finished jobs are kept; the same command continues: sweep.name={plan.name}"
            log.warning("Stopped by %s. %s", signal.Signals(signum).name, message)
            if signum == signal.SIGINT:
                raise KeyboardInterrupt(message) from None
            raise SystemExit(128 + signum) from None
        if is_over:
            return _conclude(ledger)
        log.info("Submitted; python scripts/sweep_report.py sweep=%s reports, the same command continues.", plan.folder)
        return ledger.jobs()


def _workers(plan: Plan, launcher: Launcher, session: str) -> tuple[list[Command], Path]:
    """Return the commands of the workers, and a folder for what the launcher writes."""
    return [Command(worker.worker_command(plan.folder, session))] * launcher.workers, plan.folder / "slurm"


def _run(ledger: Ledger, launcher: Launcher) -> bool:
    """Let workers work until nothing is left; tell whether they have, and are not still in a queue."""
    idle, attempts = 0, _attempts(ledger)
    while not ledger.is_over():
        if launcher.run(*_workers(ledger.plan, launcher, ledger.session)) is None:
            return False
        while ledger.running():  # of another machine, or left over from a go that was killed
            time.sleep(_POLL_S)
        before, attempts = attempts, _attempts(ledger)
        idle = idle + 1 if attempts == before else 0
        if idle > 1:
            raise SweepError(f"The workers end without having begun a job; the reason is above, or in {ledger.plan.folder}.")
    return True


def _attempts(ledger: Ledger) -> int:
    return sum(job.attempts for job in ledger.jobs())


def _conclude(ledger: Ledger) -> list[Job]:
    """Test the best, where that is asked for; report."""
    from bcd.sweeps.report import report  # late: matplotlib takes a second

    plan, jobs = ledger.plan, ledger.jobs()
    best = next(iter(ranked(plan, jobs)), None)
    if plan.settings["test"] == "best" and best is not None and not (best.folder / files.METRICS).is_file():
        from bcd.runs.testing.run import evaluate  # late: torch takes seconds

        log.info("Testing the best by validation: %s.", best.folder)
        evaluate(best.folder, trusted=plan.trusted)
    path = report(plan, ledger.study, jobs)
    counts = ", ".join(f"{sum(job.state == state for job in jobs)} {state}" for state in ("done", "pruned", "failed"))
    log.info("Sweep %s: %s. Report: %s", plan.name, counts, path)
    failed = [job for job in jobs if job.state == "failed"]
    if failed:
        reasons = "\n".join(f"  trial {job.number + 1} ({job.folder.name}): {job.reason}" for job in failed)
        raise SweepError(f"{len(failed)} of {len(jobs)} jobs failed; the same command tries them again.\n{reasons}")
    return jobs
