"""Batch norms whose statistics come from the images of all processes that train together, on CPUs as on GPUs.

torch's own (Ioffe and Szegedy, ICML 2015, across processes) refuses CPUs, and its conversion drops the activation that timm's
`BatchNormAct2d` holds. Ours changes the class of the layers in place: parameters, buffers, hooks and names stay as they are.
"""

from collections.abc import Mapping
from typing import Any

import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn import BatchNorm1d, BatchNorm2d
from torch.nn.modules.batchnorm import _BatchNorm


class _Sum(torch.autograd.Function):
    """The sum over all processes; so is its gradient."""

    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        total = values.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        torch.distributed.all_reduce(total)
        return total


def shared_batch_norm(norm: _BatchNorm, features: Tensor) -> Tensor:
    """Normalise features (B, C, ...) by the mean and variance over the batches of all processes, and keep running statistics.

    Every process must call it as often as the others.
    """
    together = torch.distributed.is_available() and torch.distributed.is_initialized()
    if not norm.training or not together:
        return _BatchNorm.forward(norm, features)
    wide = features.float()
    axes = [0, *range(2, features.ndim)]
    # The mean first, then the squares about it: their difference would cancel in float32 where the mean is large.
    sums = _Sum.apply(torch.cat([wide.sum(axes), wide.new_tensor([features.numel() / features.shape[1]])]))
    count = sums[-1].detach()
    mean = sums[:-1] / count
    shape = (1, -1, *(1 for _ in axes[1:]))
    centred = wide - mean.view(shape)
    variance = _Sum.apply(centred.square().sum(axes)) / count
    _keep(norm, mean.detach(), variance.detach() * count / (count - 1).clamp(min=1))
    normalised = centred * (variance + norm.eps).rsqrt().view(shape)
    if norm.affine:
        normalised = normalised * norm.weight.view(shape) + norm.bias.view(shape)
    return normalised.to(features.dtype)


@torch.no_grad()
def _keep(norm: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    norm.num_batches_tracked += 1
    momentum = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean, momentum)
    norm.running_var.lerp_(variance, momentum)


class SharedBatchNorm1d(BatchNorm1d):
    """`BatchNorm1d` over all processes."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalised features."""
        self._check_input_dim(input)
        return shared_batch_norm(self, input)


class SharedBatchNorm2d(BatchNorm2d):
    """`BatchNorm2d` over all processes."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalised features."""
        self._check_input_dim(input)
        return shared_batch_norm(self, input)


class SharedBatchNormAct2d(BatchNormAct2d):
    """timm's batch norm with its activation, over all processes."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the activated features."""
        activated: Tensor = self.act(self.drop(shared_batch_norm(self, x)))
        return activated


_SHARED: dict[type[nn.Module], type[nn.Module]] = {
    BatchNorm1d: SharedBatchNorm1d,
    BatchNorm2d: SharedBatchNorm2d,
    BatchNormAct2d: SharedBatchNormAct2d,
}
_PLAIN = {shared: plain for plain, shared in _SHARED.items()}


def share_batch_norms(network: nn.Module) -> None:
    """Let every batch norm of a network see the images of all processes.

    Raises:
        ValueError: for a batch norm of a kind that is not known here.
    """
    norms = {name: module for name, module in network.named_modules() if isinstance(module, _BatchNorm)}
    foreign = [name for name, module in norms.items() if type(module) not in {*_SHARED, *_PLAIN}]
    if foreign:
        kind = type(norms[foreign[0]]).__name__
        raise ValueError(f"trainer.sync_batchnorm=true does not know the batch norm {foreign[0]} ({kind}); leave it false.")
    for module in norms.values():
        _change_class(module, _SHARED)


def unshare_batch_norms(network: nn.Module) -> None:
    """Make them ordinary batch norms again."""
    for module in network.modules():
        _change_class(module, _PLAIN)


def _change_class(module: nn.Module, classes: Mapping[type[nn.Module], type[nn.Module]]) -> None:
    module.__class__ = classes.get(type(module), type(module))


def shares_statistics(module: nn.Module) -> bool:
    """Tell whether a layer is a batch norm over all processes."""
    return type(module) in _PLAIN
