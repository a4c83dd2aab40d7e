import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bcd.config import CONF
from bcd.data.nnunet_splits import read_splits_json, write_splits_json
from bcd.data.splits import SplitError, assign_parts, check_split, read_split

NAMES = ["a", "b", "c", "d", "e", "f"]
GROUPS = {name: f"g{name}" for name in NAMES}


def _frame() -> pd.DataFrame:
    return pd.DataFrame({"case_id": NAMES, "group": list(GROUPS.values()), "fold": [1, 1, 2, 2, 3, 3]})


def _write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def _entries() -> list[dict[str, list[str]]]:
    return [{"train": [n for n in NAMES if n not in val], "val": val} for val in (["a", "b"], ["c", "d"], ["e", "f"])]


def test_our_test_folds_become_their_val_and_all_the_rest_trains(tmp_path: Path) -> None:
    write_splits_json(_frame(), tmp_path / "splits_final.json")
    assert json.loads((tmp_path / "splits_final.json").read_text()) == _entries()


def test_cases_that_a_fold_leaves_out_stand_in_neither_list(tmp_path: Path) -> None:
    frame = _frame().assign(valid_1=[0, 0, 1, 0, -1, 0], valid_2=[0, 0, 0, 0, 1, 0], valid_3=[1, 0, 0, 0, 0, 0])
    write_splits_json(frame, tmp_path / "splits.json")
    assert json.loads((tmp_path / "splits.json").read_text())[0] == {"train": ["c", "d", "f"], "val": ["a", "b"]}


def test_a_split_comes_back_as_it_was(tmp_path: Path) -> None:
    write_splits_json(_frame(), tmp_path / "splits.json")
    back = read_splits_json(tmp_path / "splits.json", GROUPS)
    pd.testing.assert_frame_equal(back, _frame())
    check_split(back, NAMES, back)


def test_cases_in_neither_list_are_left_out_and_the_next_fold_validates(tmp_path: Path) -> None:
    entries = _entries()
    entries[0]["train"].remove("e")
    back = read_splits_json(_write(tmp_path / "splits.json", entries), GROUPS)
    assert back["valid_1"].tolist() == [0, 0, 1, 1, -1, 0]
    assert back["valid_2"].tolist() == [0, 0, 0, 0, 1, 1]
    assert back["valid_3"].tolist() == [1, 1, 0, 0, 0, 0]
    check_split(back, NAMES, back)
    assert assign_parts(back, 1).to_dict() == dict(zip(NAMES, ["test", "test", "valid", "valid", "left_out", "train"], strict=True))


def test_the_committed_split_of_busbra_goes_there_and_back(tmp_path: Path) -> None:
    frame = read_split(CONF / "data" / "splits" / "busbra.csv")
    write_splits_json(frame, tmp_path / "splits.json")
    back = read_splits_json(tmp_path / "splits.json", dict(zip(frame["case_id"], frame["group"], strict=True)))
    pd.testing.assert_frame_equal(back[["case_id", "group", "fold"]], frame[["case_id", "group", "fold"]])
    for fold in range(1, 6):
        assert (back[f"valid_{fold}"] == -1).tolist() == (frame[f"valid_{fold}"] == -1).tolist()
    check_split(back, frame["case_id"].tolist(), back)


def _with(change: str) -> Any:
    entries = _entries()
    if change == "two folds":
        return entries[:2]
    if change == "no list":
        return {"train": [], "val": []}
    if change == "no names":
        return [{"train": [1], "val": ["a"]}] * 3
    if change == "no val":
        return [{"train": ["a"]}] * 3
    if change == "empty val":
        entries[1]["val"] = []
    if change == "both":
        entries[1]["train"].append("c")
    if change == "tested twice":
        entries[1]["train"].remove("a")
        entries[1]["val"].append("a")
    if change == "never tested":
        entries[2]["val"].remove("f")
    if change == "unknown":
        entries[0]["val"].append("z")
    if change == "validation out":
        entries[0]["train"] = ["e", "f"]
    return entries


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("two folds", "has 2 folds"),
        ("no list", "not a list"),
        ("no names", "lists of case ids"),
        ("no val", "not a list.*val"),
        ("empty val", "val of entry 1 is empty"),
        ("both", "entry 1 has c in train and in val"),
        ("tested twice", "a is in val of entry 0 and of entry 1"),
        ("never tested", "f is in no val"),
        ("unknown", "z is in the file and not in the data"),
        ("validation out", "train of entry 0 has no case of the next entry's val"),
    ],
)
def test_what_is_no_split_of_ours_is_refused_with_the_reason(change: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(SplitError, match=reason):
        read_splits_json(_write(tmp_path / "splits.json", _with(change)), GROUPS)


def test_a_case_that_the_file_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(SplitError, match="g is in the data and not in the file"):
        read_splits_json(_write(tmp_path / "splits.json", _entries()), {**GROUPS, "g": "gg"})


def test_a_file_that_is_not_there_or_is_no_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_splits_json(tmp_path / "absent.json", GROUPS)
    (tmp_path / "torn.json").write_text('[{"train": ["a"', encoding="utf-8")
    with pytest.raises(SplitError, match="not a list"):
        read_splits_json(tmp_path / "torn.json", GROUPS)


def test_a_split_that_parts_a_group_is_found_by_the_usual_check(tmp_path: Path) -> None:
    back = read_splits_json(_write(tmp_path / "splits.json", _entries()), {**GROUPS, "c": "ga"})
    with pytest.raises(SplitError, match="of one group, ga"):
        check_split(back, NAMES, back)
