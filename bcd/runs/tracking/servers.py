"""Trackers with a server, or a store of their own: Weights & Biases and MLflow."""

import logging
import os
import re
import secrets
import struct
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import MLFlowLogger, WandbLogger

from bcd.runs.tracking.kinds import Tracker, Watermark, flat, labels
from bcd.runs.training.resume import Keep, rows_of

log = logging.getLogger(__name__)

# A server that does not answer is given up after so many seconds, where the user's environment says nothing else. MLflow's own
# default is 7 tries of 2 minutes each.
_PATIENCE = {
    "WANDB_INIT_TIMEOUT": "30",
    "WANDB_LOGIN_TIMEOUT": "30",
    "WANDB_FINISH_TIMEOUT": "300",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
}
# A run's end, as MLflow calls it.
_ENDS = {"success": "FINISHED", "stopped": "KILLED"}
# What Weights & Biases has on disk of an offline run: a log of records in blocks of 32 KiB, as LevelDB writes one.
_BLOCK, _FILE_HEADER, _HEADER = 32768, 7, 7
# Of a piece: the whole record, or its last part.
_WHOLE, _END = 1, 4


class WandbTracker(Tracker):
    """Weights & Biases."""

    logger: WandbLogger
    advice = (
        "If it is online: `wandb login`, or logger.wandb.offline=true and later `wandb sync` of the folder wandb/ in the run's "
        "folder, which holds what was logged until now."
    )

    def __init__(self, logger: WandbLogger, watermark: Watermark) -> None:
        super().__init__(logger, watermark)
        self._known: set[tuple[str, int]] = set()

    @staticmethod
    def arguments(node: Mapping[str, Any], config: Mapping[str, Any], watermark: Watermark) -> dict[str, Any]:
        """Return id, group, kind of job and tags, and the mode: wandb would keep that of an earlier run in this process."""
        if watermark.id is None:
            watermark.id = secrets.token_hex(4)
        tags = [f"{name}: {value}"[:64] for name, value in labels(config).items()]
        mode = os.environ.get("WANDB_MODE") or ("offline" if node.get("offline") else "online")
        return {"id": watermark.id, "group": config.get("group"), "job_type": f"fold {config['fold']}", "tags": tags, "mode": mode}

    @property
    def run(self) -> Any:
        """Return the run of wandb, started if need be."""
        with _kept("WANDB_MODE"):
            return self.logger.experiment

    def resume(self, keep: Keep) -> None:
        """Look up what is logged already; the id is the same, and a server takes no step twice."""
        folder = Path(self.logger.save_dir or ".")
        try:
            self._known = logged_offline(folder)
        except Exception:  # another version of wandb may write another format: points are doubled then, and nothing is lost
            log.debug("What wandb has logged cannot be read.", exc_info=True)
            return
        if self.logger._offline:
            for figures, step in rows_of(folder / "logs" / "metrics.csv"):  # what a kill has lost, where it stands there
                self._log({name: float(value) for name, value in figures.items() if keep(name, step)}, step)

    def config(self, config: Mapping[str, Any]) -> None:
        """Log the run's config."""
        self.run.config.update(dict(config), allow_val_change=True)
        self.watermark.write()

    def metrics(self, figures: Mapping[str, float], step: int | None) -> None:
        """Log figures, wandb's own step being the training's."""
        self._log(dict(figures), 0 if step is None else step)

    def picture(self, name: str, pixels: np.ndarray, step: int) -> None:
        """Log a picture, uint8 (H, W, 3)."""
        import wandb

        self._log({name: wandb.Image(pixels)}, step)

    def file(self, name: str, path: Path, step: int) -> None:
        """Log an artefact; the model without a copy of it, which would lie in the user's home until it is synced."""
        import wandb

        run, stem = self.run, Path(name).parts[0].partition(".")[0]
        artefact = wandb.Artifact(f"{stem}-{run.id}", type=stem, metadata={"name": name})
        artefact.add_file(str(path), name=Path(name).name, policy="immutable" if stem == "model" else "mutable", skip_cache=True)
        run.log_artifact(artefact)
        if path.suffix == ".html":
            self._log({stem: wandb.Html(path.read_text(encoding="utf-8", errors="replace"), inject=False)}, step)

    def close(self, status: str) -> None:
        """End the run, so that the next one in this process starts fresh."""
        if self.logger._experiment is not None:
            self.logger.finalize("success" if status == "success" else "failed")
            self.run.finish(exit_code=0 if status == "success" else 1)

    def abandon(self) -> None:
        """End the run."""
        if self.logger._experiment is not None:
            self.logger._experiment.finish(exit_code=1)

    def _log(self, content: dict[str, Any], step: int) -> None:
        new = {name: value for name, value in content.items() if (name, step) not in self._known}
        if new:
            self.run.log({**new, "trainer/global_step": step}, step=step)
            self._known |= {(name, step) for name in new}


def offline_parts(folder: Path) -> list[Path]:
    """Return the files of a run's parts, one for each time that it was started, in that order."""
    return sorted((folder / "wandb").glob("offline-run-*/run-*.wandb"))


