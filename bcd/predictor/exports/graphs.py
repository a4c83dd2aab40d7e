"""From a network to its graph, and from that to files of other runtimes.

The graph holds the network alone: grey values standardised by the bundle's preprocessing come in (and masks, for ROI networks),
logits go out. Any number of images at once; any height and width that are multiples of 32 px, where the network allows it.
"""

import copy
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from timm.layers import Conv2dSame
from torch import nn
from torch.export import Dim, ExportedProgram

from bcd.files import write_bytes
from bcd.models.sizes import Resampling
from bcd.predictor.backends import library
from bcd.predictor.bundles.hashes import BundleError
from bcd.predictor.networks import Member

log = logging.getLogger(__name__)

OPSET = 18
STEP = 32
MOST_STEPS = 128
MOST_IMAGES = 1024


@dataclass(frozen=True)
class Graph:
    """A network as an ONNX model in one piece, names of its inputs and outputs, and which images it takes, in words.

    `free` says whether height and width may be other than the preprocessing's.
    """

    onnx: bytes
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    sizes: str
    free: bool


def graph_of(member: Member) -> Graph:
    """Return a network, which must be on the CPU, as a graph, of any size where that can be done.

    Raises:
        BundleError: when torch can make no graph of it, or it uses what ONNX does not have.
    """
    library("onnx")
    task, size, reason = member.task, member.preprocess.size, ""
    network = copy.deepcopy(task.model).eval()
    inputs = ("image", "guide") if task.takes_guide else ("image",)
    outputs = ("mask_logits",) * task.outlines + ("class_logits",) * task.classifies
    if size % STEP:
        reason = f"they are no multiple of {STEP}, and are padded within the network."
    elif not hasattr(network, "crop_size"):  # else it is cropped to its own size, for any image size
        if isinstance(getattr(network, "fit", None), Resampling):
            reason = "the network knows a single size."
        else:
            network = with_constant_padding(network)
    if not reason:
        try:
            model = _to_onnx(_program(network, len(inputs), size, free=True), inputs, outputs)
            return Graph(model, inputs, outputs, f"any batch; height and width multiples of {STEP} px", True)
        except Exception as error:  # torch and onnxscript refuse by many exceptions
            reason = _in_words(error)
    log.warning("%s can be exported for images of %d x %d px alone, as the bundle makes them: %s", member.name, size, size, reason)
    try:
        model = _to_onnx(_program(network, len(inputs), size, free=False), inputs, outputs)
    except Exception as error:  # as above
        raise BundleError(f"{member.name} cannot be exported: {_in_words(error)}") from error
    return Graph(model, inputs, outputs, f"any batch; {size} x {size} px", False)


def with_constant_padding(network: nn.Module) -> nn.Module:
    """Return a network whose TensorFlow-like "same" padding is constant, in place: the same digits, and no size is asked for.

    A layer of that padding asks for the size of what it is given, and pads as much as the stride leaves over. In a graph whose
    size is a symbol, each of some fifty layers makes the expression longer, and torch takes minutes over them. Where the
    images' sides are multiples of 32 px, what every layer is given divides by its stride, and the amounts are constants. The
    network is in evaluation mode, and its strides multiply to 32 at most.
    """
    for parent in list(network.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, Conv2dSame):
                setattr(parent, name, _with_constant_padding(layer).eval())
    return network


def _with_constant_padding(layer: nn.Conv2d) -> nn.Module:
    sides = []
    for kernel, stride, dilation in zip(layer.kernel_size, layer.stride, layer.dilation, strict=True):
        total = max((kernel - 1) * dilation + 1 - stride, 0)
        sides.append((total // 2, total - total // 2))  # right and bottom get the odd pixel, as TensorFlow has it
    convolution = nn.Conv2d(
        layer.in_channels,
        layer.out_channels,
        (layer.kernel_size[0], layer.kernel_size[1]),
        (layer.stride[0], layer.stride[1]),
        0,
        (layer.dilation[0], layer.dilation[1]),
        layer.groups,
        bias=layer.bias is not None,
    )
    convolution.load_state_dict(layer.state_dict())
    return nn.Sequential(nn.ZeroPad2d((*sides[1], *sides[0])), convolution)


def _program(network: nn.Module, n_inputs: int, size: int, free: bool) -> ExportedProgram:
    # Two images, of two steps or more and unlike sides where they may be: what is 1, or equal, would be taken for a constant.
    height = max(size, 2 * STEP) if free else size
    width = height + STEP if free else size
    example = torch.linspace(-1, 1, 2 * height * width).reshape(2, 1, height, width)
    dimensions: dict[int, object] = {0: Dim("batch", min=1, max=MOST_IMAGES)}
    if free:
        dimensions |= {2: STEP * Dim("rows", min=1, max=MOST_STEPS), 3: STEP * Dim("columns", min=1, max=MOST_STEPS)}
    inputs = (example, (example > 0).float())[:n_inputs]
    with _quiet(), torch.no_grad():
        return torch.export.export(network, inputs, dynamic_shapes=(dimensions,) * n_inputs, strict=False)


def _to_onnx(program: ExportedProgram, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
    with _quiet():
        exported = torch.onnx.export(
            program,
            input_names=list(inputs),
            output_names=list(outputs),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    if exported is None:
        raise RuntimeError("torch gave no ONNX model")
    buffer = io.BytesIO()
    exported.save(buffer, external_data=False)  # type: ignore[arg-type]  # it takes a file as well as a path
    return buffer.getvalue()


def write_model(model: bytes | object, format: str, path: Path) -> None:
    """Write an ONNX model in one piece, or for `openvino` two files, `path` (`<name>.xml`) and `<name>.bin`, float32 as it is."""
    if format == "onnx" and isinstance(model, bytes):
        write_bytes(path, model)
        return
    openvino = library("openvino")
    model = openvino.Core().read_model(model=model) if isinstance(model, bytes) else model
    path.parent.mkdir(parents=True, exist_ok=True)
    openvino.save_model(model, str(path), compress_to_fp16=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the exporters' messages for developers."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for category, message, module in _EXPORTERS:
            warnings.filterwarnings("ignore", message, category, module)
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


# What they call obsolete is in torch, copyreg and onnxscript themselves. A sampling ratio of -1 in torchvision is 0 in ONNX, as
# many points as fit: what onnxscript warns of is right.
_EXPORTERS: tuple[tuple[type[Warning], str, str], ...] = (
    (DeprecationWarning, "", r"onnxscript|onnx_ir|torch|copyreg"),
    (FutureWarning, "", r"onnxscript|onnx_ir|torch|copyreg"),
    (UserWarning, "ONNX export for RoIAlign with a non-zero sampling_ratio", r"onnxscript"),
)


def _in_words(error: Exception) -> str:
    words = " ".join(str(error).split())[:300] or type(error).__name__
    return words if words.endswith(".") else f"{words}."
