"""The page without a browser: what it shows, what it refuses, and what it keeps."""

import base64
import io
import os
import re
import socket
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pydicom
import pytest
from dicom_files import dicom, region, speckle
from streamlit.testing.v1 import AppTest
from tiny_bundles import make_bundle, phantom

from bcd.app.frame import card, sentence
from bcd.app.images.canvas import drawn_size, mask_of
from bcd.app.images.downloads import Results, SegError, file_stem, masks_zip, seg_file, seg_sources, segs_zip
from bcd.app.images.drawing import drawn, png, side_by_side, tinted
from bcd.app.images.result_sheet import result_sheet
from bcd.app.images.session import Session, SharedPredictor
from bcd.app.images.tables import csv_of, results_table
from bcd.app.images.uploads import MAX_SCANS, FileContent, Upload, distinct_names, read_upload, within_limits
from bcd.app.images.wording import NOTICE, point_meaning, segmentation_in_words, shown_threshold, verdict
from bcd.app.serving import START, check_port, settings_for, streamlit_command
from bcd.app.settings import Settings
from bcd.config import compose
from bcd.images.scan import Scan, read_scans
from bcd.predictor.bundle import Bundle
from bcd.predictor.bundles.default import bundles_in
from bcd.predictor.bundles.hashes import BundleError
from bcd.predictor.measurements import Lesion
from bcd.predictor.options import PredictOptions
from bcd.predictor.predictor import Predictor
from bcd.predictor.result import Result
from bcd.reports.contours import PREDICTED_COLOUR

