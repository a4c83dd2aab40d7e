"""What a run tells its trackers, how it goes on in them, and that none of them can stop it."""

import csv
import importlib.util
import logging
import os
import resource
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wandb_files
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.logger import Logger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bcd.config import compose
from bcd.config.build import UntrustedTargetError
from bcd.runs import folder as files
from bcd.runs.signals import RunStopped
from bcd.runs.studies.crossval import group_of
from bcd.runs.tracking.guard import GuardedLogger
from bcd.runs.tracking.kinds import CsvTracker, TensorBoardTracker, Tracker, Watermark, keep_events
from bcd.runs.tracking.servers import WandbTracker, logged_offline, offline_parts
from bcd.runs.tracking.trackers import Trackers, result_figures
from bcd.runs.training.callbacks import History
from bcd.runs.training.train import train

HAS_MLFLOW = importlib.util.find_spec("mlflow") is not None
LOGGERS = ["csv", "tensorboard", "wandb", *(["mlflow"] if HAS_MLFLOW else [])]
SMALL = [
    "data.source.n_images=40", "preprocess.size=32", "batch_size=4", "trainer.max_epochs=2", "trainer.accelerator=cpu",
    "trainer.precision=32-true", "trainer.check_val_every_n_epoch=null", "trainer.val_check_interval=2",
    "callbacks.pictures.every_n_epochs=1", "callbacks.pictures.n_cases=1",
    "model.encoder=resnet10t", "model.decoder_channels=[8,8,8]", f"logger=[{','.join(LOGGERS)}]", "name=small", "group=a sweep",
]  # fmt: skip
# Five steps an epoch; the checkpoint is of the end of the first, and a validation follows before this step.
CRASH_AT = 7
# MLflow 3.17 uses an option that SQLAlchemy 2.1 retires.
pytestmark = pytest.mark.filterwarnings("ignore:.*noload.*")


class Broken(Logger):
    """A tracker whose every method raises."""

    def __init__(self) -> None:
        super().__init__()

    @property
    def name(self) -> str:
        raise ConnectionError("no name")

    @property
    def version(self) -> str:
        raise ConnectionError("no version")

    @property
    def experiment(self) -> Any:
        raise ConnectionError("no experiment")

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        raise OSError(28, "No space left on device")

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        raise ConnectionError("The server is down.\nA second line.")

    def save(self) -> None:
        raise RuntimeError("not saved")

    def finalize(self, status: str) -> None:
        raise RuntimeError("not finalized")

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        raise RuntimeError("no checkpoint")

    def log_image(self, **kwargs: Any) -> None:
        raise RuntimeError("no picture")


class BrokenLater(Broken):
    """A tracker that begins well, and raises in the middle of the training."""

    told: list[str] = []  # noqa: RUF012 - the test looks here
    name = version = "later"  # type: ignore[assignment]

    @property
    def experiment(self) -> Any:
        return None

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self.told.append("config")

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self.told.append("figures")
        if self.told.count("figures") == 3:
            raise TimeoutError("gone")

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        pass

    def save(self) -> None:
        pass

    def log_image(self, **kwargs: Any) -> None:
        self.told.append(kwargs["key"])


def _config(folder: Path, *overrides: str) -> dict[str, Any]:
    return compose("train", [*SMALL, f"output={folder.parent.parent}", *overrides], folder)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_SILENT", "true")
        patch.setenv("WANDB_DATA_DIR", str(tmp_path_factory.mktemp("wandb")))  # copies of artefacts would go to the user's home
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.delenv("WANDB_MODE", raising=False)
        yield tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def whole(outputs: Path) -> tuple[Path, dict[str, Any], list[str]]:
    """A run with all trackers, and two of the user's own that fail; its folder, figures and warnings."""
    folder = outputs / "runs" / "whole"
    config = _config(folder)
    names = ("Broken", "BrokenLater")
    config["logger"] |= {name.lower(): {"_target_": f"{__name__}.{name}"} for name in names}
    config["trusted"] = [f"{__name__}.{name}" for name in names]
    said: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("bcd").addHandler(handler)
    try:
        return folder, train(config, folder), said
    finally:
        logging.getLogger("bcd").removeHandler(handler)


