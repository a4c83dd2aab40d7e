"""Studies: the same recipe in several variants, each cross-validated over the same folds, side by side with intervals."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bcd.runs import files
from bcd.runs.crossval import crossval

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Variant:
    """One way of doing it.

    Args:
        name: of its folder.
        title: in a few words, for tables and figures.
        changes: nested entries that replace those of the config.
    """

    name: str
    title: str
    changes: Mapping[str, Any]


def run_study(
    config: Mapping[str, Any], folder: Path, variants: Sequence[Variant], command: str, question: str, remark: str
) -> dict[str, Any]:
    """Cross-validate every variant, or go on where that was stopped; write study.csv, .md, .png, .html and metrics.json.

    Args:
        config: as `conf/crossval.yaml` composes it.
        folder: of the study; each variant has a folder in it.
        variants: the first is what the others are compared with.
        command: how the study is called, for the sentence that says how to go on.
        question: what the study asks, in a sentence.
        remark: what to bear in mind, in a sentence or two.

    Raises:
        ValueError: for several seeds.
        KeyboardInterrupt: after Ctrl-C; what is finished is kept.
    """
    if config["seeds"] is not None:
        raise ValueError("seeds= is for scripts/crossval.py; a study takes one seed=.")
    results = {}
    try:
        for number, variant in enumerate(variants, start=1):
            log.info("Variant %d of %d: %s.", number, len(variants), variant.title)
            results[variant.name] = _cross_validated(config, folder / variant.name, variant)
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(f"Finished folds are kept; go on with: {command} resume={folder}") from interrupt
    from bcd.evaluation.study import StudyResult, write_study
    from bcd.evaluation.tables import read_table

    parts = [
        StudyResult(variant.name, variant.title, results[variant.name], read_table(folder / variant.name / files.CASES))
        for variant in variants
    ]
    return write_study(folder, parts, str(config["name"]), question, remark)


def started(config: Mapping[str, Any], folder: Path) -> tuple[dict[str, Any], Path]:
    """Return the config and the folder of a study that begins, or that `resume` names.

    Raises:
        RunError: when the folder is not a study's, or holds one already.
    """
    trusted = list(config.get("trusted", ()))
    if config.get("resume") is None:
        return files.begin(folder, config), folder
    folder = Path(config["resume"])
    return files.go_on(folder, trusted), folder


def _cross_validated(config: Mapping[str, Any], folder: Path, variant: Variant) -> dict[str, Any]:
    if (folder / files.CONFIG).is_file():
        return crossval({"resume": str(folder), "trusted": config["trusted"]}, folder)
    whole = files.moved(dict(config), str(config["folder"]), str(folder.absolute()))
    changed = {
        key: {**whole[key], **entries} if isinstance(entries, Mapping) else entries for key, entries in variant.changes.items()
    }
    return crossval({**whole, **changed, "name": f"{config['name']}-{variant.name}"}, folder)
