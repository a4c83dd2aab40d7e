"""What a run belongs to and what it is: the same words in every tracker."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Labels:
    """What trackers group runs by.

    Args:
        group: a sweep or a cross-validation; None for a run of its own.
        fold: the test fold, from 1.
        seed: from 0.
        data: the data set's name.
        task: such as `SegmentationTask`.
        figures: log keys that a table of runs should show.
    """

    group: str | None
    fold: int | None
    seed: int
    data: str
    task: str
    figures: tuple[str, ...]

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Labels":
        """Return the labels of a run's config."""
        task = str(config["task"].get("_target_", "")).rpartition(".")[2]
        monitor = config["task"].get("monitor")
        figures = [monitor] if isinstance(monitor, str) else []
        # An earlier version's run, which is resumed, has no group.
        group = config.get("group")
        return cls(
            group,
            config["fold"],
            config["seed"],
            str(config["data"]["name"]),
            task,
            (*figures, *(f.replace("val/", "test/") for f in figures)),
        )

    def facts(self) -> dict[str, Any]:
        """Return what is known, as name and value."""
        told = {"group": self.group, "fold": self.fold, "seed": self.seed, "data": self.data, "task": self.task}
        return {name: value for name, value in told.items() if value is not None}
