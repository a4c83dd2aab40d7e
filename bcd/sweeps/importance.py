"""Which of the varied keys mattered, in a search whose jobs may have been pruned."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from bcd.sweeps.ledger import attempts_of

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
    last = [trials[-1] for trials in attempts_of(study.get_trials(deepcopy=False)).values()]
    finished = [trial for trial in last if trial.state == TrialState.COMPLETE]
    pruned = [trial for trial in last if trial.state == TrialState.PRUNED]
    steps = [max(trial.intermediate_values, default=0) for trial in [*finished, *pruned]]
    shared = min(steps) if pruned else 0
    judged = [trial for trial in [*finished, *pruned] if shared in trial.intermediate_values] if shared else finished
    values = [trial.intermediate_values[shared] if shared else trial.values[0] for trial in judged]
    if len(judged) < _FEWEST or len(set(values)) < 2:
        return Importance()
    compared = optuna.create_study()
    compared.add_trials([_as_finished(trial, value) for trial, value in zip(judged, values, strict=True)])
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    found = optuna.importance.get_param_importances(compared, evaluator=evaluator)
    return Importance({name: float(share) for name, share in found.items()}, len(judged), shared or None)


def _as_finished(trial: FrozenTrial, value: float) -> FrozenTrial:
    return create_trial(params=trial.params, distributions=trial.distributions, value=value)
