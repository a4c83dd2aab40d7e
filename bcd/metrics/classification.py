"""Metrics of the classification tasks, from torchmetrics."""

from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassAUROC


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
