"""Predict a part of the data, and score every case of it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from bcd.data.datamodule import UltrasoundDataModule
from bcd.data.guides import ORIGIN_FILE
from bcd.data.manifest import Case, case_file_name, read_case, spacing_of
from bcd.evaluation.cases import CaseTruth, score_case, to_detections, to_frame
from bcd.images.marks import find_marks, read_colour
from bcd.images.read import read_mask
from bcd.metrics.training import dice_per_image
from bcd.preprocess import Preprocess
from bcd.runs import folder as files
from bcd.tasks.base import BaseTask
from bcd.tasks.inference import Prediction, predict


@dataclass(frozen=True)
class Scored:
    """The predictions of a model for a part of the data, scored.

    Attributes:
        cases: one row per case.
        detections: one row a predicted component; None where nothing is segmented.
        guide_dice: mean Dice of the given masks with the truth over lesion images, at the network's resolution; NaN without.
    """

    cases: pd.DataFrame
    detections: pd.DataFrame | None
    guide_dice: float


class PixelFiles:
    """The predictions of single pixels, as pictures of the native size.

    Args:
        folder: `masks/`, and `probabilities/` where wanted, go below.
        probabilities: write the probability of each pixel too, 255 for 1.
    """

    def __init__(self, folder: Path, probabilities: bool = False) -> None:
        self.masks = folder / files.MASKS
        self.maps = folder / files.PROBABILITIES if probabilities else None

    def save(self, case_id: str, probability: np.ndarray, threshold: float) -> None:
        """Write the pictures of one case."""
        _write(self.masks / _name(case_id), (probability >= threshold).astype(np.uint8) * 255)
        if self.maps is not None:
            _write(self.maps / _name(case_id), np.rint(probability * 255).astype(np.uint8))

    def write_origin(self, learned_from: Sequence[str]) -> None:
        """Write beside the masks, if any, the training cases of their model."""
        if self.masks.is_dir():
            files.write_json(self.masks / ORIGIN_FILE, {"learned_from": list(learned_from)})

    def read(self, case_id: str, max_pixels: int) -> np.ndarray | None:
        """Return a mask, uint8 (H, W) in {0, 1}; None where none was written."""
        path = self.masks / _name(case_id)
        return read_mask(path, max_pixels) if path.is_file() else None


def score_part(
    task: BaseTask,
    datamodule: UltrasoundDataModule,
    part: str,
    preprocess: Preprocess,
    pixels: PixelFiles | None = None,
    limit: int | None = None,
) -> Scored:
    """Return the scores of a part's cases, in its order.

    Args:
        task: in evaluation mode.
        datamodule: set up for the part.
        part: `valid` or `test`.
        preprocess: the one that made the batches.
        pixels: where predicted masks go; None keeps them nowhere.
        limit: score the first so many cases alone.
    """
    cases = {case.case_id: case for case in datamodule.cases[part][:limit]}
    guide_dice: list[float] = []

    def predictions() -> Iterator[tuple[Case, Prediction]]:
        for batch in datamodule.scoring_dataloader(part):
            wanted = [case_id in cases for case_id in batch["case_id"]]
            if not any(wanted):
                return
            # Not by a torchmetrics object: where several processes trained, it would wait for those that have nothing to test.
            guide, mask = batch["guide"][wanted] >= 0.5, batch["mask"][wanted]
            lesion = mask.flatten(1).any(1)
            guide_dice.extend(dice_per_image(guide[lesion], mask[lesion]).tolist())
            yield from ((cases[one.case_id], one) for one in predict(task, batch, preprocess) if one.case_id in cases)

    threshold = task.threshold if task.outlines else None
    rows, detections = score_cases(predictions(), datamodule, datamodule.selection.classes, threshold, pixels)
    return Scored(rows, detections, float(np.mean(guide_dice)) if guide_dice else float("nan"))


def score_cases(
    predictions: Iterable[tuple[Case, Prediction]],
    datamodule: UltrasoundDataModule,
    class_names: Sequence[str],
    threshold: float | None,
    pixels: PixelFiles | None,
) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Return one row per case, and one row a predicted component; the latter None where nothing is segmented.

    Args:
        predictions: from any source.
        datamodule: of the cases.
        class_names: in the order of the probabilities.
        threshold: a pixel is lesion from this probability on; None where nothing is segmented.
        pixels: where predicted masks go; None keeps them nowhere.
    """
    groups, rows, components = datamodule.group_of(), [], []
    for case, prediction in predictions:
        if pixels is not None and prediction.mask is not None and threshold is not None:
            pixels.save(case.case_id, prediction.mask, threshold)
        scored = score_case(
            truth_of(case, groups, datamodule),
            probability=prediction.mask,
            threshold=threshold,
            classes=prediction.classes,
            class_names=class_names,
            guide_is_empty=prediction.guide_is_empty,
        )
        rows.append(scored.row)
        components += scored.components
    return to_frame(rows), to_detections(components) if threshold is not None else None


def truth_of(case: Case, groups: Mapping[str, str], datamodule: UltrasoundDataModule) -> CaseTruth:
    """Return what is known about a case, read from its files."""
    image, mask = read_case(case, datamodule.prepared.max_pixels)
    return CaseTruth(
        case_id=case.case_id,
        group=groups[case.case_id],
        label=case.label,
        mask=mask.astype(bool),
        patient=case.patient,
        fold=datamodule.selection.fold or 0,
        spacing_mm=spacing_of(case),
        marked=find_marks(image, read_colour(case.image)).is_marked,
        metadata=case.metadata,
    )


def _name(case_id: str) -> str:
    return f"{case_file_name(case_id)}.png"


def _write(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    _, content = cv2.imencode(".png", picture)
    path.write_bytes(content.tobytes())
