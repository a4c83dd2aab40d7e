import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bcd.data import prepare as prepare_module
from bcd.data import verify as verify_module
from bcd.data.manifest import read_sizes
from bcd.data.prepare import Prepared, prepare, summary
from bcd.data.sources.busi import BUSI
from bcd.data.sources.folder import Folder
from bcd.data.sources.table import Table
from bcd.data.splits import SplitError
from bcd.data.verify import Checks, verify

SIZE = (96, 120)


def save_image(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, SIZE, dtype=np.uint8)
    Image.fromarray(noise).save(path)


def save_mask(path: Path, filled: bool = True) -> None:
    mask = np.zeros(SIZE, dtype=np.uint8)
    mask[30:60, 40:90] = 255 * filled
    Image.fromarray(mask).save(path)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Twelve images; benign/0 and malignant/6 are the same picture; the normals' masks are black."""
    for seed in range(12):
        label = ("benign", "malignant", "normal")[min(seed // 6 + (seed > 9), 2)]
        save_image(tmp_path / "data" / label / f"{seed}.png", 0 if seed == 6 else seed)
        save_mask(tmp_path / "data" / label / f"{seed}_mask.png", label != "normal")
    return tmp_path / "data"


def prepare_folder(data: Path, **options: object) -> Prepared:
    chosen = {"folds": 3, "seed": 0, "checks": Checks()} | options
    return prepare(Folder(data), "mine", data.parent / "prepared", **chosen)  # type: ignore[arg-type]


def test_preparing_gives_manifest_groups_and_split(data: Path) -> None:
    prepared = prepare_folder(data)
    assert prepared.folder == data.parent / "prepared" / f"mine-{prepared.fingerprint}"
    assert len(prepared.cases) == len(prepared.groups) == len(prepared.split) == 12
    assert read_sizes(prepared.folder / "manifest.csv")["benign/0"] == SIZE
    assert set(prepared.split["fold"].astype(int)) == {1, 2, 3}
    assert not prepared.synthetic
    assert "data.root" in prepared.how_to_get


def test_a_mask_that_is_all_black_is_no_mask(data: Path) -> None:
    masks = {case.case_id: len(case.masks) for case in prepare_folder(data).cases}
    assert (masks["benign/0"], masks["normal/10"]) == (1, 0)


def test_copies_share_a_group_and_a_fold_and_contradict_each_other(data: Path) -> None:
    prepared = prepare_folder(data)
    rows = prepared.groups.set_index("case_id")
    group = rows["group"].to_dict()
    assert group["benign/0"] == group["malignant/6"] != group["benign/1"]
    assert rows.index[rows["contradictory"]].tolist() == ["benign/0", "malignant/6"]
    fold = prepared.split.set_index("case_id")["fold"]
    assert fold["benign/0"] == fold["malignant/6"]
    with (prepared.folder / "copies.csv").open(newline="") as file:
        assert [(row["first"], row["second"]) for row in csv.DictReader(file)] == [("benign/0", "malignant/6")]


def test_a_second_call_reads_what_is_there(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepare_folder(data)
    monkeypatch.setattr(verify_module, "read_image", lambda *_: pytest.fail("read again"))
    monkeypatch.delattr(prepare_module, "draw_split")
    second = prepare_folder(data)
    assert second.cases == first.cases
    assert second.groups.equals(first.groups)
    assert second.split.equals(first.split)


def test_changed_data_are_prepared_elsewhere(data: Path) -> None:
    first = prepare_folder(data)
    save_image(data / "benign" / "1.png", 99)
    assert prepare_folder(data).folder != first.folder


def test_another_seed_is_another_split_and_the_first_is_kept(data: Path) -> None:
    first = prepare_folder(data)
    other = prepare_folder(data, seed=1)
    assert other.folder == first.folder
    assert other.split_file != first.split_file
    assert prepare_folder(data).split.equals(first.split)


def test_a_given_split_is_used_and_none_is_drawn(data: Path) -> None:
    drawn = prepare_folder(data)
    given = data.parent / "given.csv"
    drawn.split_file.rename(given)
    prepared = prepare_folder(data, split_file=given)
    assert prepared.split.equals(drawn.split)
    assert prepared.split_file == given
    assert not drawn.split_file.exists()


def test_a_split_drawn_by_image_is_kept_apart_and_still_names_the_groups(data: Path) -> None:
    honest = prepare_folder(data)
    crossed = 0
    for seed in range(10):
        leaky = prepare_folder(data, seed=seed, split_by="image", allow_leak=True)
        assert leaky.split_file.name == f"split-image-3-{seed}.csv"
        assert "it leaks" in json.loads(leaky.split_file.with_suffix(".json").read_text())["method"]
        rows = leaky.split.set_index("case_id")
        assert rows["group"].to_dict() == honest.groups.set_index("case_id")["group"].to_dict()
        crossed += rows.loc["benign/0", "fold"] != rows.loc["malignant/6", "fold"]
    # Two thirds of the draws, by chance; none where the groups stay together.
    assert crossed >= 1
    assert prepare_folder(data).split_file == honest.split_file


def test_a_split_by_image_is_refused_unless_a_leak_is_allowed_and_never_beside_a_given_one(data: Path) -> None:
    with pytest.raises(SplitError, match=r"add data\.allow_leak=true"):
        prepare_folder(data, split_by="image")
    with pytest.raises(SplitError, match=r"add data\.split=null"):
        prepare_folder(data, split_by="image", allow_leak=True, split_file=data / "split.csv")
    with pytest.raises(SplitError, match="choose group or image"):
        prepare_folder(data, split_by="patient")


def test_a_damaged_folder_is_prepared_again(data: Path) -> None:
    first = prepare_folder(data)
    (first.folder / "groups.csv").write_text("case_id,group\n")
    assert prepare_folder(data).groups.equals(first.groups)


def test_corrected_metadata_reach_the_manifest_without_a_new_split(data: Path) -> None:
    rows = "".join(f"{seed},benign/{seed}.png,{seed},4a\n" for seed in range(6))
    (data / "cases.csv").write_text(f"case_id,image,patient,birads\n{rows}")
    first = prepare(Table(data), "mine", data.parent / "prepared", folds=3, seed=0, checks=Checks())
    (data / "cases.csv").write_text(f"case_id,image,patient,birads\n{rows}".replace("4a", "4b"))
    second = prepare(Table(data), "mine", data.parent / "prepared", folds=3, seed=0, checks=Checks())
    assert second.folder == first.folder
    assert {case.metadata["birads"] for case in second.cases} == {"4b"}
    assert "4a" not in (second.folder / "manifest.csv").read_text()
    assert read_sizes(second.folder / "manifest.csv")["0"] == SIZE


def test_the_summary_counts(data: Path) -> None:
    rows = dict(summary(prepare_folder(data)))
    assert rows["images"] == "12"
    assert [rows[f"  {label}"] for label in ("benign", "malignant", "normal")] == ["6", "4", "2"]
    assert rows["images with a lesion mask"] == "10"
    assert rows["patients"] == "unknown"
    assert rows["groups (patient or near-copies)"] == "11"
    assert rows["near-copies"] == "2 images in 1 clusters"
    assert rows["contradictory copies"] == "2"
    assert rows["height x width, min / median / max"] == "96 x 120 / 96 x 120 / 96 x 120"
    assert sum(int(count) for count in rows["images a fold"].split()) == 12


@pytest.mark.realdata
@pytest.mark.slow
def test_busi_has_no_problem() -> None:
    problems, sizes, without_lesion = verify(BUSI(Path(os.environ["BCD_DATA"]) / "busi").cases())
    assert problems == []
    assert (len(sizes), len(without_lesion)) == (780, 133)
