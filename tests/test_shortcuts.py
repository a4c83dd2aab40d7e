"""What a figure hangs on: images altered, and a run tested on them."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from commands import run_script

from bcd.config import compose
from bcd.data.manifest import Case
from bcd.evaluation.cases import read_table
from bcd.images.marks import find_marks, stroke_mask
from bcd.runs import folder as files
from bcd.runs.folder import RunError
from bcd.runs.studies.crossval import crossval
from bcd.runs.studies.shortcuts.figures import (
    AS_THEY_ARE,
    AUROC,
    BOTH_HIDDEN,
    COLUMNS,
    DICE,
    LESION_HIDDEN,
    MARKS_ELSEWHERE,
    OUTLINED,
    PAINTED_OVER,
    VariantCases,
    conclusions,
    shortcut_table,
)
from bcd.runs.studies.shortcuts.images import Shortcut, draw_marks, draw_of, hide_lesion, paint_over, without_lesion, without_marks
from bcd.runs.studies.shortcuts.study import shortcut_study
from bcd.runs.studies.shortcuts.tissue import smooth_surface
from bcd.runs.training.train import train

SMALL = ["data.source.n_images=40", "preprocess.size=32", "trainer.max_epochs=1", "logger=[csv]", "batch_size=8"]
UNET = ["model=unet", "model.encoder=resnet10t", "model.decoder_channels=[16,8,8,8,8]"]
RESNET = ["model=resnet18", "model.backbone=resnet10t", "data.classes=[benign,malignant]"]


def _tissue(seed: int = 0, level: float = 90.0) -> np.ndarray:
    """Return speckle of an even mean, uint8 (240, 320)."""
    noise = cv2.GaussianBlur(np.random.default_rng(seed).standard_normal((240, 320)), (0, 0), 1.5)
    return np.clip(level + 12 * noise / noise.std(), 0, 255).astype(np.uint8)


def _with_lesion(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    image, mask = _tissue(seed), np.zeros((240, 320), np.uint8)
    cv2.ellipse(mask, (130, 110), (38, 24), 0, 0, 360, 1, -1)
    dimmed = 1 - 0.7 * cv2.GaussianBlur(mask.astype(np.float64), (0, 0), 2)  # an edge as blurred as a beam makes it
    return (image * dimmed).astype(np.uint8), mask


def _with_marks(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return an image with calipers at the lesion's ends, a dotted line and text; the lesion; and the pixels that were drawn."""
    image, mask = _with_lesion(seed)
    drawn = np.zeros_like(mask)
    for end in ((92, 110), (168, 110)):
        cv2.drawMarker(drawn, end, 1, cv2.MARKER_CROSS, 9)
    drawn[110, 98:164:4] = 1
    cv2.putText(drawn, "RT 10 UOQ", (20, 220), cv2.FONT_HERSHEY_PLAIN, 1.0, 1)
    return np.where(drawn > 0, np.uint8(235), image).astype(np.uint8), mask, drawn > 0


@pytest.mark.parametrize("seed", range(4))
def test_strokes_are_found_with_the_dots_between_them_and_little_else(seed: int) -> None:
    image, _, drawn = _with_marks(seed)
    found = stroke_mask(image)
    assert (found & drawn).sum() == drawn.sum()
    assert not (found & (cv2.dilate(drawn.astype(np.uint8), np.ones((11, 11), np.uint8)) == 0)).any()
    assert not stroke_mask(_with_lesion(seed)[0]).any()


def test_colour_counts_as_a_stroke_where_the_file_has_it() -> None:
    image = _tissue()
    colour = np.repeat(image[..., None], 3, axis=2)
    colour[50:54, 60:80] = (0, 255, 255)
    assert not stroke_mask(image)[50:54, 60:80].any()
    assert stroke_mask(image, colour)[50:54, 60:80].all()


@pytest.mark.parametrize("seed", range(4))
def test_marks_are_gone_after_painting_over_and_nothing_else_has_changed(seed: int) -> None:
    image, _, drawn = _with_marks(seed)
    strokes = stroke_mask(image)
    assert find_marks(image).is_marked
    painted = paint_over(image, strokes, draw_of(0, "a"))
    assert find_marks(painted).pieces == 0
    assert painted[drawn].max() < 150
    assert (painted[~strokes] == image[~strokes]).all()


def test_painting_over_leaves_the_grain_of_the_tissue() -> None:
    image, strokes = _tissue(), np.zeros((240, 320), bool)
    strokes[100:106, 20:300] = True
    painted = paint_over(np.where(strokes, np.uint8(240), image).astype(np.uint8), strokes, draw_of(0, "a"))
    assert painted[strokes].mean() == pytest.approx(image[~strokes].mean(), abs=4)
    assert 0.5 < painted[strokes].std() / image[~strokes].std() < 1.5


