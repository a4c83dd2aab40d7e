"""The networks of a bundle one after another: mask, then class, that of an ROI network with the help of the mask.

Each prediction is by `bcd.tasks.inference`, as in evaluation, one image at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from bcd.metrics.calibration import scale
from bcd.predictor.networks import Member
from bcd.preprocess import Preprocess
from bcd.sample import Batch
from bcd.tasks.inference import Prediction, predict, predict_view
from bcd.tasks.views import View


@dataclass(frozen=True)
class Answer:
    """The predictions of the networks for one image, each separately.

    Attributes:
        maps: lesion probability of each pixel by each network that segments, float32 (H, W).
        mask: bool (H, W), made of their mean, or given; None without.
        raw: class probabilities of each network that classifies, float32 (C,).
        calibrated: the same at each one's temperature, float64 (C,).
    """

    maps: list[np.ndarray]
    mask: np.ndarray | None
    raw: list[np.ndarray]
    calibrated: list[np.ndarray]


class Pipeline:
    """The networks of one bundle, which work together."""

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = list(members)
        self.segmenters = [member for member in members if member.task.outlines]
        self.classifiers = [member for member in members if member.task.classifies]
        self.takes_guide = any(member.task.takes_guide for member in members)

    def __call__(
        self,
        image: np.ndarray,
        name: str,
        mask_threshold: float | None,
        mask: np.ndarray | None = None,
        view: View | None = None,
    ) -> Answer:
        """Return what the networks predict for a grey image, uint8 (H, W).

        Args:
            image: as above.
            name: of the image.
            mask_threshold: a pixel is lesion from this mean probability on; None where nothing is segmented.
            mask: binary mask (H, W) in place of the predicted one; None for that.
            view: another view of the image; maps come back to the image's place.
        """
        seen = {member.name: look(member, image, name, None, view) for member in self.segmenters}
        maps = [one.mask for member in self.segmenters if (one := seen[member.name]).mask is not None]
        if mask is None and maps and mask_threshold is not None:
            mask = mean_map(maps) >= mask_threshold
        for member in self.classifiers:
            if member.name not in seen:
                seen[member.name] = look(member, image, name, mask if member.task.takes_guide else None, view)
        raw = [(member, classes) for member in self.classifiers if (classes := seen[member.name].classes) is not None]
        calibrated = [scale(classes[None], member.temperature)[0] for member, classes in raw]
        return Answer(maps, None if mask is None else mask.astype(bool), [classes for _, classes in raw], calibrated)


def mean_map(maps: Sequence[np.ndarray]) -> np.ndarray:
    """Return the mean of probability maps, float32 (H, W); a single one as it is."""
    return maps[0] if len(maps) == 1 else np.asarray(np.mean(maps, axis=0, dtype=np.float64), np.float32)


def mean_of(values: Sequence[np.ndarray]) -> np.ndarray | None:
    """Return the mean of probabilities (C,), of the same type; a single one as it is, and None of none."""
    if len(values) < 2:
        return values[0] if values else None
    return np.asarray(np.mean(values, axis=0, dtype=np.float64), dtype=values[0].dtype)


def look(member: Member, image: np.ndarray, name: str, mask: np.ndarray | None, view: View | None = None) -> Prediction:
    """Return what one network predicts for one image, and a mask where it takes one."""
    batch = batch_of(image, name, mask, member.preprocess)
    if view is None:
        return next(predict(member.task, batch, member.preprocess))
    return predict_view(member.task, batch, member.preprocess, view)


def batch_of(image: np.ndarray, name: str, mask: np.ndarray | None, preprocess: Preprocess) -> Batch:
    """Return a batch of one grey image, uint8 (H, W), and its binary mask (H, W) if any, as the data loader makes it."""
    fitted = preprocess.standardise(preprocess.fit_image(image))[None]
    guide = preprocess.fit_mask(mask) if mask is not None else np.zeros(fitted.shape[2:], np.uint8)
    return Batch(
        image=fitted,
        mask=torch.zeros_like(fitted),
        guide=torch.from_numpy(guide.astype(np.float32))[None, None],
        label=torch.tensor([-1]),
        native_size=torch.tensor([image.shape]),
        case_id=[name],
    )
