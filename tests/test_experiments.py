"""The recipes: each promises a row of a table, and the student study's run as they are."""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bcd.config import CONF, compose, groups
from bcd.runs.training.train import train

LESIONS, ALL = ["benign", "malignant"], ["normal", "benign", "malignant"]
THREE_MINUTES = "00:00:03:00"

# Recipe: task, model, guide, classes, time.
ROWS = {
    "busbra_quick": ("SegmentationTask", "UNet", "none", LESIONS, "00:00:07:25"),
    "busi_segmentation": ("SegmentationTask", "UNet", "none", LESIONS, THREE_MINUTES),
    "busi_classification": ("ClassificationTask", "Classifier", "none", ALL, THREE_MINUTES),
    "busi_benign_malignant": ("ClassificationTask", "Classifier", "none", LESIONS, THREE_MINUTES),
    "busi_roi": ("RoiClassificationTask", "RoiCrop", "true", LESIONS, THREE_MINUTES),
    "busbra_segmentation": ("SegmentationTask", "UNet", "none", LESIONS, THREE_MINUTES),
    "busbra_classification": ("ClassificationTask", "Classifier", "none", LESIONS, THREE_MINUTES),
    "busbra_roi": ("RoiClassificationTask", "RoiChannel", "predicted", LESIONS, THREE_MINUTES),
    "student_segmentation": ("SegmentationTask", "AttentionUNet", "none", LESIONS, None),
    "student_segmentation_leaky": ("SegmentationTask", "AttentionUNet", "none", LESIONS, None),
    "student_classification": ("ClassificationTask", "Classifier", "none", ALL, None),
    "student_classification_leaky": ("ClassificationTask", "Classifier", "none", ALL, None),
}


@cache
def _recipe(name: str) -> dict[str, Any]:
    return compose("train", [f"experiment={name}"])


def _class(node: dict[str, Any]) -> str:
    return str(node["_target_"]).rpartition(".")[2]


@pytest.mark.parametrize("name", ROWS)
def test_a_recipe_is_what_its_row_says(name: str) -> None:
    config = _recipe(name)
    found = (_class(config["task"]), _class(config["model"]), config["guide"]["train"], config["data"]["classes"])
    assert (*found, config["trainer"]["max_time"]) == ROWS[name]
    assert config["name"] == {"busi_roi": "busi_roi_crop_true"}.get(name, name)
    assert config["guide"]["test"] == config["guide"]["train"]
    assert config["data"]["name"] == name.partition("_")[0].replace("student", "busi")
    if config["trainer"]["max_time"] is not None:  # the clock ends it, and nothing else
        assert config["trainer"]["max_epochs"] == 1000
        assert config["callbacks"]["early_stopping"]["patience"] == 1000
        assert "ema" in config["callbacks"]


def test_every_recipe_is_a_row_or_one_of_those_that_measure_nothing() -> None:
    assert set(groups()["experiment"]) == {*ROWS, "quickstart", "auto"}


def test_every_recipe_that_the_readme_names_is_there() -> None:
    named = set(re.findall(r"experiment=(\w+)", (CONF.parent / "README.md").read_text(encoding="utf-8")))
    assert named
    assert named <= set(groups()["experiment"])


@pytest.mark.parametrize("name", [name for name in ROWS if name.startswith("busi_")])
def test_what_classifies_starts_from_imagenet_and_what_outlines_from_nothing(name: str) -> None:
    assert _recipe(name)["pretrained"] is (name != "busi_segmentation")


@pytest.mark.parametrize("guide", ["true", "predicted", "none"])
@pytest.mark.parametrize("model", ["Crop", "Channel", "Pool"])
def test_one_recipe_gives_each_cell_of_the_table_by_mask_source(model: str, guide: str, tmp_path: Path) -> None:
    config = compose("train", ["experiment=busi_roi", f"model=roi_{model.lower()}", f"guide={guide}", f"output={tmp_path}"])
    assert (_class(config["model"]), config["guide"]["train"]) == (f"Roi{model}", guide)
    assert config["name"] == f"busi_roi_{model.lower()}_{guide}"
    assert config["guide"]["masks"] == f"{tmp_path}/runs/busi_seg_f*/masks"


