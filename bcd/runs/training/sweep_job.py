"""What a run knows about its sweep, in `trial.json` in its folder, and how it finds the ledger.

Apart from `pruning`, which imports torch and Lightning: the workers of a sweep train nothing themselves, and start at once.
"""

import logging
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from bcd.runs import folder as files

log = logging.getLogger(__name__)

OUTCOME = "outcome.json"
_FILE = "trial.json"
# What a job can be judged by besides its validation figures; less is better.
COSTS = ("latency_ms", "parameters", "train_seconds")


@dataclass(frozen=True)
class SweepJob:
    """What a job knows of its sweep.

    Args:
        storage: of the ledger, as `open_storage` takes it.
        study: its name there.
        number: of the job's trial there.
        objectives: names of what the sweep judges by, `val/dice` or one of COSTS.
        pruner: as `make_pruner` takes it; None where nothing is pruned.
        tests: test on the test fold at the end.
    """

    storage: str
    study: str
    number: int
    objectives: list[str]
    pruner: dict[str, Any] | None
    tests: bool

    def write(self, folder: Path) -> None:
        """Put it into a job's folder."""
        files.write_json(folder / _FILE, asdict(self))


def read_sweep_job(folder: Path) -> SweepJob | None:
    """Return the sweep of a run's folder; None where it belongs to none."""
    content = files.read_json(folder / _FILE)
    return SweepJob(**content) if content else None


def open_storage(where: str) -> Any:
    """Return the storage of a ledger.

    Args:
        where: path of a journal, or the URL of a database: `sqlite:///sweep.db`, `postgresql://...`.
    """
    import optuna  # late: a run of its own needs none of it
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if "://" in where:
        return optuna.storages.RDBStorage(where)
    _mend(Path(where))
    # The system frees this lock after a kill, where a lock file of Optuna's would stay.
    lock: Any = FileLock(f"{where}.lock")
    return optuna.storages.JournalStorage(JournalFileBackend(where, lock_obj=lock))


def _mend(path: Path) -> None:
    """Cut a last line off that a kill or a full disk left unfinished; it would spoil the next one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        content = path.read_bytes() if path.is_file() else b""
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            log.warning("%s ended in the middle of a line, which was cut off.", path)
            os.truncate(path, whole)


def make_pruner(kind: str, least: int, reduction: int) -> Any:
    """Return Optuna's pruner.

    Args:
        kind: `none`; `asha` (asynchronous successive halving, Li et al., MLSys 2020), `hyperband`, or `median`.
        least: validations that every job gets.
        reduction: of so many jobs one continues at each rung.
    """
    from optuna import pruners

    if kind == "asha":
        return pruners.SuccessiveHalvingPruner(min_resource=least, reduction_factor=reduction)
    if kind == "hyperband":
        return pruners.HyperbandPruner(min_resource=least, reduction_factor=reduction)
    if kind == "median":
        return pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=least)
    return pruners.NopPruner()
