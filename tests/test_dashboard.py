"""The dashboard: all runs below outputs/ on a page, TensorBoard beside it, nobody else asked."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from fake_results import fake_cases, fake_metrics, fake_test
from servers import wait_for
from streamlit.testing.v1 import AppTest

from bcd.app.dashboard import OUTPUTS, START, TENSORBOARD, dashboard, tensorboard_command, tensorboard_port
from bcd.app.runs.folders import RunFolder, folders_below, group_of, read_folder
from bcd.config import CONF, compose

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-component-update"]
PATIENCE_MS = 300_000.0


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """A folder of a single run, two trials of a sweep, and a cross-validation of two folds; one trial is not finished."""
    root = tmp_path / "outputs"
    cases = fake_cases()
    metrics = fake_metrics(fake_test(cases))
    own = {
        "runs/alone/2026-11-23": {},
        "sweeps/rates/0": {"group": "rates"},
        "crossval/busbra-unet/fold_1": {"group": "busbra-unet"},
        "crossval/busbra-unet/fold_2": {"group": "busbra-unet"},
        "crossval/busbra-unet": {},
    }
    for name, more in own.items():
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "metrics.json").write_text(json.dumps(metrics | more))
        cases.to_csv(folder / "cases.csv", index=False)
        (folder / "report.html").write_text("<!doctype html><p>The report.</p>")
        history = {"epoch": [0, 1], "train/loss": [1.0, 0.5], "val/loss": [1.1, 0.7], "val/dice": [0.1, 0.6]}
        pd.DataFrame(history).to_csv(folder / "history.csv", index=False)
    (root / "sweeps" / "rates" / "1").mkdir()
    (root / "sweeps" / "rates" / "1" / "config.yaml").write_text("data: {}")
    # What trackers keep in a run's folder is no run.
    spoor = root / "runs" / "alone" / "2026-11-23" / "wandb" / "offline-run-1" / "files"
    spoor.mkdir(parents=True)
    (spoor / "config.yaml").write_text("wandb_version: 1")
    (root / "mlflow" / "artifacts" / "a1").mkdir(parents=True)
    (root / "mlflow" / "artifacts" / "a1" / "metrics.json").write_text("{}")
    return root


def test_runs_of_sweeps_and_cross_validations_are_found_with_their_group(outputs: Path) -> None:
    found = [read_folder(path, outputs) for path in folders_below(outputs)]
    groups = {run.name: run.row["group"] for run in found if isinstance(run, RunFolder)}
    assert groups == {
        "crossval/busbra-unet": "busbra-unet",
        "crossval/busbra-unet/fold_1": "busbra-unet",
        "crossval/busbra-unet/fold_2": "busbra-unet",
        "runs/alone/2026-11-23": "",
        "sweeps/rates/0": "rates",
    }
    (problem,) = [one for one in found if isinstance(one, str)]
    assert problem.startswith("sweeps/rates/1: not finished")


def test_the_folder_tells_the_group_of_an_earlier_versions_run() -> None:
    assert group_of({}, "sweeps/rates/4") == "rates"
    assert group_of({}, "sweeps/lonely") == ""
    assert group_of({}, "crossval/busi-unet/2026-11-23/seed_1/fold_3") == "busi-unet/2026-11-23"
    assert group_of({}, "runs/a/b") == ""
    assert group_of({"group": "paper"}, "runs/a/b") == "paper"


def test_the_page_shows_all_runs_narrows_them_and_links_tensorboard(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OUTPUTS, str(outputs))
    monkeypatch.setenv(TENSORBOARD, "http://localhost:8503")
    page = AppTest.from_file(str(START), default_timeout=300).run()
    assert not page.exception
    assert any("(http://localhost:8503)" in text.value for text in page.markdown)
    page.toggle(key="folds").set_value(True).run()
    assert len(page.dataframe[0].value) == 5
    page.multiselect(key="groups").set_value(["rates"]).run()
    board = page.dataframe[0].value
    assert list(board["run"]) == ["sweeps/rates/0"]
    assert list(board["group"]) == ["rates"]
    page.segmented_control(key="what").set_value("Curves").run()
    assert not page.exception


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
    from playwright.sync_api import expect, sync_playwright

    logger = TensorBoardLogger(outputs / "runs" / "alone" / "2026-11-23", "tensorboard", "")
    for step in range(3):
        logger.log_metrics({"val/dice": 0.1 * step}, step)
    logger.finalize("success")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    board = tensorboard_port("auto", "localhost", port)
    command = [
        sys.executable,
        str(CONF.parent / "scripts" / "dashboard.py"),
        f"output={outputs}",
        f"port={port}",
        f"tensorboard={board}",
    ]
    environment = {**os.environ, "PYTHONPATH": str(CONF.parent), "OMP_NUM_THREADS": "1"}
    asked: list[str] = []
    with subprocess.Popen(command, cwd=tmp_path, env=environment) as server:
        try:
            for url in (f"http://localhost:{port}/_stcore/health", f"http://localhost:{board}/"):
                wait_for(url, server)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
                page = browser.new_page(viewport={"width": 1400, "height": 1000})
                page.set_default_timeout(PATIENCE_MS)
                expect.set_options(timeout=PATIENCE_MS)
                page.on("request", lambda request: asked.append(request.url))
                page.goto(f"http://localhost:{port}")
                expect(page.get_by_role("heading", name="Runs")).to_be_visible()
                page.get_by_text("Curves", exact=True).click()
                expect(page.get_by_test_id("stVegaLiteChart").first).to_be_visible()
                _keep(page, "dashboard")
                page.get_by_role("link", name="TensorBoard").wait_for()
                assert page.get_by_role("link", name="TensorBoard").get_attribute("href") == f"http://localhost:{board}"
                page.goto(f"http://localhost:{board}")
                expect(page.get_by_text("dice").first).to_be_visible()
                _keep(page, "tensorboard")
                browser.close()
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait()
    here = (f"http://localhost:{port}", f"http://localhost:{board}", f"ws://localhost:{port}", "data:", "blob:")
    assert [url for url in asked if not url.startswith(here)] == []
    for ended in (port, board):
        with socket.socket() as probe:
            assert probe.connect_ex(("localhost", ended or 0)) != 0


def _keep(page: "object", name: str) -> None:
    """Keep a picture of the page where somebody wants to look at it."""
    if os.environ.get("BCD_SCREENSHOTS"):
        page.screenshot(path=f"{os.environ['BCD_SCREENSHOTS']}/{name}.png")  # type: ignore[attr-defined]
