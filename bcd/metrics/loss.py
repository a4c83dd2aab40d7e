"""The mean loss over cases."""

import torch
from torch import Tensor
from torchmetrics import Metric


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
