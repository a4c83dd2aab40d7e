"""How sure the leader of a sweep is: intervals of validation figures, and what choosing the best of many is worth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bcd.evaluation.intervals import bootstrap, percentile_interval
from bcd.evaluation.summary import headline_figures
from bcd.evaluation.weighted import plain, with_parts
from bcd.runs import folder as files
from bcd.sweeps.ledger import Job

_RESAMPLES = 1000


@dataclass(frozen=True)
class Chances:
    """What resampling the validation cases says of the finished jobs.

    Args:
        figure: `dice` or `auroc`, over the validation cases at native size.
        values: of each job, by number.
        ends: 95 % interval of each, by bootstrap over groups.
        wins: share of the resamples in which it is the best.
        optimism: how much higher the best one's figure is on the cases that chose it than on others, estimated from the resamples.
    """

    figure: str
    values: Mapping[int, float]
    ends: Mapping[int, tuple[float, float] | None]
    wins: Mapping[int, float]
    optimism: float


def chances(jobs: Sequence[Job], objective: str) -> Chances | None:
    """Return what the validation tables of finished jobs say; None where the objective is no figure of cases.

    The optimism is that of Efron's bootstrap (Harrell, Statistics in Medicine 15 (1996) 361): in each resample the best job is
    chosen anew, and its figure there is compared with the one that it has on all cases.

    Args:
        jobs: finished.
        objective: `val/dice` stands for Dice per lesion image, `val/auroc` for AUROC; others have no table.
    """
    figure = objective.removeprefix("val/")
    tables = {job.number: table for job in jobs if (table := _table(job.folder, figure)) is not None}
    if not tables:
        return None
    first = next(iter(tables.values()))
    tables = {number: table for number, table in tables.items() if table["case_id"].equals(first["case_id"])}
    drawn, values = {}, {}
    groups = first["group"].astype(str).to_numpy()
    for number, table in tables.items():
        figures = headline_figures(table, _class_names(table))
        if figure not in figures:
            return None
        wanted = with_parts(figures, {figure})
        values[number] = plain(wanted, len(table))[figure]
        drawn[number] = bootstrap(wanted, groups, _RESAMPLES)[figure]
    known = {number: value for number, value in values.items() if value is not None}
    if not known:
        return None
    return _chances(figure, known, {number: drawn[number] for number in known})


def _chances(figure: str, values: Mapping[int, float], drawn: Mapping[int, np.ndarray]) -> Chances:
    numbers = list(values)
    table = np.stack([drawn[number] for number in numbers])  # (jobs, resamples), the same resamples for all
    table = table[:, ~np.isnan(table).any(0)]
    best = table.argmax(0)
    own = np.array([values[number] for number in numbers])
    ends = {}
    for number in numbers:
        found = percentile_interval(drawn[number])
        ends[number] = None if found.low is None or found.high is None else (found.low, found.high)
    wins = np.bincount(best, minlength=len(numbers)) / max(1, table.shape[1])
    optimism = float(np.mean(table.max(0) - own[best])) if table.shape[1] else float("nan")
    return Chances(figure, values, ends, dict(zip(numbers, wins.tolist(), strict=True)), optimism)


def _table(folder: Path, figure: str) -> pd.DataFrame | None:
    path = folder / files.VALIDATION
    if figure not in ("dice", "auroc") or not path.is_file():
        return None
    return pd.read_csv(path, dtype={"case_id": str, "group": str})


def _class_names(table: pd.DataFrame) -> list[str]:
    of_columns = [name.removeprefix("probability_") for name in table.columns if name.startswith("probability_")]
    return of_columns or sorted(table["label"].unique())
