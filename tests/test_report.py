import base64
import html
import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from fake_results import CLASSES, fake_cases, fake_metrics, fake_test, with_folds

from bcd.evaluation.cases import DISTANCE_CONVENTION
from bcd.reports.charts import precision_recall_chart, roc_chart
from bcd.reports.overlays import choose_drawn, choose_failures, draw_extremes, find_failures
from bcd.reports.rendering import Table, html_page
from bcd.reports.run import Results, read_results, report_page
from bcd.reports.run.checklist import CLAIM, TRIPOD
from bcd.reports.run.classification import classification
from bcd.reports.run.flow import flow
from bcd.reports.run.gallery import describe, small_jpeg
from bcd.reports.run.groups import folds, patient_level, subgroups
from bcd.reports.run.overview import missing, overview, policies
from bcd.reports.run.probabilities import calibration, decision_curve, operating_points
from bcd.reports.run.provenance import provenance
from bcd.reports.run.results import Section
from bcd.reports.run.segmentation import detection, lesion_free, segmentation
from bcd.reports.wording import definitions_for, with_interval

EVIL = '<script>alert("x")</script>&"\'<img src=http://evil.example/x onerror=alert(1)>'

SHORT = ("lesion_images", "lesion_free_images", "dice", "iou")


class _Page(HTMLParser):
    """The elements of a page: tags that stay open, attributes, ids, texts by section."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.tags: list[str] = []
        self.mistakes: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in ("meta", "img", "br", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.mistakes.append(tag)

    def values(self, name: str, tag: str | None = None) -> list[str]:
        return [value for of, key, value in self.attributes if key == name and tag in (None, of)]


def made(folds: int = 1, **kinds: bool) -> Results:
    cases = fake_cases(folds=folds, **kinds)
    test = fake_test(cases)
    return Results(fake_metrics(with_folds(test, cases) if folds > 1 else test), cases=cases)


def sections(page: str) -> list[str]:
    return re.findall(r'<section id="([a-z-]+)"', page)


def text_of(page: str, section: str) -> str:
    content = re.search(rf'<section id="{section}">(.*?)</section>', page, re.DOTALL)
    assert content, section
    return re.sub(r"<[^>]+>", " ", content[1])


def words(section: Section | None) -> str:
    assert section is not None
    page = html_page("report.html", title="", sections=[section])
    return html.unescape(" ".join(text_of(page, section.id).split()))


@pytest.fixture(scope="module")
def whole() -> str:
    return report_page(made(folds=2))


@pytest.fixture(scope="module")
def outlined() -> str:
    return report_page(made(classes=False))


def test_the_sections_stand_in_their_order(whole: str) -> None:
    assert sections(whole) == [
        *("overview", "data", "segmentation", "lesion-free", "detection", "classification", "operating-points", "calibration"),
        *("decision-curve", "uncertainty", "patients", "subgroups", "failures", "training", "folds", "missing", "provenance"),
        "checklist",
    ]


def test_a_segmentation_has_nothing_about_classes(outlined: str) -> None:
    shown = set(sections(outlined))
    assert {"segmentation", "lesion-free", "detection"} <= shown
    assert not {"classification", "operating-points", "calibration", "decision-curve", "uncertainty", "patients", "folds"} & shown


def test_a_classification_has_nothing_about_outlines() -> None:
    results = made(outlines=False)
    assert [make(results) for make in (segmentation, lesion_free, detection)] == [None, None, None]
    assert classification(results) is not None


@pytest.mark.parametrize(
    ("make", "block"),
    [
        (detection, "detection"),
        (operating_points, "operating_points"),
        (calibration, "calibration"),
        (decision_curve, "decision_curve"),
        (patient_level, "patient_level"),
        (subgroups, "subgroups"),
        (folds, "folds"),
    ],
)
def test_a_section_goes_with_its_block(make: Callable[[Results], Section | None], block: str) -> None:
    results = made(folds=2)
    del results.metrics["test"][block]
    assert make(results) is None


def test_what_a_reader_would_miss_is_named_with_the_reason() -> None:
    results = made()
    for block in ("calibration", "patient_level", "intervals"):
        del results.metrics["test"][block]
    results.metrics["data"]["grouped_by"] = "near-copy, patients unknown"
    told = words(missing(results))
    for missed, reason in (("Calibration", "validation"), ("Patient level", "does not identify"), ("Confidence intervals", "none")):
        assert re.search(f"{missed}: [^:]*{reason}", told)


def test_the_figures_of_an_early_version_are_enough() -> None:
    cases = fake_cases()
    test = fake_test(cases)
    old = {key: test[key] for key in ("n_cases", "n_groups", *SHORT)}
    metrics = {key: value for key, value in fake_metrics(old).items() if key != "decisions"}
    assert "segmentation" in sections(report_page(Results(metrics)))


def test_the_page_has_the_figures_of_metrics_with_their_intervals(whole: str) -> None:
    test = made(folds=2).test
    low, high = test["intervals"]["lesion_images.dice"]
    shown = f"{test['lesion_images']['dice']:.3f} ({low:.3f}\N{EN DASH}{high:.3f})"
    assert shown in text_of(whole, "segmentation")
    for name in CLASSES:
        low, high = test["intervals"][f"by_class.{name}.auroc"]
        assert f"{test['by_class'][name]['auroc']:.3f} ({low:.3f}\N{EN DASH}{high:.3f})" in text_of(whole, "classification")
    point = test["operating_points"][1]
    assert f"{point['tp']} of {point['tp'] + point['fn']}" in text_of(whole, "overview")
    assert "0.875 (0.775\N{EN DASH}0.975)" in text_of(whole, "detection")
    assert "1.375" in text_of(whole, "calibration")
    for block in test["mean_over_folds"].values():
        assert f"{block['mean']:.3f} \N{PLUS-MINUS SIGN} {block['sd']:.3f}" in text_of(whole, "folds")


def test_the_confusion_matrix_has_counts_and_shares_of_the_row() -> None:
    results = made()
    results.metrics["test"]["confusion"]["counts"] = [[3, 1, 0], [0, 0, 0], [2, 0, 6]]
    told = words(classification(results))
    assert "normal (n = 4) 3 75 % 1 25 % 0 0 %" in told
    assert "benign (n = 0) 0 0 0" in told
    assert "malignant (n = 8) 2 25 % 0 0 % 6 75 %" in told


def test_the_flow_adds_up() -> None:
    told = words(flow(made()))
    assert "403 images of phantom" in told  # 240 + 80 + 80 used, 2 left out, 1 skipped
    assert "400 images used" in told
    assert "2 left out: copies contradict each other in class" in told
    assert "120 groups" in told
    assert "twin-1, twin-2" in told


def test_warnings_stand_before_the_figures(whole: str) -> None:
    assert whole.index("SYNTHETIC DATA: made up.") < whole.index("Headline figures</h2>")


def test_a_hundred_problems_are_told_and_the_others_counted() -> None:
    results = made()
    results.metrics["data"]["skipped"] = [{"case_id": f"bad {n}", "file": "a/b.png", "reason": "broken"} for n in range(103)]
    told = words(flow(results))
    assert "bad 99 b.png: broken" in told
    assert "bad 100 b.png" not in told
    assert "... and 3 more, see data.skipped in metrics.json" in told


def test_names_of_strangers_do_nothing(tmp_path: Path) -> None:
    cases = fake_cases().replace({"case-003": EVIL, "group-001": EVIL, "malignant": EVIL})
    cases = cases.rename(columns={"probability_malignant": f"probability_{EVIL}"}).assign(**{"meta.scanner": "A"})
    told = json.dumps(EVIL)[1:-1]
    test = json.loads(json.dumps(fake_test(fake_cases())).replace("malignant", told).replace("scanner", told))
    metrics = json.loads(json.dumps(fake_metrics(test)).replace("malignant", told).replace("phantom", told))
    metrics |= {"name": EVIL, "warnings": [EVIL], "empty_mask_policy": EVIL, "provenance": {EVIL: EVIL, "command": EVIL}}
    metrics["data"]["left_out"] = {EVIL: 1}
    metrics["data"]["left_out_cases"] = {EVIL: [EVIL]}
    metrics["data"]["crossings"] = [[EVIL, EVIL]]
    metrics["data"]["skipped"] = [{"case_id": EVIL, "file": EVIL, "reason": EVIL}]
    cases.to_csv(tmp_path / "cases.csv", index=False)
    _draw(cases, tmp_path / "overlays")
    text = report_page(read_results(tmp_path, metrics, config={"model": {"_target_": f"a.{EVIL}", "encoder": EVIL}}))
    page = _Page(text)
    assert "gallery" in sections(text)
    assert "script" not in page.tags
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert all(re.match(r"data:image/(jpeg|svg\+xml);base64,", source) for source in page.values("src"))
    assert page.open == []
    assert page.mistakes == []
    assert "&lt;script&gt;" in text


def test_the_page_loads_nothing(whole: str) -> None:
    page = _Page(whole)
    assert page.mistakes == []
    assert page.open == []
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert all(source.startswith("data:") for source in page.values("src"))
    links = [target for target in page.values("href") if not target.startswith("#")]
    assert set(links) <= {"https://doi.org/10.1148/ryai.240300", "https://doi.org/10.1136/bmj-2023-078378"}
    assert "@import" not in whole
    assert "url(" not in whole


@pytest.mark.parametrize("kind", ["whole", "outlined"])
def test_every_link_has_its_target_and_no_id_stands_twice(kind: str, request: pytest.FixtureRequest) -> None:
    page = _Page(request.getfixturevalue(kind))
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    assert {value[1:] for value in page.values("href") if value.startswith("#")} <= set(ids)


def test_the_page_can_be_read_aloud(whole: str) -> None:
    page = _Page(whole)
    assert page.values("lang", "html") == ["en"]
    assert all(page.values("alt", "img"))
    assert len(page.values("alt", "img")) == page.tags.count("img")
    assert (
        page.tags.count("svg") == page.values("role", "svg").count("img") == len([v for v in page.values("aria-label", "svg") if v])
    )
    assert len(page.values("scope", "th")) == page.tags.count("th")


def test_the_same_results_give_the_same_page(whole: str) -> None:
    assert report_page(made(folds=2)) == whole


def test_one_file_has_its_pictures_inside(tmp_path: Path) -> None:
    run, cases = tmp_path / "run", fake_cases()
    run.mkdir()
    cases.to_csv(run / "cases.csv", index=False)
    _draw(cases, run / "overlays")
    history = {"epoch": [0, 1], "train/loss": [1.0, 0.5], "val/loss": [1.1, 0.75], "val/dice": [0.1, 0.5], "best": [False, True]}
    pd.DataFrame(history).to_csv(run / "history.csv", index=False)
    metrics = fake_metrics({key: value for key, value in fake_test(cases).items() if key in ("n_cases", "n_groups", *SHORT)})
    alone = report_page(read_results(run, metrics))
    shutil.rmtree(run)
    page = _Page(alone)
    sources = [source for source in page.values("src", "img") if source.startswith("data:image/jpeg")]
    assert len(sources) == sum(len(names) for names in choose_drawn(cases).values())
    for source in sources:
        image = cv2.imdecode(np.frombuffer(base64.b64decode(source.partition(",")[2]), np.uint8), cv2.IMREAD_COLOR)
        assert image is not None
        assert image.shape == (200, 300, 3)
    assert sum(text.startswith("Training curve") for text in page.values("alt", "img")) == 2
    assert "chosen epoch" in text_of(alone, "training")


def test_large_pictures_are_made_smaller_and_small_ones_left(tmp_path: Path) -> None:
    for width, height, expected in ((1600, 800, (320, 640)), (100, 50, (50, 100))):
        cv2.imwrite(str(tmp_path / "one.png"), np.zeros((height, width, 3), np.uint8))
        content = small_jpeg(tmp_path / "one.png")
        assert content is not None
        assert cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR).shape[:2] == expected
    (tmp_path / "broken.png").write_bytes(b"no picture")
    assert small_jpeg(tmp_path / "broken.png") is None
    assert small_jpeg(tmp_path / "absent.png") is None


def test_failures_are_the_missed_the_false_and_the_wrong_the_worst_first() -> None:
    cases = pd.DataFrame(
        {
            "case_id": ["small miss", "large miss", "found", "quiet normal", "loud normal"],
            "group": list("abcde"),
            "label": ["benign", "malignant", "benign", "normal", "normal"],
            "lesion_area_px": [10, 50, 20, 0, 0],
            "predicted_area_px": [0, 7, 20, 0, 9],
            "dice": [0.0, 0.0, 1.0, np.nan, np.nan],
            "probability_normal": [0.1, 0.6, 0.2, 0.8, 0.3],
            "probability_benign": [0.8, 0.1, 0.3, 0.1, 0.3],
            "probability_malignant": [0.1, 0.3, 0.5, 0.1, 0.4],
            "predicted_label": ["benign", "normal", "malignant", "normal", "malignant"],
        }
    )
    found = {kind: rows["case_id"].to_list() for kind, rows in find_failures(cases).items()}
    assert found == {
        "missed": ["large miss", "small miss"],
        "false_positive": ["loud normal"],
        "wrong": ["large miss", "found", "loud normal"],
    }
    assert find_failures(cases)["wrong"]["sureness"].to_list() == [0.6, 0.5, 0.4]
    assert choose_failures(cases, each=1) == {"missed": ["large miss"], "false_positive": ["loud normal"], "wrong": ["large miss"]}
    assert find_failures(cases[cases["case_id"] == "quiet normal"]) == {}


def test_failures_are_listed_with_their_reasons(whole: str) -> None:
    cases = made(folds=2).cases
    assert cases is not None
    missed = cases[(cases["lesion_area_px"] > 0) & (cases["dice"] == 0)]
    told = text_of(whole, "failures")
    assert f"{len(missed)} of {(cases['lesion_area_px'] > 0).sum()}" in told
    assert f"lesion of {missed['lesion_area_px'].max()} px missed, nothing predicted; highest probability 0.300" in told


def test_pictures_of_failures_are_drawn_and_old_ones_removed(tmp_path: Path) -> None:
    cases = fake_cases()
    (tmp_path / "wrong_9.png").write_bytes(b"old")
    _draw(cases, tmp_path)
    expected = {f"{kind}_{place}.png" for kind, names in choose_drawn(cases).items() for place in range(1, len(names) + 1)}
    assert {path.name for path in tmp_path.iterdir()} == expected | {"panel.png"}
    assert {"missed_1.png", "false_positive_1.png", "wrong_1.png"} <= expected


def test_a_threshold_that_validation_could_not_tell_leaves_gaps() -> None:
    results = made()
    point = results.metrics["test"]["operating_points"][1]
    point |= dict.fromkeys(("tp", "fp", "fn", "tn", "sensitivity", "specificity", "accuracy"))
    point |= {"n": 0, "thresholds": {"1": None}, "intervals": {}}
    assert "Sensitivity, malignant" not in words(overview(results))
    told = words(operating_points(results))
    assert re.search("threshold 0.500 \N{EN DASH} sensitivity [0-9.]+ \\S+ \N{EN DASH} specificity", told)
    assert "0 images" in told


def test_a_curve_needs_images_of_the_class_and_others() -> None:
    cases = fake_cases()
    alone = Results(fake_metrics(fake_test(cases)), cases=cases[cases["label"] == "benign"])
    both = Results(alone.metrics, cases=cases[cases["label"] != "normal"])
    for results, expected in ((alone, []), (both, ["benign", "malignant"])):
        section = classification(results)
        assert section is not None
        curves = [chart.alt.removeprefix("ROC curves: ") for chart in section.charts if chart.alt.startswith("ROC")]
        assert [curve.split(",")[0] for text in curves for curve in text.split("; ")] == expected


def test_several_folds_have_a_threshold_and_validation_cases_each() -> None:
    results = made()
    for point in results.metrics["test"]["operating_points"]:
        point["thresholds"] = {"1": 0.25, "2": 0.75}
    assert "threshold, fold 1 0.250 0.250 threshold, fold 2 0.750 0.750 sensitivity" in words(operating_points(results))
    results.metrics["decisions"] = {
        "1": {"source": "24 cases", "notes": []},
        "2": {"source": "20 cases", "notes": ["no thresholds"]},
    }
    told = words(overview(results))
    assert re.search("fold 1: [^:]*24 cases.* fold 2: [^:]*20 cases.* fold 2: no thresholds", told)


def test_a_definition_that_stands_with_the_figures_goes_before_the_known_one() -> None:
    assert definitions_for(["ece", "iou"], {"ece": "15 bins", "f1": "a mean"}) == [
        "IoU: shared area over joint area, per lesion image, then the mean.",
        "ECE: 15 bins.",
    ]


def test_a_picture_says_what_the_case_was_and_what_was_said_of_it() -> None:
    row = pd.Series({"label": "benign", "dice": 0.51234, "hd95_px": 12.34, "predicted_label": "malignant"})
    row["probability_malignant"], row["probability_benign"] = 0.75, 0.25
    assert describe(row) == "benign, Dice 0.512, HD95 12.3 px, predicted malignant (0.750), probability of benign 0.250"
    assert describe(pd.Series({"label": "normal", "dice": np.nan, "predicted_area_px": 7})) == "normal, no lesion, 7 px predicted"
    assert describe(pd.Series({"label": ""})) == ""


def test_both_checklists_have_each_item_once(outlined: str) -> None:
    assert [item[0] for item in CLAIM] == [str(place) for place in range(1, 45)]
    assert [int(re.sub(r"\D.*", "", item[0])) for item in TRIPOD] == list(range(1, 28))
    told = text_of(outlined, "checklist")
    assert told.count("for the authors") > 20
    assert "not in this report" in told


def test_an_external_validation_says_where_the_model_comes_from() -> None:
    results = made()
    external = {"trained_on": {"name": "another set"}, "statement": "Nothing was fitted on these data."}
    results = Results({**results.metrics, "external": external}, cases=results.cases)
    assert "the model was trained on another set. Nothing was fitted on these data." in words(overview(results))
    assert "External validation" not in words(missing(results))


def test_the_folds_of_a_cross_validation_stand_in_the_flow() -> None:
    results = made(folds=2)
    fold = {"n_cases": {"train": 50, "valid": 10, "test": 40}, "n_groups": {"train": 25, "valid": 5, "test": 20}}
    data = {**results.data, "fold": None, "folds": [{"fold": 1, **fold}, {"fold": 2, **fold}], "n_cases": {"test": 80}}
    results = Results({**results.metrics, "data": data}, cases=results.cases)
    assert "fold 2 training 50 / 25 validation 10 / 5 test 40 / 20" in words(flow(results))
    assert "2 test folds, pooled, of phantom" in words(overview(results))


def test_the_home_folder_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: Path("/home/alice"))
    results = made()
    results.metrics["provenance"]["command"] = "train.py output=/home/alice/runs"
    told = words(provenance(Results(results.metrics, {"output": "/home/alice/runs"})))
    assert "alice" not in told
    assert "output: ~/runs" in told


@pytest.mark.parametrize(
    ("value", "interval", "name", "shown"),
    [
        (0.8871, [0.8712, 0.9011], "dice", "0.887 (0.871\N{EN DASH}0.901)"),
        (0.8871, None, "dice", "0.887"),
        (0.8871, [None, 0.9], "dice", "0.887"),
        (None, [0.1, 0.2], "dice", "\N{EN DASH}"),
        (12.34, [10.0, 15.06], "hd95_px", "12.3 (10.0\N{EN DASH}15.1)"),
        (1.236, [1.0, 1.5], "hd95_mm", "1.24 (1.00\N{EN DASH}1.50)"),
        (-3.6, [-10.2, 4.0], "area_error_px", "\N{MINUS SIGN}4 (\N{MINUS SIGN}10 to 4)"),
        (17, None, "n_missed", "17"),
        (12345, None, "n", "12\N{NARROW NO-BREAK SPACE}345"),
        (0.5, None, "surface_dice_2px", "0.500"),
    ],
)
def test_figures_are_printed_with_their_digits_and_intervals(
    value: float | None, interval: list[float | None] | None, name: str, shown: str
) -> None:
    assert with_interval(value, interval, name) == shown


def test_zero_is_a_number_and_a_gap_is_a_dash() -> None:
    section = Section(id="s", title="", tables=[Table(["a", "b", "c", "d"], [["x", 0, None, ""]])])
    assert words(section) == "a b c d x 0 \N{EN DASH} \N{EN DASH}"


def test_ids_stay_text_when_the_tables_are_read(tmp_path: Path) -> None:
    cases = fake_cases(n_groups=2).assign(case_id=["007", "NA", "1.50", "x"])
    cases.to_csv(tmp_path / "cases.csv", index=False)
    read = read_results(tmp_path, fake_metrics(fake_test(fake_cases())))
    assert read.cases is not None
    assert read.cases["case_id"].to_list() == ["007", "NA", "1.50", "x"]
    assert read.cases["dice"].to_list()[2:] == cases["dice"].to_list()[2:]


def _draw(cases: pd.DataFrame, folder: Path) -> None:
    mask = np.zeros((200, 300), np.uint8)
    mask[50:100, 50:120] = 1
    pictures: dict[str, Any] = {name: (np.full((200, 300), 90, np.uint8), mask) for name in cases["case_id"]}
    draw_extremes(cases, pictures, dict.fromkeys(cases["case_id"], mask), folder)


def test_precision_goes_in_steps_and_the_roc_curve_straight() -> None:
    cases = fake_cases(outlines=False)
    roc, precision = (chart(cases, ["malignant"], {}).axes[0].lines[-1] for chart in (roc_chart, precision_recall_chart))
    assert roc.get_drawstyle() == "default"
    assert precision.get_drawstyle() == "steps-post"


def test_the_flow_of_an_external_validation_has_a_test_part_alone() -> None:
    results = made()
    data = {key: value for key, value in results.data.items() if key not in ("split", "split_sha256", "crossings")}
    data |= {"fold": 2, "n_cases": {"test": 80}, "n_groups": {"test": 40}, "n_total": 200, "skipped": []}
    data |= {"left_out": {"of a fold that was not tested": 120}, "left_out_cases": {"of a fold that was not tested": ["a", "b"]}}
    told = words(flow(Results({**results.metrics, "data": data}, cases=results.cases)))
    for part in (
        "200 images of phantom",
        "120 left out: of a fold that was not tested",
        "80 images used",
        "test 80 images 40 groups",
    ):
        assert part in told
    for part in ("training", "validation", "sides of the split", "Split:"):
        assert part not in told


@pytest.mark.parametrize("outlines", [True, False])
def test_distances_are_defined_where_there_are_masks(outlines: bool) -> None:
    metrics = {**made(outlines=outlines).metrics, "distance_convention": DISTANCE_CONVENTION}
    assert (DISTANCE_CONVENTION in policies(Results(metrics))) == outlines
