import logging
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from PIL import Image

from bcd.data.manifest import (
    Case,
    case_file_name,
    fingerprint,
    natural_key,
    read_manifest,
    read_sizes,
    write_manifest,
)
from bcd.data.problems import DataProblems
from bcd.data.sources.busbra import BUSBRA
from bcd.data.sources.busi import BUSI
from bcd.data.sources.folder import Folder
from bcd.data.sources.layout import DataNotFound
from bcd.data.sources.table import Table

LESION = np.array([[0, 255, 0], [0, 255, 255]], dtype=np.uint8)
IMAGE = np.array([[0, 50, 100], [150, 200, 250]], dtype=np.uint8)


def save(path: Path, pixels: np.ndarray = IMAGE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def busi(tmp_path: Path) -> Path:
    for case_id in ("benign (10)", "benign (2)", "malignant (1)", "normal (1)"):
        label = case_id.split()[0]
        save(tmp_path / label / f"{case_id}.png")
        save(tmp_path / label / f"{case_id}_mask.png", LESION if label != "normal" else np.dstack([LESION * 0] * 3))
    save(tmp_path / "benign" / "benign (2)_mask_1.png", LESION[::-1])
    return tmp_path


def test_busi_ids_are_in_natural_order(busi: Path) -> None:
    cases = BUSI(busi).cases()
    assert [case.case_id for case in cases] == ["benign (2)", "benign (10)", "malignant (1)", "normal (1)"]
    assert [case.label for case in cases] == ["benign", "benign", "malignant", "normal"]
    assert {case.patient for case in cases} == {None}


def test_busi_keeps_every_mask_of_a_lesion_and_none_of_a_normal(busi: Path) -> None:
    several, one, _, normal = BUSI(busi).cases()
    assert [mask.name for mask in several.masks] == ["benign (2)_mask.png", "benign (2)_mask_1.png"]
    assert [case.metadata["mask_files"] for case in (several, one, normal)] == ["2", "1", "0"]
    assert normal.masks == ()


def test_busi_refuses_a_normal_with_a_lesion_a_broken_mask_and_one_without_image_at_once(busi: Path) -> None:
    save(busi / "normal" / "normal (1)_mask.png", LESION)
    (busi / "normal" / "normal (1)_mask_1.png").write_bytes(b"")
    save(busi / "benign" / "benign (77)_mask.png", LESION)
    with pytest.raises(DataProblems, match="3 problems") as error:
        BUSI(busi).cases()
    assert [(problem.case_id, problem.file.name, problem.reason) for problem in error.value.problems] == [
        ("", "benign (77)_mask.png", "has no image benign (77).png"),
        ("normal (1)", "normal (1)_mask.png", "the mask shows a lesion, the label is normal"),
        ("normal (1)", "normal (1)_mask_1.png", "the file is empty"),
    ]
    assert [case.case_id for case in error.value.cases] == ["benign (2)", "benign (10)", "malignant (1)", "normal (1)"]


def test_busi_is_found_one_folder_deeper_and_has_the_same_fingerprint_there(busi: Path, tmp_path: Path) -> None:
    before = fingerprint(BUSI(busi).cases(), BUSI(busi).root)
    (busi / "Dataset_BUSI_with_GT").mkdir()
    for label in ("benign", "malignant", "normal"):
        (busi / label).rename(busi / "Dataset_BUSI_with_GT" / label)
    nested = BUSI(busi)
    assert len(nested.cases()) == 4
    assert fingerprint(nested.cases(), nested.root) == before


def test_busi_names_files_that_it_does_not_use_and_the_count(busi: Path, caplog: pytest.LogCaptureFixture) -> None:
    (busi / "benign" / "notes.txt").write_text("x")
    (busi / "benign" / "Thumbs.db").write_text("x")
    with caplog.at_level(logging.WARNING):
        BUSI(busi).cases()
    assert "benign/notes.txt" in caplog.text
    assert "Thumbs.db" not in caplog.text
    assert "4 images, the published BUSI has 780" in caplog.text


@pytest.mark.parametrize(
    ("source", "where"), [(BUSI, "scholar.cu.edu.eg"), (BUSBRA, "zenodo.org"), (Folder, "data.root"), (Table, "CSV")]
)
def test_an_absent_data_set_says_how_to_get_it_and_not_before_it_is_used(tmp_path: Path, source: type, where: str) -> None:
    absent = source(tmp_path / "nowhere")
    with pytest.raises(DataNotFound, match=rf"nowhere: there is no such folder\. .*{where}"):
        absent.cases()


def test_a_folder_of_something_else_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "benign").mkdir()
    with pytest.raises(DataNotFound, match="holds no malignant, no normal"):
        BUSI(tmp_path).cases()


