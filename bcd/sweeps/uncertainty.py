"""The uncertainty of a sweep's ranking, the selection bias, and the importance of keys."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import optuna
import pandas as pd
from optuna.trial import TrialState, create_trial

from bcd.evaluation.intervals import bootstrap, percentile_interval
from bcd.evaluation.summary import headline_figures
from bcd.evaluation.weighted import plain, with_parts
from bcd.runs import folder as files
from bcd.sweeps.ledger import Job, trials_of_jobs

_RESAMPLES = 1000
# So many jobs at least tell what mattered.
_FEWEST = 4


@dataclass(frozen=True)
class RankingUncertainty:
    """The finished jobs in resamples of the validation cases.

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
    chosen again, and its figure there is compared with the one on all cases.

    Args:
        jobs: finished.
        objective: `val/dice` means Dice per lesion image, `val/auroc` for AUROC; others have no table.
    """
    figure = objective.removeprefix("val/")
    if figure not in ("dice", "auroc"):
        return None
    paths = {job.number: job.folder / files.VALIDATION for job in jobs}
    text = {"case_id": str, "group": str}
    tables = {number: pd.read_csv(path, dtype=text) for number, path in paths.items() if path.is_file()}
    values, resampled = dict[int, float](), dict[int, np.ndarray]()
    for number, table in tables.items():
        if not table["case_id"].equals(next(iter(tables.values()))["case_id"]):
            continue  # it was validated on other cases than the first
        names = [name.removeprefix("probability_") for name in table.columns if name.startswith("probability_")]
        figures = headline_figures(table, names or sorted(table["label"].unique()))
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


@dataclass(frozen=True)
class Importance:
    """What mattered.

    Args:
        shares: of the variance of the first objective, by key, the largest first; empty if there are too few jobs.
        n_jobs: whose figures were compared.
        validations: the figures are those after so many validations; None for the final ones.
    """

    shares: Mapping[str, float] = field(default_factory=dict)
    n_jobs: int = 0
    validations: int | None = None

    def in_words(self) -> str:
        """Return what the shares are of."""
        when = "" if self.validations is None else f" after {self.validations} validations, the most that all of them had"
        return f"What mattered: shares of the variance of {self.n_jobs} jobs' objective{when} (fANOVA)."


def importance(study: optuna.Study) -> Importance:
    """Return the share of the first objective's variance that each key explains.

    Where jobs were pruned, the finished ones are few, and good all of them: so all are compared, finished and pruned, by their
    figures after as many validations as each of them had.

    Hutter et al., An efficient approach for assessing hyperparameter importance, ICML 2014 (fANOVA).
    """
    last = trials_of_jobs(study).values()
    pruned = [trial for trial in last if trial.state == TrialState.PRUNED]
    ended = [trial for trial in last if trial.state == TrialState.COMPLETE] + pruned
    shared = min(max(trial.intermediate_values, default=0) for trial in ended) if pruned else 0
    if shared:
        judged = [(trial, trial.intermediate_values[shared]) for trial in ended if shared in trial.intermediate_values]
    else:
        judged = [(trial, trial.values[0]) for trial in ended if trial.state == TrialState.COMPLETE]
    if len(judged) < _FEWEST or len({value for _, value in judged}) < 2:
        return Importance()
    compared = optuna.create_study()
    for trial, value in judged:
        compared.add_trial(create_trial(params=trial.params, distributions=trial.distributions, value=value))
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)  # Optuna's default looks at the best tenth alone
    shares = optuna.importance.get_param_importances(compared, evaluator=evaluator)
    return Importance({name: float(share) for name, share in shares.items()}, len(judged), shared or None)
