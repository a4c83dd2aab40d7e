"""Batch norm with a single value per channel."""

from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

_WAITING = "_waits_for_more_values"


def spare_single_values(network: nn.Module) -> None:
    """Let batch norms take their running statistics where a training batch has a single value a channel, which torch refuses.

    That is one image a batch, after global pooling or on a map of 1 x 1. A value normalised by itself would be 0; by the
    running statistics, which such a batch does not change, it keeps its information.
    """
    for module in network.modules():
        if isinstance(module, _BatchNorm) and module.track_running_stats:
            module.register_forward_pre_hook(_take_running_statistics)
            module.register_forward_hook(_take_the_batch_again, always_call=True)


def _take_running_statistics(module: nn.Module, inputs: tuple[Any, ...]) -> None:
    features = inputs[0]
    if isinstance(module, nn.SyncBatchNorm):
        return  # the other processes have images too
    if module.training and isinstance(features, Tensor) and features.numel() == features.shape[1]:
        module.training = False
        setattr(module, _WAITING, True)


def _take_the_batch_again(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
    if getattr(module, _WAITING, False):
        module.training = True
        delattr(module, _WAITING)
