"""From a checkpoint to a task: weights, and the plain dict that rebuilds what they belong to."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from bcd.config.build import build
from bcd.preprocess import Preprocess
from bcd.tasks.base import BaseTask
from bcd.tasks.networks import without_pretrained


class CheckpointError(ValueError):
    """A checkpoint cannot be used."""


def load_checkpoint(
    path: str | Path, device: str | torch.device = "cpu", trusted: Collection[str] = ()
) -> tuple[BaseTask, Preprocess, dict[str, Any]]:
    """Return the task in evaluation mode, its preprocessing, and its `run_config`.

    Nothing but tensors and plain values is unpickled, and the stored config may name our own networks and losses alone.

    Args:
        path: a `.ckpt` that training wrote.
        device: of the task.
        trusted: constructors of the user's own that it may name; never taken from the checkpoint.

    Raises:
        CheckpointError: when the file does not exist, cannot be read, is not one of ours, or its weights do not fit.
        UntrustedTargetError: when its config names anything but a trusted constructor.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such checkpoint.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # truncated and foreign files raise anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path} cannot be read as a checkpoint ({reason}). Copy it again or train again.") from error
    if not isinstance(content, dict) or not isinstance(content.get("run_config"), dict) or "state_dict" not in content:
        raise CheckpointError(f"{path} is not a checkpoint of this project: it holds no run_config.")
    run_config = content["run_config"]
    task: BaseTask = build(without_pretrained(run_config["task"]), trusted=trusted, from_checkpoint=True)
    preprocess: Preprocess = build(run_config["preprocess"], from_checkpoint=True)
    try:
        task.load_state_dict(content["state_dict"])
    except RuntimeError as error:
        raise CheckpointError(f"{path}: the weights do not fit the network in its config: {error}") from error
    task.run_config = run_config
    return task.eval().to(device), preprocess, run_config
