"""Classification with the help of a mask."""

from bcd.tasks.classification import ClassificationTask
from bcd.tasks.networks import RoiClassification


class RoiClassificationTask(RoiClassification, ClassificationTask):
    """Classify the image, given a mask of the lesion.

    The arguments are ClassificationTask's; the model takes (image, guide), both (B, 1, H, W).
    """

    label_is_all = False
