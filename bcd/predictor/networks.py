"""From the description of a network and its weights to the network; both may be untrusted."""

import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn.modules.module import register_module_buffer_registration_hook, register_module_parameter_registration_hook

from bcd.config.build import build
from bcd.predictor.bundle import Network
from bcd.predictor.bundles.hashes import BundleError
from bcd.preprocess import Preprocess
from bcd.tasks.networks import TaskNetwork, inference_network

MAX_WEIGHTS_BYTES = 2 << 30
# A network may be built with more than it keeps: an encoder's own head, stages that are cut off.
_SPARE_TENSORS, _SPARE_VALUES = 2000, 20_000_000

State = dict[str, Tensor]


@dataclass(frozen=True)
class Member:
    """A network, ready to predict.

    Attributes:
        name: in the bundle.
        role: `segmentation`, `classification`, `roi` or `multitask`.
        task: what it predicts, and how; in evaluation mode, on its device.
        preprocess: the one it was trained with.
        temperature: of its probabilities.
    """

    name: str
    role: str
    task: TaskNetwork
    preprocess: Preprocess
    temperature: float


def to_bytes(state: Mapping[str, Tensor]) -> bytes:
    """Return weights as the content of a safetensors file."""
    return save({name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()})


def halved(state: Mapping[str, Tensor]) -> State:
    """Return weights whose matrices and kernels are float16; vectors, which are few, stay as they are.

    Raises:
        BundleError: when one has a value that float16 cannot hold.
    """
    half = {name: tensor.half() if tensor.is_floating_point() and tensor.ndim > 1 else tensor for name, tensor in state.items()}
    overflown = [name for name, tensor in half.items() if tensor.is_floating_point() and not torch.isfinite(tensor).all()]
    if overflown:
        raise BundleError(f"precision=fp16: {overflown[0]} holds values that float16 cannot; use precision=fp32.")
    return half


def from_bytes(content: bytes, name: str) -> State:
    """Return the weights in the content of a safetensors file, floating-point ones as float32.

    Raises:
        BundleError: when it is none, or holds a value that is not a finite number.
    """
    try:
        state = load(content)
    except (SafetensorError, ValueError, KeyError, AttributeError, MemoryError, OverflowError) as error:
        raise BundleError(f"{name} cannot be read as safetensors ({str(error)[:200]}); get the bundle again.") from error
    state = {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in state.items()}
    wrong = [key for key, tensor in state.items() if tensor.is_complex() or not torch.isfinite(tensor).all()]
    if wrong:
        raise BundleError(f"{name}: {wrong[0]} holds values that are not finite numbers; the network cannot predict.")
    return state


def build_member(network: Network, state: State | None, device: str, trusted: Collection[str] = ()) -> Member:
    """Return a network with its weights, in evaluation mode.

    Args:
        network: its description.
        state: its weights; None where an exported model will take the network's place, which is then not built.
        device: of the network.
        trusted: constructors of the user's own that the description may name; never taken from the bundle.

    Raises:
        BundleError: when the description names what it may not, cannot be built, or does not fit the weights.
    """
    where = f"networks.{network.name}"
    try:
        with _no_larger_than(state or {}):
            task = inference_network(network.task, trusted, nn.Identity() if state is None else None)
        preprocess: Preprocess = build(network.preprocess, trusted=(), from_checkpoint=True)
        if not isinstance(task, TaskNetwork) or not isinstance(preprocess, Preprocess):
            raise TypeError(f"it builds {type(task).__name__} and {type(preprocess).__name__}")
        if state is not None:
            task.model.load_state_dict(state)
    except BundleError:
        raise
    except Exception as error:  # the constructors of three libraries refuse by any exception
        reason = " ".join(str(error).split())[:400] or type(error).__name__
        raise BundleError(f"{where} cannot be built: {reason}") from error
    if task.role != network.role:
        raise BundleError(f"{where} has the role {network.role}, but its task has {task.role}.")
    return Member(network.name, network.role, task.eval().to(device), preprocess, network.temperature)


@contextmanager
def _no_larger_than(state: State) -> Iterator[None]:
    """Refuse a network that is larger than its weights, before its memory is filled.

    Raises:
        BundleError: from within the network's constructor.
    """
    left = [_SPARE_TENSORS + 2 * len(state), _SPARE_VALUES + 2 * sum(tensor.numel() for tensor in state.values())]
    ours = threading.get_ident()

    def count(module: nn.Module, name: str, tensor: Tensor | None) -> None:
        if tensor is None or threading.get_ident() != ours:
            return
        left[0] -= 1
        left[1] -= tensor.numel()
        if min(left) < 0:
            raise BundleError("The config of a network asks for one far larger than its weights; get the bundle again.")

    hooks = [register_module_parameter_registration_hook(count), register_module_buffer_registration_hook(count)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
