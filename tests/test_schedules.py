import pytest
import torch

from bcd.tasks.schedules import (
    ConstantSchedule,
    CosineSchedule,
    ObservingSchedule,
    OneCycleSchedule,
    PlateauSchedule,
    PolynomialSchedule,
    StepSchedule,
)


def _plateau(**changed: object) -> PlateauSchedule:
    arguments = {"mode": "max", "gamma": 0.5, "patience": 1, "threshold": 0.0, "lowest": 0.1} | changed
    return PlateauSchedule(**arguments)  # type: ignore[arg-type]


def test_the_constant_schedule_is_one_throughout() -> None:
    assert [ConstantSchedule()(progress) for progress in (0.0, 0.5, 1.0)] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(("progress", "factor"), [(0.0, 1.0), (0.49, 1.0), (0.5, 0.1), (0.74, 0.1), (0.75, 0.01), (1.0, 0.01)])
def test_the_step_schedule_falls_at_its_shares(progress: float, factor: float) -> None:
    assert StepSchedule(at=[0.5, 0.75], gamma=0.1)(progress) == pytest.approx(factor)


@pytest.mark.parametrize(("progress", "factor"), [(0.0, 0.2), (0.1, 0.6), (0.2, 1.0), (0.6, 0.55), (1.0, 0.1)])
def test_one_cycle_rises_by_half_a_cosine_and_falls_by_another(progress: float, factor: float) -> None:
    assert OneCycleSchedule(warmup=0.2, start=0.2, final=0.1)(progress) == pytest.approx(factor)


def test_one_cycle_is_torchs_but_for_where_the_steps_fall() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    steps = 1001
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1.0, total_steps=steps, pct_start=0.3, div_factor=25, final_div_factor=1e4, cycle_momentum=False
    )
    ours = OneCycleSchedule(warmup=0.3, start=1 / 25, final=1 / 25 / 1e4)
    for step in range(steps):
        assert ours(step / (steps - 1)) == pytest.approx(theirs.get_last_lr()[0], abs=0.005)
        optimizer.step()
        if step < steps - 1:
            theirs.step()


@pytest.mark.parametrize(("progress", "factor"), [(0.1, 0.5), (0.2, 1.0), (0.6, 0.25), (1.0, 0.0)])
def test_the_polynomial_falls_by_its_power_after_the_warmup(progress: float, factor: float) -> None:
    assert PolynomialSchedule(power=2.0, warmup=0.2)(progress) == pytest.approx(factor)


def test_a_warmup_never_begins_at_zero() -> None:
    assert CosineSchedule(0.1)(0.0) > 0
    assert PolynomialSchedule(0.9, 0.1)(0.0) > 0


def test_the_plateau_halves_the_rate_after_two_validations_without_improvement_and_stops_at_the_lowest() -> None:
    schedule = _plateau()
    factors = []
    for value in (0.5, 0.6, 0.6, 0.6, 0.7, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1):
        schedule.observe(value)
        factors.append(schedule(0.0))
    assert factors == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125, 0.1, 0.1, 0.1]


def test_a_plateau_of_a_loss_looks_for_smaller_values_and_ignores_small_ones() -> None:
    schedule = _plateau(mode="min", patience=0, threshold=0.1)
    for value, factor in ((1.0, 1.0), (0.8, 1.0), (0.75, 0.5), (0.6, 0.5)):
        schedule.observe(value)
        assert schedule(0.0) == factor


def test_a_plateau_goes_on_from_its_state() -> None:
    values = [0.5, 0.4, 0.3, 0.6, 0.5, 0.4, 0.3]
    whole, first, second = _plateau(), _plateau(), _plateau()
    for value in values[:2]:
        first.observe(value)
    second.load_state_dict(first.state_dict())
    for value in values[2:]:
        second.observe(value)
    for value in values:
        whole.observe(value)
    assert second.state_dict() == whole.state_dict()
    assert second(0.0) == whole(0.0) == 0.25


def test_only_the_plateau_observes() -> None:
    assert isinstance(_plateau(), ObservingSchedule)
    assert not isinstance(CosineSchedule(0.1), ObservingSchedule)


def test_shares_that_do_not_ascend_are_refused() -> None:
    with pytest.raises(ValueError, match="must ascend"):
        StepSchedule([0.7, 0.5], 0.1)
