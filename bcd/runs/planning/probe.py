"""Measuring a setting before a run is planned: real training steps on a few real cases, their time and their memory."""

import gc
import statistics
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from bcd.config.build import build
from bcd.data.cache import Cache, Fitted, Stream
from bcd.data.datamodule import UltrasoundDataModule
from bcd.data.dataset import CaseDataset, collate
from bcd.data.manifest import read_case
from bcd.data.selection import spread
from bcd.preprocess import Preprocess
from bcd.runs.assemble import build_task, check_fit
from bcd.runs.hardware import Hardware
from bcd.sample import Batch, shrink
from bcd.tasks.base import BaseTask

# Cases that a batch is made of; a larger batch repeats them.
_CASES = 16
# Steps before the clock counts, and how long, and how often at most, it does.
_WARM_UP = 2
_SECONDS = 1.5
_SECONDS_OF_LOADING = 0.3
_MOST_STEPS = 20
# A setting this slow is known after a single step that counts, in seconds.
_LONG = 10
# Two batches of different size tell what an image takes from what the network takes.
_SMALL, _LARGE = 2, 4
# Where memory is counted from the tensors that autograd keeps: gradients and scratch come on top of them.
_TRANSIENT = 1.2
# Weights, gradients, and the optimizer's two averages.
_COPIES = 4

_AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


@dataclass(frozen=True)
class Footprint:
    """Memory that training takes, in bytes.

    Args:
        fixed: for any batch size.
        per_image: on top, for each image of a batch.
    """

    fixed: float
    per_image: float

    def of(self, batch_size: int) -> float:
        """Return the bytes that a batch takes."""
        return self.fixed + batch_size * self.per_image


@dataclass(frozen=True)
class Pace:
    """Time that one process takes for an image, in seconds.

    Args:
        train: loading, forward, backward, and its share of the optimizer's step.
        valid: loading and forward.
    """

    train: float
    valid: float


class Probe(Protocol):
    """Measures the cost of settings; a plan depends on nothing else, so it can be repeated from the saved measurements."""

    def free_memory(self) -> float:
        """Return the bytes that a run may take."""
        ...

    def footprint(self, config: Mapping[str, Any]) -> Footprint:
        """Return the memory that a setting takes."""
        ...

    def pace(self, config: Mapping[str, Any], batch_size: int, side: int | None = None) -> Pace:
        """Return the time that a setting takes, a batch of so many images in each process, optionally trained on smaller ones."""
        ...

    def seconds(self) -> float:
        """Return how long the probe has been at work."""
        ...


