import pytest
import torch

from bcd.config import compose
from bcd.config.build import build
from bcd.runs.hardware import choose
from bcd.runs.training.callbacks import ExponentialAverage, ProgressiveSize
from bcd.sample import Batch
from bcd.tasks.base import BaseTask
from bcd.tasks.batch_norm import estimate_batch_norm
from bcd.tasks.schedules import CosineSchedule


def _task() -> BaseTask:
    task: BaseTask = build(compose("train", ["model.decoder_channels=[8,8,8,8,8]"])["task"])
    return task


def _batch() -> Batch:
    mask = torch.zeros(2, 1, 64, 64)
    mask[0, :, 16:48, 16:48] = 1
    return Batch(
        image=torch.randn(2, 1, 64, 64),
        mask=mask,
        guide=mask.clone(),
        label=torch.zeros(2, dtype=torch.int64),
        native_size=torch.full((2, 2), 64),
        case_id=["a", "b"],
    )


def test_the_average_follows_its_formula_and_grows_its_span() -> None:
    average = ExponentialAverage(decay=0.9)
    averaged, counter = [torch.tensor([1.0])], [torch.tensor(3)]
    average._average(averaged, [torch.tensor([0.0])], torch.tensor(1))
    assert averaged[0].item() == pytest.approx(2 / 11)  # decay (1 + 1) / (10 + 1)
    average._average(averaged, [torch.tensor([0.0])], torch.tensor(1000))
    assert averaged[0].item() == pytest.approx(0.9 * 2 / 11)
    average._average(counter, [torch.tensor(7)], torch.tensor(1000))
    assert counter[0].item() == 7


@pytest.mark.parametrize(("progress", "side"), [(0.0, 32), (0.49, 32), (0.5, 64), (1.0, 64)])
def test_images_are_small_in_the_first_part_only(progress: float, side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    task, batch = _task(), _batch()
    monkeypatch.setattr(task, "progress", lambda: progress)
    ProgressiveSize(size=32, until=0.5).on_train_batch_start(None, task, batch, 0)  # type: ignore[arg-type]
    assert batch["image"].shape == batch["mask"].shape == batch["guide"].shape == (2, 1, side, side)
    assert set(batch["mask"].unique().tolist()) == {0.0, 1.0}
    assert batch["mask"].sum() == (side / 2) ** 2


def test_what_the_user_chooses_overrides_what_the_hardware_suggests() -> None:
    hardware = choose("cpu", "32-true", "contiguous", 3)
    assert (hardware.device, hardware.precision, hardware.memory_format, hardware.num_workers) == (
        "cpu",
        "32-true",
        "contiguous",
        3,
    )


def test_the_cosine_rises_and_falls_to_zero() -> None:
    schedule = CosineSchedule(0.2)
    assert schedule(0.1) == pytest.approx(0.5)
    assert schedule(0.2) == pytest.approx(1.0)
    assert schedule(0.6) == pytest.approx(0.5)
    assert schedule(1.0) == pytest.approx(0.0)
    assert schedule(0.0) > 0


def test_batch_norm_statistics_become_those_of_the_batches() -> None:
    task = _task()
    task.train()
    batches = [_batch() for _ in range(3)]
    weights = [parameter.clone() for parameter in task.parameters()]
    norm = task.model.network.encoder.bn1  # type: ignore[union-attr]
    convolution = task.model.network.encoder.conv1  # type: ignore[union-attr]
    assert estimate_batch_norm(task, batches, count=3) > 10
    with torch.no_grad():
        expected = torch.stack([convolution(batch["image"]).mean((0, 2, 3)) for batch in batches]).mean(0)  # type: ignore[operator]
    assert torch.allclose(norm.running_mean, expected, atol=1e-4)  # type: ignore[arg-type,union-attr]
    assert all(torch.equal(a, b) for a, b in zip(weights, task.parameters(), strict=True))
    assert norm.momentum == 0.1  # type: ignore[union-attr]
    assert task.training


def test_no_weight_decay_falls_on_biases_and_norms(monkeypatch: pytest.MonkeyPatch) -> None:
    task = _task()
    monkeypatch.setattr(task, "progress", lambda: 0.0)
    weights, others = task.configure_optimizers()["optimizer"].param_groups  # type: ignore[index]
    assert weights["weight_decay"] == 0.01
    assert others["weight_decay"] == 0.0
    assert all(parameter.ndim > 1 for parameter in weights["params"])
    assert len(weights["params"]) + len(others["params"]) == len(list(task.parameters()))
