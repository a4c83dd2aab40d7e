"""A run that is killed at any moment and resumed ends with the weights and figures of one that was not."""

import json
import multiprocessing
import os
import random
import resource
import signal
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from bcd.config import compose
from bcd.runs import folder as files

# A child comes from a server that has imported everything once, and so begins to train within a moment.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["bcd.runs.training.fit", "bcd.runs.training.train", "bcd.config"])

SMALL = [
    "data.source.n_images=40",
    "preprocess.size=32",
    "batch_size=4",
    "trainer.max_epochs=5",
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",
    "model.encoder=resnet10t",
    "model.decoder_channels=[8,8,8]",
    "logger=[csv]",
    "callbacks=[default,ema]",
    "callbacks.pictures.every_n_epochs=100",
    "callbacks.early_stopping.patience=2",
]
CLASSIFIER = [argument for argument in SMALL if not argument.startswith("model.")] + ["model=resnet18", "model.backbone=resnet10t"]
VARIANTS = {
    "segmentation": SMALL,
    "classification with dropout": [*CLASSIFIER, "model.drop_rate=0.5", "sampling=balanced"],
    "accumulated, validated within epochs": [
        *SMALL, "trainer.accumulate_grad_batches=2", "trainer.check_val_every_n_epoch=null", "trainer.val_check_interval=4",
    ],
    "plateau": [*SMALL, "scheduler=plateau", "optimizer=sgd"],
}  # fmt: skip


def _child(
    config: dict[str, Any],
    folder: Path,
    die_at_write: int | None,
    full_at_write: int | None,
    stop_at_epoch: int | None,
    every_minutes: float,
    die_reported: bool,
) -> None:
    """Train in a process of its own.

    If asked to, it dies while the n-th checkpoint is being written, finds no room for it, gets SIGTERM while it ends an epoch, or
    dies when its report is written and the trackers are to be told.
    """
    import bcd.files as writing
    import bcd.runs.training.resume as resume
    from bcd.runs.tracking.trackers import Trackers
    from bcd.runs.training.train import train

    resume.ResumePoint.__init__.__defaults__ = (every_minutes,)  # type: ignore[attr-defined]
    writes = 0
    sync = os.fsync

    def fsync(descriptor: int) -> None:
        nonlocal writes
        writes += Path(f"/proc/self/fd/{descriptor}").readlink().name.startswith((".last.ckpt", ".best.ckpt"))
        if writes == die_at_write:
            os.kill(os.getpid(), signal.SIGKILL)
        sync(descriptor)
        if full_at_write is not None and writes == full_at_write - 1:  # no file may grow beyond 50 kB from now on
            resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    save = resume.ResumePoint._save

    def save_and_get_a_signal(point: resume.ResumePoint, trainer: Any) -> None:
        save(point, trainer)
        if trainer.current_epoch == stop_at_epoch:
            os.kill(os.getpid(), signal.SIGTERM)

    if die_at_write is not None or full_at_write is not None:
        writing.os.fsync = fsync
    if die_reported:
        Trackers.results = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign]
    if stop_at_epoch is not None:
        resume.ResumePoint._save = save_and_get_a_signal  # type: ignore[method-assign]
    try:
        train(config, folder)
    except OSError as error:
        (folder / "error.txt").write_text(str(error))
        raise SystemExit(3) from error


