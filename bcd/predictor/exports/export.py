"""Exporting a bundle's networks to onnxruntime and OpenVINO; an export enters the bundle only with a certificate of parity."""

import json
import logging
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from bcd.data.sources.phantom_simulator import simulate_image
from bcd.files import write_text
from bcd.images.read import decode_image
from bcd.images.scan import read_scans
from bcd.predictor.backends import CERTIFICATE, FORMATS, PRECISIONS, file_names, open_network, refuse_dropped, require_precision
from bcd.predictor.bundle import EXAMPLES, EXPORTS
from bcd.predictor.bundles.examples import NAMES
from bcd.predictor.bundles.hashes import BundleError, differences, read_hashes, read_sealed, seal
from bcd.predictor.exports.graphs import OPSET, Graph, graph_of, write_model
from bcd.predictor.exports.int8 import WHOLE, Example, write_int8
from bcd.predictor.exports.parity import TOLERANCES, TOLERANCES_ABROAD, Logits, certificate, compare, compare_batches
from bcd.predictor.many.inputs import find_inputs
from bcd.predictor.predictor import Predictor

log = logging.getLogger(__name__)

CALIBRATION_IMAGES = 200
PARITY_PHANTOMS = 48
_CALIBRATION_SEED, _PARITY_SEED = 1104, 726
_SIZES = ((300, 360), (256, 256), (480, 640), (200, 440), (520, 380), (131, 97))

_REMEDIES = {
    "fp32": "Another format may work; the differences are above.",
    "bf16": "Its eight bits of precision are too few for these networks; use fp32.",
    "int8": "Calibrate on more images, best on training images of the networks (run=, or calibration=), or use fp32.",
}


class ExportError(ValueError):
    """An exported model whose results are not those of its networks; it was left out of the bundle."""


@dataclass(frozen=True)
class Images:
    """Images for a purpose, grey, uint8 (H, W); the name says in words what they are."""

    name: str
    images: Iterable[np.ndarray]


@dataclass(frozen=True)
class ExportOptions:
    """What is to be exported, and how.

    Args:
        format: `onnx` or `openvino`.
        precision: `fp32`, `bf16` or `int8`.
        calibration: images that show what values an int8 network has to hold; None for simulated ones and the bundle's examples.
        calibration_images: the most of them.
        further: images to compare on, beside the simulated ones, such as the networks learned from.
        phantoms: how many simulated images to compare on.
        trusted: constructors of the user's own that the bundle may name.

    Raises:
        BundleError: for what there is not, or this machine cannot do.
    """

    format: str
    precision: str
    calibration: Images | None = None
    calibration_images: int = CALIBRATION_IMAGES
    further: Sequence[Images] = ()
    phantoms: int = PARITY_PHANTOMS
    trusted: Collection[str] = ()

    def __post_init__(self) -> None:
        refuse_dropped(self.format)
        if self.format not in FORMATS or self.precision not in PRECISIONS:
            raise BundleError(f"{self.name}: formats are {', '.join(FORMATS)}; precisions are {', '.join(PRECISIONS)}.")
        if self.name == "onnx-bf16":
            raise BundleError("onnxruntime has no bfloat16 on processors; use format=openvino, or precision=int8.")
        if self.name == "openvino-bf16":
            require_precision(self.precision)

    @property
    def name(self) -> str:
        """Return the name of the exported model, and of its folder."""
        return f"{self.format}-{self.precision}"


def images_of(folder: Path) -> Images:
    """Return the images of a folder with its subfolders, or those that a CSV lists; what cannot be read is logged and left out.

    Raises:
        FileNotFoundError: when there is none.
    """
    inputs = find_inputs(folder)

    def images() -> Iterator[np.ndarray]:
        for one in inputs:
            try:
                yield from (scan.image for scan in read_scans(one.path, one.shown))
            except (ValueError, OSError) as error:
                log.warning("Left out: %s", error)

    return Images(f"the images of {folder.name}", images())