def test_a_folder_of_masks_that_is_given_is_taken() -> None:
    assert compose("train", ["experiment=busi_roi", "guide=predicted", "guide.masks=mine"])["guide"]["masks"] == "mine"


def test_a_recipe_gives_way_to_the_command_line() -> None:
    config = compose("train", ["experiment=busi_roi", "model=roi_pool", "guide=none", "trainer.max_time=null"])
    assert (_class(config["model"]), config["guide"]["train"], config["trainer"]["max_time"]) == ("RoiPool", "none", None)


def test_the_student_study_is_as_published() -> None:
    config = _recipe("student_segmentation")
    assert config["model"]["channels"] == [64, 128, 256, 512, 1024]
    assert (config["preprocess"]["size"], _class(config["loss"])) == (64, "BCELoss")
    assert (_class(config["optimizer"]), config["optimizer"]["lr"]) == ("SGD", 0.1)
    assert (_class(config["scheduler"]), config["scheduler"]["warmup"], config["trainer"]["max_epochs"]) == (
        "CosineSchedule",
        0,
        50,
    )
    classifier = _recipe("student_classification")
    assert (classifier["model"]["backbone"], _class(classifier["optimizer"])) == ("resnet18", "SGD")


@pytest.mark.parametrize("name", ["student_segmentation", "student_classification"])
def test_the_leaky_recipe_differs_in_its_split_alone(name: str) -> None:
    honest, leaky = _recipe(name), _recipe(f"{name}_leaky")
    assert {key for key in honest | leaky if honest[key] != leaky[key]} == {"data", "name"}
    changed = {key for key in honest["data"] if honest["data"][key] != leaky["data"][key]}
    assert changed == {"split", "split_by", "allow_leak"}
    assert (leaky["data"]["split"], leaky["data"]["split_by"], leaky["data"]["allow_leak"]) == (None, "image", True)
    assert (honest["data"]["split_by"], honest["data"]["allow_leak"]) == ("group", False)


Run = Callable[..., tuple[Path, dict[str, Any]]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run a recipe for two epochs on a few small phantoms with near-copies."""
    output = tmp_path_factory.mktemp("outputs")
    phantoms = ["data=phantom", "data.source.n_images=40", "data.source.near_copies=12", "preprocess.size=32"]
    short = ["trainer.max_epochs=2", "logger=none", "batch_size=8", f"output={output}"]

    def _run(name: str, *overrides: str) -> tuple[Path, dict[str, Any]]:
        folder = output / "runs" / name
        return folder, train(compose("train", [f"experiment={name}", *phantoms, *short, *overrides], folder), folder)

    return _run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "smaller"),
    [("student_segmentation", "model.channels=[4,8,16]"), ("student_classification", "model.backbone=resnet10t")],
)
def test_the_student_study_runs_and_its_leaking_split_is_named(run: Run, name: str, smaller: str) -> None:
    _, honest = run(name, smaller)
    assert honest["training"]["epochs"] == 2
    assert honest["data"]["crossings"] == []
    assert not any("both sides of the split" in warning for warning in honest["warnings"])
    folder, leaky = run(f"{name}_leaky", smaller)
    assert leaky["training"]["epochs"] == 2
    crossings = leaky["data"]["crossings"]
    assert any(f"{len(crossings)} pairs of one group are on both sides of the split" in line for line in leaky["warnings"])
    split = pd.read_csv(folder / "split.csv").set_index("case_id")
    assert crossings
    for first, second in crossings:
        assert split.loc[first, "group"] == split.loc[second, "group"]
        assert split.loc[first, "fold"] != split.loc[second, "fold"]
