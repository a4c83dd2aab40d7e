"""What more data would buy: the same recipe on growing shares of the training groups."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bcd.runs.studies.study import Study, Variant, run_study


def learning_curve(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Cross-validate on each share of the training groups, largest first, and return the content of metrics.json.

    Validation and test parts stay whole; a smaller share is a part of every larger one.

    Args:
        config: resolved, plain, as `conf/learning_curve.yaml` composes it.
        folder: of the study.

    Raises:
        ValueError: for shares outside (0, 1], or fewer than two.
    """
    return run_study(config, folder, "learning_curve", _plan)


def _plan(config: Mapping[str, Any]) -> Study:
    shares = sorted({float(share) for share in config["shares"]}, reverse=True)
    if len(shares) < 2 or not all(0 < share <= 1 for share in shares):
        raise ValueError(
            f"shares={config['shares']}: give two or more different shares in (0, 1], such as shares=[0.1,0.25,0.5,1]."
        )
    variants = [
        Variant(f"share_{share:g}".replace(".", "_"), f"{100 * share:g} % of the training groups", {"data": {"train_share": share}})
        for share in shares
    ]
    return Study(
        variants,
        "What do more training data buy?",
        "The same recipe, seed, validation and test cases; a smaller share is a part of every larger one, drawn by group and "
        "class. A recipe by epochs takes fewer steps on fewer cases; one by the clock (trainer.max_time) as many.",
    )
