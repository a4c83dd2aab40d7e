"""SLURM jobs, by submitit."""

import contextlib
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from bcd.config.ranges import Count, Natural, Positive
from bcd.launchers.command import Command, missing, wait_for

log = logging.getLogger(__name__)


class SubmittedCommand:
    """A command as submitit runs it. When SLURM preempts it, it is stopped and requeued, and continues where it was."""

    def __init__(self, command: Command) -> None:
        self.command = command
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        """Run the command; return its exit status."""
        # SLURM sends its warning to all processes of a job; it is for this one.
        before = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        self._process = self.command.start()
        signal.signal(signal.SIGUSR2, before)
        return wait_for(self._process)

    def checkpoint(self) -> Any:
        """Let the command save and end, and be queued again."""
        from submitit.helpers import DelayedSubmission  # an optional package

        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(ChildProcessError):  # it was waited for already
                os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        return DelayedSubmission(SubmittedCommand(self.command))


class SlurmLauncher:
    """Submits commands, and waits for them; for its options see `conf/launcher/slurm.yaml`."""

    def __init__(
        self,
        workers: Count,
        cluster: Literal["slurm", "local"],
        partition: str | None,
        account: str | None,
        gpus: Natural,
        cpus: Count,
        memory_gb: Positive,
        hours: Positive,
        setup: Sequence[str],
        more: Mapping[str, Any],
        wait: bool,
        dry_run: bool,
    ) -> None:
        self.workers = workers
        self.cluster = cluster
        self.wait = wait
        self.dry_run = dry_run
        directives: dict[str, Any] = {
            "nodes": 1,
            "ntasks_per_node": 1,
            "cpus_per_task": cpus,
            "gpus_per_node": gpus or None,
            "mem": f"{memory_gb:g}GB",
            "time": round(60 * hours),
            "signal_delay_s": 120,
            "partition": partition,
            "account": account,
            "setup": list(setup) or None,
            "additional_parameters": dict(more) or None,
        }
        self.directives = {name: value for name, value in directives.items() if value is not None}

    def run(self, commands: Sequence[Command], logs: Path) -> list[int] | None:
        """Submit commands; return their exit statuses, or None where they are not to be waited for."""
        executor = self._executor(logs)
        with executor.batch():
            jobs = [executor.submit(SubmittedCommand(command)) for command in commands]
        log.info("Submitted %d jobs; their logs: %s", len(jobs), logs)
        if not self.wait:
            return None
        try:
            return [_status(job) for job in jobs]
        except BaseException:
            self._leave(jobs)
            raise

    def describe(self, commands: Sequence[Command], logs: Path) -> str:
        """Return the script that would be submitted."""
        try:
            from submitit.slurm.slurm import _make_sbatch_string  # an optional package
        except ImportError as error:
            raise missing("submitit") from error
        start = f"{sys.executable} -u -m submitit.core._submit {logs}"
        number: dict[str, Any] = {"map_count": len(commands), "array_parallelism": self.workers}
        script = _make_sbatch_string(start, logs, job_name=logs.parent.name, **number, **self.directives)
        return "\n".join([script, "# which runs:", *(f"# {command}" for command in commands)])

    def _executor(self, logs: Path) -> Any:
        try:
            import submitit  # an optional package
        except ImportError as error:
            raise missing("submitit") from error
        if self.cluster == "local":
            local = submitit.LocalExecutor(folder=logs)
            local.update_parameters(timeout_min=self.directives["time"], setup=self.directives.get("setup"))
            return local
        executor = submitit.SlurmExecutor(folder=logs)
        executor.update_parameters(job_name=logs.parent.name, array_parallelism=self.workers, **self.directives)
        return executor

    def _leave(self, jobs: Sequence[Any]) -> None:
        """End jobs of this machine with us; those that SLURM has stay in its queue."""
        if self.cluster == "local":
            for job in jobs:
                job.cancel()
            for job in jobs:
                job.wait()
        else:
            log.warning("SLURM continues its jobs; cancel them with: scancel %s", " ".join(job.job_id for job in jobs))


def _status(job: Any) -> int:
    from submitit.core.utils import FailedJobError, UncompletedJobError  # an optional package

    try:
        return int(job.result())
    except (FailedJobError, UncompletedJobError) as error:
        log.error("A job failed: %s", error)
        return 1
