"""A laboratory's own network, loss and data set, in their own package and folder of options: no file here is touched."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from bcd.config import CONF, ConfigError, compose, options_text
from bcd.config.arguments import read
from bcd.config.build import UntrustedTargetError, build
from bcd.config.composing import check

PACKAGE = {
    "__init__.py": "from mylab.networks import MyNet\n",
    "networks.py": '''"""Networks of the laboratory."""

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn


class MyNet(nn.Module):
    def __init__(self, width: Annotated[int, Field(ge=1)]) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, width, 5, padding=2), nn.ReLU(), nn.Conv2d(width, 1, 5, padding=2))

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(image)


def make_net() -> MyNet:
    return MyNet(2)
''',
    "losses.py": '''"""Losses of the laboratory."""

from torch import Tensor, nn


class MyLoss(nn.Module):
    kind = "segmentation"

    def __init__(self, weight):
        super().__init__()
        if weight <= 0:
            raise ValueError(f"loss.weight={weight} must be positive.")
        self.weight = weight

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        return self.weight * nn.functional.binary_cross_entropy_with_logits(logits, mask)
''',
    "data.py": '''"""The laboratory's images: scan_1.png and its outline_1.png."""

from pathlib import Path

from bcd.data.manifest import Case


class MyData:
    synthetic = False
    labels = ("lesion", "clear")
    lesion_free = ("clear",)

    def __init__(self, root: str) -> None:
        self.name = "mydata"
        self.root = Path(root)

    def cases(self) -> list[Case]:
        return [self._case(scan) for scan in sorted(self.root.glob("scan_*.png"))]

    def _case(self, scan: Path) -> Case:
        outline = scan.with_name(scan.name.replace("scan", "outline"))
        masks = (outline,) if outline.is_file() else ()
        return Case(scan.stem, scan, masks, "lesion" if masks else "clear")
