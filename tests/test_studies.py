"""Studies: variants of one recipe side by side, and runs on each other's data."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bcd.config import compose
from bcd.evaluation.cases import read_table
from bcd.reports.study import StudyResult, study_files, study_table
from bcd.runs import folder as files
from bcd.runs.studies.crossval import crossval
from bcd.runs.studies.matrix import matrix
from bcd.runs.studies.study import leak_study, learning_curve
from bcd.runs.training.train import train

SMALL = ["data.folds=3", "preprocess.size=32", "trainer.max_epochs=1", "logger=[csv]", "batch_size=8", "folds=[1]"]
UNET = ["model=unet", "model.encoder=resnet10t", "model.decoder_channels=[16,8,8,8,8]"]


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outputs")


def _config(name: str, output: Path, folder: Path, *overrides: str) -> dict[str, Any]:
    return compose(name, [*SMALL, f"output={output}", "data.source.n_images=60", *overrides], folder)


def _result(name: str, value: float, low: float, high: float) -> StudyResult:
    test = {"n_cases": 9, "dice": value, "intervals": {"dice": [low, high]}}
    return StudyResult(name, f"the {name} <one>", {"test": test, "warnings": ["careful & kind"]})


def test_a_study_sets_its_variants_side_by_side() -> None:
    results = [_result("first", 0.5, 0.4, 0.6), _result("second", 0.7, 0.6, 0.8)]
    table = study_table(results)
    assert list(table["value"]) == [0.5, 0.7]
    assert list(table["difference"]) == pytest.approx([0.0, 0.2])
    assert list(table["low"]) == [0.4, 0.6]
    written = study_files(results, "study", "What?", "That.")
    assert [row["value"] for row in json.loads(written["metrics.json"])["variants"]] == [0.5, 0.7]
    page = written["study.html"].decode()
    assert "the first &lt;one&gt;" in page
    assert "careful &amp; kind" in page
    assert "0.700 (0.600\u20130.800)" in written["study.md"].decode()
    assert len(written["study.png"]) > 1000


def test_differences_on_the_same_cases_have_an_interval_and_a_p() -> None:
    cases = pd.DataFrame({"case_id": list("abcdefgh"), "group": list("aabbccdd"), "label": ["benign"] * 8, "lesion_area_px": 9})
    cases = cases.assign(height=10, width=10, predicted_area_px=9, max_probability=1.0, iou=0.4, precision=0.5, recall=0.5)
    metrics = {"test": {"n_cases": 8, "dice": 0.5}, "warnings": [], "data": {"selection": {"classes": ["benign", "malignant"]}}}
    first = StudyResult("a", "A", metrics, cases.assign(dice=0.5))
    gained = cases.assign(dice=[0.55, 0.55, 0.6, 0.6, 0.6, 0.6, 0.65, 0.65])
    better = StudyResult("b", "B", {**metrics, "test": {"n_cases": 8, "dice": 0.6}}, gained.iloc[::-1])
    fewer = StudyResult("c", "C", metrics, cases.assign(dice=0.5).iloc[1:])
    mixed = StudyResult("d", "D", metrics, cases.assign(dice=[0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.45, 0.45]))
    table = study_table([first, better, fewer, mixed]).set_index("variant")
    assert table.loc["b", "difference"] == pytest.approx(0.1)
    assert 0.05 <= table.loc["b", "difference_low"] < 0.1 < table.loc["b", "difference_high"] <= 0.15
    assert table.loc["b", "p"] == 2 / 2**4  # of the exchanges of four groups, none and all
    assert table.loc["d", "p"] == 4 / 2**4  # all but the last group alike, in either direction: 2 of them, with that one 2 more
    assert table.loc[["a", "c"], ["p", "p_holm"]].isna().all(axis=None)
    assert table.loc[["b", "d"], "p_holm"].tolist() == [2 * 2 / 2**4, 4 / 2**4]
    assert "| 0.125 | 0.250 |" in study_files([first, better, fewer, mixed], "study", "What?", "That.")["study.md"].decode()


@pytest.mark.slow
def test_a_leak_study_trains_on_both_splits_and_says_what_leaks(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = output / "leak"
    metrics = leak_study(_config("leak_study", output, folder, *UNET, "data.source.near_copies=20"), folder)
    told = capsys.readouterr().out
    assert "difference" in told
    assert "random by" in told[told.rindex("difference") :]  # the table, whose cells may be broken into lines
    assert told.rstrip().endswith(f"Report: {folder / 'study.html'}")
    assert [row["variant"] for row in metrics["variants"] if row["figure"] == "dice"] == ["honest", "by_image"]
    honest, leaky = (json.loads((folder / name / "metrics.json").read_text()) for name in ("honest", "by_image"))
    assert honest["data"]["crossings"] == []
    assert len(leaky["data"]["crossings"]) > 0
    assert any("allow_leak" in warning for warning in metrics["warnings"])
    again = leak_study({"resume": str(folder), "trusted": []}, folder)
    assert again["variants"] == metrics["variants"]


def test_a_roi_study_needs_predicted_masks(output: Path) -> None:
    folder = output / "roi"
    config = _config("leak_study", output, folder, "model=roi_crop", "guide=none", "data.classes=[benign,malignant]")
    with pytest.raises(ValueError, match=r"needs guide\.masks="):
        leak_study(config, folder)


@pytest.mark.slow
def test_a_learning_curve_learns_from_growing_shares(output: Path) -> None:
    folder = output / "curve"
    config = _config("learning_curve", output, folder, *UNET, "shares=[0.3,1.0]")
    metrics = learning_curve(config, folder)
    assert [row["variant"] for row in metrics["variants"] if row["figure"] == "dice"] == ["share_1", "share_0_3"]
    learned = [
        json.loads((folder / name / "fold_1" / "metrics.json").read_text())["data"]["n_cases"] for name in ("share_1", "share_0_3")
    ]
    assert learned[0]["train"] > 2 * learned[1]["train"]
    assert learned[0]["test"] == learned[1]["test"]
    with pytest.raises(ValueError, match="two or more different shares"):
        learning_curve(_config("learning_curve", output, output / "one", *UNET, "shares=[1.0]"), output / "one")


@pytest.mark.slow
def test_a_matrix_tests_every_run_on_every_data_set(output: Path, tmp_path: Path) -> None:
    folders = []
    for name, seed in (("here", 0), ("there", 7)):
        folder = output / "runs" / name
        data = [f"data.root={tmp_path / name}", f"data.source.seed={seed}", f"data.name={name}"]
        small = [one for one in SMALL if not one.startswith("folds")]
        train(compose("train", [*small, *UNET, f"output={output}", "data.source.n_images=40", *data], folder), folder)
        folders.append(str(folder))
    table = matrix(folders, tmp_path / "matrix")
    dice = table[table["figure"] == "dice"].set_index(["trained_on", "tested_on"])
    assert len(dice) == 4
    assert dice.loc[("here", "there"), "note"] == "external: normal, benign, malignant"
    rows = read_table(tmp_path / "matrix" / "here_on_there" / "cases.csv")
    assert len(rows) == dice.loc[("here", "there"), "n_cases"]
    assert "| here | here | there |" in (tmp_path / "matrix" / "matrix.md").read_text()
    assert len(pd.read_csv(tmp_path / "matrix" / "matrix.csv")) == len(table)


def test_runs_of_the_same_short_name_stay_apart_in_a_matrix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tested: dict[Path, Path] = {}

    def external(run: Path, data: dict[str, Any], output: Path, **_: object) -> dict[str, Any]:
        tested[output] = run
        return {"test": {"n_cases": 5, "dice": 0.25}}

    monkeypatch.setattr("bcd.runs.studies.matrix.evaluate_external", external)
    folders = [tmp_path / name for name in ("first/fold_1", "second/fold_1", "there")]
    for folder in folders:
        folder.mkdir(parents=True)
        data = {"name": "there" if folder.name == "there" else "here", "classes": ["benign"]}
        files.write_config(folder, {"task": {}, "data": data, "folder": str(folder)})
        files.write_json(folder / files.METRICS, {"test": {"n_cases": 9, "dice": 0.5}})
    table = matrix([str(folder) for folder in folders], tmp_path / "matrix")
    assert list(table["run"].unique()) == ["first/fold_1", "second/fold_1", f"{tmp_path.name}/there"]
    assert sorted(tested.values()) == sorted(folders)
    assert {output.parent for output in tested} == {tmp_path / "matrix"}
    assert list(table.loc[table["tested_on"] == "there", "value"]) == [0.25, 0.25, 0.5]


def test_a_folder_goes_on_with_the_script_that_made_it(output: Path) -> None:
    folders = {name: output / "begun" / name for name in ("train", "crossval", "leak_study")}
    for name, folder in folders.items():
        config = _config(name, output, folder, *UNET) if name != "train" else compose(name, [f"output={output}", *UNET], folder)
        files.begin(folder, {**config, "study": name} if name == "leak_study" else config)
    going_on: dict[str, Callable[[dict[str, Any], Path], object]] = {
        "train": train,
        "crossval": crossval,
        "leak_study": leak_study,
        "learning_curve": learning_curve,
    }
    for script, go_on in going_on.items():
        for name, folder in folders.items():
            if name == script:
                continue
            with pytest.raises(files.RunError, match=rf"made by scripts/{name}\.py; go on with: python scripts/{name}\.py resume="):
                go_on({"resume": str(folder), "trusted": []}, folder)


@pytest.mark.parametrize("launcher", [["launcher.dry_run=true"], ["launcher=slurm", "launcher.wait=false"]])
def test_a_study_refuses_a_launcher_that_does_not_wait(launcher: list[str], output: Path) -> None:
    config = _config("learning_curve", output, output / "waits", *UNET, *launcher)
    with pytest.raises(ValueError, match=r"launcher\.wait=false"):
        learning_curve(config, output / "waits")
    assert not (output / "waits").exists()
