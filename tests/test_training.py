"""How a task learns: figures, clipping, accumulation, fine-tuning, mixing; on networks small enough to work by hand."""

import contextlib
import io
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics import MetricCollection

from bcd.config import compose, groups
from bcd.config.build import build
from bcd.data.manifest import Case
from bcd.data.selection import spread
from bcd.losses.bce import BCELoss
from bcd.losses.cross_entropy import CrossEntropyLoss
from bcd.metrics.states import metric_states, restore_metric_states
from bcd.models.attention_unet import AttentionUNet
from bcd.models.classification import Classifier
from bcd.models.roi import RoiPool
from bcd.models.segmentation import UNet
from bcd.preprocess import Preprocess
from bcd.runs.assemble import build_datamodule, build_task, prepare_data
from bcd.runs.hardware import choose
from bcd.runs.testing.run import evaluate
from bcd.runs.training.lr_finder import RateSweep, find_rate, suggest
from bcd.runs.training.train import train
from bcd.sample import Batch
from bcd.tasks.base import BaseTask, NonFiniteLossError
from bcd.tasks.batch_norm import estimate_batch_norm
from bcd.tasks.classification import ClassificationTask
from bcd.tasks.fine_tuning import FineTuning
from bcd.tasks.inference import Prediction, predict
from bcd.tasks.mixing import Mixed, Mixing, blend, paste
from bcd.tasks.roi_classification import RoiClassificationTask
from bcd.tasks.schedules import ConstantSchedule, PlateauSchedule
from bcd.tasks.segmentation import SegmentationTask
from bcd.tasks.views import VIEWS

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),  # the batches lie in memory
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval.*"),  # a few batches are enough here
    pytest.mark.filterwarnings("ignore:.*have no `val_dataloader`.*"),  # where a test looks at the training alone
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*"),  # Lightning 2.6 still asks torch's trees by a name that torch 2.15 retires
    pytest.mark.filterwarnings("ignore:.*Checkpoint directory .* exists and is not empty.*"),  # the second half of a training
]
NO_MIXING = Mixing(mixup=0.0, cutmix=0.0, probability=1.0)


def _optimizer(lr: float = 0.1, **kwargs: float) -> Any:
    return partial(torch.optim.SGD, lr=lr, **kwargs)


def _outliner(model: nn.Module | None = None, lr: float = 0.1, **changed: Any) -> SegmentationTask:
    torch.manual_seed(0)
    model = model or nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1))
    arguments = {"scheduler": ConstantSchedule(), "monitor": "val/loss", "mode": "min", "tta": [], "threshold": 0.5} | changed
    return SegmentationTask(model, BCELoss(), _optimizer(lr), **arguments)


def _classifier(model: nn.Module | None = None, **changed: Any) -> ClassificationTask:
    torch.manual_seed(0)
    model = model or nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    arguments = {"scheduler": ConstantSchedule(), "monitor": "val/auroc", "mode": "max", "tta": [], "num_classes": 3} | changed
    return ClassificationTask(model, CrossEntropyLoss(), _optimizer(), **arguments)


def _batch(size: int, seed: int = 0, side: int = 8) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.zeros(size, 1, side, side)
    mask[:, :, side // 4 : side // 2, side // 4 :] = 1
    return Batch(
        image=torch.randn(size, 1, side, side, generator=generator) + mask,
        mask=mask,
        guide=mask.clone(),
        label=torch.arange(size) % 3,
        native_size=torch.full((size, 2), side),
        case_id=[f"case-{seed}-{number}" for number in range(size)],
    )


def _cut(batch: Batch, start: int, stop: int) -> Batch:
    return Batch(**{key: value[start:stop] for key, value in batch.items()})  # type: ignore[typeddict-item,index]


def _loader(batches: Sequence[Batch]) -> DataLoader[Any]:
    return DataLoader(list(batches), batch_size=None)  # type: ignore[arg-type]


def _trainer(folder: Path, **changed: Any) -> Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    arguments = {"accelerator": "cpu", "max_epochs": 1, "num_sanity_val_steps": 0, "default_root_dir": folder} | quiet | changed
    return Trainer(**arguments)


def _parameters(task: BaseTask) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in task.parameters()]


# Steps


