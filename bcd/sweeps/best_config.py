"""The best job of a sweep as a config: an `experiment=` file of its own, ready to run."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from bcd.config import groups
from bcd.files import write_text
from bcd.sweeps.ledger import Job
from bcd.sweeps.plan import Plan
from bcd.sweeps.sampling import as_overrides

# What belonged to the jobs and not to what they train: where results went, and what one was to go on from.
_OF_THE_JOBS = ("output", "folder", "resume", "trusted")


def write_best_config(plan: Plan, job: Job) -> str:
    """Write a job's overrides as `conf/experiment/<sweep>.yaml` in the sweep's folder; return the command that runs it."""
    name = plan.name.replace("/", "_")
    path = plan.folder / "conf" / "experiment" / f"{name}.yaml"
    figures = ", ".join(f"{objective} {job.figures[objective]:.4g}" for objective in plan.objectives)
    head = f"# @package _global_\n# The best of sweep {plan.name}, its trial {job.number + 1}: {figures} in validation.\n"
    content = as_experiment([*plan.fixed, *as_overrides(job.params)], name)
    write_text(path, head + yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    folders = [str(path.parent.parent), *_searched(plan.fixed)]
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


def _searched(fixed: Sequence[str]) -> list[str]:
    """Return the user's own folders of options, from `hydra.searchpath=[file://...]`."""
    lists = [word.partition("=")[2].strip("[]").split(",") for word in fixed if word.startswith("hydra.searchpath=")]
    return [entry.strip("'\"").removeprefix("file://") for entries in lists for entry in entries if entry]
