"""What a task's network does beside others in a bundle."""

from bcd.tasks.base import BaseTask
from bcd.tasks.multitask import MultitaskTask
from bcd.tasks.roi_classification import RoiClassificationTask


def role_of(task: BaseTask) -> str:
    """Return `segmentation`, `classification`, `roi` (which is given an outline) or `multitask` (which does both by itself)."""
    if isinstance(task, RoiClassificationTask):
        return "roi"
    if isinstance(task, MultitaskTask):
        return "multitask"
    return "classification" if task.classifies else "segmentation"
