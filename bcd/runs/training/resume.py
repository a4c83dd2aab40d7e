"""Stopping and resuming: a run that was killed at any moment and resumed ends with the weights of one that was not.

Three properties ensure this. What a step draws at random follows from seed, epoch and batch, not from what was drawn before. A
point to resume from holds everything that the rest of the training depends on, and is written whole or not at all. And the
data begin again where they stopped.
"""

import csv
import io
import logging
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

from bcd.files import write_bytes
from bcd.runs import folder as files
from bcd.runs.signals import RunStopped, StopSignals
from bcd.sample import Batch

log = logging.getLogger(__name__)

# Tag and step in, whether earlier logs there stay when the run is resumed.
Keep = Callable[[str, int], bool]


class StepSeed(Callback):
    """Seed torch before every training step from (seed, epoch, batch, process): dropout, MixUp and the like repeat exactly."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        """Seed the generators of all devices."""
        words = np.random.SeedSequence([self.seed, trainer.current_epoch, batch_idx, trainer.global_rank])
        torch.manual_seed(int(words.generate_state(1, np.uint64)[0]))


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint whole or not at all, and reads nothing but tensors and plain values."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write it; a full disk leaves the checkpoint of before."""
        content = io.BytesIO()
        torch.save(checkpoint, content)
        write_bytes(Path(path), content.getbuffer())

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        """Read it, tensors to the CPU."""
        return read_point(Path(path))


class ResumePoint(Checkpoint):
    """Keeps the point to resume from: at the end of every epoch, now and then within long ones, and when the run must stop.

    Args:
        path: of the checkpoint.
        identity: what must be the same in a resumed run, such as the data's fingerprint.
        signals: asks the run to stop.
        every_minutes: save within an epoch too when so much time has passed.

    Attributes:
        finished: the restored training had ended.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any], signals: StopSignals, every_minutes: float = 10.0) -> None:
        self.path = path
        self.identity = dict(identity)
        self.signals = signals
        self.every_minutes = every_minutes
        self.finished = False
        self._unlogged: dict[str, float] = {}
        self._step = 0  # where the resumed run starts
        self._saved_at = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run is compared with, whether the training is over, and figures that no logger has yet."""
        return {"identity": self.identity, "finished": self.finished, "unlogged": self._unlogged}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over whether the training is over.

        Raises:
            RunError: when data, split or network differ from those of the run's start.
        """
        before, now = state_dict["identity"], self.identity
        changed = [f"{name} {now.get(name)}, then {value}" for name, value in before.items() if value != now.get(name)]
        if changed:
            raise files.RunError(
                f"{self.path.parent.parent} cannot be resumed, because it was started with other settings: {'; '.join(changed)}."
            )
        self.finished = state_dict["finished"]
        self._unlogged = state_dict["unlogged"]

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Tell the keeper of the best checkpoint where the folder is now: it forgets the best where the path has changed."""
        self._step = checkpoint["global_step"]
        for name, state in checkpoint["callbacks"].items():
            if name.startswith(ModelCheckpoint.__qualname__):
                state |= {key: self._here(value) for key, value in state.items() if key.endswith("path") and value}
                state["dirpath"] = str(self.path.parent)
                state["best_k_models"] = {self._here(path): score for path, score in state["best_k_models"].items()}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let signals wait for the next safe point; leave at once where the training was over."""
        trainer.should_stop = trainer.should_stop or self.finished
        for logger in trainer.loggers if self._unlogged else ():
            logger.log_metrics({**self._unlogged}, step=self._step - 1)
            logger.save()
        self.signals.wait = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signals back from Lightning, and start the clock."""
        # Lightning takes SIGTERM after on_fit_start. Its own handler ends the process at the epoch's end with status 0, as if the
        # run were finished.
        self.signals.install()
        self._saved_at = time.monotonic()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Save, and stop, if it is time and the state is one that can be taken up again."""
        signum = self._signal(trainer)
        loop = trainer.fit_loop.epoch_loop
        # Validation follows, or gradients are still being gathered: a later step, or the epoch's end, will do.
        every = trainer.val_check_batch
        done = loop.total_batch_idx if trainer.check_val_every_n_epoch is None else loop.batch_idx
        validates = trainer.enable_validation and every not in (None, float("inf")) and (done + 1) % every == 0
        busy = loop._should_accumulate() or loop._num_ready_batches_reached() or validates
        if busy or (signum is None and time.monotonic() - self._saved_at < 60 * self.every_minutes):
            return
        self._save(trainer)
        if signum is not None:
            raise RunStopped(signum)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save; the metrics are logged, the best checkpoint is written, and the schedule has moved by now."""
        last = trainer.max_epochs is not None and 0 <= trainer.max_epochs <= trainer.current_epoch + 1
        self.finished = last or (trainer.should_stop and trainer.fit_loop._can_stop_early)
        # Lightning hands the epoch's training metrics to the loggers after this hook.
        figures = {name: float(value) for name, value in trainer.logged_metrics.items() if name.startswith("train/")}
        self._unlogged = {**figures, "epoch": trainer.current_epoch}
        self._save(trainer)
        self._unlogged = {}
        signum = self._signal(trainer)
        if signum is not None and not self.finished:
            raise RunStopped(signum)

    def _save(self, trainer: Trainer) -> None:
        for logger in trainer.loggers:
            logger.save()
        trainer.save_checkpoint(self.path)
        self._saved_at = time.monotonic()

    def _signal(self, trainer: Trainer) -> int | None:
        """Return the signal that any of the processes got."""
        if trainer.world_size == 1:
            return self.signals.requested
        flag = torch.tensor(self.signals.requested or 0, device=trainer.strategy.root_device)
        torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
        return int(flag) or None

    def _here(self, path: str) -> str:
        return str(self.path.parent / Path(path).name)


