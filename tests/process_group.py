"""Trainings of several processes, as torchrun would start them, without the seconds that each would take to import torch."""

import multiprocessing
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bcd.config import compose

# A child comes from a server that has imported everything once.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["bcd.runs.training.fit", "bcd.runs.training.train", "bcd.config"])

TINY = [
    "data.source.n_images=45",
    "+data.source.views=1",  # nine validation cases: they divide by no number of processes
    "preprocess.size=32",
    "batch_size=4",
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",
    "trainer.max_epochs=2",
    "logger=[csv]",
    "limit_test=2",
]


def _one(config: dict[str, Any], folder: Path, environment: Mapping[str, str], stop_at_step: int | None) -> None:
    """Train as one of the processes; end with status 143 after a step if asked to."""
    os.environ.update(environment)
    import signal

    import torch

    import bcd.runs.training.resume as resume
    from bcd.runs.training.train import train

    torch.set_num_threads(1)
    sys.stderr = (folder.parent / f"{folder.name}-{environment.get('RANK', 0)}.log").open("a")
    ends = resume.ResumePoint.on_train_batch_end

    def end_batch(self: resume.ResumePoint, trainer: Any, *others: Any) -> None:
        if trainer.global_step == stop_at_step:
            self.signals.requested = signal.SIGTERM
        ends(self, trainer, *others)

    if stop_at_step is not None:
        resume.ResumePoint.on_train_batch_end = end_batch  # type: ignore[method-assign]
    train(config, folder)


def free_port() -> int:
    """Return a port of this machine that nobody listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def train_together(folder: Path, overrides: list[str], nodes: int = 1, each: int = 1, stop_at_step: int | None = None) -> None:
    """Train in `nodes` times `each` processes of this machine, and wait for all of them.

    Args:
        folder: the run's.
        overrides: as on the command line.
        nodes: machines that are simulated.
        each: processes of each.
        stop_at_step: ask the run to save and end after this step; None lets it finish.

    Raises:
        AssertionError: when one ends otherwise than it should.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    world = nodes * each
    config = compose("train", [*overrides, f"trainer.devices={each}", f"trainer.num_nodes={nodes}"], folder)
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(world), "TORCHELASTIC_RUN_ID": "test"}
    processes = []
    for rank in range(world):
        place = {"RANK": rank, "LOCAL_RANK": rank % each, "GROUP_RANK": rank // each, "LOCAL_WORLD_SIZE": each}
        environment = {**meeting, **{name: str(value) for name, value in place.items()}} if world > 1 else {}
        processes.append(SERVER.Process(target=_one, args=(config, folder, environment, stop_at_step)))
        processes[-1].start()
    for process in processes:
        process.join()
    wanted = 0 if stop_at_step is None else 143
    said = "".join(path.read_text() for path in sorted(folder.parent.glob(f"{folder.name}-*.log")))
    assert [process.exitcode for process in processes] == [wanted] * world, said
