"""The result of a pipeline: its classifiers side by side, fold by fold and pooled, and how class and mask agree."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bcd.data.prepare import Prepared
from bcd.files import write_bytes
from bcd.reports.study import FIGURES, StudyPart, StudyResult, study_files
from bcd.reports.wording import label_of
from bcd.runs import folder as files
from bcd.runs.studies.pipeline.crossfit import STRICT, MaskSource
from bcd.runs.studies.pipeline.stages import ROWS

_QUESTION = "What does a predicted lesion mask add to the whole image for a new patient?"
_WAYS = {
    "simple": "Cross-fitting is simple: each test image's mask comes from a model that was not trained on it; masks for training "
    "come from models that were trained on images of the test fold.",
    "strict": "Cross-fitting is strict: neither the masks for training nor those for the test come from models that were trained "
    "on the test fold.",
}
_RULE = (
    "Rule for class and mask: the classifier decides on the class, the segmentation model on the mask. A disagreement (normal with "
    "a predicted lesion, or another class without one) is counted and flagged, not corrected."
)


def write_pipeline(
    folder: Path,
    results: Sequence[StudyResult],
    config: Mapping[str, Any],
    source: MaskSource,
    saw: Mapping[int, tuple[int, int]],
    prepared: Prepared,
) -> dict[str, Any]:
    """Write study.csv, study.md, study.png, study.html, folds.csv and metrics.json; return the content of the last.

    `saw`: test fold -> number of training masks by a model that was trained on its images, and of all training masks.
    """
    by_fold = fold_table(results)
    files.write_text(folder / "folds.csv", by_fold.to_csv(index=False))
    consistency = _consistency(results, prepared)
    remarks = " ".join(ROWS[row].remark for row in config["rows"] if ROWS[row].remark)
    remark = (
        f"{_WAYS[source.way]} {remarks} The same split, seed and recipe for all rows; rows with true masks leave out images "
        "without a lesion, because an empty mask would reveal the class."
    )
    parts = [_fold_part(by_fold), _masks_part(source, saw), *_consistency_part(consistency)]
    contents = study_files(results, str(config["name"]), _QUESTION, remark, parts)
    metrics = json.loads(contents.pop(files.METRICS))
    for name, content in contents.items():
        write_bytes(folder / name, content)
    entries = [{"fold": fold, "masks": of, "of_models_that_saw_the_test": count} for fold, (count, of) in saw.items()]
    more = {"crossfit": source.way, "folds": list(saw), "masks_to_learn_from": entries, "consistency": consistency}
    files.write_json(folder / files.METRICS, {**metrics, **more, "by_fold": by_fold.to_dict("records")})
    return files.read_metrics(folder)


def fold_table(results: Sequence[StudyResult]) -> pd.DataFrame:
    """Return one row a variant and figure: `variant, title, figure`, `fold_<k>` of each test fold, `mean`, `sd`, `pooled`."""
    rows = []
    for result in results:
        test = result.metrics["test"]
        folds, spread = test.get("folds", []), test.get("mean_over_folds", {})
        for figure in FIGURES:
            if test.get(figure) is None:
                continue
            row = {"variant": result.name, "title": result.title, "figure": figure}
            row |= {f"fold_{entry['fold']}": entry.get(figure) for entry in folds}
            mean = spread.get(figure, {"mean": None, "sd": None})
            rows.append({**row, "mean": mean["mean"], "sd": mean["sd"], "pooled": test[figure]})
    return pd.DataFrame(rows).astype(object).where(lambda table: table.notna(), None)


def _fold_part(table: pd.DataFrame) -> StudyPart:
    folds = [str(name) for name in table if str(name).startswith("fold_")]
    head = ["variant", "figure", *(name.replace("_", " ") for name in folds), "mean over folds (sd)", "pooled"]
    rows = []
    for row in table.to_dict("records"):
        mean = "" if row["mean"] is None else f"{row['mean']:.3f} ({row['sd']:.3f})"
        rows.append(
            [str(row["title"]), label_of(str(row["figure"])), *(_number(row[name]) for name in folds), mean, _number(row["pooled"])]
        )
    remark = "Pooled: over all test cases, each predicted by the model that was not trained on it."
    return StudyPart(head, rows, title="Fold by fold", remark=remark)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _masks_part(source: MaskSource, saw: Mapping[int, tuple[int, int]]) -> StudyPart:
    rows = [[str(fold), str(of), str(count)] for fold, (count, of) in saw.items()]
    head = ["test fold", "training masks", "of these, by a model that was trained on the test fold"]
    remark = "Strict cross-fitting allows none of them." if source.way == STRICT else "crossfit=strict would leave none of them."
    return StudyPart(head, rows, title="Where the training masks come from", remark=remark)


def _consistency(results: Sequence[StudyResult], prepared: Prepared) -> dict[str, Any]:
    """Return how often class and mask disagree with predicted masks; empty where every class has lesions."""
    with_masks = {case.label for case in prepared.cases if case.masks}
    row = next((one for one in results if one.name.endswith("out_of_fold_mask")), None)
    if row is None or row.cases is None:
        return {}
    bare = [name for name in row.metrics["data"]["selection"]["classes"] if name not in with_masks]
    empty = row.cases["guide_is_empty"].astype(str).str.lower() == "true"
    called_bare = row.cases["predicted_label"].isin(bare)
    return {
        "rule": "report",
        "n_cases": len(row.cases),
        "lesion_free_classes": bare,
        "lesion_free_with_outline": int((called_bare & ~empty).sum()),
        "lesion_without_outline": int((~called_bare & empty).sum()),
    }


def _consistency_part(consistency: Mapping[str, Any]) -> list[StudyPart]:
    if not consistency:
        return []
    rows = [
        ["class without lesions, but a predicted mask", str(consistency["lesion_free_with_outline"])],
        ["class with lesions, but an empty mask", str(consistency["lesion_without_outline"])],
        ["test images", str(consistency["n_cases"])],
    ]
    return [StudyPart(["out-of-fold mask", "images"], rows, title="Class and mask", remark=_RULE)]