class StepProbe:
    """Takes training steps: the run's own task, augmentation, precision and memory format, on some of its training cases."""

    def __init__(self, datamodule: UltrasoundDataModule, hardware: Hardware) -> None:
        self.datamodule = datamodule
        self.hardware = hardware
        self._cases = spread(datamodule.cases["train"], _CASES)
        self._read = [read_case(case, datamodule.prepared.max_pixels) for case in self._cases]
        self._built: tuple[Mapping[str, Any], BaseTask] | None = None
        self._started = time.perf_counter()

    def free_memory(self) -> float:
        """Return the bytes that are free on the device: of the card, or of the machine and the container around us."""
        if self.hardware.device == "cuda":
            return float(torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() - torch.cuda.memory_allocated())
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        of_machine = next((float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
        if of_machine is None:
            raise RuntimeError("/proc/meminfo does not say how much memory is free; give batch_size= and preprocess.size=.")
        return min(of_machine, _memory_of_container())

    def footprint(self, config: Mapping[str, Any]) -> Footprint:
        """Return the memory that a setting takes, from a step with two images and one with four.

        On a GPU it is the allocator's peak; on a CPU what autograd keeps for the backward pass, gradients and scratch added.
        """
        task = self._task(config)
        measure = self._peak if self.hardware.device == "cuda" else self._kept
        with _as_trained(config):
            small, large = (measure(task, self._batch(config, size)) for size in (_SMALL, _LARGE))
        per_image = max((large - small) / (_LARGE - _SMALL), 1.0)
        return Footprint(max(small - _SMALL * per_image, 0.0), per_image)

    def pace(self, config: Mapping[str, Any], batch_size: int, side: int | None = None) -> Pace:
        """Return the time that a setting takes for an image: medians over a few steps, after two that warm up.

        Args:
            config: of the run.
            batch_size: of each process.
            side: images are made that small before a training step, in pixels; None leaves them as they are.
        """
        task = self._task(config)
        optimizer = task.make_optimizer()
        fitted = self._fitted(config)
        loading = {}  # seconds that reading and augmenting an image take
        for learns in (True, False):
            dataset = self._dataset(config, fitted, learns)
            load = partial(self._collated, dataset, batch_size)
            loading[learns] = self._median(load, _SECONDS_OF_LOADING) / batch_size
        batch = self._batch(config, batch_size, fitted)
        with _as_trained(config):
            valid = self._median(lambda: self._validate(task, batch)) / batch_size
            if side is not None and side < batch["image"].shape[-1]:
                shrink(batch, side)
            train = self._median(lambda: self._step(task, batch, optimizer)) / batch_size
        workers = self.hardware.num_workers
        if workers == 0:
            return Pace(train + loading[True], valid + loading[False])
        return Pace(max(train, loading[True] / workers), max(valid, loading[False] / workers))

    def seconds(self) -> float:
        """Return how long the probe has been at work."""
        return time.perf_counter() - self._started

    def _task(self, config: Mapping[str, Any]) -> BaseTask:
        """Return the task of a config, built once for its memory and its time."""
        if self._built is None or self._built[0] is not config:
            self._built = None
            gc.collect()  # a task refers to itself: without this, the one before would count
            if self.hardware.device == "cuda":
                torch.cuda.empty_cache()
            task = build_task(config, self.hardware).to(self.hardware.device)
            check_fit(task, self.datamodule)
            for loss in task.modules():
                count = getattr(loss, "set_class_counts", None)
                if callable(count):
                    count(self.datamodule.class_counts())
            self._built = (config, task.train())
        return self._built[1]

    def _fitted(self, config: Mapping[str, Any]) -> Fitted:
        """Return the cases as the run reads them: fitted before, or, if they are streamed, each time again."""
        preprocess: Preprocess = build(config["preprocess"], trusted=config.get("trusted", ()))
        prepared = self.datamodule.prepared
        if prepared.streaming is not None:
            return Stream(prepared.cases, preprocess, prepared.streaming.sizes, prepared.max_pixels)
        case_ids = [case.case_id for case in self._cases]
        return Cache(
            images=np.stack([preprocess.fit_image(image) for image, _ in self._read]),
            masks=np.stack([preprocess.fit_mask(mask) for _, mask in self._read]),
            native_sizes=np.array([image.shape for image, _ in self._read], dtype=np.int64),
            index={case_id: row for row, case_id in enumerate(case_ids)},
        )

    def _batch(self, config: Mapping[str, Any], batch_size: int, fitted: Fitted | None = None) -> Batch:
        batch = self._collated(self._dataset(config, fitted or self._fitted(config), learns=True), batch_size)
        moved = {name: value.to(self.hardware.device) if isinstance(value, Tensor) else value for name, value in batch.items()}
        return Batch(**moved)  # type: ignore[typeddict-item]

    def _collated(self, dataset: CaseDataset, batch_size: int) -> Batch:
        return collate([dataset[number // len(dataset), number % len(dataset)] for number in range(batch_size)])

    def _dataset(self, config: Mapping[str, Any], fitted: Fitted, learns: bool) -> CaseDataset:
        classes, trusted = self.datamodule.selection.classes, config.get("trusted", ())
        return CaseDataset(
            case_ids=[case.case_id for case in self._cases],
            labels=[classes.index(case.label) if case.label is not None else -1 for case in self._cases],
            cache=fitted,
            guides=None,
            perturbation=None,
            preprocess=build(config["preprocess"], trusted=trusted),
            augmentation=build(config["augmentation"], trusted=trusted) if learns else None,
            seed=config["seed"],
        )

    def _loss(self, task: BaseTask, batch: Batch, learns: bool) -> Tensor:
        dtype = _AUTOCAST.get(self.hardware.precision)
        with torch.autocast(self.hardware.device, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
            if learns:
                return task.learn(batch, task.metrics["train_metrics"])  # type: ignore[arg-type]
            return task.step(batch, task.metrics["val_metrics"])  # type: ignore[arg-type]

    def _step(self, task: BaseTask, batch: Batch, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        self._loss(task, batch, learns=True).backward()
        nn.utils.clip_grad_norm_(task.parameters(), 1.0)
        optimizer.step()

    @torch.no_grad()
    def _validate(self, task: BaseTask, batch: Batch) -> None:
        self._loss(task.eval(), batch, learns=False)
        task.train()

    def _median(self, act: Any, enough: float = _SECONDS) -> float:
        """Return the median duration of an action in seconds, from repetitions that take long enough together."""
        durations: list[float] = []
        while len(durations) < _WARM_UP + _MOST_STEPS:
            started = self._now()
            act()
            durations.append(self._now() - started)
            counted = durations[_WARM_UP:]
            if (len(counted) >= 3 and sum(counted) >= enough) or (len(durations) >= 2 and sum(durations) >= _LONG):
                break
        return statistics.median(durations[_WARM_UP:] or durations[1:])

    def _now(self) -> float:
        if self.hardware.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def _peak(self, task: BaseTask, batch: Batch) -> float:
        optimizer = task.make_optimizer()
        self._step(task, batch, optimizer)
        torch.cuda.reset_peak_memory_stats()
        self._step(task, batch, optimizer)
        return float(torch.cuda.max_memory_allocated())

    def _kept(self, task: BaseTask, batch: Batch) -> float:
        """Return what the weights and the tensors kept for the backward pass take, each storage counted once."""
        weights = sum(tensor.nbytes for tensor in (*task.parameters(), *task.buffers()))
        known = {tensor.untyped_storage().data_ptr() for tensor in (*task.parameters(), *task.buffers())}
        kept: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in known:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            loss = self._loss(task, batch, learns=True)
        loss.backward()
        task.zero_grad()
        return _COPIES * weights + _TRANSIENT * sum(kept.values())


@contextmanager
def _as_trained(config: Mapping[str, Any]) -> Iterator[None]:
    """Choose deterministic algorithms like the run's trainer, because their speed differs; then restore the setting."""
    before, warn_before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    wanted = config["trainer"]["deterministic"]
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # as the run's trainer has it
    torch.use_deterministic_algorithms(bool(wanted), warn_only=wanted == "warn")
    try:
        with warnings.catch_warnings():
            # The run itself also logs this once.
            warnings.filterwarnings("ignore", message=".*does not have a deterministic implementation.*")
            yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_before)


def _memory_of_container(root: Path = Path("/sys/fs/cgroup")) -> float:
    """Return what the container's limit leaves, in bytes; infinite where there is no limit."""
    for limit, usage, parts in (
        ("memory.max", "memory.current", "memory.stat"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
    ):
        try:
            most, used = (root / limit).read_text().strip(), float((root / usage).read_text())
            lines = [line.split() for line in (root / parts).read_text().splitlines()]
        except OSError:
            continue
        # Files that the system keeps in memory count as used, and are given up when the memory is asked for.
        files = sum(float(value) for name, value in lines if name in ("active_file", "inactive_file"))
        return float("inf") if most == "max" else max(float(most) - used + files, 0.0)
    return float("inf")
