"""Train a model, test its best checkpoint, and leave one folder that holds everything that made the numbers."""

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningDataModule, Trainer, seed_everything
from lightning.pytorch.loggers import Logger, WandbLogger

from bcd.build import build
from bcd.runs import files
from bcd.runs.assemble import SYNTHETIC, build_datamodule, check_fit, prepare_data, run_config, with_absolute_paths
from bcd.runs.callbacks import History, checkpoint_callback
from bcd.runs.evaluate import run_test
from bcd.runs.hardware import Hardware, choose
from bcd.runs.table import print_results
from bcd.tasks.base import BaseTask
from bcd.tasks.batch_norm import estimate_batch_norm

log = logging.getLogger(__name__)


def train(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Train and test as a config says; return the content of metrics.json.

    Args:
        config: resolved, plain, as `conf/train.yaml` composes it.
        folder: the run's own.

    Raises:
        ValueError: for anything in the config or the data that cannot work, before the first step.
    """
    quiet_lightning()
    if any((folder / files.CHECKPOINTS).glob("*.ckpt")):
        raise files.RunError(f"{folder} holds a run already; choose another hydra.run.dir, or delete it.")
    folder.mkdir(parents=True, exist_ok=True)
    config = with_absolute_paths(config)
    files.write_config(folder, config)
    hardware = choose(
        config["trainer"]["accelerator"], config["trainer"]["precision"], config["memory_format"], config["num_workers"]
    )
    seed_everything(config["seed"], workers=True, verbose=False)
    task = build_task(config, hardware)
    prepared = prepare_data(config)
    datamodule = build_datamodule(config, prepared, hardware)
    datamodule.setup("fit")
    check_fit(task, datamodule)
    task.run_config["learned_from"] = datamodule.learned_from()
    files.write_text(folder / files.SPLIT, prepared.split.to_csv(index=False))
    if config["pretrained"] is not False:
        layers = estimate_batch_norm(task, datamodule.train_dataloader())
        log.info("Estimated the statistics of %d batch norms on training images.", layers)
    history = History(folder, task.monitor, task.mode, SYNTHETIC.partition(":")[0] if prepared.synthetic else "")
    trainer = build_trainer(config, hardware, history)
    try:
        _fit(trainer, task, datamodule)
    finally:
        _close(trainer)
    metrics = run_test(config, folder, datamodule, hardware, _training(trainer, task, history, hardware), folder)
    print_results(metrics, folder)
    return metrics


def build_task(config: Mapping[str, Any], hardware: Hardware) -> BaseTask:
    """Return the task of a config, with its network in the hardware's memory format."""
    task: BaseTask = build(config["task"], trusted=config.get("trusted", ()))
    task.run_config = run_config(config)
    if hardware.memory_format == "channels_last":
        task.model.to(memory_format=torch.channels_last)
    log.info("Network: %.1f M parameters, from %s.", sum(p.numel() for p in task.parameters()) / 1e6, origin(task))
    return task


def build_trainer(config: Mapping[str, Any], hardware: Hardware, *callbacks: Callback) -> Trainer:
    """Return Lightning's Trainer with the config's callbacks and loggers."""
    trusted = config.get("trusted", ())
    # Deterministic algorithms would else overwrite all fresh memory with NaN, a tenth of the time, to no end here.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    loggers: list[Logger] = [build(node, trusted=trusted) for node in config["logger"].values()]
    configured = [build(node, trusted=trusted) for node in config["callbacks"].values()]
    trainer: Trainer = build(
        {**config["trainer"], "precision": hardware.precision, "accelerator": "gpu" if hardware.device == "cuda" else "cpu"},
        trusted=trusted,
        logger=loggers or False,
        callbacks=[*configured, *callbacks],
        default_root_dir=config["folder"],
        enable_checkpointing=any(type(callback).__name__ == "ModelCheckpoint" for callback in configured),
    )
    return trainer


def origin(task: BaseTask) -> str:
    """Return where a network's first weights come from, in words."""
    return str(getattr(task.model, "origin", "random weights"))


def quiet_lightning() -> None:
    """Let Lightning's warnings through our log alone, once; its greetings and advertisements not at all."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.setLevel(logging.WARNING)


def _fit(trainer: Trainer, task: BaseTask, datamodule: LightningDataModule) -> None:
    with warnings.catch_warnings():
        # The cache makes loading processes needless where the CPU trains; see bcd.runs.hardware.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        # A data set of fewer batches than that is still logged once an epoch.
        warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")
        # Lightning 2.6 still asks torch's trees by a name that torch 2.15 retires.
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")
        trainer.fit(task, datamodule=datamodule)
    if trainer.interrupted:
        raise KeyboardInterrupt


def _close(trainer: Trainer) -> None:
    """End the dashboards' own run: a sweep's next job would else go on in it."""
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.finish()


def _training(trainer: Trainer, task: BaseTask, history: History, hardware: Hardware) -> dict[str, Any]:
    checkpoint = checkpoint_callback(trainer)
    score = checkpoint.best_model_score if checkpoint is not None else None
    return {
        "train_seconds": round(history.train_seconds, 3),
        "epochs": len(history.rows),
        "images_seen": history.images_seen,
        "steps": trainer.global_step,
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