def test_two_batches_of_four_accumulated_are_one_of_eight(tmp_path: Path) -> None:
    together, apart = _outliner(), _outliner()
    batches = [_batch(8, seed) for seed in range(3)]
    halves = [_cut(batch, start, start + 4) for batch in batches for start in (0, 4)]
    _trainer(tmp_path).fit(together, _loader(batches))
    _trainer(tmp_path, accumulate_grad_batches=2).fit(apart, _loader(halves))
    assert together.global_step == apart.global_step == 3
    for first, second, before in zip(_parameters(together), _parameters(apart), _parameters(_outliner()), strict=True):
        assert torch.allclose(first, second, atol=1e-6)
        assert not torch.allclose(first, before, atol=1e-4)


def test_gradients_are_clipped_to_their_norm(tmp_path: Path) -> None:
    free, clipped = _outliner(lr=1.0), _outliner(lr=1.0)
    before = _parameters(free)
    _trainer(tmp_path).fit(free, _loader([_batch(4)]))
    _trainer(tmp_path, gradient_clip_val=0.01).fit(clipped, _loader([_batch(4)]))

    def moved(task: BaseTask) -> float:
        return float(torch.cat([(a - b).flatten() for a, b in zip(_parameters(task), before, strict=True)]).norm())

    assert moved(free) > 0.02
    assert moved(clipped) == pytest.approx(0.01, rel=1e-4)


def test_the_fused_optimizer_of_a_cpu_is_clipped_as_well(tmp_path: Path) -> None:
    task = _outliner()
    task.optimizer = partial(torch.optim.AdamW, lr=0.1)
    trainer = _trainer(tmp_path, gradient_clip_val=0.01)
    trainer.fit(task, _loader([_batch(4)]))
    assert trainer.optimizers[0].defaults["fused"] is True


# Figures


def test_the_validation_loss_is_the_mean_over_cases_whatever_the_batches(tmp_path: Path) -> None:
    task, batch = _outliner(), _batch(5)
    with torch.no_grad():
        single = [float(task.step(_cut(batch, case, case + 1), MetricCollection({}))) for case in range(5)]
    trainer = _trainer(tmp_path)
    trainer.validate(task, _loader([_cut(batch, 0, 1), _cut(batch, 1, 5)]), verbose=False)
    assert float(trainer.callback_metrics["val/loss"]) == pytest.approx(math.fsum(single) / 5, rel=1e-6)


def test_the_figures_of_an_interrupted_epoch_survive_its_checkpoint() -> None:
    batches = [_batch(6, seed) for seed in range(4)]
    whole, first, second = _classifier(), _classifier(), _classifier()
    for task, seen in ((whole, batches), (first, batches[:2])):
        _see(task, seen)
    checkpoint: dict[str, Any] = {}
    first.on_save_checkpoint(checkpoint)
    file = io.BytesIO()
    torch.save(checkpoint, file)
    file.seek(0)
    second.on_load_checkpoint(torch.load(file, weights_only=True))
    _see(second, batches[2:])
    assert _figures(second) == _figures(whole)
    assert _figures(second)["train/auroc"] != _figures(first)["train/auroc"]


def test_between_two_epochs_no_figures_are_kept() -> None:
    task, checkpoint = _classifier(), dict[str, Any]()
    task.on_save_checkpoint(checkpoint)
    assert set(checkpoint) == {"run_config", "measured"}
    task.on_load_checkpoint(checkpoint)


def test_states_of_several_processes_come_back_as_one_list() -> None:
    task = _classifier()
    _see(task, [_batch(6), _batch(3)])
    before = _figures(task)
    stored = metric_states(task._train_figures())
    stored["auroc"]["states"] = {key: torch.cat(value) for key, value in stored["auroc"]["states"].items()}
    again = _classifier()
    restore_metric_states(again._train_figures(), stored)
    assert _figures(again) == before


def _see(task: BaseTask, batches: Sequence[Batch]) -> None:
    for batch in batches:
        loss = task.step(batch, task._metrics("train"))
        task._mean_loss("train").update(loss, len(batch["case_id"]))


def _figures(task: BaseTask) -> dict[str, float]:
    values = task._metrics("train").compute() | {"loss": task._mean_loss("train").compute()}
    return {name: float(value) for name, value in values.items()}


