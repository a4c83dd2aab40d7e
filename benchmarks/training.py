"""Training throughput as ratios, measured side by side in one go: machines are shared, and seconds alone say little."""

import logging
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import albumentations
import cv2
import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.table import Table
from torch.optim import Optimizer

from bcd.config import compose
from bcd.config.build import build
from bcd.data.datamodule import UltrasoundDataModule
from bcd.runs.assemble import build_datamodule, build_task, prepare_data
from bcd.runs.hardware import Hardware, choose
from bcd.runs.training.fit import quiet_lightning
from bcd.sample import Batch
from bcd.tasks.base import BaseTask

log = logging.getLogger(__name__)


class _Clock(Callback):
    """Times the steps after the first two, which still warm up."""

    def __init__(self) -> None:
        self.started = 0.0
        self.images = 0
        self.seconds = 0.0

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int) -> None:
        now = time.perf_counter()
        if trainer.global_step == 2:
            self.started = now
        elif trainer.global_step > 2:
            self.images += len(batch["case_id"])
            self.seconds = now - self.started


def bench(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Print, for each network, images/s of a run, of a plain loop and of the bare step, and the ratios; return the rows.

    Args:
        config: `networks` (options of the model group), `steps` a round, `rounds`, `output`.
    """
    quiet_lightning()
    rows = [_measure(network, config["steps"], config["rounds"], Path(config["output"])) for network in config["networks"]]
    table = Table(title="Training throughput, images/s (median over the rounds), and ratios (median of the rounds' own)")
    for column in ("network", "bcd", "plain loop", "bare step", "bcd / plain", "bcd / bare"):
        table.add_column(column, justify="left" if column == "network" else "right")
    for row in rows:
        speeds = [f"{row[name]:.1f}" for name in ("bcd", "plain", "bare")]
        table.add_row(row["network"], *speeds, f"{row['over_plain']:.2f} (goal 2)", f"{row['over_bare']:.2f} (goal 0.9)")
    Console(soft_wrap=True).print(table)
    return rows


def _measure(network: str, steps: int, rounds: int, output: Path) -> dict[str, Any]:
    run = compose("train", [f"model={network}", f"output={output}", "logger=none"])
    hardware = choose("auto", "auto", "auto", "auto")
    datamodule = build_datamodule(run, prepare_data(run), hardware)
    datamodule.setup("fit")
    ways: dict[str, Callable[[], float]] = {
        "bcd": lambda: _ours(run, hardware, datamodule, steps),
        "plain": lambda: _plain(run, hardware, datamodule, steps),
        "bare": lambda: _bare(run, hardware, datamodule, steps),
    }
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        # Each round begins with another way, so that a machine that slows down wrongs none of them.
        for name in list(islice(cycle(ways), number % 3, number % 3 + 3)):
            speeds[name].append(ways[name]())
        log.info(
            "%s, round %d of %d: %s images/s.", network, number + 1, rounds, {name: round(s[-1], 1) for name, s in speeds.items()}
        )
    ratio = {name: statistics.median(a / b for a, b in zip(speeds["bcd"], speeds[name], strict=True)) for name in ("plain", "bare")}
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    return {"network": network, **medians, "over_plain": ratio["plain"], "over_bare": ratio["bare"]}


def _ours(run: dict[str, Any], hardware: Hardware, datamodule: UltrasoundDataModule, steps: int) -> float:
    clock = _Clock()
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # as build_trainer does
    trainer = build(
        {
            **run["trainer"],
            "precision": hardware.precision,
            "max_epochs": steps + 2,
            "enable_progress_bar": False,
            "limit_val_batches": 0,
        },
        max_steps=steps + 2,
        logger=False,
        enable_checkpointing=False,
        callbacks=[clock],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Lightning's advice none concerns a measurement
        trainer.fit(build_task(run, hardware), datamodule=datamodule)
    return clock.images / clock.seconds


def _plain(run: dict[str, Any], hardware: Hardware, datamodule: UltrasoundDataModule, steps: int) -> float:
    """Measure what a plain script does: float32, files decoded, resized and augmented in the main process."""
    task = build_task(run, Hardware(hardware.device, hardware.name, "32-true", "contiguous", 0)).to(hardware.device)
    transforms = [build(node) for node in run["augmentation"]["transforms"]]
    compose_all = albumentations.Compose([albumentations.Resize(run["preprocess"]["size"], run["preprocess"]["size"]), *transforms])
    labels = {name: number for number, name in enumerate(run["data"]["classes"])}

    def batches() -> Iterator[Batch]:
        source = cycle(datamodule.cases["train"])
        while True:
            cases = list(islice(source, run["batch_size"]))
            images, masks = [], []
            for case in cases:
                image = np.asarray(cv2.imread(str(case.image), cv2.IMREAD_GRAYSCALE))
                mask = np.asarray(cv2.imread(str(case.masks[0]), cv2.IMREAD_GRAYSCALE)) if case.masks else np.zeros_like(image)
                altered = compose_all(image=image, mask=(mask > 0).astype(np.uint8))
                images.append(torch.from_numpy(altered["image"]).float()[None] / 127.5 - 1)
                masks.append(torch.from_numpy(altered["mask"]).float()[None])
            label = torch.tensor([labels[case.label or ""] for case in cases])
            mask_batch = torch.stack(masks)
            sizes = torch.zeros(len(cases), 2, dtype=torch.int64)
            yield Batch(
                image=torch.stack(images),
                mask=mask_batch,
                guide=mask_batch,
                label=label,
                native_size=sizes,
                case_id=[case.case_id for case in cases],
            )

    return _loop(task, task.optimizer(task.parameters()), batches(), steps, autocast=None)


def _bare(run: dict[str, Any], hardware: Hardware, datamodule: UltrasoundDataModule, steps: int) -> float:
    """Measure the step alone: one batch that lies in memory, the run's precision and memory format."""
    task = build_task(run, hardware).to(hardware.device)
    batch = next(iter(datamodule.train_dataloader()))
    autocast = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(hardware.precision)
    return _loop(task, task.make_optimizer(), cycle([batch]), steps, autocast=autocast)


def _loop(task: BaseTask, optimizer: Optimizer, batches: Iterator[Batch], steps: int, autocast: torch.dtype | None) -> float:
    """Return images/s of loading, forward, loss, backward and optimizer step, after two steps that warm up."""
    torch.use_deterministic_algorithms(False)  # the run before may have switched them on; a plain loop has them off
    device = task.device
    task.train()
    images, started = 0, 0.0
    for number, batch in enumerate(islice(batches, steps + 2)):
        if number == 2:
            images, started = 0, time.perf_counter()
        inputs = {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in batch.items()}
        with torch.autocast(device.type, dtype=autocast or torch.bfloat16, enabled=autocast is not None):
            logits = task.model(inputs["image"])
            loss = task.loss(logits.float(), inputs["label"] if logits.ndim == 2 else inputs["mask"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        images += len(batch["case_id"])
    return images / (time.perf_counter() - started)
