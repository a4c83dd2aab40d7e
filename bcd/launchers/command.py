"""What a launcher starts: command lines, each in a process of its own."""

import os
import shlex
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bcd.config.processes import own_environment

# The process that started a command; a worker may end when that one is gone.
PARENT = "BCD_PARENT_PROCESS"
POLL_S = 0.2


@dataclass(frozen=True)
class Command:
    """A command line, and what it runs with.

    Args:
        words: the program and its arguments.
        environment: variables on top of those of the process that starts it.
        log: its output is appended there; None for where the starting process's own goes.
        folder: to run in.
    """

    words: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    log: Path | None = None
    folder: Path = field(default_factory=Path.cwd)

    def __str__(self) -> str:
        return shlex.join([*(f"{name}={value}" for name, value in self.environment.items()), *self.words])

    def start(self, more: Mapping[str, str] | None = None) -> "subprocess.Popen[bytes]":
        """Start it, with further variables; Ctrl-C reaches it only through the process that starts it."""
        environment = {**own_environment(), **self.environment, **(more or {}), PARENT: str(os.getpid())}
        output = self.log.open("ab") if self.log is not None else None
        try:
            return subprocess.Popen(
                self.words,
                cwd=self.folder,
                env=environment,
                stdout=output,
                stderr=None if output is None else subprocess.STDOUT,
                start_new_session=True,
            )
        finally:
            if output is not None:
                output.close()

    def run(self) -> int:
        """Run it to its end; return its exit status."""
        return wait_for(self.start())


class Launcher(Protocol):
    """Runs commands, at most `workers` at a time.

    Attributes:
        workers: commands at a time.
        dry_run: nothing is to be started.
    """

    workers: int
    dry_run: bool

    def run(self, commands: Sequence[Command], logs: Path) -> list[int] | None:
        """Run commands, and return their exit statuses; None where they were left to a queue.

        Args:
            commands: in the order in which they are started.
            logs: folder for what the launcher itself writes; its parent's name is what a queue shows.
        """
        ...

    def describe(self, commands: Sequence[Command], logs: Path) -> str:
        """Return what would be started, as text."""
        ...


def wait_for(process: "subprocess.Popen[bytes]") -> int:
    """Return a process's exit status once it has ended; where this process is interrupted, end it first."""
    try:
        while (status := process.poll()) is None:
            time.sleep(POLL_S)  # and no wait(), whose lock a signal handler would find taken
        return status
    finally:
        end([process])


def end(processes: Iterable["subprocess.Popen[bytes]"]) -> None:
    """Ask processes that still run to end, and wait until they have."""
    alive = [process for process in processes if process.poll() is None]
    for process in alive:
        process.terminate()
    for process in alive:
        process.wait()


def missing(package: str) -> RuntimeError:
    """Return the error for a package that is not installed."""
    return RuntimeError(
        f"This launcher needs {package}, which is not installed: pip install 'bcd[cluster]', or pip install {package}."
    )