TIMEOUT_S = 300.0


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two bundles."""
    folder = tmp_path_factory.mktemp("bundles")
    make_bundle(folder / "tiny")
    make_bundle(folder / "other", "other", seed=1, scope=False)
    return folder


@pytest.fixture(scope="session")
def shared(bundles: Path) -> SharedPredictor:
    return SharedPredictor(Predictor.load(bundles / "tiny"))


@pytest.fixture
def page(bundles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    settings = Settings(
        bundle=bundles / "tiny",
        bundles=(bundles,),
        outputs=tmp_path / "outputs",
        note="Made for a test.",
        max_pixels=4_000_000,
        max_upload_mb=20,
    )
    for name, value in settings.to_environment().items():
        monkeypatch.setenv(name, value)
    return AppTest.from_file(str(START), default_timeout=TIMEOUT_S)


def picture(seed: int = 1, name: str = "scan.png") -> tuple[str, bytes, str]:
    return name, png(phantom(seed)), "image/png"


def dicom_file() -> bytes:
    """A DICOM file: a phantom with a margin around its region of ultrasound, pixels of 0.1 x 0.2 mm."""
    frame = np.zeros((140, 200), np.uint8)
    frame[10:130, 30:190] = phantom(1)
    return dicom(frame, SequenceOfUltrasoundRegions=[region(30, 10, 189, 129)])


def scan_of(seed: int, name: str = "scan.png") -> Scan:
    return next(read_scans(png(phantom(seed)), name))


def shown(page: AppTest) -> str:
    """Everything that the page says."""
    kinds = ("markdown", "caption", "header", "subheader", "warning", "error", "info", "html", "title")
    return "\n".join(str(one.value if hasattr(one, "value") else one.body) for kind in kinds for one in page.get(kind))


# The page, run by Streamlit itself


def test_an_example_is_read_and_the_choices_change_what_is_said(page: AppTest) -> None:
    page.run()
    assert not page.exception
    assert NOTICE in shown(page)
    assert "Made for a test" in shown(page)
    assert [one.label for one in page.selectbox] == ["Model", "Operating point", "Compare with"]

    page.pills(key="examples").set_value(["malignant"]).run()
    assert not page.exception
    text = shown(page)
    assert "example\\_malignant" in text
    assert re.search(r'aria-label="malignant: 0\.\d{3}"', text)
    assert "Youden" in text
    assert {"Mask (PNG)", "Table (CSV)", "Sheet to print (HTML)"} <= {one.proto.label for one in page.get("download_button")}

    page.selectbox(key=next(one.key for one in page.selectbox if one.label == "Operating point")).select("sensitivity>=0.90")
    page.toggle(key="uncertainty").set_value(True)
    page.toggle(key="heat_map").set_value(True)
    page.selectbox(key="other").set_value(Settings.from_environment().bundles[0] / "other").run()
    assert not page.exception
    text = shown(page)
    assert "at least 90 %" in text.replace("\\", "")
    assert "Standard deviation of the probabilities" in text
    assert "Two models" in text
    assert {"Heat map", "Uncertainty", "Correct the mask"} <= set(page.segmented_control(key="view").options)


def test_good_files_are_read_beside_bad_ones_which_get_a_sentence_each(page: AppTest, caplog: pytest.LogCaptureFixture) -> None:
    page.run()
    name, content, kind = picture()
    files = [
        (name, content, kind),
        (name, content, kind),
        ("cut.png", content[:200], kind),
        ("words.png", b"These are words.", kind),
        ("empty.jpg", b"", "image/jpeg"),
        ("DOE^JANE.dcm", b"\0" * 128 + b"DICM" + b"garbage" * 40, "application/dicom"),
        ("script.html", b"<script>alert(1)</script>", "text/html"),
    ]
    page.file_uploader(key="uploads").set_value(files).run()
    assert not page.exception
    [box] = page.error  # one box: five would push the images out of sight
    sentences = box.value.splitlines()[2:]
    assert "5 problems" in box.value
    assert len(sentences) == 5
    assert all("Traceback" not in one and one.endswith("\\.") for one in sentences)
    assert "2 images" in shown(page)
    table = page.dataframe[0].value
    assert list(table["case_id"]) == ["scan", "scan_2"]
    assert table["probability_malignant"].between(0, 1).all()
    assert "DOE" not in caplog.text

    page.file_uploader(key="uploads").set_value([]).run()
    session: Session = page.session_state["session"]
    assert not session.files
    assert not session._results


def test_the_second_page_shows_runs(page: AppTest) -> None:
    page.run()
    page.switch_page("screens/runs.py").run()
    assert not page.exception
    assert "no finished runs" in shown(page)


@pytest.mark.slow
def test_memory_stays_flat_over_500_uploads(page: AppTest) -> None:
    page.run()
    after = {}
    for number in range(1, 501):
        page.file_uploader(key="uploads").set_value([picture(number % 7, f"scan_{number}.png")]).run()
        assert not page.exception
        if number in (100, 500):
            after[number] = _resident_mb()
    session: Session = page.session_state["session"]
    assert (len(session.files), len(session._results)) == (1, 1)
    # 400 images with their maps and pictures would be some 100 MB and more, were they kept.
    assert after[500] - after[100] < 40


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_a_dicom_file_is_shown_in_its_region_and_its_mask_is_offered_as_dicom_seg(page: AppTest) -> None:
    page.run()
    page.file_uploader(key="uploads").set_value([("a.dcm", dicom_file(), "application/dicom"), picture()]).run()
    assert not page.exception
    text = shown(page).replace("\\", "")
    assert "cut from a frame of 140 x 200 px at row 10, column 30" in text
    assert "0.2 mm from row to row" in text
    labels = {one.proto.label for one in page.get("download_button")}
    assert {"All masks (ZIP)", "Segmentation (DICOM SEG)"} <= labels


# What is kept


def test_a_result_is_asked_for_once_and_dropped_when_it_is_not_looked_at_any_more(shared: SharedPredictor) -> None:
    session, scan = Session(), scan_of(1)
    session.files["file"] = FileContent((scan,))
    first = session.result(shared, "file/0", scan, PredictOptions())
    assert session.result(shared, "file/0", scan, PredictOptions()) is first
    session.tidy(["file"], ["file/0"])
    assert session.result(shared, "file/0", scan, PredictOptions()) is first
    other = session.result(shared, "file/0", scan, PredictOptions(mask_threshold=0.3))
    assert other is not first
    session.tidy(["file"], ["file/0"])
    session.tidy([], [])
    assert (session.files, session.masks, session._results) == ({}, {}, {})


def test_a_mask_by_hand_is_measured_and_a_spacing_by_hand_gives_millimetres(shared: SharedPredictor) -> None:
    session, scan = Session(), scan_of(1)
    mask = np.zeros(scan.image.shape, bool)
    mask[10:20, 30:60] = True
    session.masks["a"], session.spacing_mm["a"] = mask, 0.1
    result = session.result(shared, "a", scan, PredictOptions())
    assert result.mask is not None
    assert (result.mask == mask).all()
    assert result.lesions[0].area_mm2 == pytest.approx(3.0)
    moved = np.roll(mask, 5, axis=1)
    session.masks["a"] = moved
    assert session.result(shared, "a", scan, PredictOptions()).lesions[0].box == (10, 35, 10, 30)


# Files


def test_an_upload_of_many_frames_is_cut_short_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bcd.app.images.uploads.read_scans", lambda *_: iter([scan_of(1)] * 5))
    read = read_upload(Upload("k", "loop.dcm", b""), 10**6, most=3)
    assert len(read.scans) == 3
    assert "more frames" in read.problems[0]


def test_an_error_nobody_foresaw_becomes_a_sentence_and_its_text_is_not_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> None:
        raise KeyError("DOE^JANE")

    monkeypatch.setattr("bcd.app.images.uploads.read_scans", fails)
    read = read_upload(Upload("k", "a.dcm", b""), 10**6)
    assert read.scans == ()
    assert "cannot be read" in read.problems[0]
    assert "KeyError" in caplog.text
    assert "DOE" not in caplog.text + read.problems[0]


def test_what_is_odd_about_an_upload_is_logged_without_its_name(caplog: pytest.LogCaptureFixture) -> None:
    odd = dicom(speckle((40, 56)), SequenceOfUltrasoundRegions=[region(0, 0, 500, 500)])
    assert read_upload(Upload("k", "SMITH.dcm", odd), 10**6).scans[0].name == "SMITH"
    assert "An upload: none of its 1 ultrasound regions" in caplog.text
    assert "SMITH" not in caplog.text
    assert read_upload(Upload("k", "SMITH.dcm", odd[:-1000]), 10**6).problems[0].startswith("SMITH.dcm: ")


def test_images_beyond_the_limits_are_left_out_and_said() -> None:
    scans = tuple(scan_of(1) for _ in range(2))
    kept, problems = within_limits([(str(number), FileContent(scans)) for number in range(MAX_SCANS)])
    assert len(kept) == MAX_SCANS
    assert f"the last {MAX_SCANS} of {2 * MAX_SCANS} images are left out" in problems[0]
    assert kept[3][0] == "1/1"


def test_names_that_are_there_already_get_a_number() -> None:
    assert distinct_names([scan_of(1, name) for name in ("a.png", "a.png", "b.png", "a.png")]) == ["a", "a_2", "b", "a_3"]


# Words


def with_thresholds(bundle: Bundle, **changes: object) -> Bundle:
    return bundle.model_copy(update={"decisions": bundle.decisions.model_copy(update=changes)})


def test_a_threshold_is_shown_for_the_probabilities_beside_it(shared: SharedPredictor) -> None:
    bundle = shared.bundle
    three = with_thresholds(bundle, on="raw", thresholds={"youden": 0.1})
    two = three.model_copy(update={"classes": ("benign", "malignant")})  # at a temperature of 1.5
    softened = 0.1 ** (1 / 1.5) / (0.1 ** (1 / 1.5) + 0.9 ** (1 / 1.5))
    assert shown_threshold(0.1, two) == pytest.approx(softened)
    assert f"{softened:.3f}" in point_meaning("youden", two)
    assert shown_threshold(0.1, three) is None  # of three classes it is another for each image
    assert "before calibration" in point_meaning("youden", three)
    assert shown_threshold(0.1, with_thresholds(three, on="calibrated")) == 0.1


def test_the_largest_of_several_lesions_is_named_in_a_sentence(shared: SharedPredictor) -> None:
    result = shared.predict(scan_of(1), PredictOptions(), None)
    lesion = Lesion((1, 2, 3, 4), 9, 4.2, 3.1, None, None, None, None, None)
    mask = np.ones_like(result.mask, bool)
    for lesions, start in (((), "No lesion"), ((lesion,), "One lesion"), ((lesion,) * 2, "2 lesions")):
        sentence_ = segmentation_in_words(replace(result, mask=mask, lesions=lesions))
        assert sentence_.startswith(start)
        assert ("4 x 3 px" in sentence_) is bool(lesions)


def test_the_classification_in_words_and_the_figures_beside_it_agree(shared: SharedPredictor) -> None:
    result, bundle = shared.predict(scan_of(1), PredictOptions(), None), shared.bundle
    two = with_thresholds(bundle, on="calibrated").model_copy(update={"classes": ("benign", "malignant")})
    found = replace(result, probabilities={"benign": 0.8, "malignant": 0.2}, label="benign", threshold=0.15, is_positive=True)
    positive = verdict(found, two)
    assert positive.startswith("Classified as malignant:")
    for value in ("0.200", "at or above", "0.150", "Youden"):
        assert value in positive
    negative = verdict(replace(found, threshold=0.3, is_positive=False), two)
    assert negative.startswith("Classified as not malignant:")
    assert "below" in negative
    assert "before calibration" in verdict(result, bundle)


# Pictures and downloads


def test_values_are_laid_over_an_image_by_their_weight() -> None:
    image = np.full((4, 4), 100, np.uint8)
    values = np.zeros((4, 4), np.float32)
    values[0] = 1.0
    assert (drawn(image, None, values, 0.0) == 100).all()
    laid = drawn(image, None, values, 1.0)
    assert (laid[1:] == 100).all()
    assert (laid[0] == [252, 255, 164]).all()  # the top of the colour map
    assert (tinted(np.zeros((1, 1, 3), np.uint8), np.array([[np.nan]]), 1.0) == 0).all()


def test_a_contour_is_drawn_around_the_mask_alone() -> None:
    mask = np.zeros((20, 20), bool)
    mask[5:15, 5:15] = True
    picture_ = drawn(np.full((20, 20), 7, np.uint8), mask, None, 0.5)
    assert (picture_[5, 5] == PREDICTED_COLOUR).all()
    assert (picture_[10, 10] == 7).all()
    assert side_by_side(picture_, picture_).shape == (20, 48, 3)


def _shown(names: list[str], scans: list[Scan], results: list[Result], by_hand: list[bool] | None = None) -> Results:
    return Results(names, scans, results, by_hand or [False] * len(scans), pd.DataFrame())


def test_a_mask_is_saved_at_the_size_of_the_frame(shared: SharedPredictor) -> None:
    scan = scan_of(1)
    region = Scan(scan.name, scan.image, None, None, (3, 4, *scan.image.shape), (200, 210), None, None)
    given = np.ones(scan.image.shape, bool)
    result = shared.predict(region, PredictOptions(), given)
    with zipfile.ZipFile(io.BytesIO(masks_zip(_shown(["a/b"], [region], [result])))) as archive:
        assert archive.namelist() == ["a_b_mask.png"]
        mask = cv2.imdecode(np.frombuffer(archive.read("a_b_mask.png"), np.uint8), cv2.IMREAD_UNCHANGED)
    assert mask.shape == (200, 210)
    assert int((mask == 255).sum()) == scan.image.size
    assert (mask[3, 4], mask[2, 4]) == (255, 0)


def test_a_dicom_seg_has_the_masks_of_all_frames_and_says_which_were_corrected(shared: SharedPredictor) -> None:
    clip = np.stack([phantom(seed) for seed in (1, 2)])
    scans = [*read_scans(dicom(clip, NumberOfFrames=2), "loop.dcm"), scan_of(3), *read_scans(dicom_file(), "one.dcm")]
    given = np.zeros(clip.shape[1:], bool)
    given[20:40, 30:70] = True
    results = [shared.predict(scan, PredictOptions(), given) for scan in scans]
    names = distinct_names(scans)
    shown = _shown(names, scans, results, [False, True, False, False])
    assert seg_sources(shown) == [[0, 1], [3]]
    content = segs_zip(shown, "tiny")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.namelist() == ["loop_seg.dcm", "one_seg.dcm"]
        loop, one = (pydicom.dcmread(io.BytesIO(archive.read(name))) for name in archive.namelist())
    assert (loop.pixel_array == given).all()
    assert loop.SegmentSequence[0].SegmentAlgorithmType == "SEMIAUTOMATIC"
    assert one.SegmentSequence[0].SegmentAlgorithmType == "AUTOMATIC"
    assert one.pixel_array.shape == (140, 200)  # the whole frame
    assert one.pixel_array.sum() == given.sum()


def test_a_file_that_no_seg_can_point_back_at_is_offered_none(shared: SharedPredictor) -> None:
    scans = list(read_scans(dicom(phantom(1), StudyInstanceUID=None), "a.dcm"))
    assert seg_sources(_shown(["a"], scans, [shared.predict(scans[0], PredictOptions(), None)])) == []


def test_a_seg_that_cannot_be_made_says_nothing_of_the_patient(shared: SharedPredictor) -> None:
    [scan] = read_scans(dicom(phantom(1)), "a.dcm")
    assert scan.source is not None
    scan.source.dataset.PatientBirthDate = "born in June"
    with pytest.raises(SegError, match="take the masks as PNG") as caught:
        seg_file(_shown(["a"], [scan], [shared.predict(scan, PredictOptions(), None)]), [0], "tiny")
    assert caught.value.__suppress_context__


def test_names_of_files_are_safe_anywhere() -> None:
    assert file_stem("../../etc/pass:wd\n") == "_.._etc_pass_wd_"
    assert file_stem("...") == "image"


def test_the_table_has_a_row_an_image_and_no_formula(shared: SharedPredictor) -> None:
    scan = scan_of(1)
    result = shared.predict(scan, PredictOptions(), None)
    table = results_table(["=1+1", "b"], [result, result], shared.bundle, [False, True])
    assert list(table["case_id"]) == ["'=1+1", "b"]
    assert list(table["outline"]) == ["predicted", "corrected by hand"]
    again = pd.read_csv(io.BytesIO(csv_of(table)))
    assert again["probability_malignant"][0] == result.probabilities["malignant"]
    assert again["uncalibrated_malignant"][0] == float(result.raw[2])  # which decided, by the threshold beside it
    assert again["uncalibrated_threshold"][0] == result.threshold
    assert again["threshold"].isna().all()  # of three classes it is another for each image
    assert set(again["model_fingerprint"]) == {shared.bundle.fingerprint}


def test_the_tables_threshold_is_for_the_probability_beside_it(shared: SharedPredictor) -> None:
    result, bundle = shared.predict(scan_of(1), PredictOptions(), None), shared.bundle
    two = with_thresholds(bundle, on="raw").model_copy(update={"classes": ("benign", "malignant")})
    found = replace(result, raw=np.array([0.9, 0.1]), probabilities={"benign": 0.8, "malignant": 0.2}, threshold=0.15)
    table = results_table(["a"], [found], two, [False])
    assert table["threshold"][0] == shown_threshold(0.15, two)
    assert (table["uncalibrated_malignant"][0], table["uncalibrated_threshold"][0]) == (0.1, 0.15)


def test_the_sheet_needs_nothing_else_and_escapes_names(shared: SharedPredictor) -> None:
    scan = scan_of(1)
    result = shared.predict(scan, PredictOptions(), None)
    page_ = result_sheet(["<script>x</script>"], [scan], [result], shared.bundle, [False], 0.5)
    assert NOTICE in page_
    assert "<script" not in page_
    assert not re.search(r"""(?:src|href)=["'](?!data:)""", page_)
    assert shared.bundle.fingerprint in page_
    assert "It is untrained" in page_


