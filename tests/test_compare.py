import csv
import re
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from commands import run_script
from scipy import stats
from test_classification_figures import CLASSES, made_up

from bcd.config import compose
from bcd.data.manifest import read_case
from bcd.evaluation.compare import Contestant, align, compare, furthest_apart
from bcd.evaluation.paired import holm
from bcd.reports.comparison import (
    ComparedCase,
    cases_to_show,
    compare_page,
    p_value,
    title_of,
    write_csv,
    write_latex,
    write_markdown,
)
from bcd.reports.contours import outlined
from bcd.runs.assemble import prepare_data
from bcd.runs.folder import RunError, write_config, write_json
from bcd.runs.studies.compare import compare_runs, read_contestant, short_names


def better(cases: pd.DataFrame, by: float = 0.08, seed: int = 5) -> pd.DataFrame:
    """Return another run's results on the same cases, mostly better."""
    rng, other = np.random.default_rng(seed), cases.copy()
    other["dice"] = np.clip(cases["dice"] + rng.normal(by, 0.05, len(cases)), 0, 1)
    names = [f"probability_{name}" for name in CLASSES]
    right = np.stack([cases["label"] == name for name in CLASSES], axis=1)
    moved = cases[names].to_numpy() + 2 * by * right + 0.1 * rng.random((len(cases), 3))
    other[names] = moved / moved.sum(1, keepdims=True)
    other["predicted_label"] = np.array(CLASSES)[moved.argmax(1)]
    return other


def contestants(count: int = 2) -> list[Contestant]:
    cases = made_up(40)
    others = [better(cases, seed=number) for number in range(1, count)]
    return [Contestant(f"run {number}", table, "f00d") for number, table in enumerate([cases, *others])]


def folder_of(path: Path, cases: pd.DataFrame, fingerprint: str = "f00d", warnings: tuple[str, ...] = ()) -> Path:
    path.mkdir(parents=True)
    cases.to_csv(path / "cases.csv", index=False)
    write_json(path / "metrics.json", {"name": path.name, "warnings": list(warnings), "data": {"fingerprint": fingerprint}})
    return path


def test_figures_and_differences_of_two_runs() -> None:
    first, second = contestants()
    found = compare([first, second], permutations=500)
    dice = found.differences[found.differences["figure"] == "lesion_images.dice"].iloc[0]
    lesion = first.cases["lesion_area_px"] > 0
    assert dice["difference"] == pytest.approx((second.cases["dice"] - first.cases["dice"])[lesion].mean())
    assert dice["low"] < dice["difference"] < dice["high"]
    assert dice["test"] == "permutation by group"
    assert dice["p"] == pytest.approx(1 / 501)
    value = found.figures.query("run == 'run 0' and figure == 'lesion_images.dice'").iloc[0]
    assert value["value"] == pytest.approx(first.cases["dice"][lesion].mean())


def test_the_tests_beside_the_permutation_say_what_they_assume() -> None:
    first, second = contestants()
    table = compare([first, second], permutations=99).differences
    tests = table.groupby("figure")["test"].apply(list)
    assert tests["lesion_images.dice"] == ["permutation by group", "Wilcoxon signed rank"]
    assert tests["accuracy"] == ["permutation by group", "McNemar, exact"]
    plain = table[table["test"].isin(["Wilcoxon signed rank", "McNemar, exact", "DeLong"])]
    assert plain["assumes"].str.contains("independent cases, which images of one patient are not").all()
    lesion = (first.cases["lesion_area_px"] > 0).to_numpy()
    wilcoxon = table[(table["test"] == "Wilcoxon signed rank") & (table["figure"] == "lesion_images.dice")].iloc[0]
    assert wilcoxon["p"] == pytest.approx(stats.wilcoxon((second.cases["dice"] - first.cases["dice"])[lesion]).pvalue)


def test_two_classes_have_the_clustered_and_the_plain_delong_test() -> None:
    names = CLASSES[1:]
    cases = made_up(40, classes=names)
    other = made_up(40, classes=names, seed=3)
    table = compare(
        [Contestant("a", cases), Contestant("b", other.assign(lesion_area_px=cases["lesion_area_px"]))], permutations=99
    )
    tests = table.differences.query("figure == 'auroc'")["test"].tolist()
    assert tests == ["permutation by group", "DeLong, clustered by group", "DeLong"]


def test_p_is_corrected_over_all_pairs_and_figures_of_a_test() -> None:
    table = compare(contestants(3), permutations=99).differences
    primary = table[table["test"] == "permutation by group"]
    assert len(primary) == 3 * 6
    by_hand = holm(dict(enumerate(primary["p"])))
    assert primary["p_holm"].tolist() == list(by_hand.values())
    assert (primary["p_holm"] >= primary["p"]).all()


