"""Look for a learning rate: python scripts/find_lr.py model=unet data=busi."""

from pathlib import Path
from typing import Any

from bcd.config import command


@command("find_lr")
def main(config: dict[str, Any], folder: Path) -> None:
    """Raise the learning rate step by step until the loss diverges, draw the curve, and suggest a rate.

    It trains a temporary network, which is not kept; takes the options and keys of scripts/train.py.
    """
    from bcd.runs.training.lr_finder import find_rate  # keeps --help fast

    find_rate(config, folder)


if __name__ == "__main__":
    main()
