"""What a task does, in plain values: for reports and commands that have a run's files and not its network."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class TaskInfo:
    """What a task does; see `bcd.tasks.networks.TaskNetwork`."""

    role: str
    outlines: bool
    classifies: bool
    takes_guide: bool = False

    @classmethod
    def of(cls, task: Any) -> "TaskInfo":
        """Return what a task, or a class of tasks, states."""
        return cls(task.role, task.outlines, task.classifies, task.takes_guide)

    @classmethod
    def of_predictions(cls, outlines: bool, classifies: bool) -> "TaskInfo":
        """Return what a task does of which only predictions are known: masks, classes, or both."""
        role = "multitask" if outlines and classifies else "segmentation" if outlines else "classification"
        return cls(role, outlines, classifies)

    def to_dict(self) -> dict[str, Any]:
        """Return the entry `task` of metrics.json."""
        return asdict(self)


# By the name of its class; for files that were written before they stated it.
_BEFORE = {
    "SegmentationTask": TaskInfo("segmentation", outlines=True, classifies=False),
    "ClassificationTask": TaskInfo("classification", outlines=False, classifies=True),
    "RoiClassificationTask": TaskInfo("roi", outlines=False, classifies=True, takes_guide=True),
    "MultitaskTask": TaskInfo("multitask", outlines=True, classifies=True),
}


def info_of(metrics: Mapping[str, Any], config: Mapping[str, Any] | None = None) -> TaskInfo:
    """Return what the task of a result does.

    A metrics.json of an earlier version does not state it: it follows from the task's class in the run's config, or, where
    there is none or the class is the user's own, from the figures that there are.

    Args:
        metrics: the content of metrics.json.
        config: of the run; None or empty where there is none.
    """
    stated = metrics.get("task")
    if isinstance(stated, Mapping):
        return TaskInfo(
            str(stated["role"]), bool(stated["outlines"]), bool(stated["classifies"]), bool(stated.get("takes_guide", False))
        )
    name = str((config or {}).get("task", {}).get("_target_", "")).rpartition(".")[2]
    if name in _BEFORE:
        return _BEFORE[name]
    test = metrics.get("test", {})
    return TaskInfo.of_predictions(outlines="lesion_images" in test, classifies="confusion" in test)