@pytest.mark.slow
def test_two_processes_with_unequal_shares_get_the_figures_of_one(tmp_path: Path) -> None:
    task = _classifier()
    _see(task, [_batch(6, 0), _batch(3, 1)])
    torch.multiprocessing.spawn(_one_of_two, (str(tmp_path),), nprocs=2)
    for rank in range(2):
        assert torch.load(tmp_path / f"{rank}.pt") == pytest.approx(_figures(task), abs=1e-6)
    states = torch.load(tmp_path / "states.pt")
    again = _classifier()
    restore_metric_states(again._train_figures(), states)
    assert _figures(again) == pytest.approx(_figures(task), abs=1e-6)


def _one_of_two(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    task = _classifier()
    _see(task, [_batch(6, 0)] if rank == 0 else [_cut(_batch(3, 1), 0, 2), _cut(_batch(3, 1), 2, 3)])
    states = metric_states(task._train_figures())
    torch.save(_figures(task), f"{folder}/{rank}.pt")
    if rank == 1:
        torch.save(states, f"{folder}/states.pt")
    torch.distributed.destroy_process_group()


# What goes wrong


@pytest.mark.parametrize("clip", [None, 1.0])
def test_a_loss_that_is_no_number_stops_before_the_weights_are_spoilt(clip: float | None, tmp_path: Path) -> None:
    task, bad = _outliner(lr=0.125), _batch(2, seed=7)
    bad["image"][1] = math.nan
    with pytest.raises(
        NonFiniteLossError, match=r"train loss is nan in epoch 1, step 2, at learning rate 0\.125.*case-7-0, case-7-1"
    ):
        _trainer(tmp_path, gradient_clip_val=clip).fit(task, _loader([_batch(2), bad]))
    assert all(torch.isfinite(parameter).all() for parameter in task.parameters())


def test_a_gradient_that_is_no_number_stops_before_the_weights_are_spoilt(tmp_path: Path) -> None:
    class Root(nn.Module):
        """The square root has no slope at zero."""

        def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
            return (logits * 0).sum().sqrt()

    task = _outliner()
    task.loss = Root()
    with pytest.raises(NonFiniteLossError, match="norm of the gradient is nan in epoch 1, step 1"):
        _trainer(tmp_path, gradient_clip_val=1.0).fit(task, _loader([_batch(2)]))
    assert all(torch.isfinite(parameter).all() for parameter in task.parameters())


def test_a_validation_loss_that_is_no_number_names_the_cases(tmp_path: Path) -> None:
    bad = _batch(1, seed=3)
    bad["image"][:] = math.inf
    with pytest.raises(NonFiniteLossError, match=r"val loss is nan in epoch 1.*case-3-0"):
        _trainer(tmp_path).fit(_outliner(), _loader([_batch(2)]), _loader([bad]))


# Schedules at work


def _following(lr: float = 0.0) -> SegmentationTask:
    return _outliner(lr=lr, scheduler=PlateauSchedule("min", gamma=0.5, patience=0, threshold=10.0, lowest=0.0))


def test_a_plateau_follows_the_monitored_figure_and_is_kept_with_the_checkpoint(tmp_path: Path) -> None:
    task = _following(lr=1.0)
    checkpoints = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    trainer = _trainer(tmp_path, max_epochs=3, callbacks=[checkpoints], enable_checkpointing=True)
    trainer.fit(task, _loader([_batch(2)]), _loader([_batch(2)]))
    factors = [torch.load(tmp_path / f"epoch={epoch}.ckpt", weights_only=True)["schedule"]["factor"] for epoch in range(3)]
    assert factors == [1.0, 0.5, 0.25]  # the first validation is the best so far; ten less is asked of the others
    assert trainer.optimizers[0].param_groups[0]["lr"] == 0.5  # of the last step, before the last validation


def test_a_training_that_is_resumed_ends_as_one_that_was_not(tmp_path: Path) -> None:
    batches = [_batch(2, seed) for seed in range(3)]
    whole, first, second = _following(0.5), _following(0.5), _following(0.5)
    _trainer(tmp_path, max_epochs=4).fit(whole, _loader(batches), _loader(batches))
    trainer = _trainer(tmp_path, max_epochs=2)
    trainer.fit(first, _loader(batches), _loader(batches))
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    half = {"ckpt_path": tmp_path / "half.ckpt", "weights_only": True}
    _trainer(tmp_path, max_epochs=4).fit(second, _loader(batches), _loader(batches), **half)
    assert second.scheduler(1.0) == whole.scheduler(1.0) == 0.125
    assert all(torch.equal(a, b) for a, b in zip(_parameters(whole), _parameters(second), strict=True))


# Fine-tuning


def _unet(frozen: Sequence[str] = (), until: float = 1.0, gradual: bool = False, layer_decay: float = 1.0) -> SegmentationTask:
    task = _outliner(UNet("resnet18", [8, 8, 8, 8, 8], pretrained=False), lr=1.0)
    task.train_with(FineTuning(frozen, until, gradual, layer_decay), NO_MIXING)
    return task


def _resnet(task: type[ClassificationTask] = ClassificationTask, **changed: Any) -> ClassificationTask:
    arguments = {"frozen": [], "until": 1.0, "gradual": False, "layer_decay": 1.0} | changed
    model = Classifier("resnet10t", num_classes=3, pretrained=False, drop_rate=0.0)
    made = _classifier(model)
    made.train_with(FineTuning(**arguments), NO_MIXING)
    return made


def test_a_frozen_encoder_does_not_move_nor_do_its_batch_norms(tmp_path: Path) -> None:
    task = _unet(frozen=["encoder"])
    before = {name: value.clone() for name, value in task.state_dict().items()}
    batches = [_batch(2, seed, side=32) for seed in range(2)]
    _trainer(tmp_path, max_epochs=2).fit(task, _loader(batches), _loader(batches))  # validation leaves the modes as they were
    moved = {name for name, value in task.state_dict().items() if not torch.equal(value, before[name])}
    assert moved
    assert not {name for name in moved if ".encoder." in name}
    assert any(".decoder." in name and name.endswith("running_mean") for name in moved)
    assert all(parameter.grad is None for name, parameter in task.named_parameters() if ".encoder." in name)


def test_an_encoder_that_is_frozen_for_half_of_the_training_moves_in_the_other(tmp_path: Path) -> None:
    task = _unet(frozen=["encoder"], until=0.5)
    encoder: Any = task.model.network.encoder  # type: ignore[union-attr]
    seen = []

    class Watch(Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            seen.append((encoder.conv1.weight.detach().clone(), encoder.bn1.running_mean.clone(), encoder.bn1.training))

    before = encoder.conv1.weight.detach().clone(), encoder.bn1.running_mean.clone()
    _trainer(tmp_path, callbacks=[Watch()]).fit(task, _loader([_batch(2, seed, side=32) for seed in range(4)]))
    moved = [(not torch.equal(weight, before[0]), not torch.equal(mean, before[1]), training) for weight, mean, training in seen]
    assert moved == [(False, False, False)] * 2 + [(True, True, True)] * 2


def test_blocks_begin_to_learn_one_after_another_from_the_head_on() -> None:
    task = _resnet(frozen=["encoder"], until=0.5, gradual=True)
    learning = []
    for progress in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5):
        task.fine_tuning.update(task, progress)  # type: ignore[union-attr]
        learning.append({name.split(".")[2] for name, parameter in task.named_parameters() if parameter.requires_grad})
    added = [{"fc"}, {"layer4"}, {"layer3"}, {"layer2"}, {"layer1"}, {"conv1", "bn1"}]
    assert learning == [set().union(*added[: number + 1]) for number in range(6)]


def test_rates_fall_from_block_to_block() -> None:
    rates = _rates(_resnet(layer_decay=0.5))
    expected = {"fc": 0.1, "layer4": 0.05, "layer3": 0.025, "layer2": 0.0125, "layer1": 0.00625, "conv1": 0.003125, "bn1": 0.003125}
    assert {name: rates[name] for name in expected} == pytest.approx(expected)
    assert set(rates) == set(expected)


def test_the_stages_of_a_segmentation_encoder_are_its_blocks() -> None:
    task = _unet(layer_decay=0.5)
    expected = {"conv1": 0.5**5, "bn1": 0.5**5, "layer1": 0.5**4, "layer2": 0.5**3, "layer3": 0.5**2, "layer4": 0.5}
    assert _rates(task, part=3, below=".encoder.") == pytest.approx(expected)
    assert set(_rates(task, part=2).values()) >= {1.0}
    first = task.make_optimizer().param_groups[0]
    assert first["lr"] == 1.0  # the rate that is logged


def test_slower_layers_keep_their_ratio_while_the_schedule_moves(tmp_path: Path) -> None:
    task = _resnet(layer_decay=0.5)
    task.scheduler = PlateauSchedule("max", 0.5, 0, 1.0, 0.0)
    trainer = _trainer(tmp_path, max_epochs=3)
    trainer.fit(task, _loader([_batch(3, side=32)]), _loader([_batch(3, side=32)]))
    rates = [group["lr"] for group in trainer.optimizers[0].param_groups]
    assert rates[0] == pytest.approx(0.05)
    assert min(rates) == pytest.approx(0.05 / 32)


def test_slower_layers_have_no_more_weight_decay_on_norms_than_others() -> None:
    task = _resnet(layer_decay=0.5)
    task.optimizer = partial(torch.optim.AdamW, lr=0.1, weight_decay=0.3)
    for group in task.make_optimizer().param_groups:
        assert {parameter.ndim > 1 for parameter in group["params"]} == {group["weight_decay"] == 0.3}


def _rates(task: BaseTask, part: int = 2, below: str = "") -> dict[str, float]:
    rate = {id(parameter): group["lr"] for group in task.make_optimizer().param_groups for parameter in group["params"]}
    return {name.split(".")[part]: rate[id(value)] for name, value in task.named_parameters() if below in name}


def test_a_headless_backbone_is_an_encoder_as_a_whole() -> None:
    task = _classifier(RoiPool("resnet10t", num_classes=3, pretrained=False, drop_rate=0.0))
    task.train_with(FineTuning(["encoder"], 1.0, False, 1.0), NO_MIXING)
    assert {name.split(".")[1] for name, parameter in task.named_parameters() if parameter.requires_grad} == {"head"}


def test_parts_are_frozen_by_name_and_wildcard() -> None:
    task = _resnet(frozen=["model.network.conv1", "model.network.layer[12]"])
    frozen = {name.split(".")[2] for name, parameter in task.named_parameters() if not parameter.requires_grad}
    assert frozen == {"conv1", "layer1", "layer2"}


def test_what_a_network_froze_itself_stays_so() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1))
    model[0].requires_grad_(False)
    task = _outliner(model)
    task.train_with(FineTuning([], 1.0, False, 1.0), NO_MIXING)
    assert [parameter.requires_grad for parameter in model.parameters()] == [False, False, True, True]


