"""Exporting a bundle's networks to other runtimes; an export enters the bundle only with a certificate that it says the same."""

import json
import logging
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from bcd.files import write_text
from bcd.images.read import decode_image
from bcd.predictor.backends import CERTIFICATE, FORMATS, PRECISIONS, TRUST_PROGRAMS, file_names, open_network, require_precision
from bcd.predictor.bundle import EXAMPLES, EXPORTS
from bcd.predictor.bundles.examples import NAMES
from bcd.predictor.bundles.hashes import BundleError, differences, read_hashes, read_sealed, seal
from bcd.predictor.exports.graphs import OPSET, Graph, graph_of, to_onnx, write_model, write_program
from bcd.predictor.exports.images import Images, phantoms
from bcd.predictor.exports.parity import ABROAD, TOLERANCES, Answer, certificate, compare, compare_batches
from bcd.predictor.exports.rungs import WHOLE, Shown, write_int8
from bcd.predictor.networks import Member
from bcd.predictor.predictor import Predictor

log = logging.getLogger(__name__)

CALIBRATION_IMAGES = 200
PARITY_PHANTOMS = 48
_CALIBRATION_SEED, _PARITY_SEED = 1104, 726

_REMEDIES = {
    "fp32": "Another format may do; the report above says how far off it is.",
    "bf16": "Its eight bits of precision are too few for these networks; use fp32.",
    "int8": "Calibrate on more images, and such as the networks learned from (run=, or calibration=), or use fp32.",
}


class ExportError(ValueError):
    """An exported model that does not say what its networks say; it was left out of the bundle."""


@dataclass(frozen=True)
class Wish:
    """What is to be exported, and how.

    Args:
        format: `onnx`, `openvino` or `torch_export`.
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
        if self.format not in FORMATS or self.precision not in PRECISIONS:
            raise BundleError(f"{self.name}: formats are {', '.join(FORMATS)}; precisions are {', '.join(PRECISIONS)}.")
        if self.name == "onnx-bf16":
            raise BundleError("onnxruntime has no bfloat16 on processors; use format=openvino or torch_export, or precision=int8.")
        if self.name == "torch_export-int8":
            raise BundleError("torch has no eight-bit programs without further libraries; use format=onnx or openvino.")
        if self.name == "openvino-bf16":
            require_precision(self.precision)

    @property
    def name(self) -> str:
        """Return the name of the exported model, and of its folder."""
        return f"{self.format}-{self.precision}"


def export(bundle: Path, wish: Wish) -> dict[str, Any]:
    """Export a bundle's networks into the bundle, in place of an export of the same name; return the certificate of parity.

    Args:
        bundle: the folder; gets `exports/<format>-<precision>/`, and new digests.
        wish: what and how.

    Raises:
        BundleError: when the bundle cannot be used, or not be exported so.
        ExportError: when the exported model does not say what the networks say; the bundle is then as it was.
    """
    bundle = Path(bundle)
    changed = differences(bundle)
    if changed:  # sealing it anew would hide that
        raise BundleError(f"{bundle} is not as it was made: {' '.join(changed[:5])} Get the bundle again.")
    reference = Predictor.load(bundle, "cpu", trusted=wish.trusted)
    members = reference.pipeline.members
    shown = _calibration(reference, bundle, wish) if wish.precision == "int8" else None
    graphs = {member.name: graph_of(member, wish.name == "torch_export-bf16") for member in members}
    with _aside(bundle) as folder:
        in_float = _write(folder, wish, reference, graphs, shown)
        told = _certified(reference, _opened(bundle, folder, wish), wish, graphs)
        told["networks"] = _networks(bundle, members, graphs)
        told |= {"opset": OPSET} if wish.format != "torch_export" else {}
        told |= {"calibrated_on": shown.name, "in_float32": in_float} if shown is not None else {}
        if not told["passed"]:
            raise ExportError(
                f"{wish.name} was left out of {bundle}, since it does not say what the networks say: {'; '.join(told['outside'])}. "
                f"{_REMEDIES[wish.precision]}"
            )
        write_text(folder / CERTIFICATE, json.dumps(told, indent=2, allow_nan=False) + "\n")
        _enter(bundle, folder, wish.name)
    return told


@dataclass(frozen=True)
class _Calibration:
    name: str
    on_real: bool
    shown: Mapping[str, Shown]


def _calibration(reference: Predictor, bundle: Path, wish: Wish) -> _Calibration:
    """Return what each network sees and says of the calibration images, an ROI network with the outlines that the others draw."""
    given = wish.calibration if wish.calibration is not None else _simulated(bundle)
    members = reference.pipeline.members
    recorders = {member.name: _Recorder(member.task.model) for member in members}
    count = 0
    try:
        for member in members:
            member.task.model = recorders[member.name]
        for image in islice(given.images, wish.calibration_images):
            count += 1
            reference.pipeline(image, "image", reference.bundle.mask_threshold)
    finally:
        for member in members:
            member.task.model = recorders[member.name].network
    if count == 0:
        raise BundleError(f"There is no image among {given.name} to calibrate on; give others by calibration=.")
    log.info("Calibrated on %d images: %s.", count, given.name)
    shown = {name: recorder.shown for name, recorder in recorders.items()}
    return _Calibration(f"{count} images: {given.name}", wish.calibration is not None, shown)


class _Recorder(nn.Module):
    """Notes what a network is shown, and what it says."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.shown = Shown([], [])

    def forward(self, *inputs: Tensor) -> Answer:
        answer: Answer = self.network(*inputs)
        self.shown.inputs.append(tuple(tensor.numpy().copy() for tensor in inputs))
        self.shown.answers.append(answer)
        return answer


