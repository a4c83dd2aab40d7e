"""How much a leak flatters: the same model on an honest split and on a random split by image; a ROI classifier by its masks."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bcd.runs.studies.study import Study, Variant, run_study

_BY_IMAGE = {"split": None, "split_by": "image", "allow_leak": True}
_NOT_PERTURBED = {"strength": None, "shift": None, "dilate": None, "erode": None, "drop": None}


def leak_study(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Run the study that fits the task, and return the content of its metrics.json.

    Args:
        config: resolved, plain, as `conf/leak_study.yaml` composes it.
        folder: of the study.

    Raises:
        ValueError: for a ROI classifier without predicted masks.
        GuideError: for one with images without a lesion, whose true mask would tell the class.
    """
    return run_study(config, folder, "leak_study", _plan)


def _plan(config: Mapping[str, Any]) -> Study:
    from bcd.runs.assemble import task_info  # late: refusals of the config come before these imports

    if task_info(config).takes_guide:
        return _by_mask(config)
    variants = [
        Variant("honest", "honest: groups stay together", {}),
        Variant("by_image", "random by image: groups on both sides", {"data": _BY_IMAGE}),
    ]
    return Study(
        variants,
        "How much does a random split by image flatter, when images of one patient and near-copies stand on both sides?",
        "The same recipe and seed, and over all folds the same cases; only the split differs. What the second row has over the "
        "first is what a model knows from having seen a copy or another image of the test case, not what it would do on a new "
        "patient.",
    )


def _by_mask(config: Mapping[str, Any]) -> Study:
    if config["guide"]["masks"] is None:
        raise ValueError("The study of a ROI classifier needs guide.masks=<out-of-fold masks>, such as scripts/crossval.py leaves.")
    _refuse_normals(config)
    guides = {
        "predicted": ("predicted masks", "predicted", "predicted"),
        "true_then_predicted": ("learned on true masks, used on predicted ones", "true", "predicted"),
        "true": ("true masks in the test too (cannot be had in use)", "true", "true"),
        "none": ("no mask: the whole image", "none", "none"),
    }
    variants = [
        Variant(name, title, {"guide": {**_NOT_PERTURBED, "train": train, "test": test}})
        for name, (title, train, test) in guides.items()
    ]
    return Study(
        variants,
        "How much does a true mask flatter a classifier that will be given predicted ones?",
        "The same recipe, seed, split and cases; only the mask that guides the model differs. A new patient has no true mask: the "
        "third row is an upper bound, and the first is what can be reached.",
    )


def _refuse_normals(config: Mapping[str, Any]) -> None:
    """Refuse images without a lesion now, and not when the first variant is trained."""
    from bcd.data.guides import GuidePolicy, check_normals  # late: refusals that need no data come before these imports
    from bcd.data.selection import select
    from bcd.runs.assemble import prepare_data, selection_of

    prepared = prepare_data(config)
    contradictory = set(prepared.groups.loc[prepared.groups["contradictory"].astype(bool), "case_id"])
    cases, _ = select(prepared.cases, contradictory, selection_of(config))
    check_normals(GuidePolicy("true", "true", allow_normals=config["guide"]["allow_normals"]), "test", cases)
