"""Bundles: written, read again, checked; and those that come from strangers."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from tiny_bundles import network, tiny, written

from bcd.predictor.bundle import read_bundle
from bcd.predictor.bundles.examples import example_image, verify
from bcd.predictor.bundles.hashes import BundleError, differences, file_names, seal
from bcd.predictor.bundles.write import write_bundle
from bcd.predictor.predictor import Predictor


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    written(folder, "segmentation", "roi", temperatures=(1.5,))
    return folder


@pytest.fixture
def copied(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "bundle"))


def edited(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Change bundle.yaml and seal the bundle anew, as a stranger with bad intentions would."""
    about = yaml.safe_load((folder / "bundle.yaml").read_text())
    change(about)
    (folder / "bundle.yaml").write_text(yaml.safe_dump(about, sort_keys=False))
    seal(folder)
    return folder


def test_a_bundle_is_read_as_it_was_written(whole: Path) -> None:
    about, states = tiny("segmentation", "roi", temperatures=(1.5,))
    bundle = read_bundle(whole)
    assert bundle.to_dict() == about
    assert bundle.folder == whole
    assert len(bundle.fingerprint) == 64
    for name, state in states.items():
        there = load_file(whole / "weights" / f"{name}.safetensors")
        assert there.keys() == state.keys()
        assert all(torch.equal(there[key], state[key]) for key in state)


def test_a_bundle_verifies_itself(whole: Path) -> None:
    told = verify(whole)
    assert len(told) == 4
    assert told[0].startswith("11 files are unchanged")
    assert all("the same digits" in line for line in told[1:])


