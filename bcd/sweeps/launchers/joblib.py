"""Workers by joblib."""

from pathlib import Path

from bcd.sweeps.launchers import in_a_line, worker_command
from bcd.sweeps.worker import main


class JoblibLauncher:
    """Runs workers in joblib's processes (loky).

    Args:
        workers: jobs at a time.
        dry_run: nothing is to be started.
    """

    def __init__(self, workers: int, dry_run: bool) -> None:
        self.workers = workers
        self.dry_run = dry_run

    def launch(self, folder: Path, session: str) -> bool:
        """Work in as many processes."""
        from joblib import Parallel, delayed

        Parallel(n_jobs=self.workers, backend="loky")(delayed(main)([str(folder), session]) for _ in range(self.workers))
        return True

    def shown(self, folder: Path) -> str:
        """Return what joblib would run."""
        return f"joblib, {self.workers} processes: {in_a_line(worker_command(folder, 'SESSION'))}"