def test_freezing_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no 'model\.encoder'.*model\.network\.encoder"):
        _unet(frozen=["model.encoder"])
    with pytest.raises(ValueError, match="nothing that could learn"):
        _unet(frozen=["model"])
    network = AttentionUNet([4, 8])
    with pytest.raises(ValueError, match="no encoder or backbone"):
        _outliner(network).train_with(FineTuning(["encoder"], 1.0, False, 1.0), NO_MIXING)
    with pytest.raises(ValueError, match="no encoder whose blocks"):
        _outliner(network).train_with(FineTuning([], 1.0, False, 0.5), NO_MIXING)
    for arguments, word in (
        ((["encoder"], 1.0, True, 1.0), "until below 1"),
        (([], 0.5, False, 1.0), "need something"),
    ):
        with pytest.raises(ValueError, match=word):
            FineTuning(*arguments)  # type: ignore[arg-type]


# Mixing


def test_mixup_adds_images_and_cutmix_pastes_a_box() -> None:
    image = torch.stack([torch.zeros(1, 8, 8), torch.ones(1, 8, 8)])
    partner = torch.tensor([1, 0])
    mixed = blend(image, partner, 0.75)
    assert mixed.image[0].unique().tolist() == [0.25]
    assert mixed.image[1].unique().tolist() == [0.75]
    for seed in range(20):
        torch.manual_seed(seed)
        mixed = paste(image, partner, 0.75)  # a box of half the side, or less where it is cut off
        assert 0.75 <= mixed.share <= 1
        assert mixed.image[0].mean().item() == pytest.approx(1 - mixed.share)
        assert mixed.image[1].mean().item() == pytest.approx(mixed.share)


