"""Verify and prepare a data set: python scripts/prepare_data.py data=busi."""

from pathlib import Path
from typing import Any

from bcd.config import command


@command("prepare_data")
def main(config: dict[str, Any], folder: Path) -> None:
    """Verify a data set, write its manifest, groups, split and cache, and print a summary."""
    from bcd.runs.preparing.prepare import prepare_and_show  # keeps --help fast

    prepare_and_show(config)


if __name__ == "__main__":
    main()
