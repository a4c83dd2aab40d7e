"""The wheel is whole: configs, committed splits and commands come along, and it works from any folder."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from bcd.config import CONF

ROOT = CONF.parent


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds what the wheel installs, and nothing else."""
    pytest.importorskip("hatchling", reason="hatchling, which builds the wheel, is not installed; make setup brings it")
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = folder.glob("bcd-*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


def _bcd(site: Path, where: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bcd", *arguments],
        cwd=where,
        env={**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_holds_every_config_split_and_command(site: Path) -> None:
    for folder, pattern in (("conf", "*.yaml"), ("conf", "*.csv"), ("scripts", "*.py")):
        ours = {path.relative_to(ROOT) for path in (ROOT / folder).rglob(pattern)}
        theirs = {path.relative_to(site / "bcd") for path in (site / "bcd" / folder).rglob(pattern)}
        assert theirs == ours
    for pattern in ("*.css", "reports/templates/**/*.*"):
        ours = {path.relative_to(ROOT) for path in (ROOT / "bcd").rglob(pattern)}
        assert ours == {path.relative_to(site) for path in (site / "bcd").rglob(pattern)}
    assert "bcd = bcd.__main__:main" in next(site.glob("*.dist-info/entry_points.txt")).read_text()


def test_its_commands_answer_from_any_folder(site: Path, tmp_path: Path) -> None:
    commands = _bcd(site, tmp_path).stdout
    assert all(f"  {path.stem} " in commands for path in (ROOT / "scripts").glob("*.py"))
    assert "bcd train [group=option]" in _bcd(site, tmp_path, "train", "--help").stdout
    refused = _bcd(site, tmp_path, "train", "data=busi", "data.root=.", "fold=6")
    assert refused.returncode == 2
    assert refused.stderr == f"error: fold=6: {site / 'bcd' / 'conf' / 'data' / 'splits' / 'busi.csv'} has folds 1 to 5.\n"
    assert "Did you mean 'train'" in _bcd(site, tmp_path, "trian").stderr


@pytest.mark.slow
def test_it_trains_from_any_folder(site: Path, tmp_path: Path) -> None:
    small = ["data.source.n_images=30", "preprocess.size=32", "batch_size=4", "model.decoder_channels=[8,8,8,8,8]"]
    done = _bcd(site, tmp_path, "train", *small, "trainer.max_epochs=1", "logger=none", "hydra.run.dir=run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["data"]["synthetic"] is True
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outputs", "run"]
