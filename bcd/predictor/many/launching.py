"""Starting the workers of a sharded prediction: processes of this machine, SLURM jobs, or Ray tasks.

A worker is the command itself, told to take whichever shards are free; so a launcher only starts commands and waits for them.
"""

import logging
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

# Set for workers: they neither launch others nor let broken files be tried again.
WORKER = "BCD_PREDICT_WORKER"
# Small enough that the last worker is not waited for long, and that little is done twice after a kill.
SHARDS_A_WORKER = 4


class Worker:
    """A command as submitit and Ray run it; SLURM queues it again when it preempts it, and it goes on where it was.

    Args:
        command: words of the command.
        folder: to run it in.
        threads: for torch; None for as many as it takes.
    """

    def __init__(self, command: Sequence[str], folder: str, threads: int | None = None) -> None:
        self.command = list(command)
        self.folder = folder
        self.threads = threads

    def __call__(self) -> int:
        """Run the command; return its exit status.

        Raises:
            RuntimeError: when it failed.
        """
        status = self.start().wait()
        if status:
            raise RuntimeError(f"A worker ended with status {status}; its log says why: {shlex.join(self.command)}")
        return status

    def start(self) -> "subprocess.Popen[bytes]":
        """Start the command."""
        threads = {} if self.threads is None else {"OMP_NUM_THREADS": str(self.threads)}
        return subprocess.Popen(self.command, cwd=self.folder, env={**os.environ, **threads, WORKER: "1"})

    def checkpoint(self) -> Any:
        """Be queued again as it is: the ledger knows what is done."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def worker_command(overrides: Sequence[str], shards: int) -> list[str]:
    """Return the command of a worker: the one that was given, without a launcher.

    Args:
        overrides: of the command line that launches.
        shards: how many there are.
    """
    own = [word for word in overrides if word.partition("=")[0].partition(".")[0].lstrip("+") not in _NOT_FOR_WORKERS]
    return [sys.executable, "-m", "bcd", "predict", *own, f"shards={shards}"]


_NOT_FOR_WORKERS = ("launcher", "predict_launcher@launcher", "shards", "shard")


def launch(launcher: Mapping[str, Any], command: Sequence[str], output: Path) -> bool:
    """Start workers; return whether they have ended, and not merely been handed over to a queue.

    Args:
        launcher: `conf/predict_launcher/`.
        command: of each worker.
        output: logs of SLURM go below.

    Raises:
        ImportError: when the launcher's package is not installed.
        RuntimeError: when workers failed; what they did is kept.
    """
    starts = {"local": _launch_local, "slurm": _launch_slurm, "ray": _launch_ray}
    return starts[launcher["kind"]](launcher, command, output)


def shown(launcher: Mapping[str, Any], command: Sequence[str], output: Path) -> str:
    """Return what `launch` would start: the commands, or the script that SLURM would get."""
    if launcher["kind"] == "local":
        return "\n".join(f"OMP_NUM_THREADS={_threads(launcher)} {shlex.join(command)}" for _ in range(launcher["workers"]))
    if launcher["kind"] == "ray":
        where, needs = launcher["address"] or "a cluster of this machine", f"{launcher['cpus']:g} CPUs, {launcher['gpus']:g} GPUs"
        return f"ray on {where}, {launcher['workers']} tasks of {needs}: {shlex.join(command)}"
    _require("submitit", "slurm")
    from submitit.slurm.slurm import _make_sbatch_string

    folder = output / "shards" / "slurm"
    submitted = f"{sys.executable} -u -m submitit.core._submit {folder}"
    script = _make_sbatch_string(submitted, folder, map_count=launcher["workers"], job_name="bcd-predict", **_directives(launcher))
    return f"{script}\n# each task runs: {shlex.join(command)}"


def _launch_local(launcher: Mapping[str, Any], command: Sequence[str], output: Path) -> bool:
    worker = Worker(command, str(Path.cwd()), _threads(launcher))
    processes = [worker.start() for _ in range(launcher["workers"])]
    try:
        statuses = [process.wait() for process in processes]
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()
    if any(statuses):
        log.warning("%d of %d workers failed.", sum(map(bool, statuses)), len(statuses))
    if all(statuses):
        raise RuntimeError(f"All {len(statuses)} workers failed (status {statuses[0]}); what they did is kept in {output}.")
    return True


def _launch_slurm(launcher: Mapping[str, Any], command: Sequence[str], output: Path) -> bool:
    _require("submitit", "slurm")
    import submitit

    folder = output / "shards" / "slurm"
    if launcher["cluster"] == "local":
        executor: Any = submitit.LocalExecutor(folder=folder)
        executor.update_parameters(timeout_min=round(60 * launcher["hours"]), setup=list(launcher["setup"]) or None)
    else:
        executor = submitit.SlurmExecutor(folder=folder)
        executor.update_parameters(job_name="bcd-predict", **_directives(launcher))
    with executor.batch():
        jobs = [executor.submit(Worker(command, str(Path.cwd()))) for _ in range(launcher["workers"])]
    log.info("Submitted %d jobs; their logs: %s", len(jobs), folder)
    if launcher["wait"]:
        for job in jobs:
            job.result()
    return bool(launcher["wait"])


def _launch_ray(launcher: Mapping[str, Any], command: Sequence[str], output: Path) -> bool:
    _require("ray", "ray")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
    import ray

    ray.init(address=launcher["address"], include_dashboard=False if launcher["address"] is None else None)
    try:
        task = ray.remote(num_cpus=launcher["cpus"], num_gpus=launcher["gpus"], max_retries=3)(_run)
        ray.get([task.remote(list(command), str(Path.cwd())) for _ in range(launcher["workers"])])
    finally:
        ray.shutdown()
    return True


def _run(command: Sequence[str], folder: str) -> int:
    return Worker(command, folder)()


def _directives(launcher: Mapping[str, Any]) -> dict[str, Any]:
    wanted = {
        "nodes": 1,
        "ntasks_per_node": 1,
        "cpus_per_task": launcher["cpus"],
        "gpus_per_node": launcher["gpus"] or None,
        "mem": f"{launcher['memory_gb']:g}GB",
        "time": round(60 * launcher["hours"]),
        "signal_delay_s": 120,
        "partition": launcher["partition"],
        "account": launcher["account"],
        "setup": list(launcher["setup"]) or None,
        "additional_parameters": dict(launcher["more"]) or None,
    }
    return {name: value for name, value in wanted.items() if value is not None}


def _threads(launcher: Mapping[str, Any]) -> int:
    return max(1, len(os.sched_getaffinity(0)) // launcher["workers"])


def _require(package: str, kind: str) -> None:
    import importlib.util

    if importlib.util.find_spec(package) is None:
        raise ImportError(f"launcher={kind} needs the package {package}, which is not installed; install it, or bcd[cluster].")
