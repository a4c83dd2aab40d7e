"""How processes that train together share the network: its batch-norm statistics, and for large ones its parameters."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins import LayerSync
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.trainer.states import TrainerFn
from timm.layers import convert_sync_batchnorm
from torch import nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel

from bcd.config.ranges import Count
from bcd.sample import Batch


class SyncBatchNorms(LayerSync):
    """What `trainer.sync_batchnorm=true` does, by timm's conversion: Lightning's own loses the activation inside timm's layers."""

    def apply(self, model: nn.Module) -> nn.Module:
        """Let batch norms take mean and variance over the images of all processes."""
        converted: nn.Module = convert_sync_batchnorm(model)
        return converted

    def revert(self, model: nn.Module) -> nn.Module:
        """Leave them: outside training they are ordinary batch norms, with the same names and weights."""
        return model


class OneNetwork(Callback):
    """Lets all processes validate the network that the first one saves: each has batch-norm statistics of its own.

    DistributedDataParallel hands the first one's to the others before every step of training, and before a validation's first
    step: there it would wait forever for a process without validation cases. For a sharded network it is never done.
    """

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        """Hand out the statistics, where the strategy does not."""
        if isinstance(trainer.strategy, Sharded):
            _hand_out_buffers(pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Hand out the statistics, once for the whole validation."""
        if trainer.world_size > 1:
            _hand_out_buffers(pl_module)
            _meet_at_each_step(trainer, pl_module, False)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Train on as before."""
        if trainer.world_size > 1:
            _meet_at_each_step(trainer, pl_module, True)


def _meet_at_each_step(trainer: Trainer, task: LightningModule, wanted: bool) -> None:
    """Let steps need the other processes, or not: in validation, some processes have a step more than others."""
    if isinstance(trainer.strategy.model, DistributedDataParallel):
        trainer.strategy.model.require_forward_param_sync = wanted
    for module in task.modules():
        if isinstance(module, FSDPModule):
            module.set_reshard_after_forward(wanted and module is not task.model, recurse=False)
            module.reshard() if wanted else module.unshard()


@torch.no_grad()
def _hand_out_buffers(module: nn.Module) -> None:
    from torchmetrics import Metric

    for network in module.children():
        # The states of metrics are each process's own until they are summed.
        if not any(isinstance(part, Metric) for part in network.modules()):
            for buffer in network.buffers():
                torch.distributed.broadcast(buffer, 0)


class Sharded(ModelParallelStrategy):
    """Each process keeps a part of every parameter, its gradient and its moments, and gathers a block when its turn comes.

    That is torch's `fully_shard` (Zhao et al., PyTorch FSDP, VLDB 2023, doi:10.14778/3611540.3611569). A checkpoint is one whole
    file, as that of a run on one device, and each loads the other's.

    Args:
        shard_from: blocks of the network with at least so many parameters are gathered one by one; smaller ones with the block
            around them.
    """

    def __init__(self, shard_from: Count) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False)
        self.shard_from = shard_from
        self._layer_sync: LayerSync | None = None

    def setup_environment(self) -> None:
        """Meet the other processes; all of them share the data and the network."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def setup(self, trainer: Trainer) -> None:
        """Share out the network, and make its optimizer."""
        if self.model is None or self.accelerator is None or self.lightning_module is None:
            raise RuntimeError("The strategy belongs to no training yet.")
        self.accelerator.setup(trainer)
        if trainer.state.fn == TrainerFn.FITTING and self._layer_sync is not None:
            self._layer_sync.apply(self.model)
        self.model_to_device()
        network = self.lightning_module.model
        if isinstance(network, nn.Module) and not isinstance(network, FSDPModule):
            mesh = self.device_mesh["data_parallel"]
            network.to(memory_format=torch.contiguous_format)  # weights with the channels last cannot be shared out
            for block in [*blocks(network, self.shard_from), network]:
                fully_shard(block, mesh=mesh)
        self.barrier()
        if trainer.state.fn == TrainerFn.FITTING:
            self.setup_optimizers(trainer)
        self.setup_precision_plugin()

    @contextmanager
    def tensor_init_context(self, empty_init: bool | None = None) -> Iterator[None]:
        """Make parameters as ever: the network is there before the strategy."""
        with self.precision_plugin.tensor_init_context():
            yield


def blocks(network: nn.Module, shard_from: int) -> list[nn.Module]:
    """Return the entries of a network's sequences and lists that have so many parameters, inner ones first."""
    entries: dict[nn.Module, None] = {}
    for container in network.modules():
        for entry in container.children() if isinstance(container, nn.Sequential | nn.ModuleList) else ():
            # A list is never called, and what is not called cannot gather.
            if not isinstance(entry, nn.ModuleList) and sum(parameter.numel() for parameter in entry.parameters()) >= shard_from:
                entries[entry] = None
    return list(entries)[::-1]


def check_sharing(trainer: Trainer) -> None:
    """Refuse what does not go together with several processes.

    Raises:
        ValueError: saying what to change.
    """
    from bcd.runs.training.callbacks import ExponentialAverage

    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    if isinstance(trainer.strategy, Sharded) and any(isinstance(callback, ExponentialAverage) for callback in callbacks):
        raise ValueError("callbacks=ema averages whole parameters, and trainer=fsdp shares them out; leave one of the two out.")