def offline_records(path: Path) -> Iterator[Any]:
    """Yield the records of a file, up to where a kill has cut it off."""
    from google.protobuf.message import DecodeError
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]  # made by protobuf

    content, place, record = path.read_bytes(), _FILE_HEADER, b""
    while place + _HEADER <= len(content):
        left = _BLOCK - place % _BLOCK
        if left < _HEADER:  # too little for another piece
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, place)
        piece = content[place + _HEADER : place + _HEADER + length]
        if len(piece) < length:
            return
        record += piece
        place += _HEADER + length
        if kind in (_WHOLE, _END):
            try:
                yield Record.FromString(record)
            except DecodeError:
                return
            record = b""


def logged_offline(folder: Path) -> set[tuple[str, int]]:
    """Return the name and step of everything that a run has on disk; a kill loses what was logged in the seconds before."""
    records = [record for path in offline_parts(folder) for record in offline_records(path)]
    return {
        (item.key or item.nested_key[0], record.history.step.num)
        for record in records
        if record.WhichOneof("record_type") == "history"
        for item in record.history.item
    }


class MlflowTracker(Tracker):
    """MLflow, below outputs/ or on a server."""

    logger: MLFlowLogger
    advice = (
        "Is the server at logger.mlflow.tracking_uri up, or the disk of the store full? What is missing is in the run's folder: "
        "history.csv, metrics.json, report.html."
    )

    @staticmethod
    def arguments(node: Mapping[str, Any], config: Mapping[str, Any], watermark: Watermark) -> dict[str, Any]:
        """Return the store, SQLite below outputs/ where none is named, the run's id, where it has one, and tags."""
        server = os.environ.get("MLFLOW_TRACKING_URI")  # Lightning looks at it once, when it is imported
        place: dict[str, str | None]
        store = (Path(config["output"]) / "mlflow").absolute()
        if server is None and node.get("tracking_uri") is None:
            store.mkdir(parents=True, exist_ok=True)
            place = {"tracking_uri": f"sqlite:///{store / 'mlflow.db'}", "artifact_location": (store / "artifacts").as_uri()}
        else:
            place = {"tracking_uri": server}
        return {
            **place,
            "run_id": watermark.id,
            "tags": {name: str(value) for name, value in labels(config).items()},
        }

    def resume(self, keep: Keep) -> None:
        """Set the run going again."""
        if self.watermark.id is not None:
            self._start()
            self.logger.experiment.update_run(self.watermark.id, status="RUNNING")

    def config(self, config: Mapping[str, Any]) -> None:
        """Log the run's config as parameters, which MLflow lets nobody change: once."""
        self._start()
        if not self.logger.experiment.get_run(self.logger.run_id).data.params:
            self.logger.log_hyperparams({re.sub(r"[^\w./ :-]+", "_", name): value for name, value in flat(config).items()})

    def metrics(self, figures: Mapping[str, float], step: int | None) -> None:
        """Log figures."""
        self._start()
        new = self.watermark.new({re.sub(r"[^\w./ :-]+", "_", name): value for name, value in figures.items()}, step or 0)
        if new:
            self.logger.log_metrics(new, step or 0)
            self.watermark.passed(new, step or 0)

    def picture(self, name: str, pixels: np.ndarray, step: int) -> None:
        """Keep a picture, uint8 (H, W, 3), as a file that carries its step."""
        from PIL import Image

        self._start()
        # Not MLflow's own: skinny has it without what it needs.
        self.logger.experiment.log_image(self.logger.run_id, Image.fromarray(pixels), f"{name}/step_{step:08d}.png")

    def file(self, name: str, path: Path, step: int) -> None:
        """Keep a copy of a file."""
        self._start()
        parent = Path(name).parent.as_posix()
        self.logger.experiment.log_artifact(self.logger.run_id, str(path), None if parent == "." else parent)

    def close(self, status: str) -> None:
        """End the run as MLflow calls it."""
        if self.logger._initialized:
            self.logger.experiment.set_terminated(self.logger.run_id, _ENDS.get(status, "FAILED"))

    def _start(self) -> None:
        """Begin the run; another process may make store or experiment at the same moment, so one failure is no failure."""
        if self.logger._initialized:
            return
        with _kept("MLFLOW_TRACKING_URI"), warnings.catch_warnings():
            # MLflow 3.17 uses an option that SQLAlchemy 2.1 retires.
            warnings.filterwarnings("ignore", message=".*noload.*")
            try:
                self.logger.experiment  # noqa: B018 - asking for it starts it
            except Exception as error:
                if "exist" not in str(error):
                    raise
                self.logger.experiment  # noqa: B018
        self.watermark.id = self.logger.run_id
        self.watermark.write()


def be_patient_but_not_long() -> None:
    """Limit the waiting time for an unreachable server."""
    for name, seconds in _PATIENCE.items():
        os.environ.setdefault(name, seconds)


@contextmanager
def _kept(name: str) -> Iterator[None]:
    """Take back what a library writes into a variable of the environment, where the next run in this process would read it."""
    before = os.environ.get(name)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before
