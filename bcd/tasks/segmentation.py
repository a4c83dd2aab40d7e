"""Segmentation."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from torch import Tensor, nn
from torchmetrics import MetricCollection

from bcd.config.ranges import Within
from bcd.metrics.training import FalsePositiveRate, LesionDice, LesionIoU
from bcd.sample import Batch
from bcd.tasks.base import BaseTask, OptimizerFactory
from bcd.tasks.networks import Segmentation
from bcd.tasks.schedules import Schedule
from bcd.tasks.views import ViewName


class SegmentationTask(Segmentation, BaseTask):
    """Segment the lesion: one probability per pixel.

    The model: image (B, 1, H, W) -> logits (B, 1, H, W). The loss: (logits, mask) -> scalar. The other arguments are BaseTask's.
    """

    figures = ("dice", "iou", "false_positive_rate")  # what it logs, and `monitor` may name, as val/dice; and the loss

    loss_kinds: ClassVar = {"loss": "segmentation"}

    def __init__(
        self,
        model: nn.Module,
        loss: nn.Module,
        optimizer: OptimizerFactory,
        scheduler: Schedule,
        threshold: Within,
        monitor: str,
        mode: Literal["min", "max"],
        tta: Sequence[ViewName],
    ) -> None:
        metrics = MetricCollection(
            {"dice": LesionDice(), "iou": LesionIoU(), "false_positive_rate": FalsePositiveRate()}, compute_groups=False
        )
        super().__init__(model, loss, metrics, optimizer, scheduler, monitor, mode, tta, threshold)

    def step(self, batch: Batch, metrics: MetricCollection) -> Tensor:
        """Update the metrics; return the loss."""
        logits = self.model(batch["image"]).float()
        metrics.update((logits.detach().sigmoid() >= self.threshold).long(), batch["mask"].long())
        return self.loss(logits, batch["mask"])
