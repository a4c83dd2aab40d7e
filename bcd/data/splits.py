"""Splits: drawn once, written to a CSV, then only read.

A split file is `case_id,group,fold` and optionally `valid_1` .. `valid_K`, a row per case; folds count from 1. For test fold k the
cases of fold k are the test part. `valid_k` sorts the others: 1 validation, 0 training, -1 left out, because a near-copy is in
test fold k under another patient's name (official folds know patients, not copies). Without these columns validation is fold k + 1,
cyclically. A JSON beside the CSV says how it was drawn.
"""

import io
import json
import logging
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import sklearn
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from bcd.files import write_text

COLUMNS = ("case_id", "group", "fold")
VALID, TRAIN, LEFT_OUT = 1, 0, -1
PARTS = {VALID: "valid", TRAIN: "train", LEFT_OUT: "left_out"}

logger = logging.getLogger(__name__)


class SplitError(ValueError):
    """A split that does not fit the data, or that puts one group on two sides."""


class Crossing(NamedTuple):
    """Two cases of one group on two sides of the split, for the first test fold where they are."""

    first: str
    second: str
    group: str
    test_fold: int
    first_part: str
    second_part: str
    first_fold: int
    second_fold: int

    def __str__(self) -> str:
        return (
            f"{self.first} (fold {self.first_fold}) and {self.second} (fold {self.second_fold}) are of one group, {self.group}, "
            f"but for test fold {self.test_fold} {self.first} is in {self.first_part} and {self.second} in {self.second_part}"
        )


def draw_split(groups: Sequence[str], labels: Sequence[str | None], case_ids: Sequence[str], folds: int, seed: int) -> pd.DataFrame:
    """Return `case_id`, `group`, `fold`: groups stay together, labels are spread evenly.

    The same cases in another order get the same folds. Groups, labels and ids are one per case; ids are unique.

    Raises:
        ValueError: the lengths differ, there are fewer than 3 folds, or fewer groups than folds.
    """
    if not len(groups) == len(labels) == len(case_ids):
        raise ValueError(f"{len(case_ids)} case ids, {len(groups)} groups, {len(labels)} labels; give one of each a case.")
    if folds < 3 or len(set(groups)) < folds:
        raise ValueError(f"{folds} folds of {len(set(groups))} groups; ask for at least 3, and no more than there are groups.")
    order = np.argsort(np.array(case_ids, dtype=str), kind="stable")
    numbers = np.zeros(len(case_ids), np.int64)
    numbers[order] = _draw(np.array(groups, dtype=str)[order], np.array([str(label) for label in labels])[order], folds, seed)
    return pd.DataFrame({"case_id": list(case_ids), "group": list(groups), "fold": numbers})


def read_split(path: str | Path) -> pd.DataFrame:
    """Return a split file: case_id and group as text, the rest as integers.

    Raises:
        FileNotFoundError: it is not there.
        SplitError: a column is missing or holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such split file; give another, or none to have one drawn.")
    # As text: a patient called 007 or NA is no number and not missing.
    frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    _require_columns(frame, str(path))
    for column in ["fold", *_valid_columns(frame)]:
        frame[column] = _integers(frame, column, str(path))
    return frame


def write_split(frame: pd.DataFrame, path: str | Path, *, seed: int, fingerprint: str | None, method: str, name: str) -> None:
    """Write the split's CSV, and beside it a JSON that says how it was drawn: `method`, in a sentence, and `seed`."""
    path = Path(path)
    columns = [*COLUMNS, *_valid_columns(frame)]
    text = io.StringIO(newline="")
    frame[columns].to_csv(text, index=False, lineterminator="\n")
    facts = {
        "name": name,
        "fingerprint": fingerprint,
        "cases": len(frame),
        "groups": int(frame["group"].nunique()),
        "folds": len(_folds(frame)),
        "seed": seed,
        "method": method,
        "versions": {"scikit-learn": sklearn.__version__, "numpy": np.__version__},
    }
    write_text(path, text.getvalue())
    write_text(path.with_suffix(".json"), json.dumps(facts, indent=2) + "\n")


