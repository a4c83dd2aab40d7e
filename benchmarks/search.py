"""The candidate search of the duplicate audit at growing sizes: seconds, memory and what it finds, each in a process of its own."""

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from bcd.data.copies.hashing import MIRROR, WINDOWS, WORDS, Hashes, hash_image, near_hashes
from bcd.data.sources.phantom_simulator import draw_anatomy, draw_lesion, simulate

_BASE = 60
_COPIES = 0.01
_PROCESS = Path("/proc/self")


def bench_search(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Print seconds, memory and candidates of the search with all windows and both sides of the mirror; return the rows.

    Args:
        config: `sizes`, the numbers of images, and `hashes`, the kinds: `phantom`, `random`, `equal`.
    """
    rows = [_measure_apart(kind, size) for kind in config["hashes"] for size in config["sizes"]]
    table = Table(title=f"Candidate search, {len(WINDOWS)} windows an image, default radius")
    for column in ("hashes", "images", "seconds", "CPU seconds", "candidates / image", "planted copies found", "memory, MB"):
        table.add_column(column, justify="left" if column == "hashes" else "right")
    for row in rows:
        found = "-" if row["recall"] is None else f"{row['recall']:.3f}"
        figures = [f"{row['seconds']:.1f}", f"{row['cpu_seconds']:.1f}", f"{row['pairs'] / row['images']:.2f}", found]
        memory = "-" if row["memory_mb"] is None else f"{row['memory_mb']:.0f}"
        table.add_row(row["hashes"], f"{row['images']:,}", *figures, memory)
    Console(soft_wrap=True).print(table)
    return rows


def _measure_apart(kind: str, size: int) -> dict[str, Any]:
    """Measure in a child process, whose peak memory is that of this search alone."""
    command = [sys.executable, "-m", "benchmarks.search", kind, str(size)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def measure(kind: str, size: int) -> dict[str, Any]:
    """Search among `size` images' hashes of a kind; return what it took.

    Args:
        kind: `phantom` (the bits of simulated images, scattered), `random` (independent bits) or `equal` (all the same).
        size: number of images; a hundredth of them are copied, a sixteenth of the bits changed.
    """
    rng = np.random.default_rng(size)
    hashes, copies = _draw(kind, size, rng)
    before_mb = peak_since_now()
    cpu_s, started_s = time.process_time(), time.perf_counter()
    found = near_hashes(hashes, mirror=MIRROR)
    seconds, cpu_s = time.perf_counter() - started_s, time.process_time() - cpu_s
    after_mb = peak_mb()
    pairs = set(zip(np.minimum(found.first, found.second).tolist(), np.maximum(found.first, found.second).tolist(), strict=True))
    return {
        "hashes": kind,
        "images": size,
        "seconds": seconds,
        "cpu_seconds": cpu_s,
        "pairs": len(pairs),
        "recall": float(np.mean([pair in pairs for pair in copies])) if copies else None,
        "memory_mb": None if before_mb is None or after_mb is None else after_mb - before_mb,
    }


def peak_since_now() -> float | None:
    """Let `peak_mb` tell of what comes from now on; return the memory that the process has now, in MB, None if nobody tells it.

    The peak of getrusage will not do: it begins with that of the process that started this one, and drawing the hashes took more
    than the search.
    """
    try:
        (_PROCESS / "clear_refs").write_text("5")
    except OSError:  # Linux alone has it, and not every container may write it
        return None
    return peak_mb()


def peak_mb() -> float | None:
    """Return the most memory that the process has had since `peak_since_now`, in MB; None where nobody tells it."""
    status = _PROCESS / "status"
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), None)


def _draw(kind: str, size: int, rng: np.random.Generator) -> tuple[Hashes, list[tuple[int, int]]]:
    """Return hashes, uint64 (size, W, K), and the pairs of planted copies."""
    shape = (size, len(WINDOWS), WORDS)
    if kind == "equal":
        return np.zeros(shape, np.uint64), []
    if kind == "random":
        hashes = rng.integers(0, 2**64, shape, dtype=np.uint64)
    else:
        base = np.array([hash_image(_phantom(number)) for number in range(_BASE)])
        # A quarter of the bits changed, the same ones in every window: no copy, and still as skewed as real bits are.
        hashes = base[rng.integers(0, _BASE, size)] ^ _noise(rng, size, 2)[:, None]
    n_copies = int(size * _COPIES)
    chosen = rng.permutation(size)[: 2 * n_copies].reshape(2, -1)
    windows = rng.integers(0, len(WINDOWS), n_copies)
    hashes[chosen[1], 0] = hashes[chosen[0], windows] ^ (_noise(rng, n_copies, 3) & _noise(rng, n_copies, 1))
    return hashes, list(zip(chosen.min(axis=0).tolist(), chosen.max(axis=0).tolist(), strict=True))


def _noise(rng: np.random.Generator, count: int, halvings: int) -> Hashes:
    """Return words, uint64 (count, K), in which each bit is set with a probability of 2 ** -halvings."""
    words = rng.integers(0, 2**64, (halvings, count, WORDS), dtype=np.uint64)
    return np.asarray(np.bitwise_and.reduce(words, axis=0))


def _phantom(number: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng(number)
    anatomy = draw_anatomy(rng)
    image, _ = simulate(rng, anatomy, draw_lesion(rng, number % 2 == 0), (240, 300))
    return image


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(sys.argv[1], int(sys.argv[2]))) + "\n")
