"""Train and test a model: python scripts/train.py model=unet loss=dice_bce."""

from pathlib import Path
from typing import Any

from bcd.config import command


@command("train", sweeper="bcd.sweeps.hydra_sweeper")
def main(config: dict[str, Any], folder: Path) -> None:
    """Train a model, test it on its fold, and write everything needed to reproduce the results into one folder."""
    from bcd.runs.training.train import train  # keeps --help fast

    train(config, folder)


if __name__ == "__main__":
    main()
