"""The report of a sweep: leaderboard, what mattered, pictures, failures, and how far its best figure can be trusted."""

import io
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from matplotlib.figure import Figure

from bcd.files import write_text
from bcd.reports.rendering import Table, html_page, picture
from bcd.runs import folder as files
from bcd.sweeps import charts
from bcd.sweeps.best_config import write_best_config
from bcd.sweeps.importance import Importance, importance
from bcd.sweeps.ledger import Job
from bcd.sweeps.plan import LEADERBOARD, REPORT, Plan
from bcd.sweeps.ranking import ranked
from bcd.sweeps.uncertainty import RankingUncertainty, ranking_uncertainty

log = logging.getLogger(__name__)

SUMMARY = "summary.json"
_STATES = ("done", "pruned", "running", "stopped", "failed")
# The leaders whose validation cases are resampled.
_MOST_RESAMPLED = 40
_MOST_SHOWN = 30


def report(plan: Plan, study: optuna.Study, jobs: Sequence[Job]) -> Path:
    """Write leaderboard.csv, summary.json, the best job's recipe, the pictures and report.html; return the last one's path."""
    order = ranked(plan, jobs)
    first = next(iter(plan.objectives))
    uncertainty = ranking_uncertainty(order[:_MOST_RESAMPLED], first) if order else None
    table = leaderboard(plan, jobs, order, uncertainty)
    write_text(plan.folder / LEADERBOARD, table.to_csv(index=False))
    command = write_best_config(plan, order[0]) if order else None
    mattered = importance(study)
    pictures = _pictures(plan, jobs, mattered) if order else {}
    for name, figure in pictures.items():
        figure.savefig(plan.folder / f"{name}.png", dpi=130)
    files.write_json(plan.folder / SUMMARY, summary(plan, jobs, order, uncertainty, mattered))
    files.write_page(plan.folder / REPORT, _page(plan, jobs, order, uncertainty, table, pictures, mattered, command))
    return plan.folder / REPORT


def leaderboard(plan: Plan, jobs: Sequence[Job], order: Sequence[Job], uncertainty: RankingUncertainty | None) -> pd.DataFrame:
    """Return one row a job, the best first, then pruned, running, stopped and failed ones.

    Columns: rank, trial (from 1), state, what is varied, the objectives, validation figure at native size with its interval
    (`valid_<figure>`, `low`, `high`), wins (share of resamples in which it leads), seconds, attempts, folder, reason.
    """
    rest = [job for job in jobs if job not in order]
    rows = []
    for rank, job in enumerate([*order, *rest], start=1):
        row: dict[str, Any] = {
            "rank": rank if job.values is not None else None,
            "trial": job.number + 1,
            "state": job.state,
            **job.params,
        }
        row |= {name: job.figures.get(name) for name in plan.objectives}
        if uncertainty is not None:
            low, high = uncertainty.intervals.get(job.number) or (None, None)
            row |= {
                f"valid_{uncertainty.figure}": uncertainty.values.get(job.number),
                "low": low,
                "high": high,
                "wins": uncertainty.wins.get(job.number),
            }
        row |= {"seconds": round(job.seconds, 1), "attempts": job.attempts, "folder": str(job.folder), "reason": job.reason}
        rows.append(row)
    return pd.DataFrame(rows)


def summary(
    plan: Plan, jobs: Sequence[Job], order: Sequence[Job], uncertainty: RankingUncertainty | None, mattered: Importance
) -> dict[str, Any]:
    """Return the sweep in numbers: how many jobs in which state, what they took, its best, what mattered, what failed."""
    states = {state: sum(job.state == state for job in jobs) for state in _STATES}
    best = order[0] if order else None
    return {
        "name": plan.name,
        "objectives": dict(plan.objectives),
        "n_trials": plan.n_trials,
        "states": states,
        "attempts": sum(job.attempts for job in jobs),
        "seconds": round(sum(job.seconds for job in jobs), 1),
        "best": None if best is None else {"trial": best.number + 1, "params": dict(best.params), "figures": dict(best.figures)},
        "importance": dict(mattered.shares),
        "importance_after_validations": mattered.validations,
        "optimism": None if uncertainty is None else uncertainty.optimism,
        "selection": selection_sentence(order, uncertainty),
        "failures": {str(job.number + 1): job.reason for job in jobs if job.state == "failed"},
    }


def selection_sentence(order: Sequence[Job], uncertainty: RankingUncertainty | None) -> str:
    """Return what choosing the best of many does to its figure, in words."""
    if len(order) < 2:
        return "One finished job: nothing was chosen among several."
    flattered = (
        f"The first of {len(order)} finished jobs was chosen for its validation figure, which is therefore too high: one of them "
        "looks best by chance, too. "
    )
    if uncertainty is None or len(uncertainty.wins) < 2:
        return f"{flattered}What it is worth, the test fold says, once, for this one alone."
    wins = uncertainty.wins.get(order[0].number, 0.0)
    return (
        f"{flattered}When the validation groups are resampled, it leads in {wins:.0%} of the resamples; the best of each resample "
        f"looks better there than it is, by {uncertainty.optimism:.3f} on average. Its figure in the test, which chose nothing, is "
        "the one to report, and it is not to be compared with the tests of the others."
    )


