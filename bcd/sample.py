"""The batch: the one thing that data and tasks both know."""

from typing import TypedDict

from torch import Tensor
from torch.nn.functional import interpolate


class Batch(TypedDict):
    """What the data loader yields and every task reads.

    Attributes:
        image: float32 (B, 1, H, W), standardised by the run's Preprocess.
        mask: float32 (B, 1, H, W) in {0, 1}, always the truth; all zero without a lesion.
        guide: float32 (B, 1, H, W) in [0, 1], the mask that guides an ROI model; all zero when empty.
        label: int64 (B,), index into the run's class names; -1 where the case has no label.
        native_size: int64 (B, 2), height and width in pixels of the original image.
        case_id: B case ids.
    """

    image: Tensor
    mask: Tensor
    guide: Tensor
    label: Tensor
    native_size: Tensor
    case_id: list[str]


def shrink(batch: Batch, size: int) -> None:
    """Make the images of a batch smaller, in place.

    Args:
        batch: on any device.
        size: side in pixels.
    """
    side = (size, size)
    batch["image"] = interpolate(batch["image"], side, mode="bilinear", antialias=True)
    # A pixel is lesion when half of it is, as in Preprocess.
    batch["mask"] = (interpolate(batch["mask"], side, mode="bilinear", antialias=True) >= 0.5).float()
    batch["guide"] = interpolate(batch["guide"], side, mode="bilinear", antialias=True)
