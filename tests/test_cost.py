"""What a run says of its cost: measured, or not said."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
import torch
from fake_results import fake_cases, fake_metrics, fake_test

from bcd.reports.run import read_results, report_page
from bcd.runs.training.cost import CostMeter, GpuEnergy, ProcessorEnergy, joined, peak_memory


def _zone(root: Path, name: str, zone: str, energy_uj: int, range_uj: int = 1_000_000) -> Path:
    folder = root / zone
    folder.mkdir(parents=True)
    for file, content in {"name": name, "energy_uj": energy_uj, "max_energy_range_uj": range_uj}.items():
        (folder / file).write_text(f"{content}\n")
    return folder / "energy_uj"


def test_processor_energy_is_the_sum_of_packages_and_memory_and_counters_may_start_over(tmp_path: Path) -> None:
    first = _zone(tmp_path, "package-0", "intel-rapl:0", 900_000)
    second = _zone(tmp_path, "package-1", "intel-rapl:1", 100)
    memory = _zone(tmp_path, "dram", "intel-rapl:0:2", 0)
    cores = _zone(tmp_path, "core", "intel-rapl:0:0", 0)
    meter = ProcessorEnergy(tmp_path)
    assert meter.problem is None
    for path, value in ((first, 950_000), (second, 200_100), (memory, 50_000), (cores, 999_999)):
        path.write_text(str(value))
    assert meter.read() == pytest.approx(0.3)
    first.write_text("100000")  # 50,000 to the end of its range, and 100,000 more
    assert meter.read() == pytest.approx(0.45)
    first.unlink()
    assert meter.read() is None
    assert "cannot be read any more" in str(meter.problem)


def test_what_cannot_be_read_is_said_and_not_guessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = ProcessorEnergy(tmp_path / "absent")
    assert (nothing.read(), nothing.problem) == (None, f"no counter below {tmp_path / 'absent'}")
    _zone(tmp_path, "package-0", "intel-rapl:0", 0)

    def refuse(path: Path) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("bcd.runs.training.cost._text", refuse)
    meter = ProcessorEnergy(tmp_path)
    assert meter.read() is None
    assert "only by the administrator" in str(meter.problem)


def test_gpu_energy_is_the_difference_of_the_drivers_counters(monkeypatch: pytest.MonkeyPatch) -> None:
    counted_mj = {"GPU-a": 1_000, "GPU-b": 5_000}
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", lambda uuid: uuid)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetTotalEnergyConsumption", lambda uuid: counted_mj[uuid])
    meter = GpuEnergy(["GPU-a", "GPU-b"])
    counted_mj.update({"GPU-a": 3_500, "GPU-b": 5_500})
    assert meter.read() == pytest.approx(3.0)

    def refuse(uuid: str) -> int:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    monkeypatch.setattr(pynvml, "nvmlDeviceGetTotalEnergyConsumption", refuse)
    assert meter.read() is None
    assert "Not Supported" in str(meter.problem)
    assert "Not Supported" in str(GpuEnergy(["GPU-a"]).problem)
    assert GpuEnergy([]).problem == "no NVIDIA GPU was used"


@pytest.mark.gpu
def test_the_drivers_counter_grows_while_a_gpu_computes() -> None:
    meter = GpuEnergy([f"GPU-{torch.cuda.get_device_properties(0).uuid}"])
    assert meter.problem is None
    matrix = torch.randn(4096, 4096, device="cuda")
    for _ in range(200):
        matrix = (matrix @ matrix).clamp(-1, 1)
    torch.cuda.synchronize()
    assert (meter.read() or 0) > 1


class Counter:
    """A meter with a value that the test sets."""

    def __init__(self, joules: float | None) -> None:
        self.joules = joules
        self.problem = None if joules is not None else "nobody counts"

    def read(self) -> float | None:
        return self.joules


TRAINER: Any = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("cpu")), device_ids=[0])
MODULE: Any = None


def test_a_resumed_run_adds_its_parts_up() -> None:
    first = CostMeter(Counter(2.0), Counter(None))
    first.on_train_start(TRAINER, MODULE)
    saved = json.loads(json.dumps(first.state_dict()))
    assert saved["joules"] == {"processor": 2.0, "gpu": None}
    saved["peaks"]["memory"] = 1 << 50  # more than this process ever has
    second = CostMeter(Counter(3.0), Counter(7.0))
    second.load_state_dict(saved)
    second.on_train_start(TRAINER, MODULE)
    second.on_train_end(TRAINER, MODULE)
    assert second.measured(seconds=4.0, images=10) == {
        "train_seconds": 4.0,
        "images_per_second": 2.5,
        "peak_memory_mib": float(1 << 30),
        "peak_gpu_memory_mib": None,
        "energy_j": {"processor": 5.0, "gpu": None},  # a part of the GPU's is not known, so the whole is not
        "energy_not_readable": {"gpu": "nobody counts"},
    }


def test_peak_memory_is_that_of_the_training_and_not_of_what_went_before() -> None:
    ballast = torch.ones(100 << 18)  # 100 MiB
    high = peak_memory()
    assert high > 100 << 20
    del ballast
    meter = CostMeter(Counter(1.0), Counter(1.0))
    meter.on_train_start(TRAINER, MODULE)
    assert peak_memory() < high
    more = torch.ones(60 << 18)
    peak = meter.measured(1.0, 1)["peak_memory_mib"]
    assert peak >= more.nbytes / (1 << 20)
    assert 0 < peak < 1 << 20


def test_the_cost_of_several_runs_together() -> None:
    one = {
        "train_seconds": 10.0, "images_per_second": 5.0, "test_seconds": 1.0, "test_images_per_second": 8.0,
        "peak_memory_mib": 100.0, "peak_gpu_memory_mib": None, "energy_j": {"processor": 50.0, "gpu": None},
        "energy_not_readable": {"gpu": "none"},
    }  # fmt: skip
    other = {**one, "train_seconds": 30.0, "images_per_second": 1.0, "peak_memory_mib": 300.0}
    assert joined([one, other]) == {
        "train_seconds": 40.0, "images_per_second": 2.0, "test_seconds": 2.0, "test_images_per_second": 8.0,
        "peak_memory_mib": 300.0, "peak_gpu_memory_mib": None, "energy_j": {"processor": 100.0, "gpu": None},
        "energy_not_readable": {"gpu": "none"},
    }  # fmt: skip
    assert joined([one, {}]) == {}  # a run of an earlier version did not measure
    assert joined([]) == {}


def test_the_report_says_what_a_run_cost(tmp_path: Path) -> None:
    cost = {
        "train_seconds": 61.5, "images_per_second": 12.25, "peak_memory_mib": 900.5, "peak_gpu_memory_mib": None,
        "energy_j": {"processor": 7200.0, "gpu": None}, "energy_not_readable": {"gpu": "no NVIDIA GPU was used"},
        "test_seconds": 3.5, "test_images_per_second": 20.0,
    }  # fmt: skip
    cases = fake_cases()
    cases.to_csv(tmp_path / "cases.csv", index=False)
    metrics = fake_metrics(fake_test(cases), cost=cost)
    page = report_page(read_results(tmp_path, metrics, None, None))
    for words in ("training images a second", "12.25", "MiB", "900.5", "not readable here: no NVIDIA GPU was used"):
        assert words in page
    energy = next(row for row in page.split("<tr") if "energy of the processors" in row)
    assert ">2<" in energy  # 7200 J are 2 Wh
