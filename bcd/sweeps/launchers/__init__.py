"""Where the workers of a sweep run. Each is one file here and one YAML in `conf/launcher/`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol


class Launcher(Protocol):
    """Starts workers (`bcd.sweeps.worker`), and waits for them.

    Attributes:
        dry_run: nothing is to be started.
    """

    dry_run: bool

    def launch(self, folder: Path, session: str) -> bool:
        """Start the workers of a sweep; return whether they have ended, and not merely been handed over to a queue."""
        ...

    def shown(self, folder: Path) -> str:
        """Return what would be started, as text."""
        ...


def missing(package: str) -> RuntimeError:
    """Return the error for a package that is not installed."""
    return RuntimeError(
        f"This launcher needs {package}, which is not installed: pip install 'bcd[cluster]', or pip install {package}."
    )


def worker_command(folder: Path, session: str) -> list[str]:
    """Return what starts a worker."""
    return ["python", "-m", "bcd.sweeps.worker", str(folder), session]


def in_a_line(words: Sequence[str]) -> str:
    """Return a command as it is typed."""
    import shlex

    return shlex.join(words)
