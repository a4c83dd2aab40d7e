"""Workers as SLURM jobs, by submitit."""

import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bcd.runs.signals import RunStopped
from bcd.sweeps import worker
from bcd.sweeps.launchers import missing

log = logging.getLogger(__name__)


class SlurmWorker:
    """A worker as submitit runs it. When SLURM preempts it, its run saves, and it is queued again: the next one goes on there."""

    def __call__(self, folder: str, session: str) -> None:
        """Work until nothing is left."""
        worker.main([folder, session])

    def checkpoint(self, folder: str, session: str) -> Any:
        """Let the run at hand save and end, and be queued again."""
        from submitit.helpers import DelayedSubmission

        worker.stop_jobs()
        return DelayedSubmission(SlurmWorker(), folder, session)


class SlurmLauncher:
    """Submits workers, and waits for them.

    Args:
        workers: SLURM jobs.
        cluster: `slurm`, or `local` for processes of this machine under the same care.
        partition: of the cluster.
        account: that pays.
        gpus: of each worker.
        cpus: of each worker.
        memory_gb: of each worker.
        hours: time limit of each worker.
        setup: shell lines before it.
        more: further directives of sbatch.
        wait: stay until they have ended.
        dry_run: nothing is to be submitted.
    """

    def __init__(
        self,
        workers: int,
        cluster: str,
        partition: str | None,
        account: str | None,
        gpus: int,
        cpus: int,
        memory_gb: float,
        hours: float,
        setup: Sequence[str],
        more: Mapping[str, Any],
        wait: bool,
        dry_run: bool,
    ) -> None:
        self.workers = workers
        self.cluster = cluster
        self.wait = wait
        self.dry_run = dry_run
        own = {
            "partition": partition,
            "account": account,
            "setup": list(setup) or None,
            "additional_parameters": dict(more) or None,
        }
        self.parameters: dict[str, Any] = {
            "nodes": 1,
            "ntasks_per_node": 1,
            "cpus_per_task": cpus,
            "gpus_per_node": gpus or None,
            "mem": f"{memory_gb:g}GB",
            "time": round(60 * hours),
            "signal_delay_s": 120,
            **own,
        }

    def launch(self, folder: Path, session: str) -> bool:
        """Submit the workers; wait for them unless told otherwise."""
        executor = self._executor(folder)
        with executor.batch():
            jobs = [executor.submit(SlurmWorker(), str(folder), session) for _ in range(self.workers)]
        try:
            for job in jobs if self.wait else ():
                job.wait()
        except RunStopped:
            self._leave(jobs)
            raise
        return self.wait

    def _leave(self, jobs: Sequence[Any]) -> None:
        """End workers of this machine with us; those that SLURM has stay in its queue."""
        if self.cluster == "local":
            for job in jobs:
                job.cancel()
            for job in jobs:
                job.wait()
        else:
            log.warning("SLURM goes on with its jobs; end them by: scancel %s", " ".join(job.job_id for job in jobs))

    def shown(self, folder: Path) -> str:
        """Return the script that would be submitted."""
        try:
            from submitit.slurm.slurm import _make_sbatch_string
        except ImportError as error:
            raise missing("submitit") from error
        given = {name: value for name, value in self.parameters.items() if value is not None}
        command = f"{sys.executable} -u -m submitit.core._submit {folder / 'slurm'}"
        return str(_make_sbatch_string(command, folder / "slurm", map_count=self.workers, job_name=folder.name, **given))

    def _executor(self, folder: Path) -> Any:
        try:
            import submitit
        except ImportError as error:
            raise missing("submitit") from error
        if self.cluster == "local":
            local = submitit.LocalExecutor(folder=folder / "slurm")
            local.update_parameters(timeout_min=self.parameters["time"], setup=self.parameters["setup"])
            return local
        executor = submitit.SlurmExecutor(folder=folder / "slurm")
        given = {name: value for name, value in self.parameters.items() if value is not None}
        executor.update_parameters(job_name=folder.name, **given)
        return executor
