"""Measure the effect of more training data: python scripts/learning_curve.py data=busi model=unet."""

from pathlib import Path
from typing import Any

from bcd.config import command


@command("learning_curve")
def main(config: dict[str, Any], folder: Path) -> None:
    """Train the same recipe on 10, 25, 50 and 100 % of the training groups, and draw the figures with their intervals.

    Takes the options and keys of scripts/crossval.py; folds=[1] is quick. resume=<folder> continues after a crash.
    """
    from bcd.runs.studies.study import learning_curve  # keeps --help fast

    learning_curve(config, folder)


if __name__ == "__main__":
    main()
