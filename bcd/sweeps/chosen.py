"""The best job of a sweep as a recipe: an `experiment=` file of its own, ready to run."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from bcd.config import groups
from bcd.files import write_text
from bcd.sweeps.ledger import Job
from bcd.sweeps.plan import Plan
from bcd.sweeps.sampling import as_overrides

CONF_FOLDER = "conf"
# What belonged to the jobs and not to what they train: where results went, and what one was to go on from.
_OF_THE_JOBS = ("output", "folder", "resume", "trusted")


def write_recipe(plan: Plan, job: Job) -> str:
    """Write a job's overrides as `conf/experiment/<sweep>.yaml` in the sweep's folder; return the command that runs it."""
    name = plan.name.replace("/", "_")
    path = plan.folder / CONF_FOLDER / "experiment" / f"{name}.yaml"
    told = ", ".join(f"{objective} {job.figures[objective]:.4g}" for objective in plan.objectives)
    head = f"# @package _global_\n# The best of sweep {plan.name}, its trial {job.number + 1}: {told} in validation.\n"
    content = recipe([*plan.fixed, *as_overrides(job.params)], name)
    write_text(path, head + yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    folders = [str(path.parent.parent), *_searched(plan.fixed)]
    trusted = [f"trusted=[{','.join(plan.trusted)}]"] if plan.trusted else []
    return " ".join(["python scripts/train.py", *(f"--config-dir={folder}" for folder in folders), f"experiment={name}", *trusted])


def recipe(overrides: Sequence[str], name: str) -> dict[str, Any]:
    """Return overrides as the content of an experiment's file: the recipe that they begin with, options, values.

    Where the sweep's results went is not among them: the recipe writes where the one who runs it says.
    """
    parsed = [one for one in OverridesParser.create().parse_overrides(list(overrides)) if not one.is_hydra_override()]
    options = groups()
    defaults: list[Any] = [one.value() for one in parsed if one.key_or_group == "experiment" and one.value() is not None]
    values: dict[str, Any] = {"name": name}
    for one in parsed:
        key = one.key_or_group
        if key in options and key != "experiment":
            defaults.append({f"override /{key}": one.value()})
        elif key != "experiment" and key not in _OF_THE_JOBS:
            _put(values, key, one.value())
    return {**({"defaults": defaults} if defaults else {}), **values}


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
    values[last] = _plain(value)


def _plain(value: Any) -> Any:
    """Return what Hydra's parser gave as YAML can hold it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return value.text if hasattr(value, "text") else value


def _searched(fixed: Sequence[str]) -> list[str]:
    """Return the user's own folders of options, from `hydra.searchpath=[file://...]`."""
    found = [word.partition("=")[2].strip("[]").split(",") for word in fixed if word.startswith("hydra.searchpath=")]
    return [entry.strip("'\"").removeprefix("file://") for entries in found for entry in entries if entry]
