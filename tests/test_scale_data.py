"""Many cases: what is right for a hundred is right for a hundred thousand, and grows with them."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.model_selection import StratifiedGroupKFold

from bcd.config import compose
from bcd.data.copies.find import group_cases
from bcd.data.dataset import EpochSampler, Share
from bcd.data.parallel import in_threads
from bcd.data.splits import ManyGroupKFold, check_split, draw_split
from bcd.images import read as images
from bcd.runs.assemble import build_datamodule, prepare_data
from bcd.runs.hardware import Hardware
from benchmarks.scale import CASES_A_SHARD, STAGES, bench_scale, synthetic_cases, synthetic_copies, write_synthetic


def _check(size: int, folder: Path) -> None:
    cases = synthetic_cases(size, folder)
    copies = synthetic_copies(cases)
    groups = group_cases(cases, copies)
    assert groups["group"].nunique() == size // 2 - len(copies)  # two a patient, and each copy joins two patients
    labels = [case.label for case in cases]
    split = draw_split(groups["group"].tolist(), labels, [case.case_id for case in cases], 5, 0)
    for label in ("normal", "benign", "malignant"):
        counts = Counter(fold for fold, its in zip(split["fold"], labels, strict=True) if its == label)
        assert max(counts.values()) - min(counts.values()) <= 0.02 * labels.count(label) / 5 + 2
    write_synthetic(folder / "shards", folder, cases, groups, split)

    config = compose("train", ["data=shards", f"data.root={folder / 'shards'}", f"output={folder}", "preprocess.size=32"])
    prepared = prepare_data(config)
    assert [case.case_id for case in prepared.cases] == [case.case_id for case in cases]
    assert check_split(prepared.split, [case.case_id for case in cases], prepared.groups) == []
    module = build_datamodule(config, prepared, Hardware("cpu", "test", "32-true", "contiguous", 0))
    module.setup("fit")
    assert sum(len(module.cases[part]) for part in ("train", "valid", "test")) == size
    batch = next(iter(module.train_dataloader()))
    assert batch["image"].shape == (16, 1, 32, 32)
    assert batch["mask"].flatten(1).any(1).tolist() == [int(name.split()[1]) % 5 > 0 for name in batch["case_id"]]
    _check_order(module)


def _check_order(module: Any) -> None:
    """Two processes: each case once, and both read within the same few shards."""
    loader = module.train_dataloader()
    length, batch_size = len(module.cases["train"]), loader.batch_size
    shards = module.prepared.streaming.shards[loader.dataset.rows]
    parts = []
    for rank in range(2):
        sampler = EpochSampler(loader.dataset.labels, 0, False, Share(rank, 2), batch_size, loader.sampler.windows)
        parts.append(np.array([row for _, row in sampler]))
    both = np.stack(parts, axis=1)
    assert len(np.unique(both)) == both.size == length // batch_size * batch_size
    window = 8 * CASES_A_SHARD // 2
    for begin in range(0, len(both), max(1, len(both) // 20)):
        assert len(np.unique(shards[both[begin : begin + window // 2]])) <= 2 * 8


def test_preparing_decodes_each_image_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    rng = np.random.default_rng(0)
    for number in range(12):
        Image.fromarray(rng.integers(0, 256, (40, 50), dtype=np.uint8)).save(tmp_path / "data" / f"{number}.png")
    lines = ["case_id,image,label", *(f"{number},{number}.png,{['benign', 'malignant'][number % 2]}" for number in range(12))]
    (tmp_path / "data" / "cases.csv").write_text("\n".join(lines))
    decoded: Counter[str] = Counter()
    read = images.read_values

    def counted(file: Any, name: Any, max_pixels: int = images.MAX_PIXELS) -> np.ndarray:
        decoded[Path(name).name] += 1
        return read(file, name, max_pixels)

    monkeypatch.setattr(images, "read_values", counted)
    config = compose("train", ["data=table", f"data.root={tmp_path / 'data'}", f"output={tmp_path / 'outputs'}"])
    prepared = prepare_data(config)
    assert len(prepared.cases) == 12
    assert decoded == Counter({f"{number}.png": 1 for number in range(12)})
    prepare_data(config)
    assert decoded.total() == 12


def test_a_million_items_do_not_wait_in_memory_at_once() -> None:
    waiting, most = 0, 0

    class Items(Sequence[int]):
        def __len__(self) -> int:
            return 30_000

        def __getitem__(self, chosen: Any) -> Any:
            nonlocal waiting, most
            waiting += chosen.stop - chosen.start
            most = max(most, waiting)
            return range(30_000)[chosen]

    results = []
    for result in in_threads(lambda number: number * 2, Items(), threads=2):
        waiting -= 1
        results.append(result)
    assert results == [2 * number for number in range(30_000)]
    assert most == 10_000


def test_two_thousand_cases_are_grouped_split_opened_and_shuffled_exactly(tmp_path: Path) -> None:
    _check(2000, tmp_path)


@pytest.mark.slow
def test_a_hundred_thousand_cases_are_grouped_split_opened_and_shuffled_exactly(tmp_path: Path) -> None:
    _check(100_000, tmp_path)


@pytest.mark.slow
def test_the_measurement_tells_every_stage(capsys: pytest.CaptureFixture[str]) -> None:
    rows = bench_scale({"sizes": [500, 1000]})
    assert [row["cases"] for row in rows] == [500, 1000]
    assert all(row["stages"][stage]["cpu_s"] >= 0 for row in rows for stage in STAGES)
    assert "first batch" in capsys.readouterr().out


@pytest.mark.parametrize(("seed", "folds", "n_labels"), [(0, 5, 3), (1, 3, 2), (2, 10, 9), (3, 5, 1)])
def test_folds_are_those_of_scikit_learn_to_the_case(seed: int, folds: int, n_labels: int) -> None:
    rng = np.random.default_rng(seed)
    groups = np.sort(rng.integers(0, 150, 400)).astype(str)
    labels = np.array([str(number) for number in rng.integers(0, n_labels, 400)])
    ours, theirs = (
        list(kind(folds, shuffle=True, random_state=seed).split(groups, labels, groups))
        for kind in (ManyGroupKFold, StratifiedGroupKFold)
    )
    assert all(np.array_equal(a, b) for one, other in zip(ours, theirs, strict=True) for a, b in zip(one, other, strict=True))
