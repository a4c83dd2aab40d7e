"""Prediction with an exported network: onnxruntime or OpenVINO in place of the original network.

All else stays the same code: preprocessing, sigmoid or softmax, views, the way back to native size, calibration, thresholds.
Numbers go in and out as float32, one image at a time.
"""

import importlib
import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bcd.predictor.bundle import EXPORTS
from bcd.predictor.bundles.hashes import BundleError, read_sealed
from bcd.predictor.networks import MAX_WEIGHTS_BYTES, Member

FORMATS = ("onnx", "openvino")
PRECISIONS = ("fp32", "bf16", "int8")
CERTIFICATE = "parity.json"
FILES = {"onnx": (".onnx",), "openvino": (".xml", ".bin")}
"""Format -> endings of an exported network's files; the first is the one that is opened."""

Arrays = list[np.ndarray]
Run = Callable[[Arrays], Arrays]


def library(name: str) -> ModuleType:
    """Return onnx, onnxruntime, openvino or nncf, which run exported models or make them: imported late, and kept silent.

    As they are released, they send usage data from their import on: onnxruntime unless ORT_DISABLE_TELEMETRY is set before
    (`bcd/__init__.py`), the others through the package openvino_telemetry, which also leaves an identifier in the user's home.
    They do without that package where it cannot be imported, and so it cannot be.

    Raises:
        BundleError: when it is not installed.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    if sys.modules.get("openvino_telemetry") is None:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # importing it is now an ImportError
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise BundleError(f"Exported models need {name}, which is not installed: pip install 'bcd[export]'.") from error
    if name == "onnxruntime":
        module.disable_telemetry_events()  # for the builds of Windows, which do not look at the variable
    if name == "nncf":
        module.set_log_level(logging.WARNING)
    return module


class ExportedNetwork(nn.Module):
    """Takes a network's place in its task: images, and guides where it takes them, in; logits out.

    Args:
        run: float32 arrays (B, 1, H, W) -> float32 arrays, as many as the network has answers.
    """

    def __init__(self, run: Run) -> None:
        super().__init__()
        self._run = run

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return the logits of the mask or of the classes, or both."""
        outputs = [torch.from_numpy(output) for output in self._run([tensor.contiguous().numpy() for tensor in inputs])]
        return outputs[0] if len(outputs) == 1 else tuple(outputs)


def open_network(format: str, precision: str, contents: Sequence[bytes], size: int) -> ExportedNetwork:
    """Return an exported network, on as many threads as torch has.

    Args:
        format: one of FORMATS.
        precision: one of PRECISIONS.
        contents: of its files, in the order of FILES.
        size: side in pixels of most images that it will be given.

    Raises:
        BundleError: when the file cannot be run, here or at all.
    """
    try:
        run: Run = _Onnx(contents[0]) if format == "onnx" else _OpenVINO(contents[0], contents[1], precision, size)
    except BundleError:
        raise
    except Exception as error:  # both libraries refuse a file by any exception
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise BundleError(f"The exported network cannot be opened as {format}: {reason}. Export it again.") from error
    return ExportedNetwork(run)


class _Onnx:
    def __init__(self, content: bytes) -> None:
        runtime = library("onnxruntime")
        onnx = library("onnx")
        model = onnx.load_model_from_string(content)
        # The names of other files with weights could lead anywhere.
        if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in _tensors(model.graph)) or model.functions:
            raise BundleError("The ONNX model has weights in other files, or functions of its own; this project writes neither.")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        # Its threads would otherwise keep their cores busy after a run, and slow the predictor's other steps.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3  # errors; it warns of what it could have made faster
        self._session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self._names = [entry.name for entry in self._session.get_inputs()]

    def __call__(self, inputs: Arrays) -> Arrays:
        return list(self._session.run(None, dict(zip(self._names, inputs, strict=True))))


def _tensors(graph: Any) -> list[Any]:
    """Return all tensors that a graph, and graphs in its nodes, hold."""
    tensors = [*graph.initializer, *(part for sparse in graph.sparse_initializer for part in (sparse.values, sparse.indices))]
    for node in graph.node:
        for attribute in node.attribute:
            tensors += [attribute.t, *attribute.tensors]
            for inner in [attribute.g, *attribute.graphs]:
                tensors += _tensors(inner) if inner.ByteSize() else []
    return tensors


