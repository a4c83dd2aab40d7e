"""The files of a run's folder: locks, atomic writing, reading, and paths.

Nothing heavy is imported here: the config is written before torch is, so that a run killed at any moment can be resumed.
"""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from bcd.config.options import CONF
from bcd.files import write_bytes, write_text

CONFIG = "config.yaml"
TRAINING = "training.json"
METRICS = "metrics.json"
CASES = "cases.csv"
CHECKPOINTS = "checkpoints"
BEST = "best.ckpt"
LAST = "last.ckpt"
DETECTIONS = "detections.csv"
VALIDATION = "validation.csv"
SUMMARY = "summary.json"
MASKS = "masks"
PROBABILITIES = "probabilities"
SPLIT = "split.csv"
SPLITS_JSON = "splits_final.json"
REPORT = "report.html"
_LOCK = ".lock"
# Keys of a config that change no figure: a run that was made before they came to be does without.
_LABELS = {"group"}

log = logging.getLogger(__name__)


class RunError(ValueError):
    """A run's folder does not hold what is needed, or belongs to another run."""


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Keep other processes out of a run's folder, which is made if absent, until the end; the system releases it after a kill.

    Raises:
        RunError: when another process uses it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise RunError(f"Another process uses {folder}; wait for it, stop it, or choose another folder.") from error
    try:
        yield
    finally:
        lock.release()


def begin(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Write a new run's config, its paths made absolute, as the first of its files; return it.

    Raises:
        RunError: when the folder holds a run already.
    """
    if (folder / CONFIG).exists() or any((folder / CHECKPOINTS).glob("*.ckpt")):
        raise RunError(
            f"{folder} holds a run already: go on with it by resume={folder}, choose another hydra.run.dir, or delete it."
        )
    config = with_absolute_paths(config)
    write_config(folder, config)
    return config


def go_on(folder: Path, trusted: Sequence[str], script: str) -> dict[str, Any]:
    """Return the config of a run to resume, its own paths corrected if the folder was moved.

    Args:
        folder: the run's folder.
        trusted: constructors of the user's own, from the command line; those in the folder's config count as little as a
            checkpoint's.
        script: the one that resumes.

    Raises:
        RunError: when the folder is not a run's, or was made by another script, whose command is then named.
    """
    config = read_config(folder)
    made_by = config.get("study") or ("crossval" if "folds" in config else "train")
    if made_by != script:
        raise RunError(f"{folder} was made by scripts/{made_by}.py; go on with: python scripts/{made_by}.py resume={folder}")
    for leftover in (folder / CHECKPOINTS).glob(".*.ckpt.*"):
        leftover.unlink(missing_ok=True)  # an interrupted save; the lock shows that no process uses it
    there = moved(config, str(config["folder"]), str(folder.absolute()))
    return {**there, "trusted": [*trusted], "resume": None}


def is_finished(folder: Path) -> bool:
    """Return whether a run is trained to its end and tested; a stopped one may have a report, too, if it was evaluated."""
    # A refit has learned from its test fold too, and has no figures to report.
    return (folder / TRAINING).is_file() and ((folder / REPORT).is_file() or bool(read_metrics(folder).get("refit")))


def folds_of(folder: Path) -> list[Path]:
    """Return the runs of a cross-validation of one seed, by fold.

    Raises:
        RunError: when there are none.
    """
    runs = sorted(folder.glob("fold_*"), key=lambda run: int(run.name.removeprefix("fold_")))
    if not runs:
        raise RunError(f"{folder} holds no folds of its own; give the folder of one seed, such as {folder}/seed_0.")
    return runs


def with_own_split(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the config with the split that the folder holds: it is always read, and not drawn again."""
    if not (folder / SPLIT).is_file():
        return dict(config)
    return {**config, "data": {**config["data"], "split": str(folder / SPLIT), "split_by": "group"}}


def with_absolute_paths(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config with absolute paths, so that a run can be tested from another working directory."""

    def absolute(path: Any) -> Any:
        if isinstance(path, list):
            return [absolute(part) for part in path]
        return path if path is None or "://" in str(path) else str(Path(str(path)).expanduser().absolute())

    data, guide = config["data"], config.get("guide")
    source = {key: absolute(value) if key in ("root", "local") else value for key, value in data["source"].items()}
    paths = {"root": absolute(data["root"]), "split": absolute(data["split"]), "source": source}
    return {
        **config,
        "output": absolute(config["output"]),
        "data": {**data, **paths, "classes": [str(name) for name in data["classes"]]},
        **({"guide": {**guide, "masks": absolute(guide["masks"])}} if guide is not None else {}),
    }


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
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RunError(f"{path} cannot be read as YAML ({error}); train again.") from error
    if not isinstance(config, dict) or not {"data", "folder"} <= set(config):
        raise RunError(f"{path} is not the config of a run.")
    return config


def check_version(config: Mapping[str, Any], folder: Path) -> None:
    """Refuse the config of a run that was made before a key came to be: its value is unknown.

    Raises:
        RunError: naming the first such key.
    """
    if "study" in config:
        raise RunError(
            f"{folder} was made by scripts/{config['study']}.py, and holds several runs; give the folder of one of them."
        )
    wanted = [(name, key) for name, key in _keys(CONF / "train.yaml", "") + _keys(CONF / "selection" / "default.yaml", "data")]
    for name, key in wanted:
        if key in _LABELS:
            continue
        if key not in (config[name] if name else config):
            whole = f"{name}.{key}" if name else key
            raise RunError(
                f"{folder / CONFIG} has no {whole}: another version of this project made the run; use that, or train again."
            )


def _keys(path: Path, name: str) -> list[tuple[str, str]]:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [(name, str(key)) for key in content if key not in ("defaults", "hydra")]


def write_page(path: Path, text: str) -> None:
    """Write a text for people, whole or not at all; what UTF-8 cannot hold, as names on a disk may, becomes a question mark."""
    write_bytes(path, text.encode("utf-8", errors="replace"))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a dict as JSON, whole or not at all; a NaN is refused, because JSON has none."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file, or an empty dict where there is none yet."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def read_metrics(folder: Path) -> dict[str, Any]:
    """Return a run's metrics.json, or an empty dict where it has none yet."""
    return read_json(folder / METRICS)


def best_checkpoint(folder: Path) -> Path:
    """Return the best checkpoint of a run by validation, or the last where none was kept.

    Raises:
        RunError: when there is neither.
    """
    for name in (BEST, LAST):
        path = folder / CHECKPOINTS / name
        if path.is_file():
            return path
    raise RunError(
        f"{folder / CHECKPOINTS} holds neither {BEST} nor {LAST}: the run stopped before its first checkpoint. Resume it: "
        f"python scripts/train.py resume={folder}"
    )


def trained_runs(folder: Path) -> list[Path]:
    """Return the folder of a run, or those of a cross-validation's folds; each has a checkpoint.

    Raises:
        RunError: when one has none.
    """
    runs = folds_of(folder) if not (folder / CHECKPOINTS).is_dir() and any(folder.glob("fold_*")) else [folder]
    for run in runs:
        best_checkpoint(run)
    return runs


def moved(node: Any, old: str, new: str) -> Any:
    """Return a config in which every path below `old` lies below `new`."""
    if isinstance(node, dict):
        return {key: moved(value, old, new) for key, value in node.items()}
    if isinstance(node, list):
        return [moved(value, old, new) for value in node]
    return new + node[len(old) :] if isinstance(node, str) and (node == old or node.startswith(old + "/")) else node
