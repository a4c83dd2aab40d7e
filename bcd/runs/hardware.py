"""Precision, memory format and loading for the hardware; and the provenance of a result: code, libraries, hardware."""

import datetime
import importlib.metadata
import logging
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import bcd

log = logging.getLogger(__name__)

_LIBRARIES = (
    *("torch", "torchvision", "lightning", "segmentation-models-pytorch", "timm", "torchmetrics", "albumentations"),
    *("numpy", "scikit-learn", "opencv-python-headless", "hydra-core"),
)


@dataclass(frozen=True)
class Hardware:
    """What a run computes with.

    Args:
        device: such as `cpu` or `cuda`.
        name: of the processor or card.
        precision: Lightning's name: `bf16-mixed`, `16-mixed` or `32-true`.
        memory_format: `channels_last` or `contiguous`.
        num_workers: processes that load.
    """

    device: str
    name: str
    precision: str
    memory_format: str
    num_workers: int


def choose(accelerator: str, precision: str, memory_format: str, num_workers: int | str) -> Hardware:
    """Return what to use; each `auto` is decided by the hardware and logged.

    Raises:
        ValueError: for a GPU that is not there.
    """
    if accelerator in ("gpu", "cuda") and not torch.cuda.is_available():
        raise ValueError(f"trainer.accelerator={accelerator}: torch finds no CUDA GPU here. Use trainer=default, or trainer=cpu.")
    device = "cuda" if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available() else "cpu"
    if device == "cuda":
        best = "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    else:  # emulated bfloat16 is slower than float32: only processors that compute in it gain
        can = torch.cpu.get_capabilities()
        native = can.get("avx512_bf16") or can.get("amx_bf16") or can.get("bf16")
        best = "bf16-mixed" if native else "32-true"
    chosen = Hardware(
        device=device,
        name=torch.cuda.get_device_name() if device == "cuda" else _processor(),
        precision=best if precision == "auto" else str(precision),
        # Convolutions are faster with the channels last, on a CPU as on a GPU.
        memory_format="channels_last" if memory_format == "auto" else memory_format,
        # Where the CPU trains, workers take the cores that it trains on; the cache makes them needless.
        num_workers=int(num_workers) if num_workers != "auto" else 0 if device == "cpu" else min(8, os.cpu_count() or 1),
    )
    log.info(
        "Hardware: %s (%s); precision %s, memory format %s, %d loading processes%s.",
        chosen.device,
        chosen.name,
        chosen.precision,
        chosen.memory_format,
        chosen.num_workers,
        " (trainer.precision=, memory_format=, num_workers= override)" if "auto" in (precision, memory_format, num_workers) else "",
    )
    return chosen


def hardware_of(config: Mapping[str, Any], to_test: bool = False) -> Hardware:
    """Return what a run's config asks for; to test, float32, and no GPU where there is none, for any training hardware."""
    trainer, rest = config["trainer"], (config["memory_format"], config["num_workers"])
    if to_test:
        return choose("cpu" if trainer["accelerator"] == "cpu" else "auto", "32-true", *rest)
    return choose(trainer["accelerator"], trainer["precision"], *rest)


def provenance() -> dict[str, Any]:
    """Return versions, commit, hardware, command and time, as plain values."""
    cards = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return {
        "bcd": bcd.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "libraries": {name: _version(name) for name in _LIBRARIES},
        "hardware": {"processor": _processor(), "cores": os.cpu_count(), "threads": torch.get_num_threads(), "gpus": cards},
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:  # the same module may come from a package of another name
        return None


def _commit() -> str | None:
    """Return the commit of a checkout, marked where files were changed; None for an installed package."""
    root = Path(bcd.__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        commit, changed = (
            subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain"])
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{commit}{' with uncommitted changes' if changed else ''}"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 - a kernel's file, not ours
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
