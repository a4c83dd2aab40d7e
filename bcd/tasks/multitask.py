"""Segmentation and classification at once."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from torch import Tensor, nn
from torchmetrics import MetricCollection

from bcd.config.ranges import Classes, NotNegative, Within
from bcd.metrics.training import MultitaskMetrics
from bcd.sample import Batch
from bcd.tasks.base import BaseTask, OptimizerFactory
from bcd.tasks.networks import Multitask
from bcd.tasks.schedules import Schedule
from bcd.tasks.views import ViewName


class MultitaskTask(Multitask, BaseTask):
    """Segment the lesion and classify the image, with one network and two losses.

    The loss is segmentation_weight x the mask's + classification_weight x the class's. Images without a lesion count in
    both. `val/score`, the mean of `val/dice` and `val/auroc`, is there to pick a checkpoint that does both well.

    The model: image (B, 1, H, W) -> logits of the mask (B, 1, H, W) and of the classes (B, num_classes). `loss` is the mask's:
    (logits, mask) -> scalar; `classification_loss` the class's: (logits, label) -> scalar. The other arguments are BaseTask's.

    Raises:
        ValueError: for two weights of 0.
    """

    loss_kinds: ClassVar = {"loss": "segmentation", "classification_loss": "classification"}
    figures = (  # what it logs, and `monitor` may name, as val/score; and the loss
        *("dice", "iou", "false_positive_rate", "auroc", "accuracy", "balanced_accuracy"),
        *("segmentation_loss", "classification_loss", "score"),
    )

    def __init__(
        self,
        model: nn.Module,
        loss: nn.Module,
        classification_loss: nn.Module,
        segmentation_weight: NotNegative,
        classification_weight: NotNegative,
        optimizer: OptimizerFactory,
        scheduler: Schedule,
        num_classes: Classes,
        threshold: Within,
        monitor: str,
        mode: Literal["min", "max"],
        tta: Sequence[ViewName],
    ) -> None:
        if segmentation_weight + classification_weight == 0:
            raise ValueError("task.segmentation_weight and task.classification_weight are both 0; one must be above.")
        super().__init__(model, loss, MultitaskMetrics(num_classes), optimizer, scheduler, monitor, mode, tta, threshold)
        self.classification_loss = classification_loss
        self.segmentation_weight = segmentation_weight
        self.classification_weight = classification_weight

    def step(self, batch: Batch, metrics: MetricCollection) -> Tensor:
        """Update the metrics; return the weighted loss."""
        masks, classes = (logits.float() for logits in self.model(batch["image"]))
        of_mask, of_class = self.loss(masks, batch["mask"]), self.classification_loss(classes, batch["label"])
        metrics.update(
            predicted=(masks.detach().sigmoid() >= self.threshold).long(),
            mask=batch["mask"].long(),
            preds=classes.detach().softmax(1),
            target=batch["label"],
            segmentation_loss=of_mask,
            classification_loss=of_class,
            cases=len(batch["case_id"]),
        )
        return self.segmentation_weight * of_mask + self.classification_weight * of_class
