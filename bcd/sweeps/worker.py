"""A worker of a sweep: takes job after job from the ledger, and trains each in a process of its own.

`python -m bcd.sweeps.worker <folder> <session>` works from anywhere that sees the folder.
"""

import hashlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bcd.config import CONF, compose
from bcd.config.processes import own_environment
from bcd.launchers.command import PARENT, end
from bcd.runs import folder as files
from bcd.runs.signals import RunStopped, StopSignals
from bcd.runs.training.sweep_job import OUTCOME, SweepJob
from bcd.sweeps.ledger import Claim, Job, Ledger
from bcd.sweeps.plan import Plan, read_plan

log = logging.getLogger(__name__)

# What a job prints.
LOG = "process.log"
_POLL_S = 0.5
_TOUCH_S = 30.0
# So many lines of a crashed job's log are looked through for its reason.
_LAST_LINES = 200


def worker_command(folder: Path, session: str) -> tuple[str, ...]:
    """Return what starts a worker of a sweep."""
    return (sys.executable, "-m", "bcd.sweeps.worker", str(folder), session)


def job_command(folder: Path, plan: Plan) -> list[str]:
    """Return the command that trains or resumes a job whose config is in its folder."""
    script = CONF.parent / "scripts" / "train.py"
    return [sys.executable, str(script), f"resume={folder.absolute()}", f"trusted=[{','.join(plan.trusted)}]"]


