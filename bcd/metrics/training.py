"""Metrics of the training loop: mean loss, Dice and IoU per image, what is segmented on images without a lesion, classification."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassAUROC


def dice_per_image(predicted: Tensor, mask: Tensor) -> Tensor:
    """Return Dice of each image, float32 (B,) in [0, 1], for binary (B, ...) tensors; NaN where both are empty."""
    predicted, mask = predicted.flatten(1).bool(), mask.flatten(1).bool()
    overlap = (predicted & mask).sum(1)
    return 2 * overlap / (predicted.sum(1) + mask.sum(1))


def iou_per_image(predicted: Tensor, mask: Tensor) -> Tensor:
    """Return intersection over union of each image, float32 (B,) in [0, 1], for binary (B, ...); NaN where both are empty."""
    predicted, mask = predicted.flatten(1).bool(), mask.flatten(1).bool()
    return (predicted & mask).sum(1) / (predicted | mask).sum(1)


class _MeanOverImages(Metric):
    """Mean of one number per image over the images that it is defined for; NaN when there is none."""

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def add(self, values: Tensor) -> None:
        self.total += values.double().sum()
        self.count += values.numel()

    def compute(self) -> Tensor:
        return (self.total / self.count).float()


class LesionDice(_MeanOverImages):
    """Mean Dice per image over lesion images, in [0, 1]; a missed lesion counts 0, lesion-free images do not enter."""

    def update(self, predicted: Tensor, mask: Tensor) -> None:
        """Add binary (B, 1, H, W) predictions and truths."""
        has_lesion = mask.flatten(1).any(1)
        self.add(dice_per_image(predicted[has_lesion], mask[has_lesion]))


class LesionIoU(_MeanOverImages):
    """Mean intersection over union per image over lesion images, in [0, 1]."""

    def update(self, predicted: Tensor, mask: Tensor) -> None:
        """Add binary (B, 1, H, W) predictions and truths."""
        has_lesion = mask.flatten(1).any(1)
        self.add(iou_per_image(predicted[has_lesion], mask[has_lesion]))


class FalsePositiveRate(_MeanOverImages):
    """Share of the lesion-free images on which anything is segmented, in [0, 1]."""

    def update(self, predicted: Tensor, mask: Tensor) -> None:
        """Add binary (B, 1, H, W) predictions and truths."""
        lesion_free = ~mask.flatten(1).any(1)
        self.add(predicted[lesion_free].flatten(1).any(1))


class MeanLoss(Metric):
    """Mean over cases of a loss that comes as the mean of each batch; batches, and processes, may be of any size."""

    full_state_update = False
    total: Tensor
    cases: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("cases", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, loss: Tensor, cases: int) -> None:
        """Add a batch: its mean loss, and how many cases it has."""
        self.total += loss.detach().double() * cases
        self.cases += cases

    def compute(self) -> Tensor:
        """Return the mean, float32."""
        return (self.total / self.cases).float()


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


def classification_metrics(num_classes: int) -> MetricCollection:
    """Return AUROC (one against the rest, mean over classes), accuracy and balanced accuracy, on probabilities (B, C)."""
    return MetricCollection(
        {
            "auroc": MulticlassAUROC(num_classes, average="macro"),
            "accuracy": MulticlassAccuracy(num_classes, average="micro"),
            "balanced_accuracy": MulticlassAccuracy(num_classes, average="macro"),
        },
        compute_groups=False,
    )


class MultitaskMetrics(MetricCollection):
    """Metrics of masks and of classes, both losses, and `score`: the mean of Dice and AUROC, each counting half.

    Each takes what it knows from one update by keyword: `predicted` and `mask` (B, 1, H, W), binary; `preds` (B, num_classes),
    probabilities; `target` int64 (B,); `segmentation_loss` and `classification_loss`, scalars; `cases`, B.
    """

    def __init__(self, num_classes: int) -> None:
        masks = {"dice": LesionDice(), "iou": LesionIoU(), "false_positive_rate": FalsePositiveRate()}
        classes = dict(classification_metrics(num_classes).items())
        losses = {"segmentation_loss": SegmentationLoss(), "classification_loss": ClassificationLoss()}
        super().__init__({**masks, **classes, **losses}, compute_groups=False)

    def compute(self) -> dict[str, Any]:
        """Return each figure under its name; the score is not a number where Dice is not."""
        values = super().compute()
        dice, auroc, score = (f"{self.prefix or ''}{name}" for name in ("dice", "auroc", "score"))
        return {**values, score: (values[dice] + values[auroc]) / 2}
