"""The files of a run's folder: what is written whole, read back, and where it lies."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from bcd.data.writing import write_text

CONFIG = "config.yaml"
METRICS = "metrics.json"
CASES = "cases.csv"
CHECKPOINTS = "checkpoints"
MASKS = "masks"
SPLIT = "split.csv"


class RunError(ValueError):
    """A run's folder does not hold what is needed."""


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Write the resolved config as config.yaml."""
    write_text(folder / CONFIG, yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))


def read_config(folder: Path) -> dict[str, Any]:
    """Return the resolved config of a run.

    Raises:
        RunError: when the folder is not a run's.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise RunError(f"{folder} is not a run's folder: it has no {CONFIG}. Give the path that training printed last.")
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(config, dict) or "task" not in config:
        raise RunError(f"{path} is not the config of a run.")
    return config


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a dict as JSON, whole or not at all; a NaN is refused, for JSON has none."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read_metrics(folder: Path) -> dict[str, Any]:
    """Return a run's metrics.json, or an empty dict where it has none yet."""
    path = folder / METRICS
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def best_checkpoint(folder: Path) -> Path:
    """Return the best checkpoint of a run by validation, or the last where none was kept.

    Raises:
        RunError: when there is neither.
    """
    for name in ("best.ckpt", "last.ckpt"):
        path = folder / CHECKPOINTS / name
        if path.is_file():
            return path
    raise RunError(f"{folder / CHECKPOINTS} holds neither best.ckpt nor last.ckpt: the run did not get so far. Train it again.")
