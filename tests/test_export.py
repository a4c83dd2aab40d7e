"""Exported models: what enters a bundle, what it says, and what is refused."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from timm.layers import Conv2dSame
from tiny_bundles import tiny, tiny_predictor, written
from torch import nn

from bcd.config import compose
from bcd.config.build import build
from bcd.models.roi import RoiChannel
from bcd.predictor.backends import ExportedNetwork, file_names, open_network
from bcd.predictor.bundles.hashes import BundleError, differences, fingerprint, seal
from bcd.predictor.bundles.write import write_bundle
from bcd.predictor.exports import export as exporting
from bcd.predictor.exports import parity as export_parity
from bcd.predictor.exports.export import ExportError, ExportOptions, export, images_of, phantoms
from bcd.predictor.exports.graphs import _program, graph_of, with_constant_padding, write_model
from bcd.predictor.exports.int8 import KEPT, WHOLE, Example, quantise, write_int8
from bcd.predictor.exports.parity import Logits, Parity, Tolerance, certificate, compare, parity_of, prediction_of
from bcd.predictor.networks import State
from bcd.predictor.predictor import Predictor
from bcd.tasks.checkpoint import without_pretrained


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the bundle of a network that outlines simulated lesions, so that parity of masks means something."""
    config = compose("train", ["model=attention_unet", "model.channels=[8,16]", "preprocess.size=64"])
    node = without_pretrained(config["task"])
    about, _ = tiny("segmentation")
    about["networks"][0] |= {"task": node, "preprocess": config["preprocess"]}
    folder = tmp_path_factory.mktemp("bundles") / "trained"
    write_bundle(folder, about, {"segmentation": _learned(build(node).model)}, "# tiny: model card\n")
    return folder


