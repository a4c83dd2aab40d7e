"""Callbacks: the history of a run, its pictures, its progress bar."""

import logging
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar, WeightAveraging
from torch import Tensor

from bcd.config.ranges import Count, Rest, Share, Side
from bcd.files import write_text
from bcd.reports.contours import overlay
from bcd.reports.figures import learning_curves, panel, save, to_array
from bcd.runs.tracking.guard import GuardedLogger
from bcd.sample import Batch, shrink
from bcd.tasks.base import BaseTask

log = logging.getLogger(__name__)


class ExponentialAverage(WeightAveraging):
    """Exponential moving average of the weights; validated, saved and tested instead of them.

    Lightning's own takes the tensors one by one, which costs a small network a tenth of its speed, and its average stays near
    the random start for long; ours moves them together, and averages over a growing span at first:
    the decay is the smaller of the one given and (1 + n) / (10 + n) after n steps.

    Args:
        decay: share of the average that stays at each step.
    """

    def __init__(self, decay: Rest) -> None:
        super().__init__(multi_avg_fn=self._average)
        self.decay = decay

    @torch.no_grad()
    def _average(self, averaged: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        steps = float(count)
        decay = min(self.decay, (1 + steps) / (10 + steps))
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, 1 - decay)
        else:  # counters
            torch._foreach_copy_(averaged, current)


class ProgressiveSize(Callback):
    """Train on smaller images at first: more of them fit into the time, and the coarse shape is learned on them as well.

    Validation and test see the full size.

    Args:
        size: side of the smaller image in pixels.
        until: share of the training that uses it.
    """

    def __init__(self, size: Side, until: Share) -> None:
        self.size = size
        self.until = until

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        """Shrink the batch in place."""
        if not isinstance(pl_module, BaseTask) or pl_module.progress() >= self.until or batch["image"].shape[-1] <= self.size:
            return
        shrink(batch, self.size)


class ProgressBar(TQDMProgressBar):
    """Lightning's progress bar on a terminal; elsewhere nothing, because the log has a line for every epoch."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=1 if sys.stderr.isatty() else 0, leave=False)


class History(Callback):
    """Keep every epoch's figures and the time that training took; write history.csv and learning_curves.png.

    Args:
        folder: the run's folder.
        monitor: the log key that picks the best epoch.
        mode: `max` or `min` of it.
        note: text below the curves.

    Attributes:
        rows: one dict an epoch.
        train_seconds: first step to last, validation included, pauses between stopping and going on left out.
        images_seen: training images, repeats included.
    """

    def __init__(self, folder: Path, monitor: str, mode: str, note: str = "") -> None:
        self.folder = folder
        self.monitor = monitor
        self.mode = mode
        self.note = note
        self.rows: list[dict[str, Any]] = []
        self.images_seen = 0
        self._before = 0.0
        self._started: float | None = None
        self._ended: float | None = None
        self._validated = False
        self._trainer: Trainer | None = None  # while the last row still waits for its training metrics

    @property
    def train_seconds(self) -> float:
        """Return the time that training has taken so far, in seconds."""
        if self._started is None:
            return self._before
        return self._before + (time.perf_counter() if self._ended is None else self._ended) - self._started

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a resumed run."""
        self._complete()
        return {"rows": self.rows, "images_seen": self.images_seen, "seconds": self.train_seconds, "validated": self._validated}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from where a run was stopped."""
        self.rows, self.images_seen = list(state_dict["rows"]), state_dict["images_seen"]
        self._before, self._validated = state_dict["seconds"], state_dict["validated"]

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that this epoch has validation figures of its own."""
        self._validated = True

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        """Start the clock at the first step."""
        if self._started is None:
            self._started = time.perf_counter()
        self.images_seen += len(batch["case_id"]) * trainer.world_size

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Complete the row of the epoch before."""
        self._complete()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the epoch's row; validation has been by now."""
        logged = trainer.callback_metrics.items()
        new = ("train/loss", "val/") if self._validated else ("train/loss",)
        values = {name: float(value) for name, value in logged if name.startswith(new)}
        self._validated = False
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        seconds = round(self.train_seconds, 2)
        self.rows.append({"epoch": trainer.current_epoch, "seconds": seconds, "learning_rate": rate, **values})
        self._trainer = trainer
        figures = ", ".join(
            f"{name} {value:.4f}" for name, value in sorted(values.items()) if name.endswith("loss") or name == self.monitor
        )
        log.info("Epoch %d of %s: %s; %.0f s.", trainer.current_epoch + 1, trainer.max_epochs, figures, seconds)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        self._ended = time.perf_counter()
        self._complete()

    def write(self) -> None:
        """Write history.csv and learning_curves.png."""
        if self.rows:
            write_text(self.folder / "history.csv", self._table().to_csv(index=False))
            save(learning_curves(self._table(), self.monitor, self.note), self.folder / "learning_curves.png")

    def _complete(self) -> None:
        """Put the training metrics into the last row: the task logs them after the callbacks have seen the epoch's end."""
        if self._trainer is None:
            return
        trainer, self._trainer = self._trainer, None
        self.rows[-1] |= {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("train/")}
        if trainer.is_global_zero:
            write_text(self.folder / "history.csv", self._table().to_csv(index=False))

    def _table(self) -> pd.DataFrame:
        table = pd.DataFrame(self.rows)
        if self.monitor in table and table[self.monitor].notna().any():
            best = table[self.monitor].idxmin() if self.mode == "min" else table[self.monitor].idxmax()
            table["best"] = table.index == best
        return table


