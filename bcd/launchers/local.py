"""Processes of this machine."""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from bcd.config.ranges import Count, Natural
from bcd.launchers.command import POLL_S, Command, end


class LocalLauncher:
    """Shares cores and GPUs out among processes of this machine; for its options see `conf/launcher/local.yaml`."""

    def __init__(self, workers: Count, gpus: Literal["auto"] | Sequence[Natural] = "auto", dry_run: bool = False) -> None:
        self.workers = workers
        self.gpus = visible_gpus() if isinstance(gpus, str) else [str(number) for number in gpus]
        self.dry_run = dry_run

    @property
    def threads(self) -> int:
        """Return the threads of each process: its share of the cores."""
        return max(1, len(os.sched_getaffinity(0)) // self.workers)

    def run(self, commands: Sequence[Command], logs: Path) -> list[int]:
        """Run commands, each on its share of the machine, and return their exit statuses."""
        waiting, statuses = list(enumerate(commands)), [0] * len(commands)
        running: dict[int, tuple[int, subprocess.Popen[bytes]]] = {}  # by place among the shares
        try:
            while waiting or running:
                for place in [place for place in range(self.workers) if place not in running][: len(waiting)]:
                    number, command = waiting.pop(0)
                    running[place] = number, self._start(command, place)
                time.sleep(POLL_S)
                for place in [place for place, (_, process) in running.items() if process.poll() is not None]:
                    number, process = running.pop(place)
                    statuses[number] = process.returncode
        finally:
            end(process for _, process in running.values())
        return statuses

    def describe(self, commands: Sequence[Command], logs: Path) -> str:
        """Return each command with its share of the machine."""
        lines = []
        for number, command in enumerate(commands):
            share = self.share(number % self.workers)
            lines.append(" ".join([*(f"{name}={value}" for name, value in share.items()), str(command)]))
        return "\n".join(lines)

    def share(self, place: int) -> dict[str, str]:
        """Return the environment of a process, by its place among those that run: its threads, its GPUs."""
        share = {"OMP_NUM_THREADS": str(self.threads)} if self.workers > 1 else {}
        if self.gpus:
            own = self.gpus[place :: self.workers] or [self.gpus[place % len(self.gpus)]]
            share["CUDA_VISIBLE_DEVICES"] = ",".join(own)
        return share

    def cores(self, place: int) -> list[int]:
        """Return the cores of a process, by its place among those that run."""
        cores, each = sorted(os.sched_getaffinity(0)), self.threads
        first = place * each % len(cores)
        return cores[first : first + each]

    def _start(self, command: Command, place: int) -> "subprocess.Popen[bytes]":
        process = command.start(self.share(place))
        if self.workers > 1:
            with contextlib.suppress(ProcessLookupError):  # it has ended already
                os.sched_setaffinity(process.pid, self.cores(place))
        return process


def visible_gpus() -> list[str]:
    """Return the GPUs that may be used, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name]
    if shutil.which("nvidia-smi") is None:
        return []
    query = subprocess.run(
        ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"], capture_output=True, text=True, check=False
    )
    return query.stdout.split() if query.returncode == 0 else []
