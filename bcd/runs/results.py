"""The files of a result: scored cases in, figures, tables, pictures and report out; every kind of evaluation ends here."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bcd.evaluation.decisions import Decisions
from bcd.evaluation.model_card import write_model_card
from bcd.evaluation.overlays import choose_drawn, draw_extremes
from bcd.evaluation.report import write_report
from bcd.evaluation.summary import summarise
from bcd.evaluation.summary_json import summary_json
from bcd.runs import files
from bcd.runs.scoring import PixelFiles

# Case ids in, image uint8 (H, W) and true mask (H, W) of each out.
Pictures = Callable[[Sequence[str]], Mapping[str, tuple[np.ndarray, np.ndarray]]]


@dataclass(frozen=True)
class Tables:
    """What was scored.

    Args:
        cases: the test cases, one row each.
        detections: one row a predicted component; None where nothing is outlined.
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
        about: what stands in metrics.json beside the figures.
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
    made = {"test": test, "decisions": {str(fold): decision.to_dict() for fold, decision in decisions.items()}}
    metrics = {**about, **made}
    files.write_json(folder / files.METRICS, metrics)
    if tables.detections is not None:
        files.write_text(folder / files.SUMMARY, summary_json(tables.cases))
    _draw(folder, tables.cases, pictures, max_pixels)
    write_model_card(folder, metrics, config, run)
    write_report(folder, metrics, config, run)
    return metrics


def _write_tables(folder: Path, tables: Tables) -> None:
    named = {files.CASES: tables.cases, files.DETECTIONS: tables.detections, files.VALIDATION: tables.validation}
    for name, table in named.items():
        if table is not None:
            files.write_text(folder / name, table.to_csv(index=False))
        else:
            (folder / name).unlink(missing_ok=True)  # of an earlier evaluation of another kind


def _draw(folder: Path, cases: pd.DataFrame, pictures: Pictures, max_pixels: int) -> None:
    names = sorted({name for names in choose_drawn(cases).values() for name in names})
    written = PixelFiles(folder)
    predicted = {name: mask for name in names if (mask := written.read(name, max_pixels)) is not None}
    draw_extremes(cases, pictures(names), predicted, folder / "overlays")
