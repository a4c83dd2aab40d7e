"""Combinations that cannot work: told from the config alone, before any data are read."""

import csv
import glob
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bcd.config.constructors import Constructor, constructor
from bcd.config.source import constant
from bcd.config.spelling import nearest

# What a task hands to a loss, in the words of its docstring, and the kind of loss that takes it.
_GIVEN = {"(logits, mask)": "segmentation", "(logits, label)": "classification"}


def problems(config: Mapping[str, Any]) -> Iterator[str]:
    """Give what cannot work together in a config that has a task and data; in others there is nothing to find.

    Args:
        config: resolved, plain, its values checked.
    """
    if isinstance(config.get("data"), Mapping):
        yield from _data_problems(config["data"])
    if not isinstance(config.get("task"), Mapping) or not isinstance(config.get("data"), Mapping):
        return
    task = constructor(config["task"].get("_target_", ""))
    yield from _fold_problems(config)
    yield from _trainer_problems(config, task)
    if task is not None:
        yield from _class_problems(config, task)
        yield from _guide_problems(config, task)
        yield from _loss_problems(config, task)
        if config.get("mixing") and task.attribute("label_is_all") is False and _mixes(config["mixing"]):
            yield f"mixing: {_name(config['task'])} works with outlines, and they would not fit a mixed image. Use mixing=none."


def classifies(task: Constructor) -> bool:
    """Tell whether a task learns classes."""
    return "num_classes" in (task.arguments or {})


def outlines(task: Constructor) -> bool:
    """Tell whether a task learns masks."""
    return "threshold" in (task.arguments or {})


def _data_problems(data: Mapping[str, Any]) -> Iterator[str]:
    source = _source(data)
    classes = [str(name) for name in data.get("classes") or ()]
    twice = sorted({name for name in classes if classes.count(name) > 1})
    if twice:
        yield f"data.classes=[{','.join(classes)}] names {twice[0]!r} twice."
    if not classes and "classes" in data:
        yield "data.classes is empty; list the classes to use, such as data.classes=[benign,malignant]."
    labels = _attribute(source, "labels")
    if labels:
        relabel = {str(old): str(new) for old, new in (data.get("relabel") or {}).items()}
        yield from (f"data.relabel: {data['name']} has no {old!r}. {nearest(old, labels)}" for old in relabel if old not in labels)
        there = {relabel.get(label, label) for label in labels}
        absent = [name for name in classes if name not in there]
        yield from (f"data.classes: {data['name']} has no {name!r}. {nearest(name, there)}" for name in absent)
    root = data.get("root")
    elsewhere = root is None or "://" in str(root)  # a URL is looked at when it is opened
    if not elsewhere and _attribute(source, "how_to_get") and not Path(str(root)).expanduser().is_dir():
        yield f"data.root={data['root']}: there is no such folder. {_attribute(source, 'how_to_get')}"


def _class_problems(config: Mapping[str, Any], task: Constructor) -> Iterator[str]:
    data = config["data"]
    classes = [str(name) for name in data["classes"]]
    bare = _lesion_free(data)
    if classifies(task) and len(set(classes)) < 2:
        yield f"data.classes=[{','.join(classes)}]: one class cannot be told apart; list two or more."
    if classifies(task) and data["lesions_only"] and bare & set(classes):
        left = ",".join(name for name in classes if name not in bare)
        yield (
            f"data.lesions_only=true leaves no case of {', '.join(sorted(bare & set(classes)))}, which data.classes lists; "
            f"leave one of the two out: data.classes=[{left}]."
        )
    if outlines(task) and classes and set(classes) <= bare:
        yield f"A segmentation needs lesions, and {', '.join(classes)} has none: data.classes={_lesion_classes(data)}."


def _guide_problems(config: Mapping[str, Any], task: Constructor) -> Iterator[str]:
    guide = config.get("guide")
    if not isinstance(guide, Mapping):
        return
    kinds = constant("bcd.data.guides.KINDS")
    used = {part: str(guide[part]).lower() for part in ("train", "test") if part in guide}
    if isinstance(kinds, tuple) and set(used.values()) - set(kinds):
        unknown = [(part, kind) for part, kind in used.items() if kind not in kinds]
        yield from (f"guide.{part}={kind}: there is no such guide. {nearest(kind, kinds)}" for part, kind in unknown)
        return
    if set(used.values()) - {"none"} and task.takes("forward", "guide") is False:
        kind = next(kind for kind in used.values() if kind != "none")
        yield f"guide={kind}: {_name(config['task'])} takes no outline. Leave guide= out."
        return
    bare = sorted(_lesion_free(config["data"]) & {str(name) for name in config["data"]["classes"]})
    drawn = sorted(set(used.values()) & {"true", "perturbed"})
    if drawn and bare and not guide.get("allow_normals") and not config["data"]["lesions_only"]:
        yield (
            f"guide={drawn[0]} with {bare[0]} among the classes: an outline that is not there tells the class. Use "
            f"data.classes={_lesion_classes(config['data'])}, guide=predicted or guide=none."
        )
    if {"predicted", "predicted_perturbed"} & set(used.values()):
        yield from _mask_folder_problems(guide.get("masks"))


