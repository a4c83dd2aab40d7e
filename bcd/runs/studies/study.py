"""Studies: the same recipe in several variants, each cross-validated over the same folds, side by side with intervals.

The learning curve shows the effect of more data. The leak study measures how much a leak inflates results: the same model on a
split and on a random split by image; a ROI classifier by its masks.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bcd.files import write_bytes
from bcd.runs import folder as files
from bcd.runs.studies.crossval import check_folds_and_seeds, cross_validated, leave

log = logging.getLogger(__name__)

_BY_IMAGE = {"split": None, "split_by": "image", "allow_leak": True}
_NOT_PERTURBED = {"strength": None, "shift": None, "dilate": None, "erode": None, "drop": None}


@dataclass(frozen=True)
class Variant:
    """One variant.

    Args:
        name: of its folder.
        title: in a few words, for tables and figures.
        changes: nested entries that replace those of the config.
    """

    name: str
    title: str
    changes: Mapping[str, Any]


@dataclass(frozen=True)
class Study:
    """The question of a study, and its variants.

    Args:
        variants: the first is what the others are compared with.
        question: in a sentence.
        remark: what to bear in mind, in a sentence or two.
    """

    variants: Sequence[Variant]
    question: str
    remark: str


def _run_study(config: Mapping[str, Any], folder: Path, script: str, plan: Callable[[Mapping[str, Any]], Study]) -> dict[str, Any]:
    """Cross-validate every variant, or go on where that was stopped; write study.csv, .md, .png, .html and metrics.json.

    Args:
        config: as `conf/crossval.yaml` composes it. With `resume`, a study's folder, all else is taken from there.
        folder: of the study; each variant has a folder in it.
        script: the study's, the only one that can resume it.
        plan: what the study does, from its config; it refuses what cannot work, before there is a folder.

    Raises:
        RunError: when the folder is not this study's, or holds a run already.
        ValueError: for several seeds, a launcher that does not wait, or an invalid plan.
        KeyboardInterrupt: after Ctrl-C; what is finished is kept.
        SystemExit: after SIGTERM.
    """
    if config.get("resume") is not None:
        folder = Path(config["resume"])
        config = files.go_on(folder, config.get("trusted", ()), script)
        study = plan(config)
    else:
        if config["seeds"] is not None:
            raise ValueError("seeds= is for scripts/crossval.py; a study takes one seed=.")
        launcher = config.get("launcher", {})
        if launcher.get("dry_run") or not launcher.get("wait", True):
            raise ValueError(
                "A study waits for each cross-validation: launcher.dry_run=true and launcher.wait=false are for crossval.py."
            )
        check_folds_and_seeds(config)
        study = plan(config)
        config = files.begin(folder, {**config, "study": script})
    results = {}
    try:
        for number, variant in enumerate(study.variants, start=1):
            log.info("Variant %d of %d: %s.", number, len(study.variants), variant.title)
            results[variant.name] = _variant_results(config, folder / variant.name, variant)
    except (KeyboardInterrupt, SystemExit) as stop:
        leave(stop, f"Finished folds are kept; go on with the whole study: python scripts/{script}.py resume={folder}")
    from bcd.evaluation.cases import read_table
    from bcd.reports.study import StudyResult, study_files
    from bcd.runs.table import print_study

    parts = [
        StudyResult(variant.name, variant.title, results[variant.name], read_table(folder / variant.name / files.CASES))
        for variant in study.variants
    ]
    for name, content in study_files(parts, str(config["name"]), study.question, study.remark).items():
        write_bytes(folder / name, content)
    metrics = files.read_metrics(folder)
    print_study(metrics, folder)
    return metrics


def _variant_results(config: Mapping[str, Any], folder: Path, variant: Variant) -> dict[str, Any]:
    own = {key: value for key, value in config.items() if key != "study"}
    whole = files.moved(own, str(config["folder"]), str(folder.absolute()))
    changed = {
        key: {**whole[key], **entries} if isinstance(entries, Mapping) else entries for key, entries in variant.changes.items()
    }
    return cross_validated({**whole, **changed, "name": f"{config['name']}-{variant.name}"}, folder)


def learning_curve(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Cross-validate on each share of the training groups, largest first, and return the content of metrics.json.

    Validation and test parts stay whole; a smaller share is a part of every larger one.

    Raises:
        ValueError: for shares outside (0, 1], or fewer than two.
    """
    return _run_study(config, folder, "learning_curve", _by_share)


def _by_share(config: Mapping[str, Any]) -> Study:
    shares = sorted({float(share) for share in config["shares"]}, reverse=True)
    if len(shares) < 2:
        raise ValueError(
            f"shares={config['shares']}: give two or more different shares in (0, 1], such as shares=[0.1,0.25,0.5,1]."
        )
    variants = [
        Variant(f"share_{share:g}".replace(".", "_"), f"{100 * share:g} % of the training groups", {"data": {"train_share": share}})
        for share in shares
    ]
    return Study(
        variants,
        "How much do more training data improve the results?",
        "The same recipe, seed, validation and test cases; a smaller share is a part of every larger one, drawn by group and "
        "class. A recipe by epochs takes fewer steps on fewer cases; one by the clock (trainer.max_time) as many.",
    )


def leak_study(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Run the study that fits the task, and return the content of its metrics.json.

    Raises:
        ValueError: for a ROI classifier without predicted masks.
        GuideError: for one with images without a lesion, whose true mask would reveal the class.
    """
    return _run_study(config, folder, "leak_study", _by_leak)


def _by_leak(config: Mapping[str, Any]) -> Study:
    from bcd.runs.assemble import task_info  # late: refusals of the config come before these imports

    if task_info(config).takes_guide:
        return _by_mask(config)
    variants = [
        Variant("honest", "honest: groups stay together", {}),
        Variant("by_image", "random by image: groups on both sides", {"data": _BY_IMAGE}),
    ]
    return Study(
        variants,
        "How much does a random split by image inflate the results, with one patient's images and near-copies on both sides?",
        "The same recipe and seed, and over all folds the same cases; only the split differs. The gain of the second row over the "
        "first comes from having seen a copy or another image of the test case, and is not to be expected for a new "
        "patient.",
    )


def _by_mask(config: Mapping[str, Any]) -> Study:
    if config["guide"]["masks"] is None:
        raise ValueError("The study of a ROI classifier needs guide.masks=<out-of-fold masks>, such as scripts/crossval.py leaves.")
    from bcd.data.guides import GuidePolicy, check_normals  # late: refusals that need no data come before these imports
    from bcd.data.selection import select
    from bcd.runs.assemble import prepare_data, selection_of

    # Images without a lesion are refused now, and not when the first variant is trained.
    prepared = prepare_data(config)
    contradictory = set(prepared.groups.loc[prepared.groups["contradictory"].astype(bool), "case_id"])
    cases, _ = select(prepared.cases, contradictory, selection_of(config))
    check_normals(GuidePolicy("true", "true", allow_normals=config["guide"]["allow_normals"]), "test", cases)
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
        "How much do true masks overestimate a classifier that will get predicted ones?",
        "The same recipe, seed, split and cases; only the mask that guides the model differs. A new patient has no true mask: the "
        "third row is an upper bound, and the first is realistic.",
    )
