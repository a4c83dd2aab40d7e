"""As many layers of a network in eight bits as its answers bear, told from what it says of the calibration images."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bcd.predictor.backends import file_names, open_network
from bcd.predictor.exports.graphs import Graph, to_onnx, write_model
from bcd.predictor.exports.int8 import RUNGS, Inputs, quantise_onnx, quantise_openvino
from bcd.predictor.exports.parity import Answer, Parity, Tolerance, compare_answers
from bcd.predictor.networks import Member

log = logging.getLogger(__name__)

SHARE = 0.5
"""Of the tolerance, for a network alone: a class hangs on the outline too, and other images are not the calibration's."""
WHOLE = "all layers"


@dataclass(frozen=True)
class Shown:
    """What a network was shown, image by image, and what it said: logits of one image each."""

    inputs: list[Inputs]
    answers: list[Answer]


def write_int8(
    folder: Path, format: str, member: Member, graph: Graph, shown: Shown, tolerance: Tolerance, threshold: float
) -> str:
    """Write a network with as many layers in eight bits as stay within half of the tolerance; return which stayed in float32.

    Args:
        folder: for the files.
        format: `onnx` or `openvino`.
        member: the network.
        graph: of it.
        shown: of the calibration images.
        tolerance: of an int8 export.
        threshold: a pixel is lesion from this probability on.

    Raises:
        BundleError: when the network cannot be quantised.
    """
    model = to_onnx(graph, member.name)
    limit, path = tolerance.share(SHARE), folder / file_names(format, member.name)[0]
    quantise = quantise_onnx if format == "onnx" else quantise_openvino
    for rung in RUNGS:
        write_model(quantise(model, shown.inputs, graph.inputs, rung), format, path)
        outside = _apart(folder, format, member, shown, threshold).complaints(limit)
        if not outside:
            return rung.words
        log.info("%s in eight bits but for %s: %s. More stays in float32.", member.name, rung.words, "; ".join(outside))
    write_model(model, format, path)
    log.warning("%s bears no eight bits: it stays in float32.", member.name)
    return WHOLE


@torch.no_grad()
def _apart(folder: Path, format: str, member: Member, shown: Shown, threshold: float) -> Parity:
    contents = [(folder / file).read_bytes() for file in file_names(format, member.name)]
    network: Callable[..., Answer] = open_network(format, "int8", contents, member.preprocess.size)
    said = (network(*_tensors(inputs)) for inputs in shown.inputs)
    return compare_answers(zip(shown.answers, said, strict=True), member.temperature, threshold)


def _tensors(inputs: Inputs) -> Sequence[Tensor]:
    return [torch.from_numpy(array) for array in inputs]
