"""The report of a sweep: leaderboard, importance of keys, pictures, failures, and the selection bias."""

import io
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from matplotlib.figure import Figure

from bcd.config import groups
from bcd.files import write_text
from bcd.reports.rendering import Table, html_page, picture
from bcd.runs import folder as files
from bcd.sweeps import charts
from bcd.sweeps.ledger import Job, ranked
from bcd.sweeps.plan import LEADERBOARD, REPORT, Plan, as_overrides
from bcd.sweeps.uncertainty import Importance, RankingUncertainty, importance, ranking_uncertainty

log = logging.getLogger(__name__)

SUMMARY = "summary.json"
_STATES = ("done", "pruned", "running", "stopped", "failed")
# The leaders whose validation cases are resampled.
_MOST_RESAMPLED = 40
_MOST_SHOWN = 30
# Keys that belonged to the jobs and not to what they train: where results went, and what one was to go on from.
_OF_THE_JOBS = ("output", "folder", "resume", "trusted")


def report(plan: Plan, study: optuna.Study, jobs: Sequence[Job]) -> Path:
    """Write leaderboard.csv, summary.json, the best job's recipe, the pictures and report.html; return the last one's path."""
    order = ranked(plan, jobs)
    uncertainty = ranking_uncertainty(order[:_MOST_RESAMPLED], next(iter(plan.objectives))) if order else None
    table, mattered = leaderboard(plan, jobs, order, uncertainty), importance(study)
    write_text(plan.folder / LEADERBOARD, table.to_csv(index=False))
    command = write_best_config(plan, order[0]) if order else None
    pictures = []
    for name, (figure, caption) in (_pictures(plan, jobs, mattered) if order else {}).items():
        figure.savefig(plan.folder / f"{name}.png", dpi=130)
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=110)
        pictures.append(picture(content.getvalue(), "png", caption))
    files.write_json(plan.folder / SUMMARY, summary(plan, jobs, order, uncertainty, mattered))
    # The test figures of the leader, where it was tested; no other job's are shown.
    metrics = files.read_metrics(order[0].folder) if order else {}
    test, tested = metrics.get("test", {}), []
    for name in ("dice", "auroc"):
        if test.get(name) is not None:
            low, high = test.get("intervals", {}).get(name) or (None, None)
            tested.append(f"{name} {test[name]:.3f}" + ("" if low is None else f" ({low:.3f}\u2013{high:.3f})"))
    failed = [job for job in jobs if job.state == "failed"]
    counts = {state: sum(job.state == state for job in jobs) for state in _STATES}
    states = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    goals = ", ".join(f"{name} ({direction})" for name, direction in plan.objectives.items())
    caption = "The best first."
    if uncertainty is not None:
        caption += (
            f" valid_{uncertainty.figure}: over the validation cases at native size, 95 % interval by bootstrap over groups; wins: "
            "share of 1,000 resamples of them in which the job leads."
        )
    page = html_page(
        "sweep.html",
        title=f"Sweep {plan.name}",
        warnings=[f"{len(failed)} jobs failed; see below."] if failed else [],
        summary=f"{len(jobs)} of {plan.n_trials} jobs: {states}. Objective: {goals}. "
        f"Sampler {plan.settings['sampler']}, pruner {plan.settings['pruner']}.",
        space=Table(
            ("key", "values"), [(dimension.key, dimension.in_words()) for dimension in plan.dimensions], "Search space", text=(1,)
        ),
        fixed=" ".join(plan.fixed),
        leaderboard=Table(*_shown(table), caption, text=(1, 2)),
        selection=selection_sentence(order, uncertainty),
        tested=f"The first in the test (fold {metrics['fold']}): {', '.join(tested)}." if tested and "fold" in metrics else "",
        command=command,
        pictures=pictures,
        failures=Table(
            ("trial", "reason", "attempts", "folder"),
            [(job.number + 1, job.reason, job.attempts, job.folder) for job in failed],
            text=(1, 3),
        ),
    )
    files.write_page(plan.folder / REPORT, page)
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
    """Return the selection bias of the best job, in words."""
    if len(order) < 2:
        return "One finished job: nothing was chosen among several."
    flattered = (
        f"The first of {len(order)} finished jobs was chosen for its validation figure, which is therefore too high: one of them "
        "looks best by chance, too. "
    )
    if uncertainty is None or len(uncertainty.wins) < 2:
        return f"{flattered}The unbiased estimate is the test fold's, once, for this job alone."
    wins = uncertainty.wins.get(order[0].number, 0.0)
    return (
        f"{flattered}When the validation groups are resampled, it leads in {wins:.0%} of the resamples; the best of each resample "
        f"looks better there than it is, by {uncertainty.optimism:.3f} on average. Its figure in the test, which chose nothing, is "
        "the one to report, and it is not to be compared with the tests of the others."
    )


