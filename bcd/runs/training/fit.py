"""Assemble a run, fit it, and test its best checkpoint."""

import hashlib
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import Logger

from bcd.config.build import build
from bcd.config.processes import started_together
from bcd.data.datamodule import UltrasoundDataModule
from bcd.data.prepare import Prepared
from bcd.runs import folder as files
from bcd.runs.assemble import SYNTHETIC, acquaint, build_datamodule, build_task, check_fit, check_parts, origin, prepare_data
from bcd.runs.hardware import Hardware, hardware_of
from bcd.runs.planning.plan import planned
from bcd.runs.signals import StopSignals
from bcd.runs.table import print_results
from bcd.runs.testing.run import run_test, settle_refit
from bcd.runs.tracking.trackers import Trackers, tell_again
from bcd.runs.training.callbacks import History, checkpoint_callback
from bcd.runs.training.cost import CostMeter
from bcd.runs.training.pruning import Pruning, write_outcome, write_pruned
from bcd.runs.training.resume import ResumePoint, StepSeed, WholeCheckpoints, kept_of, read_point
from bcd.runs.training.sharing import OneNetwork, SyncBatchNorms, check_sharing
from bcd.runs.training.sweep_job import OUTCOME, read_sweep_job
from bcd.tasks.base import BaseTask

log = logging.getLogger(__name__)

# Warnings while training that tell a user nothing.
_QUIET = (
    "does not have many workers",  # the cache makes loading processes needless where the CPU trains
    "smaller than the logging interval",  # a data set of fewer batches is still logged once an epoch
    "LeafSpec",  # Lightning 2.6 asks torch's trees by a name that torch 2.15 retires
    "your dataloader is not resumable",  # our data module begins again where the run stopped, in another way
    "Checkpoint directory .* exists and is not empty",  # it holds the state to resume from
    "FSDP2-wrapped module .* returned a view",  # nothing changes a shared-out network's output in place
)


def fit_and_test(config: dict[str, Any], folder: Path, signals: StopSignals, resumed: bool) -> dict[str, Any]:
    """Train as a config says, or resume; test; return the content of metrics.json.

    Raises:
        ValueError: for anything in the config or the data that cannot work, before the first step.
        RunStopped: when the run was asked to stop; what it needs to go on is saved.
    """
    quiet_lightning()
    is_job = read_sweep_job(folder) is not None
    if resumed and ((folder / OUTCOME).is_file() if is_job else files.is_finished(folder)):
        log.info("%s is finished; scripts/evaluate.py run= repeats its test.", folder)
        if not is_job:
            tell_again(config, folder)
        return files.read_metrics(folder)
    hardware = hardware_of(config)
    # As the network: what cannot be built is known before the data are read, which may take minutes.
    with Trackers.open(config, folder, resumed) as trackers:
        metrics = _fit_and_test(config, folder, hardware, signals, resumed, trackers)
    trackers.note_told(folder)
    return metrics


def _fit_and_test(
    config: dict[str, Any], folder: Path, hardware: Hardware, signals: StopSignals, resumed: bool, trackers: Trackers
) -> dict[str, Any]:
    task, config, prepared = _task_and_data(config, folder, hardware)
    datamodule = build_datamodule(config, prepared, hardware)
    with _in_turn(config):
        datamodule.setup("fit")
    check_fit(task, datamodule)
    files.write_text(folder / files.SPLIT, prepared.split.to_csv(index=False))
    training = files.read_json(folder / files.TRAINING) if resumed else {}
    if training:
        trackers.begin(config, keep=lambda tag, step: True)
    else:
        training = _train(config, folder, task, datamodule, hardware, signals, resumed, trackers)
    if not training:
        return {}
    job, metrics = read_sweep_job(folder), dict[str, Any]()
    if config["refit"]:
        metrics = settle_refit(config, folder, datamodule, hardware, training)
    elif job is None or job.tests:
        metrics = run_test(config, folder, datamodule, hardware, training, folder)
        print_results(metrics, folder)
    trackers.results(folder, metrics)
    if job is not None:  # after the trackers: with its outcome a job is done, and is not resumed
        write_outcome(job, config, folder, datamodule, hardware, training)
    return metrics


def _task_and_data(config: dict[str, Any], folder: Path, hardware: Hardware) -> tuple[BaseTask, dict[str, Any], Prepared]:
    """Return the task, the config, complete where a plan was asked for, and the data."""
    # Before the data are read, which may take minutes: a network that cannot be built is known at once.
    task = build_task(config, hardware) if config["plan"] is None else None
    if task is not None:
        check_parts(config)
        build_trainer(config, hardware)  # what Lightning refuses, it refuses now
    with _in_turn(config):
        prepared = prepare_data(config)
    if task is None:
        config = planned(config, prepared, hardware, folder)
        files.write_config(folder, config)
        task = build_task(config, hardware)
    return task, config, prepared


def _in_turn(config: Mapping[str, Any]) -> AbstractContextManager[Any]:
    """Let processes that were started together come one after the other: the first makes the data, the others find them made."""
    if started_together() == 1:
        return nullcontext()
    folder = Path(config["output"]) / "prepared"
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / ".turn")


