"""How much a leak flatters: the same model on an honest split and on a random split by image; a ROI classifier by its masks."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bcd.runs.study import Variant, run_study, started

_BY_IMAGE = {"split": None, "split_by": "image", "allow_leak": True}


def leak_study(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Run the study that fits the task, and return the content of its metrics.json.

    Args:
        config: resolved, plain, as `conf/leak_study.yaml` composes it.
        folder: of the study.

    Raises:
        ValueError: for a ROI classifier without predicted masks.
    """
    config, folder = started(config, folder)
    if "RoiClassification" in config["task"]["_target_"]:
        return _masks(config, folder)
    variants = [
        Variant("honest", "honest: groups stay together", {}),
        Variant("by_image", "random by image: groups on both sides", {"data": _BY_IMAGE}),
    ]
    return run_study(
        config,
        folder,
        variants,
        "python scripts/leak_study.py",
        "How much does a random split by image flatter, when images of one patient and near-copies stand on both sides?",
        "The same recipe, seed and cases; only the split differs. What the second row has over the first is what a model knows "
        "from having seen a copy or another image of the test case, not what it would do on a new patient.",
    )


def _masks(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    masks = config["guide"]["masks"]
    if masks is None:
        raise ValueError("The study of a ROI classifier needs guide.masks=<out-of-fold masks>, such as scripts/crossval.py leaves.")
    kinds = {"strength": None, "shift": None, "dilate": None, "erode": None, "drop": None}
    variants = [
        Variant("predicted", "predicted masks", {"guide": {**kinds, "train": "predicted", "test": "predicted"}}),
        Variant(
            "true_then_predicted",
            "learned on true masks, used on predicted ones",
            {"guide": {**kinds, "train": "true", "test": "predicted"}},
        ),
        Variant("true", "true masks in the test too (cannot be had in use)", {"guide": {**kinds, "train": "true", "test": "true"}}),
        Variant("none", "no mask: the whole image", {"guide": {**kinds, "train": "none", "test": "none", "masks": None}}),
    ]
    return run_study(
        config,
        folder,
        variants,
        "python scripts/leak_study.py",
        "How much does a true mask flatter a classifier that will be given predicted ones?",
        "The same recipe, seed, split and cases; only the outline differs. Nobody has a true mask of a new patient: the third row "
        "is an upper bound, and the first is what can be had.",
    )