def test_a_run_compared_with_itself_shows_no_difference() -> None:
    first, _ = contestants()
    table = compare([first, Contestant("again", first.cases)], permutations=99).differences
    assert (table["difference"] == 0).all()
    assert (table["p"] == 1).all()


def test_the_order_of_the_rows_does_not_matter() -> None:
    first, second = contestants()
    shuffled = Contestant(second.name, second.cases.sample(frac=1, random_state=1), second.fingerprint)
    pd.testing.assert_frame_equal(
        compare([first, second], permutations=99).differences, compare([first, shuffled], permutations=99).differences
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda cases: cases.iloc[3:], r"run 1 lacks 3 cases \(0-0, 1-0, 1-1"),
        (lambda cases: cases.assign(label="benign"), "have another label in run 1 than in run 0"),
        (lambda cases: cases.assign(group="g"), "have another group"),
        (lambda cases: cases.assign(fold=9), "have another fold"),
        (lambda cases: cases.assign(lesion_area_px=cases["lesion_area_px"] + 1), "have another lesion_area_px"),
        (lambda cases: pd.concat([cases, cases.iloc[:1]]), "run 1: 1 cases stand there twice"),
        (
            lambda cases: cases.rename(columns={"probability_normal": "probability_cyst"}),
            "has the classes normal, benign, malignant",
        ),
    ],
)
def test_runs_that_were_not_tested_alike_are_refused(change, words: str) -> None:  # noqa: ANN001
    first, second = contestants()
    with pytest.raises(ValueError, match=words):
        compare([first, Contestant(second.name, change(second.cases), "f00d")])


def test_runs_of_different_folds_or_data_are_refused() -> None:
    first, second = contestants()
    parts = [Contestant(run.name, run.cases[run.cases["fold"] == fold]) for fold, run in ((1, first), (2, second))]
    with pytest.raises(ValueError, match=re.escape("Folds: [1] and [2]. Compare runs of the same folds.")):
        align(parts)
    with pytest.raises(ValueError, match="different data: fingerprint f00d and beef"):
        align([first, Contestant("other", second.cases, "beef")])
    with pytest.raises(ValueError, match="two runs or more"):
        align([first])


def test_runs_without_a_common_figure_are_refused() -> None:
    first, second = contestants()
    outlines = first.cases.drop(columns=[name for name in first.cases if "probability_" in str(name) or name == "predicted_label"])
    classes = second.cases.drop(columns=["dice", "hd95_px", "iou"])
    with pytest.raises(ValueError, match="no figure in common"):
        compare([Contestant("outlines", outlines), Contestant("classes", classes)])
    with pytest.raises(ValueError, match="run 0 has no figure 'dize'; there are"):
        compare([first, second], ["dize"])


def test_the_cases_that_differ_most_come_from_both_sides() -> None:
    first = pd.DataFrame({"case_id": list("abcde"), "dice": [0.5, 0.5, 0.5, 0.5, np.nan]})
    second = first.assign(dice=[0.9, 0.6, 0.1, 0.5, np.nan])
    assert furthest_apart(first, second) == ["a", "b", "c"]


def test_names_of_figures_and_p_values_in_print() -> None:
    assert title_of("lesion_images.dice") == "Dice"
    assert title_of("by_class.malignant.sensitivity") == "sensitivity, malignant"
    assert (p_value(None), p_value(0.0004), p_value(0.0312)) == ("\N{EN DASH}", "< 0.001", "0.031")


def test_the_tables_hold_every_row_and_escape_names() -> None:
    first, second = contestants()
    found = compare([Contestant("a_1|%", first.cases), Contestant("b", second.cases)], permutations=99)
    rows = list(csv.DictReader(write_csv(found).splitlines()))
    assert len(rows) == len(found.figures) + len(found.differences)
    assert {row["kind"] for row in rows} == {"figure", "difference"}
    assert "a_1\\|%" in write_markdown(found)
    latex = write_latex(found)
    assert r"a\_1|\%" in latex
    assert latex.count(r"\begin{tabular}") == 2
    body = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert {line.count("&") for line in body} == {6, 3}


def test_the_page_needs_nothing_beside_it_and_escapes_names() -> None:
    first, second = contestants()
    found = compare([Contestant("<b>$1", first.cases), Contestant("second", second.cases)], permutations=99)
    image, mask = np.zeros((20, 30), np.uint8), np.zeros((20, 30), np.uint8)
    mask[5:10, 5:10] = 1
    compared = {name: ComparedCase(image, mask, {"<b>$1": mask, "second": mask}) for name in cases_to_show(found)}
    page = compare_page(found, compared, ["a note"], ["a warning"])
    assert not re.search(r"""(?:src|href)=["'](?![#]|data:)""", page)
    assert "<b>$1" not in page
    assert page.count("data:image/svg+xml") == 6 + 1  # a forest plot each figure, and the scatter plot
    assert page.count("data:image/jpeg") == len(compared) == 6
    assert "a warning" in page