def assign_parts(frame: pd.DataFrame, fold: int) -> "pd.Series[str]":
    """Return case_id -> "train", "valid" or "test", for a test fold; "left_out" if the split leaves it out.

    Raises:
        ValueError: there is no such fold.
    """
    folds = _folds(frame)
    if fold not in folds:
        raise ValueError(f"fold {fold} is not in the split; it has folds {', '.join(map(str, folds))}.")
    if _valid_columns(frame):
        parts = frame[f"valid_{fold}"].map(PARTS).to_numpy(dtype=object)
    else:
        parts = np.where(frame["fold"] == folds[(folds.index(fold) + 1) % len(folds)], "valid", "train").astype(object)
    parts[frame["fold"].to_numpy() == fold] = "test"
    return pd.Series(parts, index=pd.Index(frame["case_id"], name="case_id"), name="part")


def find_crossings(frame: pd.DataFrame, group_table: pd.DataFrame) -> list[Crossing]:
    """Return every pair of cases of one group that the split puts on two sides, in the order of their ids.

    Cases that `group_table` (`case_id` and `group`) lacks are passed over.
    """
    group_of = dict(zip(group_table["case_id"], group_table["group"].astype(str), strict=True))
    table = pd.DataFrame({"case_id": frame["case_id"], "fold": frame["fold"], "group": frame["case_id"].map(group_of)})
    crossings: dict[tuple[str, str], Crossing] = {}
    for test_fold in _folds(frame):
        table["part"] = assign_parts(frame, test_fold).to_numpy()
        used = table[table["group"].notna() & (table["part"] != "left_out")]
        crossed = used[used.groupby("group")["part"].transform("nunique") > 1]
        for _, rows in crossed.sort_values("case_id").groupby("group"):
            for first, second in combinations(rows.to_dict("records"), 2):
                if first["part"] != second["part"]:
                    pair = (first["case_id"], second["case_id"])
                    crossing = Crossing(
                        *pair, first["group"], test_fold, first["part"], second["part"], int(first["fold"]), int(second["fold"])
                    )
                    crossings.setdefault(pair, crossing)
    return [crossings[pair] for pair in sorted(crossings)]


def check_split(
    frame: pd.DataFrame, case_ids: Sequence[str], group_table: pd.DataFrame, allow_leak: bool = False
) -> list[Crossing]:
    """Refuse a split that does not fit the data or that puts one group on two sides; return the crossings where they are allowed.

    `case_ids` are all of the data set, `group_table` is `case_id` and `group` as computed from these data, from group_cases.

    Raises:
        SplitError: saying what is wrong, where, and what to do.
    """
    _require_columns(frame, "The split")
    _check_cases(frame, case_ids)
    _check_folds(frame)
    own, of_data = find_crossings(frame, frame), find_crossings(frame, group_table)
    crossings = list(dict.fromkeys([*of_data, *own]))
    if crossings and not allow_leak:
        origin, pairs = ("its own groups", own) if own else ("the groups found in the data", of_data)
        raise SplitError(
            f"The split breaks {origin}: {pairs[0]}; {len(pairs)} such pairs in all. "
            "Draw a new split from the groups, or leave the copies out of training in its valid_<k> columns (-1)."
        )
    if crossings:
        logger.warning("%d pairs of one group cross the split; data.allow_leak lets this go on.", len(crossings))
    return crossings


def _draw(groups: NDArray[np.str_], labels: NDArray[np.str_], folds: int, seed: int) -> NDArray[np.int64]:
    """Return the fold of each case, int64 (N,), from 1 on."""
    names, counts = np.unique(labels, return_counts=True)
    rare = names[counts < folds]
    if len(rare):
        # scikit-learn warns of these, and cannot spread them anyway.
        logger.warning("Labels %s have fewer than %d cases: not every fold gets one.", ", ".join(rare), folds)
        labels = np.where(np.isin(labels, rare), names[counts.argmax()], labels)
    splitter = ManyGroupKFold(folds, shuffle=True, random_state=np.random.RandomState([seed]))
    numbers = np.zeros(len(groups), np.int64)
    for number, (_, members) in enumerate(splitter.split(groups, labels, groups), start=1):
        numbers[members] = number
    empty = sorted(set(range(1, folds + 1)) - set(numbers.tolist()))
    if empty:
        raise ValueError(f"Fold {empty[0]} of {folds} would be empty: the groups are too few or too uneven; ask for fewer folds.")
    return numbers