@pytest.mark.parametrize("seed", range(4))
def test_a_hidden_lesion_cannot_be_told_from_its_surroundings(seed: int) -> None:
    image, mask = _with_lesion(seed)
    lesion = mask > 0
    hidden = hide_lesion(image, mask, draw_of(0, "a"))
    ring = (cv2.dilate(mask, np.ones((41, 41), np.uint8)) > 0) & (cv2.dilate(mask, np.ones((21, 21), np.uint8)) == 0)
    assert image[lesion].mean() < 0.4 * image[ring].mean()
    assert hidden[lesion].mean() == pytest.approx(image[ring].mean(), abs=5)
    assert 0.7 < hidden[lesion].std() / image[ring].std() < 1.4
    far = cv2.dilate(mask, np.ones((31, 31), np.uint8)) == 0
    assert (hidden[far] == image[far]).all()


def test_a_lesion_that_leaves_no_room_is_hidden_all_the_same() -> None:
    image, mask = _tissue(), np.zeros((240, 320), np.uint8)
    mask[20:220, 20:300] = 1
    image[mask > 0] = 10
    hidden = hide_lesion(image, mask, draw_of(0, "a"))
    assert hidden[mask > 0].mean() == pytest.approx(90, abs=15)
    full = np.ones((240, 320), np.uint8)
    assert hide_lesion(image, full, draw_of(0, "a")).shape == image.shape  # no tissue to go by: it stays what it is


def test_marks_stay_where_a_lesion_is_hidden_unless_they_are_painted_over() -> None:
    image, mask, drawn = _with_marks()
    strokes = stroke_mask(image)
    kept = hide_lesion(image, mask, draw_of(0, "a"), keep=strokes)
    assert (kept[drawn] >= image[drawn]).all()
    inside = (mask > 0) & (cv2.dilate(drawn.astype(np.uint8), np.ones((5, 5), np.uint8)) == 0)
    assert kept[inside].mean() == pytest.approx(90, abs=6)
    assert not find_marks(hide_lesion(paint_over(image, strokes, draw_of(0, "a")), mask, draw_of(0, "a"))).is_marked


@pytest.mark.parametrize("seed", range(6))
def test_drawn_marks_are_found_and_do_not_touch_the_lesion(seed: int) -> None:
    image, mask = _with_lesion(seed)
    marked = draw_marks(image, mask, draw_of(seed, "a"))
    changed = marked != image
    assert find_marks(marked).is_marked
    assert not find_marks(image).is_marked
    assert not (changed & (cv2.dilate(mask, np.ones((5, 5), np.uint8)) > 0)).any()
    columns = np.nonzero(changed)[1]
    assert np.ptp(columns) >= 0.5 * 77  # of the lesion's size, or somewhat smaller where it did not fit


def test_marks_are_drawn_on_images_without_a_lesion_and_never_on_one_that_fills_the_picture() -> None:
    image = _tissue()
    assert find_marks(draw_marks(image, np.zeros_like(image), draw_of(0, "a"))).is_marked
    assert (draw_marks(image, np.ones_like(image), draw_of(0, "a")) == image).all()


def test_the_same_case_and_seed_give_the_same_pixels_and_others_do_not() -> None:
    image, mask = _with_lesion()
    for alter in (draw_marks, lambda *given: paint_over(given[0], given[1] > 0, given[2])):
        first, again, other_case, other_seed = (
            alter(image, mask, draw_of(seed, name)) for seed, name in ((0, "a"), (0, "a"), (0, "b"), (1, "a"))
        )
        assert (first == again).all()
        assert (first != other_case).any()
        assert (first != other_seed).any()


def test_an_image_without_marks_or_lesion_stays_what_it_is(tmp_path: Path) -> None:
    image, mask = _with_lesion()
    cv2.imwrite(str(tmp_path / "a.png"), image)
    case = Case("a", tmp_path / "a.png")
    assert (Shortcut(without_marks, 0)(case, image, mask) == image).all()
    assert (Shortcut(without_lesion, 0)(case, image, np.zeros_like(mask)) == image).all()


