"""Write a data set as shards: python scripts/shard_data.py data=busi shards=/data/busi-shards."""

from pathlib import Path
from typing import Any

from bcd.config import command


@command("shard_data")
def main(config: dict[str, Any], folder: Path) -> None:
    """Prepare a data set, and write it as tar files in WebDataset's layout, with manifest, groups and split beside them."""
    from bcd.runs.preparing.prepare import shard_data  # keeps --help fast

    shard_data(config)


if __name__ == "__main__":
    main()
