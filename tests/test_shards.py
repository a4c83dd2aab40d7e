"""Shards: the same cases, figures and batches as the files they were made from, and every damage told with shard and case."""

import functools
import http.server
import json
import pickle
import shutil
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bcd.config import compose
from bcd.data.datamodule import UltrasoundDataModule
from bcd.data.dataset import EpochSampler, Share, Windows
from bcd.data.manifest import read_case
from bcd.data.prepare import Prepared
from bcd.data.shards.index import INDEX, LOCATIONS, MANIFEST, ShardError, Stamp
from bcd.data.shards.source import Shards
from bcd.data.shards.store import store_in
from bcd.data.shards.writing import write_shards
from bcd.data.sources.layout import DataNotFound
from bcd.data.splits import SplitError
from bcd.images.marks import read_colour
from bcd.images.read import read_image
from bcd.runs.assemble import build_datamodule, prepare_data
from bcd.runs.hardware import Hardware

CPU = Hardware("cpu", "test", "32-true", "contiguous", 0)
SPLIT = {"folds": 5, "by": "group", "seed": 0}
SMALL = ["preprocess.size=32", "batch_size=4"]


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def plain(output: Path) -> Prepared:
    options = ["data.source.n_images=40", "data.source.near_copies=3", f"output={output}", *SMALL]
    return prepare_data(compose("train", options))


@pytest.fixture(scope="module")
def shards(plain: Prepared, output: Path) -> Path:
    """Shards of less than a fold, so that each part has several."""
    folder = output / "shards"
    write_shards(replace(plain, max_pixels=plain.max_pixels), folder, 1, SPLIT)
    assert len(list(folder.glob("*.tar"))) == 5
    return folder


