"""Measure how much a leak inflates the results: python scripts/leak_study.py data=busi model=unet."""

from pathlib import Path
from typing import Any

from bcd.config import command


@command("leak_study")
def main(config: dict[str, Any], folder: Path) -> None:
    """Train the same model on a grouped split and on a random split by image; a ROI classifier on predicted and on true masks.

    Takes the options and keys of scripts/crossval.py; folds=[1] is quick. resume=<folder> continues after a crash.
    """
    from bcd.runs.studies.study import leak_study  # keeps --help fast

    leak_study(config, folder)


if __name__ == "__main__":
    main()