def _pictures(plan: Plan, jobs: Sequence[Job], mattered: Importance) -> dict[str, tuple[Figure, str]]:
    """Return each picture with its caption."""
    pictures = {"course": (charts.course(plan, jobs), "The jobs in their order.")}
    if len(plan.objectives) > 1:
        text = "Two objectives; those in orange are beaten by none in both."
        pictures["front"] = charts.front(plan, jobs), text
    if mattered.shares:
        pictures["importance"] = charts.importances(mattered.shares), mattered.in_words()
    if len(plan.dimensions) > 1:
        text = "Every job as a line through its values; brighter is better where more is better. Pruned ones are dotted."
        pictures["parallel"] = charts.parallel(plan, jobs), text
    text = "The objective against each key; orange is the best, crosses were pruned."
    pictures["slices"] = charts.slices(plan, jobs), text
    return pictures


def _shown(table: pd.DataFrame) -> tuple[list[str], list[list[Any]]]:
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


def write_best_config(plan: Plan, job: Job) -> str:
    """Write a job's overrides as `conf/experiment/<sweep>.yaml` in the sweep's folder; return the command that runs it."""
    name = plan.name.replace("/", "_")
    path = plan.folder / "conf" / "experiment" / f"{name}.yaml"
    figures = ", ".join(f"{objective} {job.figures[objective]:.4g}" for objective in plan.objectives)
    head = f"# @package _global_\n# The best of sweep {plan.name}, its trial {job.number + 1}: {figures} in validation.\n"
    content = as_experiment([*plan.fixed, *as_overrides(job.params)], name)
    write_text(path, head + yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    # The user's own folders of options, from hydra.searchpath=[file://...].
    lists = [word.partition("=")[2].strip("[]").split(",") for word in plan.fixed if word.startswith("hydra.searchpath=")]
    searched = [entry.strip("'\"").removeprefix("file://") for entries in lists for entry in entries if entry]
    folders = [str(path.parent.parent), *searched]
    trusted = [f"trusted=[{','.join(plan.trusted)}]"] if plan.trusted else []
    words = [*(f"--config-dir={folder}" for folder in folders), f"experiment={name}", *trusted]
    return " ".join(["python scripts/train.py", *words])


def as_experiment(overrides: Sequence[str], name: str) -> dict[str, Any]:
    """Return overrides as the content of an experiment's file: the experiment that they begin with, options, values.

    Where the sweep's results went is not among them: a run goes where the one who starts it says.
    """
    options = groups()
    defaults: list[Any] = []
    values: dict[str, Any] = {"name": name}
    for one in OverridesParser.create().parse_overrides(list(overrides)):
        key = one.key_or_group
        if one.is_hydra_override() or key in _OF_THE_JOBS:
            continue
        if key == "experiment":
            defaults = [*([one.value()] if one.value() is not None else []), *defaults]
        elif key in options:
            defaults.append({f"override /{key}": one.value()})
        else:
            *parents, last = key.split(".")
            node = values
            for parent in parents:
                node = node.setdefault(parent, {})
            node[last] = _plain(one.value())
    return {**({"defaults": defaults} if defaults else {}), **values}


def _plain(value: Any) -> Any:
    """Return what Hydra's parser gave as YAML can hold it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return value.text if hasattr(value, "text") else value
