"""The steps of a pipeline, each of which goes on where it was stopped."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bcd.data.prepare import Prepared
from bcd.data.splits import assign_parts
from bcd.evaluation.cases import read_table
from bcd.reports.study import StudyResult
from bcd.runs import folder as files
from bcd.runs.assemble import prepare_data
from bcd.runs.studies.crossval import KEYS
from bcd.runs.studies.pipeline.crossfit import MaskErrors, MaskSource, check_strict, cross_fit, cross_validated, seen_test_images
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
    outlining = stage_config(config, SEGMENTATION, config["data"], folder / SEGMENTATION)
    prepared = prepare_data(outlining)
    folds = _folds(config, prepared)
    source = cross_fit(config, outlining, folder, prepared, folds)
    saw = {fold: seen_test_images(source, prepared, fold) for fold in folds}
    check_strict(source, saw)
    errors = MaskErrors(prepared)
    results = []
    for row in config["rows"]:
        data, remark = _data_of(row, config["data"], prepared)
        if remark is not None and data is None:
            log.warning("%s: %s", row, remark)
            continue
        results.append(_row(config, row, data or {}, remark, folder, prepared, folds, source, errors))
    metrics = write_pipeline(folder, results, config, source, saw, prepared)
    if config["deploy"]:
        _refit(config, outlining, folder, prepared, source, folds[0], errors)
        deployed = {"segmentation": f"{DEPLOY}/{SEGMENTATION}", "roi": f"{DEPLOY}/{ROI}", "row": config["deploy_row"]}
        files.write_json(folder / files.METRICS, {**metrics, "deploy": deployed})
    metrics = files.read_metrics(folder)
    print_study(metrics, folder)
    return metrics


def _folds(config: Mapping[str, Any], prepared: Prepared) -> list[int]:
    there = sorted(int(fold) for fold in prepared.split["fold"].unique())
    wanted = [int(fold) for fold in config["folds"]] if config["folds"] is not None else there
    absent = [fold for fold in wanted if fold not in there]
    if absent or not wanted:
        raise ValueError(f"folds={wanted}: the split has folds {there[0]} to {there[-1]}.")
    return wanted


def _data_of(row: str, data: Mapping[str, Any], prepared: Prepared) -> tuple[dict[str, Any] | None, str | None]:
    """Return the data part of a row's config, None where the row cannot be, and what is to be said of it."""
    if not needs_lesions(row):
        return dict(data), None
    relabel = {str(old): str(new) for old, new in data["relabel"].items()}
    outlined = {relabel.get(case.label, case.label) for case in prepared.cases if case.masks and case.label is not None}
    bare = {relabel.get(case.label, case.label) for case in prepared.cases if not case.masks and case.label is not None}
    classes = [str(name) for name in data["classes"]]
    kept = [name for name in classes if name in outlined]
    # An empty true mask would tell the class.
    if kept == classes and (not bare & set(classes) or data["lesions_only"]):
        return dict(data), None
    if len(kept) < 2:
        return None, "left out: fewer than two classes have lesions, and an empty true mask would tell the class"
    return {**data, "classes": kept, "lesions_only": True}, f"{', '.join(kept)} alone"


def _row(
    config: Mapping[str, Any],
    row: str,
    data: Mapping[str, Any],
    remark: str | None,
    folder: Path,
    prepared: Prepared,
    folds: Sequence[int],
    source: MaskSource,
    errors: MaskErrors,
) -> StudyResult:
    """Cross-validate one way to classify, and return what it gave."""
    home = folder / CLASSIFICATION / row
    log.info("Classification, %s.", ROWS[row].title)

    def changes(fold: int) -> dict[str, dict[str, Any]]:
        guide = _guide(config, row, prepared, source, fold, errors, ("train",))
        return {"guide": guide} if guide else {}

    metrics = cross_validated({**stage_config(config, row, data, home), "folds": list(folds)}, home, changes)
    title = ROWS[row].title + (f", crossfit={source.way}" if "predicted" in (ROWS[row].train, ROWS[row].test) else "")
    return StudyResult(
        f"{CLASSIFICATION}/{row}", f"{title} ({remark})" if remark else title, metrics, read_table(home / files.CASES)
    )


def _guide(
    config: Mapping[str, Any], row: str, prepared: Prepared, source: MaskSource, fold: int, errors: MaskErrors, parts: Sequence[str]
) -> dict[str, Any]:
    """Return the guide for a test fold; the perturbation is measured on the cases that are learned from."""
    how = ROWS[row]
    altered = config["perturbation"] == "matched"
    amounts: dict[str, float] = {}
    if how.train == "perturbed" or (how.train == "predicted" and altered):
        part_of = assign_parts(prepared.split, fold)
        learned = [case for case in prepared.cases if part_of[case.case_id] in parts]
        table = errors.table(source.folders[fold], learned)
        amounts = matched_amounts(table)
    return guide_of(row, [str(path.absolute()) for path in source.folders[fold]], amounts, altered)


def _refit(
    config: Mapping[str, Any],
    outlining: Mapping[str, Any],
    folder: Path,
    prepared: Prepared,
    source: MaskSource,
    fold: int,
    errors: MaskErrors,
) -> None:
    """Train outlining model and classifier once more, on all folds but a validation part."""
    row = config["deploy_row"]
    data, remark = _data_of(row, config["data"], prepared)
    if data is None:
        raise ValueError(f"deploy_row={row} was {remark}; choose deploy_row=out_of_fold_mask, or deploy=false.")
    classifying = stage_config(config, row, data, folder / CLASSIFICATION / row)
    guide = _guide(config, row, prepared, source, fold, errors, ("train", "test", "left_out"))
    _train(outlining, folder / DEPLOY / SEGMENTATION, fold)
    _train({**classifying, "guide": guide}, folder / DEPLOY / ROI, fold)


def _train(stage: Mapping[str, Any], home: Path, fold: int) -> None:
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