@pytest.fixture
def busbra(tmp_path: Path) -> Path:
    rows = ["bus_0010-l,10,fibroadenoma,benign,2,GE Logiq 7,3,2,left,x", "bus_0001-l,1,carcinoma,malignant,4,Toshiba,3,2,left,x"]
    rows.append("bus_0001-r,1,carcinoma,malignant,4,Toshiba,3,2,right,x")
    head = "ID,Case,Histology,Pathology,BIRADS,Device,Width,Height,Side,BBOX"
    (tmp_path / "bus_data.csv").write_text("\n".join([head, *rows]) + "\n")
    for file, fold in (("5-fold-cv.csv", 3), ("10-fold-cv.csv", 9)):
        (tmp_path / file).write_text(f"ID,Pathology,kFold,valid_1\nbus_0001-l,malignant,{fold},1\n")
    for number in ("0001-l", "0001-r", "0010-l"):
        save(tmp_path / "Images" / f"bus_{number}.png")
        save(tmp_path / "Masks" / f"mask_{number}.png", LESION)
    return tmp_path


def test_busbra_knows_patient_label_and_official_fold(busbra: Path) -> None:
    left, right, other = BUSBRA(busbra).cases()
    assert (left.case_id, right.case_id, other.case_id) == ("bus_0001-l", "bus_0001-r", "bus_0010-l")
    assert left.patient == right.patient == "1"
    assert (left.label, other.label) == ("malignant", "benign")
    assert left.masks == (busbra / "Masks" / "mask_0001-l.png",)
    expected = {"histology": "carcinoma", "birads": "4", "device": "Toshiba", "side": "left"}
    assert left.metadata == expected | {"fold_official": "3", "fold_official_10": "9"}


def test_busbra_without_a_column_says_which(busbra: Path) -> None:
    table = busbra / "bus_data.csv"
    table.write_text(table.read_text().replace("Histology", "Histo"))
    with pytest.raises(ValueError, match=r"bus_data\.csv: columns \['Histology'\] are missing; unpack the archive again"):
        BUSBRA(busbra).cases()


def test_a_folder_gives_class_id_and_masks(tmp_path: Path) -> None:
    for name in ("gutartig/a.jpg", "gutartig/b.b.png", "bösartig/a.tif"):
        save(tmp_path / name)
    save(tmp_path / "gutartig" / "a_mask.png", LESION)
    save(tmp_path / "gutartig" / "a_mask-left.bmp", LESION)
    (tmp_path / ".DS_Store").write_text("x")
    (tmp_path / "__MACOSX").mkdir()
    cases = {case.case_id: case for case in Folder(tmp_path).cases()}
    assert list(cases) == ["bösartig/a", "gutartig/a", "gutartig/b.b"]
    assert cases["bösartig/a"].label == "bösartig"
    assert {mask.name for mask in cases["gutartig/a"].masks} == {"a_mask.png", "a_mask-left.bmp"}


def test_images_without_class_folders_have_no_label(tmp_path: Path) -> None:
    save(tmp_path / "a2.png")
    save(tmp_path / "a10.png")
    assert [(case.case_id, case.label) for case in Folder(tmp_path).cases()] == [("a2", None), ("a10", None)]


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (["benign/a.png", "b.png"], "lies beside the folder"),
        (["benign/p1/a.png"], "benign/p1: lies in the class folder benign, where folders are not read"),
        (["images/a.png", "masks/a.png"], "masks: looks like masks"),
        (["benign/a.png", "benign/b_mask.png"], "benign/b_mask.png: has no image b"),
        (["benign/a.png", "benign/a-mask.png"], "benign/a-mask.png: looks like the mask of a; call it a_mask.png, or otherwise"),
        (["benign/case 1.png", "benign/case 1 Mask 2.png"], "looks like the mask of case 1; call it case 1_mask.png"),
        (["benign/a.png", "benign/mask_a.png"], "looks like the mask of a;"),
        (["benign/a.png", "malignant/.hidden.png"], "malignant: holds no image; copy its images into it, or remove it"),
    ],
)
def test_a_folder_that_could_be_misread_is_refused(tmp_path: Path, files: list[str], reason: str) -> None:
    for file in files:
        save(tmp_path / file)
    with pytest.raises(ValueError, match=reason):
        Folder(tmp_path).cases()


