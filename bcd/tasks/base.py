"""What every task shares: one step for training, validation and test, the optimizer and its schedule."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MetricCollection

from bcd.sample import Batch
from bcd.tasks.schedules import Schedule

OptimizerFactory = Callable[..., Optimizer]


@dataclass(frozen=True)
class Outputs:
    """What a network says about a batch; None for what its task does not learn.

    Attributes:
        mask: lesion probability per pixel, float32 (B, 1, H, W) in [0, 1].
        classes: probability per class, float32 (B, C), rows sum to 1.
        guide_is_empty: bool (B,), where an ROI model was given no outline and saw the whole image.
    """

    mask: Tensor | None = None
    classes: Tensor | None = None
    guide_is_empty: Tensor | None = None


class BaseTask(LightningModule):
    """A model, a loss, metrics, and how they are optimised.

    Args:
        model: the network.
        loss: (logits, truth) -> scalar.
        metrics: updated by `step`, logged under `train/`, `val/` and `test/`.
        optimizer: parameter groups -> optimizer.
        scheduler: progress of the training in [0, 1] -> factor of the learning rate.
        monitor: the logged figure that picks the best checkpoint.
        mode: `max` or `min` of it.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: nn.Module,
        metrics: MetricCollection,
        optimizer: OptimizerFactory,
        scheduler: Schedule,
        monitor: str,
        mode: str,
    ) -> None:
        super().__init__()
        if mode not in ("min", "max"):
            raise ValueError(f"task.mode={mode!r} must be 'min' or 'max'.")
        self.model = model
        self.loss = loss
        self.metrics = nn.ModuleDict({f"{part}_metrics": metrics.clone(prefix=f"{part}/") for part in ("train", "val", "test")})
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.monitor = monitor
        self.mode = mode
        self.run_config: dict[str, Any] = {}

    def step(self, batch: Batch, metrics: MetricCollection) -> Tensor:
        """Update the metrics; return the loss."""
        raise NotImplementedError

    def infer(self, batch: Batch) -> Outputs:
        """Return what the network says about a batch, as probabilities."""
        raise NotImplementedError

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Take Lightning's training step."""
        return self._step(batch, "train")

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Take Lightning's validation step."""
        self._step(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Take Lightning's test step, at the network's resolution."""
        self._step(batch, "test")

    def on_train_epoch_end(self) -> None:
        """Log the epoch's training metrics."""
        self._log_metrics("train")

    def on_validation_epoch_end(self) -> None:
        """Log the epoch's validation metrics."""
        self._log_metrics("val")

    def on_test_epoch_end(self) -> None:
        """Log the test metrics."""
        self._log_metrics("test")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put the plain dict beside the weights that rebuilds them."""
        checkpoint["run_config"] = self.run_config

    def progress(self) -> float:
        """Return the share of the training that is done, in [0, 1]: of the steps, or of the time where that ends it first."""
        total = self.trainer.estimated_stepping_batches
        done = self.trainer.global_step / total if 0 < total < float("inf") else 0.0
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, Timer) and callback.time_remaining() is not None:
                elapsed = callback.time_elapsed()
                done = max(done, elapsed / (elapsed + max(callback.time_remaining() or 0.0, 0.0) + 1e-9))
        return min(done, 1.0)

    def make_optimizer(self) -> Optimizer:
        """Return the optimizer, with no weight decay on biases and norms, in one fused step where the CPU trains."""
        weights = [parameter for parameter in self.parameters() if parameter.requires_grad and parameter.ndim > 1]
        others = [parameter for parameter in self.parameters() if parameter.requires_grad and parameter.ndim <= 1]
        # torch's default on a CPU takes the parameters one by one, which costs a small network a tenth of its speed.
        can_fuse = self.device.type == "cpu" and "fused" in inspect.signature(self.optimizer).parameters
        fused = {"fused": True} if can_fuse else {}
        return self.optimizer([{"params": weights}, {"params": others, "weight_decay": 0.0}], **fused)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return the optimizer and its schedule, stepped at every batch."""
        optimizer = self.make_optimizer()
        schedule = LambdaLR(optimizer, lambda _: self.scheduler(self.progress()))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip the gradients; on a CPU by torch itself, since Lightning refuses to with a fused optimizer."""
        if self.device.type != "cpu":
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        elif gradient_clip_val and gradient_clip_algorithm == "value":
            nn.utils.clip_grad_value_(self.parameters(), gradient_clip_val)
        elif gradient_clip_val:
            nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val)

    def _step(self, batch: Batch, part: str) -> Tensor:
        metrics = self._metrics(part)
        loss = self.step(batch, metrics)
        self.log(f"{part}/loss", loss, on_step=False, on_epoch=True, batch_size=len(batch["case_id"]), sync_dist=True)
        return loss

    def _log_metrics(self, part: str) -> None:
        metrics = self._metrics(part)
        values = {name: value for name, value in metrics.compute().items() if not torch.isnan(value)}
        self.log_dict(values)
        metrics.reset()

    def _metrics(self, part: str) -> MetricCollection:
        metrics = self.metrics[f"{part}_metrics"]
        if not isinstance(metrics, MetricCollection):
            raise TypeError(f"{part}: {type(metrics).__name__} is no MetricCollection.")
        return metrics
