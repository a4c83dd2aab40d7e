"""Predict images: python scripts/predict.py run=outputs/runs/... input=images output=predictions."""

import logging
from pathlib import Path
from typing import Any

from bcd.config import command

log = logging.getLogger(__name__)


@command("predict")
def main(config: dict[str, Any], folder: Path) -> None:
    """Apply a run's best checkpoint to images: masks, overlays and predictions.csv."""
    from bcd.runs.files import best_checkpoint  # keeps --help fast

    checkpoint = best_checkpoint(Path(config["run"]))  # or there is none, which is said before torch is imported
    from bcd.predictor.folders import Predictor, predict_files

    predictor = Predictor.from_checkpoint(checkpoint, config["trusted"])
    guides = Path(config["guides"]) if config["guides"] is not None else None
    table = predict_files(predictor, Path(config["input"]), Path(config["output"]), guides, config["max_pixels"])
    log.info("Predicted %d images: %s", len(table), config["output"])


if __name__ == "__main__":
    main()