@contextmanager
def sweep_log(folder: Path) -> Iterator[None]:
    """Append what the sweep's own code logs, in any process or machine, to `sweep.log` in the sweep's folder."""
    ours = logging.getLogger(__package__)
    handler = logging.FileHandler(folder / "sweep.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter(f"%(asctime)s {socket.gethostname()} %(process)d %(levelname)s %(message)s"))
    ours.addHandler(handler)
    try:
        yield
    finally:
        ours.removeHandler(handler)
        handler.close()


def work(folder: Path, session: str, parent: int | None = None) -> int:
    """Do jobs until none is left, and return how many were begun.

    Args:
        folder: the sweep's.
        session: of this go.
        parent: the process that started this one; when it is gone, this one ends. None for no matter.

    Raises:
        RunStopped: when asked to stop; the current job has saved, and is resumed in the next call.
    """
    plan = read_plan(folder)
    os.chdir(plan.working_folder)
    begun = 0
    with StopSignals(echoes=1) as signals, sweep_log(folder):
        signals.wait = True
        ledger = Ledger(plan, session)
        while parent is None or os.getppid() == parent:
            signals.wait = True  # from the claim on, until a stop can be recorded
            signals.heed()
            claim = ledger.claim()
            if claim is None:
                signals.heed()
                break
            begun += 1
            try:
                _do(ledger, claim, parent, signals)
            finally:
                claim.lock.release()
    return begun


def _do(ledger: Ledger, claim: Claim, parent: int | None, signals: StopSignals) -> None:
    plan, started, number = ledger.plan, time.monotonic(), claim.number + 1
    words = "".join(f", {word}" for word in claim.overrides)
    again = f" once more, after: {claim.before}" if claim.before else ""
    log.info("Trial %d of %d%s%s.", number, plan.n_trials, words, again)
    status = 0
    try:
        config_hash, same = prepare(ledger, claim)  # while signals wait: OmegaConf, interrupted, may raise an error instead
        signals.wait = False
        signals.heed()
        if same is None and not (claim.folder / OUTCOME).is_file():
            status = _train(claim, plan, parent, signals)
        signals.wait = True  # until what came of it is entered
    except (RunStopped, KeyboardInterrupt) as stop:
        reason = str(stop) or "stopped by SIGINT"
        ledger.fail(claim, reason, killed=True, seconds=time.monotonic() - started)
        log.warning("Trial %d: %s; the next go takes it up.", number, reason)
        raise
    except (ValueError, OSError) as error:
        _crashed(ledger, claim, str(error), time.monotonic() - started)
        return
    seconds, outcome = time.monotonic() - started, files.read_json(claim.folder / OUTCOME)
    if same is not None:
        log.info("Trial %d: the same config as %s, whose figures it has.", number, same.folder)
        ledger.settle(claim, {"state": "done", "figures": dict(same.figures)}, 0.0, config_hash, str(same.folder))
    elif outcome:
        ledger.settle(claim, outcome, seconds, config_hash)
        figures = ", ".join(f"{name} {outcome['figures'][name]:.4g}" for name in plan.objectives if name in outcome["figures"])
        log.info("Trial %d: %s%s; %.0f s.", number, outcome["state"], f", {figures}" if figures else "", seconds)
    else:
        _crashed(ledger, claim, _reason(claim.folder, status), seconds)


def prepare(ledger: Ledger, claim: Claim) -> tuple[str, Job | None]:
    """Put a job's config into its folder, so that it can be started by `resume=`; return its hash, and a job that has the same."""
    plan = ledger.plan
    names_group = any(word.lstrip("+").startswith("group=") for word in plan.fixed)
    overrides = [*plan.fixed, *claim.overrides, *([] if names_group else [f"group={plan.name}"])]
    # The sweep's command has checked each value, and the ends of each interval: a worker starts without torch.
    config = compose("train", overrides, folder=claim.folder, check_values=False)
    # Where results go does not count.
    trained = {key: value for key, value in config.items() if key not in ("output", "folder", "resume", "group")}
    content = json.dumps(files.moved(trained, str(claim.folder), "run"), sort_keys=True, default=str)
    config_hash = hashlib.sha256(content.encode()).hexdigest()[:16]
    same = ledger.same(config_hash)
    if same is None:
        if not (claim.folder / files.CONFIG).is_file():
            claim.folder.mkdir(parents=True, exist_ok=True)
            files.begin(claim.folder, config)
        tests = plan.settings["test"] == "all"
        SweepJob(plan.storage, plan.name, claim.trial.number, list(plan.objectives), plan.pruner, tests).write(claim.folder)
    return config_hash, same


def _train(claim: Claim, plan: Plan, parent: int | None, signals: StopSignals) -> int:
    """Train in a process of its own, which holds the job's lock too while it lives; return its status.

    Raises:
        RunStopped: when asked to stop, or when the parent is gone; the training has saved and ended.
    """
    signals.wait = True  # until it is known whom to stop
    with (claim.folder / LOG).open("ab") as output:
        process = subprocess.Popen(
            job_command(claim.folder, plan),
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=(claim.lock.descriptor,),
            env=own_environment(),  # a worker's place among SLURM's tasks is none among its job's processes
            start_new_session=True,  # Ctrl-C reaches it through us
        )
    try:
        signals.wait = False
        signals.heed()
        touched = time.monotonic()
        while (status := process.poll()) is None:
            time.sleep(_POLL_S)
            signals.heed()
            if time.monotonic() - touched > _TOUCH_S:
                claim.lock.touch()
                touched = time.monotonic()
            if parent is not None and os.getppid() != parent:
                raise RunStopped(signal.SIGTERM)
        return status
    finally:
        end([process])


def _crashed(ledger: Ledger, claim: Claim, reason: str, seconds: float) -> None:
    log.error("Trial %d failed: %s", claim.number + 1, reason)
    ledger.fail(claim, reason, seconds=seconds)
    if ledger.plan.settings["fail_fast"]:
        ledger.stop()


def _reason(folder: Path, status: int) -> str:
    """Return why a job's process ended without an outcome, from its last words."""
    if status < 0:
        name = signal.Signals(-status).name
        return f"ended by {name}{' (out of memory, often)' if name == 'SIGKILL' else ''}"
    with (folder / LOG).open(encoding="utf-8", errors="replace") as file:
        last = [line.strip() for line in deque(file, _LAST_LINES) if line.strip()]
    errors = [line.removeprefix("error: ") for line in last if line.startswith("error: ")]
    return errors[-1] if errors else f"{last[-1] if last else 'it printed nothing'} (status {status}; see {folder / LOG})"


def main(arguments: Sequence[str]) -> None:
    """Work in a process that a launcher has started."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S")
    parent = os.environ.get(PARENT)
    with StopSignals():
        try:
            work(Path(arguments[0]), arguments[1], parent=int(parent) if parent is not None else None)
        except RunStopped as stop:
            raise SystemExit(128 + stop.signum) from None


if __name__ == "__main__":
    from bcd.sweeps import worker  # under its own name, which the sweep's log goes by

    worker.main(sys.argv[1:])