class ValidationPictures(Callback):
    """Draw a few validation cases regularly, with the predicted mask and class, for the folder and the dashboards.

    Args:
        folder: where the PNGs go.
        n_cases: how many, spread evenly over the validation part.
        every_n_epochs: how often; the last epoch is always drawn.
    """

    def __init__(self, folder: str | Path, n_cases: Count, every_n_epochs: Count) -> None:
        self.folder = Path(folder)
        self.n_cases = n_cases
        self.every_n_epochs = every_n_epochs
        self._wanted: set[int] = set()
        self._drawn: list[tuple[np.ndarray, str]] = []
        self._seen = 0

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose the cases."""
        self._seen, self._drawn, self._wanted = 0, [], set()
        last = trainer.max_epochs is not None and trainer.current_epoch + 1 == trainer.max_epochs
        due = last or trainer.should_stop or trainer.current_epoch % self.every_n_epochs == 0
        if due and trainer.is_global_zero:
            loader = trainer.val_dataloaders
            length = len(loader.dataset) if loader is not None else 0
            self._wanted = {math.floor((number + 0.5) * length / self.n_cases) for number in range(self.n_cases)}

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Draw the chosen cases of this batch."""
        size = len(batch["case_id"])
        chosen = [position for position in range(size) if self._seen + position in self._wanted]
        self._seen += size
        if chosen and isinstance(pl_module, BaseTask):
            self._drawn += _draw(pl_module, batch, chosen)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the panel."""
        if not self._drawn:
            return
        pictures, titles = zip(*self._drawn, strict=True)
        figure = panel(pictures, titles, f"epoch {trainer.current_epoch + 1}, validation; blue: truth, orange: prediction")
        save(figure, self.folder / f"epoch_{trainer.current_epoch + 1:04d}.png")
        step = trainer.fit_loop.epoch_loop._batches_that_stepped  # at which Lightning logs this validation's figures
        for logger in trainer.loggers:
            if isinstance(logger, GuardedLogger):
                logger.picture("validation", to_array(figure), step)


@torch.no_grad()
def _draw(task: BaseTask, batch: Batch, chosen: list[int]) -> list[tuple[np.ndarray, str]]:
    outputs = task.infer(batch)
    drawn = []
    for position in chosen:
        image = batch["image"][position, 0].float().cpu().numpy()
        spread = max(float(np.ptp(image)), 1e-6)
        grey = ((image - image.min()) / spread * 255).astype(np.uint8)
        truth = batch["mask"][position, 0].cpu().numpy() >= 0.5
        predicted, title = None, batch["case_id"][position]
        if outputs.mask is not None:
            predicted = (outputs.mask[position, 0] >= 0.5).cpu().numpy()
        if outputs.classes is not None:
            share, number = outputs.classes[position].max(0)
            title += f"\ntrue class {int(batch['label'][position])}, predicted {int(number)} ({float(share):.2f})"
        drawn.append((overlay(grey, truth, predicted), title))
    return drawn


def checkpoint_callback(trainer: Trainer) -> ModelCheckpoint | None:
    """Return the callback that keeps the best checkpoint, if the run has one."""
    return next((callback for callback in trainer.callbacks if isinstance(callback, ModelCheckpoint)), None)  # type: ignore[attr-defined]
