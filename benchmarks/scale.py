"""What a data set of many cases costs before the first step: tables, groups, split, opening, first batch.

The images are a few tiny ones that all cases share, so that what is measured is what grows with the number of cases. Each size is
measured in a process of its own, whose peak memory is that of the stage. CPU seconds, not seconds: machines are shared.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from bcd.config import compose
from bcd.data.copies.find import COPY_SIMILARITY, CopyPair, group_cases
from bcd.data.dataset import EpochSampler
from bcd.data.manifest import Case, write_manifest
from bcd.data.prepare import Prepared
from bcd.data.shards.index import COPIES, GROUPS, INDEX, LOCATION, LOCATIONS, MANIFEST, SPLIT, ShardIndex, Stamp, path_hash
from bcd.data.shards.writing import write_shards
from bcd.data.splits import check_split, draw_split, write_split
from bcd.files import write_text
from bcd.runs.assemble import build_datamodule, prepare_data
from bcd.runs.hardware import Hardware
from benchmarks.search import peak_mb, peak_since_now

STAGES = ("group", "split", "write", "open", "open again", "check", "first batch", "epoch order")
SIDE_PX = 16
CASES_A_SHARD = 1000
_DRAWN = 100
_CASES_A_PATIENT = 2
_COPIED = 0.01
_CPU = Hardware("cpu", "bench", "32-true", "contiguous", 0)


def bench_scale(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Print CPU seconds and peak memory of each stage at each size, and how they grow; return the rows.

    Args:
        config: `sizes`, the numbers of cases.
    """
    rows = [_measure_apart(size) for size in config["sizes"]]
    table = Table(title="Before the first step: CPU seconds, and the most memory of the process (MB)")
    table.add_column("stage")
    for row in rows:
        table.add_column(f"{row['cases']:,}", justify="right")
    for stage in STAGES:
        table.add_row(stage, *(_cell(row["stages"][stage]) for row in rows))
    Console(soft_wrap=True).print(table)
    return rows


def _cell(figures: Mapping[str, float | None]) -> str:
    memory = "-" if figures["peak_mb"] is None else f"{figures['peak_mb']:.0f}"
    return f"{figures['cpu_s']:.2f} s, {memory} MB"


def _measure_apart(size: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="bcd-bench-") as folder:
        command = [sys.executable, "-m", "benchmarks.scale", folder, str(size)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"The measurement of {size} cases failed: {done.stderr.strip()[-2000:]}")
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def measure(folder: Path, size: int) -> dict[str, Any]:
    """Write a synthetic data set of `size` cases as shards, open it, and read its first batch; return what each stage took."""
    stages: dict[str, dict[str, float | None]] = {}
    before_mb = peak_since_now()  # of the libraries alone

    def staged(name: str, work: Callable[[], Any]) -> Any:
        peak_since_now()
        started = time.process_time()
        result = work()
        stages[name] = {"cpu_s": time.process_time() - started, "peak_mb": peak_mb()}
        return result

    shards = folder / "shards"
    _write_staged(shards, folder, size, staged)  # in a function of its own, so that what it made is gone
    staged("open", lambda: len(_opened(shards, folder).cases))
    prepared = staged("open again", lambda: _opened(shards, folder))
    module = _module(prepared, folder)
    ids = [case.case_id for case in prepared.cases]
    staged("check", lambda: check_split(prepared.split, ids, prepared.groups))
    staged("first batch", lambda: (module.setup("fit"), next(iter(module.train_dataloader()))))
    sampler = module.train_dataloader().sampler
    staged("epoch order", lambda: _length(sampler))
    return {"cases": size, "before_mb": before_mb, "stages": stages}


def _write_staged(shards: Path, folder: Path, size: int, staged: Callable[[str, Callable[[], Any]], Any]) -> None:
    cases = synthetic_cases(size, folder)
    groups = staged("group", lambda: group_cases(cases, synthetic_copies(cases)))
    labels, ids = [case.label for case in cases], [case.case_id for case in cases]
    split = staged("split", lambda: draw_split(groups["group"].tolist(), labels, ids, 5, 0))
    staged("write", lambda: write_synthetic(shards, folder, cases, groups, split))


def _length(sampler: Any) -> int:
    if not isinstance(sampler, EpochSampler):
        raise TypeError(f"The loader draws by {type(sampler).__name__}, not by our sampler.")
    return sum(1 for _ in sampler)


def synthetic_cases(size: int, root: Path) -> list[Case]:
    """Return cases of an imagined data set: two a patient, two of five with a lesion mask each, metadata as BUS-BRA has."""
    labels = ("normal", "benign", "malignant", "benign", "benign")
    return [
        Case(
            f"case {number:07d}",
            root / "images" / f"{number:07d}.png",
            (root / "masks" / f"{number:07d}.png",) if number % 5 else (),
            labels[number % 5],
            f"patient {number // _CASES_A_PATIENT:06d}",
            {"birads": str(2 + number % 4), "scanner": f"scanner {number % 4}", "histology": "unknown"},
        )
        for number in range(size)
    ]


