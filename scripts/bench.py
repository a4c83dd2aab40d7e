"""Measure training throughput: python scripts/bench.py."""

from pathlib import Path
from typing import Any

from bcd.config import command


@command("bench")
def main(config: dict[str, Any], folder: Path) -> None:
    """Compare training with a plain float32 loop over files, and with the bare step on a tensor in memory, side by side."""
    from bcd.runs.bench import bench  # keeps --help fast

    bench(config)


if __name__ == "__main__":
    main()