# The mask that comes back from the browser


def sent(mask: np.ndarray) -> dict[str, str]:
    pixels = np.repeat((mask * 255).astype(np.uint8)[..., None], 4, axis=2)
    return {"png": "data:image/png;base64," + base64.b64encode(cv2.imencode(".png", pixels)[1].tobytes()).decode()}


def test_a_mask_comes_back_as_it_was_painted() -> None:
    mask = np.zeros((30, 50), bool)
    mask[4:9, 10:40] = True
    assert (mask_of(sent(mask), (30, 50)) == mask).all()


def test_a_large_image_is_painted_smaller_and_its_mask_comes_back_large() -> None:
    assert drawn_size((2048, 512)) == (1024, 256)
    half = np.zeros((1024, 256), bool)
    half[:512] = True
    assert mask_of(sent(half), (2048, 512)).sum() == 1024 * 512


@pytest.mark.parametrize(
    "content",
    [
        None,
        5,
        {},
        {"png": "data:text/html;base64,AAAA"},
        {"png": "data:image/png;base64,@@@"},
        {"png": "data:image/png;base64,AAAA"},
        sent(np.zeros((31, 50), bool)),
        {"png": sent(np.zeros((30, 50), bool))["png"][:90]},
        {"png": "data:image/png;base64," + "A" * (9 << 20)},
    ],
)
def test_what_is_no_mask_is_refused(content: object) -> None:
    with pytest.raises(ValueError, match="draw it again"):
        mask_of(content, (30, 50))


