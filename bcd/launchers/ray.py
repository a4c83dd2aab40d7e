"""Tasks of a Ray cluster."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bcd.config.ranges import Count, NotNegative, Positive
from bcd.launchers.command import Command, missing


class RayLauncher:
    """Runs commands as Ray tasks; the cluster's machines share the folders that the commands name.

    For its options see `conf/launcher/ray.yaml`.
    """

    def __init__(self, workers: Count, address: str | None, cpus: Positive, gpus: NotNegative, dry_run: bool) -> None:
        self.workers = workers
        self.address = address
        self.cpus = cpus
        self.gpus = gpus
        self.dry_run = dry_run

    def run(self, commands: Sequence[Command], logs: Path) -> list[int]:
        """Run commands, and return their exit statuses; a task that is lost with its machine is started again."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to Ray's makers
        try:
            import ray  # an optional package
        except ImportError as error:
            raise missing("ray") from error
        ray.init(address=self.address, include_dashboard=False if self.address is None else None, log_to_driver=True)
        waiting, statuses = list(enumerate(commands)), [0] * len(commands)
        running: dict[Any, int] = {}
        try:
            task = ray.remote(num_cpus=self.cpus, num_gpus=self.gpus, max_retries=3)(Command.run)
            while waiting or running:
                while waiting and len(running) < self.workers:
                    number, command = waiting.pop(0)
                    running[task.remote(command)] = number
                for ended in ray.wait(list(running))[0]:
                    statuses[running.pop(ended)] = ray.get(ended)
        finally:
            ray.shutdown()
        return statuses

    def describe(self, commands: Sequence[Command], logs: Path) -> str:
        """Return what Ray would run."""
        where = self.address or "a cluster of this machine"
        lines = [f"ray on {where}, {self.workers} tasks at a time of {self.cpus:g} CPUs and {self.gpus:g} GPUs:"]
        return "\n".join([*lines, *map(str, commands)])