def test_outlines_are_drawn_in_their_colours() -> None:
    mask = np.zeros((8, 8), np.uint8)
    mask[2:5, 2:5] = 1
    drawn = outlined(np.zeros((8, 8), np.uint8), [(mask, (1, 2, 3))])
    assert drawn[2, 2].tolist() == [1, 2, 3]
    assert drawn[7, 7].tolist() == [0, 0, 0]


def test_folders_are_compared_and_the_files_written(tmp_path: Path) -> None:
    cases = made_up(20)
    first, second = folder_of(tmp_path / "a", cases), folder_of(tmp_path / "b", better(cases), warnings=("simulated",))
    found = compare_runs([first, second], tmp_path / "out", permutations=99, seed=0)
    assert [run.name for run in found.runs] == ["a", "b"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"compare.csv", "compare.md", "compare.tex", "compare.html"}
    page = (tmp_path / "out" / "compare.html").read_text(encoding="utf-8")
    assert "Without pictures: no folder has the config of a run." in page
    assert "b: simulated" in page


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"has no cases\.csv and metrics\.json"):
        read_contestant(tmp_path, "a")


def test_runs_are_named_by_what_tells_them_apart() -> None:
    assert short_names([Path("x/a/test"), Path("x/b/test")]) == ["a/test", "b/test"]
    with pytest.raises(RunError, match="stands twice"):
        short_names([Path("a"), Path("a")])


def test_names_must_fit_the_runs(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="2 runs need as many names"):
        compare_runs([tmp_path, tmp_path], tmp_path / "out", names=["a", "a"], permutations=9, seed=0)


def test_the_command_compares_and_prints_the_differences(tmp_path: Path) -> None:
    cases = made_up(20)
    first, second = folder_of(tmp_path / "a", cases), folder_of(tmp_path / "b", better(cases))
    done = run_script(
        tmp_path,
        "compare",
        f"runs=[{first},{second}]",
        f"output={tmp_path / 'out'}",
        "permutations=99",
        "figures=[lesion_images.dice]",
    )
    assert done.returncode == 0, done.stderr
    assert "b minus a: Dice" in done.stdout
    assert (tmp_path / "out" / "compare.html").is_file()


def test_the_command_refuses_what_cannot_be_before_anything_is_begun(tmp_path: Path) -> None:
    refused = run_script(tmp_path, "compare", "runs=[/no/a,/no/b]", f"output={tmp_path}", "permutations=0")
    assert refused.returncode == 2
    assert "/no/a" in refused.stderr
    assert "no such folder" in refused.stderr
    assert "permutations=0 must be" in refused.stderr


def test_the_cases_that_differ_most_are_shown_where_the_data_can_be_read(tmp_path: Path) -> None:
    config = compose("train", ["model=unet", "data.source.n_images=12", f"output={tmp_path}", "logger=none"], tmp_path / "a")
    prepared = prepare_data(config)
    lesions = [case for case in prepared.cases if case.masks]
    folders = []
    for number, name in enumerate(("a", "b")):
        table = pd.DataFrame({"case_id": [case.case_id for case in lesions], "label": "benign", "height": 90, "width": 90})
        table = table.assign(group=table["case_id"], lesion_area_px=50, predicted_area_px=50, fold=1)
        table["dice"] = np.linspace(0.2, 0.8, len(table))[:: 1 - 2 * number]
        folders.append(folder_of(tmp_path / name, table.assign(iou=table["dice"]), prepared.fingerprint))
        (folders[-1] / "masks").mkdir()
        for case in lesions:
            _, mask = read_case(case)
            cv2.imwrite(str(folders[-1] / "masks" / f"{case.case_id}.png"), mask * 255)
    write_config(folders[1], config)
    compare_runs(folders, tmp_path / "out", permutations=99, seed=0)
    page = (tmp_path / "out" / "compare.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg") == 6
    assert "Blue: truth, orange: a, pink: b" in page
    write_json(folders[0] / "metrics.json", {"data": {"fingerprint": "beef"}})
    write_json(folders[1] / "metrics.json", {"data": {"fingerprint": "beef"}})
    compare_runs(folders, tmp_path / "out", permutations=99, seed=0)
    assert "Without pictures: the data have changed" in (tmp_path / "out" / "compare.html").read_text(encoding="utf-8")
