"""Invalid combinations: found from the config and its classes alone, before any data are read."""

import csv
import glob
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bcd.config.errors import as_typed, nearest

Classes = Mapping[str, Any]

# What the run itself sets, or does in its own way.
_NOT_OF_TRAINER = {
    "barebones": "leave it out",
    "callbacks": "use callbacks=",
    "default_root_dir": "use hydra.run.dir=",
    "fast_dev_run": "use trainer=debug",
    "logger": "use logger=",
    "overfit_batches": "use overfit=<cases>, or trainer=overfit",
    "plugins": "leave it out",
}


def needs(key: str) -> bool:
    """Return whether `problems` looks at the class at a dotted key."""
    return key.partition(".")[0] in ("callbacks", "data", "guide", "loss", "mixing", "task", "trainer") and key != "task.model"


def problems(config: Mapping[str, Any], classes: Classes) -> Iterator[str]:
    """Give the invalid combinations in a config that has a task and data; in others there are none.

    Its values have been checked; `classes` are the classes at its dotted keys.
    """
    data = config.get("data")
    if not isinstance(data, Mapping) or "source" not in data:
        return
    source = classes.get("data.source")
    yield from _data_problems(data, source)
    task = classes.get("task")
    if task is None:
        return
    yield from _fold_problems(config)
    yield from _trainer_problems(config, task, classes)
    yield from _class_problems(data, source, task)
    yield from _guide_problems(config, source, task)
    yield from _loss_problems(config, task, classes)
    mixing = config.get("mixing") or {}
    mixes = any(isinstance(mixing.get(name), int | float) and mixing[name] > 0 for name in ("mixup", "cutmix"))
    if mixes and not _of(task, "label_is_all", True):
        yield f"mixing: {task.__name__} works with masks, and they would not fit a mixed image. Use mixing=none."


def _data_problems(data: Mapping[str, Any], source: Any) -> Iterator[str]:
    classes = [str(name) for name in data["classes"]]
    twice = sorted({name for name in classes if classes.count(name) > 1})
    if twice:
        yield f"data.classes={as_typed(classes)} names {twice[0]!r} twice."
    if not classes:
        yield "data.classes is empty; list the classes to use, such as data.classes=[benign,malignant]."
    labels = _of(source, "labels", ())
    if labels:
        relabel = _relabel(data)
        yield from (f"data.relabel: {data['name']} has no {old!r}. {nearest(old, labels)}" for old in relabel if old not in labels)
        there = {relabel.get(label, label) for label in labels}
        absent = [name for name in classes if name not in there]
        yield from (f"data.classes: {data['name']} has no {name!r}. {nearest(name, there)}" for name in absent)
    root = data.get("root")
    elsewhere = root is None or "://" in str(root)  # a URL is looked at when it is opened
    if not elsewhere and _of(source, "how_to_get", "") and not Path(str(root)).expanduser().is_dir():
        yield f"data.root={root}: there is no such folder. {_of(source, 'how_to_get', '')}"


def _class_problems(data: Mapping[str, Any], source: Any, task: Any) -> Iterator[str]:
    classes = [str(name) for name in data["classes"]]
    bare = _lesion_free(data, source)
    classifies = _of(task, "classifies", False)
    if classifies and len(set(classes)) < 2:
        yield f"data.classes={as_typed(classes)}: a classification needs two classes or more."
    if classifies and data["lesions_only"] and bare & set(classes):
        left = ",".join(name for name in classes if name not in bare)
        yield (
            f"data.lesions_only=true leaves no case of {', '.join(sorted(bare & set(classes)))}, which data.classes lists; "
            f"leave one of the two out: data.classes=[{left}]."
        )
    if _of(task, "outlines", False) and classes and set(classes) <= bare:
        yield f"A segmentation needs lesions, and {', '.join(classes)} has none: data.classes={_lesion_classes(data, source)}."


def _guide_problems(config: Mapping[str, Any], source: Any, task: Any) -> Iterator[str]:
    guide, data = config["guide"], config["data"]
    used = {str(guide[part]).lower() for part in ("train", "test")}
    if used - {"none"} and not _of(task, "takes_guide", True):
        yield f"guide={sorted(used - {'none'})[0]}: {task.__name__} takes no guide. Leave guide= out."
        return
    bare = sorted(_lesion_free(data, source) & {str(name) for name in data["classes"]})
    drawn = sorted(used & {"true", "perturbed"})
    if drawn and bare and not guide.get("allow_normals") and not data["lesions_only"]:
        yield (
            f"guide={drawn[0]} with {bare[0]} among the classes: an empty mask reveals the class. Use "
            f"data.classes={_lesion_classes(data, source)}, guide=predicted or guide=none."
        )
    if used & {"predicted", "predicted_perturbed"}:
        masks = guide.get("masks")
        if masks is None:
            yield "guide=predicted needs guide.masks=<folder of masks named by case id>."
        for pattern in [masks] if isinstance(masks, str) else masks or ():
            if not any(Path(folder).is_dir() for folder in glob.glob(str(pattern))):  # noqa: PTH207 - it may be absolute
                yield f"guide.masks={pattern}: there is no such folder. scripts/predict.py writes one as output/masks."


