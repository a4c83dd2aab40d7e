"""The prediction of each kind of task, without the parts that only training needs.

The tasks inherit from these classes, and the predictor builds these alone: so both predict by the same code, and prediction
imports neither Lightning nor losses, metrics and optimizers.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bcd.config.build import build, refuse_untrusted
from bcd.models.guides import is_empty
from bcd.models.start_up import ZerosForRandom
from bcd.sample import Batch
from bcd.tasks.views import ViewName, named_views


@dataclass(frozen=True)
class Outputs:
    """What a network predicts for a batch; None for what its task does not learn.

    Attributes:
        mask: lesion probability per pixel, float32 (B, 1, H, W) in [0, 1].
        classes: probability per class, float32 (B, C), rows sum to 1.
        guide_is_empty: bool (B,), where an ROI model was given an empty mask and saw the whole image.
    """

    mask: Tensor | None = None
    classes: Tensor | None = None
    guide_is_empty: Tensor | None = None


class TaskNetwork(nn.Module):
    """A network with what it takes to predict. A task of the user's own states the four class attributes.

    Args:
        model: the network.
        threshold: a pixel is lesion from this probability on, in (0, 1); None where the task predicts no mask.
        tta: further views of an image that `bcd.tasks.inference.predict` averages: names of `bcd.tasks.views`.

    Attributes:
        role: `segmentation`, `classification`, `roi` or `multitask`, which bundles know; or a name of the user's own.
        outlines: it predicts a mask, and so needs lesions to learn from.
        classifies: it predicts a class, and so needs a label for every case.
        takes_guide: it is given a mask beside the image.

    Raises:
        TypeError: for a class that states neither `outlines` nor `classifies`.
        ValueError: for a threshold outside (0, 1), one that is missing, or a view that does not exist.
    """

    role = "custom"
    outlines = False
    classifies = False
    takes_guide = False

    def __init__(self, model: nn.Module, threshold: float | None = None, tta: Sequence[ViewName] = ()) -> None:
        super().__init__()
        if not (self.outlines or self.classifies):
            raise TypeError(f"{type(self).__name__} must state what it does: set its class attributes outlines and classifies.")
        if self.outlines and threshold is None:
            raise ValueError(f"{type(self).__name__} predicts a mask: it needs a threshold in (0, 1).")
        if threshold is not None and not 0 < threshold < 1:
            raise ValueError(f"task.threshold={threshold} must lie between 0 and 1.")
        self.model = model
        self.threshold = threshold if self.outlines else None
        self.views = named_views(tta)

    def infer(self, batch: Batch) -> Outputs:
        """Return what the network predicts for a batch, as probabilities."""
        raise NotImplementedError


class Segmentation(TaskNetwork):
    """Predicts a mask. The model: image (B, 1, H, W) -> logits (B, 1, H, W)."""

    role = "segmentation"
    outlines = True

    def forward(self, image: Tensor) -> Tensor:
        """Return lesion probabilities (B, 1, H, W) of image (B, 1, H, W)."""
        return self.model(image).float().sigmoid()

    def infer(self, batch: Batch) -> Outputs:
        """Return the lesion probabilities."""
        return Outputs(mask=self(batch["image"]))


class Classification(TaskNetwork):
    """Predicts the class of the whole image. The model: image (B, 1, H, W) -> logits (B, C)."""

    role = "classification"
    classifies = True

    def forward(self, image: Tensor) -> Tensor:
        """Return class probabilities (B, C) of image (B, 1, H, W)."""
        return self.model(image).float().softmax(1)

    def logits(self, batch: Batch) -> Tensor:
        """Return the model's logits (B, C) for a batch."""
        return self.model(batch["image"]).float()

    def infer(self, batch: Batch) -> Outputs:
        """Return the class probabilities."""
        return Outputs(classes=self.logits(batch).softmax(1))


class RoiClassification(Classification):
    """Predicts the class, given a mask of the lesion. The model: image and guide (B, 1, H, W) -> logits (B, C)."""

    role = "roi"
    takes_guide = True

    def forward(self, image: Tensor, guide: Tensor) -> Tensor:  # type: ignore[override]
        """Return class probabilities (B, C) of image and guide (B, 1, H, W)."""
        return self.model(image, guide).float().softmax(1)

    def logits(self, batch: Batch) -> Tensor:
        """Return the model's logits (B, C) for a batch."""
        return self.model(batch["image"], batch["guide"]).float()

    def infer(self, batch: Batch) -> Outputs:
        """Return the class probabilities, and where the guide was empty."""
        return Outputs(classes=self.logits(batch).softmax(1), guide_is_empty=is_empty(batch["guide"]))


class Multitask(TaskNetwork):
    """Predicts mask and class. The model: image (B, 1, H, W) -> logits of the mask (B, 1, H, W) and of the classes (B, C)."""

    role = "multitask"
    outlines = True
    classifies = True

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return probabilities of lesion (B, 1, H, W) and of the classes (B, C) for an image (B, 1, H, W)."""
        mask, classes = self.model(image)
        return mask.float().sigmoid(), classes.float().softmax(1)

    def logits(self, batch: Batch) -> Tensor:
        """Return the model's logits (B, C) of the classes for a batch."""
        return self.model(batch["image"])[1].float()

    def infer(self, batch: Batch) -> Outputs:
        """Return the probabilities of lesion and of the classes."""
        mask, classes = self(batch["image"])
        return Outputs(mask=mask, classes=classes)


# The task that a config names -> what predicts for it.
_INFERENCE: dict[str, type[TaskNetwork]] = {
    "bcd.tasks.segmentation.SegmentationTask": Segmentation,
    "bcd.tasks.classification.ClassificationTask": Classification,
    "bcd.tasks.roi_classification.RoiClassificationTask": RoiClassification,
    "bcd.tasks.multitask.MultitaskTask": Multitask,
}


def inference_network(node: Mapping[str, Any], trusted: Collection[str] = (), model: nn.Module | None = None) -> TaskNetwork:
    """Return what predicts for the task that a config describes, its weights still to be loaded.

    For a task of the user's own, that task itself.

    `trusted` is never taken from the file. A `model` takes the place of the network that the config names.

    Raises:
        UntrustedTargetError: when it names another constructor, even if it is not needed here.
    """
    refuse_untrusted(node, trusted, from_checkpoint=True)
    node = without_pretrained(node)
    kind = _INFERENCE.get(node["_target_"])
    if kind is None:
        task: TaskNetwork = build(node, trusted=trusted, from_checkpoint=True)
        return task
    if model is None:
        with ZerosForRandom():
            model = build(node["model"], trusted=trusted, from_checkpoint=True)
    return kind(model, node.get("threshold"), node.get("tta", ()))


def device_of(network: nn.Module) -> torch.device:
    """Return where a network's weights are; the CPU for one that has none, such as an exported model."""
    return next((parameter.device for parameter in network.parameters()), torch.device("cpu"))


def without_pretrained(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return a task's config that reads no weights file: the checkpoint has the weights."""
    return {**node, "model": _from_random_weights(node.get("model"))}


def _from_random_weights(node: Any) -> Any:
    """Return a network's config, and those of the networks inside it, with `pretrained` off."""
    if isinstance(node, list):
        return [_from_random_weights(part) for part in node]
    if not isinstance(node, dict):
        return node
    return {key: False if key == "pretrained" else _from_random_weights(value) for key, value in node.items()}