def test_the_loss_of_a_mixed_batch_is_that_of_both_labels_by_their_shares() -> None:
    task, batch = _classifier(), _batch(2)
    partner = torch.tensor([1, 0])

    class Fixed(Mixing):
        def __call__(self, image: Tensor) -> Mixed:
            return blend(image, partner, 0.75)

    task.train_with(FineTuning([], 1.0, False, 1.0), Fixed(1.0, 0.0, 1.0))
    loss = task.learn(batch, task._metrics("train"))
    scores = task.model(0.75 * batch["image"] + 0.25 * batch["image"].flip(0)).log_softmax(1)
    expected = -(0.75 * (scores[0, 0] + scores[1, 1]) + 0.25 * (scores[0, 1] + scores[1, 0])) / 2
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert task.step(batch, MetricCollection({})).item() != pytest.approx(expected.item(), rel=1e-3)  # validation sees whole images


def test_mixing_repeats_with_its_seed_and_keeps_the_larger_share_for_the_case() -> None:
    image, mixing = _batch(4)["image"], Mixing(mixup=1.0, cutmix=1.0, probability=0.8)
    shares = []
    for seed in range(60):
        torch.manual_seed(seed)
        first = mixing(image)
        torch.manual_seed(seed)
        assert torch.equal(first.image, mixing(image).image)
        shares.append(first.share)
    assert all(0.5 <= share <= 1 for share in shares)
    assert 0 < sum(share == 1 for share in shares) < 30  # about a fifth is left whole