def test_a_smooth_surface_joins_what_is_around_the_hole() -> None:
    values = np.tile(np.linspace(50, 150, 80, dtype=np.float32), (60, 1))
    hole = np.zeros((60, 80), bool)
    hole[20:40, 30:50] = True
    rim = (cv2.dilate(hole.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0) & ~hole
    surface = smooth_surface(values, hole, rim)
    assert np.abs(surface - values)[hole].max() < 8


def _variant(name: str, dice: list[float], malignant: list[float]) -> VariantCases:
    n = len(dice)
    cases = pd.DataFrame(
        {
            "case_id": [f"c{number}" for number in range(n)],
            "group": [f"g{number}" for number in range(n)],
            "label": ["benign", "malignant"] * (n // 2),
            "height": 100,
            "width": 100,
            "lesion_area_px": 100,
            "probability_benign": 1 - np.array(malignant),
            "probability_malignant": malignant,
            "predicted_label": np.where(np.array(malignant) > 0.5, "malignant", "benign"),
            "predicted_area_px": (np.array(dice) > 0) * 200,
            "dice": dice,
        }
    )
    return VariantCases(name, cases)


def test_the_table_holds_each_figure_and_its_paired_difference() -> None:
    base = _variant(AS_THEY_ARE, [0.8] * 20, [0.1, 0.9] * 10)
    painted = _variant(PAINTED_OVER, [0.6, 0.8] * 10, [0.1, 0.9] * 10)
    hidden = _variant(LESION_HIDDEN, [0.0, 0.2] * 10, [0.5] * 20)
    marked = np.array([True, False] * 10)
    table = shortcut_table([base, painted, hidden], marked, ["benign", "malignant"], "malignant")
    assert tuple(table.columns) == COLUMNS
    rows = table.set_index(["variant", "figure", "subset"])
    assert rows.loc[(PAINTED_OVER, DICE, "all"), "value"] == pytest.approx(0.7)
    assert rows.loc[(PAINTED_OVER, DICE, "all"), "difference"] == pytest.approx(-0.1)
    assert rows.loc[(PAINTED_OVER, DICE, "marked"), "difference"] == pytest.approx(-0.2)
    assert rows.loc[(PAINTED_OVER, DICE, "marked"), "n"] == 10
    assert rows.loc[(PAINTED_OVER, DICE, "unmarked"), "difference"] == 0
    low, high = (float(rows[name][(PAINTED_OVER, DICE, "all")]) for name in ("difference_low", "difference_high"))
    assert -0.2 < low < -0.1 < high < 0
    assert rows.loc[(LESION_HIDDEN, OUTLINED, "all"), "value"] == 0.5
    assert rows.loc[(LESION_HIDDEN, "lesion_images.outlined_share", "all"), "value"] == pytest.approx(0.01)
    assert rows.loc[(LESION_HIDDEN, AUROC, "all"), "value"] == 0.5
    assert np.isnan(float(rows["difference"][(AS_THEY_ARE, DICE, "all")]))


def test_the_sentences_say_what_the_figures_say() -> None:
    base = _variant(AS_THEY_ARE, [0.8] * 20, [0.1, 0.9] * 10)
    worse = _variant(PAINTED_OVER, [0.6, 0.8] * 10, [0.1, 0.9] * 10)
    same = _variant(MARKS_ELSEWHERE, [0.7, 0.9] * 10, [0.1, 0.9] * 10)
    seen = _variant(LESION_HIDDEN, [0.0, 0.2] * 10, [0.1, 0.9] * 10)
    names = ["benign", "malignant"]
    sentences = "\n".join(conclusions(shortcut_table([base, worse, same, seen], np.ones(20, bool), names, "malignant")))
    assert "Dice on the 20 images with marks: 0.800 as they are, 0.700 (-0.100" in sentences
    assert "depends on the marks" in sentences
    assert "is not shown; a loss of up to" in sentences
    assert "50 % of the lesion images have a predicted lesion (100 % as they are), with a Dice of 0.100" in sentences
    assert "100 % of the part above chance" in sentences
    bare = "\n".join(conclusions(shortcut_table([base, same], np.zeros(20, bool), names, "malignant")))
    assert "nothing to paint over" in bare
    assert "no lesion could be hidden" in bare


def test_a_change_without_an_interval_is_not_called_one() -> None:
    base, painted = _variant(AS_THEY_ARE, [0.8] * 2, [0.1, 0.2]), _variant(PAINTED_OVER, [0.6] * 2, [0.1, 0.2])
    for variant in (base, painted):
        variant.cases["group"] = "the only one"
        variant.cases["label"] = "benign"
    dice, auroc = conclusions(shortcut_table([base, painted], np.ones(2, bool), ["benign", "malignant"], "malignant"))[:2]
    assert "0.800 as they are, 0.600 (-0.200) with the marks painted over. It has no interval (too few groups" in dice
    assert "undefined on these images, for lack of a class" in auroc


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outputs")


def _trained(output: Path, name: str, *overrides: str) -> Path:
    folder = output / "runs" / name
    train(compose("train", [*SMALL, f"output={output}", f"name={name}", *overrides], folder), folder)
    return folder


@pytest.fixture(scope="module")
def outlined(output: Path) -> Path:
    return _trained(output, "unet", *UNET)


@pytest.mark.slow
def test_a_segmentation_is_tested_on_altered_images_and_keeps_its_own_results(
    outlined: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in outlined.rglob("*") if path.is_file()}
    cases = read_table(outlined / "cases.csv")
    chosen = set(cases["case_id"][:3])
    # Phantoms have no marks: some are said to have them.
    monkeypatch.setattr("bcd.runs.studies.shortcuts.images.marks_of", _marked_if(chosen))
    monkeypatch.setattr("bcd.runs.studies.shortcuts.study.marks_of", _marked_if(chosen))
    found = shortcut_study(outlined)
    assert all(path.read_bytes() == content for path, content in before.items() if path.name != ".lock")
    assert list(found["variants"]) == [AS_THEY_ARE, PAINTED_OVER, MARKS_ELSEWHERE, LESION_HIDDEN, BOTH_HIDDEN]
    assert found["n_marked"] == 3
    folder = outlined / "shortcut_study"
    table = pd.read_csv(folder / "shortcut_study.csv")
    assert tuple(table.columns) == COLUMNS
    own = files.read_metrics(outlined)["test"]
    rows = table.set_index(["variant", "figure", "subset"])
    assert rows.loc[(AS_THEY_ARE, DICE, "all"), "value"] == pytest.approx(own["lesion_images"]["dice"], abs=1e-12)
    pd.testing.assert_frame_equal(read_table(folder / AS_THEY_ARE / "cases.csv")[["case_id", "dice"]], cases[["case_id", "dice"]])
    painted = read_table(folder / PAINTED_OVER / "cases.csv")
    others = ~painted["case_id"].isin(chosen)
    assert (painted["max_probability"][others] == cases["max_probability"][others]).all()
    assert (painted["max_probability"][~others] != cases["max_probability"][~others]).any()
    page = (folder / "shortcut_study.html").read_text()
    assert page.count("data:image/jpeg") == 5 * 3
    assert "http" not in page.replace("http://www.w3.org", "")
    assert found["conclusions"][0] in (folder / "shortcut_study.md").read_text()
    assert json.loads((folder / "shortcut_study.json").read_text()) == found


def _marked_if(chosen: set[str]) -> Any:
    def marks_of(case: Case, image: np.ndarray) -> np.ndarray:
        marks = np.zeros(image.shape, bool)
        marks[40:60, 20:70] = case.case_id in chosen
        return marks

    return marks_of


@pytest.mark.slow
def test_a_guided_classification_and_one_that_does_both_are_studied_too(output: Path) -> None:
    crop = ["model=roi_channel", "model.backbone=resnet10t", "guide=true"]
    both = ["model=multitask", "model.network.encoder=resnet10t", "model.network.decoder_channels=[16,8,8,8,8]"]
    for name, model in (("roi", crop), ("both", both)):
        run = _trained(output, name, *model, "data.classes=[benign,malignant]")
        found = shortcut_study(run, output / f"study_{name}", seed=1)
        table = pd.read_csv(output / f"study_{name}" / "shortcut_study.csv")
        assert AUROC in set(table["figure"])
        assert (DICE in set(table["figure"])) == (name == "both")
        assert any("AUROC" in sentence for sentence in found["conclusions"])
        assert "operating_points" in found["variants"][LESION_HIDDEN]["test"]


@pytest.mark.slow
def test_the_folds_of_a_cross_validation_are_pooled(output: Path) -> None:
    folder = output / "crossval"
    config = compose("crossval", [*SMALL, "data.folds=3", "folds=[1,2]", f"output={output}", "name=cv", *RESNET], folder)
    metrics = crossval(config, folder)
    found = shortcut_study(folder)
    assert found["n_cases"] == metrics["test"]["n_cases"]
    assert found["variants"][AS_THEY_ARE]["test"]["auroc"] == pytest.approx(metrics["test"]["auroc"], abs=1e-12)


def test_without_a_run_the_command_says_what_it_needs(tmp_path: Path) -> None:
    done = run_script(tmp_path, "shortcut_study")
    assert done.returncode != 0
    assert "Give run=<the folder of a run that was tested, or of a cross-validation>." in done.stderr


def test_what_cannot_be_studied_is_refused(outlined: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run's folder"):
        shortcut_study(tmp_path)
    (tmp_path / "config.yaml").write_bytes((outlined / "config.yaml").read_bytes())
    with pytest.raises(RunError, match="was not tested yet"):
        shortcut_study(tmp_path)
