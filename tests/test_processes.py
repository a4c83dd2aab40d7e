"""Which process this is, and whether as many were started as the config asks for."""

from pathlib import Path

import pytest
import yaml

from bcd.config import compose
from bcd.config.arguments import check_folder, read
from bcd.config.composing import check
from bcd.config.errors import ConfigError
from bcd.config.processes import check_number, is_follower, own_environment, started_together
from bcd.runs.training.train import train

ONE = {"devices": 1, "num_nodes": 1}
TWO = {"devices": 2, "num_nodes": 1}
SRUN = {"SLURM_JOB_NAME": "train", "SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "2"}
TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "4"}


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "LOCAL_RANK", "GROUP_RANK", "NODE_RANK", "SLURM_PROCID", *SRUN, *TORCHRUN):
        monkeypatch.delenv(name, raising=False)


def _set(monkeypatch: pytest.MonkeyPatch, **environment: str) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("environment", "follows"),
    [
        ({}, False),
        ({"LOCAL_RANK": "1"}, True),
        ({**TORCHRUN, "RANK": "0", "LOCAL_RANK": "0", "GROUP_RANK": "0"}, False),
        ({**TORCHRUN, "RANK": "2", "LOCAL_RANK": "0", "GROUP_RANK": "1"}, True),
        ({"NODE_RANK": "1"}, True),
        ({"NODE_RANK": "0"}, False),
        ({**SRUN, "SLURM_PROCID": "0"}, False),
        ({**SRUN, "SLURM_PROCID": "2"}, True),
        ({**SRUN, "SLURM_PROCID": "2", "SLURM_JOB_NAME": "interactive"}, False),
    ],
)
def test_the_environment_says_who_follows(environment: dict[str, str], follows: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, **environment)
    assert is_follower(TWO) is follows


def test_a_training_of_one_process_is_nobodys_follower_whatever_its_number_among_slurms_tasks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _set(monkeypatch, **SRUN, SLURM_PROCID="3")
    assert not is_follower(ONE)


def test_a_sweeps_job_is_told_nothing_of_its_workers_place(monkeypatch: pytest.MonkeyPatch) -> None:
    _set(monkeypatch, **SRUN, SLURM_PROCID="3", SLURM_JOB_ID="77", RANK="1", MASTER_PORT="29500", BCD_DATA="data")
    own = own_environment()
    assert own["BCD_DATA"] == "data"
    assert own["SLURM_JOB_ID"] == "77"
    assert not {"SLURM_PROCID", "SLURM_NTASKS", "RANK", "MASTER_PORT"} & set(own)


@pytest.mark.parametrize(("environment", "name"), [(SRUN, "srun"), (TORCHRUN, "torchrun")])
def test_another_number_of_processes_than_the_config_asks_for_is_refused(
    environment: dict[str, str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _set(monkeypatch, **environment)
    assert started_together() == 4
    check_number(4)
    with pytest.raises(ValueError, match=f"{name} started 4 processes, and the trainer's config asks for 2"):
        check_number(2)


def test_processes_that_are_started_one_beside_the_other_need_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    line = read(["trainer=ddp", "trainer.devices=2"], "train")
    check_folder(line)
    _set(monkeypatch, **TORCHRUN)
    with pytest.raises(ConfigError, match=r"torchrun starts each process separately.*hydra\.run\.dir="):
        check_folder(line)
    check_folder(read(["trainer=ddp", "trainer.devices=2", "hydra.run.dir=outputs/runs/mine"], "train"))


def test_a_training_on_two_nodes_that_nobody_started_there_is_refused(tmp_path: Path) -> None:
    config = compose("train", ["trainer=ddp", "trainer.num_nodes=2", "trainer.devices=1"], tmp_path / "run")
    with pytest.raises(ValueError, match=r"trainer\.num_nodes=2: start the command on each machine"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_batch_that_the_processes_cannot_share_is_refused_before_anything_is_read() -> None:
    given = ["batch_size=6", "trainer=ddp", "trainer.devices=2", "trainer.num_nodes=2"]
    with pytest.raises(ConfigError, match=r"batch_size=6 .* 4 processes"):
        check(read(given, "train"))


def _run_of_two(folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump({"trainer": {"devices": 2, "num_nodes": 1, "max_epochs": 9}}))
    return folder


def test_a_run_goes_on_with_its_own_number_of_processes(tmp_path: Path) -> None:
    overrides = read([f"resume={_run_of_two(tmp_path / 'run')}"], "train").overrides
    assert {"trainer.devices=2", "trainer.num_nodes=1"} <= set(overrides)


def test_a_run_goes_on_with_another_number_of_processes_if_told_so(tmp_path: Path) -> None:
    overrides = read([f"resume={_run_of_two(tmp_path / 'run')}", "trainer.devices=1"], "train").overrides
    assert "trainer.devices=1" in overrides
    assert "trainer.devices=2" not in overrides


def test_nothing_else_of_the_trainer_is_changed_when_a_run_goes_on(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"trainer\.max_epochs= cannot be given with it, only trusted=, trainer\.devices="):
        read([f"resume={_run_of_two(tmp_path / 'run')}", "trainer.max_epochs=3"], "train")
