"""Batch norms over the images of all processes equal those of one process that has them all."""

import copy
from pathlib import Path

import pytest
import torch
from process_group import SERVER
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from bcd.models.shared_batch_norm import share_batch_norms, unshare_batch_norms
from bcd.runs.training.sharing import blocks


def _network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 3, 3), BatchNormAct2d(3, act_layer=nn.ReLU))


def _images() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    # A mean far from zero, where the difference of large sums would cancel.
    return torch.randn(6, 1, 8, 8, generator=random) + 100, torch.randn(6, 3, 4, 4, generator=random)


def _learn(network: nn.Module, rows: slice) -> list[Tensor]:
    images, weights = _images()
    (network(images[rows]) * weights[rows]).mean().backward()
    return [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]


def _one_of_two(rank: int, folder: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    network = _network()
    share_batch_norms(network)
    gradients = _learn(network, slice(rank, None, 2))
    for gradient in gradients:
        torch.distributed.all_reduce(gradient)
    unshare_batch_norms(network)
    torch.save({"gradients": [gradient / 2 for gradient in gradients], "state": network.state_dict()}, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_have_the_gradients_and_running_statistics_of_one(tmp_path: Path) -> None:
    network = _network()
    gradients = _learn(network, slice(None))
    processes = [SERVER.Process(target=_one_of_two, args=(rank, tmp_path)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    for rank in range(2):
        theirs = torch.load(tmp_path / f"{rank}.pt")
        # Pixels near 100 times gradients that sum to zero: rounding is this large.
        torch.testing.assert_close(theirs["gradients"], gradients, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(theirs["state"], dict(network.state_dict()), rtol=1e-4, atol=1e-6)


def test_sharing_keeps_names_weights_and_activations_and_can_be_undone() -> None:
    network = _network()
    before, kinds = copy.deepcopy(network.state_dict()), [type(module) for module in network.modules()]
    whole = network.eval()(_images()[0])
    share_batch_norms(network)
    assert [type(module) for module in network.modules()] != kinds
    torch.testing.assert_close(network(_images()[0]), whole, rtol=0, atol=0)
    torch.testing.assert_close(dict(network.state_dict()), dict(before), rtol=0, atol=0)
    unshare_batch_norms(network)
    assert [type(module) for module in network.modules()] == kinds


def test_a_batch_norm_of_another_kind_is_refused() -> None:
    network = nn.Sequential(nn.Conv3d(1, 1, 1), nn.BatchNorm3d(1))
    with pytest.raises(ValueError, match=r"sync_batchnorm=true does not know the batch norm 1 \(BatchNorm3d\)"):
        share_batch_norms(network)


def test_blocks_that_are_gathered_one_by_one_are_entries_of_sequences_and_lists_inner_ones_first() -> None:
    inner = nn.Sequential(nn.Linear(10, 10), nn.Linear(2, 2))
    network = nn.Sequential(inner, nn.ModuleList([nn.Linear(9, 9)]), nn.Linear(1, 1))
    assert blocks(network, 90) == [network[1][0], inner[0], inner]  # type: ignore[index]