def synthetic_copies(cases: list[Case]) -> list[CopyPair]:
    """Return near-copies of a hundredth of the cases, each five patients further."""
    step = round(1 / _COPIED)
    return [
        CopyPair(cases[number].case_id, cases[number + 10].case_id, COPY_SIMILARITY + 0.2, 1.0, 3)
        for number in range(1, len(cases) - 10, step)
    ]


def write_synthetic(shards: Path, root: Path, cases: list[Case], groups: Any, split: Any) -> None:
    """Write the tables and the index of such a data set; its shards are one small shard under many names."""
    stencil = _stencil(root / "stencil")
    write_manifest(cases, shards / MANIFEST, root, {case.case_id: (SIDE_PX, SIDE_PX) for case in cases})
    write_text(shards / GROUPS, groups.to_csv(index=False))
    write_text(shards / COPIES, "first,second,similarity,overlap,distance,mirrored\n")
    write_split(split, shards / SPLIT, seed=0, fingerprint="0" * 16, method="synthetic", name="synthetic")
    stamp, n_shards = Stamp.of(stencil / "shard-000000.tar"), -(-len(cases) // CASES_A_SHARD)
    names = [f"shard-{number:06d}.tar" for number in range(n_shards)]
    for name in names:
        os.link(stencil / "shard-000000.tar", shards / name)
    np.save(shards / LOCATIONS, _locations(cases, root, np.load(stencil / LOCATIONS)))
    index = ShardIndex(
        name="synthetic",
        fingerprint="0" * 16,
        synthetic=True,
        how_to_get="",
        split={"folds": 5, "by": "group", "seed": 0},
        n_cases=len(cases),
        made_from="",
        skipped=[],
        shards=dict.fromkeys(names, stamp),
        tables={name: Stamp.of(shards / name) for name in (MANIFEST, GROUPS, COPIES, SPLIT, LOCATIONS)},
    )
    write_text(shards / INDEX, index.text())


def _locations(cases: list[Case], root: Path, stencil: np.ndarray) -> np.ndarray:
    """Return where each file lies: image and mask of case n are those of case n % _DRAWN of the stencil."""
    base = len(str(root)) + 1
    parts = []
    for kind, chosen in (("images", stencil[0::2]), ("masks", stencil[1::2])):
        owners = np.array([number for number, case in enumerate(cases) if kind == "images" or case.masks])
        files = (str(cases[number].image if kind == "images" else cases[number].masks[0])[base:] for number in owners.tolist())
        part = np.empty(len(owners), LOCATION)
        part[:] = chosen[owners % _DRAWN]
        part["path"], part["case"], part["shard"] = np.fromiter(map(path_hash, files), np.uint64), owners, owners // CASES_A_SHARD
        parts.append(part)
    table = np.concatenate(parts)
    return table[np.argsort(table["path"])]


def _stencil(folder: Path) -> Path:
    """Write a few tiny cases as one shard; return its folder, `files.npy` there sorted image, mask, image, mask by case."""
    rng = np.random.default_rng(0)
    cases = []
    for number in range(_DRAWN):
        image, mask = folder / "files" / f"{number}.png", folder / "files" / f"{number}_mask.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(image), rng.integers(0, 256, (SIDE_PX, SIDE_PX), np.uint8))
        cv2.imwrite(str(mask), np.eye(SIDE_PX, dtype=np.uint8) * 255)
        cases.append(Case(f"{number:03d}", image, (mask,), "benign"))
    prepared = _prepared_stencil(cases, folder)
    write_shards(prepared, folder / "shards", 1, {"folds": 1, "by": "group", "seed": 0})
    table = np.load(folder / "shards" / LOCATIONS)
    np.save(folder / "shards" / LOCATIONS, table[np.lexsort((table["offset"], table["case"]))])
    return folder / "shards"


def _prepared_stencil(cases: list[Case], folder: Path) -> Prepared:
    groups = group_cases(cases, [])
    split = groups[["case_id", "group"]].assign(fold=1)
    write_manifest(cases, folder / MANIFEST, folder, {case.case_id: (SIDE_PX, SIDE_PX) for case in cases})
    write_text(folder / GROUPS, groups.to_csv(index=False))
    write_text(folder / COPIES, "first,second\n")
    return Prepared("stencil", "0" * 16, folder, cases, groups, split, folder / SPLIT, True, "", 1 << 20, [])


def _run_config(shards: Path, folder: Path) -> dict[str, Any]:
    return compose("train", ["data=shards", f"data.root={shards}", f"output={folder / 'outputs'}", "preprocess.size=32"])


def _opened(shards: Path, folder: Path) -> Prepared:
    return prepare_data(_run_config(shards, folder))


def _module(prepared: Prepared, folder: Path) -> Any:
    return build_datamodule(_run_config(folder / "shards", folder), prepared, _CPU)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(Path(sys.argv[1]), int(sys.argv[2]))) + "\n")
