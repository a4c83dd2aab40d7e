"""Workers as processes of this machine."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bcd.sweeps.launchers import in_a_line, worker_command
from bcd.sweeps.worker import work


class LocalLauncher:
    """Shares cores and GPUs out among processes of this machine.

    Args:
        workers: jobs at a time.
        gpus: numbers of those to share out; `auto` takes all that are visible.
        dry_run: nothing is to be started.

    Raises:
        ValueError: for no worker.
    """

    def __init__(self, workers: int, gpus: str | Sequence[int], dry_run: bool) -> None:
        if workers < 1:
            raise ValueError(f"launcher.workers={workers} must be at least 1.")
        self.workers = workers
        self.gpus = visible_gpus() if isinstance(gpus, str) else [str(number) for number in gpus]
        self.dry_run = dry_run

    @property
    def threads(self) -> int:
        """Return the threads of each worker: its share of the cores."""
        return max(1, len(os.sched_getaffinity(0)) // self.workers)

    def launch(self, folder: Path, session: str) -> bool:
        """Work in this process where one worker is wanted, else in processes of their own."""
        if self.workers == 1:
            work(folder, session)
            return True
        command = [sys.executable, *worker_command(folder, session)[1:], str(os.getpid())]
        processes = [subprocess.Popen(command, env={**os.environ, **share}) for share in self._shares()]
        try:
            for process in processes:
                process.wait()
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait()
        return True

    def shown(self, folder: Path) -> str:
        """Return the command of each worker with its share."""
        command = in_a_line(worker_command(folder, "SESSION"))
        return "\n".join(" ".join([*(f"{name}={value}" for name, value in share.items()), command]) for share in self._shares())

    def _shares(self) -> list[dict[str, str]]:
        """Return the environment of each worker: its threads, its cores, its GPU."""
        cores, each = sorted(os.sched_getaffinity(0)), self.threads
        shares = []
        for number in range(self.workers):
            first = number * each % len(cores)
            share = {"OMP_NUM_THREADS": str(each), "BCD_CORES": ",".join(str(core) for core in cores[first : first + each])}
            if self.gpus:
                share["CUDA_VISIBLE_DEVICES"] = self.gpus[number % len(self.gpus)]
            shares.append(share)
        return shares


def visible_gpus() -> list[str]:
    """Return the GPUs that jobs may use, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name]
    if shutil.which("nvidia-smi") is None:
        return []
    asked = subprocess.run(
        ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"], capture_output=True, text=True, check=False
    )
    return asked.stdout.split() if asked.returncode == 0 else []
