"""Dice and IoU per image, and what is found on images without a lesion."""

import torch
from torch import Tensor
from torchmetrics import Metric


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
    """Share of the lesion-free images on which anything is outlined, in [0, 1]."""

    def update(self, predicted: Tensor, mask: Tensor) -> None:
        """Add binary (B, 1, H, W) predictions and truths."""
        lesion_free = ~mask.flatten(1).any(1)
        self.add(predicted[lesion_free].flatten(1).any(1))
