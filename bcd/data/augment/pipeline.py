"""Augmentation: albumentations, drawn from (seed, epoch, case) so that no worker repeats it and a resumed run does."""

import random
import zlib
from collections.abc import Sequence

import albumentations
import numpy as np


class Augmentation:
    """Alter an image and, where the transform moves pixels, its mask and guide with it.

    The draw depends only on seed, epoch and case id: not on the number of workers or the order of the cases.

    Args:
        transforms: albumentations transforms, applied in this order; empty for none.
    """

    def __init__(self, transforms: Sequence[albumentations.BasicTransform]) -> None:
        self.transforms = list(transforms)
        self._compose = albumentations.Compose(self.transforms, additional_targets={"guide": "mask"}) if self.transforms else None

    def __call__(
        self, image: np.ndarray, mask: np.ndarray, guide: np.ndarray, *, seed: int, epoch: int, case_id: str
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the altered image, mask and guide; all are uint8 (H, W) before and after."""
        if self._compose is None:
            return image, mask, guide
        words = np.random.SeedSequence([seed, epoch, zlib.crc32(case_id.encode("utf-8", "surrogateescape"))]).generate_state(1)
        # Not set_random_seed: it gives every transform a generator of its own with one seed, and all then draw the same
        # numbers, so that whenever one is left out the others are too.
        self._compose.set_random_state(np.random.default_rng(words), random.Random(int(words[0])))
        altered = self._compose(image=image, mask=mask, guide=guide)
        return altered["image"], altered["mask"], altered["guide"]
