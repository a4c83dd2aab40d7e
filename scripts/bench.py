"""Measure speed: python scripts/bench.py."""

from pathlib import Path
from typing import Any

from bcd.config import command


@command("bench")
def main(config: dict[str, Any], folder: Path) -> None:
    """Compare training with a plain loop and the bare step, and distances with MONAI; time the search for copies and intervals."""
    from bcd.runs.bench import bench  # keeps --help fast
    from bcd.runs.bench_distances import bench_distances
    from bcd.runs.bench_intervals import bench_intervals
    from bcd.runs.bench_search import bench_search

    if config["networks"]:
        bench(config)
    bench_search(config["search"])
    bench_distances(config["distances"])
    bench_intervals(config["intervals"])


if __name__ == "__main__":
    main()
