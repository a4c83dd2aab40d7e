"""Energy as the hardware itself counts it: processors through Linux's powercap, NVIDIA GPUs through NVML. Never an estimate."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

POWERCAP = Path("/sys/class/powercap")
NVML = "libnvidia-ml.so.1"
# Zones that do not hold one another: a package holds its cores, memory is beside it.
_ZONES = ("package", "dram")


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
                _Zone(path, int(_line(path / "max_energy_range_uj")), int(_line(path / "energy_uj")))
                for path in sorted(root.glob("intel-rapl:*"))  # AMD's as well
                if _line(path / "name").startswith(_ZONES)
            ]
        except PermissionError:
            self.problem = f"{root}/intel-rapl:*/energy_uj may be read by the administrator alone"
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
                now = int(_line(zone.path / "energy_uj"))
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
        library: NVML; None loads the driver's.

    Attributes:
        problem: why there is nothing to read, in words; None where there is.
    """

    def __init__(self, uuids: Sequence[str], library: Any = None) -> None:
        self.problem: str | None = None if uuids else "no NVIDIA GPU was used"
        self._handles: list[ctypes.c_void_p] = []
        self._start_mj = 0
        if self.problem is not None:
            return
        try:
            self._nvml = ctypes.CDLL(NVML) if library is None else library
            self._call("nvmlInit_v2")
            for uuid in uuids:
                handle = ctypes.c_void_p()
                self._call("nvmlDeviceGetHandleByUUID", uuid.encode(), ctypes.byref(handle))
                self._handles.append(handle)
            self._start_mj = self._counted_mj()
        except OSError as error:
            self.problem = f"NVML does not tell ({error})"

    def read(self) -> float | None:
        """Return the energy so far in joules; None where it cannot be read."""
        if self.problem is not None:
            return None
        try:
            return (self._counted_mj() - self._start_mj) / 1e3
        except OSError as error:
            self.problem = f"NVML does not tell any more ({error})"
            return None

    def _counted_mj(self) -> int:
        total = 0
        for handle in self._handles:
            counted = ctypes.c_ulonglong()
            self._call("nvmlDeviceGetTotalEnergyConsumption", handle, ctypes.byref(counted))
            total += counted.value
        return total

    def _call(self, name: str, *arguments: Any) -> None:
        try:
            status = getattr(self._nvml, name)(*arguments)
        except AttributeError as error:
            raise OSError(f"this driver has no {name}") from error
        if status != 0:
            raise OSError(f"{name} answers {status}")


def _line(path: Path) -> str:
    return path.read_text(encoding="ascii").strip()