def _simulated(bundle: Path) -> Images:
    digests = read_hashes(bundle)
    files = {name: read_sealed(bundle, f"{EXAMPLES}/{name}.png", digests) for name in NAMES}
    examples = [decode_image(content, f"{name}.png") for name, content in files.items()]

    def images() -> Iterator[np.ndarray]:
        yield from examples
        yield from phantoms(CALIBRATION_IMAGES, _CALIBRATION_SEED)

    return Images("simulated ones, and the bundle's examples", images())


def _write(
    folder: Path, wish: Wish, reference: Predictor, graphs: Mapping[str, Graph], calibration: _Calibration | None
) -> dict[str, str]:
    """Write all networks; return for each int8 one which of its layers stayed in float32.

    Raises:
        ExportError: when all of all did.
    """
    in_float = {}
    for member in reference.pipeline.members:
        if calibration is None:
            _write_plain(folder / file_names(wish.format, member.name)[0], wish.format, graphs[member.name], member.name)
            continue
        at_home = reference.bundle.synthetic or calibration.on_real
        in_float[member.name] = write_int8(
            folder,
            wish.format,
            member,
            graphs[member.name],
            calibration.shown[member.name],
            (TOLERANCES if at_home else ABROAD)[wish.precision],
            reference.bundle.mask_threshold or 0.5,
        )
    if in_float and set(in_float.values()) == {WHOLE}:
        raise ExportError(f"{wish.name} would be float32 as a whole: no network bears eight bits. {_REMEDIES[wish.precision]}")
    return in_float


def _write_plain(path: Path, format: str, graph: Graph, name: str) -> None:
    if format == "torch_export":
        write_program(graph, path)
    else:
        write_model(to_onnx(graph, name), format, path)


def _opened(bundle: Path, folder: Path, wish: Wish) -> Predictor:
    """Return a predictor that runs the exports of a folder."""
    predictor = Predictor.load(bundle, "cpu", trusted=wish.trusted)
    for member in predictor.pipeline.members:
        contents = [(folder / file).read_bytes() for file in file_names(wish.format, member.name)]
        size = member.preprocess.size
        member.task.model = open_network(wish.format, wish.precision, contents, size, [TRUST_PROGRAMS])
    return predictor


def _certified(reference: Predictor, exported: Predictor, wish: Wish, graphs: Mapping[str, Graph]) -> dict[str, Any]:
    at_home = TOLERANCES[wish.precision]
    simulated = compare(reference, exported, phantoms(wish.phantoms, _PARITY_SEED))
    on_images = {"simulated images": (simulated, at_home if reference.bundle.synthetic else ABROAD[wish.precision])}
    for further in wish.further:
        on_images[further.name] = (compare(reference, exported, further.images), at_home)
    pairs = list(zip(reference.pipeline.members, exported.pipeline.members, strict=True))
    on_batches = {one.name: compare_batches(one, other, graphs[one.name].free) for one, other in pairs}
    return certificate(wish.format, wish.precision, on_images, on_batches)


def _networks(bundle: Path, members: Sequence[Member], graphs: Mapping[str, Graph]) -> dict[str, Any]:
    digests = read_hashes(bundle)
    return {
        member.name: {
            "weights_sha256": digests[f"weights/{member.name}.safetensors"],
            "inputs": list(graphs[member.name].inputs),
            "outputs": list(graphs[member.name].outputs),
            "sizes": graphs[member.name].sizes,
        }
        for member in members
    }


@contextmanager
def _aside(bundle: Path) -> Iterator[Path]:
    """Yield a new folder beside the bundle; it is gone afterwards, unless it was moved."""
    folder = Path(tempfile.mkdtemp(dir=bundle.resolve().parent, prefix=f".{bundle.resolve().name}."))
    try:
        folder.chmod(0o755)  # mkdtemp makes folders that colleagues cannot read
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _enter(bundle: Path, folder: Path, name: str) -> None:
    """Move a whole export into its bundle, and seal that."""
    place = bundle / EXPORTS / name
    place.parent.mkdir(exist_ok=True)
    shutil.rmtree(place, ignore_errors=True)
    folder.rename(place)
    seal(bundle)
