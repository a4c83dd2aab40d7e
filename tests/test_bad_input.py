"""A data set with everything wrong that a hospital's export can have: all of it named at once, or left out and written down."""

import csv
import json
import os
import re
import socket
import unicodedata
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bcd.config import compose
from bcd.data import verify as verify_module
from bcd.data.manifest import Case, read_manifest
from bcd.data.prepare import Prepared, prepare, summary
from bcd.data.problems import DataProblems, Problem, listed
from bcd.data.sources.busbra import BUSBRA
from bcd.data.sources.busi import BUSI
from bcd.data.sources.folder import Folder
from bcd.data.sources.layout import DataNotFound
from bcd.data.sources.table import Table
from bcd.data.splits import check_split
from bcd.data.verify import Checks
from bcd.runs.assemble import prepare_data

SIZE = (48, 60)
LABELS = ("normal", "benign", "malignant")
CHECKS = Checks(LABELS)
Damage = Callable[[Path], object]


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, SIZE, dtype=np.uint8)


def outline(level: int = 255) -> np.ndarray:
    mask = np.zeros(SIZE, dtype=np.uint8)
    mask[10:30, 20:40] = level
    return mask


def save(path: Path, pixels: np.ndarray, file_format: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, format=file_format)
    return path


def add(root: Path, name: str, mask: int | None = 255) -> Path:
    """Write an image unlike any other, and its mask."""
    if mask is not None:
        save(root / f"{name}_mask.png", outline(mask))
    return save(root / f"{name}.png", picture(zlib.crc32(os.fsencode(name))))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Twelve cases in order, four of each label."""
    for number in range(4):
        add(tmp_path / "data", f"normal/{number}", mask=0)
        add(tmp_path / "data", f"benign/{number}")
        add(tmp_path / "data", f"malignant/{number}")
    return tmp_path / "data"


def take(data: Path, checks: Checks = CHECKS, on_error: str = "stop", source: object = None, **options: object) -> Prepared:
    chosen = Folder(data) if source is None else source
    given = {"folds": 3, "seed": 0, "checks": checks, "on_error": on_error} | options
    return prepare(chosen, "mine", data.parent / "out", **given)  # type: ignore[arg-type]


def problems_of(data: Path, checks: Checks = CHECKS, source: object = None) -> list[Problem]:
    with pytest.raises(DataProblems) as error:
        take(data, checks, source=source)
    return error.value.problems


def told(problems: list[Problem]) -> list[tuple[str, str, str]]:
    return [(problem.case_id, problem.file.name, problem.reason) for problem in problems]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def bind_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's path may have 100 bytes
    try:
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind(path.name)
    finally:
        os.chdir(here)


def grey_edge() -> np.ndarray:
    mask = outline()
    mask[30, 20:40] = 128
    return mask


# What stands in the place of benign/1.png, the reason, and the way out; test_images has every other kind of file.
IMAGES: dict[str, tuple[Damage, str, str]] = {
    "unreadable": (lambda path: path.write_bytes(b"no picture at all"), "no PNG, JPEG", "export it as PNG"),
    "broken link": (
        lambda path: path.symlink_to("nowhere.png"),
        "cannot be read (No such file",
        "restore the file, or leave it out",
    ),
    "socket": (bind_socket, "is a pipe, socket or device, not a file", "remove it, or put the picture in its place"),
}
# The same for benign/1_mask.png.
MASKS: dict[str, tuple[Damage, str, str]] = {
    "grey edge": (lambda path: save(path, grey_edge()), "this one has 3 levels (0, 128, 255)", "threshold it"),
    "other size": (
        lambda path: save(path, outline()[:40]),
        "the mask is 40 x 60, 1.png is 48 x 60",
        "export both again at one size",
    ),
    "black": (lambda path: save(path, outline(0)), "the mask is empty, the label is benign", "segment the lesion"),
    "pipe": (os.mkfifo, "is a pipe", "remove it"),
}


@pytest.mark.parametrize(
    ("name", "damage", "reason", "remedy"),
    [(name, *row) for name, table in (("1.png", IMAGES), ("1_mask.png", MASKS)) for row in table.values()],
    ids=[f"{kind} {name}" for kind, table in (("image", IMAGES), ("mask", MASKS)) for name in table],
)
def test_a_broken_file_is_refused_with_the_case_the_file_the_reason_and_the_way_out(
    data: Path, name: str, damage: Damage, reason: str, remedy: str
) -> None:
    (data / "benign" / name).unlink()
    damage(data / "benign" / name)
    (problem,) = problems_of(data)
    assert (problem.case_id, problem.file) == ("benign/1", data / "benign" / name)
    assert reason in problem.reason
    assert remedy in problem.remedy
    assert not list((data.parent / "out").glob("*/manifest.csv"))


def test_a_file_cut_short_is_refused(data: Path) -> None:
    cut(data / "benign" / "1.png")
    cut(data / "benign" / "2_mask.png")
    assert [(problem.case_id, problem.reason.partition(" (")[0]) for problem in problems_of(data)] == [
        ("benign/1", "is damaged or cut short"),
        ("benign/2", "is damaged or cut short"),
    ]


def test_a_folder_that_may_not_be_read_is_refused(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = Path.iterdir

    def deny(path: Path) -> object:
        if path == data / "benign":
            raise PermissionError(13, "Permission denied")
        return entries(path)

    monkeypatch.setattr(Path, "iterdir", deny)
    assert told(problems_of(data)) == [("", "benign", "cannot be read (Permission denied)")]


def test_a_file_that_vanishes_after_it_was_listed_is_refused(data: Path) -> None:
    class Fading(Folder):
        def cases(self) -> list[Case]:
            found = super().cases()
            (data / "benign" / "1.png").unlink()
            return found

    assert told(problems_of(data, source=Fading(data))) == [("benign/1", "1.png", "cannot be read (No such file or directory)")]


def test_a_normal_whose_mask_shows_a_lesion_is_refused(data: Path) -> None:
    save(data / "normal" / "1_mask.png", outline())
    assert told(problems_of(data)) == [("normal/1", "1_mask.png", "the mask shows a lesion, the label is normal")]


def test_a_lesion_without_a_mask_is_refused_in_a_data_set_that_has_masks(data: Path) -> None:
    (data / "benign" / "1_mask.png").unlink()
    (problem,) = problems_of(data)
    assert problem[:3] == ("benign/1", data / "benign" / "1.png", "the label is benign, and there is no mask")
    assert "data.require_masks=false" in problem.remedy
    assert len(take(data, replace(CHECKS, require_masks=False)).cases) == 12


def test_a_data_set_without_any_mask_is_for_classification_unless_masks_are_required(data: Path) -> None:
    for mask in data.rglob("*_mask.png"):
        mask.unlink()
    assert not any(case.masks for case in take(data).cases)
    assert {problem.case_id[:-2] for problem in problems_of(data, replace(CHECKS, require_masks=True))} == {"benign", "malignant"}


def test_a_folder_that_was_prepared_under_looser_checks_is_held_to_stricter_ones(data: Path) -> None:
    (data / "benign" / "1_mask.png").unlink()
    loose = take(data, replace(CHECKS, require_masks=False))
    problems_of(data)
    assert (loose.folder / "problems.csv").is_file()
    take(data, replace(CHECKS, require_masks=False))
    assert not (loose.folder / "problems.csv").exists()
    assert len(problems_of(data, replace(CHECKS, max_pixels=SIZE[0] * SIZE[1] - 1, require_masks=False))) == 12


def test_an_unknown_label_is_refused_with_the_nearest_one(data: Path) -> None:
    (data / "benign").rename(data / "benigm")
    problem = problems_of(data)[0]
    assert problem[:2] == ("benigm/0", data / "benigm" / "0.png")
    assert problem.reason == "the label 'benigm' is none of normal, benign, malignant"
    assert problem.remedy.startswith("did you mean 'benign'? Else name it in data.classes, in data.relabel, or in data.labels")
    (data / "benigm").rename(data / "xyz")
    assert problems_of(data)[0].remedy.startswith("correct it, or name it in data.classes")


def test_a_label_of_the_users_own_is_known_once_it_is_named(data: Path) -> None:
    (data / "benign").rename(data / "gutartig")
    assert len(take(data, Checks([*LABELS, "gutartig"])).cases) == 12
    save(data / "gutartig" / "1_mask.png", outline(0))
    assert len(take(data, Checks([*LABELS, "gutartig"])).cases) == 12  # nobody said that it is a lesion
    (problem,) = problems_of(data, Checks([*LABELS, "gutartig"], relabel={"gutartig": "benign"}))
    assert problem.reason == "the mask is empty, the label is gutartig (benign)"


def test_a_label_that_is_joined_to_another_keeps_its_own_meaning(data: Path) -> None:
    assert len(take(data, Checks(LABELS, relabel={"normal": "benign"})).cases) == 12


def test_labels_in_other_letter_case_are_taken_as_the_known_ones(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = take(data)
    (data / "cases.csv").write_text(
        "case_id,image,label\n"
        + "".join(f"{case.case_id},{case.case_id}.png,{case.label.upper()} \n" for case in before.cases if case.label)
    )
    with caplog.at_level("INFO"):
        after = take(data, source=Table(data))
    assert [case.label for case in after.cases] == [case.label for case in before.cases]
    assert "4 cases are labelled 'BENIGN': taken as 'benign'" in caplog.text


def test_an_umlaut_is_the_same_however_it_is_coded(data: Path) -> None:
    (data / "malignant").rename(data / unicodedata.normalize("NFD", "bösartig"))
    assert {case.label for case in take(data, Checks([*LABELS, "bösartig"])).cases} == {"normal", "benign", "bösartig"}


def test_ids_that_stand_twice_or_differ_in_letter_case_alone_are_refused(data: Path) -> None:
    save(data / "benign" / "1.jpg", picture(77))
    add(data, "malignant/a")
    add(data, "malignant/A")
    assert told(problems_of(data)) == [
        ("benign/1", "1.jpg", "its id stands for 1.jpg and 1.png"),
        ("benign/1", "1.png", "its id stands for 1.jpg and 1.png"),
        ("malignant/A", "A.png", "the ids malignant/A and malignant/a differ in letter case alone"),
        ("malignant/a", "a.png", "the ids malignant/A and malignant/a differ in letter case alone"),
    ]


def test_a_name_that_is_not_utf_8_is_refused_in_letters(data: Path) -> None:
    add(data, os.fsdecode(b"benign/gr\xfc\xdfe"))
    with pytest.raises(DataProblems, match="the name is not UTF-8; rename the file"):
        take(data)
    (file,) = data.parent.glob("out/*/problems.csv")
    assert r"gr\udcfc\udcdfe.png" in file.read_text(encoding="utf-8")


def test_odd_and_long_names_hidden_files_and_an_empty_mask_folder_are_no_problem(data: Path) -> None:
    names = ['benign/it\'s; [one] = 100%, "so"', "benign/" + "ü" * 90, "benign/line\nbreak", "benign/ -n"]
    for name in names:
        add(data, name)
    (data / "benign" / ".hidden.png").write_bytes(b"")
    (data / "benign" / "._0.png").write_bytes(b"")
    (data / "masks").mkdir()
    prepared = take(data)
    assert {case.case_id for case in prepared.cases} >= set(names)
    assert len(prepared.cases) == 12 + len(names)


def test_an_empty_folder_says_how_to_fill_it(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(DataNotFound, match=r"holds no image\. Put your images into one folder per class"):
        take(tmp_path / "data")


class Mine:
    """A source as a user would write it."""

    name, synthetic = "mine", False

    def __init__(self, root: Path, found: list[Case]) -> None:
        self.root, self.found = root, found

    def cases(self) -> list[Case]:
        return self.found


def test_a_source_with_nothing_but_cases_goes_through_the_same_checks(data: Path) -> None:
    found = Folder(data).cases()
    assert len(take(data, source=Mine(data, found)).cases) == 12
    outside = save(data.parent / "outside.png", picture(5))
    odd = [Case("out", outside), Case("up", data / ".." / "outside.png"), Case(" ", data / "benign" / "0.png"), found[0]]
    assert told(problems_of(data, source=Mine(data, [*found, *odd]))) == [
        (" ", "0.png", "the case id is empty"),
        ("benign/0", "0.png", "its id stands for 0.png and 0.png"),
        ("benign/0", "0.png", "its id stands for 0.png and 0.png"),
        ("out", "outside.png", f"lies outside the data folder {data}"),
        ("up", "outside.png", f"lies outside the data folder {data}"),
    ]
    with pytest.raises(ValueError, match="holds no case"):
        take(data, source=Mine(data, []))


def break_everything(data: Path) -> list[str]:
    """Damage most of the data; return what must be told, case by case, those of no case first."""
    (data / "benign" / "1.png").write_bytes(b"no picture")
    save(data / "benign" / "2_mask.png", outline(0))
    (data / "malignant" / "1_mask.png").unlink()
    save(data / "malignant" / "9_mask.png", outline())
    save(data / "normal" / "3_mask.png", outline())
    save(data / "astray.png", picture(9))
    add(data, "benigm/1")
    add(data, os.fsdecode(b"benign/\xff"), mask=None)
    (data / "benign" / "deeper").mkdir()
    return [
        "data/benign/deeper: lies in the class folder benign",
        "data/malignant/9_mask.png: has no image 9",
        "astray: ",
        "benigm/1: ",
        "benign/1: ",
        "benign/2: ",
        r"benign/\udcff: ",
        "malignant/1: ",
        "normal/3: ",
    ]


def test_problems_of_every_kind_come_as_one_list_and_one_file(data: Path) -> None:
    expected = break_everything(data)
    with pytest.raises(
        DataProblems, match=r"^9 problems; all of them are in (.*problems\.csv)\. Repair them, or .*: on_error=skip"
    ) as error:
        take(data)
    lines = str(error.value).splitlines()
    assert len(lines) == 1 + len(expected)
    for line, start in zip(lines[1:], expected, strict=True):
        assert start in line
    file = Path(re.match(r".* are in (.*\.csv)\. Repair", lines[0])[1])  # type: ignore[index]
    with file.open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert [f"{row['case_id']}: {row['file']}: {row['reason']}; {row['remedy']}." for row in rows if row["case_id"]] == lines[3:]


def test_a_list_of_many_shows_every_kind(tmp_path: Path) -> None:
    many = [Problem(f"a{number}", tmp_path, f"is {number} too large", "save it smaller") for number in range(30)]
    lines = listed([*many, Problem("b", tmp_path, "is empty", "copy it again")]).splitlines()
    assert len(lines) == 21
    assert lines[19].startswith("b: ")
    assert lines[20] == "... and 11 more"


def test_skipping_goes_on_without_them_and_writes_them_down(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    clean = take(data)
    break_everything(data)
    prepared = take(data, on_error="skip")
    kept = [
        f"{label}/{number}" for label, numbers in (("benign", "03"), ("malignant", "023"), ("normal", "012")) for number in numbers
    ]
    assert [case.case_id for case in prepared.cases] == kept
    assert len(prepared.skipped) == 9
    assert "9 problems; all of them are in" in caplog.text
    assert "8 of 14 are left" in caplog.text
    assert prepared.fingerprint != clean.fingerprint
    assert dict(summary(prepared))["problems skipped (on_error=skip)"] == "9"
    check_split(prepared.split, kept, prepared.groups)
    with (prepared.folder / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [case.case_id for case in read_manifest(prepared.folder / "manifest.csv", data)] == kept
    assert [row["case_id"] for row in rows if row["status"] == "ok"] == kept
    skipped = {row["image"]: (row["case_id"], row["label"], row["reason"]) for row in rows if row["status"] == "skipped"}
    assert skipped["malignant/9_mask.png"] == ("", "", "9_mask.png: has no image 9")
    assert skipped["benign/2.png"] == ("benign/2", "benign", "2_mask.png: the mask is empty, the label is benign")
    assert len(skipped) == 9


def test_data_that_were_skipped_through_are_still_refused_and_never_mistaken_for_data_in_order(data: Path) -> None:
    (data / "benign" / "1.png").write_bytes(b"no picture")
    skipping = take(data, on_error="skip")
    assert len(problems_of(data)) == 1
    (data / "benign" / "1.png").unlink()
    (data / "benign" / "1_mask.png").unlink()
    mended = take(data)
    assert mended.fingerprint == skipping.fingerprint  # the same cases
    assert mended.folder != skipping.folder
    assert "skipped" not in (mended.folder / "manifest.csv").read_text()
    assert take(data, on_error="skip").folder == mended.folder


def test_skipping_a_second_time_reads_the_broken_files_alone(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (data / "benign" / "1.png").write_bytes(b"no picture")
    first, read, read_image = take(data, on_error="skip"), [], verify_module.read_image
    monkeypatch.setattr(verify_module, "read_image", lambda path, *rest: (read.append(path.name), read_image(path, *rest))[1])
    second = take(data, on_error="skip")
    assert read == ["1.png"]
    assert (second.cases, second.skipped, second.folder) == (first.cases, first.skipped, first.folder)


def test_a_split_file_may_name_cases_that_are_skipped(data: Path) -> None:
    whole = take(data)
    (data / "benign" / "1.png").write_bytes(b"no picture")
    prepared = take(data, on_error="skip", split_file=whole.split_file)
    check_split(prepared.split, [case.case_id for case in prepared.cases], prepared.groups)
    assert len(prepared.split) == len(whole.split) - 1


def test_skipping_everything_is_an_error(data: Path) -> None:
    for image in data.rglob("?.png"):
        image.write_bytes(b"")
    with pytest.raises(DataProblems, match=r"12 problems; .*No case is left without one"):
        take(data, on_error="skip")
    with pytest.raises(ValueError, match="on_error=ignore: choose stop or skip"):
        take(data, on_error="ignore")


@pytest.mark.parametrize("value", [0, -1, "many", 1.5, True, None])
def test_a_pixel_limit_is_a_whole_number(value: object) -> None:
    with pytest.raises(ValueError, match="max_pixels="):
        Checks(max_pixels=value)  # type: ignore[arg-type]


def test_the_config_says_what_is_known_required_and_allowed(data: Path) -> None:
    def prepared(*overrides: str) -> Prepared:
        return prepare_data(
            compose("prepare_data", ["data=folder", f"data.root={data}", f"output={data.parent}", "data.folds=3", *overrides])
        )

    assert len(prepared().cases) == 12
    (data / "benign" / "1_mask.png").unlink()
    (data / "malignant").rename(data / "cyst")
    with pytest.raises(DataProblems, match=r"^5 problems") as error:
        prepared()
    assert {problem.remedy.partition(",")[0] for problem in error.value.problems} == {"add the mask", "correct it"}
    named = "data.labels=[normal,benign,malignant,cyst]"
    assert len(prepared(named, "data.require_masks=false").cases) == 12
    assert len(prepared("data.classes=[normal,benign,cyst]", "data.require_masks=false").cases) == 12
    assert len(prepared("+data.relabel={cyst: benign}", "data.require_masks=false").cases) == 12
    assert len(prepared(named, "on_error=skip").cases) == 11
    with pytest.raises(DataProblems, match=r"^12 problems"):
        prepared(named, "data.require_masks=false", "data.max_pixels=100")


def test_busi_and_busbra_tell_what_is_missing(tmp_path: Path) -> None:
    for label in LABELS:
        for number in (1, 2):
            add(tmp_path / "busi", f"{label}/{label} ({number})", 0 if label == "normal" else 255)
    (tmp_path / "busi" / "benign" / "benign (2)_mask.png").unlink()
    busi = problems_of(tmp_path / "busi", source=BUSI(tmp_path / "busi"))
    assert told(busi) == [("benign (2)", "benign (2).png", "the label is benign, and there is no mask")]

    root, head = tmp_path / "busbra", "ID,Case,Histology,Pathology,BIRADS,Device,Side"
    rows = [f"bus_000{number}-l,{number},fibroadenoma,benign,2,GE,left" for number in range(1, 4)]
    save(root / "Images" / "bus_0001-l.png", picture(1))
    save(root / "Images" / "bus_0002-l.png", picture(2))
    save(root / "Masks" / "mask_0001-l.png", outline())
    (root / "bus_data.csv").write_text("\n".join([head, *rows]))
    missing = "cannot be read (No such file or directory)"
    busbra = problems_of(root, source=BUSBRA(root))
    assert told(busbra) == [("bus_0002-l", "mask_0002-l.png", missing), ("bus_0003-l", "bus_0003-l.png", missing)]


@pytest.mark.slow
def test_a_run_that_skips_says_so_in_every_result(data: Path) -> None:
    from bcd.predictor.bundles.write import bundle_of
    from bcd.predictor.many.files import predict_files  # with the trainer, half a minute that the others need not pay
    from bcd.predictor.predictor import Predictor
    from bcd.runs.bundle import collect_bundle
    from bcd.runs.testing.run import evaluate
    from bcd.runs.training.train import train

    for number in range(10, 22):
        add(data, f"benign/{number}")
        add(data, f"malignant/{number}")
    (data / "benign" / "1.png").write_bytes(b"no picture")
    add(data, os.fsdecode(b"normal/\xff"), mask=None)
    small = ["preprocess.size=32", "batch_size=4", "trainer.max_epochs=2", "logger=none", "model.decoder_channels=[8,8,8,8,8]"]
    run = data.parent / "run"
    config = compose(
        "train", ["data=folder", f"data.root={data}", f"output={data.parent}", "data.folds=3", "on_error=skip", *small], run
    )
    metrics = train(config, run)
    assert metrics["data"]["skipped"] == [
        {
            "case_id": "benign/1",
            "file": str(data / "benign" / "1.png"),
            "reason": "its content is no PNG, JPEG, BMP, TIFF or WEBP picture",
        },
        {"case_id": r"normal/\udcff", "file": str(data / "normal") + r"/\udcff.png", "reason": "the name is not UTF-8"},
    ]
    assert any(r"skipped (on_error=skip), see data.skipped: benign/1, normal/\udcff." in warning for warning in metrics["warnings"])
    assert json.loads((run / "metrics.json").read_text())["data"]["skipped"] == metrics["data"]["skipped"]
    report = (run / "report.html").read_text()
    assert "benign/1 1.png: its content is no PNG" in report
    assert evaluate(run)["test"] == metrics["test"]

    os.mkfifo(data / "benign" / "pipe.png")
    made = collect_bundle(run)
    predictor = Predictor.of(bundle_of(made.about, made.states), made.states)
    table = predict_files(predictor, data, data.parent / "predicted")
    reasons = {row.case_id: row.error.partition(": ")[2].partition(";")[0] for row in table.itertuples() if row.error}
    assert reasons == {
        "benign/1": "its content is no PNG, JPEG, BMP, TIFF or WEBP picture",
        "benign/pipe": "is a pipe, socket or device, not a file",
        r"normal/\udcff": "the name is not UTF-8",
    }
