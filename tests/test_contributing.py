"""The examples of CONTRIBUTING.md are put into a copy of the project, and a network is trained with all of them."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
OPTIONS = ["data=clinic", "model=shallow", "loss=brier", "augmentation=calipers"]


def examples() -> dict[str, str]:
    """Return path -> content of every example: a path alone on its line, then a fenced block."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^`((?:bcd|conf)/[\w/.]+)`\n\n```\w+\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL))


def make_clinic(folder: Path) -> None:
    """Write 30 noisy scans of 15 patients, a bright lesion in each that is not normal."""
    for name in ("scans", "outlines"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    with (folder / "findings.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["scan", "patient", "finding", "scanner"])
        for number in range(30):
            scan, mask = rng.integers(0, 120, (64, 80), dtype=np.uint8), np.zeros((64, 80), np.uint8)
            row, column = rng.integers(20, 44), rng.integers(20, 60)
            mask[row - 8 : row + 8, column - 10 : column + 10] = 255
            finding = ("normal", "benign", "malignant")[number // 2 % 3]
            if finding != "normal":
                scan[mask > 0] = 200
                cv2.imwrite(str(folder / "outlines" / f"s{number}.png"), mask)
            cv2.imwrite(str(folder / "scans" / f"s{number}.png"), scan)
            writer.writerow([f"s{number}", f"p{number // 2}", finding, "A"])


def test_every_kind_of_part_has_its_two_files() -> None:
    assert sorted(examples()) == [
        "bcd/data/calipers.py",
        "bcd/data/sources/clinic.py",
        "bcd/losses/brier.py",
        "bcd/models/shallow.py",
        "conf/augmentation/calipers.yaml",
        "conf/data/clinic.yaml",
        "conf/loss/brier.yaml",
        "conf/model/shallow.yaml",
    ]


def test_the_examples_are_as_clean_as_the_house_asks(tmp_path: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for path, content in examples().items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(content, encoding="utf-8")
        assert not path.endswith(".yaml") or content.startswith("# ")
    for arguments in (["check", "--no-cache"], ["format", "--check", "--no-cache"]):
        done = subprocess.run([sys.executable, "-m", "ruff", *arguments, "."], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_a_network_is_trained_with_every_example(tmp_path: Path) -> None:
    for part in ("bcd", "conf", "scripts"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    for path, content in examples().items():
        assert not (tmp_path / path).exists()
        (tmp_path / path).write_text(content, encoding="utf-8")
    make_clinic(tmp_path / "clinic")
    small = ["preprocess.size=32", "batch_size=4", "trainer.max_epochs=1", "logger=none", "limit_test=4"]
    arguments = [*OPTIONS, f"data.root={tmp_path / 'clinic'}", *small, f"hydra.run.dir={tmp_path / 'run'}"]
    done = subprocess.run(
        [sys.executable, "scripts/train.py", *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["data"]["name"] == "clinic"
    assert metrics["training"]["parameters"] == 1 * 16 * 9 + 3 * 16 * 16 * 9 + 4 * 2 * 16 + 17
    config = (tmp_path / "run" / "config.yaml").read_text()
    for target in ("losses.brier.BrierLoss", "models.shallow.ShallowNet", "data.calipers.Calipers", "data.sources.clinic.Clinic"):
        assert f"bcd.{target}" in config
