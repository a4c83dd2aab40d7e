"""The steps of a pipeline, each of which can be resumed."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bcd.data.prepare import Prepared
from bcd.data.splits import assign_parts
from bcd.evaluation.cases import read_table
from bcd.reports.study import StudyResult
from bcd.runs import folder as files
from bcd.runs.assemble import prepare_data
from bcd.runs.studies.crossval import KEYS, cross_validated
from bcd.runs.studies.pipeline.crossfit import MaskErrors, MaskSource, check_strict, cross_fit, seen_test_images
from bcd.runs.studies.pipeline.mask_errors import matched_amounts
from bcd.runs.studies.pipeline.report import write_pipeline
from bcd.runs.studies.pipeline.stages import ROWS, SEGMENTATION, guide_of, needs_lesions, stage_config
from bcd.runs.table import print_study

log = logging.getLogger(__name__)

CLASSIFICATION, DEPLOY, ROI = "classification", "deploy", "roi"


def run_steps(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Do what is not done yet; return the content of metrics.json.

    Raises:
        ValueError: for folds that the split does not have.
        RunError: when a given segmentation does not fit, or a training failed.
    """
    segmenting = stage_config(config, SEGMENTATION, config["data"], folder / SEGMENTATION)
    prepared = prepare_data(segmenting)
    there = sorted(int(fold) for fold in prepared.split["fold"].unique())
    folds = [int(fold) for fold in config["folds"]] if config["folds"] is not None else there
    if not folds or not set(folds) <= set(there):
        raise ValueError(f"folds={folds}: the split has folds {there[0]} to {there[-1]}.")
    source = cross_fit(config, segmenting, folder, prepared, folds)
    saw = {fold: seen_test_images(source, prepared, fold) for fold in folds}
    check_strict(source, saw)
    rows = _Rows(config, folder / CLASSIFICATION, prepared, source, MaskErrors(prepared))
    results = []
    for row in config["rows"]:
        data, remark = _data_of(row, config["data"], prepared)
        if data is None:
            log.warning("%s: %s", row, remark)
        else:
            results.append(rows.cross_validated(row, data, remark, folds))
    metrics = write_pipeline(folder, results, config, source, saw, prepared)
    if config["deploy"]:
        row = config["deploy_row"]
        data, remark = _data_of(row, config["data"], prepared)
        if data is None:
            raise ValueError(f"deploy_row={row} was {remark}; choose deploy_row=out_of_fold_mask, or deploy=false.")
        # Both once more, on all folds but a validation part.
        guide = rows.guide(row, folds[0], ("train", "test", "left_out"))
        classifying = {**stage_config(config, row, data, rows.folder / row), "guide": guide}
        for stage, name in ((segmenting, SEGMENTATION), (classifying, ROI)):
            _refit(stage, folder / DEPLOY / name, folds[0])
        deployed = {"segmentation": f"{DEPLOY}/{SEGMENTATION}", "roi": f"{DEPLOY}/{ROI}", "row": row}
        files.write_json(folder / files.METRICS, {**metrics, "deploy": deployed})
    metrics = files.read_metrics(folder)
    print_study(metrics, folder)
    return metrics


@dataclass(frozen=True)
class _Rows:
    """The classifiers, each cross-validated in its own folder."""

    config: Mapping[str, Any]
    folder: Path
    prepared: Prepared
    source: MaskSource
    errors: MaskErrors

    def cross_validated(self, row: str, data: Mapping[str, Any], remark: str | None, folds: Sequence[int]) -> StudyResult:
        """Cross-validate one way to classify, and return its results."""
        home = self.folder / row
        log.info("Classification, %s.", ROWS[row].title)

        def changes(fold: int) -> dict[str, dict[str, Any]]:
            guide = self.guide(row, fold, ("train",))
            return {"guide": guide} if guide else {}

        metrics = cross_validated({**stage_config(self.config, row, data, home), "folds": list(folds)}, home, changes)
        title = ROWS[row].title + (f", crossfit={self.source.way}" if "predicted" in (ROWS[row].train, ROWS[row].test) else "")
        title += f" ({remark})" if remark else ""
        return StudyResult(f"{CLASSIFICATION}/{row}", title, metrics, read_table(home / files.CASES))

    def guide(self, row: str, fold: int, parts: Sequence[str]) -> dict[str, Any]:
        """Return the guide for a test fold; the perturbation is measured on the cases of the parts that are learned from."""
        altered = self.config["perturbation"] == "matched"
        amounts: dict[str, float] = {}
        if ROWS[row].train == "perturbed" or (ROWS[row].train == "predicted" and altered):
            part_of = assign_parts(self.prepared.split, fold)
            learned = [case for case in self.prepared.cases if part_of[case.case_id] in parts]
            amounts = matched_amounts(self.errors.table(self.source.folders[fold], learned))
        return guide_of(row, [str(path.absolute()) for path in self.source.folders[fold]], amounts, altered)


def _data_of(row: str, data: Mapping[str, Any], prepared: Prepared) -> tuple[dict[str, Any] | None, str | None]:
    """Return the data part of a row's config, None if the row is impossible, and a remark."""
    if not needs_lesions(row):
        return dict(data), None
    relabel = {str(old): str(new) for old, new in data["relabel"].items()}
    with_masks = {relabel.get(case.label, case.label) for case in prepared.cases if case.masks and case.label is not None}
    bare = {relabel.get(case.label, case.label) for case in prepared.cases if not case.masks and case.label is not None}
    classes = [str(name) for name in data["classes"]]
    kept = [name for name in classes if name in with_masks]
    # An empty true mask would tell the class.
    if kept == classes and (not bare & set(classes) or data["lesions_only"]):
        return dict(data), None
    if len(kept) < 2:
        return None, "left out: fewer than two classes have lesions, and an empty true mask would reveal the class"
    return {**data, "classes": kept, "lesions_only": True}, f"{', '.join(kept)} alone"


def _refit(stage: Mapping[str, Any], home: Path, fold: int) -> None:
    from bcd.runs.training.train import train

    if files.is_finished(home):
        return
    if (home / files.CONFIG).is_file():
        train({"resume": str(home), "trusted": stage["trusted"]}, home)
        return
    log.info("Refit for use: %s.", home.name)
    own = {key: value for key, value in stage.items() if key not in KEYS}
    own = files.moved(own, str(stage["folder"]), str(home.absolute()))
    home.mkdir(parents=True, exist_ok=True)
    train({**own, "name": f"{stage['name']}-deploy", "fold": fold, "refit": True}, home)
