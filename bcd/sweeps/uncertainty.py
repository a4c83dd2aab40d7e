"""How sure the ranking of a sweep is: intervals of validation figures, and what choosing the best of many is worth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bcd.evaluation.intervals import bootstrap, percentile_interval
from bcd.evaluation.summary import headline_figures
from bcd.evaluation.weighted import plain, with_parts
from bcd.runs import folder as files
from bcd.sweeps.ledger import Job

_RESAMPLES = 1000


@dataclass(frozen=True)
class RankingUncertainty:
    """What resampling the validation cases shows of the finished jobs.

    Args:
        figure: `dice` or `auroc`, over the validation cases at native size.
        values: of each job, by number.
        intervals: 95 % interval of each, by bootstrap over groups.
        wins: share of the resamples in which it is the best.
        optimism: how much higher the best one's figure is on the cases that chose it than on others, estimated from the resamples.
    """

    figure: str
    values: Mapping[int, float]
    intervals: Mapping[int, tuple[float, float] | None]
    wins: Mapping[int, float]
    optimism: float


def ranking_uncertainty(jobs: Sequence[Job], objective: str) -> RankingUncertainty | None:
    """Return what the validation tables of finished jobs show; None where the objective is no figure of cases.

    The optimism is that of Efron's bootstrap (Harrell, Statistics in Medicine 15 (1996) 361): in each resample the best job is
    chosen anew, and its figure there is compared with the one that it has on all cases.

    Args:
        jobs: finished.
        objective: `val/dice` stands for Dice per lesion image, `val/auroc` for AUROC; others have no table.
    """
    figure = objective.removeprefix("val/")
    tables = _tables(jobs) if figure in ("dice", "auroc") else {}
    values, resampled = dict[int, float](), dict[int, np.ndarray]()
    for number, table in tables.items():
        figures = headline_figures(table, _class_names(table))
        if figure not in figures:
            return None
        wanted = with_parts(figures, {figure})
        value = plain(wanted, len(table))[figure]
        if value is not None:
            values[number] = value
            resampled[number] = bootstrap(wanted, table["group"].astype(str).to_numpy(), _RESAMPLES)[figure]
    if not values:
        return None
    intervals = {}
    for number in values:
        ends = percentile_interval(resampled[number])
        intervals[number] = None if ends.low is None or ends.high is None else (ends.low, ends.high)
    draws = np.stack(list(resampled.values()))  # (jobs, resamples), the same resamples for all
    draws = draws[:, ~np.isnan(draws).any(0)]
    best, own = draws.argmax(0), np.array(list(values.values()))
    shares = np.bincount(best, minlength=len(values)) / max(1, draws.shape[1])
    optimism = float(np.mean(draws.max(0) - own[best])) if draws.shape[1] else float("nan")
    return RankingUncertainty(figure, values, intervals, dict(zip(values, shares.tolist(), strict=True)), optimism)


def _tables(jobs: Sequence[Job]) -> dict[int, pd.DataFrame]:
    """Return the validation tables of the jobs that were validated on the same cases as the first."""
    paths = {job.number: job.folder / files.VALIDATION for job in jobs}
    text = {"case_id": str, "group": str}
    tables = {number: pd.read_csv(path, dtype=text) for number, path in paths.items() if path.is_file()}
    cases = [table["case_id"] for table in tables.values()][:1]
    return {number: table for number, table in tables.items() if table["case_id"].equals(cases[0])}


def _class_names(table: pd.DataFrame) -> list[str]:
    of_columns = [name.removeprefix("probability_") for name in table.columns if name.startswith("probability_")]
    return of_columns or sorted(table["label"].unique())
