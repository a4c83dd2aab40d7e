"""The cost of a training: time, images per second, peak memory, energy.

Energy is what the hardware itself counts, never an estimate: processors through Linux's powercap, NVIDIA GPUs through NVML.
"""

import math
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pynvml
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from bcd.sample import Batch

_PEAKS = ("peak_memory_mib", "peak_gpu_memory_mib")
POWERCAP = Path("/sys/class/powercap")
# Zones that do not hold one another: a package holds its cores, memory is beside it.
_ZONES = ("package", "dram")
_MIB = 1 << 20
# A processor's counter starts over; at 300 W one of 2^32 microjoules does so after 14 s, the usual ones after 10 minutes and more.
_EVERY_S = 5.0


class Meter(Protocol):
    """Counts energy."""

    problem: str | None

    def read(self) -> float | None:
        """Return the joules so far; None where they cannot be read."""


@dataclass
class _Zone:
    path: Path
    range_uj: int
    last_uj: int


class ProcessorEnergy:
    """The energy of the machine's processors, and of its memory where it is counted, since this object was made.

    RAPL counts everything that runs on the machine. A counter starts over after some minutes to hours: read it often.

    Args:
        root: where Linux shows the counters.

    Attributes:
        problem: why there is nothing to read, in words; None where there is.
    """

    def __init__(self, root: Path = POWERCAP) -> None:
        self.problem: str | None = None
        self._zones: list[_Zone] = []
        self._sum_uj = 0
        try:
            self._zones = [
                _Zone(path, int(_text(path / "max_energy_range_uj")), int(_text(path / "energy_uj")))
                for path in sorted(root.glob("intel-rapl:*"))  # AMD's as well
                if _text(path / "name").startswith(_ZONES)
            ]
        except PermissionError:
            self.problem = f"{root}/intel-rapl:*/energy_uj can be read only by the administrator"
        except (OSError, ValueError) as error:
            self.problem = f"{root} cannot be read ({error})"
        if self.problem is None and not self._zones:
            self.problem = f"no counter below {root}"

    def read(self) -> float | None:
        """Return the energy so far in joules; None where it cannot be read."""
        if self.problem is not None:
            return None
        try:
            for zone in self._zones:
                now = int(_text(zone.path / "energy_uj"))
                self._sum_uj += now - zone.last_uj + (zone.range_uj if now < zone.last_uj else 0)
                zone.last_uj = now
        except (OSError, ValueError) as error:
            self.problem = f"a counter cannot be read any more ({error})"
            return None
        return self._sum_uj / 1e6


class GpuEnergy:
    """The energy of NVIDIA GPUs since this object was made, as their driver counts it: everything that ran on them.

    Args:
        uuids: of the GPUs, such as `GPU-1234...`.

    Attributes:
        problem: why there is nothing to read, in words; None where there is.
    """

    def __init__(self, uuids: Sequence[str]) -> None:
        self.problem: str | None = None if uuids else "no NVIDIA GPU was used"
        if self.problem is not None:
            return
        try:
            pynvml.nvmlInit()
            self._handles = [pynvml.nvmlDeviceGetHandleByUUID(uuid) for uuid in uuids]
            self._start_mj = self._counted_mj()
        except pynvml.NVMLError as error:
            self.problem = f"NVML cannot read it ({error})"

    def read(self) -> float | None:
        """Return the energy so far in joules; None where it cannot be read."""
        if self.problem is not None:
            return None
        try:
            return (self._counted_mj() - self._start_mj) / 1e3
        except pynvml.NVMLError as error:
            self.problem = f"NVML cannot read it any more ({error})"
            return None

    def _counted_mj(self) -> int:
        return sum(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) for handle in self._handles)