# Words from strangers


def test_texts_of_strangers_are_shown_and_not_interpreted() -> None:
    assert sentence("a_b <b> ![x](y)") == r"a\_b \<b\> \!\[x\]\(y\)"
    assert "![" not in card(r"\![x](https://elsewhere.example/spy.png)")


# Bundles, settings, the command


def test_bundles_are_found_each_once(bundles: Path, tmp_path: Path) -> None:
    assert [one.name for one in bundles_in([bundles / "tiny", bundles, tmp_path / "none"])] == ["other", "tiny"]


def test_settings_reach_the_page_through_the_environment(bundles: Path, tmp_path: Path) -> None:
    settings = settings_for(compose("serve", [f"bundle={bundles / 'tiny'}", f"outputs={tmp_path}", "trusted=[mylab]"]))
    assert Settings.from_environment(settings.to_environment()) == settings
    with pytest.raises(ValueError, match="make app"):
        Settings.from_environment({})


def test_the_command_checks_the_bundle_before_it_serves(bundles: Path, tmp_path: Path) -> None:
    config = compose("serve", [f"bundle={bundles / 'tiny'}", f"outputs={tmp_path}"])
    assert settings_for(config).bundle == bundles / "tiny"
    assert settings_for(config).note == ""
    with pytest.raises(BundleError, match=r"hashes\.json"):
        settings_for({**config, "bundle": str(tmp_path)})


