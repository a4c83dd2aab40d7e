"""A run as a job of a sweep: it tells the ledger its validation figures, ends early where the pruner says so, and leaves its outcome.

What the job needs stands in its folder, in `trial.json`; without that file nothing here does anything.
"""

import logging
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from filelock import FileLock
from lightning.pytorch import Callback, LightningModule, Trainer

from bcd.data.datamodule import UltrasoundDataModule
from bcd.runs import files
from bcd.runs.hardware import Hardware
from bcd.runs.scoring import score_part
from bcd.tasks.base import BaseTask
from bcd.tasks.checkpoint import load_checkpoint

log = logging.getLogger(__name__)

TRIAL = "trial.json"
OUTCOME = "outcome.json"
# What a job can be judged by besides its validation figures; less is better.
COSTS = ("latency_ms", "parameters", "train_seconds")
_REPEATS = 20


@dataclass(frozen=True)
class Trial:
    """What a job knows of its sweep.

    Args:
        storage: of the ledger, as `open_storage` takes it.
        study: its name there.
        number: this attempt's, there.
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
        files.write_json(folder / TRIAL, asdict(self))


def read_trial(folder: Path) -> Trial | None:
    """Return what a run's folder says of its sweep; None where it belongs to none."""
    content = files.read_json(folder / TRIAL)
    return Trial(**content) if content else None


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
    with _mended(Path(where)):
        return optuna.storages.JournalStorage(JournalFileBackend(where, lock_obj=_KernelLock(where)))


class _KernelLock:
    """Lets one process at a time write a journal; the system frees it after a kill, where a lock file of Optuna's would stay."""

    def __init__(self, path: str) -> None:
        self._lock = FileLock(f"{path}.lock")

    def acquire(self) -> bool:
        self._lock.acquire()
        return True

    def release(self) -> None:
        self._lock.release()


@contextmanager
def _mended(path: Path) -> Iterator[None]:
    """Cut a last line off that a kill or a full disk left unfinished; it would spoil the next one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if path.is_file():
            content = path.read_bytes()
            whole = content.rfind(b"\n") + 1
            if whole < len(content):
                log.warning("%s ended in the middle of a line, which was cut off.", path)
                with path.open("r+b") as file:
                    file.truncate(whole)
        yield


def make_pruner(kind: str, least: int, reduction: int) -> Any:
    """Return Optuna's pruner.

    Args:
        kind: `none`; `asha` (asynchronous successive halving, Li et al., MLSys 2020), `hyperband`, or `median`.
        least: validations that every job gets.
        reduction: of so many jobs one goes on at each rung.
    """
    from optuna import pruners

    if kind == "asha":
        return pruners.SuccessiveHalvingPruner(min_resource=least, reduction_factor=reduction)
    if kind == "hyperband":
        return pruners.HyperbandPruner(min_resource=least, reduction_factor=reduction)
    if kind == "median":
        return pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=least)
    return pruners.NopPruner()


class Pruning(Callback):
    """Reports each validation to the ledger, and ends the training where its pruner says so.

    Args:
        trial: the job's, with a pruner and one objective, the log key that is reported.

    Attributes:
        pruned: the training was ended.
    """

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.pruned = False
        self._validations = 0
        self._reported: set[int] = set()
        self._ledger: Any = None

    def state_dict(self) -> dict[str, Any]:
        """Return how many validations there have been: a resumed job counts on."""
        return {"validations": self._validations, "pruned": self.pruned}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Count on."""
        self._validations, self.pruned = state_dict["validations"], state_dict["pruned"]

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report, and ask; one process does for all."""
        value = trainer.callback_metrics.get(self.trial.objectives[0])
        if trainer.sanity_checking or value is None:
            return
        self._validations += 1
        ends = trainer.is_global_zero and bool(torch.isfinite(value)) and self._ends(float(value))
        self.pruned = bool(trainer.strategy.broadcast(ends))
        trainer.should_stop = trainer.should_stop or self.pruned

    def _ends(self, value: float) -> bool:
        if self._ledger is None:
            self._open()
        if self._validations not in self._reported:
            self._ledger.report(value, self._validations)
        return bool(self._ledger.should_prune())

    def _open(self) -> None:
        import optuna

        pruner = make_pruner(**self.trial.pruner or {})
        study = optuna.load_study(study_name=self.trial.study, storage=open_storage(self.trial.storage), pruner=pruner)
        known = study.get_trials(deepcopy=False)[self.trial.number]
        self._reported = set(known.intermediate_values)
        self._ledger = optuna.trial.Trial(study, known._trial_id)


def leave_pruned(folder: Path) -> None:
    """Write the outcome of a job that its pruner has ended."""
    files.write_json(folder / OUTCOME, {"state": "pruned", "figures": best_figures(folder)})
    log.info("The sweep's pruner has ended this job.")


def leave_outcome(
    trial: Trial, config: Mapping[str, Any], folder: Path, datamodule: UltrasoundDataModule, hardware: Hardware, training: dict[str, Any]
) -> None:
    """Score the validation cases one by one, so that the sweep can give its leaders intervals, and write the job's outcome."""
    task, preprocess, _ = load_checkpoint(files.best_checkpoint(folder), hardware.device, config["trusted"])
    if not (folder / files.VALIDATION).is_file():
        datamodule.setup("validate")
        cases = score_part(task, datamodule, "valid", preprocess).cases
        files.write_text(folder / files.VALIDATION, cases.to_csv(index=False))
    figures = {**best_figures(folder), **{name: float(training[name]) for name in ("parameters", "train_seconds")}}
    if "latency_ms" in trial.objectives:
        figures["latency_ms"] = _latency_ms(task, config["preprocess"]["size"])
    files.write_json(folder / OUTCOME, {"state": "done", "figures": figures})


def best_figures(folder: Path) -> dict[str, float]:
    """Return the validation figures of a run's best epoch by name; none where it has not validated."""
    path = folder / "history.csv"
    table = pd.read_csv(path) if path.is_file() else pd.DataFrame()
    if "best" not in table or not table["best"].any():
        return {}
    row = table[table["best"]].iloc[0]
    return {str(name): float(value) for name, value in row.items() if str(name).startswith("val/") and pd.notna(value)}


@torch.no_grad()
def _latency_ms(task: BaseTask, size: int) -> float:
    """Return the time that the network takes for one image, in milliseconds, the median of some; its weights do not matter."""
    device = next(task.parameters()).device
    image, guide = torch.zeros(2, 1, 1, size, size, device=device)
    batch: Any = {"image": image, "guide": guide}
    taken = []
    for _ in range(_REPEATS + 3):
        start = time.perf_counter()
        task.eval().infer(batch)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(1000 * (time.perf_counter() - start))
    return statistics.median(taken[3:])
