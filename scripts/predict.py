"""Predict images: python scripts/predict.py bundle=bundles/... input=images output=predictions."""

import logging
from pathlib import Path
from typing import Any

from bcd.config import command

log = logging.getLogger(__name__)


@command("predict")
def main(config: dict[str, Any], folder: Path) -> None:
    """Apply a bundle, or a run's best checkpoint, to images: masks, overlays, predictions.csv and predictions.json.

    A second call with the same output goes on where the first was stopped.
    """
    if (config["bundle"] is None) == (config["run"] is None):
        raise ValueError("Give bundle=<a bundle>, or run=<a run's folder>.")
    if config["bundle"] is not None and config["segmentation"] is not None:
        raise ValueError("segmentation= goes with run=; a bundle has the networks that it needs.")
    if config["run"] is not None:
        from bcd.runs.files import trained_runs

        trained_runs(Path(config["run"]))  # or there is none, which is said before torch is imported
    from bcd.predictor.folders import Wishes, predict_files  # keeps --help fast
    from bcd.predictor.predictor import Predictor

    learned_from = None
    if config["bundle"] is not None:
        predictor = Predictor.load(Path(config["bundle"]), export=config["export"], trusted=config["trusted"])
    else:
        from bcd.predictor.bundling import bundle_of
        from bcd.runs.release import Options, release

        segmentation = Path(config["segmentation"]) if config["segmentation"] is not None else None
        made = release(Path(config["run"]), segmentation, Options(trusted=config["trusted"]))
        predictor = Predictor.of(bundle_of(made.about, made.states), made.states, trusted=config["trusted"])
        learned_from = made.learned_from
    guides = Path(config["guides"]) if config["guides"] is not None else None
    point = str(config["point"]) if config["point"] is not None else None  # 0.5 is typed as a number
    names = ("max_pixels", "mask_threshold", "probabilities", "uncertainty", "heat_map", "seg")
    wishes = Wishes(guides=guides, point=point, **{name: config[name] for name in names})
    table = predict_files(predictor, Path(config["input"]), Path(config["output"]), wishes, learned_from)
    log.info("Predicted %d images: %s", len(table), config["output"])


if __name__ == "__main__":
    main()
