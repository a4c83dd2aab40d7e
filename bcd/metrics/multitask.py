"""Metrics of a task that outlines and classifies."""

from typing import Any

from torch import Tensor
from torchmetrics import MetricCollection

from bcd.metrics.classification import classification_metrics
from bcd.metrics.loss import MeanLoss
from bcd.metrics.overlap import FalsePositiveRate, LesionDice, LesionIoU


class SegmentationLoss(MeanLoss):
    """Mean segmentation loss over cases, unweighted."""

    def update(self, segmentation_loss: Tensor, cases: int) -> None:
        """Add a batch: its mean loss, and how many cases it has."""
        super().update(segmentation_loss, cases)


class ClassificationLoss(MeanLoss):
    """Mean classification loss over cases, unweighted."""

    def update(self, classification_loss: Tensor, cases: int) -> None:
        """Add a batch: its mean loss, and how many cases it has."""
        super().update(classification_loss, cases)


class MultitaskMetrics(MetricCollection):
    """Metrics of outlines and of classes, both losses, and `score`: the mean of Dice and AUROC, each counting half.

    Each takes what it knows from one update by keyword: `predicted` and `mask` (B, 1, H, W), binary; `preds` (B, C),
    probabilities; `target` int64 (B,); `segmentation_loss` and `classification_loss`, scalars; `cases`, B.

    Args:
        num_classes: C.
    """

    def __init__(self, num_classes: int) -> None:
        outlines = {"dice": LesionDice(), "iou": LesionIoU(), "false_positive_rate": FalsePositiveRate()}
        classes = dict(classification_metrics(num_classes).items())
        losses = {"segmentation_loss": SegmentationLoss(), "classification_loss": ClassificationLoss()}
        super().__init__({**outlines, **classes, **losses}, compute_groups=False)

    def compute(self) -> dict[str, Any]:
        """Return each figure under its name; the score is not a number where Dice is not."""
        values = super().compute()
        dice, auroc, score = (f"{self.prefix or ''}{name}" for name in ("dice", "auroc", "score"))
        return {**values, score: (values[dice] + values[auroc]) / 2}