def test_no_file_of_a_bundle_is_a_pickle(whole: Path) -> None:
    assert {Path(name).suffix for name in file_names(whole)} == {".yaml", ".md", ".json", ".png", ".safetensors"}
    for name in file_names(whole):
        content = (whole / name).read_bytes()
        assert not content.startswith((b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")), name
        with pytest.raises(Exception):  # noqa: B017, PT011 - a pickle reader refuses by any exception
            pickle.loads(content)


def test_half_precision_takes_half_the_room_and_works_in_full(whole: Path, tmp_path: Path) -> None:
    written(tmp_path / "half", "segmentation", "roi", precision="fp16", temperatures=(1.5,))
    sizes = [sum(path.stat().st_size for path in folder.rglob("*.safetensors")) for folder in (tmp_path / "half", whole)]
    assert sizes[0] < 0.52 * sizes[1]
    predictor = Predictor.load(tmp_path / "half", "cpu")
    assert {parameter.dtype for member in predictor.pipeline.members for parameter in member.task.model.parameters()} == {
        torch.float32
    }
    assert len(verify(tmp_path / "half")) == 4
    image = example_image("benign")
    full, half = Predictor.load(whole, "cpu").predict(image), predictor.predict(image)
    assert half.raw == pytest.approx(full.raw, abs=0.02)
    assert not np.array_equal(half.raw, full.raw)


def test_weights_that_float16_cannot_hold_are_refused_and_nothing_is_left(tmp_path: Path) -> None:
    about, states = tiny("classification")
    key = next(key for key, tensor in states["classification"].items() if tensor.ndim == 4)
    states = {"classification": {**states["classification"], key: torch.full_like(states["classification"][key], 1e6)}}
    with pytest.raises(BundleError, match="use precision=fp32"):
        write_bundle(tmp_path / "bundle", about, states, "card", precision="fp16")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_is_not_overwritten(whole: Path) -> None:
    with pytest.raises(BundleError, match="is there already"):
        written(whole, "classification")


def test_a_byte_flipped_anywhere_is_noticed(copied: Path) -> None:
    for name in file_names(copied):
        path = copied / name
        content = path.read_bytes()
        places = range(0, len(content), 13) if name == "hashes.json" else (0, len(content) // 3, len(content) - 1)
        for place in places:
            path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            try:
                told = " ".join(differences(copied))
            except BundleError as error:
                told = str(error)
            assert told, (name, place)
            assert name in told or name == "hashes.json", (name, place)
        path.write_bytes(content)
    assert differences(copied) == []


def test_missing_and_extra_files_are_named(copied: Path) -> None:
    (copied / "model_card.md").unlink()
    (copied / "weights" / "more.safetensors").write_bytes(b"")
    with pytest.raises(BundleError, match=r"model_card\.md is missing\. weights/more\.safetensors does not belong"):
        verify(copied)
    Predictor.load(copied, "cpu")  # what it needs is whole


@pytest.mark.parametrize("name", ["bundle.yaml", "weights/roi.safetensors"])
def test_a_changed_file_is_not_loaded(copied: Path, name: str) -> None:
    with (copied / name).open("ab") as file:
        file.write(b" ")
    with pytest.raises(BundleError, match=f"{name} was changed or damaged"):
        Predictor.load(copied, "cpu")


def test_an_example_that_gives_something_else_is_noticed(copied: Path) -> None:
    path = copied / "examples" / "expected.json"
    expected = json.loads(path.read_text())
    expected["cases"]["normal"]["raw"][0] += 5e-5
    path.write_text(json.dumps(expected))
    seal(copied)
    assert "probabilities within 5e-05" in verify(copied)[3]
    expected["cases"]["normal"]["raw"][0] += 1e-3
    path.write_text(json.dumps(expected))
    seal(copied)
    with pytest.raises(BundleError, match="Example normal gives another result"):
        verify(copied)


def _network(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda about: about["networks"][0].update({key: value})


def _model(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda about: about["networks"][0]["task"]["model"].update(values)


def _key(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda about: about.update({key: value})


def _nested(about: dict[str, Any]) -> None:
    node: Any = 1
    for _ in range(60):
        node = {"a": node}
    about["networks"][0]["task"]["model"]["kwargs"] = node


def _decision(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda about: about["decisions"].update({key: value})


HOSTILE = {
    "of another version": (_key("schema_version", 99), "schema_version is 99.* reads 1"),
    "unknown key": (_key("run_this", "x"), "run_this is not known"),
    "missing key": (lambda about: about.pop("classes"), "classes is missing"),
    "name out of the folder": (_network("name", "../../etc/passwd"), r"networks\[0\]\.name is .*pattern"),
    "weights out of the folder": (_network("weights", "/etc/passwd"), "must be weights/segmentation.safetensors"),
    "foreign target": (_network("task", {"_target_": "os.system", "command": "true", "model": {}}), "not a trusted constructor"),
    "target out of the house": (_network("task", {"_target_": "bcd.models.roi.torch", "model": {}}), "cannot be built"),
    "data source": (_network("task", {"_target_": "bcd.data.sources.busi.BUSI", "root": "/", "model": {}}), "may not name it"),
    "interpolation": (_model(kwargs={"name": "${oc.env:HOME}"}), "without interpolations"),
    "file for timm": (_model(kwargs={"checkpoint_path": "/etc/passwd"}), "checkpoint_path is not allowed"),
    "no task": (_network("task", {}), "cannot be built"),
    "wrong role": (_network("role", "multitask"), "make no roi_classification bundle"),
    "huge image": (lambda about: about["networks"][0]["preprocess"].update(size=100_000), "size is 100000.* 16 to 4096"),
    "huge layers": (_model(decoder_channels=[16_000, 16_000, 16_000]), "far larger than its weights"),
    "absurd number": (_model(decoder_channels=[10**12, 8, 8]), "holds 10+; no network needs"),
    "long list": (_model(decoder_channels=[8] * 999), "999 entries .* no network needs"),
    "longer list": (_model(decoder_channels=[8] * 1001), "more than 1000 entries"),
    "deep config": (_nested, "nested deeper"),
    "other network": (_model(decoder_channels=[8, 8, 16]), "cannot be built"),
    "temperature": (_network("temperature", 0), r"networks\[0\]\.temperature is 0; it must be greater"),
    "temperature that is none": (_network("temperature", float("nan")), "temperature is nan; it must be a finite number"),
    "threshold": (_decision("thresholds", {"0.5": 3}), r"decisions\.thresholds\.0\.5 is 3; it must be less"),
    "mask threshold": (_key("mask_threshold", "0.5"), "mask_threshold is '0.5'; it must be a valid number"),
    "operating point": (_decision("default_point", "sensitivity>=0.95"), "has no threshold"),
    "decisions with more": (_decision("temperature", 2.0), "decisions must have the keys"),
    "classes": (_key("classes", ["a", "a", "b"]), "classes must be two different names"),
    "positive": (_key("positive", "cancer"), "positive is 'cancer'; it must be one of the classes"),
    "no networks": (_key("networks", []), "networks: .*at least 1"),
    "a device": (_key("research_use_only", False), "research_use_only is False; it must be True"),
    "consistency": (_key("consistency", "always"), "consistency is 'always'; it must be 'report', 'class' or 'mask'"),
    "precision": (_key("precision", "fp8"), "precision is 'fp8'; it must be 'fp32' or 'fp16'"),
    "control characters": (_key("name", "a\x1b[2Jb"), "name must be plain text"),
    "control characters in a key": (_key("a\x1b[2Jb", 1), "must be plain text"),
    "a date": (_key("created", date(2026, 1, 1)), "created is .*must be .* text"),
    "no mapping": (lambda about: about.update(data=[1]), "data: it must be a valid dictionary"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_description_is_refused_in_a_sentence(copied: Path, name: str) -> None:
    change, sentence = HOSTILE[name]
    with pytest.raises(BundleError, match=sentence) as refused:
        Predictor.load(edited(copied, change), "cpu")
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 900


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "it has an alias"),
        (b"!!python/object/apply:os.system ['true']\n", "cannot be read as a bundle's description"),
        (b"\xff\xfe", "cannot be read as a bundle's description"),
        (b"[" * 2000, "cannot be read as a bundle's description"),
        (b"- 1\n", "is no mapping"),
        (b"a: " + b"x" * (1 << 20), "no bundle's has more than"),
    ],
)
def test_a_hostile_text_is_refused_in_a_sentence(copied: Path, content: bytes, sentence: str) -> None:
    (copied / "bundle.yaml").write_bytes(content)
    seal(copied)
    with pytest.raises(BundleError, match=sentence):
        read_bundle(copied)


def test_weights_of_strangers_are_checked(copied: Path) -> None:
    path, (_, state) = copied / "weights" / "segmentation.safetensors", network("segmentation", 0)
    key = next(iter(state))
    not_finite = {**state, key: torch.full_like(state[key], float("nan"))}
    other = {name: tensor for name, tensor in state.items() if name != key}
    for weights, sentence in (
        (not_finite, "not finite numbers"),
        (other, "Missing key"),
        ({**state, "x": state[key] * 1}, "Unexpected"),
    ):
        save_file(weights, path)
        seal(copied)
        with pytest.raises(BundleError, match=sentence):
            Predictor.load(copied, "cpu")
    pickled = copied / "weights.pt"
    torch.save(state, pickled)
    for content in (pickled.read_bytes(), b"", b"\xff" * 100, (10**12).to_bytes(8, "little") + b"{}"):
        path.write_bytes(content)
        seal(copied)
        with pytest.raises(BundleError, match="cannot be read as safetensors"):
            Predictor.load(copied, "cpu")


def test_links_and_pipes_are_refused(copied: Path, tmp_path: Path) -> None:
    path, elsewhere = copied / "weights" / "roi.safetensors", tmp_path / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    with pytest.raises(BundleError, match="is a link"):
        Predictor.load(copied, "cpu")
    with pytest.raises(BundleError, match="is a link"):
        verify(copied)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(BundleError, match="is no plain file"):
        Predictor.load(copied, "cpu")


def test_what_is_no_bundle_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="there is no such folder"):
        Predictor.load(tmp_path / "nowhere")
    with pytest.raises(BundleError, match=r"has no hashes\.json"):
        Predictor.load(tmp_path)
