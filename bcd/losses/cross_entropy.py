"""Cross-entropies for classification."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bcd.config.ranges import Classes, Positive, Rest

BALANCED = "balanced"


class CrossEntropyLoss(nn.Module):
    """Cross-entropy over the classes, mean over the batch; at least 0."""

    kind = "classification"

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Return the scalar loss of logits (B, C) against label int64 (B,)."""
        return cross_entropy(logits.float(), label)


class LabelSmoothingLoss(nn.Module):
    """Cross-entropy against softened labels, mean over the batch; at least 0.

    Szegedy et al., CVPR 2016, doi:10.1109/CVPR.2016.308: the true class is asked for with 1 - smoothing, and the rest is spread
    evenly over all classes.

    Args:
        smoothing: 0 is the plain cross-entropy.
    """

    kind = "classification"

    def __init__(self, smoothing: Rest) -> None:
        super().__init__()
        self.smoothing = smoothing

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Return the scalar loss of logits (B, C) against label int64 (B,)."""
        return cross_entropy(logits.float(), label, label_smoothing=self.smoothing)


class WeightedCrossEntropyLoss(nn.Module):
    """Cross-entropy times the weight of the case's class, then the mean over the batch; at least 0.

    It is the mean, and not torch's quotient by the weights of the batch: so a case has the same weight in every batch.
    Balanced weights are n / (C n_c) for n training cases in C classes, n_c in class c: each class weighs as much as any other,
    and the mean weight of a case is 1, so that the learning rate means what it does without weights.

    Args:
        weights: `balanced`, or one positive weight a class, in the order of the classes.
        num_classes: C.

    Attributes:
        class_weights: float32 (C,), kept in checkpoints; not numbers where balanced weights were not counted yet.

    Raises:
        ValueError: for another number of weights than classes.
    """

    kind = "classification"
    class_weights: Tensor

    def __init__(self, weights: Sequence[Positive] | Literal["balanced"], num_classes: Classes) -> None:
        super().__init__()
        self.balanced = weights == BALANCED
        self.register_buffer("class_weights", torch.full((num_classes,), torch.nan))
        self._ready = False
        if not self.balanced:
            if len(weights) != num_classes:
                raise ValueError(f"loss.weights={list(weights)}: give {num_classes}, one per class in the order of data.classes.")
            self.class_weights.copy_(torch.tensor(weights))

    def set_class_counts(self, counts: Sequence[int]) -> None:
        """Take the number of training cases of each class; weights that were given stay as they are.

        Raises:
            ValueError: when there is not one count a class, or balanced weights meet a class without training cases.
        """
        if len(counts) != len(self.class_weights):
            raise ValueError(f"{len(counts)} class counts for {len(self.class_weights)} classes; give one per class.")
        if not self.balanced:
            return
        for index, count in enumerate(counts):
            if count < 1:
                raise ValueError(
                    f"Class {index} (counted from 0 in data.classes) has no training cases, so loss.weights=balanced has no "
                    "weight for it: leave it out of data.classes, take another fold, or give loss.weights=[...]."
                )
        weights = sum(counts) / (len(counts) * torch.tensor(counts, dtype=torch.float64))
        self.class_weights.copy_(weights)

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Return the scalar loss of logits (B, C) against label int64 (B,).

        Raises:
            RuntimeError: when balanced weights were never counted.
        """
        self._require_weights()
        return cross_entropy(logits.float(), label, weight=self.class_weights, reduction="none").mean()

    def _require_weights(self) -> None:
        if not self._ready:  # looked at once: on a GPU each check synchronises
            if self.class_weights.isnan().any():
                raise RuntimeError(
                    "loss.weights=balanced needs the number of training cases of each class: call set_class_counts, or load a "
                    "checkpoint, before the first step; or give loss.weights=[...]."
                )
            self._ready = True
