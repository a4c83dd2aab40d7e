"""Measure training throughput: python scripts/bench.py."""

from pathlib import Path
from typing import Any

from bcd.config import command


@command("bench")
def main(config: dict[str, Any], folder: Path) -> None:
    """Compare training with a plain float32 loop and with the bare step on a tensor in memory; time the search for copies."""
    from bcd.runs.bench import bench  # keeps --help fast
    from bcd.runs.bench_search import bench_search

    if config["networks"]:
        bench(config)
    bench_search(config["search"])


if __name__ == "__main__":
    main()