@pytest.fixture(scope="module")
def resumed(outputs: Path) -> Path:
    """The same run, ended by an error in its second epoch, and taken up again."""
    folder = outputs / "runs" / "resumed"
    started = History.on_train_batch_start

    def crash(self: History, trainer: Any, *args: Any) -> None:
        if trainer.global_step == CRASH_AT:
            raise RuntimeError("the power is gone")
        started(self, trainer, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(History, "on_train_batch_start", crash)
        with pytest.raises(RuntimeError, match="the power is gone"):
            train(_config(folder), folder)
    assert not (folder / files.TRAINING).exists()
    train(compose("train", [f"resume={folder}"], folder), folder)
    return folder


def _scalars(folder: Path) -> list[tuple[str, int, float]]:
    events = EventAccumulator(str(folder / "tensorboard"), {"scalars": 0}, purge_orphaned_data=False)
    events.Reload()
    return [(tag, event.step, event.value) for tag in events.Tags()["scalars"] for event in events.Scalars(tag)]


def _rows(folder: Path) -> list[tuple[str, int, float]]:
    with (folder / "logs" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [(name, int(row["step"]), float(value)) for row in rows for name, value in row.items() if value and name != "step"]


def _of_wandb(folder: Path) -> list[tuple[str, int, float]]:
    return [(name, step, value) for name, step, value in wandb_files.points(folder) if isinstance(value, int | float)]


def _of_mlflow(folder: Path) -> list[tuple[str, int, float]]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{folder.parent.parent / 'mlflow' / 'mlflow.db'}")
    run = client.get_run(Watermark(folder / "trackers" / "mlflow.json").id)
    found = [(name, client.get_metric_history(run.info.run_id, name)) for name in run.data.metrics]
    return [(name, one.step, one.value) for name, history in found for one in history]


READ = {"csv": _rows, "tensorboard": _scalars, "wandb": _of_wandb, "mlflow": _of_mlflow}


# The same things under the same names


@pytest.mark.parametrize("tracker", LOGGERS)
def test_every_tracker_has_the_runs_curves_and_final_figures(whole: tuple[Path, dict[str, Any], list[str]], tracker: str) -> None:
    folder, metrics, _ = whole
    told = {(name, step): value for name, step, value in READ[tracker](folder)}
    for name in ("train/loss", "val/loss", "val/dice"):
        assert {step for known, step in told if known == name} >= ({4, 9} if name == "train/loss" else {1, 3, 5, 7, 9})
    assert told["test/dice", 9] == pytest.approx(metrics["test"]["dice"], rel=1e-6)
    assert told["test/lesion_images/hd95_px", 9] == pytest.approx(metrics["test"]["lesion_images"]["hd95_px"], rel=1e-6)
    assert told["cost/images_per_second", 9] == pytest.approx(metrics["cost"]["images_per_second"], rel=1e-6)
    assert told["cost/peak_memory_mib", 9] > 0


def test_csv_says_where_the_files_lie(whole: tuple[Path, dict[str, Any], list[str]]) -> None:
    folder = whole[0]
    with (folder / "logs" / "files.csv").open(newline="") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert {"config.yaml", "report.html", "model_card.md", "metrics.json", "model/best.ckpt"} == set(rows)
    for row in rows.values():
        assert (folder / "logs" / row["path"]).stat().st_size == int(row["bytes"])
    assert "a sweep" in (folder / "logs" / "hparams.yaml").read_text()


def test_tensorboard_has_config_pictures_report_and_model(whole: tuple[Path, dict[str, Any], list[str]]) -> None:
    events = EventAccumulator(str(whole[0] / "tensorboard"), {"images": 0, "tensors": 0})
    events.Reload()
    tags = events.Tags()
    assert set(tags["images"]) == {"validation", "learning_curves", "test_cases"}
    texts = {
        tag.removesuffix("/text_summary"): events.Tensors(tag)[-1].tensor_proto.string_val[0].decode() for tag in tags["tensors"]
    }
    assert {"config.yaml", "report.html", "model_card.md", "metrics.json", "model/best.ckpt"} == set(texts)
    assert "../checkpoints/best.ckpt" in texts["model/best.ckpt"]
    assert texts["config.yaml"].startswith("    ")
    session = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert b"model/encoder" in session
    assert b"a sweep" in session


def test_wandb_has_config_group_pictures_report_and_model(whole: tuple[Path, dict[str, Any], list[str]]) -> None:
    found = wandb_files.of_run(whole[0])
    runs = [record.run for record in found if record.WhichOneof("record_type") == "run"]
    assert {(run.run_group, run.job_type, run.display_name) for run in runs} == {("a sweep", "fold 1", "small")}
    assert {"fold: 1", "seed: 0", "data: phantom", "group: a sweep"} <= set(runs[0].tags)
    config = {item.key: item.value_json for record in found for item in record.config.update}
    assert '"resnet10t"' in config["model"]
    artefacts = {record.artifact.type for record in found if record.WhichOneof("record_type") == "artifact"}
    assert artefacts == {"config", "metrics", "report", "model_card", "model"}
    kinds = {name: value for name, _, value in wandb_files.points(whole[0]) if isinstance(value, str)}
    assert {name: kinds[name] for name in ("validation", "learning_curves", "test_cases", "report")} == {
        "validation": "image-file", "learning_curves": "image-file", "test_cases": "image-file", "report": "html-file"
    }  # fmt: skip


def test_mlflow_has_config_tags_pictures_report_and_model(whole: tuple[Path, dict[str, Any], list[str]]) -> None:
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    from mlflow.tracking import MlflowClient

    folder = whole[0]
    store = folder.parent.parent / "mlflow"
    client = MlflowClient(f"sqlite:///{store / 'mlflow.db'}")
    run = client.get_run(Watermark(folder / "trackers" / "mlflow.json").id)
    assert run.info.status == "FINISHED"
    assert {name: run.data.tags[name] for name in ("group", "fold", "seed", "data")} == {
        "group": "a sweep", "fold": "1", "seed": "0", "data": "phantom"
    }  # fmt: skip
    assert run.data.params["model/encoder"] == "resnet10t"
    kept = store / "artifacts" / run.info.run_id / "artifacts"
    assert (kept / "report.html").read_bytes() == (folder / "report.html").read_bytes()
    assert (kept / "model" / "best.ckpt").read_bytes() == (folder / "checkpoints" / "best.ckpt").read_bytes()
    assert {path.parent.name for path in kept.glob("*/*.png")} == {"validation", "learning_curves", "test_cases"}


def test_the_names_of_final_figures() -> None:
    metrics = {
        "test": {"auroc": 0.9, "n_cases": 3, "kappa": None, "lesion_images": {"dice": 0.5}, "by_class": {"benign": {"auroc": 1.0}}},
        "cost": {"train_seconds": 2.5, "energy_j": {"processor": 4.0, "gpu": None}, "energy_not_readable": {"gpu": "none"}},
    }
    assert result_figures(metrics) == {
        "test/auroc": 0.9,
        "test/n_cases": 3.0,
        "test/lesion_images/dice": 0.5,
        "cost/train_seconds": 2.5,
        "cost/energy_j/processor": 4.0,
    }
    assert result_figures({"test": None}) == {}


def test_a_cross_validation_is_a_group(tmp_path: Path) -> None:
    config = {"output": str(tmp_path), "group": None}
    assert group_of(config, tmp_path / "crossval" / "busbra-unet") == "busbra-unet"
    assert group_of(config, tmp_path / "crossval" / "busbra-unet" / "2026-11-23") == "busbra-unet/2026-11-23"
    assert group_of(config, Path("/elsewhere/mine")) == "mine"
    assert group_of({**config, "group": "paper"}, tmp_path / "crossval" / "x") == "paper"


# A run that goes on


@pytest.mark.parametrize("tracker", LOGGERS)
def test_a_resumed_run_has_the_points_of_one_that_was_never_stopped(
    whole: tuple[Path, dict[str, Any], list[str]], resumed: Path, tracker: str
) -> None:
    def counted(folder: Path) -> Counter[tuple[str, int]]:
        # Lightning logs the epoch beside everything; wandb's own entries tell the time.
        own = ("epoch", "_runtime", "_timestamp", "_step", "trainer/global_step", "cost/", "report/")
        return Counter((name, step) for name, step, _ in READ[tracker](folder) if not name.startswith(own))

    points, expected = counted(resumed), counted(whole[0])
    assert points == expected
    assert max(points.values()) == 1
    values = {(name, step): value for name, step, value in READ[tracker](resumed)}
    reference = {(name, step): value for name, step, value in READ[tracker](whole[0])}
    assert all(values[key] == pytest.approx(reference[key], rel=1e-5) for key in points)


def test_a_resumed_run_keeps_its_id(resumed: Path) -> None:
    runs = [record.run for record in wandb_files.of_run(resumed) if record.WhichOneof("record_type") == "run"]
    assert len(list((resumed / "wandb").glob("offline-run-*"))) == 2
    assert {run.run_id for run in runs} == {Watermark(resumed / "trackers" / "wandb.json").id}


def test_what_wandb_had_not_written_before_a_kill_is_filled_in(resumed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    (folder / "logs").mkdir(parents=True)
    (folder / "logs" / "metrics.csv").write_bytes((resumed / "logs" / "metrics.csv").read_bytes())
    (first, _) = offline_parts(resumed)
    kept = folder / "wandb" / first.parent.name / first.name
    kept.parent.mkdir(parents=True)
    for size in range(first.stat().st_size, 0, -500):  # cut within what was logged
        kept.write_bytes(first.read_bytes()[:size])
        there = logged_offline(folder)
        if not any(step > 2 for _, step in there):
            break
    assert there
    logger = WandbLogger(save_dir=folder, offline=True, id=Watermark(resumed / "trackers" / "wandb.json").id, mode="offline")
    tracker = WandbTracker(logger, Watermark(folder / "trackers" / "wandb.json"))
    tracker.resume(lambda tag, step: step < 5)
    tracker.close("stopped")
    numbers = {(name, step) for name, step, _ in _rows(resumed) if step < 5}
    for _ in range(600):  # wandb's own process brings its file to the disk after finish() has returned, on a busy machine
        if numbers <= logged_offline(folder):
            break
        time.sleep(0.1)
    assert numbers <= logged_offline(folder)
    again = Counter((name, step) for name, step, _ in wandb_files.points(folder) if (name, step) in numbers)
    assert max(again.values()) == 1
    assert not any(step > 5 for name, step in logged_offline(folder) - there)


def test_no_tracker_needs_an_account_unless_told_so() -> None:
    assert list(compose("train")["logger"]) == ["csv", "tensorboard"]
    assert compose("train", ["logger=wandb"])["logger"]["wandb"]["offline"] is True


def test_a_watermark_lets_pass_what_is_new(tmp_path: Path) -> None:
    mark = Watermark(tmp_path / "one.json")
    assert mark.new({"a": 1}, 0) == {"a": 1}
    mark.passed({"a": 1}, 3)
    mark.passed({"b": 2}, 3)
    again = Watermark(tmp_path / "one.json")
    assert again.new({"a": 1}, 2) == {}
    assert again.new({"a": 1, "b": 2, "c": 3}, 3) == {"c": 3}
    assert again.new({"a": 1}, 4) == {"a": 1}
    (tmp_path / "one.json").write_text("{")  # a damaged file doubles points, and stops nothing
    assert Watermark(tmp_path / "one.json").new({"a": 1}, 0) == {"a": 1}


def test_half_a_record_at_the_end_of_an_event_file_is_dropped(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name="", version="")
    for step in range(4):
        logger.log_metrics({"a": float(step), "b": 1.0}, step)
    logger.finalize("success")
    (path,) = tmp_path.glob("events.out.tfevents.*")
    path.write_bytes(path.read_bytes()[:-5])  # b at step 3
    keep_events(tmp_path, lambda tag, step: (tag, step) != ("a", 2))
    events = EventAccumulator(str(tmp_path), {"scalars": 0})
    events.Reload()
    assert [event.step for event in events.Scalars("a")] == [0, 1, 3]
    assert [event.step for event in events.Scalars("b")] == [0, 1, 2]


# Trackers that fail


def test_broken_trackers_are_said_once_and_the_run_ends_well(whole: tuple[Path, dict[str, Any], list[str]]) -> None:
    folder, metrics, said = whole
    assert files.is_finished(folder)
    assert metrics["training"]["steps"] == 10
    failed = [text for text in said if "The tracker" in text]
    assert len(failed) == 2
    assert "logger.broken failed at telling the config (ConnectionError: The server is down.)" in failed[0]
    assert "logger.brokenlater failed at logging figures (TimeoutError: gone)" in failed[1]
    assert all("The run continues without it" in text and "history.csv" in text for text in failed)
    assert BrokenLater.told[0] == "config"
    assert BrokenLater.told[-1] == "figures"  # nothing was asked of it any more
    assert BrokenLater.told.count("figures") == 3


def _guard(logger: Logger, tmp_path: Path) -> GuardedLogger:
    return GuardedLogger("mine", Tracker(logger, Watermark(tmp_path / "mine.json")))


def test_nothing_that_a_broken_tracker_does_comes_through(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    calls = (
        lambda guard: guard.name, lambda guard: guard.version, lambda guard: guard.save_dir, lambda guard: guard.experiment.log({}),
        lambda guard: guard.log_metrics({"a": 1.0}, 0), lambda guard: guard.log_hyperparams({}), lambda guard: guard.save(),
        lambda guard: guard.picture("a", np.zeros((2, 2, 3), np.uint8), 0), lambda guard: guard.log_image(key="a"),
        lambda guard: guard.after_save_checkpoint(None), lambda guard: guard.finalize("success"),
        lambda guard: guard.close("success"),
    )  # fmt: skip
    for call in calls:
        assert call(_guard(Broken(), tmp_path)) is None
    caplog.clear()
    guard = _guard(Broken(), tmp_path)
    for call in calls:
        call(guard)
    assert len(caplog.records) == 1


def test_a_call_to_the_trackers_own_object_is_guarded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    logger = TensorBoardLogger(tmp_path, name="", version="")
    guard = GuardedLogger("tensorboard", TensorBoardTracker(logger, Watermark(tmp_path / "t.json")))
    guard.experiment.add_scalar("fine", 1.0, 0)
    assert guard.works
    guard.experiment.add_scalar("wrong", "no number", 0)
    assert not guard.works
    assert "logger.tensorboard failed at add_scalar" in caplog.text
    logger.finalize("success")


def test_a_request_to_stop_is_no_failure(tmp_path: Path) -> None:
    class Interrupted(Broken):
        def log_metrics(self, metrics: Any, step: int | None = None) -> None:
            try:
                raise RunStopped(15)
            except RunStopped as stop:
                raise ValueError("you tried to log something that is not supported") from stop

    guard = _guard(Interrupted(), tmp_path)
    with pytest.raises(RunStopped):
        guard.log_metrics({"a": 1.0}, 0)
    assert guard.works


def test_a_full_disk_under_csv_stops_that_tracker_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "logs").mkdir()
    guard = GuardedLogger("csv", CsvTracker(CSVLogger(tmp_path, "logs", ""), Watermark(tmp_path / "c.json")))
    guard.log_metrics({"a": 1.0}, 0)
    (tmp_path / "logs" / "metrics.csv").symlink_to("/dev/full")
    guard.save()
    guard.log_metrics({"a": 1.0}, 1)
    guard.save()
    assert "logger.csv failed at saving (OSError: [Errno 28] No space left on device)" in caplog.text
    assert len(caplog.records) == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # TensorBoard writes in a thread, which dies
def test_a_full_disk_under_tensorboard_stops_that_tracker_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    logger = TensorBoardLogger(tmp_path, name="", version="")
    guard = GuardedLogger("tensorboard", TensorBoardTracker(logger, Watermark(tmp_path / "t.json")))
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    guard.picture("noise", noise, 0)
    guard.save()
    assert guard.works
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        for step in range(1, 5):
            guard.picture("noise", noise, step)
            guard.save()
        for thread in threading.enumerate():
            if type(thread).__name__ == "_AsyncWriterThread":
                thread.join(30)  # else its end falls into the next test
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    guard.close("success")
    assert [record.getMessage().partition(" failed")[0] for record in caplog.records] == ["The tracker logger.tensorboard"]


def test_wandb_online_without_a_key_is_said_and_passed_by(
    outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))  # no .netrc
    monkeypatch.setenv("WANDB_BASE_URL", "http://localhost:9")
    folder = outputs / "runs" / "online"
    config = _config(folder, "logger=[csv,wandb]", "logger.wandb.offline=false")
    with Trackers.open(config, folder, resumed=False) as trackers:
        trackers.begin(config)
        for logger in trackers.loggers:
            logger.log_metrics({"val/dice": 0.5}, 0)
            logger.save()
    (message,) = [record.getMessage() for record in caplog.records if "The tracker" in record.getMessage()]
    assert message.startswith("The tracker logger.wandb failed at telling the config")
    assert "logger.wandb.offline=true" in message
    assert "0.5" in (folder / "logs" / "metrics.csv").read_text()
    assert "WANDB_MODE" not in os.environ


def test_an_mlflow_server_that_is_down_is_said_and_passed_by(
    outputs: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    folder = outputs / "runs" / "down"
    config = _config(folder, "logger=[csv,mlflow]", "logger.mlflow.tracking_uri=http://localhost:9")
    with Trackers.open(config, folder, resumed=False) as trackers:
        trackers.begin(config)
        for logger in trackers.loggers:
            logger.log_metrics({"val/dice": 0.5}, 0)
    (message,) = [record.getMessage() for record in caplog.records if "The tracker" in record.getMessage()]
    assert "logger.mlflow failed at telling the config" in message
    assert "Is the server at logger.mlflow.tracking_uri up" in message
    assert "0.5" in (folder / "logs" / "metrics.csv").read_text()
    assert "MLFLOW_TRACKING_URI" not in os.environ  # the next run in this process has a store of its own


def test_a_missing_package_is_refused_with_what_to_install_and_passed_by_where_a_run_goes_on(
    outputs: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import lightning.pytorch.loggers.mlflow as module

    monkeypatch.setattr(module, "_MLFLOW_AVAILABLE", False)
    folder = outputs / "runs" / "missing"
    config = _config(folder, "logger=[csv,mlflow]")
    with pytest.raises(ValueError, match=r'pip install "bcd\[mlflow\]"'):
        Trackers.open(config, folder, resumed=False)
    trackers = Trackers.open(config, folder, resumed=True)
    assert [logger.config_name for logger in trackers.loggers] == ["csv"]
    assert 'pip install "bcd[mlflow]"' in caplog.text


def test_a_logger_that_is_configured_wrongly_is_an_error_before_the_run(outputs: Path) -> None:
    folder = outputs / "runs" / "wrong"
    config = _config(folder, "logger=[wandb]")
    config["logger"]["wandb"] |= {"log_model": "all"}
    with pytest.raises(ValueError, match=r"logger.wandb cannot be built: .*offline"):
        Trackers.open(config, folder, resumed=False)
    config["logger"] = {"spy": {"_target_": "os.system"}}
    with pytest.raises(UntrustedTargetError):
        Trackers.open(config, folder, resumed=False)


def test_a_tracker_that_fails_when_it_is_made_is_passed_by(outputs: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = outputs / "runs" / "unmade"
    config = _config(folder, "logger=[csv]")
    config["logger"]["mine"] = {"_target_": f"{__name__}.Unreachable"}
    config["trusted"] = [f"{__name__}.Unreachable"]
    assert [logger.config_name for logger in Trackers.open(config, folder, resumed=False).loggers] == ["csv"]
    assert "logger.mine cannot be reached (ConnectionRefusedError: nobody there)" in caplog.text


class Unreachable(Broken):
    """A tracker that asks its server when it is made."""

    def __init__(self) -> None:
        raise ConnectionRefusedError("nobody there")