def test_names_that_only_remind_of_masks_are_images(tmp_path: Path) -> None:
    for name in ("gasmask", "mask", "b gt", "label 1"):
        save(tmp_path / f"{name}.png")
    assert len(Folder(tmp_path).cases()) == 4


def test_files_that_are_no_pictures_are_named_beside_what_is_wrong(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(tmp_path / "benign" / "b_mask.png")
    (tmp_path / "benign" / "notes.docx").write_bytes(b"")
    with pytest.raises(ValueError, match="has no image b"):
        Folder(tmp_path).cases()
    assert "notes.docx" in caplog.text


TABLE = "case_id,image,mask,label,patient,BI-RADS\nb,img/b.png,img/m1.png;img/m2.png,malignant,007,4a\na,img/a.png,,,NA,\n"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    for name in ("a", "b", "m1", "m2"):
        save(tmp_path / "img" / f"{name}.png", LESION if name.startswith("m") else IMAGE)
    (tmp_path / "cases.csv").write_text(TABLE)
    return tmp_path


def test_a_table_keeps_text_as_text_and_other_columns_as_metadata(table: Path) -> None:
    unknown, known = Table(table).cases()
    assert known == Case(
        "b",
        table / "img" / "b.png",
        (table / "img" / "m1.png", table / "img" / "m2.png"),
        "malignant",
        "007",
        {"BI-RADS": "4a"},
    )
    assert unknown == Case("a", table / "img" / "a.png")


def test_a_table_with_other_column_names_delimiter_byte_order_mark_and_backslashes_is_read(table: Path) -> None:
    text = "﻿Fall;Bild;Maske;mask\nä, 1;img\\a.png;img\\m1.png|img\\m2.png;kept\n"
    (table / "img" / "fälle.csv").write_text(text, encoding="utf-8")
    columns = {"case_id": "Fall", "image": "Bild", "mask": "Maske"}
    (case,) = Table(table, "img/fälle.csv", columns, delimiter=";", mask_delimiter="|").cases()
    assert (case.case_id, len(case.masks), case.label, case.patient) == ("ä, 1", 2, None, None)
    assert case.metadata == {"mask": "kept"}


def test_a_parquet_table_gives_the_same_cases_as_a_csv(table: Path) -> None:
    columns = {
        "case_id": ["b", "a"],
        "image": ["img/b.png", "img/a.png"],
        "mask": [["img/m1.png", "img/m2.png"], None],
        "label": ["malignant", None],
        "patient": ["007", None],
        "BI-RADS": ["4a", None],
    }
    parquet.write_table(pa.table(columns), table / "cases.parquet")
    assert Table(table, "cases.parquet").cases() == Table(table).cases()


def test_a_column_under_another_name_is_told_of(table: Path, caplog: pytest.LogCaptureFixture) -> None:
    (table / "cases.csv").write_text("case_id,image,diagnosis\na,img/a.png,benign\n")
    with caplog.at_level(logging.INFO):
        Table(table).cases()
        assert "no column for mask, label, patient; diagnosis kept as metadata" in caplog.text
        caplog.clear()
        Table(table, columns={"label": "diagnosis", "mask": None, "patient": None}).cases()
    assert not caplog.text


def test_a_whole_number_in_parquet_stays_whole_beside_a_missing_one(table: Path) -> None:
    columns = {"case_id": [1, 2], "image": ["img/a.png", "img/b.png"], "patient": pa.array([7, None], pa.int64())}
    parquet.write_table(pa.table(columns), table / "cases.parquet")
    assert [(case.case_id, case.patient) for case in Table(table, "cases.parquet").cases()] == [("1", "7"), ("2", None)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("case_id,images\na,img/a.png\n", "no column 'image' for image, only 'case_id', 'images'; did you mean 'images'"),
        ("case_id;image\na;img/a.png\n", "is ',' the right delimiter"),
        ("", "no column 'case_id'"),
        ("case_id,image\na,img/nowhere.png\n", r"a: .*cases\.csv: row 1: img/nowhere.png is missing below"),
        ("case_id,image\na,../outside.png\n", r"\.\./outside\.png lies outside the data folder"),
        ("case_id,image\na,..\\outside.png\n", "outside.png lies outside the data folder"),
        ("case_id,image\na,/etc/passwd\n", "/etc/passwd lies outside the data folder .*; copy it inside, link to it from there"),
        ("case_id,image\na,C:\\data\\a.png\n", "a.png lies outside the data folder"),
        ("case_id,image\na,img/../../data/../outside.png\n", "outside.png lies outside the data folder"),
        ("case_id,image,masks\na,img/a.png,\n", r"no column 'mask'; did you mean 'masks'\? Then say data\.source\.columns\.mask="),
        ("case_id,image,Patient_ID\na,img/a.png,1\n", "no column 'patient'; did you mean 'Patient_ID'"),
        ('case_id,image\na,"img/a.png\nb,img/b.png\n', r"row 1: img/a.png\nb,img/b.png is missing"),
        ("case_id,image\n,img/a.png\n", "row 1: the case id is empty"),
        ("case_id,image\na,\n", "the image is empty"),
        ("case_id,image\na,img/a.png,x\n", "row 1: 3 cells, the header has 2"),
        ("case_id,image,image\na,img/a.png,x\n", "two columns are called 'image'"),
    ],
)
def test_a_broken_table_is_refused_with_the_row(table: Path, text: str, reason: str) -> None:
    root = table / "data"
    root.mkdir()
    (table / "img").rename(root / "img")
    save(table / "outside.png")
    (root / "cases.csv").write_text(text)
    with pytest.raises(ValueError, match=reason):
        Table(root).cases()


