"""Eight-bit networks by post-training quantisation (NNCF), for onnxruntime and for OpenVINO.

Weights are quantised channel by channel, activations layer by layer by what they were for the calibration images; biases are then
corrected for what that changed. The first and the last layers stay in float32: the first has few values to gain from, the last
decides where a contour runs. Some networks tolerate less: later layers of a MobileNet amplify the errors of the first ones. Then
more of the first or of the last layers stay in float32, or the whole network (`KEPT`).
"""

import importlib
import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bcd.predictor.backends import file_names, in_own_thread, library, open_network
from bcd.predictor.bundles.hashes import BundleError
from bcd.predictor.exports.graphs import Graph, write_model
from bcd.predictor.exports.parity import Logits, Tolerance, parity_of, prediction_of
from bcd.predictor.networks import Member

log = logging.getLogger(__name__)

KEPT = {
    "the first and the last layer": (0, 0),
    "the first tenth and the last layer": (1 / 10, 0),
    "the first third and the last layer": (1 / 3, 0),
    "the first layer and the last third": (0, 1 / 3),
    "the first and the last third": (1 / 3, 1 / 3),
}
"""What stays in float32, from the fastest on -> the same as shares of the layers, from the first on and up to the last."""
WHOLE = "all layers"
_LAYERS = {"Conv", "ConvTranspose", "Gemm", "MatMul", "Convolution", "GroupConvolution", "ConvolutionBackpropData"}


@dataclass(frozen=True)
class Example:
    """What a network was given of one image, float32 arrays (1, 1, H, W), and what it answered."""

    inputs: tuple[np.ndarray, ...]
    logits: Logits


@torch.no_grad()
def write_int8(
    folder: Path, format: str, member: Member, graph: Graph, examples: Sequence[Example], tolerance: Tolerance, threshold: float
) -> str:
    """Write a network with as many layers in eight bits as stay within half of the tolerance; return which stayed in float32.

    Half, because the network is alone here: a class depends on the mask too, and other images are not the calibration's. `examples`
    are of the calibration images; a pixel is lesion from `threshold` on.

    Raises:
        BundleError: when the network cannot be quantised.
    """
    files = [folder / name for name in file_names(format, member.name)]
    expected = [prediction_of(example.logits, member.temperature, threshold) for example in examples]
    for words, shares in KEPT.items():
        write_model(quantise(graph, format, [example.inputs for example in examples], *shares), format, files[0])
        network = open_network(format, "int8", [file.read_bytes() for file in files], member.preprocess.size)
        answers = (network(*map(torch.from_numpy, example.inputs)) for example in examples)
        predicted = (prediction_of(logits, member.temperature, threshold) for logits in answers)
        outside = parity_of(zip(expected, predicted, strict=True)).complaints(tolerance.half())
        if not outside:
            return words
        log.info("%s in eight bits except %s: %s. More stays in float32.", member.name, words, "; ".join(outside))
    write_model(graph.onnx, format, files[0])
    log.warning("%s does not tolerate eight bits: it stays in float32.", member.name)
    return WHOLE


def quantise(graph: Graph, format: str, inputs: Sequence[tuple[np.ndarray, ...]], first: float, last: float) -> Any:
    """Return a graph with quantised layers: an ONNX model's bytes, or OpenVINO's model; `inputs` are of each calibration image.

    `first` and `last` are the shares of the layers that stay as they are, from the first on and up to the last: one at least, and
    those that give the answers.

    Raises:
        BundleError: when it cannot be quantised.
    """
    nncf = library("nncf")
    if format == "onnx":
        model = library("onnx").load_model_from_string(graph.onnx)
        layers = [node.name for node in model.graph.node if node.op_type in _LAYERS]
        makers = {name: node for node in model.graph.node for name in node.output}
        ends = {_last_layer(makers.get(entry.name), makers) for entry in model.graph.output}
    else:
        model = library("openvino").Core().read_model(model=graph.onnx)
        layers = [node.get_friendly_name() for node in model.get_ordered_ops() if node.get_type_name() in _LAYERS]
        ends = {_last_openvino_layer(entry.get_node()) for entry in model.outputs}
    begin, end = max(1, ceil(len(layers) * first)), len(layers) - ceil(len(layers) * last)
    kept = [name for number, name in enumerate(layers) if not begin <= number < end or name in ends]
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"nncf|onnx|openvino|copyreg")
            warnings.filterwarnings("ignore", category=FutureWarning, module=r"nncf|onnx|openvino")
            # The smallest and the largest value of all images count: means of them would cut single images off.
            ranges = importlib.import_module("nncf.quantization.range_estimator").RangeEstimatorParametersSet.MINMAX
            quantised = in_own_thread(
                lambda: nncf.quantize(
                    model,
                    nncf.Dataset([dict(zip(graph.inputs, arrays, strict=True)) for arrays in inputs]),
                    subset_size=len(inputs),
                    preset=nncf.QuantizationPreset.MIXED,
                    fast_bias_correction=True,
                    ignored_scope=nncf.IgnoredScope(names=kept),
                    # Seven bits for weights: processors without VNNI add pairs of products in 16 bits, which eight would overflow.
                    advanced_parameters=nncf.AdvancedQuantizationParameters(
                        overflow_fix=nncf.OverflowFix.ENABLE, activations_range_estimator_params=ranges
                    ),
                )
            )
    except Exception as error:  # nncf refuses by many exceptions
        raise BundleError(f"precision=int8: NNCF cannot quantise this network ({' '.join(str(error).split())[:300]}).") from error
    return quantised.SerializeToString() if format == "onnx" else quantised


def _last_layer(node: Any, makers: Mapping[str, Any]) -> str | None:
    """Return the name of the layer that an output comes from, back through nodes that only shape or add."""
    while node is not None and node.op_type not in _LAYERS:
        node = next((makers[name] for name in node.input if name in makers), None)
    return None if node is None else str(node.name)


def _last_openvino_layer(node: Any) -> str | None:
    while node is not None and node.get_type_name() not in _LAYERS:
        sources = [entry.get_node() for entry in node.input_values()]
        node = next((source for source in sources if source.get_type_name() not in ("Constant", "Parameter")), None)
    return None if node is None else str(node.get_friendly_name())
