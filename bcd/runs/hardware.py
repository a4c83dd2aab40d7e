"""Precision, memory format and loading for the hardware that is found."""

import logging
import os
import platform
from dataclasses import dataclass
from typing import Any

import torch

log = logging.getLogger(__name__)


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
    """Return what to use; each `auto` is decided by the hardware and said in the log.

    Raises:
        ValueError: for a memory format, number of workers or accelerator that does not exist, or a GPU that is not there.
    """
    if memory_format not in ("auto", "channels_last", "contiguous"):
        raise ValueError(f"memory_format={memory_format}: choose auto, channels_last or contiguous.")
    if num_workers != "auto" and not (isinstance(num_workers, int) and num_workers >= 0):
        raise ValueError(f"num_workers={num_workers}: choose auto or a number from 0.")
    if accelerator not in ("auto", "cpu", "gpu", "cuda"):
        raise ValueError(f"trainer.accelerator={accelerator}: choose auto, cpu or gpu.")
    if accelerator in ("gpu", "cuda") and not torch.cuda.is_available():
        raise ValueError(f"trainer.accelerator={accelerator}: torch finds no CUDA GPU here. Use trainer=default, or trainer=cpu.")
    device = "cuda" if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available() else "cpu"
    chosen = Hardware(
        device=device,
        name=torch.cuda.get_device_name() if device == "cuda" else _processor(),
        precision=_precision(device) if precision == "auto" else str(precision),
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


def describe() -> dict[str, Any]:
    """Return the hardware in words, for a result file."""
    cards = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return {"processor": _processor(), "cores": os.cpu_count(), "threads": torch.get_num_threads(), "gpus": cards}


def _precision(device: str) -> str:
    if device == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    # Emulated bfloat16 is slower than float32: only processors that compute in it gain.
    capabilities = torch.cpu.get_capabilities()
    native = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16")
    return "bf16-mixed" if native else "32-true"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 - a kernel's file, not ours
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