class ManyGroupKFold(StratifiedGroupKFold):
    """scikit-learn's folds, to the case, in a fraction of its time: it tries each fold for each group in a loop of its own."""

    def _find_best_fold(
        self, y_counts_per_fold: NDArray[np.float64], y_cnt: NDArray[np.int64], group_y_counts: NDArray[np.float64]
    ) -> int:
        """Return the fold in which a group leaves the classes spread most evenly; of like ones the smaller.

        Where scikit-learn one day asks another method, its own is used, and the result stays what it is.
        """
        folds = len(y_counts_per_fold)
        tried = np.repeat(y_counts_per_fold[None], folds, axis=0)
        tried[np.arange(folds), np.arange(folds)] += group_y_counts
        tried /= y_cnt
        tried -= np.add.reduce(tried, axis=1, keepdims=True) / folds
        tried *= tried
        spread = np.sqrt(np.add.reduce(tried, axis=1) / folds)
        evenness = (np.add.reduce(spread, axis=1) / len(y_cnt)).tolist()
        sizes = np.add.reduce(y_counts_per_fold, axis=1).tolist()
        best = 0
        for fold in range(1, folds):
            alike = abs(evenness[fold] - evenness[best]) <= 1e-8 + 1e-5 * abs(evenness[best])  # as np.isclose says
            if evenness[fold] < evenness[best] or (alike and sizes[fold] < sizes[best]):
                best = fold
        return best


def _folds(frame: pd.DataFrame) -> list[int]:
    return sorted(int(fold) for fold in frame["fold"].unique())


def _valid_columns(frame: pd.DataFrame) -> list[str]:
    return [str(column) for column in frame.columns if str(column).startswith("valid_")]


def _require_columns(frame: pd.DataFrame, where: str) -> None:
    missing = [column for column in COLUMNS if column not in frame.columns]
    if missing:
        raise SplitError(f"{where} lacks the column {', '.join(missing)}; a split has case_id,group,fold, one row per case.")


def _integers(frame: pd.DataFrame, column: str, where: str) -> "pd.Series[int]":
    numbers = pd.to_numeric(frame[column], errors="coerce")
    wrong = frame[numbers.isna() | (numbers % 1 != 0)]
    if len(wrong):
        case_id, value = wrong.iloc[0][["case_id", column]]
        raise SplitError(f"{where}: {column} of {case_id} is {str(value)!r}, not an integer ({len(wrong)} rows); correct the file.")
    return numbers.astype(np.int64)


def _check_cases(frame: pd.DataFrame, case_ids: Sequence[str]) -> None:
    twice = frame["case_id"][frame["case_id"].duplicated()].tolist()
    if twice:
        raise SplitError(f"{_some(twice)} twice in the split; keep one row per case.")
    listed, present = set(frame["case_id"]), set(case_ids)
    missing, unknown = sorted(present - listed), sorted(listed - present)
    remedy = "The data changed since the split was made: get the data it was made for, or prepare again with another split file."
    if missing:
        raise SplitError(f"{_some(missing)} missing from the split. {remedy}")
    if unknown:
        raise SplitError(f"{_some(unknown)} in the split and not in the data. {remedy}")


def _check_folds(frame: pd.DataFrame) -> None:
    _integers(frame, "fold", "The split")
    folds, valid = _folds(frame), _valid_columns(frame)
    if folds != list(range(1, len(folds) + 1)):
        raise SplitError(f"The split has folds {', '.join(map(str, folds))}; number them from 1 on without a gap.")
    if not valid:
        if len(folds) < 3:
            raise SplitError(f"The split has {len(folds)} folds and no valid_<k> columns; it needs 3: training, validation, test.")
        return
    if sorted(valid) != sorted(f"valid_{fold}" for fold in folds):
        raise SplitError(f"The split has folds 1 to {len(folds)} and columns {', '.join(valid)}; give one valid_<k> a fold.")
    for fold in folds:
        column = f"valid_{fold}"
        values = _integers(frame, column, "The split")
        wrong = frame[~values.isin(list(PARTS)) | ((frame["fold"] == fold) & (values != TRAIN))]
        if len(wrong):
            case_id, value = wrong.iloc[0][["case_id", column]]
            raise SplitError(
                f"The split: {column} of {case_id} is {value}; it is 1 for validation, 0 for training, -1 for left out, and 0 in "
                f"test fold {fold} itself ({len(wrong)} rows); correct the file."
            )


def _some(case_ids: Sequence[str]) -> str:
    """Return up to five ids, and how many there are."""
    listed = ", ".join(case_ids[:5]) + (", ..." if len(case_ids) > 5 else "")
    return f"{listed}: {len(case_ids)} {'case is' if len(case_ids) == 1 else 'cases are'}"
