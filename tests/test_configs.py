"""Every option of every config group is built; every network and loss takes a step."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from pydoc import locate
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from bcd.config import CONF, compose, groups
from bcd.config.build import build
from bcd.data.guides import GuidePolicy
from bcd.data.sources.layout import DataNotFound
from bcd.preprocess import Preprocess
from bcd.runs.assemble import run_config
from bcd.runs.tracking.trackers import Trackers
from bcd.sample import Batch
from bcd.tasks.base import BaseTask
from bcd.tasks.checkpoint import load_checkpoint
from bcd.tasks.inference import predict

OPTIONS = groups()
# A network that is slow as it is takes its step with fewer channels or layers.
_NARROW = ["model.decoder_channels=[32,16,16,16,16]"]
SMALLER = {
    "attention_unet": ["model.channels=[4,8,16]"],
    "convnext_tiny": ["+model.kwargs.depths=[1,1,1,1]"],
    "deeplabv3plus": ["model.channels=32"],
    "densenet121": ["+model.kwargs.block_config=[1,1,1,1]"],
    "fpn": ["model.pyramid_channels=32", "model.channels=32"],
    "manet": _NARROW,
    "multitask": ["model.network.decoder_channels=[32,16,16,16,16]"],
    "pspnet": ["model.channels=32"],
    "resnet50": ["+model.kwargs.layers=[1,1,1,1]"],
    "segformer": ["model.channels=32"],
    "swin_tiny": ["+model.kwargs.depths=[1,1,1,1]"],
    "unet": _NARROW,
    "unet_scse": _NARROW,
    "unetpp": _NARROW,
    "vit_small": ["+model.kwargs.depth=1"],
}
SMALL = {
    "segmentation": ["model=unet", "model.encoder=resnet10t", *_NARROW, "preprocess.size=64"],
    "classification": ["model=resnet18", "model.backbone=resnet10t", "preprocess.size=64"],
}


def _batch(size: int, num_classes: int) -> Batch:
    torch.manual_seed(0)
    mask = torch.zeros(4, 1, size, size)
    mask[:3, :, 20:60, 30:50] = 1  # the last image has no lesion
    return Batch(
        image=torch.randn(4, 1, size, size),
        mask=mask,
        guide=mask.clone(),
        label=torch.arange(4) % num_classes,
        native_size=torch.full((4, 2), 100),
        case_id=list("abcd"),
    )


def _step(config: dict[str, Any]) -> BaseTask:
    task: BaseTask = build(config["task"])
    batch = _batch(config["preprocess"]["size"], len(config["data"]["classes"]))
    for module in task.modules():
        if hasattr(module, "set_class_counts"):
            module.set_class_counts([2] * len(config["data"]["classes"]))
    optimizer = task.optimizer([{"params": list(task.parameters())}])
    before = [parameter.detach().clone() for parameter in task.parameters()]
    loss = task.step(batch, task.metrics["train_metrics"])
    loss.backward()
    optimizer.step()
    assert torch.isfinite(loss)
    assert any(not torch.equal(a, b) for a, b in zip(before, task.parameters(), strict=True))
    return task


@pytest.mark.parametrize("name", OPTIONS["model"])
def test_every_model_takes_a_step_and_comes_back_from_its_checkpoint(name: str, tmp_path: Path) -> None:
    config = compose("train", [f"model={name}", "preprocess.size=64", *SMALLER.get(name, [])])
    task = _step(config).eval()
    torch.save({"state_dict": task.state_dict(), "run_config": run_config(config)}, tmp_path / "x.ckpt")
    again, preprocess, _ = load_checkpoint(tmp_path / "x.ckpt")
    assert preprocess == build(config["preprocess"])
    batch = _batch(64, len(config["data"]["classes"]))
    with torch.no_grad():
        for first, second in zip(vars(task.infer(batch)).values(), vars(again.infer(batch)).values(), strict=True):
            assert (first is None) == (second is None)
            assert first is None or torch.equal(first, second)


@pytest.mark.parametrize("name", OPTIONS["loss"])
def test_every_loss_takes_a_step(name: str) -> None:
    kind = locate(yaml.safe_load((CONF / "loss" / f"{name}.yaml").read_text())["_target_"]).kind  # type: ignore[union-attr]
    _step(compose("train", [*SMALL[kind], f"loss={name}"]))


@pytest.mark.parametrize("name", OPTIONS["optimizer"])
def test_every_optimizer_takes_a_step(name: str) -> None:
    _step(compose("train", [*SMALL["segmentation"], f"optimizer={name}"]))


@pytest.mark.parametrize("name", OPTIONS["scheduler"])
def test_every_schedule_stays_between_zero_and_one(name: str) -> None:
    schedule = build(compose("train", [f"scheduler={name}"])["scheduler"])
    factors = [schedule(progress) for progress in np.linspace(0, 1, 101)]
    assert all(0 <= factor <= 1 for factor in factors)
    assert max(factors) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("name", OPTIONS["augmentation"])
def test_every_augmentation_keeps_image_and_mask_together(name: str) -> None:
    augmentation = build(compose("train", [f"augmentation={name}"])["augmentation"])
    mask = np.zeros((96, 96), np.uint8)
    mask[30:60, 20:70] = 1
    for epoch in range(10):
        image, moved, guide = augmentation(mask * 200 + 20, mask, mask, seed=0, epoch=epoch, case_id="a")
        assert image.shape == moved.shape == (96, 96)
        assert image.dtype == moved.dtype == np.uint8
        assert (moved == guide).all()
        assert set(np.unique(moved)) <= {0, 1}
        shared = ((image > image[moved > 0].mean() / 2 + image[moved == 0].mean() / 2) & (moved > 0)).sum()
        assert shared > 0.9 * moved.sum()


@pytest.mark.parametrize("name", OPTIONS["preprocess"])
def test_every_preprocessing_is_built(name: str) -> None:
    assert isinstance(build(compose("train", [f"preprocess={name}"])["preprocess"]), Preprocess)


@pytest.mark.parametrize("name", OPTIONS["data"])
def test_every_data_source_is_built(name: str, tmp_path: Path) -> None:
    source = build(compose("train", [f"data={name}", f"data.root={tmp_path}"])["data"]["source"])
    if name == "shards":  # its name stands in its index
        with pytest.raises(DataNotFound, match=r"shard_data\.py"):
            assert source.name
        return
    assert source.name


@pytest.mark.parametrize("name", OPTIONS["guide"])
def test_every_guide_is_built(name: str, tmp_path: Path) -> None:
    assert GuidePolicy(**compose("train", [f"guide={name}", f"guide.masks={tmp_path}"])["guide"]).train == name


@pytest.mark.parametrize("name", OPTIONS["trainer"])
def test_every_trainer_is_built(name: str, tmp_path: Path) -> None:
    node = compose("train", [f"trainer={name}"])["trainer"]
    # As a run does, which asks the hardware for these two.
    build({**node, "precision": "32-true", "accelerator": "cpu"}, logger=False, default_root_dir=str(tmp_path))


@pytest.mark.filterwarnings("ignore:.*noload.*")  # MLflow 3.17 uses an option that SQLAlchemy 2.1 retires
@pytest.mark.parametrize("group", ["callbacks", "logger"])
def test_every_callback_and_logger_is_built(group: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    for name in OPTIONS[group]:
        config = compose("train", [f"{group}=[{name}]", f"output={tmp_path}"], tmp_path)
        if group == "logger":
            if name == "mlflow" and find_spec("mlflow") is None:
                continue  # an extra; tests/test_trackers.py says what happens without it
            assert len(Trackers.open(config, tmp_path, resumed=False).loggers) == len(config["logger"])
            continue
        for node in config[group].values():
            assert build(node) is not None


@pytest.mark.parametrize("name", OPTIONS["experiment"])
def test_every_experiment_composes_and_its_network_is_built(name: str) -> None:
    config = compose("train", [f"experiment={name}", "pretrained=false"])
    if config["plan"] is None:  # a plan chooses the network once the data are there; tests/test_plan.py
        assert isinstance(build(config["task"]), BaseTask)


def test_mirroring_makes_the_prediction_follow_the_mirrored_image() -> None:
    config = compose("train", ["task.tta=[mirror]", "preprocess.size=96"])
    task, preprocess = build(config["task"]).eval(), build(config["preprocess"])
    batch = _batch(96, 3)
    mirrored = Batch(**{**batch, "image": batch["image"].flip(-1)})  # type: ignore[typeddict-item]
    for first, second in zip(predict(task, batch, preprocess), predict(task, mirrored, preprocess), strict=True):
        assert first.mask is not None
        assert second.mask is not None
        assert np.allclose(first.mask, second.mask[:, ::-1], atol=1e-6)


def _targets(node: Any) -> Iterator[str]:
    for line in node:
        if "_target_:" in line:
            yield line.split("_target_:")[1].split(",")[0].strip().strip("}")


def test_every_target_in_the_configs_is_one_that_we_trust() -> None:
    from bcd.config.build import constructor

    for path in CONF.rglob("*.yaml"):
        if path.parent == CONF / "hydra" / "sweeper":  # built by Hydra, from what a script registers
            continue
        for target in _targets(path.read_text().splitlines()):
            assert callable(constructor({"_target_": target})), f"{path}: {target}"
