"""Learning-rate schedules: a factor of the base rate from the fraction of the training that is done."""

import math
from typing import Protocol


class Schedule(Protocol):
    """Maps progress in [0, 1] to a factor in [0, 1]."""

    def __call__(self, progress: float) -> float:
        """Return the factor at this progress."""
        ...


class ConstantSchedule:
    """The learning rate stays as it is."""

    def __call__(self, progress: float) -> float:
        """Return 1."""
        return 1.0


class CosineSchedule:
    """Linear warm-up, then half a cosine down to zero (Loshchilov and Hutter, SGDR, ICLR 2017, arXiv:1608.03983).

    Args:
        warmup: share of the training that the warm-up takes, in [0, 1).

    Raises:
        ValueError: for a warm-up outside [0, 1).
    """

    def __init__(self, warmup: float) -> None:
        if not 0 <= warmup < 1:
            raise ValueError(f"scheduler.warmup={warmup} must lie in [0, 1): it is a share of the training.")
        self.warmup = warmup

    def __call__(self, progress: float) -> float:
        """Return the factor; never quite zero during the warm-up, so that the first step counts."""
        progress = min(max(progress, 0.0), 1.0)
        if progress < self.warmup:
            return max(progress / self.warmup, 1e-3)
        return 0.5 * (1 + math.cos(math.pi * (progress - self.warmup) / (1 - self.warmup)))
