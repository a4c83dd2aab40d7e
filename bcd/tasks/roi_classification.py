"""Classification with the help of an outline."""

from torch import Tensor

from bcd.models.roi import is_empty
from bcd.sample import Batch
from bcd.tasks.base import Outputs
from bcd.tasks.classification import ClassificationTask


class RoiClassificationTask(ClassificationTask):
    """Tell the classes apart, given an outline of the lesion.

    The arguments are ClassificationTask's; the model takes (image, guide), both (B, 1, H, W).
    """

    label_is_all = False

    def forward(self, image: Tensor, guide: Tensor) -> Tensor:  # type: ignore[override]
        """Return class probabilities (B, C) of image and guide (B, 1, H, W)."""
        return self.model(image, guide).float().softmax(1)

    def logits(self, batch: Batch) -> Tensor:
        """Return the model's logits (B, C) for a batch."""
        return self.model(batch["image"], batch["guide"]).float()

    def infer(self, batch: Batch) -> Outputs:
        """Return the class probabilities, and where there was no outline to go by."""
        return Outputs(classes=self.logits(batch).softmax(1), guide_is_empty=is_empty(batch["guide"]))