''',
}
OPTIONS = {
    "model/mynet.yaml": "# Two convolutions.\ndefaults:\n  - override /task@_global_.task: segmentation\n\n"
    "_target_: mylab.MyNet\nwidth: 4\n",
    "loss/myloss.yaml": "# Weighted cross-entropy per pixel.\n_target_: mylab.losses.MyLoss\nweight: 2.0\n",
    "data/mydata.yaml": "# The laboratory's scans.\ndefaults:\n  - /selection@_here_: default\n\nname: mydata\nroot: scans\n"
    "classes: [lesion, clear]\nlabels: [lesion, clear]\nfolds: 3\nsource:\n  _target_: mylab.data.MyData\n  root: ${data.root}\n",
}
CHOICE = ["--config-dir=my_conf", "model=mynet", "loss=myloss", "data=mydata"]
SMALL = ["preprocess.size=32", "batch_size=4", "trainer.max_epochs=2", "logger=none", "callbacks.pictures.n_cases=1"]

# The three commands in one process: torch is imported once.
DRIVER = """
import json, runpy, sys
for script, *arguments in json.loads(sys.argv[1]):
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")
"""


@pytest.fixture
def laboratory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the laboratory works in; nothing of it is installed."""
    for folder, files in (("mylab", PACKAGE), ("my_conf", OPTIONS)):
        for name, text in files.items():
            (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / name).write_text(text, encoding="utf-8")
    rng = np.random.default_rng(0)
    (tmp_path / "scans").mkdir()
    for number in range(18):
        scan, outline = rng.integers(0, 120, (48, 48), dtype=np.uint8), np.zeros((48, 48), np.uint8)
        row, column = rng.integers(12, 36, 2)
        outline[row - 6 : row + 6, column - 8 : column + 8] = 255
        if number % 3:
            scan[outline > 0] = 220
            cv2.imwrite(str(tmp_path / "scans" / f"outline_{number}.png"), outline)
        cv2.imwrite(str(tmp_path / "scans" / f"scan_{number}.png"), scan)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "mylab"]:
        monkeypatch.delitem(sys.modules, name)
    return tmp_path


def _run(folder: Path, *commands: list[str]) -> subprocess.CompletedProcess[str]:
    calls = [[str(CONF.parent / "scripts" / f"{script}.py"), *arguments] for script, *arguments in commands]
    return subprocess.run(
        [sys.executable, "-c", DRIVER, json.dumps(calls)],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_own_parts_are_trained_tested_and_predict(laboratory: Path) -> None:
    done = _run(
        laboratory,
        ["train", *CHOICE, *SMALL, "trusted=[mylab]", "hydra.run.dir=run"],
        ["evaluate", "run=run", "output=again", "trusted=[mylab]"],
        ["predict", "run=run", "input=scans/scan_1.png", "output=predictions", "trusted=[mylab.MyNet, mylab.losses.MyLoss]"],
    )
    assert done.returncode == 0, done.stdout + done.stderr
    metrics = json.loads((laboratory / "run" / "metrics.json").read_text())
    assert metrics["data"]["name"] == "mydata"
    assert metrics["training"]["parameters"] == (25 * 4 + 4) + (25 * 4 + 1)
    assert json.loads((laboratory / "again" / "metrics.json").read_text())["test"] == metrics["test"]
    assert list(pd.read_csv(laboratory / "predictions" / "predictions.csv")["case_id"]) == ["scan_1"]


def test_without_trust_the_way_out_is_said(laboratory: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        check(read(CHOICE, "train"))
    assert "model: _target_ 'mylab.MyNet' is not a trusted constructor" in str(refused.value)
    assert "add trusted=[mylab.MyNet] or, for all classes of your package, trusted=[mylab]." in str(refused.value)
    assert "loss: _target_ 'mylab.losses.MyLoss'" in str(refused.value)
    assert "mylab" not in sys.modules


def test_a_checkpoint_brings_no_trust_of_its_own(laboratory: Path) -> None:
    node = {"_target_": "mylab.MyNet", "width": 2}
    with pytest.raises(UntrustedTargetError, match=r"add trusted=\[mylab.MyNet\]"):
        build(node, from_checkpoint=True)
    assert "mylab" not in sys.modules
    assert build(node, trusted=["mylab"], from_checkpoint=True).layers[0].out_channels == 2


@pytest.mark.parametrize(
    "target", ["mylab.networks.make_net", "mylab.networks.nn.Linear", "mylab.networks.Tensor", "mylab.data.Path"]
)
def test_a_trusted_package_means_the_classes_that_are_written_there(target: str, laboratory: Path) -> None:
    with pytest.raises(UntrustedTargetError):
        build({"_target_": target}, trusted=["mylab"])


def test_another_package_whose_name_begins_alike_is_not_trusted() -> None:
    with pytest.raises(UntrustedTargetError):
        build({"_target_": "mylaboratory.MyNet"}, trusted=["mylab"])


@pytest.mark.parametrize("package", ["torch", "os", "subprocess", "builtins", "bcd", "lightning.pytorch", "albumentations"])
def test_a_library_cannot_be_trusted_as_a_whole(package: str) -> None:
    for target in (f"{package}.hub.load", f"{package}.Popen"):
        with pytest.raises(UntrustedTargetError, match="not a trusted constructor"):
            build({"_target_": target}, trusted=[package])


def test_a_package_that_cannot_be_found_is_answered_with_where_it_may_lie(tmp_path: Path) -> None:
    with pytest.raises(UntrustedTargetError, match=r"installed, lie where you start the command, or in PYTHONPATH"):
        build({"_target_": "nowhere_at_all.MyNet"}, trusted=["nowhere_at_all"])


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["model=mynett"], "Did you mean 'mynet'"),
        (["model.widht=3"], "Did you mean 'width'"),
        (["model.width=wide"], "model.width=wide must be a whole number"),
        (["model.width=0"], "model.width=0 must be a whole number from 1"),
        (["loss.weight=-1"], "loss.weight=-1 must be positive"),
        (["+loss.wieght=1"], "Did you mean 'weight'"),
        (["data.classes=[lesion,claer]"], "Did you mean 'clear'"),
        (["data.classes=[clear]"], "clear has none"),
        (["model=resnet18"], "MyLoss is for segmentation"),
        (["data.root=nowhere", "fold=4"], "there are folds 1 to 3"),
    ],
)
def test_mistakes_in_own_parts_are_refused_like_those_in_ours(overrides: list[str], said: str, laboratory: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        check(read([*CHOICE, "trusted=[mylab]", *overrides], "train"))
    assert said in str(refused.value)


def test_a_wrong_value_in_an_own_file_is_found_too(laboratory: Path) -> None:
    path = laboratory / "my_conf" / "model" / "mynet.yaml"
    path.write_text(path.read_text().replace("width: 4", "width: four"))
    with pytest.raises(ConfigError, match=r"model\.width=four must be a whole number"):
        check(read([*CHOICE, "trusted=[mylab]"], "train"))


def test_own_options_are_listed_and_found_on_the_search_path(laboratory: Path) -> None:
    assert "  mynet                   Two convolutions.\n" in options_text("train", [laboratory / "my_conf"])
    overrides = [f"hydra.searchpath=[file://{laboratory / 'my_conf'}]", "model=mynet", "trusted=[mylab]"]
    assert compose("train", overrides)["model"] == {"_target_": "mylab.MyNet", "width": 4}
    assert compose("train", ["--config-dir", "my_conf", *overrides[1:]])["model"]["width"] == 4


def test_an_option_that_ours_would_hide_is_refused(laboratory: Path) -> None:
    (laboratory / "my_conf" / "model" / "unet.yaml").write_text("# Mine.\n_target_: mylab.MyNet\nwidth: 1\n")
    with pytest.raises(ConfigError, match=r"model/unet.yaml has the name of an option in .*conf, which would hide it"):
        compose("train", ["--config-dir=my_conf"])


def test_an_own_main_config_builds_on_ours(laboratory: Path) -> None:
    text = "defaults:\n  - train\n  - override model: mynet\n  - _self_\n\nbatch_size: 3\ntrusted: [mylab]\n"
    (laboratory / "my_conf" / "mytrain.yaml").write_text(text)
    config = compose("train", ["--config-dir=my_conf", "--config-name=mytrain"])
    assert (config["batch_size"], config["model"]["_target_"]) == (3, "mylab.MyNet")