@pytest.fixture
def own(shards: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return Path(shutil.copytree(shards, tmp_path / "own"))


def _prepared(root: object, local: Path, *options: str) -> Prepared:
    config = compose("train", ["data=shards", f"data.root={root}", f"output={local}", *SMALL, *options])
    return prepare_data(config)


def _module(prepared: Prepared, local: Path, *options: str, workers: int = 0) -> UltrasoundDataModule:
    config = compose("train", [f"output={local}", *SMALL, *options])
    module = build_datamodule(config, prepared, replace(CPU, num_workers=workers))
    module.setup()
    return module


def _epoch(module: UltrasoundDataModule, epoch: int) -> list[dict[str, Any]]:
    loader = module.train_dataloader()
    loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
    return list(loader)


def test_manifest_groups_and_split_are_those_of_the_data_set(plain: Prepared, shards: Path, tmp_path: Path) -> None:
    prepared = _prepared(shards, tmp_path)
    assert (prepared.name, prepared.fingerprint, prepared.synthetic) == (plain.name, plain.fingerprint, True)
    assert [(c.case_id, c.label, c.patient, c.metadata) for c in prepared.cases] == [
        (c.case_id, c.label, c.patient, {name: value for name, value in c.metadata.items() if value}) for c in plain.cases
    ]
    assert prepared.groups.equals(plain.groups)
    assert prepared.split.equals(plain.split)
    # Cases go to worker processes, and are read there like any other.
    for ours, theirs in zip(pickle.loads(pickle.dumps(prepared.cases)), plain.cases, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(read_case(ours), read_case(theirs), strict=True))
    assert read_colour(prepared.cases[0].image) is None
    assert [path.name for path in tmp_path.rglob("*.tar")] == []  # shards of a folder are read where they are


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_equal_those_of_the_files_whatever_the_workers(
    plain: Prepared, shards: Path, output: Path, tmp_path: Path, workers: int
) -> None:
    files, streamed = _module(plain, output), _module(_prepared(shards, tmp_path), tmp_path, workers=workers)
    for epoch in (0, 1):
        for one, other in zip(_epoch(files, epoch), _epoch(streamed, epoch), strict=True):
            assert one["case_id"] == other["case_id"]
            assert all(torch.equal(one[name], other[name]) for name in ("image", "mask", "label", "native_size"))
    for part in ("valid", "test"):
        ids = [case_id for batch in streamed.scoring_dataloader(part) for case_id in batch["case_id"]]
        assert ids == [case.case_id for case in files.cases[part]]


def test_narrow_windows_show_each_case_once_an_epoch_to_workers_and_processes(shards: Path, tmp_path: Path) -> None:
    prepared = _prepared(shards, tmp_path, "data.source.shuffle_shards=1", "data.source.spool_shards=2")
    orders = []
    for workers in (0, 2):
        module = _module(prepared, tmp_path, workers=workers)
        orders.append([[case_id for batch in _epoch(module, epoch) for case_id in batch["case_id"]] for epoch in (0, 1)])
    assert orders[0] == orders[1]
    assert orders[0][0] != orders[0][1]
    assert prepared.streaming is not None
    shard_of = dict(zip((case.case_id for case in prepared.cases), prepared.streaming.shards.tolist(), strict=True))
    for order in orders[0]:
        assert len(order) == len(set(order)) == len(module.cases["train"]) // 4 * 4
        passed = [shard_of[case_id] for case_id in order]
        assert sum(a != b for a, b in pairwise(passed)) == len(set(passed)) - 1  # one shard after the other


@pytest.mark.parametrize(("world_size", "balanced"), [(2, False), (3, False), (2, True)])
def test_processes_share_the_order_of_one_and_meet_in_the_same_shards(world_size: int, balanced: bool) -> None:
    labels = [row % 3 for row in range(240)]
    windows = Windows(np.repeat(np.arange(12), 20), 2)

    def rows(share: Share) -> list[tuple[int, int]]:
        sampler = EpochSampler(labels, 5, balanced, share, multiple=12, windows=windows)
        sampler.set_epoch(3)
        return list(sampler)

    whole = rows(Share())
    parts = [rows(Share(rank, world_size)) for rank in range(world_size)]
    assert [row for several in zip(*parts, strict=True) for row in several] == whole
    if not balanced:
        assert sorted(row for _, row in whole) == list(range(240))
    first = {row // 20 for _, row in whole[: len(whole) // 6]}
    assert len(first) <= 3  # of 12 shards: two of the first window, and one of the next where classes are drawn anew


def test_a_pass_over_shards_that_was_begun_goes_on_where_it_stopped() -> None:
    windows = Windows(np.arange(40) // 8, 2)
    whole = list(EpochSampler([0] * 40, 0, windows=windows))
    sampler = EpochSampler([0] * 40, 0, windows=windows)
    sampler.skip(13)
    assert list(sampler) == whole[13:]


def test_shards_follow_the_convention_of_webdataset(plain: Prepared, shards: Path) -> None:
    seen: dict[str, set[str]] = {}
    folds = dict(zip(plain.split["case_id"], plain.split["fold"], strict=True))
    for path in sorted(shards.glob("*.tar")):
        of_fold = set()
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, ending = member.name.partition(".")
                content = tar.extractfile(member)
                assert content is not None
                seen.setdefault(key, set()).add(ending)
                if ending == "json":
                    about = json.load(content)
                    assert about["case_id"] == plain.cases[int(key)].case_id
                    of_fold.add(folds[about["case_id"]])
                else:
                    case = plain.cases[int(key)]
                    file = case.image if ending.startswith("image") else case.masks[0]
                    assert content.read() == file.read_bytes()
        assert len(of_fold) == 1
    assert len(seen) == len(plain.cases)
    assert {tuple(sorted(endings)) for endings in seen.values()} == {("image.png", "json"), ("image.png", "json", "mask.png")}


def test_the_same_data_give_the_same_bytes_and_are_not_written_twice(plain: Prepared, shards: Path, tmp_path: Path) -> None:
    write_shards(plain, tmp_path / "again", 1, SPLIT)
    stamps = {path.name: Stamp.of(path) for path in shards.iterdir()}
    assert {path.name: Stamp.of(path) for path in (tmp_path / "again").iterdir()} == stamps
    before = (shards / INDEX).stat().st_ino
    write_shards(plain, shards, 1, SPLIT)
    assert (shards / INDEX).stat().st_ino == before


def test_shards_are_not_written_over_something_else(plain: Prepared, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="holds something that is not shards"):
        write_shards(plain, tmp_path, 1, SPLIT)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


class _Quiet(http.server.SimpleHTTPRequestHandler):
    asked: list[str] = []  # noqa: RUF012 - of one server, which a fixture empties

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def served(shards: Path) -> Iterator[str]:
    _Quiet.asked.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(shards)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_shards_behind_a_url_are_fetched_once_an_epoch_and_few_are_kept(shards: Path, served: str, tmp_path: Path) -> None:
    narrow = ["data.source.shuffle_shards=1", "data.source.spool_shards=2"]
    module = _module(_prepared(served, tmp_path, *narrow), tmp_path)
    near = _module(_prepared(shards, tmp_path / "near", *narrow), tmp_path / "near")
    store_in.cache_clear()
    _Quiet.asked.clear()
    for one, other in zip(_epoch(module, 0), _epoch(near, 0), strict=True):
        assert one["case_id"] == other["case_id"]
        assert torch.equal(one["image"], other["image"])
    assert len(_Quiet.asked) == len(set(_Quiet.asked)) == 3  # the training folds of five
    assert len(list(tmp_path.glob("prepared/*/spool/*.tar"))) == 2


def test_a_store_that_fsspec_knows_will_do(shards: Path, tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    for path in shards.iterdir():
        memory.pipe(f"/bcd-shards/{path.name}", path.read_bytes())
    prepared = _prepared("memory://bcd-shards", tmp_path)
    local = _prepared(shards, tmp_path / "local")
    assert np.array_equal(read_image(prepared.cases[0].image), read_image(local.cases[0].image))


def _read_all(root: object, local: Path) -> None:
    for case in _prepared(root, local).cases:
        read_case(case)


def _cut(folder: Path) -> None:
    with (folder / "shard-000001.tar").open("r+b") as file:
        file.truncate(5000)


def _flip(folder: Path) -> None:
    with (folder / "shard-000001.tar").open("r+b") as file:
        file.seek(5000)
        file.write(b"\xff\x00\xff")


def _drop(folder: Path) -> None:
    (folder / "shard-000001.tar").unlink()


def _replace_by_another(folder: Path) -> None:
    shutil.copyfile(folder / "shard-000000.tar", folder / "shard-000001.tar")


def _forget_a_case(folder: Path) -> None:
    locations = np.load(folder / LOCATIONS)
    np.save(folder / LOCATIONS, locations[locations["case"] != 7])
    _stamp_again(folder)


def _change_index(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        content = json.loads((folder / INDEX).read_text())
        change(content)
        (folder / INDEX).write_text(json.dumps(content))

    return damage


def _stamp_again(folder: Path) -> None:
    content = json.loads((folder / INDEX).read_text())
    content["tables"] = {name: vars(Stamp.of(folder / name)) for name in content["tables"]}
    (folder / INDEX).write_text(json.dumps(content))


def _traverse(content: dict[str, Any]) -> None:
    content["shards"] = {f"../{name}": stamp for name, stamp in content["shards"].items()}


def _age(content: dict[str, Any]) -> None:
    content["version"] = 99


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (_cut, r"shard-000001\.tar has 5000 bytes, its index says \d+: it was cut short; copy the shard again"),
        (_flip, r"shard-000001\.tar: .*images/.* of case phantom.* is damaged"),
        (_drop, r"shard-000001\.tar cannot be read \(No such file or directory\); copy the shard there again"),
        (_replace_by_another, r"shard-000001\.tar.*(has \d+ bytes|is damaged)"),
        (_forget_a_case, r"1 cases of manifest\.csv are in no shard \(first: phantom"),
        (_change_index(_traverse), r"names '\.\./shard-000000\.tar', which is no plain file name"),
        (_change_index(_age), r"is of version 99, this program reads 1"),
        (lambda folder: (folder / INDEX).write_text("{}"), r"shards\.json is no index of shards, or damaged"),
        (lambda folder: (folder / MANIFEST).write_text("case_id"), r"manifest\.csv is not what the index beside it says"),
    ],
)
def test_damage_is_told_with_the_shard(own: Path, tmp_path: Path, damage: Callable[[Path], None], told: str) -> None:
    damage(own)
    with pytest.raises(ShardError, match=told):
        _read_all(own, tmp_path / "outputs")


def test_a_server_that_breaks_off_is_tried_again(
    shards: Path, served: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = _prepared(served, tmp_path)
    failures = iter([True, False])
    whole = _Quiet.copyfile

    def copyfile(self: _Quiet, source: Any, outputfile: Any) -> None:
        if next(failures, False):
            outputfile.write(source.read(1000))  # and no more, whatever the header promised
        else:
            whole(self, source, outputfile)

    monkeypatch.setattr(_Quiet, "copyfile", copyfile)
    monkeypatch.setattr("time.sleep", lambda _: None)
    read_image(prepared.cases[0].image)
    assert len([path for path in _Quiet.asked if path.endswith(".tar")]) == 2


def test_what_is_not_there_is_told_with_the_way_to_shards(own: Path, served: str, tmp_path: Path) -> None:
    with pytest.raises(DataNotFound, match=r"shards\.json cannot be read.*scripts/shard_data\.py"):
        _prepared(tmp_path / "nowhere", tmp_path)
    (own / INDEX).unlink()  # tar files of another tool
    with pytest.raises(DataNotFound, match="Tar files of another tool have no index"):
        _prepared(own, tmp_path)
    with pytest.raises(DataNotFound, match="cannot be read"):
        _prepared(f"{served}/nowhere", tmp_path)


def test_another_split_than_the_shards_own_must_be_named(shards: Path, plain: Prepared, tmp_path: Path) -> None:
    with pytest.raises(SplitError, match=r"these shards have a split of 5; add data\.folds=5"):
        _prepared(shards, tmp_path, "data.folds=4")
    with pytest.raises(SplitError, match=r"drawn with 0; add data\.split_seed=0"):
        _prepared(shards, tmp_path, "data.split_seed=1")
    with pytest.raises(SplitError, match="shards come with a split"):
        _prepared(shards, tmp_path, "data.split_by=image", "data.allow_leak=true")
    named = _prepared(shards, tmp_path, f"data.split={plain.split_file}")
    assert named.split_file == plain.split_file


def test_a_spool_too_small_for_its_windows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="spool_shards=3 must be at least twice shuffle_shards=2"):
        Shards(tmp_path, tmp_path, 2, 3)
