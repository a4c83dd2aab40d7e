"""Workers on a Ray cluster."""

import os
from pathlib import Path

from bcd.sweeps.launchers import in_a_line, missing, worker_command
from bcd.sweeps.worker import main


class RayLauncher:
    """Runs workers as Ray tasks.

    Args:
        workers: jobs at a time.
        address: of the cluster; None starts one on this machine, which ends with the sweep.
        cpus: of each worker.
        gpus: of each worker.
        dry_run: nothing is to be started.
    """

    def __init__(self, workers: int, address: str | None, cpus: float, gpus: float, dry_run: bool) -> None:
        self.workers = workers
        self.address = address
        self.cpus = cpus
        self.gpus = gpus
        self.dry_run = dry_run

    def launch(self, folder: Path, session: str) -> bool:
        """Work in as many Ray tasks; a task that is lost with its machine is started anew."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
        try:
            import ray
        except ImportError as error:
            raise missing("ray") from error
        ray.init(address=self.address, include_dashboard=False if self.address is None else None, log_to_driver=True)
        try:
            task = ray.remote(num_cpus=self.cpus, num_gpus=self.gpus, max_retries=3)(main)
            ray.get([task.remote([str(folder), session]) for _ in range(self.workers)])
        finally:
            ray.shutdown()
        return True

    def shown(self, folder: Path) -> str:
        """Return what Ray would run."""
        where = self.address or "a cluster of this machine"
        command = in_a_line(worker_command(folder, "SESSION"))
        return f"ray on {where}, {self.workers} tasks of {self.cpus:g} CPUs and {self.gpus:g} GPUs: {command}"
