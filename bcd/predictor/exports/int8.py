"""Eight-bit networks by post-training quantisation (NNCF), for onnxruntime and for OpenVINO.

Weights are quantised channel by channel, activations layer by layer by what they were for the calibration images; biases are then
corrected for what that changed. The first and the last layers stay in float32: the first has few values to gain from, the last
decides where an outline runs. Some networks bear less: what the first layers of a MobileNet lose, the later ones make large. Then
more of the first or of the last layers stay in float32, or the whole network (`RUNGS`).
"""

import importlib
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np

from bcd.predictor.backends import library
from bcd.predictor.bundles.hashes import BundleError

Inputs = tuple[np.ndarray, ...]
_LAYERS = {"Conv", "ConvTranspose", "Gemm", "MatMul", "Convolution", "GroupConvolution", "ConvolutionBackpropData"}


@dataclass(frozen=True)
class Rung:
    """Which layers of a network stay in float32.

    Attributes:
        words: the same in words.
        first: share of the layers, from the first on; one at least.
        last: share of the layers, up to the last; those that give the answers at least.
    """

    words: str
    first: float
    last: float


RUNGS = (
    Rung("the first and the last layer", 0, 0),
    Rung("the first tenth and the last layer", 1 / 10, 0),
    Rung("the first third and the last layer", 1 / 3, 0),
    Rung("the first layer and the last third", 0, 1 / 3),
    Rung("the first and the last third", 1 / 3, 1 / 3),
)
"""From the fastest on; what bears none of them stays in float32 as a whole."""


def quantise_onnx(model: bytes, calibration: Sequence[Inputs], names: Sequence[str], rung: Rung = RUNGS[0]) -> bytes:
    """Return an ONNX model with quantised layers.

    Args:
        model: in one piece.
        calibration: what the network saw of each calibration image: float32 arrays (1, 1, H, W).
        names: of its inputs.
        rung: which layers stay as they are.

    Raises:
        BundleError: when it cannot be quantised.
    """
    graph = library("onnx").load_model_from_string(model)
    layers = [node.name for node in graph.graph.node if node.op_type in _LAYERS]
    last = {_maker(graph.graph, entry.name) for entry in graph.graph.output}
    quantised = _quantised(graph, [dict(zip(names, inputs, strict=True)) for inputs in calibration], _kept(layers, last, rung))
    content: bytes = quantised.SerializeToString()
    return content


def quantise_openvino(model: bytes, calibration: Sequence[Inputs], names: Sequence[str], rung: Rung = RUNGS[0]) -> Any:
    """Return OpenVINO's model of an ONNX model, with quantised layers; the arguments are `quantise_onnx`'s."""
    graph = library("openvino").Core().read_model(model=model)
    ordered = graph.get_ordered_ops()
    layers = [node.get_friendly_name() for node in ordered if node.get_type_name() in _LAYERS]
    last = {_openvino_maker(entry.get_node()) for entry in graph.outputs}
    return _quantised(graph, [dict(zip(names, inputs, strict=True)) for inputs in calibration], _kept(layers, last, rung))


def _kept(layers: Sequence[str], last: set[str | None], rung: Rung) -> list[str]:
    """Return the names of the layers that stay in float32, in their order."""
    first, end = max(1, ceil(len(layers) * rung.first)), len(layers) - ceil(len(layers) * rung.last)
    return [name for number, name in enumerate(layers) if number < first or number >= end or name in last]


def _quantised(graph: Any, calibration: Sequence[dict[str, np.ndarray]], kept: list[str]) -> Any:
    nncf = library("nncf")
    try:
        with _quiet():
            return nncf.quantize(
                graph,
                nncf.Dataset(calibration),
                subset_size=len(calibration),
                preset=nncf.QuantizationPreset.MIXED,
                fast_bias_correction=True,
                ignored_scope=nncf.IgnoredScope(names=kept),
                # Seven bits for weights: processors without VNNI add pairs of products in 16 bits, which eight would overflow.
                advanced_parameters=nncf.AdvancedQuantizationParameters(
                    overflow_fix=nncf.OverflowFix.ENABLE,
                    activations_range_estimator_params=_whole_range(),
                ),
            )
    except Exception as error:  # nncf refuses by many exceptions
        raise BundleError(f"precision=int8: NNCF cannot quantise this network ({' '.join(str(error).split())[:300]}).") from error


def _whole_range() -> Any:
    """Return that the smallest and the largest value of all calibration images count; means of them would cut single images off."""
    library("nncf")
    return importlib.import_module("nncf.quantization.range_estimator").RangeEstimatorParametersSet.MINMAX


def _maker(graph: Any, tensor: str) -> str | None:
    """Return the name of the layer that an output comes from, back through nodes that only shape or add."""
    makers = {name: node for node in graph.node for name in node.output}
    node = makers.get(tensor)
    while node is not None and node.op_type not in _LAYERS:
        node = next((makers[name] for name in node.input if name in makers), None)
    return None if node is None else str(node.name)


def _openvino_maker(node: Any) -> str | None:
    while node is not None and node.get_type_name() not in _LAYERS:
        sources = [entry.get_node() for entry in node.input_values()]
        node = next((source for source in sources if source.get_type_name() not in ("Constant", "Parameter")), None)
    return None if node is None else str(node.get_friendly_name())


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"nncf|onnx|openvino|copyreg")
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"nncf|onnx|openvino")
        yield