def test_a_table_lists_the_problems_of_every_row_and_carries_the_other_cases(table: Path) -> None:
    rows = ["a,img/a.png,", ",img/b.png,", "c,,", "d,img/a.png", "e,img/x.png,img/y.png;img/z.png", "f,img/b.png,/m.png;img/m1.png"]
    (table / "cases.csv").write_text("\n".join(["case_id,image,mask", *rows]))
    with pytest.raises(DataProblems) as error:
        Table(table).cases()
    told = [(problem.case_id, problem.reason.partition(" below")[0]) for problem in error.value.problems]
    assert told[:3] == [
        ("", "row 4: 2 cells, the header has 3"),
        ("", "row 2: the case id is empty"),
        ("c", "row 3: the image is empty"),
    ]
    assert told[3:6] == [("e", f"row 5: img/{name}.png is missing") for name in "xyz"]
    assert told[6:] == [("f", f"row 6: /m.png lies outside the data folder {table}")]
    assert [(case.case_id, [mask.name for mask in case.masks]) for case in error.value.cases] == [("a", []), ("f", ["m1.png"])]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("cases.csv", "case_id,image\nä,b.png".encode("utf-16"), "is not UTF-8 .*; save it as 'CSV UTF-8'"),
        ("cases.csv", b"case_id,image\n" + b"a" * 200_000 + b",b.png", "cannot be read as CSV"),
        ("cases.parquet", b"case_id,image\na,img/a.png\n", "cannot be read as Parquet"),
        ("cases.parquet", b"", "cannot be read as Parquet"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused_by_name(table: Path, name: str, content: bytes, reason: str) -> None:
    (table / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} {reason}"):
        Table(table, name).cases()


def test_a_table_that_is_a_folder_or_a_pipe_is_refused_and_not_waited_for(table: Path) -> None:
    (table / "folder.csv").mkdir()
    os.mkfifo(table / "pipe.csv")
    for name in ("folder.csv", "pipe.csv"):
        with pytest.raises(ValueError, match=rf"{name}: is a .*, not a file"):
            Table(table, name).cases()


def test_a_link_inside_the_data_folder_may_point_out_of_it(table: Path) -> None:
    (table / "data" / "img").mkdir(parents=True)
    (table / "data" / "img" / "a.png").symlink_to(table / "img" / "a.png")
    (table / "data" / "store").symlink_to(table / "img")
    (table / "data" / "cases.csv").write_text("case_id,image\na,img/a.png\nb,store/b.png\n")
    assert [case.case_id for case in Table(table / "data").cases()] == ["a", "b"]


def test_a_data_folder_may_be_named_by_way_of_another(table: Path) -> None:
    assert Table(table / "img" / "..").cases() == Table(table).cases()
    assert Folder(table / "img" / ".." / "img").cases() == Folder(table / "img").cases()


def test_a_column_that_was_asked_for_must_be_there(table: Path) -> None:
    with pytest.raises(ValueError, match=r"no column 'Patient' for patient, .* did you mean 'patient'"):
        Table(table, columns={"patient": "Patient"}).cases()
    with pytest.raises(ValueError, match=r"'patients' is none of .*; did you mean 'patient'"):
        Table(table, columns={"patients": "patient"})
    assert Table(table, columns={"patient": None}).cases()[1].patient is None


def test_a_manifest_with_awkward_names_comes_back_as_it_was(tmp_path: Path) -> None:
    names = ["a, b", 'a "quoted"', "ü;ber", "[x]", "line\nbreak", "plain"]
    cases = [
        Case(name, tmp_path / f"{name}.png", (tmp_path / f"{name}_1.png", tmp_path / f"{name}_2.png"), "NA", "007", {"label": name})
        for name in names
    ]
    cases.append(Case("without", tmp_path / "without.png"))
    skipped = [
        (Case("broken", tmp_path / "broken.png"), "broken.png: the file is empty"),
        (Case("", Path("/else/x.png")), "orphan"),
    ]
    write_manifest(cases, tmp_path / "manifest.csv", tmp_path, {"plain": (3, 4)}, skipped)
    assert read_manifest(tmp_path / "manifest.csv", tmp_path) == cases
    assert read_sizes(tmp_path / "manifest.csv") == {"plain": (3, 4)}
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.csv"]


def test_a_manifest_is_relative_to_its_root(tmp_path: Path) -> None:
    write_manifest([Case("a", tmp_path / "x" / "a.png")], tmp_path / "manifest.csv", tmp_path)
    assert read_manifest(tmp_path / "manifest.csv", Path("/elsewhere"))[0].image == Path("/elsewhere/x/a.png")
    with pytest.raises(ValueError, match="lies outside the data folder"):
        write_manifest([Case("a", Path("/elsewhere/a.png"))], tmp_path / "manifest.csv", tmp_path)


def test_the_fingerprint_follows_content_label_patient_and_path_but_not_order_or_place(table: Path, tmp_path: Path) -> None:
    cases = Table(table).cases()
    before = fingerprint(cases, table)
    assert len(before) == 16
    assert fingerprint(cases[::-1], table) == before
    (table / "cases.csv").write_text(TABLE.replace("4a", "4b"))
    assert fingerprint(Table(table).cases(), table) == before
    prints = {before}
    for old, new in (("malignant", "benign"), ("007", "008"), (";img/m2.png", "")):
        (table / "cases.csv").write_text(TABLE.replace(old, new))
        prints.add(fingerprint(Table(table).cases(), table))
    save(table / "img" / "m1.png", LESION[::-1])
    prints.add(fingerprint(cases, table))
    assert len(prints) == 5


def test_natural_order_counts(tmp_path: Path) -> None:
    assert sorted(["a10", "a2", "10", "b", "a"], key=natural_key) == ["10", "a", "a2", "a10", "b"]


def test_case_file_names_hold_no_slash_are_short_enough_and_never_collide() -> None:
    long = ["良性" * 40 + ending for ending in "ab"]
    ids = ["benign/a", "benign_a", "benign%2Fa", "../a", "ü", "benign (1)", "..", os.fsdecode(b"\xff"), *long]
    names = [case_file_name(case_id) for case_id in ids]
    assert len(set(names)) == len(ids)
    assert not any("/" in name for name in names)
    assert names[5] == "benign (1)"
    assert not any(name.startswith(".") for name in names)
    assert max(map(len, names)) <= 180


@pytest.mark.realdata
def test_busi_is_complete() -> None:
    cases = BUSI(Path(os.environ["BCD_DATA"]) / "busi").cases()
    assert len(cases) == 780
    assert [sum(case.label == label for case in cases) for label in ("benign", "malignant", "normal")] == [437, 210, 133]
    assert sum(len(case.masks) for case in cases) + 133 == 798
    assert sum(len(case.masks) > 1 for case in cases) == 17


@pytest.mark.realdata
def test_busbra_is_complete_and_its_test_folds_are_patient_disjoint() -> None:
    cases = BUSBRA(Path(os.environ["BCD_DATA"]) / "busbra").cases()
    assert len(cases) == 1875
    assert len({case.patient for case in cases}) == 1064
    assert [sum(case.metadata["fold_official"] == fold for case in cases) for fold in "12345"] == [376, 385, 366, 365, 383]
    assert len({(case.patient, case.metadata["fold_official"]) for case in cases}) == 1064
