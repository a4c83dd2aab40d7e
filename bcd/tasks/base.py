"""What every task shares: one step for training, validation and test, the optimizer and its schedule."""

import inspect
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, cast

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import Metric, MetricCollection

from bcd.metrics.states import metric_states, restore_metric_states
from bcd.metrics.training import MeanLoss
from bcd.sample import Batch
from bcd.tasks.fine_tuning import FineTuning
from bcd.tasks.mixing import Mixing
from bcd.tasks.networks import TaskNetwork
from bcd.tasks.schedules import ObservingSchedule, Schedule
from bcd.tasks.views import ViewName

OptimizerFactory = Callable[..., Optimizer]

log = logging.getLogger(__name__)


class NonFiniteLossError(RuntimeError):
    """A loss, or its gradient, is not a finite number."""


class BaseTask(TaskNetwork, LightningModule):
    """A model, a loss, metrics, and how they are optimised.

    Args:
        model: the network.
        loss: (logits, truth) -> scalar.
        metrics: updated by `step`, logged under `train/`, `val/` and `test/`.
        optimizer: parameter groups -> optimizer.
        scheduler: progress of the training in [0, 1] -> factor of the learning rate.
        monitor: the logged figure that picks the best checkpoint.
        mode: `max` or `min` of it.
        tta: further views of an image that `bcd.tasks.inference.predict` averages: names of `bcd.tasks.views`.
        threshold: a pixel is lesion from this probability on, in (0, 1); None where the task predicts no mask.

    Attributes:
        run_config: what a checkpoint keeps to rebuild the task, a plain dict.
        fine_tuning: what is frozen and how fast each block learns; None where all layers learn alike.
        mixing: mixes the training images of a classifier; None leaves them as they are.
    """

    loss_kinds: ClassVar[Mapping[str, str]] = {}  # argument -> `kind` of the loss that belongs there
    label_is_all = False  # whether the loss asks for nothing but the label, as MixUp and CutMix need it

    def __init__(
        self,
        model: nn.Module,
        loss: nn.Module,
        metrics: MetricCollection,
        optimizer: OptimizerFactory,
        scheduler: Schedule,
        monitor: str,
        mode: Literal["min", "max"],
        tta: Sequence[ViewName] = (),
        threshold: float | None = None,
    ) -> None:
        super().__init__(model, threshold, tta)
        self.loss = loss
        self.metrics = nn.ModuleDict({f"{part}_metrics": metrics.clone(prefix=f"{part}/") for part in ("train", "val", "test")})
        self.mean_loss = nn.ModuleDict({f"{part}_loss": MeanLoss() for part in ("train", "val", "test")})
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.monitor = monitor
        self.mode = mode
        self.run_config: dict[str, Any] = {}
        self.fine_tuning: FineTuning | None = None
        self.mixing: Mixing | None = None
        self._learning_from: Sequence[str] = ()
        self._measured: set[str] = set()  # figures that some epoch has had

    def train_with(self, fine_tuning: FineTuning, mixing: Mixing) -> None:
        """Set how the task is trained beyond optimizer and schedule; inference does not depend on it.

        Raises:
            ValueError: when the network does not have what is to be frozen, or its images cannot be mixed.
        """
        if mixing.mixes and not self.label_is_all:
            raise ValueError(
                f"mixing: {type(self).__name__} works with masks, and they would not fit a mixed image. Use mixing=none, or "
                "classify the whole image."
            )
        fine_tuning.begin(self)
        self.fine_tuning = fine_tuning
        self.mixing = mixing if mixing.mixes else None

    def step(self, batch: Batch, metrics: MetricCollection) -> Tensor:
        """Update the metrics; return the loss."""
        raise NotImplementedError

    def learn(self, batch: Batch, metrics: MetricCollection) -> Tensor:
        """Update the metrics; return the loss to learn from."""
        return self.step(batch, metrics)

    def on_train_start(self) -> None:
        """Refuse layers that begin to learn later where several processes train: their gradients would not be shared.

        Raises:
            ValueError: saying what to do.
        """
        if self.fine_tuning is not None and self.fine_tuning.thaws and self.trainer.world_size > 1:
            raise ValueError("finetune.until below 1 needs a single process; use finetune.until=1.0 gradual=false, or one device.")

    def on_train_epoch_start(self) -> None:
        """Reset the epoch's metrics; in the middle of an epoch, a resumed run keeps those it has."""
        self._metrics("train").reset()
        self._mean_loss("train").reset()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Freeze what does not learn yet."""
        if self.fine_tuning is not None and self.fine_tuning.freezes:
            self.fine_tuning.update(self, self.progress())

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Take Lightning's training step."""
        self._learning_from = batch["case_id"]
        return self._step(batch, "train", self.learn)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Take Lightning's validation step."""
        self._step(batch, "val", self.step)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Take Lightning's test step, at the network's resolution."""
        self._step(batch, "test", self.step)

    def on_train_epoch_end(self) -> None:
        """Log the epoch's training metrics."""
        self._log_metrics("train")

    def on_validation_epoch_end(self) -> None:
        """Log the epoch's validation metrics, and show the monitored one to a schedule that follows it.

        That is here and not in Lightning's hands since it would step such a schedule after the checkpoints are written.
        """
        values = self._log_metrics("val") | {"val/loss": self._mean_loss("val").compute()}
        learning = self.trainer.state.fn == "fit" and not self.trainer.sanity_checking
        if learning and isinstance(self.scheduler, ObservingSchedule):
            if self.monitor in values:
                self.scheduler.observe(float(values[self.monitor]))
            else:
                log.warning("%s could not be measured, so the schedule that follows it does not move.", self.monitor)

    def on_test_epoch_end(self) -> None:
        """Log the test metrics."""
        self._log_metrics("test")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put beside the weights the plain dict that rebuilds them, and the state to resume from."""
        checkpoint["run_config"] = self.run_config
        checkpoint["measured"] = sorted(self._measured)
        if isinstance(self.scheduler, ObservingSchedule):
            checkpoint["schedule"] = self.scheduler.state_dict()
        if any(metric.update_called for metric in self._metrics("train").values()):  # in the middle of an epoch
            checkpoint["train_figures"] = metric_states(self._train_figures())

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on from there; what another process has seen already came with the first one's figures."""
        self._measured = set(checkpoint.get("measured", ()))
        if isinstance(self.scheduler, ObservingSchedule) and "schedule" in checkpoint:
            self.scheduler.load_state_dict(checkpoint["schedule"])
        if "train_figures" in checkpoint and self.global_rank == 0:
            restore_metric_states(self._train_figures(), checkpoint["train_figures"])

    def progress(self) -> float:
        """Return the share of the training that is done, in [0, 1]: of the steps, or of the time where that ends it first."""
        if self.trainer.global_step == 0:
            # Lightning would make the loaders to answer, and here a resumed run does not know its position yet.
            return 0.0
        total = self.trainer.estimated_stepping_batches
        done = self.trainer.global_step / total if 0 < total < float("inf") else 0.0
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, Timer) and callback.time_remaining() is not None:
                elapsed = callback.time_elapsed()
                done = max(done, elapsed / (elapsed + max(callback.time_remaining() or 0.0, 0.0) + 1e-9))
        return min(done, 1.0)

    def make_optimizer(self) -> Optimizer:
        """Return the optimizer, with no weight decay on biases and norms, in one fused step where the CPU trains."""
        groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                rate = self.fine_tuning.rate(name) if self.fine_tuning is not None else 1.0
                groups.setdefault((rate, parameter.ndim > 1), []).append(parameter)
        order = sorted(groups, reverse=True)  # the full rate first: it is the one that is logged
        # torch's default on a CPU takes the parameters one by one, which costs a small network a tenth of its speed.
        can_fuse = self.device.type == "cpu" and "fused" in inspect.signature(self.optimizer).parameters
        fused = {"fused": True} if can_fuse else {}
        optimizer = self.optimizer([{"params": groups[key]} | ({} if key[1] else {"weight_decay": 0.0}) for key in order], **fused)
        for (rate, _), group in zip(order, optimizer.param_groups, strict=True):
            group["lr"] *= rate
        return optimizer

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return the optimizer and its schedule, stepped at every batch."""
        optimizer = self.make_optimizer()
        schedule = LambdaLR(optimizer, lambda _: self.scheduler(self.progress()))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip the gradients by torch itself, since Lightning refuses to with a fused optimizer.

        Raises:
            NonFiniteLossError: when their norm is not finite.
        """
        if not gradient_clip_val:
            return
        if gradient_clip_algorithm == "value":
            nn.utils.clip_grad_value_(self.parameters(), gradient_clip_val)
            return
        norm = nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val)
        if isinstance(norm, DTensor):  # each process has a part of every parameter
            norm = norm.full_tensor()
        # Where float16 trains, its scaler finds gradients that overflow, and leaves the step out.
        if self.trainer.precision != "16-mixed":
            self._refuse_non_finite(norm, "norm of the gradient", self._learning_from)

    def _step(self, batch: Batch, part: str, step: Callable[[Batch, MetricCollection], Tensor]) -> Tensor:
        loss = step(batch, self._metrics(part))
        self._refuse_non_finite(loss, f"{part} loss", batch["case_id"])
        mean = self._mean_loss(part)
        mean.update(loss, len(batch["case_id"]))
        self.log(f"{part}/loss", mean, on_step=False, on_epoch=True, batch_size=len(batch["case_id"]))
        return loss

    def _refuse_non_finite(self, value: Tensor, name: str, case_ids: Sequence[str]) -> None:
        number = float(value.detach())
        if math.isfinite(number):
            return
        rates = sorted({f"{group['lr']:.3g}" for optimizer in self.trainer.optimizers for group in optimizer.param_groups})
        raise NonFiniteLossError(
            f"The {name} is {number} in epoch {self.current_epoch + 1}, step {self.global_step + 1}, at learning rate "
            f"{', '.join(rates) or 'unknown'}, on the cases {', '.join(case_ids)}. Lower optimizer.lr, try "
            f"trainer.precision=32-true, and look at these cases. Checkpoints that were saved before are as good as they were."
        )

    def _log_metrics(self, part: str) -> dict[str, Tensor]:
        metrics = self._metrics(part)
        computed = metrics.compute()
        values = {name: value for name, value in computed.items() if not torch.isnan(value)}
        self._measured |= set(values)
        # NaN for a metric that is undefined in this epoch: Lightning would otherwise keep logging the value of the previous one.
        logged = {name: value for name, value in computed.items() if name in self._measured}
        # Every process has the figures of all by now; the largest of equals only tells Lightning so.
        self.log_dict(logged, sync_dist=True, reduce_fx="max")
        metrics.reset()
        return values

    def _metrics(self, part: str) -> MetricCollection:
        return cast(MetricCollection, self.metrics[f"{part}_metrics"])

    def _train_figures(self) -> dict[str, Metric]:
        return {**dict(self._metrics("train").items(keep_base=True)), "loss": self._mean_loss("train")}

    def _mean_loss(self, part: str) -> MeanLoss:
        return cast(MeanLoss, self.mean_loss[f"{part}_loss"])
