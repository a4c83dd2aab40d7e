"""Put the service under load: python -m benchmarks.run_api bundle=bundles/..."""

from pathlib import Path
from typing import Any

from bcd.config import command


@command("bench_api")
def main(config: dict[str, Any], folder: Path) -> None:
    """Start the service in a process of its own, send it images from several clients at once, and tell how it held."""
    from benchmarks.api import bench_api  # keeps --help fast

    bench_api(config)


if __name__ == "__main__":
    main()
