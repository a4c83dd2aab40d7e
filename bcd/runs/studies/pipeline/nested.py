"""Nested splits: folds within what an outer test fold leaves, so that a model of an inner fold has not seen the outer test."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from bcd.data.splits import COLUMNS, LEFT_OUT, TRAIN, VALID, assign_parts, draw_split


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
    nested = split[list(COLUMNS)].copy()
    outer = folds + 1
    nested["fold"] = [number.get(str(case_id), outer) for case_id in split["case_id"]]
    own = nested["fold"].to_numpy()
    for tested in range(1, outer + 1):
        validates = 1 if tested == outer else tested % folds + 1
        column = np.where(own == validates, VALID, TRAIN)
        nested[f"valid_{tested}"] = np.where((own == outer) & (tested != outer), LEFT_OUT, column)
    return nested