def _train(
    config: dict[str, Any],
    folder: Path,
    task: BaseTask,
    datamodule: UltrasoundDataModule,
    hardware: Hardware,
    signals: StopSignals,
    resumed: bool,
    trackers: Trackers,
) -> dict[str, Any]:
    """Return what there is to say of the training; nothing in the further processes of a distributed one."""
    point = folder / files.CHECKPOINTS / files.LAST
    stopped = read_point(point) if resumed and point.is_file() else None
    if resumed:
        log.info("Going on after step %d.", stopped["global_step"]) if stopped else log.info("No checkpoint yet: starting over.")
    acquaint(task, datamodule, pretrained=config["pretrained"] is not False and stopped is None)
    history = History(folder, task.monitor, task.mode, SYNTHETIC.partition(":")[0] if datamodule.prepared.synthetic else "")
    split = datamodule.prepared.split.to_csv(index=False).encode()
    identity = {  # what must not change between stopping and going on
        "data fingerprint": datamodule.prepared.fingerprint,
        "split": hashlib.sha256(split).hexdigest()[:16],
        "parameters": sum(parameter.numel() for parameter in task.parameters()),
    }
    resume_point = ResumePoint(point, identity, signals)
    meter, job = CostMeter(), read_sweep_job(folder)
    # Before the point to resume from is saved: that then holds the pruner's decision.
    pruning = [Pruning(job)] if job is not None and job.pruner is not None else []
    callbacks = (StepSeed(config["seed"]), *pruning, history, meter, resume_point)
    trainer = build_trainer(config, hardware, *callbacks, loggers=trackers.loggers)
    # A run that starts over, as no checkpoint was reached, keeps nothing of what it has logged.
    trackers.begin(config, kept_of(stopped) if stopped else (lambda tag, step: False) if resumed else None)
    try:
        fit(trainer, task, datamodule, str(point) if stopped is not None else None)
    finally:
        signals.wait = False
    if not trainer.is_global_zero:
        return {}
    history.write()
    if pruning and pruning[0].pruned:
        write_pruned(folder)
        return {}
    training = _training(trainer, task, history, hardware)
    training["cost"] = meter.measured(history.train_seconds, history.images_seen)
    files.write_json(folder / files.TRAINING, training)
    signals.heed()
    return training


def build_trainer(config: Mapping[str, Any], hardware: Hardware, *callbacks: Callback, loggers: Sequence[Logger] = ()) -> Trainer:
    """Return Lightning's Trainer with the config's callbacks.

    Raises:
        ValueError: for settings that do not go together, or not with the hardware.
    """
    sync_batchnorm = bool(config["trainer"].get("sync_batchnorm"))
    if sync_batchnorm and hardware.device != "cuda":
        raise ValueError("trainer.sync_batchnorm=true needs GPUs: torch's synchronised batch norm refuses CPUs. Leave it false.")
    trusted = config.get("trusted", ())
    # Deterministic algorithms would otherwise fill all new memory with NaN, which takes a tenth of the time and is not needed here.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    configured = [build(node, trusted=trusted) for node in config["callbacks"].values()]
    with _refusals_of_lightning():
        trainer: Trainer = build(
            {
                **config["trainer"],
                "precision": hardware.precision,
                "accelerator": "gpu" if hardware.device == "cuda" else "cpu",
                "sync_batchnorm": False,  # the plugin below does it
            },
            trusted=trusted,
            logger=list(loggers) or False,
            callbacks=[*configured, *callbacks, OneNetwork()],
            plugins=[WholeCheckpoints(), *([SyncBatchNorms()] if sync_batchnorm else [])],
            default_root_dir=config["folder"],
        )
    check_sharing(trainer)
    return trainer


@contextmanager
def _refusals_of_lightning() -> Iterator[None]:
    """Raise what Lightning refuses as a ValueError in one sentence, which names the argument of the trainer."""
    try:
        yield
    except MisconfigurationException as error:
        raise ValueError(f"trainer: {' '.join(str(error).split())}") from error


def quiet_lightning() -> None:
    """Send Lightning's warnings to our log only, once; drop its greetings and advertisements."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.setLevel(logging.WARNING)


def fit(trainer: Trainer, task: BaseTask, datamodule: UltrasoundDataModule, point: str | None = None) -> None:
    """Run Lightning's loop, from a saved point if there is one."""
    with warnings.catch_warnings():
        for message in _QUIET:
            warnings.filterwarnings("ignore", message=f".*{message}.*")
        with _refusals_of_lightning():
            trainer.fit(task, datamodule=datamodule, ckpt_path=point, weights_only=True)


def _training(trainer: Trainer, task: BaseTask, history: History, hardware: Hardware) -> dict[str, Any]:
    checkpoint = checkpoint_callback(trainer)
    score = checkpoint.best_model_score if checkpoint is not None else None
    return {
        "train_seconds": round(history.train_seconds, 3),
        "epochs": len(history.rows),
        "images_seen": history.images_seen,
        "steps": trainer.global_step,
        "processes": trainer.world_size,
        "monitor": task.monitor,
        "best_value": float(score) if score is not None and torch.isfinite(score) else None,
        "best_epoch": next(
            (row["epoch"] + 1 for row in history.rows if score is not None and row.get(task.monitor) == float(score)), None
        ),
        "initial_weights": origin(task),
        "parameters": sum(parameter.numel() for parameter in task.parameters()),
        "precision": hardware.precision,
        "memory_format": hardware.memory_format,
        "device": hardware.name,
    }
