"""Train and test every fold: python scripts/crossval.py data=busbra model=unet."""

from pathlib import Path
from typing import Any

from bcd.config import command


@command("crossval")
def main(config: dict[str, Any], folder: Path) -> None:
    """Train and test every fold, and write one folder with out-of-fold predictions, figures and report.

    Takes the options and keys of scripts/train.py. resume=<folder> continues after a crash; finished folds are not repeated.
    """
    from bcd.runs.studies.crossval import crossval  # keeps --help fast

    crossval(config, folder)


if __name__ == "__main__":
    main()
