"""How processes that train together share a network."""

import copy

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from bcd.runs.training.fit import build_trainer
from bcd.runs.training.sharing import SyncBatchNorms, blocks


def test_synchronised_batch_norms_keep_names_weights_and_activations() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 3, 3), BatchNormAct2d(3, act_layer=nn.ReLU))
    network.eval()
    image, state = torch.randn(2, 1, 8, 8), copy.deepcopy(network.state_dict())
    before = network(image)
    synced = SyncBatchNorms().apply(network)
    assert sum(isinstance(module, nn.SyncBatchNorm) for module in synced.modules()) == 2
    assert list(synced.state_dict()) == list(state)
    torch.testing.assert_close(synced(image), before, rtol=0, atol=0)
    assert synced(image).min() == 0  # timm's layer holds the ReLU


def test_synchronised_batch_norms_are_refused_on_a_cpu() -> None:
    from bcd.runs.hardware import Hardware

    with pytest.raises(ValueError, match=r"trainer\.sync_batchnorm=true needs GPUs"):
        build_trainer({"trainer": {"sync_batchnorm": True}}, Hardware("cpu", "a CPU", "32-true", "contiguous", 0))


def test_blocks_that_are_gathered_one_by_one_are_entries_of_sequences_and_lists_inner_ones_first() -> None:
    inner = nn.Sequential(nn.Linear(10, 10), nn.Linear(2, 2))
    network = nn.Sequential(inner, nn.ModuleList([nn.Linear(9, 9)]), nn.Linear(1, 1))
    assert blocks(network, 90) == [network[1][0], inner[0], inner]  # type: ignore[index]
