"""From a run's plain config to its objects."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import seed_everything

from bcd.config.build import build, constructor
from bcd.data.augment.pipeline import Augmentation
from bcd.data.datamodule import Loading, UltrasoundDataModule
from bcd.data.guides import GuidePolicy
from bcd.data.prepare import Prepared, prepare
from bcd.data.selection import Selection
from bcd.data.shards.source import Shards
from bcd.data.splits import SplitError
from bcd.data.verify import Checks
from bcd.preprocess import Preprocess
from bcd.runs.hardware import Hardware
from bcd.tasks.base import BaseTask
from bcd.tasks.batch_norm import estimate_batch_norm
from bcd.tasks.info import TaskInfo

log = logging.getLogger(__name__)

SYNTHETIC = (
    "SYNTHETIC DATA: simulated phantoms, not patients. They show that everything works, and nothing about breast ultrasound. "
    "For real images get BUSI (doi:10.1016/j.dib.2019.104863), unpack it to $BCD_DATA/busi, and add data=busi."
)


def prepare_data(config: Mapping[str, Any]) -> Prepared:
    """Return the prepared data set of a config; verified, grouped and split on the first call, read afterwards."""
    data = config["data"]
    source = build(data["source"], trusted=config.get("trusted", ()))
    split = Path(data["split"]) if data["split"] is not None else None
    if isinstance(source, Shards):  # verified, grouped and split before they were written
        if data["split_by"] != "group":
            raise SplitError(f"data.split_by={data['split_by']}: shards come with a split; name another file by data.split=<file>.")
        prepared = source.prepared(split, data["folds"], data["split_seed"], data["max_pixels"])
    else:
        relabel = {str(label): str(name) for label, name in data["relabel"].items()}
        labels = dict.fromkeys(str(label) for label in [*data["labels"], *data["classes"], *relabel, *relabel.values()])
        prepared = prepare(
            source,
            data["name"],
            Path(config["output"]) / "prepared",
            split_file=split,
            folds=data["folds"],
            seed=data["split_seed"],
            checks=Checks(list(labels), relabel, data["require_masks"], data["max_pixels"]),
            on_error=config.get("on_error", "stop"),
            split_by=data["split_by"],
            allow_leak=data["allow_leak"],
        )
    if prepared.synthetic:
        log.warning(SYNTHETIC)
    return prepared


def check_parts(config: Mapping[str, Any]) -> None:
    """Refuse invalid arguments of the data's parts, before the data are read.

    Raises:
        ValueError: saying which and why.
    """
    for name in ("augmentation", "preprocess"):
        build(config[name], trusted=config.get("trusted", ()))
    guide_of(config)


def guide_of(config: Mapping[str, Any]) -> GuidePolicy:
    """Return the guide of a config's ROI model.

    Raises:
        ValueError: for one that cannot be.
    """
    policy: GuidePolicy = build({"_target_": "bcd.data.guides.GuidePolicy", **config["guide"]})
    return policy


def selection_of(config: Mapping[str, Any]) -> Selection:
    """Return which cases a config uses, and the part of each."""
    data = config["data"]
    return Selection(
        classes=[str(name) for name in data["classes"]],
        fold=config["fold"],
        relabel=data["relabel"],
        lesions_only=data["lesions_only"],
        exclude_contradictions=data["exclude_contradictions"],
        allow_leak=data["allow_leak"],
        overfit=config["overfit"],
        train_share=data["train_share"],
        seed=data["split_seed"],
        only=data.get("only"),
        refit=config["refit"],
    )


def build_datamodule(config: Mapping[str, Any], prepared: Prepared, hardware: Hardware) -> UltrasoundDataModule:
    """Return the data module of a run, not set up yet."""
    trusted = config.get("trusted", ())
    augmentation: Augmentation = build(config["augmentation"], trusted=trusted)
    preprocess: Preprocess = build(config["preprocess"], trusted=trusted)
    return UltrasoundDataModule(
        prepared,
        selection_of(config),
        preprocess,
        augmentation,
        guide_of(config),
        Loading(
            config["batch_size"],
            hardware.num_workers,
            config["seed"],
            pin_memory=hardware.device == "cuda",
            sampling=config["sampling"],
        ),
    )


def build_test_data(config: Mapping[str, Any], fold: int | None) -> UltrasoundDataModule:
    """Return a data module with a test part alone: nothing is trained or fitted on it.

    Args:
        config: `data`, `output` (the folder of prepared data), and what these need.
        fold: test this fold of the data set alone; None for all of its cases.
    """
    prepared = prepare_data(config)
    selection = selection_of({**config, "fold": fold, "overfit": None, "refit": False})
    nothing = Augmentation([]), GuidePolicy(train="none", test="none"), Loading(batch_size=1, num_workers=0, seed=0)
    datamodule = UltrasoundDataModule(prepared, selection, Preprocess(size=32), *nothing)
    datamodule.select_cases(("test",))
    return datamodule


def check_fit(task: BaseTask, datamodule: UltrasoundDataModule) -> None:
    """Refuse data that the task cannot be trained on, before the first step.

    Raises:
        ValueError: saying what is missing.
    """
    if task.classifies:
        datamodule.require_labels()
    if not task.outlines:
        return
    for part in ("train", "valid", "test"):
        if part == "test" and not datamodule.cases[part]:
            continue  # a refit learns from all but its validation part
        if not any(case.masks for case in datamodule.cases[part]):
            raise ValueError(f"A segmentation needs lesion images, and the {part} part has none; check data.classes and the masks.")


def task_info(config: Mapping[str, Any]) -> TaskInfo:
    """Return what the task of a config does, as its class states it."""
    task: Any = constructor(config["task"], "task", config.get("trusted", ()))
    return TaskInfo.of(task)


def run_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a checkpoint must hold to rebuild its network and preprocessing, as a plain dict."""
    return {
        "name": config["name"],
        "task": config["task"],
        "task_info": task_info(config).to_dict(),
        "preprocess": config["preprocess"],
        "classes": list(config["data"]["classes"]),
        "guide": config["guide"],
        "data": {key: config["data"][key] for key in ("name", "classes", "relabel", "lesions_only")},
        "fold": config["fold"],
    }


def build_task(config: Mapping[str, Any], hardware: Hardware) -> BaseTask:
    """Return the task of a config, its first weights drawn from the seed, its network in the hardware's memory format."""
    seed_everything(config["seed"], workers=True, verbose=False)
    task: BaseTask = build(config["task"], trusted=config.get("trusted", ()))
    task.run_config = run_config(config)
    task.train_with(*(build(config[name], trusted=config.get("trusted", ())) for name in ("finetune", "mixing")))
    if hardware.memory_format == "channels_last":
        task.model.to(memory_format=torch.channels_last)
    log.info("Network: %.1f M parameters, from %s.", sum(p.numel() for p in task.parameters()) / 1e6, origin(task))
    return task


def acquaint(task: BaseTask, datamodule: UltrasoundDataModule, pretrained: bool) -> None:
    """Tell a task about the data that it will learn from; estimate the batch-norm statistics of pretrained weights on them."""
    task.run_config["learned_from"] = datamodule.learned_from()
    for loss in task.modules():
        count = getattr(loss, "set_class_counts", None)
        if callable(count):
            count(datamodule.class_counts())
    if pretrained:
        layers = estimate_batch_norm(task, datamodule.train_dataloader())
        log.info("Estimated the statistics of %d batch norms on training images.", layers)


def origin(task: BaseTask) -> str:
    """Return where a network's first weights come from, in words."""
    return str(getattr(task.model, "origin", "random weights"))