def _learned(model: torch.nn.Module) -> State:
    """Teach a network that what is dark is lesion: too little for images, enough for masks that mean something.

    In one thread: sums in another order make another network, and not each bears eight bits.
    """
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    shown = torch.stack([torch.from_numpy(cv2.resize(image, (64, 64))).float()[None] for image in phantoms(12, 3)]) / 127.5 - 1
    truth = (torch.nn.functional.avg_pool2d(shown, 9, 1, 4) < -0.6).float()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    model.train()
    for _ in range(60):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(model(shown), truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.set_num_threads(threads)
    return dict(model.state_dict())


@pytest.fixture(scope="module")
def onnx_export(trained: Path) -> dict[str, object]:
    return export(trained, ExportOptions("onnx", "fp32", phantoms=6))


def test_an_export_passes_enters_the_bundle_and_is_run(trained: Path, onnx_export: dict[str, object]) -> None:
    assert onnx_export == json.loads((trained / "exports" / "onnx-fp32" / "parity.json").read_text())
    assert onnx_export["passed"]
    assert onnx_export["opset"] == 18
    assert onnx_export["images"]["simulated images"]["n_outlined"] > 0  # type: ignore[index]
    shapes = onnx_export["batches"]["segmentation"]["shapes"]  # type: ignore[index]
    assert {shape[0] for shape in shapes} == {1, 2, 5}
    assert len({tuple(shape[1:]) for shape in shapes}) == 3
    assert differences(trained) == []
    image = next(iter(phantoms(1, 9)))
    eager, exported = Predictor.load(trained, "cpu"), Predictor.load(trained, export="onnx-fp32")
    assert isinstance(exported.pipeline.members[0].task.model, ExportedNetwork)
    first, second = eager.predict(image), exported.predict(image)
    assert first.probability_map is not None
    assert second.probability_map == pytest.approx(first.probability_map, abs=1e-4)
    assert not list(trained.parent.glob(".trained*"))


def test_the_same_digits_alone_and_in_a_list(trained: Path, onnx_export: dict[str, object]) -> None:
    predictor = Predictor.load(trained, export="onnx-fp32")
    images = list(phantoms(3, 4))
    together = predictor.predict(images)
    for image, result in zip(images, together, strict=True):
        alone = predictor.predict(image).probability_map
        assert alone is not None
        assert np.array_equal(alone, result.probability_map)


@pytest.mark.parametrize("format", ["openvino", pytest.param("onnx", marks=pytest.mark.slow)])
def test_eight_bits_pass_and_the_certificate_says_on_what_they_were_calibrated(trained: Path, format: str) -> None:
    told = export(trained, ExportOptions(format, "int8", phantoms=6, calibration_images=12))
    assert told["passed"]
    assert told["calibrated_on"] == "12 images: simulated ones, and the bundle's examples"
    assert told["in_float32"]["segmentation"] in KEPT
    assert told["images"]["simulated images"]["mean_dice"] >= 0.99
    assert told["images"]["simulated images"]["pixel_probability"] > 1e-6, "nothing was quantised"
    image = next(iter(phantoms(1, 9)))
    assert Predictor.load(trained, export=f"{format}-int8").predict(image).mask is not None


def test_outside_the_tolerance_nothing_enters_the_bundle(
    trained: Path, onnx_export: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Path(shutil.copytree(trained, tmp_path / "bundle"))
    shutil.rmtree(bundle / "exports")
    before = seal(bundle)
    model = (trained / "exports" / "onnx-fp32" / "segmentation.onnx").read_bytes()
    graph = SimpleNamespace(onnx=model, inputs=("image",), outputs=("mask_logits",), sizes="any", free=True)
    monkeypatch.setattr(exporting, "graph_of", lambda _: graph)
    monkeypatch.setitem(export_parity.TOLERANCES, "fp32", Tolerance(0, 0, 0, 0, 1, 1))
    with pytest.raises(ExportError, match=r"onnx-fp32 was left out of .*pixel probability differs by .* \(at most 0\)"):
        export(bundle, ExportOptions("onnx", "fp32", phantoms=3))
    assert not (bundle / "exports").exists()
    assert fingerprint(bundle) == before
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_an_export_of_other_weights_is_refused(trained: Path, onnx_export: dict[str, object], tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(trained, tmp_path / "bundle"))
    certified = bundle / "exports" / "onnx-fp32" / "parity.json"
    told = json.loads(certified.read_text())
    told["networks"]["segmentation"]["weights_sha256"] = "0" * 64
    certified.write_text(json.dumps(told))
    seal(bundle)
    with pytest.raises(BundleError, match="exported from other weights than the bundle's; export it again"):
        Predictor.load(bundle, export="onnx-fp32")


def test_a_changed_byte_of_an_export_is_noticed(trained: Path, onnx_export: dict[str, object], tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(trained, tmp_path / "bundle"))
    path = bundle / "exports" / "onnx-fp32" / "segmentation.onnx"
    content = path.read_bytes()
    path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    with pytest.raises(BundleError, match=r"segmentation\.onnx was changed or damaged"):
        Predictor.load(bundle, export="onnx-fp32")
    with pytest.raises(BundleError, match=r"was changed"):
        export(bundle, ExportOptions("onnx", "fp32"))


@pytest.mark.parametrize("name", ["onnx-fp64", "nothing", "../onnx-fp32", "onnx-fp32/../..", "openvino-fp32"])
def test_an_export_that_is_not_there_is_told_with_those_that_are(trained: Path, onnx_export: dict[str, object], name: str) -> None:
    with pytest.raises(BundleError, match=r"has no exported model .*; it has: onnx-fp32"):
        Predictor.load(trained, export=name)


@pytest.mark.parametrize(
    ("format", "precision", "sentence"),
    [
        ("onnx", "bf16", "onnxruntime has no bfloat16"),
        ("torch_export", "fp32", "torch_export is no longer .* Use onnx or openvino"),
        ("tflite", "fp32", "formats are onnx, openvino"),
        ("onnx", "fp16", "precisions are fp32, bf16, int8"),
    ],
)
def test_what_cannot_be_exported_is_refused_with_a_sentence(format: str, precision: str, sentence: str) -> None:
    with pytest.raises(BundleError, match=sentence):
        ExportOptions(format, precision)


def test_a_program_of_torch_that_an_earlier_version_exported_is_not_opened(trained: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(trained, tmp_path / "bundle"))
    (bundle / "exports" / "torch_export-fp32").mkdir(parents=True)
    (bundle / "exports" / "torch_export-fp32" / "parity.json").write_text("{}")
    seal(bundle)
    Predictor.load(bundle)
    with pytest.raises(BundleError, match="torch_export is no longer"):
        Predictor.load(bundle, export="torch_export-fp32")


def test_an_onnx_model_whose_weights_lie_elsewhere_is_refused(trained: Path, onnx_export: dict[str, object]) -> None:
    import onnx

    model = onnx.load(trained / "exports" / "onnx-fp32" / "segmentation.onnx")
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../secret")
    with pytest.raises(BundleError, match="weights in other files"):
        open_network("onnx", "fp32", [model.SerializeToString()], 64)


@pytest.mark.parametrize(("format", "n_files"), [("onnx", 1), ("openvino", 2)])
def test_rubbish_is_refused_with_a_sentence(format: str, n_files: int) -> None:
    with pytest.raises(BundleError, match=f"cannot be opened as {format}: .*Export it again"):
        open_network(format, "fp32", [b"rubbish"] * n_files, 64)


_DROPPED_ELSEWHERE = """
import signal, subprocess, sys, threading
import numpy as np, torch
from bcd.predictor.backends import library, open_network
ov = library("openvino")
from openvino import opset13 as ops
image = ops.parameter([-1, 1, 32, 32], np.float32, name="image")
model = ov.Model([ops.convolution(image, np.ones((16, 1, 3, 3), np.float32), [1, 1], [1, 1], [1, 1], [1, 1])], [image])
ov.save_model(model, "network.xml", compress_to_fp16=False)
networks = [open_network("openvino", "fp32", [open(f"network.{end}", "rb").read() for end in ("xml", "bin")], 32)]
networks[0](torch.zeros(1, 1, 32, 32))
thread = threading.Thread(target=networks.clear)
thread.start()
thread.join()
signal.signal(signal.SIGTERM, lambda *_: sys.exit("heard"))
signal.raise_signal(signal.SIGTERM)
"""


def test_a_process_hears_signals_after_another_thread_has_dropped_its_network(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", _DROPPED_ELSEWHERE], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "heard\n")


def test_parity_sees_flips_and_numbers_that_are_none() -> None:
    first, other = tiny_predictor("multitask"), tiny_predictor("multitask")
    images = list(phantoms(4, 2))
    assert compare(first, other, images).complaints(Tolerance(0, 0, 0, 0, 1, 1)) == []
    sure, empty, full = torch.tensor([[50.0, 0.0, 0.0]]), torch.full((1, 1, 32, 32), -50.0), torch.full((1, 1, 32, 32), 50.0)
    first.pipeline.members[0].task.model = _Constant(full, sure)
    other.pipeline.members[0].task.model = _Constant(empty, sure.flip(1))
    found = compare(first, other, images)
    assert (found.flipped_outlines, found.flipped_labels, found.mean_dice) == (4, 4, 0)
    assert found.class_probability == pytest.approx(1, abs=1e-5)
    told = found.complaints(export_parity.TOLERANCES["int8"])
    assert any("4 classes and 4 masks of 4 images flip" in line for line in told)
    other.pipeline.members[0].task.model = _Constant(torch.full_like(full, torch.nan), sure)
    assert compare(first, other, images).pixel_probability == np.inf


class _Constant(torch.nn.Module):
    def __init__(self, *answers: torch.Tensor) -> None:
        super().__init__()
        self.answers = answers

    def forward(self, *_: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.answers


def test_a_certificate_says_what_lies_outside_its_tolerance() -> None:
    parity = Parity(100, 0.2, 1.0, 0.001, 3, 0, 0.98, 0.95, 90)
    told = certificate(
        "onnx", "int8", {"my images": (parity, export_parity.TOLERANCES["int8"])}, {"net": {"pixel_or_class_probability": 0.5}}
    )
    assert not told["passed"]
    assert told["outside"] == [
        "on my images, class probability differs by 0.2 (at most 0.1)",
        "on my images, 3 classes and 0 masks of 100 images flip (at most 2% each)",
        "on my images, the mean Dice between the masks is 0.9800 (at least 0.99)",
    ]
    in_batches = certificate("onnx", "fp32", {}, {"net": {"pixel_or_class_probability": 0.5}})
    assert in_batches["outside"] == ["net in batches differs by 0.5 (at most 0.002)"]


def test_images_of_a_folder_leave_out_what_cannot_be_read(tmp_path: Path) -> None:
    from bcd.predictor.bundles.examples import png

    (tmp_path / "good.png").write_bytes(png(next(iter(phantoms(1, 0)))))
    (tmp_path / "bad.png").write_bytes(b"no picture")
    assert [image.shape for image in images_of(tmp_path).images] == [(300, 360)]


_SILENCE = """
import sys, socket
calls = []
sys.addaudithook(lambda event, args: calls.append(event) if event in ("socket.connect", "socket.getaddrinfo") else None)
from bcd.predictor.backends import library
library("onnxruntime").get_available_providers()
library("openvino").Core()
library("nncf")
import nncf.telemetry
print(calls, sys.modules["openvino_telemetry"], type(nncf.telemetry.telemetry).__name__)
"""


def test_the_runtimes_call_nobody_and_leave_nothing_in_the_home(tmp_path: Path) -> None:
    hidden = ("CI", "NNCF_CI", "NNCF_DEV", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment |= {"HOME": str(tmp_path / "home"), "MPLCONFIGDIR": str(tmp_path / "matplotlib")}
    (tmp_path / "home").mkdir()
    done = subprocess.run([sys.executable, "-c", _SILENCE], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[] None MagicMock"
    assert list((tmp_path / "home").rglob("*")) == []


ROLES = [("segmentation", "roi"), ("multitask",), ("classification",)]


@pytest.mark.slow
@pytest.mark.parametrize("roles", ROLES)
@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_every_role_says_the_same_in_every_format(format: str, roles: tuple[str, ...], tmp_path: Path) -> None:
    written(tmp_path / "bundle", *roles)
    told = export(tmp_path / "bundle", ExportOptions(format, "fp32", phantoms=12))
    assert told["passed"]
    assert all(network["sizes"].startswith("any batch; height and width") for network in told["networks"].values())
    predictor = Predictor.load(tmp_path / "bundle", export=f"{format}-fp32")
    result = predictor.predict(next(iter(phantoms(1, 3))), uncertainty=True, heat_map=True)
    assert result.label in predictor.classes


@pytest.mark.slow
def test_a_size_that_is_padded_within_the_network_is_exported_as_it_is(tmp_path: Path) -> None:
    about, states = tiny("segmentation")
    about["networks"][0]["preprocess"] = {**about["networks"][0]["preprocess"], "size": 50}
    write_bundle(tmp_path / "bundle", about, states, "# tiny\n")
    told = export(tmp_path / "bundle", ExportOptions("onnx", "fp32", phantoms=6))
    assert told["networks"]["segmentation"]["sizes"] == "any batch; 50 x 50 px"


@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(3, 1, 1), (3, 2, 1), (5, 2, 1), (7, 2, 1), (1, 2, 1), (3, 1, 2)])
def test_constant_padding_gives_the_digits_of_tensorflows(kernel: int, stride: int, dilation: int) -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(
        Conv2dSame(2, 3, kernel, stride=stride, dilation=dilation), Conv2dSame(3, 3, kernel, groups=3, bias=False)
    ).eval()
    image = torch.randn(2, 2, 64, 96)
    expected = layers(image)
    assert torch.equal(with_constant_padding(layers)(image), expected)
    assert not any(isinstance(layer, Conv2dSame) for layer in layers.modules())


@pytest.mark.slow
def test_a_backbone_that_pads_as_tensorflow_is_exported_for_any_size() -> None:
    network = RoiChannel("mobilenetv2_100", 2, pretrained=False, drop_rate=0.0).eval()
    given = torch.randn(1, 1, 96, 64), (torch.randn(1, 1, 96, 64) > 0).float()
    expected = network(*given)
    program = _program(with_constant_padding(network), 2, 64, free=True)
    assert torch.allclose(program.module()(*given), expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_as_many_layers_have_eight_bits_as_stay_within_half_of_the_tolerance(format: str, trained: Path, tmp_path: Path) -> None:
    member = Predictor.load(trained).pipeline.members[0]
    graph = graph_of(member)
    generator = torch.Generator().manual_seed(0)
    images = [torch.randn(1, 1, 64, 64, generator=generator) for _ in range(4)]
    examples = [Example((image.numpy(),), member.task.model(image).detach()) for image in images]
    paths = [tmp_path / name for name in file_names(format, "segmentation")]

    def exported() -> ExportedNetwork:
        return open_network(format, "int8", [path.read_bytes() for path in paths], 64)

    def error(first: float, last: float) -> float:
        write_model(quantise(graph, format, [example.inputs for example in examples], first, last), format, paths[0])
        network = exported()
        pairs = [
            (prediction_of(example.logits, 1.0, 0.5), prediction_of(network(image), 1.0, 0.5))
            for example, image in zip(examples, images, strict=True)
        ]
        return parity_of(pairs).mean_pixel_probability or 0.0

    errors = {words: error(*shares) for words, shares in KEPT.items()}
    assert all(0 < value < 0.1 for value in errors.values())
    best = min(errors, key=lambda words: errors[words])
    limit = Tolerance(1.0, 1.0, 2 * errors[best] * (1 + 1e-6), 1.0, 0.0, 0.0)
    assert write_int8(tmp_path, format, member, graph, examples, limit, 0.5) == best
    none = replace(limit, mean_pixel_probability=1e-6)
    assert write_int8(tmp_path, format, member, graph, examples, none, 0.5) == WHOLE
    assert torch.allclose(exported()(images[0]), examples[0].logits, atol=1e-4)


@pytest.mark.slow
def test_an_export_that_would_have_no_eight_bits_at_all_is_refused(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(export_parity.TOLERANCES_ABROAD, "int8", Tolerance(0, 1, 1e-9, 0, 1, 1))
    monkeypatch.setitem(export_parity.TOLERANCES, "int8", Tolerance(0, 1, 1e-9, 0, 1, 1))
    with pytest.raises(ExportError, match="completely float32: no network tolerates eight bits"):
        export(trained, ExportOptions("onnx", "int8", phantoms=3, calibration_images=3))


def test_answers_are_compared_with_their_temperature_and_threshold() -> None:
    def parity(pairs: list[tuple[Logits, Logits]], temperature: float, threshold: float) -> Parity:
        return parity_of([tuple(prediction_of(one, temperature, threshold) for one in pair) for pair in pairs])  # type: ignore[misc]

    mask = torch.tensor([[[[2.0, -2.0], [2.0, -2.0]]]])
    other = torch.tensor([[[[2.0, 1.0], [2.0, -2.0]]]])
    classes, apart = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    both = parity([((mask, classes), (other, apart)), ((mask, classes), (mask, classes))], 2.0, 0.5)
    assert (both.n_images, both.flipped_labels, both.flipped_outlines, both.n_outlined) == (2, 1, 0, 2)
    assert both.class_probability == pytest.approx(2 / (1 + np.exp(-0.5)) - 1)
    assert both.lowest_dice == pytest.approx(0.8)
    assert both.mean_dice == pytest.approx(0.9)
    assert parity([(mask, other)], 1.0, 0.8).mean_dice == 1
    assert parity([(mask, other)], 1.0, 0.5).class_probability is None
