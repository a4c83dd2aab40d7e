"""Which of the varied keys mattered, in a search whose jobs may have been pruned."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import optuna
from optuna.trial import TrialState, create_trial

from bcd.sweeps.ledger import trials_of_jobs

_FEWEST = 4


@dataclass(frozen=True)
class Importance:
    """What mattered.

    Args:
        shares: of the variance of the first objective, by key, the largest first; empty where jobs are too few to tell.
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
    last = [trials[-1] for trials in trials_of_jobs(study).values()]
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