def phantoms(count: int, seed: int) -> Iterator[np.ndarray]:
    """Yield simulated images, grey uint8 (H, W), of many sizes: a third each benign, malignant and without a lesion."""
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        label = ("benign", "malignant", "normal")[number % 3]
        yield simulate_image(rng, label, _SIZES[number // 3 % len(_SIZES)])


def export(bundle: Path, options: ExportOptions) -> dict[str, Any]:
    """Export a bundle's networks into `exports/<format>-<precision>/` of its folder; return the certificate of parity.

    An export of the same name is replaced, and the bundle gets new digests.

    Raises:
        BundleError: when the bundle cannot be used, or not be exported so.
        ExportError: when the results are not those of the networks; the bundle is then as it was.
    """
    bundle = Path(bundle)
    changed = differences(bundle)
    if changed:  # new hashes would hide that
        raise BundleError(f"{bundle} was changed: {' '.join(changed[:5])} Get the bundle again.")
    folder = Path(tempfile.mkdtemp(dir=bundle.resolve().parent, prefix=f".{bundle.resolve().name}."))
    try:
        folder.chmod(0o755)  # mkdtemp makes folders that colleagues cannot read
        content = _export(bundle, folder, options)
        write_text(folder / CERTIFICATE, json.dumps(content, indent=2, allow_nan=False) + "\n")
        place = bundle / EXPORTS / options.name
        place.parent.mkdir(exist_ok=True)
        shutil.rmtree(place, ignore_errors=True)
        folder.rename(place)
        seal(bundle)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return content


def _export(bundle: Path, folder: Path, options: ExportOptions) -> dict[str, Any]:
    """Write the exported networks into a folder; return the certificate, which they have passed."""
    reference = Predictor.load(bundle, "cpu", trusted=options.trusted)
    members = reference.pipeline.members
    graphs = {member.name: graph_of(member) for member in members}
    more: dict[str, Any] = {"opset": OPSET}
    if options.precision == "int8":
        more |= _write_int8(bundle, folder, options, reference, graphs)
    else:
        for name, graph in graphs.items():
            write_model(graph.onnx, options.format, folder / file_names(options.format, name)[0])
    exported = Predictor.load(bundle, "cpu", trusted=options.trusted)
    for member in exported.pipeline.members:
        contents = [(folder / file).read_bytes() for file in file_names(options.format, member.name)]
        member.task.model = open_network(options.format, options.precision, contents, member.preprocess.size)
    tolerance = TOLERANCES[options.precision]
    simulated = compare(reference, exported, phantoms(options.phantoms, _PARITY_SEED))
    on_images = {"simulated images": (simulated, tolerance if reference.bundle.synthetic else TOLERANCES_ABROAD[options.precision])}
    for further in options.further:
        on_images[further.name] = (compare(reference, exported, further.images), tolerance)
    on_batches = {
        one.name: compare_batches(one, other, graphs[one.name].free)
        for one, other in zip(members, exported.pipeline.members, strict=True)
    }
    content = certificate(options.format, options.precision, on_images, on_batches)
    if not content["passed"]:
        raise ExportError(
            f"{options.name} was left out of {bundle}: its results are not those of the networks: {'; '.join(content['outside'])}. "
            f"{_REMEDIES[options.precision]}"
        )
    digests = read_hashes(bundle)
    more["networks"] = {
        name: {
            "weights_sha256": digests[f"weights/{name}.safetensors"],
            "inputs": list(graph.inputs),
            "outputs": list(graph.outputs),
            "sizes": graph.sizes,
        }
        for name, graph in graphs.items()
    }
    return content | more


def _write_int8(
    bundle: Path, folder: Path, options: ExportOptions, reference: Predictor, graphs: Mapping[str, Graph]
) -> dict[str, Any]:
    """Write all networks in eight bits; return what was calibrated on, and which layers of each stayed in float32."""
    given = options.calibration if options.calibration is not None else _simulated(bundle)
    members = reference.pipeline.members
    recorders = {member.name: _Recorder(member.task.model) for member in members}
    count = 0
    try:  # an ROI network is shown the masks that the others predict
        for member in members:
            member.task.model = recorders[member.name]
        for image in islice(given.images, options.calibration_images):
            count += 1
            reference.pipeline(image, "image", reference.bundle.mask_threshold)
    finally:
        for member in members:
            member.task.model = recorders[member.name].network
    if count == 0:
        raise BundleError(f"There is no image among {given.name} to calibrate on; give others by calibration=.")
    log.info("Calibrated on %d images: %s.", count, given.name)
    at_home = reference.bundle.synthetic or options.calibration is not None
    tolerance = (TOLERANCES if at_home else TOLERANCES_ABROAD)["int8"]
    threshold = reference.bundle.mask_threshold or 0.5
    in_float = {}
    for member in members:
        graph, examples = graphs[member.name], recorders[member.name].examples
        in_float[member.name] = write_int8(folder, options.format, member, graph, examples, tolerance, threshold)
    if set(in_float.values()) == {WHOLE}:
        raise ExportError(f"{options.name} would be completely float32: no network tolerates eight bits. {_REMEDIES['int8']}")
    return {"calibrated_on": f"{count} images: {given.name}", "in_float32": in_float}


class _Recorder(nn.Module):
    """Keeps what a network is given, and what it answers."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.examples: list[Example] = []

    def forward(self, *inputs: Tensor) -> Logits:
        logits: Logits = self.network(*inputs)
        self.examples.append(Example(tuple(tensor.numpy().copy() for tensor in inputs), logits))
        return logits


def _simulated(bundle: Path) -> Images:
    digests = read_hashes(bundle)
    files = {name: read_sealed(bundle, f"{EXAMPLES}/{name}.png", digests) for name in NAMES}

    def images() -> Iterator[np.ndarray]:
        yield from (decode_image(content, f"{name}.png") for name, content in files.items())
        yield from phantoms(CALIBRATION_IMAGES, _CALIBRATION_SEED)

    return Images("simulated ones, and the bundle's examples", images())
