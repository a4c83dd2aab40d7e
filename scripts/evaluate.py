"""Evaluate a run, a bundle, or another tool's predictions: python scripts/evaluate.py run=outputs/runs/..."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bcd.config import command

if TYPE_CHECKING:
    from bcd.predictor.evaluated import EvaluatedBundle


@command("evaluate")
def main(config: dict[str, Any], folder: Path) -> None:
    """Repeat the test of a run, or test it on another data set; evaluate a bundle, or another tool's predictions, on a data set.

    Writes metrics.json, cases.csv, report.html and their pictures.
    """
    from bcd.runs.testing.evaluation import evaluation  # keeps --help fast

    evaluation(config, _open_bundle)


def _open_bundle(folder: Path) -> "EvaluatedBundle":
    from bcd.predictor.evaluated import EvaluatedBundle  # imports torch

    return EvaluatedBundle.load(folder)


if __name__ == "__main__":
    main()
