"""Runs below a folder: what each is, its results, and the reason if it cannot be shown."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from bcd.reports.wording import DASH, is_number, with_interval
from bcd.runs import folder as files
from bcd.tasks.info import info_of

DEEPEST = 6
MOST_FOLDERS = 20_000
_MOST_BYTES = 64 << 20
# Folders in which runs never lie, and which may hold very many files.
_PASSED_BY = {
    *("prepared", "phantoms", "bundles", "checkpoints", "masks", "probabilities", "overlays", "pictures"),
    *("tensorboard", "logs", "wandb", "trackers", "mlflow"),
}
FIGURES = {"dice": "Dice", "iou": "IoU", "auroc": "AUROC", "accuracy": "accuracy", "balanced_accuracy": "balanced accuracy"}
_WITH_INTERVAL = ("dice", "auroc")


@dataclass(frozen=True)
class RunFolder:
    """A run, a cross-validation or an evaluation; its name is its path from the folder of all runs on."""

    path: Path
    name: str
    row: Mapping[str, Any]
    is_fold: bool
    warnings: tuple[str, ...] = field(default_factory=tuple)


def folders_below(root: Path) -> Iterator[Path]:
    """Yield folders that hold metrics.json or config.yaml, by name; links are not followed."""
    for parent, below, names in islice(os.walk(root), MOST_FOLDERS):
        path = Path(parent)
        is_deep = len(path.relative_to(root).parts) >= DEEPEST
        below[:] = [] if is_deep else sorted(name for name in below if name not in _PASSED_BY and not name.startswith("."))
        if files.METRICS in names or files.CONFIG in names:
            yield path


def read_folder(path: Path, root: Path) -> RunFolder | str:
    """Return the run in a folder, or why there is none to show, in a sentence."""
    name = path.relative_to(root).as_posix()
    try:
        metrics = _metrics(path / files.METRICS)
    except (OSError, ValueError, RecursionError) as error:
        return f"{name}: {error}"
    try:
        return _run(path, name, metrics)
    except (KeyError, TypeError, ValueError, AttributeError):
        return f"{name}: its {files.METRICS} is of another kind, or another version of this project, and is not shown."


def _metrics(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"not finished, or not tested: there is no {files.METRICS}.")
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(f"its {files.METRICS} is larger than any run's.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its {files.METRICS} is damaged and cannot be read as JSON.") from error
    if isinstance(content, dict) and "variants" in content:
        raise ValueError(
            "a study of several runs, which are shown one by one; its own page is study.html in the folder, to be chosen above."
        )
    if not isinstance(content, dict) or not isinstance(content.get("test"), dict):
        raise ValueError(
            f"its {files.METRICS} holds no test figures; it is no result of this project, or one of a model refitted for use."
        )
    return content


def _run(path: Path, name: str, metrics: Mapping[str, Any]) -> RunFolder:
    test, data = metrics["test"], metrics["data"]
    fold = data.get("fold")
    row: dict[str, Any] = {
        "run": name,
        "group": group_of(metrics, name),
        "task": task_of(metrics),
        "data": f"{data['name']}{' (simulated)' if data.get('synthetic') else ''}",
        "tested on": f"fold {fold}" if fold is not None else "all folds, out of fold" if data.get("folds") else "all cases",
        "images": int(test["n_cases"]),
    }
    for key, title in FIGURES.items():
        value = test.get(key, test.get("lesion_images", {}).get(key))
        row[title] = float(value) if is_number(value) else None
        if key in _WITH_INTERVAL:
            row[f"{title}, 95 % interval"] = _interval(test, key)
    row["seed"] = metrics.get("seed")
    seconds = metrics.get("train_seconds")
    row["hours"] = round(float(seconds) / 3600, 3) if is_number(seconds) else None
    row["finished"] = str(metrics.get("provenance", {}).get("finished", ""))[:16].replace("T", " ")
    warnings = tuple(str(text) for text in metrics.get("warnings", ()))
    return RunFolder(path, name, row | {"warnings": len(warnings)}, path.name.startswith("fold_"), warnings)


def group_of(metrics: Mapping[str, Any], name: str) -> str:
    """Return the sweep or the cross-validation that a run belongs to; if the run does not state it, from its folder."""
    parts = name.split("/")
    if metrics.get("group"):
        return str(metrics["group"])
    if parts[0] == "sweeps" and len(parts) > 2:
        return parts[1]
    if parts[0] == "crossval":
        return "/".join(part for part in parts[1:] if not part.startswith(("fold_", "seed_")))
    return ""


def task_of(metrics: Mapping[str, Any]) -> str:
    """Return what was tested: segmentation, classification or both."""
    info = info_of(metrics)
    names = [*(["segmentation"] if info.outlines else []), *(["classification"] if info.classifies else [])]
    return " and ".join(names)


def _interval(test: Mapping[str, Any], key: str) -> str:
    intervals = test.get("intervals", {})
    ends = intervals.get(key, intervals.get(f"lesion_images.{key}"))
    shown = with_interval(0.0, ends, key).partition(" (")[2].rstrip(")") if ends else ""
    return shown or DASH
