from pathlib import Path

import pandas as pd
import pytest

from bcd.data.splits import (
    SplitError,
    assign_parts,
    check_split,
    draw_split,
    find_crossings,
    read_split,
    write_split,
)

SPLITS = Path(__file__).parents[1] / "conf" / "data" / "splits"
IDS = ["a", "b", "c", "d", "e", "f"]


def frame(folds: list[int], groups: list[str] | None = None) -> pd.DataFrame:
    return pd.DataFrame({"case_id": IDS[: len(folds)], "group": groups or IDS[: len(folds)], "fold": folds})


def table(groups: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"case_id": IDS[: len(groups)], "group": groups})


def cohort(n_patients: int = 60) -> tuple[list[str], list[str], list[str]]:
    case_ids = [f"case {index:03d}" for index in range(2 * n_patients)]
    groups = [f"patient {index // 2}" for index in range(2 * n_patients)]
    labels = ["malignant" if index // 2 % 3 == 0 else "benign" for index in range(2 * n_patients)]
    return groups, labels, case_ids


def test_drawn_folds_count_from_one_keep_groups_whole_and_spread_the_labels() -> None:
    groups, labels, case_ids = cohort()
    split = draw_split(groups, labels, case_ids, 5, 0)
    assert list(split.columns) == ["case_id", "group", "fold"]
    assert sorted(split["fold"].unique()) == [1, 2, 3, 4, 5]
    assert split.groupby("group")["fold"].nunique().max() == 1
    assert pd.crosstab(split["fold"], labels)["malignant"].tolist() == [8, 8, 8, 8, 8]


def test_the_same_seed_draws_the_same_folds_in_any_order_of_the_cases_and_another_seed_others() -> None:
    groups, labels, case_ids = cohort()
    split = draw_split(groups, labels, case_ids, 5, 7)
    backwards = draw_split(groups[::-1], labels[::-1], case_ids[::-1], 5, 7)
    assert backwards.iloc[::-1].reset_index(drop=True).equals(split)
    assert not draw_split(groups, labels, case_ids, 5, 8).equals(split)


def test_a_label_with_fewer_cases_than_folds_is_drawn_without_an_error() -> None:
    groups, labels, case_ids = cohort()
    labels[0] = "rare"
    assert draw_split(groups, labels, case_ids, 5, 0)["fold"].nunique() == 5


def test_more_folds_than_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="5 folds of 2 groups"):
        draw_split(["x", "x", "y"], ["benign"] * 3, ["a", "b", "c"], 5, 0)


def test_a_copy_of_a_test_case_under_another_patient_is_refused_unless_that_fold_leaves_it_out() -> None:
    split, found = frame([1, 2, 3, 3], ["a", "b", "c", "c"]), table(["ab", "ab", "c", "c"])
    with pytest.raises(SplitError, match="groups found in the data"):
        check_split(split, IDS[:4], found)
    mended = split.assign(valid_1=[0, -1, 1, 1], valid_2=[-1, 0, 1, 1], valid_3=[1, 1, 0, 0])
    assert check_split(mended, IDS[:4], found) == []
    assert assign_parts(mended, 1).tolist() == ["test", "left_out", "valid", "valid"]


def test_without_valid_columns_validation_is_the_next_fold_cyclically() -> None:
    split = frame([1, 1, 2, 2, 3, 3])
    assert assign_parts(split, 1).to_dict() == {"a": "test", "b": "test", "c": "valid", "d": "valid", "e": "train", "f": "train"}
    assert assign_parts(split, 3).tolist() == ["valid", "valid", "train", "train", "test", "test"]


def test_a_fold_that_does_not_exist_names_those_that_do() -> None:
    with pytest.raises(ValueError, match="fold 4 is not in the split; it has folds 1, 2, 3"):
        assign_parts(frame([1, 2, 3]), 4)


