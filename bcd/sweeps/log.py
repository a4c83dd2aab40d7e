"""`sweep.log` in a sweep's folder: what its processes, on whatever machine, have started, gone on with, stopped and seen fail."""

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def sweep_log(folder: Path) -> Iterator[None]:
    """Append what the sweep's own code logs."""
    ours = logging.getLogger(__package__)
    handler = logging.FileHandler(folder / "sweep.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter(f"%(asctime)s {socket.gethostname()} %(process)d %(levelname)s %(message)s"))
    ours.addHandler(handler)
    try:
        yield
    finally:
        ours.removeHandler(handler)
        handler.close()
