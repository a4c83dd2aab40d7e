"""Cross-entropy for classification."""

from torch import Tensor, nn
from torch.nn.functional import cross_entropy


class CrossEntropyLoss(nn.Module):
    """Cross-entropy over the classes, mean over the batch; at least 0."""

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Return the scalar loss of logits (B, C) against label int64 (B,)."""
        return cross_entropy(logits.float(), label)
