"""The files of a result: scored cases in, figures, tables, pictures and report out; every kind of evaluation ends here."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bcd.evaluation.decisions import Decisions
from bcd.evaluation.summary import summarise
from bcd.reports.model_card import model_card
from bcd.reports.overlays import choose_drawn, draw_extremes
from bcd.reports.run import read_results, report_page
from bcd.runs import folder as files
from bcd.runs.testing.scoring import PixelFiles

# Case ids in, image uint8 (H, W) and true mask (H, W) of each out.
Pictures = Callable[[Sequence[str]], Mapping[str, tuple[np.ndarray, np.ndarray]]]


@dataclass(frozen=True)
class Tables:
    """What was scored.

    Args:
        cases: the test cases, one row each.
        detections: one row a predicted component; None where nothing is segmented.
        validation: the validation cases of the same models; None where nothing was chosen on any.
    """

    cases: pd.DataFrame
    detections: pd.DataFrame | None
    validation: pd.DataFrame | None


def write_results(
    folder: Path,
    tables: Tables,
    about: Mapping[str, Any],
    class_names: Sequence[str],
    decisions: Mapping[int, Decisions],
    pictures: Pictures,
    max_pixels: int,
    config: Mapping[str, Any] | None = None,
    run: Path | None = None,
) -> dict[str, Any]:
    """Write everything that an evaluation leaves, the report last; return the content of metrics.json.

    Args:
        folder: made if absent; holds the predicted masks already, where there are any.
        tables: what was scored.
        about: the metadata in metrics.json beside the figures.
        class_names: in the order of the probabilities.
        decisions: what was chosen on validation, by the fold of the model that chose it.
        pictures: reads the cases that are drawn.
        max_pixels: the most pixels that a picture may have.
        config: of the run, where the folder has none of its own.
        run: where the learning curves are, if not in the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write_tables(folder, tables)
    test = summarise(
        tables.cases,
        class_names,
        detections=tables.detections,
        decisions=decisions,
        validation=tables.validation,
    )
    scores = {"test": test, "decisions": {str(fold): decision.to_dict() for fold, decision in decisions.items()}}
    metrics = {**about, "warnings": [*about["warnings"], *test["interval_warnings"]], **scores}
    files.write_json(folder / files.METRICS, metrics)
    drawn = sorted({name for names in choose_drawn(tables.cases).values() for name in names})
    # Where nothing was segmented, masks that lie there are an earlier evaluation's.
    written = PixelFiles(folder) if tables.detections is not None else None
    predicted = {name: mask for name in drawn if written and (mask := written.read(name, max_pixels)) is not None}
    draw_extremes(tables.cases, pictures(drawn), predicted, folder / "overlays")
    results = read_results(folder, metrics, config, run)
    files.write_page(folder / "model_card.md", model_card(results))
    files.write_page(folder / files.REPORT, report_page(results))
    return metrics


def _write_tables(folder: Path, tables: Tables) -> None:
    """Write the tables, and remove those that an earlier evaluation of another kind has left.

    Scores of the validation part stay where there are none to write: a sweep ranks its jobs by them.
    """
    named = {files.CASES: tables.cases, files.DETECTIONS: tables.detections, files.VALIDATION: tables.validation}
    texts = {name: table.to_csv(index=False) for name, table in named.items() if table is not None}
    if tables.detections is not None:
        texts[files.SUMMARY] = summary_json(tables.cases)
    for name in (*named, files.SUMMARY):
        if name in texts:
            files.write_text(folder / name, texts[name])
        elif name != files.VALIDATION:
            (folder / name).unlink(missing_ok=True)


def summary_json(cases: pd.DataFrame) -> str:
    """Return the results of single cases in the format of nnU-Net's `summary.json`, for tools that read it.

    The lesion is class 1. The file follows nnU-Net v2 also where this project counts otherwise. An image without a lesion and with
    an empty predicted mask has a Dice and IoU of NaN, written as the bare word NaN (Python's json reads it, strict parsers do not),
    and the means pass over it; with any predicted pixel it has 0 and counts. So the mean Dice here is not that of `metrics.json`
    where the test has images without a lesion; on lesion images alone the two are equal. TP, FP, FN and TN are pixels, their means
    over all images.

    Isensee et al., Nature Methods 18 (2021) 203, doi:10.1038/s41592-020-01008-z.

    Args:
        cases: rows of `score_case` of a task that segments.
    """
    metrics = pixel_counts(cases)
    metrics.insert(0, "IoU", _share(metrics["TP"], metrics["TP"] + metrics["FP"] + metrics["FN"]))
    metrics.insert(0, "Dice", _share(2 * metrics["TP"], metrics["n_pred"] + metrics["n_ref"]))
    means = {name: float(metrics[name].mean()) for name in metrics}
    per_case = [
        {
            "metrics": {"1": dict(zip(metrics.columns, row, strict=True))},
            "prediction_file": case_id,
            "reference_file": case_id,
        }
        for case_id, row in zip(cases["case_id"].astype(str), metrics.itertuples(index=False, name=None), strict=True)
    ]
    content = {"foreground_mean": means, "mean": {"1": means}, "metric_per_case": per_case}
    return json.dumps(content, indent=4) + "\n"


def pixel_counts(cases: pd.DataFrame) -> pd.DataFrame:
    """Return TP, FP, FN, TN, n_pred and n_ref of each case in pixels, int64, computed back from Dice and the areas.

    Dice is 2 TP / (n_pred + n_ref), and TP a whole number, so rounding gives it exactly; without a lesion it is 0.

    Args:
        cases: `dice`, `predicted_area_px`, `lesion_area_px`, `height`, `width`.
    """
    predicted, true = (cases[name].astype(np.int64) for name in ("predicted_area_px", "lesion_area_px"))
    shared = (cases["dice"].fillna(0.0) * (predicted + true) / 2).round().astype(np.int64)
    background = cases["height"].astype(np.int64) * cases["width"].astype(np.int64) - predicted - true + shared
    counts = {"TP": shared, "FP": predicted - shared, "FN": true - shared, "TN": background}
    return pd.DataFrame(counts | {"n_pred": predicted, "n_ref": true})


def _share(part: pd.Series, whole: pd.Series) -> pd.Series:
    return part / whole.where(whole > 0, math.nan)
