from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from bcd.config import compose
from bcd.data.audit.findings import COLUMNS, KINDS, audit, leak_of_random_splits
from bcd.data.audit.outliers import FAR, image_features, outliers, unusual_mask
from bcd.data.manifest import Case
from bcd.data.sources.phantom_simulator import draw_anatomy, draw_lesion, simulate
from bcd.images.marks import find_marks
from bcd.reports.audit import Section, audit_page
from bcd.reports.rendering import picture
from bcd.runs.preparing.prepare import prepare_and_show

Grey = NDArray[np.uint8]


def phantom(number: int) -> Grey:
    rng = np.random.default_rng([number, 5])
    return simulate(rng, draw_anatomy(rng), draw_lesion(rng, number % 2 == 0), (240, 300))[0]


def marked(image: Grey, rng: np.random.Generator) -> Grey:
    """Return the image with a word and the four calipers of a measurement."""
    drawn = image.copy()
    row, column = (int(value) for value in rng.integers(90, 150, 2))
    for right, down in ((-40, 0), (40, 0), (0, -30), (0, 30)):
        cv2.drawMarker(drawn, (column + right, row + down), 255, cv2.MARKER_CROSS, 9)
    cv2.putText(drawn, "RT UOQ", (10, 225), cv2.FONT_HERSHEY_SIMPLEX, 0.4, 255, 1)
    return drawn


def mask_of(*boxes: tuple[int, int, int, int]) -> Grey:
    mask = np.zeros((100, 100), np.uint8)
    for top, bottom, left, right in boxes:
        mask[top:bottom, left:right] = 1
    return mask


def test_burnt_in_text_and_calipers_are_found_and_speckle_is_not_taken_for_them() -> None:
    rng = np.random.default_rng(0)
    images = [phantom(number) for number in range(30)]
    assert sum(find_marks(marked(image, rng)).is_marked for image in images) >= 29
    assert sum(find_marks(image).is_marked for image in images) <= 1


def test_letters_in_a_row_are_told_from_calipers_and_colour_counts_as_a_mark() -> None:
    blank = np.full((120, 160), 40, np.uint8)
    text, calipers = blank.copy(), blank.copy()
    cv2.putText(text, "LT UOQ", (20, 60), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 255, 1)
    for place in ((30, 30), (130, 30), (80, 10), (80, 100)):
        cv2.drawMarker(calipers, place, 255, cv2.MARKER_CROSS, 9)
    assert find_marks(text).in_rows == find_marks(text).pieces >= 3
    assert (find_marks(calipers).pieces, find_marks(calipers).in_rows) == (4, 0)
    colour = np.full((120, 160, 3), 40, np.uint8)
    colour[:12, :, 2] = 240
    assert str(find_marks(blank, colour)) == "colour in 10.0% of the picture"


@pytest.mark.parametrize(
    ("mask", "odd"),
    [
        (mask_of((20, 60, 20, 60)), {}),
        (mask_of(), {}),
        (mask_of((50, 53, 50, 53)), {"mask_tiny": (0.0009, "9 pixels, 0.09% of the image")}),
        (mask_of((5, 95, 5, 95)), {"mask_large": (0.81, "81% of the image")}),
        (mask_of((0, 30, 20, 60)), {"mask_border": (1, "touches the top edge")}),
        (mask_of((20, 40, 20, 40), (60, 80, 20, 40)), {"mask_pieces": (2, "2 pieces")}),
        (mask_of((20, 60, 20, 60), (80, 81, 80, 81)), {"mask_pieces": (1, "1 piece and 1 speck")}),
        (mask_of((20, 60, 20, 60)) - mask_of((30, 40, 30, 42)), {"mask_holes": (1, "1 hole, 8.1% of the lesion")}),
    ],
)
def test_an_odd_mask_is_named(mask: Grey, odd: dict[str, tuple[float, str]]) -> None:
    assert unusual_mask(mask) == {kind: (pytest.approx(value), text) for kind, (value, text) in odd.items()}


