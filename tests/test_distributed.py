"""One, two and four processes on one or two nodes, sharded or not: the same figures, and each goes on with the other's run."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from process_group import TINY, train_together

# Figures of epochs, and weights, of a training in float32 whose sums are taken in another order.
TOLERANCE = 1e-4
# Neither batch norm, which is another network with two images a process, nor dropout, which each process draws for itself.
WITHOUT_BATCH_NORM = ["model=classifier", "model.backbone=test_efficientnet_gn", "model.pretrained=false", "model.drop_rate=0"]
EXACT = [*WITHOUT_BATCH_NORM, "trainer=ddp"]


def _history(folder: Path) -> pd.DataFrame:
    table = pd.read_csv(folder / "history.csv")
    return table[[name for name in table if name.startswith(("train/", "val/", "learning_rate"))]]


def _weights(folder: Path, name: str = "last.ckpt") -> dict[str, torch.Tensor]:
    content = torch.load(folder / "checkpoints" / name, weights_only=True)
    assert all(type(value) is torch.Tensor for value in content["state_dict"].values())
    return dict(content["state_dict"])


def _assert_alike(folder: Path, other: Path, tolerance: float = TOLERANCE) -> None:
    pd.testing.assert_frame_equal(_history(folder), _history(other), rtol=0, atol=tolerance, check_like=True)
    weights, others = _weights(folder), _weights(other)
    assert list(weights) == list(others)
    for name, value in weights.items():
        torch.testing.assert_close(value, others[name], rtol=0, atol=tolerance, msg=lambda text, name=name: f"{name}: {text}")


class Runs:
    """Trainings below one output folder, each done once."""

    def __init__(self, output: Path) -> None:
        self.output = output

    def of(self, name: str, overrides: list[str], nodes: int = 1, each: int = 1, **more: Any) -> Path:
        """Return the folder of a finished run."""
        folder = self.output / "runs" / name
        if not folder.exists() or more:
            train_together(folder, [*TINY, *overrides, f"output={self.output}", "name=run"], nodes, each, **more)
        return folder

    def resumed(self, folder: Path, nodes: int = 1, each: int = 1) -> Path:
        """Go on with a run."""
        train_together(folder, [f"resume={folder}"], nodes, each)
        return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("distributed"))


@pytest.mark.slow
@pytest.mark.parametrize(("nodes", "each"), [(1, 2), (1, 4), (2, 1), (2, 2)])
def test_several_processes_reach_the_figures_of_one(nodes: int, each: int, runs: Runs) -> None:
    one = runs.of("one", EXACT)
    _assert_alike(runs.of(f"{nodes} by {each}", EXACT, nodes, each), one)


@pytest.mark.slow
def test_a_run_of_one_process_goes_on_with_two_and_one_of_two_with_one(runs: Runs) -> None:
    one = runs.of("one", EXACT)
    for name, before, after in (("more", 1, 2), ("fewer", 2, 1)):
        folder = runs.of(name, EXACT, each=before, stop_at_step=9)  # in the middle of the second epoch
        _assert_alike(runs.resumed(folder, each=after), one)


@pytest.mark.slow
def test_a_shared_out_network_reaches_the_figures_of_a_whole_one(runs: Runs) -> None:
    sharded = [*WITHOUT_BATCH_NORM, "trainer=fsdp", "trainer.strategy.shard_from=10000"]
    _assert_alike(runs.of("fsdp", sharded, each=2), runs.of("one", EXACT))


@pytest.mark.slow
def test_a_shared_out_run_goes_on_in_one_process(runs: Runs) -> None:
    sharded = [*WITHOUT_BATCH_NORM, "trainer=fsdp", "trainer.strategy.shard_from=10000"]
    folder = runs.of("fsdp stopped", sharded, each=2, stop_at_step=9)
    _assert_alike(runs.resumed(folder, each=1), runs.of("one", EXACT))
