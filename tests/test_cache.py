import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bcd.data import cache as cache_module
from bcd.data.cache import Cache, open_cache
from bcd.data.manifest import Case
from bcd.files import build_folder, write_text
from bcd.images.read import ImageError
from bcd.preprocess import Preprocess

FIT = Preprocess(size=16)


@pytest.fixture
def cases(tmp_path: Path) -> list[Case]:
    rng = np.random.default_rng(0)
    made = []
    for number, case_id in enumerate(["b (10)", "b (2)", "n, (1)"]):
        image, mask = tmp_path / f"{number}.png", tmp_path / f"{number}_mask.png"
        Image.fromarray(rng.integers(0, 256, (20 + number, 30), dtype=np.uint8)).save(image)
        Image.fromarray(np.eye(20 + number, 30, dtype=np.uint8) * 255).save(mask)
        made.append(Case(case_id, image, (mask,) if number < 2 else ()))
    return made


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that a cache was built in, so that a test can count them."""
    folders: list[Path] = []
    build = cache_module._build

    def counted(cases: list[Case], preprocess: Preprocess, folder: Path, max_pixels: int) -> None:
        folders.append(folder)
        build(cases, preprocess, folder, max_pixels)

    monkeypatch.setattr(cache_module, "_build", counted)
    return folders


def test_the_cache_holds_what_reading_and_fitting_give(tmp_path: Path, cases: list[Case]) -> None:
    cache = open_cache(cases, FIT, tmp_path / "data")
    assert cache.images.shape == cache.masks.shape == (3, 16, 16)
    for case in cases:
        row = cache.index[case.case_id]
        image = np.asarray(Image.open(case.image))
        assert cache.native_sizes[row].tolist() == list(image.shape)
        np.testing.assert_array_equal(cache.images[row], FIT.fit_image(image))
    assert set(np.unique(cache.masks)) == {0, 1}
    assert not cache.masks[cache.index["n, (1)"]].any()
    assert isinstance(cache.images, np.memmap)
    assert not cache.images.flags.writeable


def test_a_second_opening_reads_in_any_order_and_builds_nothing(tmp_path: Path, cases: list[Case], builds: list[Path]) -> None:
    first = open_cache(cases, FIT, tmp_path / "data")
    second = open_cache(cases[::-1], FIT, tmp_path / "data")
    assert first.index == second.index
    assert len(builds) == 1


def test_another_size_is_another_cache(tmp_path: Path, cases: list[Case]) -> None:
    open_cache(cases, FIT, tmp_path / "data")
    open_cache(cases, Preprocess(size=32), tmp_path / "data")
    open_cache(cases, Preprocess(size=32, mean=0.1), tmp_path / "data")
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["cache-fit16", "cache-fit32"]


def cut_array(folder: Path) -> None:
    with (folder / "images.npy").open("r+b") as file:
        file.truncate(200)


def drop_marker(folder: Path) -> None:
    (folder / "done.json").unlink()


def change_index(folder: Path) -> None:
    (folder / "index.csv").write_text((folder / "index.csv").read_text().replace("b (2)", "b (3)"))


def change_version(folder: Path) -> None:
    done = json.loads((folder / "done.json").read_text())
    (folder / "done.json").write_text(json.dumps(done | {"version": -1}))


def change_shape(folder: Path) -> None:
    np.save(folder / "masks.npy", np.zeros((3, 8, 8), dtype=np.uint8))


@pytest.mark.parametrize("damage", [cut_array, drop_marker, change_index, change_version, change_shape])
def test_a_damaged_cache_is_noticed_and_rebuilt(tmp_path: Path, cases: list[Case], builds: list[Path], damage: object) -> None:
    before = np.array(open_cache(cases, FIT, tmp_path / "data").images)
    assert callable(damage)
    damage(tmp_path / "data" / "cache-fit16")
    after = open_cache(cases, FIT, tmp_path / "data")
    np.testing.assert_array_equal(after.images, before)
    assert len(builds) == 2
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["cache-fit16"]


def test_a_cache_of_other_cases_is_rebuilt(tmp_path: Path, cases: list[Case]) -> None:
    open_cache(cases[:2], FIT, tmp_path / "data")
    assert len(open_cache(cases, FIT, tmp_path / "data").index) == 3


def test_two_builders_at_once_leave_one_cache_and_no_rubbish(
    tmp_path: Path, cases: list[Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    barrier = threading.Barrier(2, timeout=20)
    build = cache_module._build

    def together(cases: list[Case], preprocess: Preprocess, folder: Path, max_pixels: int) -> None:
        build(cases, preprocess, folder, max_pixels)
        barrier.wait()

    monkeypatch.setattr(cache_module, "_build", together)
    opened: list[Cache] = []
    threads = [threading.Thread(target=lambda: opened.append(open_cache(cases, FIT, tmp_path / "data"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 2
    np.testing.assert_array_equal(opened[0].images, opened[1].images)
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["cache-fit16"]


def test_an_unreadable_image_leaves_nothing_behind(tmp_path: Path, cases: list[Case]) -> None:
    cases[1].image.write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"1\.png"):
        open_cache(cases, FIT, tmp_path / "data")
    assert list((tmp_path / "data").iterdir()) == []


def test_what_a_killed_builder_left_is_removed_and_what_a_living_one_builds_is_not(tmp_path: Path) -> None:
    child = "import os, sys, pathlib; from bcd.files import build_folder\n"
    child += "build_folder(pathlib.Path(sys.argv[1]), lambda aside: os._exit(9), lambda folder: False)"
    subprocess.run([sys.executable, "-c", child, str(tmp_path / "made.1")], check=False)
    (left,) = tmp_path.iterdir()
    living = tmp_path / f"{left.name.rsplit('.', 2)[0]}.{os.getpid()}.abc"
    elsewhere, old = tmp_path / ".made.1.otherhost.1.abc", tmp_path / ".made.1.otherhost.2.abc"
    for folder in (living, elsewhere, old):
        folder.mkdir()
    os.utime(old, (0, 0))
    build_folder(tmp_path / "made.1", lambda aside: write_text(aside / "done", "x"), lambda folder: (folder / "done").exists())
    assert {path.name for path in tmp_path.iterdir()} == {"made.1", living.name, elsewhere.name}


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b.txt", "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "a" / "b.txt", "\ud800")  # half a surrogate pair: no text
    assert (tmp_path / "a" / "b.txt").read_text() == "old"
    assert len(list((tmp_path / "a").iterdir())) == 1
