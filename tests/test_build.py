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
    with pytest.raises(ValueError, match=r"loss\.smooth=-1"):
        build({"_target_": "bcd.losses.dice.DiceLoss", "smooth": -1})
