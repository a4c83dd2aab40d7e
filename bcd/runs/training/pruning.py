"""A run as a job of a sweep: it reports its validations to the ledger, ends early if the pruner decides so, writes its outcome."""

import logging
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from bcd.data.datamodule import UltrasoundDataModule
from bcd.runs import folder as files
from bcd.runs.hardware import Hardware
from bcd.runs.testing.scoring import score_part
from bcd.runs.training.sweep_job import OUTCOME, SweepJob, make_pruner, open_storage
from bcd.tasks.base import BaseTask
from bcd.tasks.checkpoint import load_checkpoint

log = logging.getLogger(__name__)

_REPEATS = 20


class Pruning(Callback):
    """Reports each validation to the ledger, and ends the training if its pruner decides so.

    Args:
        job: with a pruner and one objective, the log key that is reported.

    Attributes:
        pruned: the training was ended.
    """

    def __init__(self, job: SweepJob) -> None:
        self.job = job
        self.pruned = False
        self._validations = 0
        self._trial: Any = None
        self._reported: set[int] = set()

    def state_dict(self) -> dict[str, Any]:
        """Return how many validations there have been: a resumed job counts on."""
        return {"validations": self._validations, "pruned": self.pruned}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Count on."""
        self._validations, self.pruned = state_dict["validations"], state_dict["pruned"]

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report, and ask; one process does for all."""
        value = trainer.callback_metrics.get(self.job.objectives[0])
        if trainer.sanity_checking or value is None:
            return
        self._validations += 1
        ends = False
        if trainer.is_global_zero and torch.isfinite(value):
            trial = self._opened_trial()
            if self._validations not in self._reported:
                trial.report(float(value), self._validations)
            ends = bool(trial.should_prune())
        self.pruned = bool(trainer.strategy.broadcast(ends))
        trainer.should_stop = trainer.should_stop or self.pruned

    def _opened_trial(self) -> Any:
        if self._trial is None:
            import optuna  # late: a run of its own needs none of it

            pruner = make_pruner(**self.job.pruner or {})
            study = optuna.load_study(study_name=self.job.study, storage=open_storage(self.job.storage), pruner=pruner)
            known = study.get_trials(deepcopy=False)[self.job.number]
            self._reported = set(known.intermediate_values)  # by an attempt before
            self._trial = optuna.Trial(study, known._trial_id)
        return self._trial


def write_pruned(folder: Path) -> None:
    """Write the outcome of a job that its pruner has ended."""
    files.write_json(folder / OUTCOME, {"state": "pruned", "figures": best_figures(folder)})
    log.info("The sweep's pruner has ended this job.")


def write_outcome(
    job: SweepJob,
    config: Mapping[str, Any],
    folder: Path,
    datamodule: UltrasoundDataModule,
    hardware: Hardware,
    training: dict[str, Any],
) -> None:
    """Score the validation cases one by one, so that the sweep can give its leaders intervals, and write the job's outcome."""
    task, preprocess, _ = load_checkpoint(files.best_checkpoint(folder), hardware.device, config["trusted"])
    if not (folder / files.VALIDATION).is_file():
        datamodule.setup("validate")
        cases = score_part(task, datamodule, "valid", preprocess).cases
        files.write_text(folder / files.VALIDATION, cases.to_csv(index=False))
    figures = {**best_figures(folder), **{name: float(training[name]) for name in ("parameters", "train_seconds")}}
    if "latency_ms" in job.objectives:
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
    times = []
    for _ in range(_REPEATS + 3):
        start = time.perf_counter()
        task.eval().infer(batch)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times[3:])
