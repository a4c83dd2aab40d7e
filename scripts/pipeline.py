"""From segmentation to mask-guided classification: python scripts/pipeline.py data=busbra seg=unet roi=roi_crop."""

from pathlib import Path
from typing import Any

from bcd.config import command


@command("pipeline")
def main(config: dict[str, Any], folder: Path) -> None:
    """Cross-fit a segmentation model, train classifiers on its out-of-fold masks, compare them, refit both for use.

    Every mask comes from a model that had not seen its image; crossfit=strict also hides the test images from the models behind the
    training masks. crossfit=strict with folds=[1] is feasible without a GPU. resume=<folder> continues after a crash.
    """
    from bcd.runs.studies.pipeline.pipeline import pipeline  # keeps --help fast

    pipeline(config, folder)


if __name__ == "__main__":
    main()