def _pictures(plan: Plan, jobs: Sequence[Job], mattered: Importance) -> dict[str, Figure]:
    pictures = {"course": charts.course(plan, jobs)}
    if len(plan.objectives) > 1:
        pictures["front"] = charts.front(plan, jobs)
    if mattered.shares:
        pictures["importance"] = charts.importances(mattered.shares)
    if len(plan.dimensions) > 1:
        pictures["parallel"] = charts.parallel(plan, jobs)
    pictures["slices"] = charts.slices(plan, jobs)
    return pictures


_CAPTIONS = {
    "course": "The jobs in their order.",
    "front": "Two objectives; those in orange are beaten by none in both.",
    "parallel": "Every job as a line through its values; brighter is better where more is better. Pruned ones are dotted.",
    "slices": "The objective against each key; orange is the best, crosses were pruned.",
}


def _page(
    plan: Plan,
    jobs: Sequence[Job],
    order: Sequence[Job],
    uncertainty: RankingUncertainty | None,
    table: pd.DataFrame,
    pictures: Mapping[str, Figure],
    mattered: Importance,
    command: str | None,
) -> str:
    failed = [job for job in jobs if job.state == "failed"]
    counts = {state: sum(job.state == state for job in jobs) for state in _STATES}
    states = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    goals = ", ".join(f"{name} ({direction})" for name, direction in plan.objectives.items())
    captions = {**_CAPTIONS, "importance": mattered.in_words()}
    return html_page(
        "sweep.html",
        title=f"Sweep {plan.name}",
        warnings=[f"{len(failed)} jobs failed; see below."] if failed else [],
        summary=f"{len(jobs)} of {plan.n_trials} jobs: {states}. Objective: {goals}. {_how(plan)}",
        space=Table(
            ("key", "values"), [(dimension.key, dimension.in_words()) for dimension in plan.dimensions], "Search space", text=(1,)
        ),
        fixed=" ".join(plan.fixed),
        leaderboard=Table(*_shown(plan, table), _caption(uncertainty), text=(1, 2)),
        selection=selection_sentence(order, uncertainty),
        tested=_tested(order),
        command=command,
        pictures=[picture(_png(figure), "png", captions[name]) for name, figure in pictures.items()],
        failures=Table(
            ("trial", "reason", "attempts", "folder"),
            [(job.number + 1, job.reason, job.attempts, job.folder) for job in failed],
            text=(1, 3),
        ),
    )


def _how(plan: Plan) -> str:
    return f"Sampler {plan.settings['sampler']}, pruner {plan.settings['pruner']}."


def _shown(plan: Plan, table: pd.DataFrame) -> tuple[list[str], list[list[Any]]]:
    """Return head and rows of the leaderboard for people."""
    hidden = {"folder", "reason", "low", "high"}
    columns = [name for name in table.columns if name not in hidden]
    rows = []
    for record in table.head(_MOST_SHOWN).to_dict("records"):
        row = [_cell(name, record[name]) for name in columns]
        for place, name in enumerate(columns):
            if str(name).startswith("valid_") and pd.notna(record.get("low")):
                row[place] = f"{record[name]:.3f} ({record['low']:.3f}\u2013{record['high']:.3f})"
        rows.append(row)
    return [str(name) for name in columns], rows


def _cell(name: Any, value: Any) -> str:
    if value is None or (not isinstance(value, str) and pd.isna(value)):
        return ""
    if name == "rank":
        return str(int(value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _caption(uncertainty: RankingUncertainty | None) -> str:
    if uncertainty is None:
        return "The best first."
    return (
        f"The best first. valid_{uncertainty.figure}: over the validation cases at native size, 95 % interval by bootstrap over "
        "groups; wins: share of 1,000 resamples of them in which the job leads."
    )


def _tested(order: Sequence[Job]) -> str:
    """Return the test figures of the leader in words, where it was tested; no other job's are shown."""
    metrics = files.read_metrics(order[0].folder) if order else {}
    test = metrics.get("test", {})
    figures = []
    for name in ("dice", "auroc"):
        if test.get(name) is not None:
            low, high = test.get("intervals", {}).get(name) or (None, None)
            figures.append(f"{name} {test[name]:.3f}" + ("" if low is None else f" ({low:.3f}\u2013{high:.3f})"))
    return f"The first in the test (fold {metrics['fold']}): {', '.join(figures)}." if figures and "fold" in metrics else ""


def _png(figure: Figure) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    return content.getvalue()