def test_a_split_comes_back_from_its_file_with_ids_as_text(tmp_path: Path) -> None:
    split = pd.DataFrame({"case_id": ["007", "NA", "x, y"], "group": ["1", "01", "None"], "fold": [1, 2, 3]})
    write_split(split, tmp_path / "own.csv", seed=3, fingerprint="ab12", method="by hand", name="own")
    pd.testing.assert_frame_equal(read_split(tmp_path / "own.csv"), split, check_dtype=False)
    facts = pd.read_json(tmp_path / "own.json", typ="series")
    assert (facts["seed"], facts["fingerprint"], facts["folds"], facts["cases"]) == (3, "ab12", 3, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["own.csv", "own.json"]


def test_a_file_with_a_fold_that_is_no_integer_is_refused_naming_the_case(tmp_path: Path) -> None:
    (tmp_path / "split.csv").write_text("case_id,group,fold\na,a,1\nb,b,1.5\n")
    with pytest.raises(SplitError, match=r"split\.csv: fold of b is '1\.5', not an integer"):
        read_split(tmp_path / "split.csv")


def test_a_file_without_a_column_or_absent_is_refused(tmp_path: Path) -> None:
    (tmp_path / "split.csv").write_text("case_id,fold\na,1\n")
    with pytest.raises(SplitError, match="lacks the column group"):
        read_split(tmp_path / "split.csv")
    with pytest.raises(FileNotFoundError, match="no such split file"):
        read_split(tmp_path / "absent.csv")


@pytest.mark.parametrize(
    ("split", "case_ids", "groups", "message"),
    [
        (frame([1, 2, 3, 1], ["x", "x", "y", "z"]), "abcd", "abcd", r"own groups: a \(fold 1\) and b \(fold 2\)"),
        (frame([1, 2, 3, 1]), "abcd", "xyxz", r"found in the data: a \(fold 1\) and c \(fold 3\) are of one group, x"),
        (frame([1, 2, 3]), "abcd", "abcd", "d: 1 case is missing from the split. The data changed"),
        (frame([1, 2, 3, 1]), "abc", "abc", "d: 1 case is in the split and not in the data"),
        (frame([1, 2, 1]), "abc", "abc", "2 folds and no valid_<k> columns; it needs 3"),
        (frame([0, 1, 2]), "abc", "abc", "folds 0, 1, 2; number them from 1"),
        (frame([1, 2, 4]), "abc", "abc", "folds 1, 2, 4; number them from 1"),
        (frame([1, 2, 3]).replace("c", "b"), "abc", "abc", "b: 1 case is twice in the split"),
        (frame([1, 2, 3]).drop(columns="group"), "abc", "abc", "lacks the column group"),
        (frame([1, 2, 3]).assign(fold=[1, 2, 2.5]), "abc", "abc", "fold of c is '2.5', not an integer"),
        (frame([1, 2, 2]).assign(valid_1=[0, 1, 0]), "abc", "abc", "give one valid_<k> a fold"),
        (frame([1, 2, 2]).assign(valid_1=[1, 1, 0], valid_2=[1, 0, 0]), "abc", "abc", "valid_1 of a is 1; it is 1 for validation"),
        (frame([1, 2, 2]).assign(valid_1=[0, 5, 0], valid_2=[1, 0, 0]), "abc", "abc", "valid_1 of b is 5; it is 1 for validation"),
        (
            frame([1, 2, 2], ["x", "y", "y"]).assign(valid_1=[0, 1, 0], valid_2=[1, 0, 0]),
            "abc",
            "abc",
            "b is in valid and c in train",
        ),
    ],
)
def test_a_bad_split_is_refused_saying_what_is_wrong_and_where(
    split: pd.DataFrame, case_ids: str, groups: str, message: str
) -> None:
    with pytest.raises(SplitError, match=message):
        check_split(split, list(case_ids), table(list(groups)))


def test_many_missing_cases_are_counted_and_five_are_named() -> None:
    case_ids = [f"case {number}" for number in range(9)]
    with pytest.raises(SplitError, match=r"case 0, case 1, case 2, case 3, case 4, \.\.\.: 9 cases are missing"):
        check_split(frame([1, 2, 3]), case_ids, table(["a", "b", "c"]))


def test_every_crossing_pair_is_found_once_for_an_explicit_override_to_report() -> None:
    crossings = find_crossings(frame([1, 2, 3, 1]), table(["x", "x", "x", "y"]))
    assert [(pair.first, pair.second) for pair in crossings] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert (crossings[0].test_fold, crossings[0].first_part, crossings[0].second_part) == (1, "test", "valid")


def test_committed_busi_split_has_780_cases_in_5_folds_of_whole_groups() -> None:
    split = read_split(SPLITS / "busi.csv")
    check_split(split, split["case_id"].tolist(), split)
    assert len(split) == 780
    labels = split["case_id"].str.split().str[0]
    assert labels.value_counts().to_dict() == {"benign": 437, "malignant": 210, "normal": 133}
    counts = pd.crosstab(split["fold"], labels)
    assert (counts.max() - counts.min()).max() <= 1


def test_committed_busbra_split_keeps_the_official_test_folds_and_leaves_out_patients_under_two_numbers() -> None:
    split = read_split(SPLITS / "busbra.csv")
    check_split(split, split["case_id"].tolist(), split)
    assert split["fold"].value_counts().sort_index().tolist() == [376, 385, 366, 365, 383]
    assert split["group"].nunique() == 1064
    left_out = {fold: sorted(split.loc[split[f"valid_{fold}"] == -1, "group"].unique()) for fold in range(1, 6)}
    assert left_out == {1: ["356", "44", "854"], 2: [], 3: ["65"], 4: ["853"], 5: ["341"]}


@pytest.mark.realdata
def test_committed_busbra_test_folds_are_the_official_ones(busbra: Path) -> None:
    official = pd.read_csv(busbra / "5-fold-cv.csv").set_index("ID")["kFold"]
    split = read_split(SPLITS / "busbra.csv").set_index("case_id")
    assert split["fold"].to_dict() == official.to_dict()


def test_the_official_busbra_validation_is_refused_unless_the_leak_is_allowed() -> None:
    split = read_split(SPLITS / "busbra_official.csv")
    with pytest.raises(SplitError, match="of one group"):
        check_split(split, split["case_id"].tolist(), split)
    assert len(check_split(split, split["case_id"].tolist(), split, allow_leak=True)) > 0
