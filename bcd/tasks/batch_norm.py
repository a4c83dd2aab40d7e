"""Batch-norm statistics of the current data."""

from collections.abc import Iterable
from itertools import islice

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from bcd.sample import Batch
from bcd.tasks.base import BaseTask


@torch.no_grad()
def estimate_batch_norm(task: BaseTask, batches: Iterable[Batch], count: int = 10) -> int:
    """Replace the running statistics by the plain mean over some training batches; return how many layers that changed.

    Pretrained statistics describe the pictures that they were taken on, which may be photographs, or test images.
    """
    norms = [module for module in task.modules() if isinstance(module, _BatchNorm)]
    if not norms:
        return 0
    momenta = [norm.momentum for norm in norms]
    training = task.training
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
    task.train()
    for batch in islice(batches, count):
        task.infer(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    task.train(training)
    return len(norms)
