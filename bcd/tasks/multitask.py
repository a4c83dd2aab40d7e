"""Segmentation and classification at once."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torchmetrics import MetricCollection

from bcd.metrics.multitask import MultitaskMetrics
from bcd.sample import Batch
from bcd.tasks.base import BaseTask, OptimizerFactory, Outputs
from bcd.tasks.schedules import Schedule


class MultitaskTask(BaseTask):
    """Outline the lesion and tell the classes apart, with one network and two losses.

    The loss is segmentation_weight x the outline's + classification_weight x the class's. Images without a lesion count in
    both. `val/score`, the mean of `val/dice` and `val/auroc`, is there to pick a checkpoint that does both well.

    Args:
        model: image (B, 1, H, W) -> logits of the outline (B, 1, H, W) and of the classes (B, C).
        loss: of the outline: (logits, mask) -> scalar.
        classification_loss: of the class: (logits, label) -> scalar.
        segmentation_weight: of the outline's loss, at least 0.
        classification_weight: of the class's loss, at least 0.
        optimizer: parameter groups -> optimizer.
        scheduler: progress in [0, 1] -> factor of the learning rate.
        num_classes: C, at least 2.
        threshold: a pixel is lesion from this probability on, in (0, 1).
        monitor: the logged figure that picks the best checkpoint.
        mode: `max` or `min` of it.
        tta: further views of an image to average at test time, names of `bcd.tasks.views`; each takes as long as the image.

    Raises:
        ValueError: for weights that are negative or both 0, a threshold outside (0, 1), fewer than two classes, a loss in the
            other's place, or a view that does not exist.
    """

    classifies = True
    figures = (  # what it logs, and `monitor` may name, as val/score; and the loss
        "dice",
        "iou",
        "false_positive_rate",
        "auroc",
        "accuracy",
        "balanced_accuracy",
        "segmentation_loss",
        "classification_loss",
        "score",
    )

    def __init__(
        self,
        model: nn.Module,
        loss: nn.Module,
        classification_loss: nn.Module,
        segmentation_weight: float,
        classification_weight: float,
        optimizer: OptimizerFactory,
        scheduler: Schedule,
        num_classes: int,
        threshold: float,
        monitor: str,
        mode: Literal["min", "max"],
        tta: Sequence[str],
    ) -> None:
        if min(segmentation_weight, classification_weight) < 0 or segmentation_weight + classification_weight == 0:
            raise ValueError(
                f"task.segmentation_weight={segmentation_weight} and task.classification_weight={classification_weight} must not "
                "be negative, nor both 0."
            )
        if not 0 < threshold < 1:
            raise ValueError(f"task.threshold={threshold} must lie between 0 and 1.")
        if num_classes < 2:
            raise ValueError(f"{num_classes} class cannot be told apart; list two or more in data.classes.")
        _require_kind("loss", loss, "segmentation")
        _require_kind("task.classification_loss", classification_loss, "classification")
        super().__init__(model, loss, MultitaskMetrics(num_classes), optimizer, scheduler, monitor, mode, tta)
        self.classification_loss = classification_loss
        self.segmentation_weight = segmentation_weight
        self.classification_weight = classification_weight
        self.threshold = threshold

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return probabilities of lesion (B, 1, H, W) and of the classes (B, C) for an image (B, 1, H, W)."""
        outline, classes = self.model(image)
        return outline.float().sigmoid(), classes.float().softmax(1)

    def step(self, batch: Batch, metrics: MetricCollection) -> Tensor:
        """Update the metrics; return the weighted loss."""
        outline, classes = (logits.float() for logits in self.model(batch["image"]))
        of_outline, of_class = self.loss(outline, batch["mask"]), self.classification_loss(classes, batch["label"])
        metrics.update(
            predicted=(outline.detach().sigmoid() >= self.threshold).long(),
            mask=batch["mask"].long(),
            preds=classes.detach().softmax(1),
            target=batch["label"],
            segmentation_loss=of_outline,
            classification_loss=of_class,
            cases=len(batch["case_id"]),
        )
        return self.segmentation_weight * of_outline + self.classification_weight * of_class

    def infer(self, batch: Batch) -> Outputs:
        """Return the probabilities of lesion and of the classes."""
        mask, classes = self(batch["image"])
        return Outputs(mask=mask, classes=classes)


def _require_kind(key: str, loss: nn.Module, kind: str) -> None:
    """Refuse a loss of the other kind; one from elsewhere says no kind.

    Raises:
        ValueError: naming the key.
    """
    if getattr(loss, "kind", kind) != kind:
        raise ValueError(f"{key}: {type(loss).__name__} is not for {kind}; python scripts/train.py --help lists the losses.")