def test_a_training_with_mixing_learns_and_logs(tmp_path: Path) -> None:
    task = _classifier()
    task.train_with(FineTuning([], 1.0, False, 1.0), Mixing(0.2, 1.0, 0.9))
    trainer = _trainer(tmp_path)
    trainer.fit(task, _loader([_batch(6, seed) for seed in range(3)]))
    assert {"train/loss", "train/auroc"} <= set(trainer.callback_metrics)


def test_models_that_need_an_outline_refuse_mixed_images() -> None:
    roi = RoiClassificationTask(
        nn.Identity(), CrossEntropyLoss(), _optimizer(), ConstantSchedule(), 3, monitor="val/auroc", mode="max", tta=[]
    )
    for task in (_outliner(), roi):
        with pytest.raises(ValueError, match=r"masks.*mixing=none"):
            task.train_with(FineTuning([], 1.0, False, 1.0), Mixing(0.2, 0.0, 1.0))


# The options


@pytest.mark.parametrize("name", groups()["finetune"])
def test_every_way_of_fine_tuning_trains_a_classifier_and_a_unet(name: str) -> None:
    for task in (_outliner(UNet("resnet18", [8, 8, 8, 8, 8], pretrained=False)), _resnet()):
        task.train_with(build(compose("train", [f"finetune={name}"])["finetune"]), NO_MIXING)
        task.fine_tuning.update(task, 0.0)  # type: ignore[union-attr]
        assert any(parameter.requires_grad for parameter in task.parameters())
        assert task.make_optimizer().param_groups


def test_batch_norms_are_estimated_without_the_further_views_of_a_test() -> None:
    task = _outliner(nn.Sequential(nn.BatchNorm2d(1), nn.Conv2d(1, 1, 1)), tta=["mirror", "zoom_in"])
    batch = _batch(4)
    assert estimate_batch_norm(task, [batch]) == 1
    assert task.model[0].running_mean.item() == pytest.approx(batch["image"].mean().item(), abs=1e-6)  # type: ignore[index,union-attr,operator]
    assert task.model[0].num_batches_tracked == 1  # type: ignore[index,union-attr]


# Test-time views


def _predicted(task: BaseTask, batch: Batch) -> Prediction:
    return next(predict(task.eval(), batch, Preprocess(16)))


def _square(side: int = 16) -> Batch:
    return _cut(_batch(1, side=side), 0, 1)