class Runner:
    """Starts runs below one output folder, so that the phantoms are made once."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.whole: dict[str, tuple[Path, float]] = {}

    def start(
        self,
        variant: str,
        name: str,
        resume: bool = False,
        die_at_write: int | None = None,
        full_at_write: int | None = None,
        stop_at_epoch: int | None = None,
        every_minutes: float = 10.0,
        die_reported: bool = False,
    ) -> ForkServerProcess:
        folder = self.output / "runs" / name
        overrides = [f"resume={folder}"] if resume else [*VARIANTS[variant], f"output={self.output}", "name=run"]
        config = compose("train", overrides, folder)
        how = (die_at_write, full_at_write, stop_at_epoch, every_minutes, die_reported)
        process = SERVER.Process(target=_child, args=(config, folder, *how))
        process.start()
        return process

    def uninterrupted(self, variant: str) -> tuple[Path, float]:
        """Return the folder of a run that nobody disturbed, and the seconds that it took."""
        if variant not in self.whole:
            if not self.whole:  # the phantoms are simulated first, so that kills fall into the run
                _end(self.start(variant, "first"))
            began = time.monotonic()
            name = f"whole {variant}"
            _end(self.start(variant, name))
            self.whole[variant] = (self.output / "runs" / name, time.monotonic() - began)
        return self.whole[variant]


def _end(process: ForkServerProcess, status: int = 0) -> None:
    process.join()
    assert process.exitcode == status


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    return Runner(tmp_path_factory.mktemp("outputs"))


def _weights(folder: Path, name: str) -> dict[str, Any]:
    return dict(torch.load(folder / "checkpoints" / name, weights_only=True))


def _figures(folder: Path) -> dict[str, Any]:
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics.pop("provenance")
    metrics.pop("train_seconds")
    metrics["training"].pop("train_seconds")
    metrics.pop("cost")
    metrics["training"].pop("cost")
    return dict(metrics)


def _without_cost(table: pd.DataFrame) -> pd.DataFrame:
    return table[[name for name in table.columns if not name.startswith("cost/")]]


def _assert_same(folder: Path, reference: Path) -> None:
    for name in ("last.ckpt", "best.ckpt"):
        ours, theirs = _weights(folder, name), _weights(reference, name)
        for part in ("state_dict", "current_model_state"):
            assert set(ours.get(part, {})) == set(theirs.get(part, {}))
            assert all(torch.equal(value, theirs[part][key]) for key, value in ours.get(part, {}).items()), (name, part)
        assert (ours["epoch"], ours["global_step"]) == (theirs["epoch"], theirs["global_step"])
    assert _figures(folder) == _figures(reference)
    assert (folder / "cases.csv").read_bytes() == (reference / "cases.csv").read_bytes()
    tables = [pd.read_csv(path / "history.csv").drop(columns="seconds") for path in (folder, reference)]
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    logged = [_without_cost(pd.read_csv(path / "logs" / "metrics.csv")) for path in (folder, reference)]
    pd.testing.assert_frame_equal(*(table.sort_index(axis=1) for table in logged), check_exact=True)
    assert not list((folder / "checkpoints").glob(".*"))


def _kill_and_resume(runner: Runner, variant: str, name: str, share: float, every_minutes: float = 10.0) -> None:
    """Kill a run after a share of the time that it would take, resume it, and compare."""
    reference, seconds = runner.uninterrupted(variant)
    folder = runner.output / "runs" / name
    process = runner.start(variant, name, every_minutes=every_minutes)
    while not (folder / files.CONFIG).is_file():  # before there is a config there is no run
        time.sleep(0.005)
    time.sleep(share * seconds)
    if process.is_alive() and process.pid is not None:
        os.kill(process.pid, signal.SIGKILL)
    process.join()
    _end(runner.start(variant, name, resume=True))
    _assert_same(folder, reference)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.15, 0.45, 0.75])
def test_a_run_killed_and_resumed_ends_with_the_same_weights_and_figures(runner: Runner, share: float) -> None:
    _kill_and_resume(runner, "segmentation", f"killed at {share}", share)


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("number", range(5))
def test_twenty_random_moments(runner: Runner, variant: str, number: int) -> None:
    share = random.Random(f"{variant} {number} {os.environ.get('BCD_TEST_SEED', 0)}").random()
    _kill_and_resume(runner, variant, f"killed {variant} {number}", share, every_minutes=0.0 if number % 2 else 10.0)


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 3])
def test_a_run_killed_while_it_writes_a_checkpoint_goes_on_from_the_one_before_and_elsewhere(runner: Runner, number: int) -> None:
    reference, _ = runner.uninterrupted("segmentation")
    killed, folder = (runner.output / "runs" / f"{name} {number}" for name in ("killed in write", "moved elsewhere"))
    _end(runner.start("segmentation", killed.name, die_at_write=number), -signal.SIGKILL)
    assert list((killed / "checkpoints").glob(".*.ckpt.*"))  # what was being written is left aside
    killed.rename(folder)
    _end(runner.start("segmentation", folder.name, resume=True))
    _assert_same(folder, reference)
    assert not killed.exists()


@pytest.mark.slow
def test_a_run_killed_when_its_report_is_written_still_tells_its_trackers(runner: Runner) -> None:
    reference, _ = runner.uninterrupted("segmentation")
    folder = runner.output / "runs" / "killed at its end"
    _end(runner.start("segmentation", "killed at its end", die_reported=True), -signal.SIGKILL)
    assert (folder / "report.html").is_file()
    assert "test/" not in (folder / "logs" / "metrics.csv").read_text()
    _end(runner.start("segmentation", "killed at its end", resume=True))
    _assert_same(folder, reference)
    logged = (folder / "logs" / "metrics.csv").read_bytes()
    written = (folder / "metrics.json").stat().st_mtime_ns
    _end(runner.start("segmentation", "killed at its end", resume=True))  # once more: a finished run is left alone
    assert (folder / "logs" / "metrics.csv").read_bytes() == logged
    assert (folder / "metrics.json").stat().st_mtime_ns == written


def _until(condition: Callable[[], bool], process: ForkServerProcess) -> None:
    while not condition():
        assert process.is_alive()
        time.sleep(0.002)


@pytest.mark.parametrize("variant", ["segmentation", pytest.param("plateau", marks=pytest.mark.slow)])
def test_sigterm_saves_within_the_epoch_and_the_run_goes_on_from_there(runner: Runner, variant: str) -> None:
    reference, _ = runner.uninterrupted(variant)
    name = f"terminated {variant}"
    folder = runner.output / "runs" / name
    process = runner.start(variant, name)
    last = folder / "checkpoints" / "last.ckpt"
    _until(last.is_file, process)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGTERM)
    _end(process, 128 + signal.SIGTERM)
    assert not (folder / "metrics.json").exists()
    _end(runner.start(variant, name, resume=True))
    _assert_same(folder, reference)


def test_a_signal_in_the_last_epoch_is_not_lost(runner: Runner) -> None:
    reference, _ = runner.uninterrupted("segmentation")
    name = "terminated at the end"
    last = int(_weights(reference, "last.ckpt")["epoch"])
    _end(runner.start("segmentation", name, stop_at_epoch=last), 128 + signal.SIGTERM)
    folder = runner.output / "runs" / name
    assert (folder / "training.json").is_file()
    assert not (folder / "metrics.json").exists()
    _end(runner.start("segmentation", name, resume=True))
    _assert_same(folder, reference)


@pytest.mark.slow
def test_points_saved_within_an_epoch_are_as_good_as_those_at_its_end(runner: Runner) -> None:
    reference, _ = runner.uninterrupted("segmentation")
    name = "saved every step"
    # Every step but the last of an epoch writes a point; the 9th write falls into the second epoch.
    _end(runner.start("segmentation", name, die_at_write=9, every_minutes=0.0), -signal.SIGKILL)
    folder = runner.output / "runs" / name
    assert _weights(folder, "last.ckpt")["global_step"] % 5 > 0
    _end(runner.start("segmentation", name, resume=True))
    _assert_same(folder, reference)


def test_a_full_disk_ends_the_run_with_a_sentence_and_it_goes_on_once_there_is_room(runner: Runner) -> None:
    reference, _ = runner.uninterrupted("segmentation")
    folder = runner.output / "runs" / "full"
    _end(runner.start("segmentation", "full", full_at_write=3), 3)
    assert f"resume={folder}" in (folder / "error.txt").read_text()
    assert _weights(folder, "last.ckpt")["epoch"] == 0
    (folder / "error.txt").unlink()
    _end(runner.start("segmentation", "full", resume=True))
    _assert_same(folder, reference)


@pytest.mark.slow
def test_a_run_without_a_checkpoint_starts_over(runner: Runner) -> None:
    reference, _ = runner.uninterrupted("segmentation")
    folder = runner.output / "runs" / "not begun"
    config = compose("train", [*VARIANTS["segmentation"], f"output={runner.output}", "name=run"], folder)
    files.begin(folder, config)
    _end(runner.start("segmentation", "not begun", resume=True))
    _assert_same(folder, reference)


def test_two_runs_never_share_a_folder(tmp_path: Path) -> None:
    with files.claimed(tmp_path), pytest.raises(files.RunError, match="Another process"), files.claimed(tmp_path):
        pass
    with files.claimed(tmp_path):
        pass