class _OpenVINO:
    """Compiled for single images of the usual size, which is fastest, and for any other where one comes."""

    def __init__(self, model: bytes, weights: bytes, precision: str, size: int) -> None:
        self._core = _openvino_core()
        require_precision(precision, self._core)
        self._model = self._core.read_model(model=model, weights=weights)
        self._hints = {
            # Else it silently calculates in bfloat16 if the processor can.
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # several processes on one machine would choose the same cores
        }
        usual = self._model.clone()
        self._usual_shape = (1, 1, size, size)
        usual.reshape({entry.any_name: list(self._usual_shape) for entry in usual.inputs})
        self._compiled: dict[str, Any] = {"usual": self._core.compile_model(usual, "CPU", self._hints)}
        self._lock = threading.Lock()
        self._of_thread = threading.local()  # a request runs one image at a time; threads must not share one

    def __call__(self, inputs: Arrays) -> Arrays:
        name = "usual" if inputs[0].shape == self._usual_shape else "any"
        if not hasattr(self._of_thread, name):
            with self._lock:
                if name not in self._compiled:
                    self._compiled[name] = self._core.compile_model(self._model, "CPU", self._hints)
            setattr(self._of_thread, name, self._compiled[name].create_infer_request())
        request = getattr(self._of_thread, name)
        request.infer(inputs, share_inputs=True)
        return [np.array(request.get_output_tensor(number).data) for number in range(len(request.model_outputs))]


def in_own_thread(work: Callable[[], Any]) -> Any:
    """Return what work returns, done by a thread of its own: for whatever loads OpenVINO's CPU plugin.

    Where the processor has AMX, the plugin gives the thread that loads it another stack for signal handlers, and frees that stack
    with the last network, in whatever thread that happens: the next signal would then end the process.
    """
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def _openvino_core() -> Any:
    core = library("openvino").Core()
    in_own_thread(lambda: core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
    return core


def refuse_dropped(format: str) -> None:
    """Refuse, by a BundleError, the format that earlier versions had: a saved program of torch is code, and opening it runs it."""
    if format == "torch_export":
        raise BundleError(f"torch_export is no longer written or run: its files are code. Use {' or '.join(FORMATS)}.")


def require_precision(precision: str, core: Any = None) -> None:
    """Refuse bfloat16, by a BundleError, where the processor has none: OpenVINO would silently use float32."""
    if precision != "bf16":
        return
    core = core if core is not None else _openvino_core()
    if "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise BundleError("precision=bf16: this processor does not calculate in bfloat16, so OpenVINO would not; use fp32 or int8.")


def use_export(members: Sequence[Member], bundle: Path, name: str, digests: Mapping[str, str]) -> None:
    """Let an exported model of a bundle, such as `onnx-fp32`, take the place of its networks, which were not built.

    Raises:
        BundleError: when there is no such exported model, or it was made of other weights, or cannot be run.
    """
    folder = f"{EXPORTS}/{name}"
    format, _, precision = name.partition("-")
    refuse_dropped(format)
    if format not in FORMATS or precision not in PRECISIONS or f"{folder}/{CERTIFICATE}" not in digests:
        there = sorted({path.split("/")[1] for path in digests if path.startswith(f"{EXPORTS}/") and path.endswith(CERTIFICATE)})
        raise BundleError(
            f"{bundle} has no exported model {name}; it has: {', '.join(there) or 'none'}. python scripts/export.py makes them."
        )
    certificate = read_sealed(bundle, f"{folder}/{CERTIFICATE}", digests)
    try:
        made_of = {network: str(entry["weights_sha256"]) for network, entry in json.loads(certificate)["networks"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BundleError(f"{CERTIFICATE} of the exported model cannot be read; export it again.") from error
    for member in members:
        if made_of.get(member.name) != digests[f"weights/{member.name}.safetensors"]:
            raise BundleError(f"{bundle}: {name} was exported from other weights than the bundle's; export it again.")
        paths = [f"{folder}/{file}" for file in file_names(format, member.name)]
        contents = [read_sealed(bundle, path, digests, MAX_WEIGHTS_BYTES) for path in paths]
        member.task.model = open_network(format, precision, contents, member.preprocess.size)


def file_names(format: str, network: str) -> list[str]:
    """Return the names of an exported network's files in the export's folder."""
    return [f"{network}{ending}" for ending in FILES[format]]
