"""Inference: a batch in, probabilities at native size out; evaluation and prediction both call it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from bcd.preprocess import Preprocess
from bcd.sample import Batch
from bcd.tasks.networks import Outputs, TaskNetwork, device_of
from bcd.tasks.views import View


@dataclass(frozen=True)
class Prediction:
    """What a model predicts for one image.

    Attributes:
        case_id: of the case.
        mask: lesion probability per pixel at native size, float32 (H, W) in [0, 1]; None where the task does not segment.
        classes: probability per class, float32 (C,); None where the task does not classify.
        guide_is_empty: whether an ROI model was given an empty mask; None for other models.
    """

    case_id: str
    mask: np.ndarray | None
    classes: np.ndarray | None
    guide_is_empty: bool | None


@torch.no_grad()
def predict(task: TaskNetwork, batch: Batch, preprocess: Preprocess) -> Iterator[Prediction]:
    """Yield one prediction for each case of a batch.

    The network sees one image at a time, in float32: a figure then depends neither on the batch that a case happened to
    share nor on the training precision. Where the task has further views (`task.tta`), the
    probabilities are the mean over the image and its views; pixels that a view does not show count in the others alone.

    Args:
        task: in evaluation mode, on any device.
        batch: as the data loader makes it, on any device.
        preprocess: the one that made the batch.

    Raises:
        ValueError: when the task is in training mode, where batch norm would make the cases depend on each other.
    """
    if task.training:
        raise ValueError("The task is in training mode; call task.eval() before predicting.")
    for position, case_id in enumerate(batch["case_id"]):
        one = _single(batch, position, task)
        with torch.autocast(device_of(task).type, enabled=False):
            outputs = _with_views(task, one)
        yield _prediction(case_id, outputs, one, preprocess)


@torch.no_grad()
def predict_view(task: TaskNetwork, batch: Batch, preprocess: Preprocess, view: View) -> Prediction:
    """Return the prediction for one view of the one case of a batch, without the task's own views; maps come back to its place.

    Args:
        task: in evaluation mode, on any device.
        batch: of one case, as the data loader makes it.
        preprocess: the one that made the batch.
        view: the view of the image and its guide.

    Raises:
        ValueError: when the task is in training mode, or the batch has several cases.
    """
    if task.training or len(batch["case_id"]) != 1:
        raise ValueError("A view is of one case, by a task in evaluation mode: call task.eval(), and give one case at a time.")
    one = _single(batch, 0, task)
    with torch.autocast(device_of(task).type, enabled=False):
        outputs = task.infer(_viewed(one, view))
    mask = None if outputs.mask is None else view.back(outputs.mask)
    return _prediction(batch["case_id"][0], replace(outputs, mask=mask), one, preprocess)


def _prediction(case_id: str, outputs: Outputs, one: Batch, preprocess: Preprocess) -> Prediction:
    height, width = (int(side) for side in one["native_size"][0])
    mask = None if outputs.mask is None else preprocess.back(outputs.mask[0, 0].float().cpu().numpy(), height, width)
    classes = None if outputs.classes is None else outputs.classes[0].float().cpu().numpy()
    empty = None if outputs.guide_is_empty is None else bool(outputs.guide_is_empty[0])
    return Prediction(case_id, mask, classes, empty)


def _with_views(task: TaskNetwork, batch: Batch) -> Outputs:
    outputs = task.infer(batch)
    if not task.views:
        return outputs
    seen = [task.infer(_viewed(batch, view)) for view in task.views]
    mask, classes = outputs.mask, outputs.classes
    if mask is not None:
        shown = [view.back(torch.ones_like(mask)) for view in task.views]
        back = [view.back(one.mask) for view, one in zip(task.views, seen, strict=True) if one.mask is not None]
        mask = (mask + torch.stack(back).sum(0)) / (1 + torch.stack(shown).sum(0))
    if classes is not None:
        further = torch.stack([one.classes for one in seen if one.classes is not None])
        classes = (classes + further.sum(0)) / (1 + len(further))
    return Outputs(mask=mask, classes=classes, guide_is_empty=outputs.guide_is_empty)


def _viewed(batch: Batch, view: View) -> Batch:
    image, guide = view.image(batch["image"]).contiguous(), view.outline(batch["guide"]).contiguous()
    return Batch(**{**batch, "image": image, "guide": guide})


def _single(batch: Batch, position: int, task: TaskNetwork) -> Batch:
    one = slice(position, position + 1)
    return Batch(
        image=batch["image"][one].to(device_of(task)).contiguous(),
        mask=batch["mask"][one],
        guide=batch["guide"][one].to(device_of(task)).contiguous(),
        label=batch["label"][one],
        native_size=batch["native_size"][one],
        case_id=[batch["case_id"][position]],
    )
