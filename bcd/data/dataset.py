"""From the cache to the batch."""

from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset, Sampler, default_collate

from bcd.data.augmentation import Augmentation
from bcd.data.cache import Cache
from bcd.preprocess import Preprocess
from bcd.sample import Batch

cv2.setNumThreads(0)  # the images are small: OpenCV's threads only fight with torch's


class CaseDataset(Dataset[dict[str, Any]]):
    """Samples of one part, indexed by (epoch, row) so that the augmentation is drawn anew in every epoch.

    Args:
        case_ids: of the part, in order.
        labels: class index of each case, -1 where it has none.
        cache: holds the fitted images and masks.
        guides: uint8 (N, S, S) in {0, 1}, row by row as `case_ids`; None for the truth, an empty array for none.
        preprocess: standardises.
        augmentation: None outside training.
        seed: of the augmentation.
    """

    def __init__(
        self,
        case_ids: Sequence[str],
        labels: Sequence[int],
        cache: Cache,
        guides: np.ndarray | None,
        preprocess: Preprocess,
        augmentation: Augmentation | None,
        seed: int,
    ) -> None:
        self.case_ids = list(case_ids)
        self.labels = list(labels)
        self.cache = cache
        self.guides = guides
        self.preprocess = preprocess
        self.augmentation = augmentation
        self.seed = seed
        self.rows = [cache.index[case_id] for case_id in case_ids]

    def __len__(self) -> int:
        return len(self.case_ids)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        epoch, position = key
        row, case_id = self.rows[position], self.case_ids[position]
        image, mask = np.array(self.cache.images[row]), np.array(self.cache.masks[row])
        guide = self._guide(position, mask)
        if self.augmentation is not None:
            image, mask, guide = self.augmentation(image, mask, guide, seed=self.seed, epoch=epoch, case_id=case_id)
        return {
            "image": self.preprocess.standardise(image),
            "mask": torch.from_numpy(mask.astype(np.float32))[None],
            "guide": torch.from_numpy(guide.astype(np.float32))[None],
            "label": self.labels[position],
            "native_size": torch.from_numpy(self.cache.native_sizes[row]),
            "case_id": case_id,
        }

    def _guide(self, position: int, mask: np.ndarray) -> np.ndarray:
        if self.guides is None:
            return mask.copy()
        return self.guides[position].copy() if len(self.guides) else np.zeros_like(mask)


def collate(samples: list[dict[str, Any]]) -> Batch:
    """Stack samples into a batch."""
    batch: Batch = default_collate(samples)
    return batch


class EpochSampler(Sampler[tuple[int, int]]):
    """Yields (epoch, row); shuffled by (seed, epoch), or in order. The trainer calls `set_epoch`.

    Args:
        length: number of rows.
        seed: of the order; None keeps the order.
    """

    def __init__(self, length: int, seed: int | None) -> None:
        self.length = length
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next pass belongs to."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[tuple[int, int]]:
        rows = np.arange(self.length)
        if self.seed is not None:
            np.random.default_rng([self.seed, self.epoch]).shuffle(rows)
        return iter([(self.epoch, int(row)) for row in rows])
