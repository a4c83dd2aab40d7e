"""Studies: the same recipe in several variants, each cross-validated over the same folds, side by side with intervals."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bcd.files import write_bytes
from bcd.runs import folder as files
from bcd.runs.studies.crossval import check_folds_and_seeds, crossval, leave

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


@dataclass(frozen=True)
class Study:
    """What a study asks, and the ways of doing it that it sets side by side.

    Args:
        variants: the first is what the others are compared with.
        question: in a sentence.
        remark: what to bear in mind, in a sentence or two.
    """

    variants: Sequence[Variant]
    question: str
    remark: str


def run_study(config: Mapping[str, Any], folder: Path, script: str, plan: Callable[[Mapping[str, Any]], Study]) -> dict[str, Any]:
    """Cross-validate every variant, or go on where that was stopped; write study.csv, .md, .png, .html and metrics.json.

    Args:
        config: as `conf/crossval.yaml` composes it. With `resume`, a study's folder, all else is taken from there.
        folder: of the study; each variant has a folder in it.
        script: the study's, which alone goes on with it.
        plan: what the study does, from its config; it refuses what cannot work, before there is a folder.

    Raises:
        RunError: when the folder is not this study's, or holds a run already.
        ValueError: for several seeds, or whatever the plan refuses.
        KeyboardInterrupt: after Ctrl-C; what is finished is kept.
        SystemExit: after SIGTERM.
    """
    if config.get("resume") is not None:
        folder = Path(config["resume"])
        config = files.go_on(folder, list(config.get("trusted", ())))
        files.check_script(config, folder, script)
        study = plan(config)
    else:
        if config["seeds"] is not None:
            raise ValueError("seeds= is for scripts/crossval.py; a study takes one seed=.")
        check_folds_and_seeds(config)
        study = plan(config)
        config = files.begin(folder, {**config, "study": script})
    results = {}
    try:
        for number, variant in enumerate(study.variants, start=1):
            log.info("Variant %d of %d: %s.", number, len(study.variants), variant.title)
            results[variant.name] = _cross_validated(config, folder / variant.name, variant)
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


def _cross_validated(config: Mapping[str, Any], folder: Path, variant: Variant) -> dict[str, Any]:
    if (folder / files.CONFIG).is_file():
        return crossval({"resume": str(folder), "trusted": config["trusted"]}, folder)
    own = {key: value for key, value in config.items() if key != "study"}
    whole = files.moved(own, str(config["folder"]), str(folder.absolute()))
    changed = {
        key: {**whole[key], **entries} if isinstance(entries, Mapping) else entries for key, entries in variant.changes.items()
    }
    return crossval({**whole, **changed, "name": f"{config['name']}-{variant.name}"}, folder)
