"""Constructors that have moved: configs, checkpoints and bundles of before name them by their old homes."""

from collections.abc import Mapping
from typing import Any

MOVED = {
    "bcd.data.augmentation": "bcd.data.augment.pipeline",
    "bcd.data.deformation": "bcd.data.augment.deformation",
    "bcd.data.perturbation": "bcd.data.augment.perturbation",
    "bcd.data.sources.shards": "bcd.data.shards.source",
    "bcd.data.ultrasound": "bcd.data.augment.ultrasound",
    "bcd.runs.callbacks": "bcd.runs.training.callbacks",
    "bcd.runs.sharing": "bcd.runs.training.sharing",
    "bcd.sweeps.launchers.local": "bcd.launchers.local",
    "bcd.sweeps.launchers.ray": "bcd.launchers.ray",
    "bcd.sweeps.launchers.slurm": "bcd.launchers.slurm",
}

# Options that are gone, and what to write instead.
GONE = {"launcher=joblib": "launcher=local launcher.workers=N does the same"}


def today(target: str) -> str:
    """Return the name that a constructor goes by today."""
    module, _, name = target.rpartition(".")
    return f"{MOVED.get(module, module)}.{name}" if module else target


def of_today(node: Any) -> Any:
    """Return a config node in which every constructor goes by the name that it has today."""
    if isinstance(node, Mapping):
        return {
            key: today(value) if key == "_target_" and isinstance(value, str) else of_today(value) for key, value in node.items()
        }
    return [of_today(child) for child in node] if isinstance(node, list | tuple) else node
