"""Prediction shared by many processes: exactly one row a case, whoever does it and whoever is killed."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock
from PIL import Image
from tiny_bundles import counted, tiny_predictor, written

from bcd.predictor.bundles.examples import example_image
from bcd.predictor.many.files import predict_files
from bcd.predictor.many.shards import Shards, predict_shards, try_again
from bcd.predictor.predictor import Predictor


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return tiny_predictor("segmentation")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    image = example_image("benign")
    for number in range(7):
        Image.fromarray(image[number : 90 + number, :100]).save(folder / f"case {number}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def _rows(output: Path) -> list[dict[str, str]]:
    with (output / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def _predicted(predictor: Predictor, images: Path, output: Path, shards: int, shard: int | None = None) -> bool:
    return predict_shards(predictor, images, output, None, None, shards, shard) is not None


def test_shards_done_apart_and_joined_give_what_one_process_gives(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    predict_files(predictor, images, tmp_path / "one")
    many = tmp_path / "many"
    assert not _predicted(predictor, images, many, 3, 2)
    assert not _predicted(predictor, images, many, 3, 3)
    assert not (many / "predictions.csv").exists()
    assert _predicted(predictor, images, many, 3, 1)
    assert _rows(many) == _rows(tmp_path / "one")
    one, joined = (json.loads((output / "predictions.json").read_text()) for output in (tmp_path / "one", many))
    assert joined["cases"] == one["cases"]
    for kind in ("masks", "overlays"):
        ours, theirs = ({path.name: path.read_bytes() for path in (output / kind).iterdir()} for output in (many, tmp_path / "one"))
        assert ours == theirs


def test_a_process_that_takes_free_shards_does_not_repeat_what_is_done(
    predictor: Predictor, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    _predicted(predictor, images, output, 4, 1)
    seen = counted(predictor, monkeypatch)
    done = {one.case_id for one in Shards.of(output, images, 4).inputs_of(1)}
    assert _predicted(predictor, images, output, 4)
    assert sorted(seen) == sorted({f"case {number}" for number in range(7)} - done)
    assert _predicted(predictor, images, output, 4)
    assert len(seen) == len(set(seen))
    assert len(_rows(output)) == 8


def test_broken_files_are_tried_again_when_asked(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    _predicted(predictor, images, output, 2)
    Image.fromarray(example_image("benign")[:90, :100]).save(images / "broken.png")
    _predicted(predictor, images, output, 2)
    assert [row["case_id"] for row in _rows(output) if row["error"]] == ["broken"]
    broken = next(
        number for number in (1, 2) if "broken" in {one.case_id for one in Shards.of(output, images, 2).inputs_of(number)}
    )
    try_again(output, 2, 3 - broken)
    assert Shards.of(output, images, 2).left() == []
    try_again(output, 2, broken)
    assert Shards.of(output, images, 2).left() == [broken]
    try_again(output, 2)
    _predicted(predictor, images, output, 2)
    assert [row["error"] for row in _rows(output)] == [""] * 8


def test_a_shard_that_another_process_holds_is_left_to_it(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    folder = Shards.of(output, images, 2).folder_of(1)
    folder.mkdir()
    with FileLock(folder / ".lock"), pytest.raises(ValueError, match=r"shard=1 .* another process"):
        _predicted(predictor, images, output, 2, 1)
    assert not _predicted(predictor, images, output, 2, 1)


def test_another_number_of_shards_or_a_mix_with_none_is_refused(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    _predicted(predictor, images, output, 2, 1)
    with pytest.raises(ValueError, match="was begun with shards=2, not 3"):
        _predicted(predictor, images, output, 3, 1)
    with pytest.raises(ValueError, match="begun with shards="):
        predict_files(predictor, images, output)
    with pytest.raises(ValueError, match="one of them, from 1"):
        _predicted(predictor, images, output, 2, 3)
    predict_files(predictor, images, tmp_path / "one")
    with pytest.raises(ValueError, match="made without shards="):
        _predicted(predictor, images, tmp_path / "one", 2)


def test_a_file_that_comes_later_changes_no_shard(predictor: Predictor, images: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    _predicted(predictor, images, output, 2, 1)
    Image.fromarray(example_image("benign")[:80, :90]).save(images / "a later one.png")
    assert _predicted(predictor, images, output, 2, 2)
    assert len(_rows(output)) == 8


def _command(bundle: Path, images: Path, output: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "bcd", "predict", f"bundle={bundle}", f"input={images}", f"output={output}", *more]


@pytest.fixture
def many(tmp_path: Path) -> Path:
    folder = tmp_path / "many"
    folder.mkdir()
    image = example_image("benign")
    for number in range(60):
        Image.fromarray(image[number : 90 + number, :100]).save(folder / f"{number:02d}.png")
    return folder


def _check(output: Path) -> None:
    rows = _rows(output)
    assert [row["case_id"] for row in rows] == [f"{number:02d}" for number in range(60)]
    assert not any(row["error"] for row in rows)
    assert {path.stem for path in (output / "masks").glob("*.png")} == {row["case_id"] for row in rows}


@pytest.mark.slow
def test_workers_killed_at_random_moments_leave_exactly_one_row_a_case(many: Path, tmp_path: Path) -> None:
    bundle, output = tmp_path / "bundle", tmp_path / "out"
    written(bundle, "segmentation")
    command = _command(bundle, many, output, "shards=6")
    chance = random.Random(0)
    for _ in range(3):
        workers = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(2)]
        # Not before there is something to spoil; and then at once, in the midst of a case.
        before = sum(1 for _ in (output / "masks").glob("*.png")) if output.exists() else 0
        while (sum(1 for _ in (output / "masks").glob("*.png")) < before + 3) and workers[0].poll() is None:
            time.sleep(chance.random() / 20)
        for worker in workers:
            os.kill(worker.pid, signal.SIGKILL) if worker.poll() is None else None
            worker.wait()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    _check(output)


@pytest.mark.slow
def test_shards_done_by_one_command_each_are_joined_though_a_file_of_the_first_is_broken(images: Path, tmp_path: Path) -> None:
    bundle, output = tmp_path / "bundle", tmp_path / "out"
    written(bundle, "segmentation")
    for shard in (1, 2):  # broken.png is the first file
        done = subprocess.run(
            _command(bundle, images, output, "shards=2", f"shard={shard}"), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert [row["case_id"] for row in _rows(output) if row["error"]] == ["broken"]
    assert len(_rows(output)) == 8


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [["launcher=local"], ["launcher=slurm", "launcher.cluster=local"], ["launcher=ray"]])
def test_every_launcher_finishes_a_prediction(launcher: list[str], many: Path, tmp_path: Path) -> None:
    pytest.importorskip({"slurm": "submitit", "ray": "ray"}.get(launcher[0].partition("=")[2], "bcd"))
    bundle, output = tmp_path / "bundle", tmp_path / "out"
    written(bundle, "segmentation")
    command = _command(bundle, many, output, *launcher, "launcher.workers=2", "shards=4")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    _check(output)