def _mask_folder_problems(masks: Any) -> Iterator[str]:
    if masks is None:
        yield "guide=predicted needs guide.masks=<folder of masks named by case id>."
    for pattern in [masks] if isinstance(masks, str) else masks or ():
        if not any(Path(folder).is_dir() for folder in glob.glob(str(pattern))):  # noqa: PTH207 - it may be absolute
            yield f"guide.masks={pattern}: there is no such folder. scripts/predict.py writes one as output/masks."


def _loss_problems(config: Mapping[str, Any], task: Constructor) -> Iterator[str]:
    """Compare the kind that a loss says it is with what the task's docstring says it will be given."""
    for argument, text in task.texts.items():
        node = config["task"].get(argument)
        wanted = next((kind for given, kind in _GIVEN.items() if given in text), None)
        loss = constructor(node.get("_target_", "")) if wanted and isinstance(node, Mapping) else None
        kind = loss.attribute("kind") if loss is not None else None
        if kind is not None and kind != wanted:
            key = argument if config.get(argument) == node else f"task.{argument}"
            yield f"{key}: {_name(node)} is for {kind}, and {_name(config['task'])} needs one for {wanted} here."


def _fold_problems(config: Mapping[str, Any]) -> Iterator[str]:
    data, fold = config["data"], config.get("fold")
    split = data.get("split")
    if split is not None and not Path(split).is_file():
        yield f"data.split={split}: there is no such file."
        return
    folds = _folds_in(Path(split)) if split is not None else set(range(1, int(data["folds"]) + 1))
    if fold is not None and folds and fold not in folds:
        yield f"fold={fold}: {f'{split} has' if split is not None else 'there are'} folds {min(folds)} to {max(folds)}."


def _folds_in(path: Path) -> set[int]:
    """Return the folds that a split file names; none where it cannot be read as one, which is told later."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return {int(row["fold"]) for row in csv.DictReader(file)}
    except (KeyError, TypeError, ValueError):
        return set()


def _trainer_problems(config: Mapping[str, Any], task: Constructor | None) -> Iterator[str]:
    trainer = config.get("trainer") or {}
    devices, nodes, size = trainer.get("devices"), trainer.get("num_nodes", 1), config.get("batch_size")
    if all(isinstance(number, int) and number > 0 for number in (devices, nodes, size)) and size % (devices * nodes):
        yield f"batch_size={size} cannot be shared by {devices * nodes} processes; make it a multiple."
    limit = trainer.get("max_time")
    if isinstance(limit, str) and not re.fullmatch(r"\d+:\d{2}:\d{2}:\d{2}", limit):
        yield f'trainer.max_time={limit} must be days:hours:minutes:seconds, such as "00:00:07:30".'
    figures = task.attribute("figures") if task is not None else None
    monitor = config["task"].get("monitor")
    if figures:
        logged = [f"{part}/{figure}" for part in ("val", "train") for figure in (*figures, "loss")]
        if monitor not in logged:
            yield f"task.monitor={monitor}: there is no such figure. {nearest(str(monitor), logged)}"


def _source(data: Mapping[str, Any]) -> Constructor | None:
    node = data.get("source")
    return constructor(node.get("_target_", "")) if isinstance(node, Mapping) else None


def _attribute(cls: Constructor | None, name: str) -> Any:
    return cls.attribute(name) if cls is not None else None


def _lesion_free(data: Mapping[str, Any]) -> set[str]:
    """Return the classes of which no case has a lesion, as far as the data set's source says so; relabelled."""
    source = _source(data)
    labels, bare = _attribute(source, "labels") or (), _attribute(source, "lesion_free") or ()
    relabel = {str(old): str(new) for old, new in (data.get("relabel") or {}).items()}
    return {relabel.get(name, name) for name in bare} - {relabel.get(name, name) for name in labels if name not in bare}


def _lesion_classes(data: Mapping[str, Any]) -> str:
    bare = _lesion_free(data)
    labels = _attribute(_source(data), "labels") or data["classes"]
    return f"[{','.join(str(name) for name in labels if name not in bare)}]"


def _mixes(node: Mapping[str, Any]) -> bool:
    return any(isinstance(node.get(name), int | float) and node[name] > 0 for name in ("mixup", "cutmix"))


def _name(node: Mapping[str, Any]) -> str:
    return str(node["_target_"]).rpartition(".")[2]
