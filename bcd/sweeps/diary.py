"""`sweep.log` in a sweep's folder: what its processes, on whatever machine, have started, gone on with, stopped and seen fail."""

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DIARY = "sweep.log"


class _Diary(logging.FileHandler):
    """A file that any number of processes append lines to."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / DIARY, encoding="utf-8")
        self.setFormatter(logging.Formatter(f"%(asctime)s {socket.gethostname()} %(process)d %(levelname)s %(message)s"))


@contextmanager
def diary(folder: Path) -> Iterator[None]:
    """Write down what the sweep's own code says; once, where a process is both driver and worker."""
    ours = logging.getLogger(__package__)
    if any(isinstance(handler, _Diary) for handler in ours.handlers):
        yield
        return
    handler, level = _Diary(folder), ours.level
    ours.addHandler(handler)
    if not ours.isEnabledFor(logging.INFO):  # in a process of Ray's, say
        ours.setLevel(logging.INFO)
    try:
        yield
    finally:
        ours.removeHandler(handler)
        ours.setLevel(level)
        handler.close()
