"""How much of a run's figures hangs on marks burnt into the images, and how much is left where the lesion cannot be seen."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bcd.data.datamodule import UltrasoundDataModule
from bcd.data.manifest import read_case
from bcd.evaluation.decisions import Decisions
from bcd.evaluation.summary import summarise
from bcd.reports.contours import overlay
from bcd.runs import folder as files
from bcd.runs.provenance import provenance
from bcd.runs.studies.shortcuts import images as shortcuts
from bcd.runs.studies.shortcuts.figures import (
    AS_THEY_ARE,
    BOTH_HIDDEN,
    LESION_HIDDEN,
    MARKS_ELSEWHERE,
    PAINTED_OVER,
    TITLES,
    VariantCases,
    conclusions,
    shortcut_table,
)
from bcd.runs.studies.shortcuts.images import Change, Shortcut, marks_of
from bcd.runs.studies.shortcuts.page import QUESTION, REMARK, markdown, page
from bcd.runs.testing.run import reopened
from bcd.runs.testing.scoring import PixelFiles, Scored, score_part
from bcd.tasks.base import BaseTask
from bcd.tasks.checkpoint import load_checkpoint

log = logging.getLogger(__name__)

NAME = "shortcut_study"
CHANGES: Mapping[str, Change | None] = {
    AS_THEY_ARE: None,
    PAINTED_OVER: shortcuts.without_marks,
    MARKS_ELSEWHERE: shortcuts.with_marks_elsewhere,
    LESION_HIDDEN: shortcuts.without_lesion,
    BOTH_HIDDEN: shortcuts.without_lesion_and_marks,
}
# Without marks, or without lesions, these would change nothing.
_NEEDS_MARKS = {PAINTED_OVER, BOTH_HIDDEN}
_NEEDS_LESIONS = {LESION_HIDDEN, BOTH_HIDDEN}
_EXAMPLES = 4


@dataclass(frozen=True)
class Subject:
    """A run whose test is repeated on altered images.

    Args:
        folder: the run's.
        metrics: the content of its metrics.json.
        datamodule: set up for the test.
        task: in evaluation mode.
        preprocess: of the checkpoint.
        limit: test the first so many cases alone, as the run did.
    """

    folder: Path
    metrics: Mapping[str, Any]
    datamodule: UltrasoundDataModule
    task: BaseTask
    preprocess: Any
    limit: int | None

    @property
    def marked(self) -> dict[str, bool]:
        """Return case id -> whether something is burnt into the image."""
        limit = self.datamodule.prepared.max_pixels
        cases = self.datamodule.cases["test"][: self.limit]
        return {case.case_id: bool(marks_of(case, read_case(case, limit)[0]).any()) for case in cases}


def shortcut_study(
    run: Path,
    output: Path | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    trusted: Collection[str] = (),
    seed: int = 0,
) -> dict[str, Any]:
    """Test a run on altered images; write shortcut_study.csv, .md, .html and .json, and the cases of each variant.

    Args:
        run: the folder of a run that was tested, or of a finished cross-validation, whose folds are pooled.
        output: where the results go; None for `shortcut_study` in the run's folder.
        overrides: entries of `data` (`root` alone) that replace those of the run's config.
        trusted: constructors of the user's own that the run's config may name; never taken from the run.
        seed: of what is drawn into the images, and of the bootstrap.

    Returns:
        The content of shortcut_study.json.

    Raises:
        RunError: when the folder is not a run's, or was not tested.
    """
    folders = _folders(run)
    metrics = files.read_metrics(run)
    output = output or run / NAME
    subjects = [_opened(folder, overrides or {}, trusted) for folder in folders]
    marked: dict[str, bool] = {}
    for subject in subjects:
        marked |= subject.marked
    has_lesions = any(case.masks for subject in subjects for case in subject.datamodule.cases["test"])
    wanted = [
        name
        for name in CHANGES
        if (name not in _NEEDS_MARKS or any(marked.values())) and (name not in _NEEDS_LESIONS or has_lesions)
    ]
    scored = {name: _scored(subjects, name, output, seed) for name in wanted}
    return _written(output, metrics, subjects, scored, marked, seed)


def _folders(run: Path) -> list[Path]:
    """Return the folders of a run's trainings: its own, or those of its folds.

    Raises:
        RunError: when one was not tested.
    """
    config = files.read_config(run)
    folders = files.folds_of(run) if "folds" in config else [run]
    for folder in dict.fromkeys([run, *folders]):
        if "test" not in files.read_metrics(folder):
            raise files.RunError(f"{folder} was not tested yet, there is nothing to compare with: scripts/evaluate.py run={folder}")
    for folder in folders:
        files.best_checkpoint(folder)
    return folders


def _opened(folder: Path, overrides: Mapping[str, Mapping[str, Any]], trusted: Collection[str]) -> Subject:
    config, hardware, datamodule = reopened(folder, overrides, trusted)
    task, preprocess, _ = load_checkpoint(files.best_checkpoint(folder), hardware.device, config["trusted"])
    return Subject(folder, files.read_metrics(folder), datamodule, task, preprocess, config["limit_test"])


def _scored(subjects: Sequence[Subject], name: str, output: Path, seed: int) -> Scored:
    """Score every subject on the images of one variant, and write the cases and outlines."""
    log.info("Testing on the images %s.", TITLES[name])
    change, results = CHANGES[name], []
    for subject in subjects:
        subject.datamodule.alter_images("test", None if change is None else Shortcut(change, seed))
        pixels = PixelFiles(output / name)
        results.append(score_part(subject.task, subject.datamodule, "test", subject.preprocess, pixels, subject.limit))
        subject.datamodule.alter_images("test", None)
    cases = pd.concat([result.cases for result in results], ignore_index=True)
    components = [result.detections for result in results if result.detections is not None]
    filled = [part for part in components if len(part)] or components[:1]
    detections = pd.concat(filled, ignore_index=True) if filled else None
    (output / name).mkdir(parents=True, exist_ok=True)
    files.write_text(output / name / files.CASES, cases.to_csv(index=False))
    return Scored(cases, detections, float(np.mean([result.guide_dice for result in results])))


def _written(
    output: Path,
    metrics: Mapping[str, Any],
    subjects: Sequence[Subject],
    scored: Mapping[str, Scored],
    marked: Mapping[str, bool],
    seed: int,
) -> dict[str, Any]:
    class_names = list(subjects[0].datamodule.selection.classes)
    decisions = {
        int(fold): Decisions.from_dict(made) for subject in subjects for fold, made in subject.metrics.get("decisions", {}).items()
    }
    positive = next(iter(decisions.values())).positive if decisions else None
    is_marked = scored[AS_THEY_ARE].cases["case_id"].map(marked).to_numpy(bool)
    variants = [VariantCases(name, one.cases) for name, one in scored.items()]
    table = shortcut_table(variants, is_marked, class_names, positive, seed)
    sentences, warnings = conclusions(table), _warnings(metrics, scored[AS_THEY_ARE].cases)
    result = {
        "name": metrics["name"],
        "question": QUESTION,
        "conclusions": sentences,
        "warnings": warnings,
        "remark": REMARK,
        "n_cases": len(is_marked),
        "n_marked": int(is_marked.sum()),
        "seed": seed,
        "variants": {name: {"title": TITLES[name], "test": _summary(one, class_names, decisions)} for name, one in scored.items()},
        "table": [{key: None if pd.isna(cell) else cell for key, cell in row.items()} for row in table.to_dict("records")],
        "data": metrics.get("data"),
        "provenance": provenance(),
    }
    files.write_text(output / f"{NAME}.csv", table.to_csv(index=False))
    files.write_text(output / f"{NAME}.md", markdown(table, str(metrics["name"]), sentences, warnings))
    examples = _examples(output, subjects, list(scored), marked, seed)
    files.write_text(output / f"{NAME}.html", page(table, str(metrics["name"]), sentences, warnings, examples))
    files.write_json(output / f"{NAME}.json", result)
    return result


def _summary(scored: Scored, class_names: Sequence[str], decisions: Mapping[int, Decisions]) -> dict[str, Any]:
    return summarise(scored.cases, class_names, detections=scored.detections, decisions=decisions)


def _warnings(metrics: Mapping[str, Any], cases: pd.DataFrame) -> list[str]:
    """Return the run's own warnings, and whether its test could not be repeated."""
    found = list(metrics.get("warnings", []))
    if metrics["test"]["n_cases"] != len(cases):
        found.append(
            f"The run was tested on {metrics['test']['n_cases']} images, this study on {len(cases)}: the data have changed."
        )
    return found


def _examples(
    output: Path, subjects: Sequence[Subject], names: Sequence[str], marked: Mapping[str, bool], seed: int
) -> dict[str, dict[str, np.ndarray]]:
    """Return case id -> variant -> picture with outlines, of lesion images, marked ones first, spread over the test part."""
    found = [(case, subject) for subject in subjects for case in subject.datamodule.cases["test"][: subject.limit] if case.masks]
    found = [pair for pair in found if marked[pair[0].case_id]] or found
    places = sorted({round(place) for place in np.linspace(0, len(found) - 1, min(_EXAMPLES, len(found)))}) if found else []
    examples: dict[str, dict[str, np.ndarray]] = {}
    for case, subject in (found[place] for place in places):
        max_pixels = subject.datamodule.prepared.max_pixels
        image, mask = read_case(case, max_pixels)
        examples[case.case_id] = {}
        for name in names:
            change = CHANGES[name]
            shown = image if change is None else Shortcut(change, seed)(case, image, mask)
            predicted = PixelFiles(output / name).read(case.case_id, max_pixels)
            examples[case.case_id][name] = overlay(shown, mask, predicted)
    return examples
