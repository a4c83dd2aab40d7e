"""Out-of-fold training masks: simple or strict cross-fitting, and how the masks differ from the truth.

simple: K segmentation models, one a fold; every image's mask comes from the model that had not seen it. The masks that a classifier
learns from for test fold k come from models of other folds, which did learn from fold k's images.
strict: for test fold k, further models are trained within the other folds alone; no model behind a mask to learn from has seen fold
k's images, and fold k's own masks come from a model of the other folds.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bcd.data.guides import ORIGIN_FILE, find_masks
from bcd.data.manifest import Case
from bcd.data.prepare import Prepared
from bcd.data.splits import COLUMNS as SPLIT_COLUMNS
from bcd.data.splits import LEFT_OUT, TRAIN, VALID, assign_parts, draw_split, read_split
from bcd.images.read import image_size, read_mask, read_masks
from bcd.runs import folder as files
from bcd.runs.studies.crossval import cross_validated
from bcd.runs.studies.pipeline.mask_errors import COLUMNS, mask_error
from bcd.runs.studies.pipeline.stages import SEGMENTATION

log = logging.getLogger(__name__)

SIMPLE, STRICT = "simple", "strict"


@dataclass(frozen=True)
class MaskSource:
    """Where masks come from.

    Args:
        way: `simple` or `strict`.
        folders: test fold -> folders of masks that cover all its cases; of a case that several cover, the last one's counts.
    """

    way: str
    folders: Mapping[int, Sequence[Path]]


def cross_fit(
    config: Mapping[str, Any], stage: Mapping[str, Any], folder: Path, prepared: Prepared, folds: Sequence[int]
) -> MaskSource:
    """Train the segmentation models, or resume, and return where their masks are.

    Raises:
        RunError: when `segmentation` names something that does not fit.
    """
    way = str(config["crossfit"])
    if config["segmentation"] is not None:
        outer = Path(config["segmentation"])
        check_segmentation(outer, prepared, folds if way == STRICT else None)
    else:
        outer = folder / SEGMENTATION
        cross_validated({**stage, "folds": list(folds) if way == STRICT else None}, outer)
    if way == SIMPLE:
        return MaskSource(way, {fold: [outer / files.MASKS] for fold in folds})
    # The outer models' masks are for the test fold alone: they cover what is learned from too, by models that saw that fold.
    return MaskSource(way, {fold: [outer / files.MASKS, _inner(config, stage, folder, prepared, fold)] for fold in folds})


def check_segmentation(folder: Path, prepared: Prepared, folds: Sequence[int] | None) -> None:
    """Refuse a cross-validation whose masks are not those of unseen images of these data.

    Raises:
        RunError: saying what does not fit.
    """
    metrics = files.read_metrics(folder)
    if not metrics or not (folder / files.MASKS / ORIGIN_FILE).is_file():
        raise files.RunError(
            f"segmentation={folder} is no finished cross-validation of a segmentation model: it has no masks of its own."
        )
    then, now = metrics["data"]["fingerprint"], prepared.fingerprint
    if then != now:
        raise files.RunError(f"segmentation={folder} segmented other data: fingerprint {then}, here {now}.")
    split = read_split(folder / files.SPLIT)
    if not split.set_index("case_id")["fold"].astype(int).equals(prepared.split.set_index("case_id")["fold"].astype(int)):
        raise files.RunError(f"segmentation={folder} has another split; cross-validate with the same data.split.")
    there = {int(entry["fold"]) for entry in metrics["data"]["folds"]}
    missing = sorted(set(folds or prepared.split["fold"].astype(int)) - there)
    if missing:
        raise files.RunError(f"segmentation={folder} has no masks of fold {', '.join(map(str, missing))}.")


def seen_test_images(source: MaskSource, prepared: Prepared, fold: int) -> tuple[int, int]:
    """Return how many training masks of a test fold come from a model that was trained on its images, and of how many."""
    part_of = assign_parts(prepared.split, fold)
    tested = {str(name) for name, part in part_of.items() if part == "test"}
    learning = [case for case in prepared.cases if part_of[case.case_id] in ("train", "valid")]
    origins = {folder: files.read_json(folder / ORIGIN_FILE) for folder in source.folders[fold]}
    saw = {folder: {name: not tested.isdisjoint(names) for name, names in one["models"].items()} for folder, one in origins.items()}
    paths = [path for path in find_masks(list(source.folders[fold]), learning) if path is not None]
    return sum(saw[path.parent][origins[path.parent]["made_by"][path.name]] for path in paths), len(paths)


def check_strict(source: MaskSource, saw: Mapping[int, tuple[int, int]]) -> None:
    """Refuse `strict` results that are not strict.

    Raises:
        RunError: when a mask to learn from is by a model that learned from the test fold.
    """
    leaks = {fold: count for fold, (count, _) in saw.items() if count}
    if source.way == STRICT and leaks:
        leaking = ", ".join(f"fold {fold}: {count}" for fold, count in leaks.items())
        raise files.RunError(
            f"crossfit=strict, but training masks come from models that were trained on the test fold ({leaking}). Delete the "
            f"folder {STRICT} of the pipeline and start it again, or use crossfit=simple."
        )


class MaskErrors:
    """How masks differ from the truth, each compared once."""

    def __init__(self, prepared: Prepared) -> None:
        self.prepared = prepared
        self._known: dict[Path, dict[str, Any]] = {}

    def table(self, folders: Sequence[Path], cases: Sequence[Case]) -> pd.DataFrame:
        """Return `case_id`, `shift`, `growth`, `gone` of the lesion images among the cases, at native size."""
        rows, limit = [], self.prepared.max_pixels
        for case, path in zip(cases, find_masks(list(folders), cases), strict=True):
            if path is not None and case.masks:
                if path not in self._known:
                    truth = read_masks(case.masks, image_size(case.image, limit), case.image, limit)
                    self._known[path] = dict(mask_error(truth, read_mask(path, limit)))
                rows.append({"case_id": case.case_id, **self._known[path]})
        return pd.DataFrame(rows, columns=["case_id", *COLUMNS])


def _inner(config: Mapping[str, Any], stage: Mapping[str, Any], folder: Path, prepared: Prepared, fold: int) -> Path:
    """Train the models within what a test fold leaves, and return the folder of their masks."""
    home = folder / STRICT / f"fold_{fold}"
    split_file = home / files.SPLIT
    n_inner = int(config["inner_folds"])
    if not split_file.is_file():
        groups = dict(zip(prepared.groups["case_id"], prepared.groups["group"].astype(str), strict=True))
        labels = {case.case_id: case.label for case in prepared.cases}
        nested = inner_split(prepared.split, fold, groups, labels, n_inner, int(config["seed"]))
        files.write_text(split_file, nested.to_csv(index=False))
    log.info("Strict cross-fitting for test fold %d: %d segmentation models that have not seen it.", fold, n_inner)
    data = {**stage["data"], "split": str(split_file.absolute()), "split_by": "group"}
    target = home / SEGMENTATION
    own = files.moved({**stage, "data": data}, str(stage["folder"]), str(target.absolute()))
    cross_validated({**own, "name": f"{stage['name']}-strict{fold}", "folds": list(range(1, n_inner + 1))}, target)
    return target / files.MASKS


def inner_split(
    split: pd.DataFrame, fold: int, groups: Mapping[str, str], labels: Mapping[str, str | None], folds: int, seed: int
) -> pd.DataFrame:
    """Return a split of the cases outside a test fold into inner folds, in the form of a split file.

    Folds 1 to `folds` are the inner ones; validation for inner fold j is fold j + 1, cyclically. The outer fold's test cases, and
    those that the split leaves out for it as their copies, are fold `folds` + 1, which no inner fold trains or validates on.

    Args:
        split: `case_id`, `group`, `fold`, and optionally `valid_<k>`, of the outer folds.
        fold: the outer test fold.
        groups: case id -> group, near-copies joined: the unit that stays together.
        labels: case id -> label, to spread evenly.
        folds: number of inner folds, at least 3.
        seed: of the draw.

    Raises:
        ValueError: when there is no such fold, or the groups are too few for so many inner folds.
    """
    part_of = assign_parts(split, fold)
    rest = [str(case_id) for case_id in split["case_id"] if part_of[case_id] in ("train", "valid")]
    drawn = draw_split([groups[name] for name in rest], [labels[name] for name in rest], rest, folds, seed)
    number = dict(zip(drawn["case_id"], drawn["fold"].astype(int), strict=True))
    nested = split[list(SPLIT_COLUMNS)].copy()
    outer = folds + 1
    nested["fold"] = [number.get(str(case_id), outer) for case_id in split["case_id"]]
    own = nested["fold"].to_numpy()
    for tested in range(1, outer + 1):
        validates = 1 if tested == outer else tested % folds + 1
        column = np.where(own == validates, VALID, TRAIN)
        nested[f"valid_{tested}"] = np.where((own == outer) & (tested != outer), LEFT_OUT, column)
    return nested
