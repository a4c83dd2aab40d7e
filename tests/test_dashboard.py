"""The dashboard: all runs below outputs/ on a page, TensorBoard beside it, nobody else asked."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from fake_results import fake_cases, fake_metrics, fake_test
from PIL import Image
from servers import browser, elsewhere, free_port, keep, wait_for
from streamlit.delta_generator import DeltaGenerator
from streamlit.testing.v1 import AppTest

from bcd.app.dashboard import OUTPUTS, START, TENSORBOARD, dashboard, tensorboard_command, tensorboard_port
from bcd.app.runs.folders import RunFolder, folders_below, group_of, read_folder
from bcd.config import CONF, compose

METRICS = fake_metrics(fake_test(fake_cases()))
PROBLEMS = {
    "runs/unfinished/config.yaml": ("data: {}", "not finished"),
    "runs/damaged/metrics.json": ("{", "is damaged"),
    "runs/foreign/metrics.json": ('{"score": 1}', "no test figures"),
    "runs/odd/metrics.json": ('{"test": {"n_cases": 3}, "data": 5}', "another kind"),
    "studies/leak/metrics.json": ('{"variants": []}', "a study"),
}


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """A folder of a single run, a trial of a sweep, a cross-validation of two folds, and folders that are no runs."""
    root = tmp_path / "outputs"
    groups = {
        "runs/alone/2026-11-23": {},
        "sweeps/rates/0": {"group": "rates"},
        "crossval/busbra-unet/fold_1": {"group": "busbra-unet"},
        "crossval/busbra-unet/fold_2": {"group": "busbra-unet"},
        "crossval/busbra-unet": {},
    }
    for name, more in groups.items():
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "metrics.json").write_text(json.dumps(METRICS | more))
        fake_cases().to_csv(folder / "cases.csv", index=False)
        (folder / "report.html").write_text("<!doctype html><p>The report.</p>")
    alone = root / "runs" / "alone" / "2026-11-23"
    history = {"epoch": [0, 1], "train/loss": [1.0, 0.5], "val/loss": [1.1, 0.7], "best": [False, True]}
    pd.DataFrame(history).to_csv(alone / "history.csv", index=False)
    for fold in (1, 2):  # of which epoch 1 was done again
        history = {"epoch": [0, 1, 1], "train/loss": [1.0, 0.9, 0.5], "val/loss": [1.1, 0.8, 0.1 * fold]}
        pd.DataFrame(history).to_csv(root / "crossval" / "busbra-unet" / f"fold_{fold}" / "history.csv", index=False)
    (alone / "model_card.md").write_text("# A card\n\n![spy](https://elsewhere.example/x.png)\n")
    (alone / "overlays").mkdir()
    for name in ("panel", "best_1", "worst_1"):
        Image.new("L", (16, 16)).save(alone / "overlays" / f"{name}.png")
    # What trackers keep in a run's folder is no run, nor is what was prepared; links are not followed.
    files = {name: content for name, (content, _) in PROBLEMS.items()}
    files["runs/alone/2026-11-23/wandb/offline-run-1/files/config.yaml"] = "wandb_version: 1"
    files |= {"mlflow/artifacts/a1/metrics.json": "{}", "prepared/metrics.json": "{}"}
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True)
        (root / name).write_text(content)
    (root / "studies" / "leak" / "study.html").write_text("<!doctype html><p>Two ways to split.</p>")
    (root / "loop").symlink_to(root, target_is_directory=True)
    return root


@pytest.fixture
def page(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    monkeypatch.setenv(OUTPUTS, str(outputs))
    monkeypatch.setenv(TENSORBOARD, "http://localhost:8503")
    page = AppTest.from_file(str(START), default_timeout=300).run()
    assert not page.exception
    return page


def words(page: AppTest) -> str:
    return "\n".join(str(one.value) for kind in ("markdown", "caption", "subheader") for one in page.get(kind)).replace("\\", "")


def test_runs_are_found_with_their_group_and_figures_and_what_cannot_be_shown_with_a_reason(outputs: Path, tmp_path: Path) -> None:
    folders = [read_folder(path, outputs) for path in folders_below(outputs)]
    runs = {run.name: run.row for run in folders if isinstance(run, RunFolder)}
    assert {name: row["group"] for name, row in runs.items()} == {
        "crossval/busbra-unet": "busbra-unet",
        "crossval/busbra-unet/fold_1": "busbra-unet",
        "crossval/busbra-unet/fold_2": "busbra-unet",
        "runs/alone/2026-11-23": "",
        "sweeps/rates/0": "rates",
    }
    row = runs["runs/alone/2026-11-23"]
    assert (row["AUROC"], row["Dice"]) == (METRICS["test"]["auroc"], METRICS["test"]["lesion_images"]["dice"])
    low, high = METRICS["test"]["intervals"]["auroc"]
    assert row["AUROC, 95 % interval"] == f"{low:.3f}\N{EN DASH}{high:.3f}"
    problems = {one.partition(":")[0]: one for one in folders if isinstance(one, str)}
    assert problems.keys() == {name.rpartition("/")[0] for name in PROBLEMS}
    for name, (_, reason) in PROBLEMS.items():
        assert reason in problems[name.rpartition("/")[0]]
    assert list(folders_below(tmp_path / "nowhere")) == []


def test_the_folder_tells_the_group_of_an_earlier_versions_run() -> None:
    assert group_of({}, "sweeps/rates/4") == "rates"
    assert group_of({}, "sweeps/lonely") == ""
    assert group_of({}, "crossval/busi-unet/2026-11-23/seed_1/fold_3") == "busi-unet/2026-11-23"
    assert group_of({}, "runs/a/b") == ""
    assert group_of({"group": "paper"}, "runs/a/b") == "paper"


def test_the_page_shows_all_runs_narrows_them_and_links_tensorboard(page: AppTest) -> None:
    assert "(http://localhost:8503)" in words(page)
    assert "runs/unfinished: not finished" in words(page)
    page.toggle(key="folds").set_value(True).run()
    assert len(page.dataframe[0].value) == 5
    page.multiselect(key="groups").set_value(["rates"]).run()
    board = page.dataframe[0].value
    assert list(board["run"]) == ["sweeps/rates/0"]
    assert {"task", "data", "Dice", "AUROC"} <= set(board)


def test_each_view_of_a_run_is_shown(outputs: Path, page: AppTest) -> None:
    for folder in ("crossval", "sweeps"):
        shutil.rmtree(outputs / folder)
    page.run()
    views = page.segmented_control(key="what")
    assert list(views.options) == ["Truth against prediction", "Curves", "Cases", "Report", "Model card"]
    for view in views.options:
        page.segmented_control(key="what").set_value(view).run()
        assert not page.exception
    assert "A card" in words(page)
    assert "![" not in words(page)  # a picture would be fetched from elsewhere


def test_the_curves_of_a_cross_validation_are_those_of_its_folds(
    outputs: Path, page: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    curves: list[pd.DataFrame] = []
    for folder in ("runs", "sweeps"):
        shutil.rmtree(outputs / folder)
    page.run()
    monkeypatch.setattr(DeltaGenerator, "line_chart", lambda _, curve, **__: curves.append(curve))
    page.segmented_control(key="what").set_value("Curves").run()
    assert not page.exception
    [curve] = curves
    expected = pd.DataFrame({"fold 1": [1.1, 0.1], "fold 2": [1.1, 0.2]}, index=pd.Index([1, 2], name="epoch"))
    pd.testing.assert_frame_equal(curve, expected)  # the last entry of an epoch counts


def test_the_page_of_a_study_or_pipeline_is_shown_where_it_is_chosen(outputs: Path, page: AppTest) -> None:
    assert not page.get("iframe")
    page.selectbox(key="study").set_value(outputs / "studies" / "leak").run()
    assert not page.exception
    [frame] = page.get("iframe")
    assert "Two ways to split." in frame.proto.srcdoc
    assert "default-src 'none'" in frame.proto.srcdoc  # it may run nothing and fetch nothing


def test_tensorboard_gets_a_free_port(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = tensorboard_port("auto", "localhost", port - 1)
        assert found is not None
        assert found > port
        with pytest.raises(OSError, match="Give another port"):
            tensorboard_port(port, "localhost", 8502)
    assert tensorboard_port(None, "localhost", 8502) is None

    def never(address: str, port: int) -> None:
        raise OSError("taken")

    monkeypatch.setattr("bcd.app.dashboard.check_port", never)
    with pytest.raises(OSError, match="tensorboard=null"):
        tensorboard_port("auto", "localhost", 8502)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    config = compose("dashboard", [f"output={tmp_path / 'nowhere'}", "tensorboard=6006"])
    with pytest.raises(ValueError, match="there is no such folder"):
        dashboard(config)


def test_tensorboard_is_for_this_machine_alone_unless_the_page_is_for_others(tmp_path: Path) -> None:
    command = tensorboard_command(tmp_path, "localhost", 6006)
    assert command[command.index("--host") + 1] == "localhost"
    assert command[command.index("--logdir") + 1] == str(tmp_path)


@pytest.mark.browser
def test_the_command_serves_both_asks_nobody_and_ends_both(outputs: Path, tmp_path: Path) -> None:
    from lightning.pytorch.loggers import TensorBoardLogger
    from playwright.sync_api import expect

    logger = TensorBoardLogger(outputs / "runs" / "alone" / "2026-11-23", "tensorboard", "")
    for step in range(3):
        logger.log_metrics({"val/dice": 0.1 * step}, step)
    logger.finalize("success")
    port = free_port()
    board = tensorboard_port("auto", "localhost", port)
    script = str(CONF.parent / "scripts" / "dashboard.py")
    command = [sys.executable, script, f"output={outputs}", f"port={port}", f"tensorboard={board}"]
    environment = {**os.environ, "PYTHONPATH": str(CONF.parent), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=tmp_path, env=environment) as server:
        try:
            for url in (f"http://localhost:{port}/_stcore/health", f"http://localhost:{board}/"):
                wait_for(url, server)
            with browser() as (page, asked):
                page.goto(f"http://localhost:{port}")
                expect(page.get_by_role("heading", name="Runs")).to_be_visible()
                page.get_by_text("Curves", exact=True).click()
                expect(page.get_by_test_id("stVegaLiteChart").first).to_be_visible()
                keep(page, "dashboard")
                link = page.get_by_role("link", name="TensorBoard")
                assert link.get_attribute("href") == f"http://localhost:{board}"
                page.goto(f"http://localhost:{board}")
                expect(page.get_by_text("dice").first).to_be_visible()
                keep(page, "tensorboard")
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait()
    assert elsewhere(asked) == set()
    for ended in (port, board):
        with socket.socket() as probe:
            assert probe.connect_ex(("localhost", ended or 0)) != 0
