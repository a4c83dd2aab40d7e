"""How much a run's figures depend on marks burnt into the images, and what is left where the lesion cannot be seen."""

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
from bcd.evaluation.intervals import METHOD
from bcd.evaluation.summary import summarise
from bcd.reports.contours import jpeg, overlay
from bcd.reports.markdown import cell
from bcd.reports.markdown import table as markdown_table
from bcd.reports.rendering import Picture, Table, html_page, picture
from bcd.runs import folder as files
from bcd.runs.hardware import provenance
from bcd.runs.studies.shortcuts import images as shortcuts
from bcd.runs.studies.shortcuts.figures import (
    AS_THEY_ARE,
    BOTH_HIDDEN,
    FIGURES,
    LESION_HIDDEN,
    MARKS_ELSEWHERE,
    PAINTED_OVER,
    TITLES,
    Row,
    VariantCases,
    conclusions,
    records,
    shortcut_table,
)
from bcd.runs.studies.shortcuts.images import Change, Shortcut, marks_of
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
_EXAMPLE_WIDTH_PX = 340
QUESTION = (
    "Calipers, rulers and text are burnt into many images, often at the edges of the lesion. How much of the performance depends "
    "on them, and how much is left where the lesion cannot be seen?"
)
REMARK = (
    "Only the test images are altered; the model, its thresholds and the masks that guide a classifier are those of the run. An "
    "alteration can cost accuracy by itself, because the model was not trained on such images: a loss is an upper bound of what "
    "depends on the marks. A hidden lesion leaves its shadow or enhancement below it, and a guided classifier still has the mask."
)
_HEAD = ("variant", "figure", "images", "n", "value (95 % interval)", "difference (95 % interval)")


@dataclass(frozen=True)
class Subject:
    """A run whose test is repeated on altered images."""

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
    subjects = []
    for folder in folders:
        config, hardware, datamodule = reopened(folder, overrides or {}, trusted)
        task, preprocess, _ = load_checkpoint(files.best_checkpoint(folder), hardware.device, config["trusted"])
        subjects.append(Subject(folder, files.read_metrics(folder), datamodule, task, preprocess, config["limit_test"]))
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


def _scored(subjects: Sequence[Subject], name: str, output: Path, seed: int) -> Scored:
    """Score every subject on the images of one variant, and write the cases and predicted masks."""
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
    sentences, warnings, n_before = conclusions(table), list(metrics.get("warnings", [])), metrics["test"]["n_cases"]
    if n_before != len(is_marked):
        warnings.append(f"The run was tested on {n_before} images, this study on {len(is_marked)}: the data have changed.")
    result = {
        "name": metrics["name"],
        "question": QUESTION,
        "conclusions": sentences,
        "warnings": warnings,
        "remark": REMARK,
        "n_cases": len(is_marked),
        "n_marked": int(is_marked.sum()),
        "seed": seed,
        "variants": {
            name: {
                "title": TITLES[name],
                "test": summarise(one.cases, class_names, detections=one.detections, decisions=decisions),
            }
            for name, one in scored.items()
        },
        "table": [{key: None if pd.isna(value) else value for key, value in row.items()} for row in table.to_dict("records")],
        "data": metrics.get("data"),
        "provenance": provenance(),
    }
    files.write_text(output / f"{NAME}.csv", table.to_csv(index=False))
    title, cells = f"{metrics['name']}: shortcuts", _cells(table)
    lines = [f"# {title}", "", QUESTION, "", *(f"**{warning}**\n" for warning in warnings)]
    lines += [*(f"- {sentence}" for sentence in sentences), ""]
    lines.append(markdown_table(_HEAD, [[cell(text) for text in row] for row in cells]))
    files.write_text(output / f"{NAME}.md", "\n".join([*lines, "", REMARK, "", METHOD, ""]))
    page = html_page(
        "shortcuts.html",
        title=title,
        warnings=warnings,
        question=QUESTION,
        sentences=sentences,
        figures=Table(_HEAD, cells, text=(1, 2)),
        remark=REMARK,
        method=METHOD,
        examples=_examples(output, subjects, list(scored), marked, seed),
    )
    files.write_text(output / f"{NAME}.html", page)
    files.write_json(output / f"{NAME}.json", result)
    return result


def _examples(
    output: Path, subjects: Sequence[Subject], names: Sequence[str], marked: Mapping[str, bool], seed: int
) -> list[list[Picture]]:
    """Return the variants of some lesion images, with contours: marked ones first, spread over the test part."""
    pairs = [(case, subject) for subject in subjects for case in subject.datamodule.cases["test"][: subject.limit] if case.masks]
    pairs = [pair for pair in pairs if marked[pair[0].case_id]] or pairs
    places = sorted({round(place) for place in np.linspace(0, len(pairs) - 1, min(_EXAMPLES, len(pairs)))}) if pairs else []
    examples = []
    for case, subject in (pairs[place] for place in places):
        max_pixels = subject.datamodule.prepared.max_pixels
        image, mask = read_case(case, max_pixels)
        pictures = []
        for name in names:
            change = CHANGES[name]
            shown = image if change is None else Shortcut(change, seed)(case, image, mask)
            pixels = overlay(shown, mask, PixelFiles(output / name).read(case.case_id, max_pixels))
            pictures.append(picture(jpeg(pixels, _EXAMPLE_WIDTH_PX), "jpeg", f"{case.case_id}: {TITLES[name]}"))
        examples.append(pictures)
    return examples


def _cells(table: pd.DataFrame) -> list[list[str]]:
    rows = table[table["figure"].isin(list(FIGURES)) & table["value"].notna()]
    return [
        [
            TITLES[str(row["variant"])],
            FIGURES[str(row["figure"])],
            str(row["subset"]),
            str(row["n"]),
            _with_ends(row, "value", "low", "high", ".3f"),
            _with_ends(row, "difference", "difference_low", "difference_high", "+.3f"),
        ]
        for row in records(rows)
    ]


def _with_ends(row: Row, value: str, low: str, high: str, form: str) -> str:
    if pd.isna(row[value]):
        return ""
    ends = "" if pd.isna(row[low]) else f" ({row[low]:{form}} to {row[high]:{form}})"
    return f"{row[value]:{form}}{ends}"
