"""From a network to its graph, and from that to files of other runtimes.

The graph holds the network alone: grey values standardised by the bundle's preprocessing come in (and outlines, for ROI networks),
logits go out. Any number of images at once; any height and width that are multiples of 32 px, where the network allows it.
"""

import copy
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from bcd.files import write_bytes
from bcd.models.sizes import Resampling
from bcd.predictor.backends import library
from bcd.predictor.bundles.hashes import BundleError
from bcd.predictor.exports.padding import with_constant_padding
from bcd.predictor.networks import Member

log = logging.getLogger(__name__)

OPSET = 18
STEP = 32
MOST_STEPS = 128
MOST_IMAGES = 1024
INPUTS = {"roi": ("image", "guide")}
OUTPUTS = {"segmentation": ("mask_logits",), "multitask": ("mask_logits", "class_logits")}


@dataclass(frozen=True)
class Graph:
    """A network as a graph.

    Attributes:
        program: torch's.
        inputs: their names.
        outputs: their names.
        sizes: which images it takes, in words.
        free: whether height and width may be other than the preprocessing's.
    """

    program: ExportedProgram
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    sizes: str
    free: bool


class _Bfloat16(nn.Module):
    """A network that calculates in bfloat16, and takes and gives float32."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.to(torch.bfloat16)

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        found = self.network(*(tensor.to(torch.bfloat16) for tensor in inputs))
        return tuple(output.float() for output in found) if isinstance(found, tuple) else found.float()


def graph_of(member: Member, bfloat16: bool = False) -> Graph:
    """Return a network as a graph, of any size where that can be done.

    Args:
        member: on the CPU.
        bfloat16: its weights, and what is calculated, in bfloat16.

    Raises:
        BundleError: when torch can make no graph of it.
    """
    network = copy.deepcopy(member.task.model).eval()
    inputs, outputs = INPUTS.get(member.role, ("image",)), OUTPUTS.get(member.role, ("class_logits",))
    size, reason = member.preprocess.size, _why_fixed(member)
    if reason is None and not hasattr(network, "crop_size"):  # a crop has a size of its own
        network = with_constant_padding(network)
    network = _Bfloat16(network) if bfloat16 else network
    if reason is None:
        try:
            program = _program(network, len(inputs), size, free=True)
            return Graph(program, inputs, outputs, f"any batch; height and width multiples of {STEP} px", True)
        except Exception as error:  # what torch cannot follow it refuses by many exceptions
            reason = _in_words(error)
    log.warning("%s can be exported for images of %d x %d px alone, as the bundle makes them: %s", member.name, size, size, reason)
    try:
        return Graph(_program(network, len(inputs), size, free=False), inputs, outputs, f"any batch; {size} x {size} px", False)
    except Exception as error:  # as above
        raise BundleError(f"{member.name} cannot be exported: torch makes no graph of it ({_in_words(error)}).") from error


def _why_fixed(member: Member) -> str | None:
    """Return why a network's graph cannot be of any size; None where it may."""
    fit = getattr(member.task.model, "fit", None)
    if member.preprocess.size % STEP:
        return f"they are no multiple of {STEP}, and are padded within the network."
    if isinstance(fit, Resampling) and not hasattr(member.task.model, "crop_size"):
        return "the network knows a single size."
    return None


def _program(network: nn.Module, n_inputs: int, size: int, free: bool) -> ExportedProgram:
    # Two images, of two steps or more and unlike sides where they may be: what is 1, or equal, would be taken for a constant.
    height = max(size, 2 * STEP) if free else size
    width = height + STEP if free else size
    example = torch.linspace(-1, 1, 2 * height * width).reshape(2, 1, height, width)
    dimensions: dict[int, object] = {0: Dim("batch", min=1, max=MOST_IMAGES)}
    if free:
        dimensions |= {2: STEP * Dim("rows", min=1, max=MOST_STEPS), 3: STEP * Dim("columns", min=1, max=MOST_STEPS)}
    inputs = (example, (example > 0).float())[:n_inputs]
    each = (dimensions,) * n_inputs
    shapes = (each,) if isinstance(network, _Bfloat16) else each  # which takes any number of inputs
    with _quiet(), torch.no_grad():
        program = torch.export.export(network, inputs, dynamic_shapes=shapes, strict=False)
    program._example_inputs = None  # they would lie pickled in the file
    return program


def write_program(graph: Graph, path: Path) -> None:
    """Write a graph as torch's own program, without pickles."""
    buffer = io.BytesIO()
    with _quiet():
        torch.export.save(graph.program, buffer)
    write_bytes(path, buffer.getvalue())


def to_onnx(graph: Graph, name: str) -> bytes:
    """Return a graph as an ONNX model in one piece.

    Raises:
        BundleError: when it uses what ONNX does not have, or is larger than a model in one piece may be.
    """
    library("onnx")
    try:
        with _quiet():
            program = torch.onnx.export(
                graph.program,
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        buffer = io.BytesIO()
        if program is None:
            raise RuntimeError("torch gave no model")
        program.save(buffer, external_data=False)  # type: ignore[arg-type]  # it takes a file as well as a path
    except Exception as error:  # torch and onnxscript refuse by many exceptions
        raise BundleError(f"{name} cannot be exported to ONNX: {_in_words(error)}") from error
    return buffer.getvalue()


def write_model(model: bytes | object, format: str, path: Path) -> None:
    """Write an ONNX model, or one of OpenVINO's.

    Args:
        model: in one piece.
        format: `onnx`, or `openvino`: `<name>.xml` and `<name>.bin`, float32 as it is.
        path: of the file, or of the first of the two.
    """
    if format == "onnx" and isinstance(model, bytes):
        write_bytes(path, model)
        return
    openvino = library("openvino")
    found = openvino.Core().read_model(model=model) if isinstance(model, bytes) else model
    path.parent.mkdir(parents=True, exist_ok=True)
    openvino.save_model(found, str(path), compress_to_fp16=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep from the user what the exporters tell each other's developers."""
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
