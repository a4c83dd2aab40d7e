"""From the cache to the batch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset, Sampler, default_collate

from bcd.data.augment.perturbation import Perturbation
from bcd.data.augment.pipeline import Augmentation
from bcd.data.cache import Fitted
from bcd.preprocess import Preprocess
from bcd.sample import Batch

cv2.setNumThreads(0)  # the images are small: OpenCV's threads only fight with torch's

# Between the draws of a row that comes up again in the same epoch: more than any run has epochs.
REPEAT = 1 << 24


@dataclass(eq=False)
class CaseDataset(Dataset[dict[str, Any]]):
    """Samples of one part, indexed by (epoch, row) so that the augmentation differs in every epoch.

    Args:
        case_ids: of the part, in order.
        labels: class index of each case, -1 where it has none.
        cache: gives the fitted images and masks.
        guides: uint8 (N, S, S) in {0, 1}, row by row as `case_ids`; None for the truth; an empty array for none.
        perturbation: alters the guides; None leaves them as they are.
        preprocess: standardises.
        augmentation: None outside training.
        seed: of the augmentation and of altered guides.
    """

    case_ids: list[str]
    labels: list[int]
    cache: Fitted
    guides: np.ndarray | None
    perturbation: Perturbation | None
    preprocess: Preprocess
    augmentation: Augmentation | None
    seed: int

    def __post_init__(self) -> None:
        self.rows = [self.cache.index[case_id] for case_id in self.case_ids]

    def __len__(self) -> int:
        return len(self.case_ids)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        epoch, position = key
        row, case_id = self.rows[position], self.case_ids[position]
        image, mask = self.cache.read(row)
        guide = self._guide(epoch, position, mask)
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

    def _guide(self, epoch: int, position: int, mask: np.ndarray) -> np.ndarray:
        given = mask if self.guides is None else self.guides[position] if len(self.guides) else np.zeros_like(mask)
        guide = given.copy()
        if self.perturbation is None:
            return guide
        height, width = self.cache.native_sizes[self.rows[position]].tolist()
        # Outside training each epoch meets the same masks: a test can be repeated to the digit.
        drawn_in = epoch if self.augmentation is not None else None
        box = self.preprocess.box(height, width)
        return self.perturbation(guide, box, seed=self.seed, case_id=self.case_ids[position], epoch=drawn_in)


def collate(samples: list[dict[str, Any]]) -> Batch:
    """Stack samples into a batch."""
    batch: Batch = default_collate(samples)
    return batch


@dataclass(frozen=True)
class Share:
    """Which part of the work falls to this process, number `rank` (from 0) of `world_size` that train together."""

    rank: int = 0
    world_size: int = 1


@dataclass(frozen=True, eq=False)
class Windows:
    """Which rows an epoch reads together: those of `size` shards, drawn in every epoch.

    `shards` is the number of each row's shard, int64 (N,).
    """

    shards: np.ndarray
    size: int

    def draw(self, random: np.random.Generator) -> np.ndarray:
        """Return the window of each row, int64 (N,)."""
        numbers, shard_of_row = np.unique(self.shards, return_inverse=True)
        return np.asarray(random.permutation(len(numbers))[shard_of_row] // self.size)


class EpochSampler(Sampler[tuple[int, int]]):
    """Yields (draw, row) for one process: in order, shuffled, or class by class alike often. The trainer calls `set_epoch`.

    What an epoch holds follows from (seed, epoch) alone. The draw is the epoch; of a row that comes up several times in an
    epoch the further ones get a draw of their own, so that they are augmented otherwise.

    Several processes share each batch of the one order that a single process would see: every row comes to exactly one of them.

    Args:
        labels: class index of each row.
        seed: of the order; None keeps the rows in order.
        balanced: draw each class equally often: rows of the rarer classes repeat, of the others some are left out.
        share: this process among all.
        multiple: rows beyond the last multiple of this number are left for another epoch.
        windows: rows that are read together; None for all of them. The order is shuffled within each window.
    """

    def __init__(
        self,
        labels: Sequence[int],
        seed: int | None,
        balanced: bool = False,
        share: Share = Share(),
        multiple: int = 1,
        windows: "Windows | None" = None,
    ) -> None:
        self.labels = np.asarray(labels)
        self.seed = seed
        self.balanced = balanced
        self.share = share
        self.length = len(self.labels) // multiple * multiple
        self.windows = windows
        self.epoch = 0
        self._skipped = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next pass belongs to."""
        if epoch != self.epoch:
            self._skipped = 0
        self.epoch = epoch

    def skip(self, rows: int) -> None:
        """Leave out the first rows of this epoch: a run that was stopped in the middle of it has seen them."""
        self._skipped = rows

    def __len__(self) -> int:
        """Return the number of rows of a whole pass."""
        return len(range(self.share.rank, self.length, self.share.world_size))

    def __iter__(self) -> Iterator[tuple[int, int]]:
        rows, draws = self._order()
        chosen = slice(self.share.rank, self.length, self.share.world_size)
        mine = slice(self._skipped, None)
        # Not as one list: of a million rows it would take longer, and more memory, than the first batch.
        return zip(map(int, draws[chosen][mine]), map(int, rows[chosen][mine]), strict=True)

    def _order(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of a pass, int64 (N,), and the draw of each, int64 (N,)."""
        if self.seed is None:
            return np.arange(len(self.labels)), np.full(len(self.labels), self.epoch)
        random = np.random.default_rng([self.seed, self.epoch])
        rows = self._balanced_rows(random) if self.balanced else np.arange(len(self.labels))
        random.shuffle(rows)
        if self.windows is not None:
            rows = rows[np.argsort(self.windows.draw(random)[rows], kind="stable")]
        order = np.argsort(rows, kind="stable")
        repeats = np.empty(len(rows), np.int64)  # how often each row stood before its place already
        repeats[order] = np.arange(len(rows)) - np.searchsorted(rows[order], rows[order])
        return rows, self.epoch + REPEAT * repeats

    def _balanced_rows(self, random: np.random.Generator) -> np.ndarray:
        """Return as many rows as there are; classes, and the rows of each class, are alike often to within one."""
        classes = np.unique(self.labels)
        shares = np.full(len(classes), len(self.labels) // len(classes))
        shares[random.permutation(len(classes))[: len(self.labels) % len(classes)]] += 1
        chosen = []
        for label, count in zip(classes, shares, strict=True):
            of_class = np.flatnonzero(self.labels == label)
            rounds = [random.permutation(of_class) for _ in range(-(-count // len(of_class)))]
            chosen.append(np.concatenate([of_class[:0], *rounds])[:count])
        return np.concatenate(chosen)
