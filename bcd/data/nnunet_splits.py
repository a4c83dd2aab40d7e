"""nnU-Net's `splits_final.json` to and from our splits: a list with one `{"train": [...], "val": [...]}` for each fold.

nnU-Net has two parts where we have three. Its `val`, on which it reports, is our test fold. Cases that we validate on may train
there: nnU-Net's final checkpoint is that of the last epoch, chosen by nothing. Cases that a fold leaves out (`valid_<k>` is -1)
are in neither list. Groups are not in the file: reading one needs them from the data.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import BaseModel, TypeAdapter, ValidationError

from bcd.config.errors import sentence
from bcd.data.splits import LEFT_OUT, TRAIN, VALID, SplitError, assign_parts
from bcd.files import write_text

_MIN_FOLDS = 3


class _Entry(BaseModel):
    train: list[str]
    val: list[str]


_FILE = TypeAdapter(list[_Entry])


def write_splits_json(frame: pd.DataFrame, path: str | Path) -> None:
    """Write a split as nnU-Net's `splits_final.json`: fold k becomes its fold k - 1; our validation cases train there."""
    splits = []
    for fold in sorted(int(number) for number in frame["fold"].unique()):
        parts = assign_parts(frame, fold)
        train, test = parts.index[parts.isin(("train", "valid"))], parts.index[parts == "test"]
        splits.append({"train": sorted(map(str, train)), "val": sorted(map(str, test))})
    write_text(Path(path), json.dumps(splits, indent=4, ensure_ascii=False) + "\n")


def read_splits_json(path: str | Path, groups: Mapping[str, str]) -> pd.DataFrame:
    """Return nnU-Net's `splits_final.json` as a split: `case_id`, `group`, `fold`, and `valid_<k>` where cases are left out.

    Fold k tests on the `val` of the k-th entry and validates on that of the next one, cyclically, which the rest of `train` then
    lacks. Cases in neither list are left out of the fold (-1). `groups` is case id -> group, of every case of the data set; that
    the split keeps groups together is for `check_split` to see.

    Raises:
        FileNotFoundError: it is not there.
        SplitError: it is no such file, or says what a split of ours cannot: fewer than three folds, a case that no fold or several
            folds test on, that a fold both trains and tests on, or that the data do not have; or nothing to validate on.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file; nnU-Net keeps splits_final.json with the preprocessed data set.")
    try:
        entries = _FILE.validate_json(path.read_bytes(), strict=True)
    except ValidationError as error:
        raise SplitError(
            f'{path}: it is not a list of {{"train": [...], "val": [...]}}, both lists of case ids ({sentence(error)}); give '
            "nnU-Net's splits_final.json."
        ) from error
    if len(entries) < _MIN_FOLDS:
        raise SplitError(
            f"{path} has {len(entries)} folds; training, validation and test need {_MIN_FOLDS}. Split the data into more folds."
        )
    fold_of = _tested_in(entries, path)
    never = sorted({name for entry in entries for name in entry.train} - set(fold_of))
    if never:
        raise SplitError(
            f"{path}: {never[0]} is in no val ({len(never)} such cases); here every case is tested once. Add the missing "
            "fold, or take these cases out."
        )
    for names, where in (
        (sorted(fold_of.keys() - groups.keys()), "in the file and not in the data"),
        (sorted(groups.keys() - fold_of.keys()), "in the data and not in the file"),
    ):
        if names:
            raise SplitError(f"{path}: {names[0]} is {where} ({len(names)} such cases); name the cases in both by the same ids.")
    names = [name for name in groups if name in fold_of]
    frame = pd.DataFrame({"case_id": names, "group": [str(groups[name]) for name in names], "fold": [fold_of[n] for n in names]})
    left_out = [~np.isin(names, [*entry.train, *entry.val]) for entry in entries]
    if not any(column.any() for column in left_out):
        return frame
    for number, column in enumerate(left_out, start=1):
        following = frame["fold"].to_numpy() == number % len(entries) + 1
        part = np.where(column, LEFT_OUT, np.where(following, VALID, TRAIN))
        if VALID not in part:
            raise SplitError(
                f"{path}: train of entry {number - 1} has no case of the next entry's val, so nothing is left to validate on; "
                "write the file with the validation cases in train."
            )
        frame[f"valid_{number}"] = part
    return frame


def _tested_in(entries: Sequence[_Entry], path: Path) -> dict[str, int]:
    """Return case id -> fold, from 1."""
    fold_of: dict[str, int] = {}
    for number, entry in enumerate(entries, start=1):
        if not entry.val:
            raise SplitError(f"{path}: val of entry {number - 1} is empty; every fold needs test cases. Drop the entry.")
        both = sorted(set(entry.train) & set(entry.val))
        if both:
            raise SplitError(f"{path}: entry {number - 1} has {both[0]} in train and in val ({len(both)} such cases); keep one.")
        for name in entry.val:
            if name in fold_of:
                raise SplitError(
                    f"{path}: {name} is in val of entry {fold_of[name] - 1} and of entry {number - 1}; here a case is tested "
                    "once. Random splits that overlap are not folds; make a split into folds."
                )
            fold_of[name] = number
    return fold_of
