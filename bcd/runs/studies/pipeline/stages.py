"""The trainings of a pipeline: which there are, and the config of each."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from bcd.config import compose
from bcd.config.composing import resolved
from bcd.config.errors import ConfigError
from bcd.data.guides import AMOUNTS, FROM_TRUTH

SEGMENTATION = "segmentation"
# Keys that concern all stages alike.
_OF_THE_PIPELINE = ("data", "fold", "folds", "seed", "seeds", "guide", "output", "resume")


@dataclass(frozen=True)
class Row:
    """One kind of classifier.

    Args:
        title: in a few words, for tables and figures.
        train: the guide in training; None where the network takes none.
        test: the guide in validation and test.
        remark: what to bear in mind, in a sentence.
    """

    title: str
    train: str | None
    test: str | None
    remark: str = ""


ROWS = {
    "whole_image": Row("whole image", "none", "none", "Whole image: the same network, without a mask."),
    "out_of_fold_mask": Row(
        "out-of-fold mask", "predicted", "predicted", "Out-of-fold mask: as for a new patient, in training and in the test."
    ),
    "perturbed_mask": Row(
        "perturbed mask",
        "perturbed",
        "predicted",
        "Perturbed mask: trained on true masks, perturbed as much as predicted ones differ from them; tested on out-of-fold masks.",
    ),
    "true_mask": Row(
        "true mask (upper bound)", "true", "true", "True mask: in the test too, which no new patient has; an upper bound."
    ),
    "multitask": Row("multitask", None, None, "Multitask: one network for segmentation and classification, without a mask."),
}


def check_rows(rows: Sequence[str], deployed: str | None) -> None:
    """Refuse rows that are not there, or twice, and to refit by one that is not reported.

    Raises:
        ValueError: with those that are.
    """
    unknown = [row for row in rows if row not in ROWS]
    if unknown or len(set(rows)) < len(rows) or "out_of_fold_mask" not in rows:
        wrong = f"{unknown[0]} is none of them" if unknown else "each once, out_of_fold_mask among them"
        raise ValueError(f"rows=[{','.join(map(str, rows))}]: choose among {', '.join(ROWS)}; {wrong}.")
    if deployed is not None and deployed not in rows:
        raise ValueError(
            f"deploy_row={deployed} is not among rows=[{','.join(rows)}], so its performance would be unknown; add it."
        )


def stage_config(config: Mapping[str, Any], stage: str, data: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the config of the trainings of a stage, as `conf/crossval.yaml` composes it.

    Raises:
        ConfigError: for an option, key or value that does not exist.
        ValueError: for options that concern the whole pipeline.
    """
    key = {SEGMENTATION: "seg", "multitask": "multitask"}.get(stage, "roi")
    model = "multitask" if key == "multitask" else str(config[key])
    options = [f"model={model}", *shlex.split(str(config["options"])), *shlex.split(str(config[f"{key}_options"]))]
    for option in options:
        if option.lstrip("+~").split("=")[0].split(".")[0] in _OF_THE_PIPELINE:
            raise ValueError(f"{key}_options: {option} is for the whole pipeline; give it on the command line itself, if at all.")
    try:
        written = _written(tuple(options))
    except ConfigError as error:
        raise ConfigError(
            f"{key}={model} options='{config['options']}' {key}_options='{config[f'{key}_options']}': {error}"
        ) from error
    shared = {name: config[name] for name in ("seed", "output", "trusted", "on_error", "folds", "jobs")}
    own = {"name": f"{config['name']}-{stage}", "folder": str(folder.absolute()), "fold": None}
    guide = guide_of(stage, None, {}) or written["guide"]
    resolved_config = resolved({**written, "data": dict(data)}, {**shared, **own, "guide": guide})
    _check_kind(resolved_config, key, model)
    return resolved_config


def guide_of(row: str, masks: Sequence[str] | None, amounts: Mapping[str, float], altered: bool = False) -> dict[str, Any]:
    """Return the guide part of a config; empty for a stage that takes none.

    Args:
        row: a name of `ROWS`.
        masks: folders of predicted masks.
        amounts: of the perturbation, where there is one.
        altered: predicted masks are perturbed in training.
    """
    how = ROWS.get(row)
    if how is None or how.train is None:
        return {}
    train = "predicted_perturbed" if altered and how.train == "predicted" else how.train
    wanted = amounts if train in ("perturbed", "predicted_perturbed") else {}
    given = list(masks) if masks is not None and "predicted" in (how.train, how.test) else None
    return {
        "train": train,
        "test": how.test,
        "masks": given,
        "allow_normals": False,
        **{name: wanted.get(name) for name in AMOUNTS},
    }


def needs_lesions(row: str) -> bool:
    """Return whether images without a lesion are excluded: their true mask would reveal the class."""
    return bool({ROWS[row].train, ROWS[row].test} & set(FROM_TRUTH))


@lru_cache(maxsize=16)
def _written(options: tuple[str, ...]) -> dict[str, Any]:
    """Return a config as it is written, every name and value checked; rows share it, and nobody may change it."""
    compose("crossval", options)
    return compose("crossval", options, resolve=False)


def _check_kind(made: Mapping[str, Any], key: str, model: str) -> None:
    from bcd.runs.assemble import task_info  # late: refusals of the options come before these imports

    info = task_info(made)
    fits = {
        "seg": info.outlines and not info.classifies,
        "roi": info.takes_guide and info.classifies,
        "multitask": info.outlines and info.classifies,
    }
    if not fits[key]:
        what = {"seg": "is a segmentation, such as unet", "roi": "is guided by a mask, such as roi_crop"}.get(key, "does both")
        raise ValueError(f"{key}={model} is for {info.role}; choose a model that {what}.")