def test_noise_a_gradient_and_a_screen_lie_far_from_the_phantoms() -> None:
    rng = np.random.default_rng(1)
    strange = [
        rng.integers(0, 256, (240, 300), dtype=np.uint8),
        np.tile(np.linspace(200, 255, 300), (240, 1)).astype(np.uint8),
        np.full((120, 900), 250, np.uint8) - cv2.circle(np.zeros((120, 900), np.uint8), (300, 60), 40, 200, -1),
    ]
    images = [phantom(number) for number in range(150)] + strange
    scores = outliers(np.array([image_features(np.asarray(image, np.uint8)) for image in images]))["score"].to_numpy()
    assert (scores[150:] >= FAR).all()
    assert (scores[:150] >= FAR).sum() <= 3
    assert scores[:150].max() < scores[150:].min()


def test_too_few_images_have_no_outliers() -> None:
    assert outliers(np.random.default_rng(0).normal(size=(50, 12)))["score"].tolist() == [0.0] * 50


def test_the_leak_of_random_splits_is_what_chance_says() -> None:
    labels = ["benign"] * 100
    alone, pairs = [str(number) for number in range(100)], [str(number // 2) for number in range(100)]
    assert leak_of_random_splits(labels, alone) == 0.0
    # The one copy of a test image is among the 80 of the other 99 that are in training.
    assert leak_of_random_splits(labels, pairs, repeats=2000) == pytest.approx(80 / 99, abs=0.01)


def save(path: Path, image: Grey) -> Path:
    cv2.imwrite(str(path), image)
    return path


@pytest.fixture
def cases(tmp_path: Path) -> list[Case]:
    """Twelve images, b malignant and the others benign."""
    return [
        Case(name, save(tmp_path / f"{name}.png", phantom(number)), label="malignant" if name == "b" else "benign")
        for number, name in enumerate("abcdefghijkl")
    ]


def test_the_audit_has_a_row_a_finding_and_says_where_there_is_none(cases: list[Case]) -> None:
    ids = [case.case_id for case in cases]
    grouped = {"group": ["a", "a", "c", "c", *ids[4:]], "cluster": ["a", "a", *ids[2:]], "contradictory": [True] * 2 + [False] * 10}
    copies = pd.DataFrame({"first": ["a", "c"], "second": ["b", "d"], "similarity": [0.95, 0.5], "mirrored": [True, False]})
    findings = audit(cases, pd.DataFrame({"case_id": ids, **grouped}), copies, 10**8)
    assert tuple(findings.columns) == COLUMNS
    assert list(dict.fromkeys(findings["kind"])) == list(KINDS)
    rows = findings.set_index(["kind", "case_id"])
    assert rows.loc[("near_copy", "a"), "detail"] == "b (malignant, 0.95, mirrored)"
    assert rows.loc[("contradiction", "b"), ["group", "cluster", "label"]].tolist() == ["a", "a", "malignant"]
    assert rows.loc[("same_scene", "d"), "detail"] == "c (benign, 0.50)"
    assert rows.loc[("mask_tiny", ""), "detail"] == "none found"
    assert findings.loc[findings["kind"] == "leak", "detail"].str.contains("of the test images have").tolist() == [True, True]


def test_the_page_holds_its_pictures_and_escapes_what_it_shows() -> None:
    page = audit_page(
        "Audit",
        ["A note."],
        [Section("Marks", "Text.", "1 image", [[picture(b"jpeg", "jpeg", "a & b", name="<case>")]], "3 more are in audit.csv.")],
    )
    assert "data:image/jpeg;base64,anBlZw==" in page
    assert "&lt;case&gt;" in page
    assert "a &amp; b" in page
    assert "3 more are in audit.csv." in page
    assert "http" not in page


def test_preparing_leaves_the_audit_in_the_folder_and_makes_it_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = compose("prepare_data", [f"output={tmp_path}", "data.source.n_images=30", "data.source.near_copies=4"])
    prepared = prepare_and_show(config)
    findings = pd.read_csv(prepared.folder / "audit.csv", keep_default_na=False)
    copies = [case for case in prepared.cases if "copy_of" in case.metadata]
    planted = {case.case_id for case in copies} | {case.metadata["copy_of"] for case in copies}
    assert set(findings.loc[findings["kind"] == "near_copy", "case_id"]) == planted
    assert (prepared.folder / "audit.html").read_text().count("data:image/jpeg") >= 8
    assert "audit.html" in capsys.readouterr().out
    made = (prepared.folder / "audit.html").stat().st_mtime_ns
    prepare_and_show(config)
    assert (prepared.folder / "audit.html").stat().st_mtime_ns == made