def read_point(path: Path) -> dict[str, Any]:
    """Return the content of a point to resume from; nothing but tensors and plain values is unpickled.

    Raises:
        RunError: when it cannot be read.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if not {"callbacks", "state_dict", "global_step", "loops"} <= set(content):
            raise ValueError("it is no checkpoint of a training")
    except Exception as error:  # truncated and foreign files raise anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise files.RunError(f"{path} cannot be read ({reason}). Delete it to start the run again, or restore it.") from error
    return dict(content)


def kept_of(point: Mapping[str, Any]) -> Keep:
    """Return what stays of that which a stopped run has logged: all that the part from a point on will not log again."""
    again = set(point["callbacks"][ResumePoint.__qualname__]["unlogged"]) - {"epoch"}
    last = point["global_step"] - 1
    return lambda tag, step: step < last or (step == last and tag not in again)


def keep_logged(logger: CSVLogger, keep: Keep) -> None:
    """Keep what is to be kept of a stopped run's metrics.csv; the logger would delete all.

    Args:
        logger: of the resumed run, not used yet.
        keep: column and step in, whether the value stays.
    """
    path = Path(logger.log_dir) / "metrics.csv"
    rows = list(rows_of(path))
    path.unlink(missing_ok=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Experiment logs directory .* exists and is not empty.*")
        writer = logger.experiment
    kept: list[tuple[dict[str, Any], int]] = [
        ({name: value for name, value in figures.items() if keep(name, step)}, step) for figures, step in rows
    ]
    writer.metrics = [{**figures, "step": step} for figures, step in kept if set(figures) - {"epoch"}]
    writer.save()


def rows_of(path: Path) -> Iterator[tuple[dict[str, str], int]]:
    """Yield the figures of a metrics.csv, as they are written there, with their step; nothing where there is no such file."""
    if path.is_file():
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                yield {name: value for name, value in row.items() if value and name != "step"}, int(row["step"])
