import math
from typing import Any

import pytest

from bcd.config.build import UntrustedTargetError, build
from bcd.losses.dice import DiceBCELoss


def test_a_config_node_becomes_its_object() -> None:
    loss = build({"_target_": "bcd.losses.dice.DiceBCELoss", "dice_weight": 0.0, "bce_weight": 1.0})
    assert isinstance(loss, DiceBCELoss)
    assert loss.dice_weight == 0.0


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "torch.hub.load",
        "torch.load",
        "subprocess.Popen",
        "bcd.models.segmentation.smp.Unet",
        "bcd.models.roi.torch",
        "bcd.models.pretrained.load_weights",
        "bcd.runs.training.train.train",
        "bcd.losses.dice.nn.Module",
        "bcd.losses",
        "",
        7,
    ],
)
def test_a_target_that_is_no_trusted_constructor_is_refused(target: Any) -> None:
    with pytest.raises(UntrustedTargetError):
        build({"_target_": target})


def test_a_nested_target_is_checked_too() -> None:
    with pytest.raises(UntrustedTargetError, match=r"os\.system"):
        build({"_target_": "bcd.losses.dice.DiceLoss", "smooth": {"_target_": "os.system", "command": "false"}})
    with pytest.raises(UntrustedTargetError, match=r"os\.system"):
        build({"_target_": "bcd.losses.dice.DiceLoss", "smooth": [1, {"_target_": "os.system", "command": "false"}]})


def test_hydra_keys_that_change_how_things_are_built_are_refused() -> None:
    with pytest.raises(UntrustedTargetError, match="_args_"):
        build({"_target_": "bcd.losses.dice.DiceLoss", "_args_": [1.0]})


def test_a_checkpoint_may_name_less_than_a_config() -> None:
    node = {"_target_": "lightning.pytorch.loggers.CSVLogger", "save_dir": "x"}
    with pytest.raises(UntrustedTargetError, match="a checkpoint may not"):
        build(node, from_checkpoint=True)
    with pytest.raises(UntrustedTargetError, match="a checkpoint may not"):
        build({"_target_": "bcd.data.sources.busi.BUSI", "root": "x"}, from_checkpoint=True)


def test_a_config_may_extend_the_list() -> None:
    counter = build({"_target_": "collections.Counter", "benign": 2}, trusted=["collections.Counter"])
    assert counter["benign"] == 2


def test_an_unknown_argument_is_named_with_the_nearest_valid_one() -> None:
    with pytest.raises(ValueError, match="Did you mean 'smooth'"):
        build({"_target_": "bcd.losses.dice.DiceLoss", "smoth": 1.0})


def test_the_constructors_own_error_comes_through() -> None:
    with pytest.raises(ValueError, match="both 0"):
        build({"_target_": "bcd.losses.dice.DiceBCELoss", "dice_weight": 0.0, "bce_weight": 0.0})


OUT_OF_RANGE: dict[str, dict[str, Any]] = {
    "bcd.losses.boundary.BoundaryLoss": {"region_weight": 0.0, "boundary_weight": -1.0},
    "bcd.losses.cross_entropy.LabelSmoothingLoss": {"smoothing": 1.0},
    "bcd.losses.cross_entropy.WeightedCrossEntropyLoss": {"weights": [1.0, 0.0], "num_classes": 0},
    "bcd.losses.dice.DiceBCELoss": {"dice_weight": -1.0, "bce_weight": math.inf, "smooth": 0.0},
    "bcd.losses.focal.FocalLoss": {"gamma": -1.0, "alpha": 1.0},
    "bcd.losses.focal.FocalCrossEntropyLoss": {"gamma": math.nan},
    "bcd.losses.jaccard.JaccardLoss": {"smooth": -1.0},
    "bcd.losses.lovasz.LovaszLoss": {"smooth": 0.0},
    "bcd.losses.tversky.FocalTverskyLoss": {"alpha": 0.0, "beta": -0.7, "gamma": 0.75},
    "bcd.tasks.schedules.CosineSchedule": {"warmup": 1.0},
    "bcd.tasks.schedules.PolynomialSchedule": {"power": 0.0, "warmup": -0.1},
    "bcd.tasks.schedules.StepSchedule": {"at": [0.5, 30], "gamma": 1.0},
    "bcd.tasks.schedules.OneCycleSchedule": {"warmup": 0.0, "start": 0.0, "final": 1.1},
    "bcd.tasks.schedules.PlateauSchedule": {"mode": "best", "gamma": 1, "patience": -1, "threshold": -1, "lowest": 1.0},
    "bcd.tasks.mixing.Mixing": {"mixup": -1.0, "cutmix": -1.0, "probability": 0.0},
    "bcd.tasks.fine_tuning.FineTuning": {"frozen": "encoder", "until": 0.0, "gradual": 1, "layer_decay": 1.5},
    "bcd.tasks.multitask.MultitaskTask": {"segmentation_weight": -1.0, "threshold": 1.0, "num_classes": 0, "tta": ["miror"]},
    "bcd.models.classification.Classifier": {"backbone": "resnet81", "num_classes": 0, "drop_rate": 1.0, "pretrained": None},
    "bcd.models.roi.RoiCrop": {"margin": -0.1, "crop_size": 1 << 20},
    "bcd.models.attention_unet.AttentionUNet": {"channels": [8]},
    "bcd.models.segmentation.UNet": {"encoder": "resnet81", "decoder_channels": [32, 16]},
    "bcd.models.segmentation.UNetScSE": {"decoder_channels": [32, 16, 8]},
    "bcd.models.segmentation.DeepLabV3Plus": {"atrous_rates": [12, 24], "channels": 0, "dropout": 1.0},
    "bcd.preprocess.Preprocess": {"size": 8, "std": 0.0},
    "bcd.data.sources.phantom.Phantom": {"n_images": 0, "seed": -1, "views": 0, "size": [20, 300]},
    "bcd.data.sources.table.Table": {"delimiter": "||", "mask_delimiter": ""},
    "bcd.data.guides.GuidePolicy": {"train": "maybe", "test": "predicted_perturbed", "strength": 1.5, "erode": 0.6, "drop": -1},
    "bcd.runs.training.callbacks.ExponentialAverage": {"decay": 1.0},
    "bcd.runs.training.callbacks.ProgressiveSize": {"size": 8, "until": 1.5},
    "bcd.runs.training.callbacks.ValidationPictures": {"n_cases": 0, "every_n_epochs": 0},
    "bcd.runs.training.sharing.Sharded": {"shard_from": 0},
    "torch.optim.AdamW": {"lr": 0, "weight_decay": -1},
    "torch.optim.SGD": {"lr": "fast", "momentum": 1.0},
}


@pytest.mark.parametrize("target", OUT_OF_RANGE)
def test_every_value_out_of_its_range_is_named(target: str) -> None:
    with pytest.raises(ValueError, match="must be") as refused:
        build({"_target_": target, **OUT_OF_RANGE[target]})
    assert [name for name in OUT_OF_RANGE[target] if f".{name}=" not in str(refused.value)] == []


def test_a_description_from_a_file_is_held_to_the_same_ranges() -> None:
    for node in ({"_target_": "bcd.preprocess.Preprocess", "size": 1 << 30}, {"_target_": "torch.optim.SGD", "lr": -1.0}):
        with pytest.raises(ValueError, match=r"1073741824|-1\.0"):
            build(node, from_checkpoint=True)