def test_a_prediction_is_the_mean_over_the_image_and_its_views() -> None:
    class Left(nn.Module):
        """Certain of the left half, whatever the image."""

        def forward(self, image: Tensor) -> Tensor:
            logits = torch.full_like(image, -40.0)
            logits[..., : image.shape[-1] // 2] = 40.0
            return logits

    mask = _predicted(_outliner(Left(), tta=["mirror", "brighter"]), _square()).mask
    assert mask is not None
    assert mask[:, :8] == pytest.approx(2 / 3)  # the image and its brighter view say so, the mirrored one does not
    assert mask[:, 8:] == pytest.approx(1 / 3)


def test_what_a_zoom_does_not_show_counts_in_the_other_views_alone() -> None:
    class Half(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return torch.zeros_like(image)

    mask = _predicted(_outliner(Half(), tta=["zoom_in", "zoom_out"]), _square()).mask
    assert mask is not None
    assert mask == pytest.approx(0.5, abs=1e-6)  # up to the edge, which the magnified view has lost


def test_a_zoom_keeps_the_middle_and_fills_with_black() -> None:
    image = -torch.ones(1, 1, 16, 16)
    image[..., 4:12, 4:12] = 1.0
    small = VIEWS["zoom_out"].image(image)
    assert small.sum() < image.sum()
    assert small[..., 0, 0].item() == -1.0
    assert small[..., 7:9, 7:9].unique().tolist() == [1.0]
    outline = (image > 0).float()
    for name in ("zoom_in", "zoom_out"):
        back = VIEWS[name].back(VIEWS[name].outline(outline))
        assert ((back >= 0.5) == (outline >= 0.5)).float().mean() > 0.95
        assert back.sum().item() == pytest.approx(64.0, rel=0.02)  # the box has its old size again
    assert torch.equal(VIEWS["zoom_out"].outline(torch.zeros_like(image)), torch.zeros_like(image))


def test_gamma_moves_the_mid_tones_and_leaves_black_and_white() -> None:
    image = torch.tensor([-1.0, 0.0, 1.0]).view(1, 1, 1, 3)
    assert VIEWS["darker"].image(image).flatten().tolist() == pytest.approx([-1.0, 2 * 0.5**1.25 - 1, 1.0])
    assert VIEWS["brighter"].image(image).flatten().tolist() == pytest.approx([-1.0, 2 * 0.5**0.8 - 1, 1.0])
    assert torch.equal(VIEWS["darker"].image(torch.zeros(1, 1, 2, 2)), torch.zeros(1, 1, 2, 2))


def test_a_guide_is_mirrored_with_its_image() -> None:
    class Where(nn.Module):
        """Says 0 where the outline lies on the bright side of the image, else 1."""

        def forward(self, image: Tensor, guide: Tensor) -> Tensor:
            bright = (image * guide).sum((1, 2, 3)) > 0
            return torch.where(bright[:, None], torch.tensor([[40.0, -40.0]]), torch.tensor([[-40.0, 40.0]]))

    batch = _square()
    batch["image"] = torch.cat([torch.ones(1, 1, 16, 8), -torch.ones(1, 1, 16, 8)], dim=-1)
    batch["guide"] = (batch["image"] > 0).float()
    task = RoiClassificationTask(
        Where(), CrossEntropyLoss(), _optimizer(), ConstantSchedule(), 2, monitor="val/auroc", mode="max", tta=list(VIEWS)
    )
    prediction = _predicted(task, batch)
    assert prediction.classes is not None
    assert prediction.classes == pytest.approx([1.0, 0.0])
    assert prediction.guide_is_empty is False


def test_a_view_that_is_named_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        _outliner(tta=["mirror", "mirror"])


# The trainer's options, and the search for a learning rate


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = compose("train", ["trainer=gpu"])["trainer"]
    with pytest.raises(ValueError, match="no CUDA GPU"):
        choose(config["accelerator"], "auto", "auto", "auto")
    assert choose(compose("train", ["trainer=cpu"])["trainer"]["accelerator"], "auto", "auto", "auto").device == "cpu"


def test_few_cases_are_spread_over_the_labels() -> None:
    cases = [Case(str(number), Path(f"{number}.png"), label="ab"[number % 2]) for number in range(10)]
    assert [case.label for case in spread(cases, 4)] == ["a", "a", "b", "b"]
    assert len({case.case_id for case in spread(cases, 4)}) == 4
    assert {case.case_id for case in spread(cases, 99)} == {case.case_id for case in cases}


def test_the_suggested_rate_is_where_the_loss_falls_fastest() -> None:
    rates = np.geomspace(1e-6, 1.0, 61)
    falls_at = 1 / (1 + np.exp(4 * (np.log10(rates) + 3)))  # by one, around 1e-3
    rises = 10 * np.clip(np.log10(rates) + 1, 0, None)
    assert suggest(rates, falls_at + rises) == pytest.approx(1e-3, rel=1e-6)
    assert suggest(rates, rates) is None
    assert suggest(rates[:0], rates[:0]) is None


def test_a_sweep_ends_where_the_loss_runs_away_and_keeps_the_ratio_of_the_layers(tmp_path: Path) -> None:
    task, sweep = _resnet(layer_decay=0.5), RateSweep(1e-4, 1e4, steps=40)
    seen = []

    class Watch(Callback):
        def on_before_optimizer_step(self, trainer: Trainer, pl_module: Any, optimizer: Any) -> None:
            seen.append([group["lr"] for group in optimizer.param_groups])

    trainer = _trainer(tmp_path, max_epochs=-1, max_steps=40, callbacks=[sweep, Watch()], accumulate_grad_batches=2)
    with contextlib.suppress(NonFiniteLossError):
        trainer.fit(task, _loader([_batch(6, seed, side=32) for seed in range(4)]))
    assert 10 <= len(sweep.rates) < 40
    assert [rates[0] for rates in seen[: len(sweep.rates)]] == pytest.approx(sweep.rates)
    assert sweep.rates[1] / sweep.rates[0] == pytest.approx(1e8 ** (1 / 39))
    assert seen[3][-1] == pytest.approx(seen[3][0] / 32)
    with pytest.raises(ValueError, match="lowest"):
        RateSweep(1.0, 0.1, 40)


SMALL = ["data.source.n_images=60", "preprocess.size=32", "model.decoder_channels=[32,16,8,8,8]", "logger=none", "batch_size=8"]


@pytest.mark.slow
def test_overfitting_validates_on_its_few_training_cases_and_says_that_it_means_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    overrides = [
        "trainer=overfit",
        "overfit=8",
        "trainer.max_epochs=40",
        "limit_test=2",
        "optimizer.lr=5e-3",
        "callbacks.pictures.every_n_epochs=99",
    ]
    config = compose("train", [*SMALL, *overrides, f"output={tmp_path}"], folder)
    metrics = train(config, folder)
    assert metrics["data"]["n_cases"]["train"] == metrics["data"]["n_cases"]["valid"] == 8
    assert any("overfit=8" in warning and "mean nothing" in warning for warning in metrics["warnings"])
    history = pd.read_csv(folder / "history.csv")
    assert history["val/dice"].max() > 0.7
    datamodule = build_datamodule(config, prepare_data(config), choose("cpu", "auto", "auto", "auto"))
    datamodule.setup("fit")
    samples = [datamodule.train_dataloader().dataset[epoch, 0]["image"] for epoch in range(2)]
    assert torch.equal(*samples)  # not augmented
    assert evaluate(folder, tmp_path / "again")["test"] == metrics["test"]


@pytest.mark.slow
def test_a_profile_leaves_its_table_in_the_runs_folder(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    config = compose("train", [*SMALL, "trainer=profile", "trainer.limit_train_batches=2", f"output={tmp_path}"], folder)
    metrics = train(config, folder)
    assert "run_training_batch" in (folder / "fit-profile.txt").read_text()
    assert any("mean nothing" in warning for warning in metrics["warnings"])


def test_the_search_for_a_rate_leaves_a_curve_and_no_weights(tmp_path: Path) -> None:
    folder = tmp_path / "search"
    config = compose("find_lr", [*SMALL, "finetune=gradual", "search.steps=30", f"output={tmp_path}"], folder)
    rate = find_rate(config, folder)
    table = pd.read_csv(folder / "learning_rates.csv")
    assert rate is None or rate in table["learning_rate"].to_numpy()
    assert table["learning_rate"].iloc[0] == pytest.approx(1e-6)
    assert (folder / "learning_rates.png").is_file()
    assert not list(folder.rglob("*.ckpt"))


def test_a_figure_that_an_epoch_does_not_have_is_not_the_epoch_befores(monkeypatch: pytest.MonkeyPatch) -> None:
    config = compose("train", ["model.encoder=resnet10t", "model.decoder_channels=[8,8,8]", "preprocess.size=32"])
    task = build_task(config, choose("cpu", "32-true", "contiguous", 0))
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(task, "log_dict", lambda values, **_: told.append(values))
    lesion, none = torch.ones(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)
    for mask in (none, lesion):  # an epoch without a lesion, then one without a lesion-free image
        task._metrics("train").update(lesion.long(), mask.long())
        task._log_metrics("train")
    assert told[0] == {"train/false_positive_rate": 1.0}
    assert set(told[1]) == {"train/false_positive_rate", "train/dice", "train/iou"}
    assert math.isnan(told[1]["train/false_positive_rate"])
    assert told[1]["train/dice"] == 1.0
