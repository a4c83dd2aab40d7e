"""What trackers are given, under the same names in each: config, figures, pictures, files. CSV files and TensorBoard."""

import contextlib
import hashlib
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.loggers.logger import Logger
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.record_writer import RecordWriter

from bcd.files import write_bytes, write_text
from bcd.runs.training.resume import Keep, keep_logged


def labels(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run belongs to and what it is, the same words in every tracker: group, fold, seed, data set and task."""
    known = {
        "group": config.get("group"),  # a sweep or a cross-validation; a run of an earlier version has none
        "fold": config["fold"],
        "seed": config["seed"],
        "data": str(config["data"]["name"]),
        "task": str(config["task"].get("_target_", "")).rpartition(".")[2],
    }
    return {name: value for name, value in known.items() if value is not None}


def flat(config: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return a nested config with one name a value, such as `model/encoder`."""
    names: dict[str, Any] = {}
    for name, value in config.items():
        names |= flat(value, f"{above}{name}/") if isinstance(value, Mapping) and value else {f"{above}{name}": value}
    return names


class Watermark:
    """The last step that a tracker was given, and its figures; kept in the run's folder with the tracker's id of the run.

    A resumed run repeats what came after its checkpoint exactly, so what was logged before need not be logged again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        known: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError, TypeError):  # a damaged file doubles points, and stops nothing
            known = {**json.loads(path.read_text(encoding="utf-8"))}
        self.id: str | None = known.get("id")
        self.step: int = known.get("step", -1)
        self.keys: set[str] = set(known.get("keys", ()))

    def new(self, figures: Mapping[str, Any], step: int) -> dict[str, Any]:
        """Return the figures that were not logged yet."""
        if step < self.step:
            return {}
        return {name: value for name, value in figures.items() if step > self.step or name not in self.keys}

    def passed(self, figures: Mapping[str, Any], step: int) -> None:
        """Note that figures were logged."""
        self.keys = set(figures) | (self.keys if step == self.step else set())
        self.step = step
        self.write()

    def write(self) -> None:
        """Write the file; whole or not at all, though not through a power cut, since this is done at every logged step."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        aside = self.path.with_suffix(".aside")
        aside.write_text(json.dumps({"id": self.id, "step": self.step, "keys": sorted(self.keys)}), encoding="utf-8")
        aside.replace(self.path)


class Tracker:
    """A logger of a kind that is not known here: it gets what Lightning's own interface has, and pictures where it takes any.

    Args:
        logger: not started yet.
        watermark: what it was given before.
    """

    advice = "What is missing is in the run's folder: history.csv, metrics.json, report.html."

    def __init__(self, logger: Logger, watermark: Watermark) -> None:
        self.logger = logger
        self.watermark = watermark

    @staticmethod
    def arguments(node: Mapping[str, Any], config: Mapping[str, Any], watermark: Watermark) -> dict[str, Any]:
        """Return what the logger's constructor is given where the config says nothing.

        Args:
            node: of the logger in the config.
            config: of the run.
            watermark: knows the tracker's id of a resumed run.
        """
        return {}

    def resume(self, keep: Keep) -> None:
        """Get ready to go on with a run, before anything else."""

    def config(self, config: Mapping[str, Any]) -> None:
        """Log the run's config."""
        self.logger.log_hyperparams(dict(config))

    def metrics(self, figures: Mapping[str, float], step: int | None) -> None:
        """Log figures of a step."""
        self.logger.log_metrics(dict(figures), step)

    def picture(self, name: str, pixels: np.ndarray, step: int) -> None:
        """Log a picture, uint8 (H, W, 3)."""
        log_image = getattr(self.logger, "log_image", None)
        if callable(log_image):
            log_image(key=name, images=[pixels], step=step)

    def file(self, name: str, path: Path, step: int) -> None:
        """Keep a file of the run under a name such as `model/best.ckpt`."""

    def close(self, status: str) -> None:
        """End the logger: `success`, `stopped` or `failed`."""
        self.logger.finalize("success" if status == "success" else "failed")

    def abandon(self) -> None:
        """Let go of a tracker that has failed, so that the next run in this process starts fresh."""


class CsvTracker(Tracker):
    """Files in the run's folder: metrics.csv, hparams.yaml, and files.csv, which says where pictures and files lie."""

    logger: CSVLogger

    def resume(self, keep: Keep) -> None:
        """Keep the rows that will not be written again; the logger would delete all."""
        keep_logged(self.logger, keep)

    def file(self, name: str, path: Path, step: int) -> None:
        """Add a line to files.csv."""
        folder = Path(self.logger.log_dir)
        table, line = folder / "files.csv", _described(path, folder)
        known = table.read_text(encoding="utf-8").splitlines()[1:] if table.is_file() else []
        others = [row for row in known if not row.startswith(f"{name},")]
        rows = ["name,path,bytes,sha256", *others, f"{name},{line['path']},{line['bytes']},{line['sha256']}"]
        write_text(table, "\n".join(rows) + "\n")

    def picture(self, name: str, pixels: np.ndarray, step: int) -> None:
        """Write nothing: the pictures lie in the run's folder."""


class TensorBoardTracker(Tracker):
    """TensorBoard; it holds no files, so each is a text: small Markdown or YAML files in full, for others the path."""

    logger: TensorBoardLogger

    def resume(self, keep: Keep) -> None:
        """Take out of the event files what will be written again."""
        keep_events(Path(self.logger.log_dir), keep)

    def config(self, config: Mapping[str, Any]) -> None:
        """Write a session of the plugin for hyperparameters, with the figures for its columns."""
        from torch.utils.tensorboard.summary import hparams

        settings = {name: value if isinstance(value, bool | int | float) else str(value) for name, value in flat(config).items()}
        writer = self.logger.experiment._get_file_writer()
        monitor = config["task"].get("monitor")
        figures = [monitor, monitor.replace("val/", "test/")] if isinstance(monitor, str) else []
        for part in hparams({**settings, **labels(config)}, dict.fromkeys(figures, 0.0)):
            writer.add_summary(part, 0)

    def picture(self, name: str, pixels: np.ndarray, step: int) -> None:
        """Log a picture, uint8 (H, W, 3)."""
        self.logger.experiment.add_image(name, pixels, step, dataformats="HWC")

    def file(self, name: str, path: Path, step: int) -> None:
        """Write a text under the file's name."""
        if path.suffix == ".md":
            text = path.read_text(encoding="utf-8", errors="replace")
        elif path.suffix == ".yaml":
            text = "".join(f"    {line}\n" for line in path.read_text(encoding="utf-8", errors="replace").splitlines())
        else:
            line = _described(path, Path(self.logger.log_dir))
            text = f"{line['path']} (from this folder), {line['bytes']} bytes, SHA-256 {line['sha256']}"
        self.logger.experiment.add_text(name, text, step)


def keep_events(folder: Path, keep: Keep) -> None:
    """Take out of a folder's event files all values that are not to be kept, and half a record that a kill has left.

    Args:
        folder: of one run, in which nobody writes.
        keep: tag and step in, whether the value stays out.

    Raises:
        OSError: when a file cannot be written; it is as before then.
    """
    for path in sorted(folder.glob("events.out.tfevents.*")):
        kept = io.BytesIO()
        writer = RecordWriter(kept)
        for record in RawEventFileLoader(str(path)).Load():
            event = Event.FromString(record)
            if all(keep(value.tag, event.step) for value in event.summary.value):
                writer.write(record)
        write_bytes(path, kept.getvalue())


def _described(path: Path, start: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"path": os.path.relpath(path, start), "bytes": path.stat().st_size, "sha256": digest}
