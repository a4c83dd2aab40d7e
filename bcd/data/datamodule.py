"""The one LightningDataModule that all tasks share."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from bcd.data.augment.pipeline import Augmentation
from bcd.data.cache import Alteration, Fitted, Stream, altered_cache, open_cache
from bcd.data.dataset import CaseDataset, EpochSampler, Share, Windows, collate
from bcd.data.guides import FROM_TRUTH, PERTURBED, PREDICTED, GuidePolicy, check_normals, read_predicted, seen_in_training
from bcd.data.manifest import Case
from bcd.data.prepare import Prepared
from bcd.data.selection import Selection, select, share_of_groups, spread
from bcd.data.splits import assign_parts, check_split
from bcd.preprocess import Preprocess

log = logging.getLogger(__name__)

PARTS = ("train", "valid", "test")


@dataclass(frozen=True)
class Loading:
    """How samples become batches.

    Args:
        batch_size: cases a training step; where several processes train together, they share them.
        num_workers: processes that load; 0 loads in the main process, which is fastest where the CPU trains.
        seed: of the order and the augmentation.
        pin_memory: for copying to a GPU.
        sampling: `natural` shows each training case once an epoch, `balanced` each class equally often.
    """

    batch_size: int
    num_workers: int
    seed: int
    pin_memory: bool = False
    sampling: str = "natural"


class UltrasoundDataModule(LightningDataModule):
    """Train, validation and test loaders of one fold of a prepared data set.

    Args:
        prepared: the data set: cases, groups, split.
        selection: which cases, which fold.
        preprocess: the same as in evaluation and prediction.
        augmentation: for the train part alone.
        guide: the mask that ROI models are given.
        loading: batch size, workers, seed.

    Attributes:
        cases: train, valid, test -> the cases of the part; after `setup`.
        left_out: reason -> ids of the cases that the run does not use.
        crossings: pairs of cases of one group on two sides of the split; empty unless `allow_leak`.
    """

    def __init__(
        self,
        prepared: Prepared,
        selection: Selection,
        preprocess: Preprocess,
        augmentation: Augmentation,
        guide: GuidePolicy,
        loading: Loading,
    ) -> None:
        super().__init__()
        self.prepared = prepared
        self.selection = selection
        self.preprocess = preprocess
        self.augmentation = augmentation
        self.guide = guide
        self.loading = loading
        self.cases: dict[str, list[Case]] = {}
        self.left_out: dict[str, list[str]] = {}
        self.crossings: list[tuple[str, str]] = []
        self.guides_seen_in_training: list[str] = []
        self.guides_of_unknown_origin = 0
        self.without_mask: list[str] = []
        self._cache: Fitted | None = None
        self._datasets: dict[str, CaseDataset] = {}

    def setup(self, stage: str | None = None) -> None:
        """Check the split, select the cases, open the cache; a second call does nothing.

        Raises:
            SplitError: when a group crosses the split or the split does not match the data.
            GuideError: when a guide is missing or would give the label away.
            ValueError: when a part has no cases.
        """
        wanted = {"test": ("test",), "validate": ("valid",)}.get(stage or "", PARTS)
        if all(part in self._datasets for part in wanted):
            return
        self.select_cases(wanted)
        prepared = self.prepared
        if prepared.streaming is not None:
            self._cache = Stream(prepared.cases, self.preprocess, prepared.streaming.sizes, prepared.max_pixels)
        else:
            self._cache = open_cache(prepared.cases, self.preprocess, prepared.folder, prepared.max_pixels)
        self._warn_of_seen_guides(wanted)
        self._datasets |= {part: self._dataset(part, self._cache) for part in wanted}

    def alter_images(self, part: str, alter: Alteration | None) -> None:
        """Give the images of a part that `setup` was called for altered at native size from here on; None gives them as they are.

        Guides, masks, files and the cache stay as they are.

        Raises:
            ValueError: before `setup`.
        """
        if self._cache is None or part not in self._datasets:
            raise ValueError(f"The {part} part is not set up; call setup() first.")
        cases, max_pixels = self.cases[part], self.prepared.max_pixels
        cache: Fitted = self._cache if alter is None else altered_cache(cases, self.preprocess, alter, max_pixels)
        self._datasets[part] = self._dataset(part, cache)

    def select_cases(self, wanted: Sequence[str] = PARTS) -> None:
        """Check the split and find the cases of each part, without reading a single image; `setup` begins with it.

        Guides are checked of the parts in `wanted`.

        Raises:
            SplitError: when a group crosses the split or the split does not match the data.
            GuideError: when a guide would give the label away.
            ValueError: when a part has no cases.
        """
        if not self.cases:
            self._select()
        for part in wanted:
            check_normals(self.guide, part, self.cases[part])

    def _select(self) -> None:
        contradictory = set(self.prepared.groups.loc[self.prepared.groups["contradictory"].astype(bool), "case_id"])
        kept, self.left_out = select(self.prepared.cases, contradictory, self.selection)
        fold = self.selection.fold
        cases = {"train": [], "valid": [], "test": kept} if fold is None else self._parts(kept, fold)
        if self.selection.overfit is not None:
            cases["train"] = cases["valid"] = spread(cases["train"], self.selection.overfit)
            log.warning("overfit: %d cases train, not augmented, and validate.", len(cases["train"]))
        self.cases = cases
        where = "All cases" if fold is None else f"Fold {fold}"
        log.info("%s: %s.", where, ", ".join(f"{len(cases[part])} {part}" for part in PARTS))
        # Of classes that mostly have masks: is the lesion absent, or was it not segmented?
        with_mask, total = Counter(case.label for case in kept if case.masks), Counter(case.label for case in kept)
        mostly = {label for label in total if label is not None and 2 * with_mask[label] > total[label]}
        self.without_mask = [case.case_id for case in kept if not case.masks and case.label in mostly]
        if self.without_mask:
            log.warning(
                "%d images of classes that have lesion masks have none (first: %s); they are taken as lesion-free.",
                len(self.without_mask),
                self.without_mask[0],
            )

    def _parts(self, kept: Sequence[Case], fold: int) -> dict[str, list[Case]]:
        """Return the parts of a fold, none of them empty; `left_out` gets what the split file or `train_share` leaves out."""
        case_ids = [case.case_id for case in self.prepared.cases]
        crossings = check_split(self.prepared.split, case_ids, self.prepared.groups, self.selection.allow_leak)
        self.crossings = [(pair.first, pair.second) for pair in crossings]
        part_of = assign_parts(self.prepared.split, fold).to_dict()  # a Series takes a hundred times as long for each case
        parts = {part: [case for case in kept if part_of[case.case_id] == part] for part in PARTS}
        astray = [case.case_id for case in kept if part_of[case.case_id] not in PARTS]
        if self.selection.refit:
            # Copies of test cases, which a split file may leave out, are as good as any other where nothing is tested.
            parts["train"], parts["test"] = [case for case in kept if part_of[case.case_id] != "valid"], []
        elif astray:
            self.left_out["left out of this fold by the split file, as copies of cases on its other side"] = astray
            log.info("Left out %d cases that the split file names (%s, ...).", len(astray), astray[0])
        for part, cases in parts.items():
            if not cases and not (self.selection.refit and part == "test"):
                raise ValueError(f"The {part} part of fold {fold} has no cases left; {len(kept)} cases in all were kept.")
        if self.selection.train_share < 1:
            whole, share = parts["train"], self.selection.train_share
            parts["train"] = share_of_groups(whole, self.group_of(), share, self.selection.seed)
            spared = sorted({case.case_id for case in whole} - {case.case_id for case in parts["train"]})
            self.left_out[f"not learned from (data.train_share={share})"] = spared
        return parts

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the training loader: shuffled, augmented; a last batch that is not full is left for another epoch."""
        return self._loader("train", self._share(), training=True)

    def val_dataloader(self) -> DataLoader[Any]:
        """Return the validation loader: in order, not augmented."""
        return self._loader("valid", self._share())

    def test_dataloader(self) -> DataLoader[Any]:
        """Return the test loader: in order, not augmented."""
        return self.scoring_dataloader("test")

    def scoring_dataloader(self, part: str) -> DataLoader[Any]:
        """Return the loader of every case of a part, in order, not augmented, also where several processes train."""
        return self._loader(part, Share())

    def group_of(self) -> dict[str, str]:
        """Return the group of each case."""
        return dict(zip(self.prepared.groups["case_id"], self.prepared.groups["group"].astype(str), strict=True))

    def require_labels(self) -> None:
        """Refuse unlabelled cases, for tasks that classify, by a ValueError that names the first."""
        unlabelled = [case.case_id for part in PARTS for case in self.cases[part] if case.label is None]
        if unlabelled:
            raise ValueError(
                f"{len(unlabelled)} cases have no label (first: {unlabelled[0]}); a classification needs one for each."
            )

    def class_counts(self) -> list[int]:
        """Return how many training cases each class has, in the order of the classes."""
        counts = Counter(case.label for case in self.cases["train"])
        return [counts[name] for name in self.selection.classes]

    def learned_from(self) -> list[str]:
        """Return the ids of the cases that the model learns from or is chosen by."""
        return [case.case_id for part in ("train", "valid") for case in self.cases[part]]

    def _warn_of_seen_guides(self, parts: Sequence[str]) -> None:
        used = [case for part in parts if self.guide.kind(part) in PREDICTED for case in self.cases[part]]
        self.guides_seen_in_training, self.guides_of_unknown_origin = seen_in_training(self.guide, used)
        if self.guides_of_unknown_origin:
            log.warning("%d predicted masks do not say which model made them.", self.guides_of_unknown_origin)
        if self.guides_seen_in_training:
            log.warning(
                "%d of %d predicted masks come from a model that was trained on that image (first: %s); they are better than "
                "masks of unseen images, and the results state this. Predict each fold with a model trained on the others.",
                len(self.guides_seen_in_training),
                len(used),
                self.guides_seen_in_training[0],
            )

    def _dataset(self, part: str, cache: Fitted) -> CaseDataset:
        cases, kind = self.cases[part], self.guide.kind(part)
        order = {label: number for number, label in enumerate(self.selection.classes)}
        guides = None
        if kind == "none":
            guides = np.zeros((0, self.preprocess.size, self.preprocess.size), np.uint8)
        elif kind not in FROM_TRUTH:
            sizes = cache.native_sizes[[cache.index[case.case_id] for case in cases]]
            guides = read_predicted(self.guide, cases, self.preprocess, sizes)
        return CaseDataset(
            case_ids=[case.case_id for case in cases],
            labels=[order[case.label] if case.label is not None else -1 for case in cases],
            cache=cache,
            guides=guides,
            perturbation=self.guide.perturbation if kind in PERTURBED else None,
            preprocess=self.preprocess,
            augmentation=self.augmentation if part == "train" and self.selection.overfit is None else None,
            seed=self.loading.seed,
        )

    def _loader(self, part: str, share: Share, training: bool = False) -> DataLoader[Any]:
        dataset, streaming, whole = self._datasets[part], self.prepared.streaming, self.loading.batch_size
        if whole % share.world_size:
            raise ValueError(f"batch_size={whole} cannot be shared by {share.world_size} processes; make it a multiple.")
        batch_size = whole // share.world_size
        sampler = EpochSampler(
            dataset.labels,
            self.loading.seed if training else None,
            balanced=training and self.loading.sampling == "balanced",
            share=share,
            # Batch norm cannot learn from a batch of one, and every process must take as many steps as the others.
            multiple=max(1, min(whole, len(dataset) // share.world_size * share.world_size)) if training else 1,
            windows=None if streaming is None else Windows(streaming.shards[dataset.rows], streaming.shuffle_shards),
        )
        if training:
            self._go_on(sampler, batch_size)
        return DataLoader(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            num_workers=self.loading.num_workers,
            collate_fn=collate,
            pin_memory=self.loading.pin_memory,
            persistent_workers=self.loading.num_workers > 0,
        )

    def _share(self) -> Share:
        trainer = self.trainer
        return Share() if trainer is None else Share(trainer.global_rank, trainer.world_size)

    def _go_on(self, sampler: EpochSampler, batch_size: int) -> None:
        """Begin where a resumed run stopped; Lightning would start its first pass over the loader with epoch 0."""
        if self.trainer is None:
            return
        loop = self.trainer.fit_loop
        sampler.set_epoch(self.trainer.current_epoch)
        seen = loop.epoch_loop.batch_progress.current.ready * batch_size
        if loop.restarting and seen < len(sampler):
            sampler.skip(seen)