def test_nothing_leaves_the_machine_and_nobody_else_reaches_it() -> None:
    command = streamlit_command({"address": "localhost", "port": 1, "max_upload_mb": 2})
    for option in (
        "--browser.gatherUsageStats=false",
        "--server.address=localhost",
        "--server.enableXsrfProtection=true",
        "--server.maxUploadSize=2",
        "--server.allowedHosts=localhost",
        "--client.showErrorDetails=none",
    ):
        assert option in command
    assert not any("allowedHosts" in one for one in streamlit_command({"address": "0.0.0.0", "port": 1, "max_upload_mb": 2}))


def test_a_port_that_is_taken_is_said() -> None:
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        taken.listen()
        with pytest.raises(OSError, match="Give another port="):
            check_port("localhost", taken.getsockname()[1])


@pytest.mark.slow
def test_without_a_bundle_one_of_phantoms_is_made_and_used_again(tmp_path: Path) -> None:
    from bcd.app.phantom_bundle import OPTIONS, phantom_bundle

    quick = [*OPTIONS, "data.source.n_images=30", "trainer.max_epochs=1", "preprocess.size=32"]
    folder = phantom_bundle(tmp_path, quick)
    made = (folder / "hashes.json").stat().st_mtime_ns
    predictor = Predictor.load(folder)
    assert (predictor.outlines, predictor.classifies, predictor.bundle.synthetic) == (True, True, True)
    assert phantom_bundle(tmp_path, quick) == folder
    assert (folder / "hashes.json").stat().st_mtime_ns == made
    (folder / "bundle.yaml").write_text("changed")
    with pytest.raises(BundleError, match="delete"):
        phantom_bundle(tmp_path, quick)


def test_the_help_of_the_command_is_fast_because_it_imports_nothing_heavy() -> None:
    code = "import sys, bcd.app.serving; sys.exit(any(name in sys.modules for name in ('torch', 'streamlit', 'pandas')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
