"""Learning-rate schedules: a factor of the base rate from the fraction of the training that is done.

Momentum stays as it is in all of them, in the one-cycle schedule too.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import ReduceLROnPlateau

from bcd.config.ranges import Natural, NotNegative, Part, Positive, Rest, Share, Within


class Schedule(Protocol):
    """Maps progress in [0, 1] to a factor in [0, 1]."""

    def __call__(self, progress: float) -> float:
        """Return the factor at this progress."""
        ...


@runtime_checkable
class ObservingSchedule(Protocol):
    """A schedule that also follows the monitored validation figure; what it remembers is kept with each checkpoint."""

    def __call__(self, progress: float) -> float:
        """Return the factor at this progress."""
        ...

    def observe(self, value: float) -> None:
        """Take in the monitored figure of a validation."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return what was observed so far, as plain values."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from such a state."""
        ...


class ConstantSchedule:
    """The learning rate stays as it is."""

    def __call__(self, progress: float) -> float:
        """Return 1."""
        return 1.0


class CosineSchedule:
    """Linear warm-up, then half a cosine down to zero (Loshchilov and Hutter, SGDR, ICLR 2017, arXiv:1608.03983).

    Args:
        warmup: share of the training that the warm-up takes.
    """

    def __init__(self, warmup: Rest) -> None:
        self.warmup = warmup

    def __call__(self, progress: float) -> float:
        """Return the factor; never quite zero during the warm-up, so that the first step counts."""
        progress = min(max(progress, 0.0), 1.0)
        if progress < self.warmup:
            return max(progress / self.warmup, 1e-3)
        return self.fall((progress - self.warmup) / (1 - self.warmup))

    def fall(self, share: float) -> float:
        """Return the factor at a share of the training behind the warm-up."""
        return _cosine(1.0, 0.0, share)


class PolynomialSchedule(CosineSchedule):
    """Linear warm-up, then (1 - progress) to a power, down to zero; nnU-Net's (doi:10.1038/s41592-020-01008-z) has power 0.9.

    Args:
        power: 1 falls in a straight line.
        warmup: share of the training that the warm-up takes.
    """

    def __init__(self, power: Positive, warmup: Rest) -> None:
        super().__init__(warmup)
        self.power = power

    def fall(self, share: float) -> float:
        """Return the factor at a share of the training behind the warm-up."""
        return float((1 - share) ** self.power)


class StepSchedule:
    """The rate falls by a factor at given shares of the training.

    Args:
        at: shares of the training, ascending.
        gamma: factor at each of them.

    Raises:
        ValueError: for shares that do not ascend.
    """

    def __init__(self, at: Sequence[Within], gamma: Within) -> None:
        if list(at) != sorted(set(at)):
            raise ValueError(f"scheduler.at={list(at)} must ascend: they are shares of the training.")
        self.at = list(at)
        self.gamma = gamma

    def __call__(self, progress: float) -> float:
        """Return gamma to the number of shares that have passed."""
        return float(self.gamma ** sum(progress >= share for share in self.at))


class OneCycleSchedule:
    """Half a cosine up to the full rate, then half a cosine down (Smith and Topin 2018, arXiv:1708.07120).

    Args:
        warmup: share of the training that the rise takes.
        start: factor at the beginning.
        final: factor at the end.
    """

    def __init__(self, warmup: Within, start: Part, final: Share) -> None:
        self.warmup = warmup
        self.start = start
        self.final = final

    def __call__(self, progress: float) -> float:
        """Return the factor."""
        progress = min(max(progress, 0.0), 1.0)
        if progress < self.warmup:
            return _cosine(self.start, 1.0, progress / self.warmup)
        return _cosine(1.0, self.final, (progress - self.warmup) / (1 - self.warmup))


class PlateauSchedule:
    """The rate falls by a factor whenever the monitored validation figure has stopped improving; the rule is torch's.

    Args:
        mode: `max` or `min` of the figure.
        gamma: factor at each fall.
        patience: validations without improvement that are waited for.
        threshold: an improvement is more than this, in the figure's own unit.
        lowest: the factor does not fall below this.
    """

    def __init__(self, mode: Literal["min", "max"], gamma: Within, patience: Natural, threshold: NotNegative, lowest: Rest) -> None:
        # torch's rule works on an optimizer: this one moves nothing, and its rate is the factor.
        self._factor = SGD([torch.zeros(1)], lr=1.0)
        self._rule = ReduceLROnPlateau(self._factor, mode, gamma, patience, threshold, threshold_mode="abs", min_lr=lowest, eps=0.0)

    def __call__(self, progress: float) -> float:
        """Return the factor that the validations so far have led to."""
        return float(self._factor.param_groups[0]["lr"])

    def observe(self, value: float) -> None:
        """Take in the monitored figure of a validation."""
        self._rule.step(value)

    def state_dict(self) -> dict[str, Any]:
        """Return the factor, the best figure, and for how many validations it has stood."""
        return {"factor": self(0.0), "best": float(self._rule.best), "bad_epochs": self._rule.num_bad_epochs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from such a state."""
        self._factor.param_groups[0]["lr"] = state["factor"]
        self._rule.best, self._rule.num_bad_epochs = state["best"], state["bad_epochs"]


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * share))
