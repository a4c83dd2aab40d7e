"""Predicting folders, DICOM files and lists: one row a case, whatever is broken, and however often it was stopped."""

import csv
import json
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tiny_bundles import CLASSES, counted, tiny_predictor

from bcd.data.manifest import Case
from bcd.images.read import read_image, read_mask
from bcd.predictor.bundles.examples import example_image
from bcd.predictor.many import files as folders
from bcd.predictor.many import table as tables
from bcd.predictor.many.files import FileOptions, predict_files
from bcd.predictor.many.inputs import find_inputs
from bcd.predictor.predictor import Predictor
from bcd.runs.testing.foreign import read_probabilities


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return tiny_predictor("segmentation", "roi")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    (folder / "more").mkdir(parents=True)
    for name, file in (("benign", "a.png"), ("malignant", "b.jpg"), ("normal", "more/c.png")):
        Image.fromarray(example_image(name)[:120, :150]).save(folder / file)
    Image.fromarray(np.zeros((120, 150), np.uint8)).save(folder / "a_mask.png")
    (folder / "broken.png").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("no image")
    return folder


def rows_of(output: Path) -> list[dict[str, str]]:
    with (output / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("left", range(4))
def test_tables_that_a_kill_left_half_begun_or_half_joined_are_gone_on_with(
    left: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_by = {"bundle": "tiny"}
    row = {"file": "a.png", "frame": "", "case_id": "a", "error": ""}
    table = tables.ResultTable(tmp_path / "part", list(row), made_by)
    table.add(row, {})
    table.close()
    writes = iter(range(left))

    def killed(path: Path, text: str) -> None:
        if next(writes, None) is None:
            raise KeyboardInterrupt
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    for begun in ("new", "joined"):
        with monkeypatch.context() as patched:
            patched.setattr(tables, "write_text", killed)
            try:
                if begun == "new":
                    tables.ResultTable(tmp_path / begun, list(row), made_by)
                else:
                    tables.join(tmp_path / begun, [tmp_path / "part"], list(row), made_by, ["a.png"])
            except KeyboardInterrupt:
                pass
        writes = iter(range(left))
    tables.ResultTable(tmp_path / "new", list(row), made_by)
    tables.ResultTable(tmp_path / "joined", list(row), made_by)
    assert tables.join(tmp_path / "joined", [tmp_path / "part"], list(row), made_by, ["a.png"]) == [row]


def test_a_folder_gives_one_row_a_case_and_lists_what_is_broken(
    predictor: Predictor, images: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    output = tmp_path / "out"
    table = predict_files(predictor, images, output, FileOptions(probabilities=True, uncertainty=True, heat_map=True))
    assert sorted(table["case_id"]) == ["a", "b", "broken", "c"]
    rows = {row["case_id"]: row for row in rows_of(output)}
    assert "its content is no PNG" in rows["broken"]["error"]
    assert "1 of 4 images could not be read" in caplog.text
    result = predictor.predict(images / "a.png", uncertainty=True)
    for name in CLASSES:
        assert float(rows["a"][f"probability_{name}"]) == result.probabilities[name]
    assert [float(rows["a"][f"raw_{name}"]) for name in CLASSES] == [float(value) for value in result.raw]
    assert rows["a"]["predicted_label"] == result.label
    assert rows["a"]["is_positive"] == str(result.is_positive)
    assert int(rows["a"]["lesion_area_px"]) == int(result.mask.sum())
    assert np.array_equal(read_mask(output / "masks" / "a.png"), result.mask)
    probabilities = read_image(output / "probabilities" / "a.png")
    assert np.array_equal(probabilities, np.rint(result.probability_map * 255).astype(np.uint8))
    for kind in ("overlays", "heat_maps"):
        assert {path.stem for path in (output / kind).iterdir()} == {"a", "b", "c"}
    told = json.loads((output / "predictions.json").read_text())
    assert told["fingerprint"] == predictor.bundle.fingerprint
    assert [case["case_id"] for case in told["cases"]] == table["case_id"].tolist()
    by_id = {case["case_id"]: case for case in told["cases"]}
    assert by_id["a"]["lesions"] == result.to_dict()["lesions"]
    assert by_id["broken"]["error"] == rows["broken"]["error"]


def test_the_table_can_be_scored(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    (images / "broken.png").unlink()
    predict_files(predictor, images, tmp_path / "out")
    cases = [Case(name, images / "a.png", (), "benign") for name in ("a", "b", "c")]
    found, problems = read_probabilities(tmp_path / "out" / "predictions.csv", cases, {"a", "b", "c"}, CLASSES)
    assert (sorted(found), problems) == (["a", "b", "c"], [])


def test_a_second_call_does_only_what_is_left(
    predictor: Predictor, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    first = predict_files(predictor, images, output)
    seen = counted(predictor, monkeypatch)
    Image.fromarray(example_image("benign")[:90, :100]).save(images / "broken.png")  # mended meanwhile
    again = predict_files(predictor, images, output)
    assert seen == ["broken"]
    assert sorted(again["case_id"]) == sorted(first["case_id"])
    assert again["error"].tolist() == [""] * 4
    assert len(json.loads((output / "predictions.json").read_text())["cases"]) == 4


@pytest.mark.parametrize("lost", [1, 40, 150])
def test_a_kill_loses_at_most_one_case(
    predictor: Predictor, images: Path, tmp_path: Path, lost: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    (images / "broken.png").unlink()
    predict_files(predictor, images, output)
    whole = (output / "predictions.csv").read_text()
    lines = (output / ".predictions.jsonl").read_text()
    (output / ".predictions.jsonl").write_text(lines[:-lost])  # the last row was being written
    (output / "predictions.csv").write_text(whole[:-lost])
    (output / "predictions.json").unlink()
    seen = counted(predictor, monkeypatch)
    predict_files(predictor, images, output)
    assert seen == ["c"]
    assert (output / "predictions.csv").read_text() == whole
    assert len(json.loads((output / "predictions.json").read_text())["cases"]) == 3


def test_another_bundle_input_or_option_is_refused(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    predict_files(predictor, images / "a.png", output)
    before = (output / "predictions.csv").read_bytes()
    other = tiny_predictor("segmentation", "roi", temperatures=(3.0,))
    with pytest.raises(ValueError, match="made with another fingerprint"):
        predict_files(other, images / "a.png", output)
    with pytest.raises(ValueError, match="made with another input"):
        predict_files(predictor, images, output)
    with pytest.raises(ValueError, match="made with another options"):
        predict_files(predictor, images / "a.png", output, FileOptions(point="0.5"))
    assert (output / "predictions.csv").read_bytes() == before
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "predictions.csv").write_text("case_id\n1\n")
    with pytest.raises(ValueError, match="of unknown origin"):
        predict_files(predictor, images / "a.png", tmp_path / "old")


def test_a_list_names_files_and_cases(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    table = images / "list.csv"
    table.write_text("case_id,file\none,a.png\ntwo,more/c.png\nthree,nowhere.png\n")
    found = predict_files(predictor, table, tmp_path / "out").set_index("case_id")
    assert sorted(found.index) == ["one", "three", "two"]
    assert "cannot be read" in found.loc["three", "error"]
    assert (tmp_path / "out" / "masks" / "two.png").is_file()
    table.write_text("case_id,file\none,a.png\none,b.jpg\n")
    with pytest.raises(ValueError, match="'one' is empty, or stands there twice"):
        find_inputs(table)
    table.write_text("name\na.png\n")
    with pytest.raises(ValueError, match="has no column file, path or image"):
        find_inputs(table)
    table.write_text("path\na.png\na.png\n")
    with pytest.raises(ValueError, match="twice"):
        find_inputs(table)


def test_names_that_would_be_the_same_are_told_apart(images: Path) -> None:
    Image.fromarray(example_image("benign")[:90, :100]).save(images / "more" / "a.png")
    assert sorted(str(one.case_id) for one in find_inputs(images)) == ["a", "b", "broken", "more/a", "more/c"]


def test_two_pictures_that_differ_in_their_ending_alone_keep_it(images: Path) -> None:
    Image.fromarray(example_image("benign")[:90, :100]).save(images / "more" / "c.bmp")
    assert sorted(str(one.case_id) for one in find_inputs(images)) == ["a", "b", "broken", "more/c.bmp", "more/c.png"]
    table = images / "list.csv"
    table.write_text(f"extra,file\n1,a.png\n2,more/c.bmp\n3,{images / 'more' / 'c.png'}\n")
    assert [one.case_id for one in find_inputs(table)] == ["a", "more/c.bmp", "more/c.png"]


def test_what_ends_like_dicom_has_a_row_whatever_it_holds(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    (images / "zero.dcm").write_bytes(b"")
    table = predict_files(predictor, images, tmp_path / "out").set_index("case_id")
    assert "the file is empty" in table.loc["zero", "error"]


def test_a_folder_that_may_not_be_read_is_named(
    images: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scan = os.scandir

    def scandir(path: str) -> Any:
        if str(path).endswith("more"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert [str(one.case_id) for one in find_inputs(images)] == ["a", "b", "broken"]
    assert "more cannot be read (Permission denied)" in caplog.text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no column"),
        ("file\n", "lists no image"),
        ("file,case_id\na.png,one\n,two\n", "row 2 names no file"),
        ("file,case_id\na.png,one\na.png,two\n", "lists .*a.png twice"),
    ],
)
def test_a_list_with_a_mistake_is_refused(images: Path, text: str, words: str) -> None:
    (images / "list.csv").write_text(text)
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        find_inputs(images / "list.csv")


def test_a_list_may_name_what_is_no_path(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    (images / "list.csv").write_text(f"file\na.png\n{'x' * 5000}.png\n")
    found = predict_files(predictor, images / "list.csv", tmp_path / "out")
    assert "File name too long" in found["error"][1]


def test_nothing_to_predict_is_told(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no image"):
        predict_files(predictor, tmp_path / "empty", tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        predict_files(predictor, tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(ValueError, match="None of the 1 images could be read"):
        predict_files(predictor, images / "broken.png", tmp_path / "out")


def test_outlines_of_a_folder_replace_the_predicted_ones(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    guides = tmp_path / "guides"
    guides.mkdir()
    outline = np.zeros((120, 150), np.uint8)
    outline[30:60, 40:90] = 255
    Image.fromarray(outline).save(guides / "a.png")
    (images / "broken.png").unlink()
    table = predict_files(predictor, images, tmp_path / "out", FileOptions(guides=guides)).set_index("case_id")
    assert table.loc["a", "lesion_area_px"] == 30 * 50
    assert "there is no mask for b" in table.loc["b", "error"]
    with pytest.raises(ValueError, match="takes no masks"):
        predict_files(tiny_predictor("segmentation"), images, tmp_path / "other", FileOptions(guides=guides))


def _dicom(path: Path, frames: list[np.ndarray], **identifiers: str) -> None:
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, UltrasoundMultiFrameImageStorage, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UltrasoundMultiFrameImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.Modality, dataset.PatientName, dataset.PatientID = "US", "DOE^JANE", "123456"
    dataset.PatientBirthDate = dataset.PatientSex = dataset.AccessionNumber = dataset.StudyID = ""
    dataset.StudyDate, dataset.StudyTime, dataset.ReferringPhysicianName = "20260101", "120000", ""
    dataset.Manufacturer, dataset.SeriesNumber, dataset.InstanceNumber = "", 1, 1
    dataset.Rows, dataset.Columns = frames[0].shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelSpacing = [0.5, 0.25]
    if len(frames) > 1:
        dataset.NumberOfFrames = len(frames)
    dataset.PixelData = np.stack(frames).tobytes()
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)


def test_each_frame_of_a_dicom_file_is_a_case_and_names_no_patient(
    predictor: Predictor, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = [example_image(name)[:120, :150] for name in ("benign", "malignant")]
    folder, output = tmp_path / "scans", tmp_path / "out"
    folder.mkdir()
    _dicom(folder / "IM0001", frames)
    _dicom(folder / "IM0002.dcm", frames[:1])
    table = predict_files(predictor, folder, output).set_index("case_id")
    assert sorted(table.index) == ["IM0001_frame_000", "IM0001_frame_001", "IM0002"]
    assert (table["row_spacing_mm"] == 0.5).all()
    assert (table["threshold_on"] == predictor.bundle.decisions.on).all()
    result = predictor.predict(frames[0])
    assert np.array_equal(read_mask(output / "masks" / "IM0002.png"), result.mask)
    assert [table.loc["IM0002", f"raw_{name}"] for name in CLASSES] == [float(value) for value in result.raw]
    if result.lesions:
        assert table.loc["IM0002", "area_mm2"] == pytest.approx(result.lesions[0].area_px * 0.125)
    seen = counted(predictor, monkeypatch)
    predict_files(predictor, folder, output)
    assert seen == []
    for told in [caplog.text, *(path.read_bytes().decode("latin-1") for path in output.rglob("*") if path.is_file())]:
        assert "DOE" not in told
        assert "123456" not in told


def test_dicom_seg_points_back_at_its_source(predictor: Predictor, tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    pytest.importorskip("highdicom")
    frames = [example_image(name)[:120, :150] for name in ("benign", "malignant")]
    _dicom(tmp_path / "scan.dcm", frames)
    predict_files(predictor, tmp_path / "scan.dcm", tmp_path / "out", FileOptions(seg=True))
    (written,) = (tmp_path / "out" / "seg").iterdir()
    segmentation, source = pydicom.dcmread(written), pydicom.dcmread(tmp_path / "scan.dcm")
    assert segmentation.Modality == "SEG"
    assert source.SOPInstanceUID in str(segmentation)
    masks = [read_mask(tmp_path / "out" / "masks" / f"scan_frame_00{number}.png") for number in range(2)]
    assert np.array_equal(np.atleast_3d(segmentation.pixel_array).reshape(-1, 120, 150), np.stack(masks))


def test_a_source_that_no_seg_can_point_to_has_one_row_that_says_so(predictor: Predictor, tmp_path: Path) -> None:
    files = pytest.importorskip("dicom_files")
    pytest.importorskip("highdicom")
    (tmp_path / "scan.dcm").write_bytes(files.dicom(example_image("benign")[:120, :150], StudyInstanceUID=None))
    for _ in range(2):
        table = predict_files(predictor, tmp_path / "scan.dcm", tmp_path / "out", FileOptions(seg=True))
        assert list(table["error"]) == [""]
        assert "No DICOM SEG: its source has no StudyInstanceUID" in table["warnings"][0]


def test_a_seg_is_written_once_and_before_its_row(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("highdicom")
    caplog.set_level(logging.DEBUG)
    source, output = tmp_path / "scans", tmp_path / "out"
    source.mkdir()
    image = example_image("benign")[:120, :150]
    _dicom(source / "cine.dcm", [image, image[::-1]])
    _dicom(source / "still.dcm", [image])

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(folders, "write_seg", killed)
        with pytest.raises(KeyboardInterrupt):
            predict_files(predictor, source / "still.dcm", tmp_path / "killed", FileOptions(seg=True))
    assert not read_rows(tmp_path / "killed")
    predict_files(predictor, source, output, FileOptions(seg=True))
    written = {path.name: path.read_bytes() for path in (output / "seg").iterdir()}
    assert sorted(written) == ["cine_frame_000.dcm", "still.dcm"]
    predict_files(predictor, source, output, FileOptions(seg=True))
    assert written == {path.name: path.read_bytes() for path in (output / "seg").iterdir()}
    assert "copy attributes" not in caplog.text


def read_rows(output: Path) -> list[str]:
    """Return the lines below the head of a table."""
    return (output / "predictions.csv").read_text().splitlines()[1:]


def test_tables_name_no_patient_who_stands_in_a_path(
    predictor: Predictor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("pydicom")
    folder = tmp_path / "DOE JANE"
    folder.mkdir()
    image = example_image("benign")[:120, :150]
    for name in ("DOE_JANE.dcm", "JANE_DOE.dcm", "view.dcm"):
        _dicom(folder / name, [image])
    damaged = bytearray((folder / "view.dcm").read_bytes())
    place = damaged.index(b"\x20\x00\x0d\x00")  # behind the patient's name
    damaged[place:place] = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff" + bytes(range(1, 9))
    for name in ("damaged JANE.dcm", "damaged DOE.dcm"):
        (folder / name).write_bytes(damaged)
    for source in (folder, folder / "DOE_JANE.dcm"):
        output = tmp_path / "out" / source.name.replace("DOE", "").replace("JANE", "")
        table = predict_files(predictor, source, output)
        assert len(set(table["file"])) == len(table) == (5 if source == folder else 1)
        assert table["error"].str.contains("its DICOM header is damaged").sum() == (2 if source == folder else 0)
        assert len(predict_files(predictor, source, output)) == len(table)
        for path in output.rglob("*.csv"):
            assert "JANE" not in path.read_text()
    assert "JANE" not in (output / "predict.json").read_text()
    assert "JANE" not in caplog.text


def test_a_bundle_of_a_segmentation_alone_has_no_columns_of_classes(images: Path, tmp_path: Path) -> None:
    table = predict_files(tiny_predictor("segmentation"), images / "a.png", tmp_path / "out", learned_from=["x"])
    assert not [name for name in table.columns if name.startswith(("probability_", "predicted_label", "is_positive"))]
    assert json.loads((tmp_path / "out" / "masks" / "origin.json").read_text()) == {"learned_from": ["x"]}
    assert isinstance(table, pd.DataFrame)
