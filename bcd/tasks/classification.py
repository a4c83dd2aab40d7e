"""Classification of the whole image."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from torch import Tensor, nn
from torchmetrics import MetricCollection

from bcd.config.ranges import Classes
from bcd.metrics.training import classification_metrics
from bcd.sample import Batch
from bcd.tasks.base import BaseTask, OptimizerFactory
from bcd.tasks.networks import Classification
from bcd.tasks.schedules import Schedule
from bcd.tasks.views import ViewName


class ClassificationTask(Classification, BaseTask):
    """Classify the whole image: one probability per class.

    The model: image (B, 1, H, W) -> logits (B, num_classes). The loss: (logits, label) -> scalar. The other arguments are
    BaseTask's.
    """

    label_is_all = True
    loss_kinds: ClassVar = {"loss": "classification"}
    figures = ("auroc", "accuracy", "balanced_accuracy")  # what it logs, and `monitor` may name, as val/auroc; and the loss

    def __init__(
        self,
        model: nn.Module,
        loss: nn.Module,
        optimizer: OptimizerFactory,
        scheduler: Schedule,
        num_classes: Classes,
        monitor: str,
        mode: Literal["min", "max"],
        tta: Sequence[ViewName],
    ) -> None:
        super().__init__(model, loss, classification_metrics(num_classes), optimizer, scheduler, monitor, mode, tta)

    def step(self, batch: Batch, metrics: MetricCollection) -> Tensor:
        """Update the metrics; return the loss."""
        logits = self.logits(batch)
        metrics.update(logits.detach().softmax(1), batch["label"])
        return self.loss(logits, batch["label"])

    def learn(self, batch: Batch, metrics: MetricCollection) -> Tensor:
        """Update the metrics; return the loss, of mixed images where the task is trained with them.

        The metrics of mixed images count the label of the larger share; they tell less than those of whole images.
        """
        if self.mixing is None:
            return self.step(batch, metrics)
        mixed, label = self.mixing(batch["image"]), batch["label"]
        logits = self.logits(Batch(**{**batch, "image": mixed.image}))
        metrics.update(logits.detach().softmax(1), label)
        return mixed.share * self.loss(logits, label) + (1 - mixed.share) * self.loss(logits, label[mixed.partner])