def _loss_problems(config: Mapping[str, Any], task: Any, classes: Classes) -> Iterator[str]:
    """Compare the kind of each loss with what its task needs in that place; a loss from elsewhere may state no kind."""
    for argument, wanted in _of(task, "loss_kinds", {}).items():
        key = f"task.{argument}" if f"task.{argument}" in classes else argument
        loss = classes.get(key)
        if loss is not None and _of(loss, "kind", wanted) != wanted:
            yield f"{key}: {loss.__name__} is for {_of(loss, 'kind', '')}, and {task.__name__} needs one for {wanted} here."


def _fold_problems(config: Mapping[str, Any]) -> Iterator[str]:
    data, fold = config["data"], config.get("fold")
    split = data["split"]
    folds = _folds_in(Path(split)) if split is not None else set(range(1, data["folds"] + 1))
    if fold is not None and folds and fold not in folds:
        yield f"fold={fold}: {f'{split} has' if split is not None else 'there are'} folds {min(folds)} to {max(folds)}."


def _folds_in(path: Path) -> set[int]:
    """Return the folds that a split file names; none where it cannot be read as one, which is refused later."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return {int(row["fold"]) for row in csv.DictReader(file)}
    except (KeyError, TypeError, ValueError):
        return set()


def _trainer_problems(config: Mapping[str, Any], task: Any, classes: Classes) -> Iterator[str]:
    trainer, callbacks = config["trainer"], config["callbacks"]
    for name, way_out in _NOT_OF_TRAINER.items():
        if trainer.get(name):
            yield f"trainer.{name} is not for here; {way_out}."
    devices, nodes, size = trainer.get("devices"), trainer.get("num_nodes", 1), config["batch_size"]
    if isinstance(devices, int) and isinstance(size, int) and size % (devices * nodes):
        yield (
            f"batch_size={size} cannot be shared by {devices * nodes} processes (trainer.devices={devices}, "
            f"trainer.num_nodes={nodes}); make it a multiple."
        )
    # For the start-up time of commands that do not train.
    from lightning.pytorch.callbacks import Checkpoint, ProgressBar
    from lightning.pytorch.strategies import StrategyRegistry

    strategies, strategy = ["auto", *StrategyRegistry.available_strategies()], trainer.get("strategy", "auto")
    if isinstance(strategy, str) and strategy not in strategies:
        yield f"trainer.strategy={strategy}: there is no such strategy. {nearest(strategy, strategies)}"
    bars = [name for name in callbacks if issubclass(classes[f"callbacks.{name}"], ProgressBar)]
    if trainer.get("enable_progress_bar") is False and bars:
        yield f"trainer.enable_progress_bar=false: leave out the progress bar instead: ~callbacks.{bars[0]}"
    keeping = [name for name in callbacks if issubclass(classes[f"callbacks.{name}"], Checkpoint)]
    if trainer.get("enable_checkpointing") is False and keeping:
        yield f"trainer.enable_checkpointing=false: callbacks.{keeping[0]} keeps the best checkpoint, which the test needs."
    yield from _monitor_problems(config, task)


def _monitor_problems(config: Mapping[str, Any], task: Any) -> Iterator[str]:
    """Look for figures that are monitored and never logged."""
    trainer, figures = config["trainer"], _of(task, "figures", ())
    logged = [f"{part}/{figure}" for part in ("val", "train") for figure in (*figures, "loss")]
    watched = {"task.monitor": config["task"].get("monitor")}
    watched |= {f"callbacks.{name}.monitor": callback.get("monitor") for name, callback in config["callbacks"].items()}
    watched = {key: figure for key, figure in watched.items() if figure is not None}
    own = {key: figure for key, figure in watched.items() if key == "task.monitor" or figure != watched.get("task.monitor")}
    for key, figure in own.items() if figures else ():
        if figure not in logged:
            yield f"{key}={figure}: there is no such figure. {nearest(str(figure), logged)}"
    validated = next((f"{key}={figure}" for key, figure in watched.items() if str(figure).startswith("val/")), None)
    if validated is None:
        return
    if trainer.get("limit_val_batches") == 0:
        yield f"trainer.limit_val_batches=0: nothing is validated, but {validated} is needed; give 1 or more."
    every, epochs = trainer.get("check_val_every_n_epoch"), trainer.get("max_epochs")
    if isinstance(every, int) and isinstance(epochs, int) and every > epochs:
        yield (
            f"trainer.check_val_every_n_epoch={every} is more than trainer.max_epochs={epochs}: nothing is validated, but "
            f"{validated} is needed."
        )


def _of(cls: Any, name: str, default: Any) -> Any:
    """Return a plain attribute that a class states; a property, which asks an object, is none."""
    value = getattr(cls, name, default)
    return default if isinstance(value, property) else value


def _relabel(data: Mapping[str, Any]) -> dict[str, str]:
    return {str(old): str(new) for old, new in data["relabel"].items()}


def _lesion_free(data: Mapping[str, Any], source: Any) -> set[str]:
    """Return the classes of which no case has a lesion, as far as the data set's source states so; relabelled."""
    labels, bare, relabel = _of(source, "labels", ()), _of(source, "lesion_free", ()), _relabel(data)
    return {relabel.get(name, name) for name in bare} - {relabel.get(name, name) for name in labels if name not in bare}


def _lesion_classes(data: Mapping[str, Any], source: Any) -> str:
    bare, labels = _lesion_free(data, source), _of(source, "labels", ())
    return f"[{','.join(str(name) for name in labels or data['classes'] if name not in bare)}]"