class CostMeter(Callback):
    """Measures memory and energy from the training's first batch to its last, over all parts of a run that was stopped.

    Args:
        processor: counts the processors' energy; None for this machine's.
        gpu: counts the GPUs' energy; None for those that train.
    """

    def __init__(self, processor: Meter | None = None, gpu: Meter | None = None) -> None:
        self._given = {"processor": processor, "gpu": gpu}
        self._meters: dict[str, Meter] = {}
        # Of the parts before: joules by what used them, None once a part could not read them; and the highest peaks in bytes.
        self._before: dict[str, float | None] = {"processor": 0.0, "gpu": 0.0}
        self._peaks: dict[str, int] = {}
        self._problems: dict[str, str] = {}
        self._read_at = 0.0
        self._started = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count."""
        # Reset the peak: a training must not report that of an earlier one in this process.
        with suppress(OSError):  # on a system that does not do so, the peak is that of the whole process
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        uuids = []
        if trainer.strategy.root_device.type == "cuda":
            uuids = [f"GPU-{torch.cuda.get_device_properties(number).uuid}" for number in trainer.device_ids]
            torch.cuda.reset_peak_memory_stats()
        self._meters = {
            "processor": self._given["processor"] or ProcessorEnergy(),
            "gpu": self._given["gpu"] or GpuEnergy(uuids),
        }
        self._started = True

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Read the counters now and then, before they start over."""
        now = time.monotonic()
        if now - self._read_at > _EVERY_S:
            self._read_at = now
            for meter in self._meters.values():
                meter.read()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the last reading: what comes after, such as the test, is not the training's."""
        self._before, self._peaks = self._energy(), self._highest()
        self._meters, self._started = {}, False

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a resumed run."""
        return {"joules": self._energy(), "peaks": self._highest(), "problems": self._problems}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from where a run was stopped."""
        self._before, self._peaks = dict(state_dict["joules"]), dict(state_dict["peaks"])
        self._problems = dict(state_dict["problems"])

    def measured(self, seconds: float, images: int) -> dict[str, Any]:
        """Return the cost of the training, as in training.json."""
        peaks, joules = self._highest(), self._energy()
        return {
            "train_seconds": round(seconds, 3),
            "images_per_second": round(images / seconds, 2) if seconds > 0 else None,
            "peak_memory_mib": _mib(peaks.get("memory")),
            "peak_gpu_memory_mib": _mib(peaks.get("gpu")),
            "energy_j": {name: None if value is None else round(value, 1) for name, value in joules.items()},
            "energy_not_readable": {name: self._problems[name] for name, value in joules.items() if value is None},
        }

    def _energy(self) -> dict[str, float | None]:
        joules = dict(self._before)
        for name, meter in self._meters.items():
            read, before = meter.read(), self._before.get(name)
            if read is None:
                self._problems.setdefault(name, meter.problem or "it cannot be read")
            joules[name] = None if read is None or before is None else before + read
        return joules

    def _highest(self) -> dict[str, int]:
        if not self._started:
            return dict(self._peaks)
        now = {"memory": peak_memory()}
        if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
            now["gpu"] = torch.cuda.max_memory_allocated()
        return {name: max(self._peaks.get(name, 0), now.get(name, 0)) for name in {*self._peaks, *now}}


def joined(costs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the cost of several runs together: sums of time and energy, the highest peaks; empty if any is not known."""
    if not costs or not all("train_seconds" in cost for cost in costs):
        return {}
    energies = {name: [cost["energy_j"][name] for cost in costs] for name in costs[0]["energy_j"]}
    return {
        **_together(costs, "train_seconds", "images_per_second"),
        **_together(costs, "test_seconds", "test_images_per_second"),
        **{name: max((cost[name] for cost in costs if cost[name] is not None), default=None) for name in _PEAKS},
        "energy_j": {name: None if None in values else round(sum(values), 1) for name, values in energies.items()},
        "energy_not_readable": {name: why for cost in costs for name, why in cost["energy_not_readable"].items()},
    }


def _together(costs: Sequence[Mapping[str, Any]], time_name: str, rate_name: str) -> dict[str, Any]:
    seconds, rates = [cost.get(time_name) for cost in costs], [cost.get(rate_name) for cost in costs]
    if None in seconds or None in rates:
        return {}
    total = math.fsum(seconds)  # type: ignore[arg-type]
    images = math.fsum(rate * second for rate, second in zip(rates, seconds, strict=True))  # type: ignore[operator]
    return {time_name: round(total, 3), rate_name: round(images / total, 2) if total > 0 else None}


def peak_memory() -> int:
    """Return the most memory in bytes that this process has had resident, since the peak was last forgotten where that can be."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def _mib(count: int | None) -> float | None:
    return None if count is None else round(count / _MIB, 1)


def _text(path: Path) -> str:
    return path.read_text(encoding="ascii").strip()
