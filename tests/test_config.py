"""The command line: what it accepts, what it refuses, and how fast it answers for help."""

import subprocess
import sys
from pathlib import Path

import pytest

from bcd.config import CONF, ConfigError, compose, groups, help_text

SCRIPTS = sorted(path.name for path in (CONF.parent / "scripts").glob("*.py"))


def _script(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(CONF.parent / "scripts" / name), *arguments], capture_output=True, text=True, check=False
    )


def test_a_model_brings_its_task_and_a_task_its_loss() -> None:
    assert compose("train", ["model=unet"])["loss"]["_target_"].endswith("DiceBCELoss")
    assert compose("train", ["model=resnet18"])["task"]["_target_"].endswith("ClassificationTask")
    assert compose("train", ["model=resnet18"])["loss"]["_target_"].endswith("CrossEntropyLoss")
    assert compose("train", ["model=resnet18"])["preprocess"]["size"] == 224
    roi = compose("train", ["model=roi_crop"])
    assert roi["task"]["_target_"].endswith("RoiClassificationTask")
    assert roi["guide"]["train"] == "true"
    assert roi["data"]["classes"] == ["benign", "malignant"]


def test_the_command_line_overrides_what_an_option_brings() -> None:
    assert compose("train", ["model=unet", "loss=bce"])["loss"]["_target_"].endswith("BCELoss")
    assert compose("train", ["model=resnet18", "preprocess=fit_128"])["preprocess"]["size"] == 128
    assert compose("train", ["model=resnet18", "preprocess.size=96"])["preprocess"]["size"] == 96
    assert compose("train", ["model=roi_crop", "guide=none"])["guide"]["train"] == "none"
    assert compose("train", ["model=resnet18", "data.classes=[benign,malignant]"])["model"]["num_classes"] == 2


def test_guide_true_is_an_option_not_a_boolean() -> None:
    assert compose("train", ["guide=true"])["guide"] == {"train": "true", "test": "true", "masks": None, "allow_normals": False}
    assert compose("train", ["guide=true", "guide.test=none"])["guide"]["test"] == "none"


def test_several_loggers_at_once() -> None:
    assert list(compose("train", ["logger=[csv,wandb]"])["logger"]) == ["csv", "wandb"]
    assert compose("train", ["logger=none"])["logger"] == {}


def test_the_monitored_figure_is_written_once() -> None:
    config = compose("train", ["task.monitor=val/loss", "task.mode=min"])
    for callback in ("checkpoint", "early_stopping"):
        assert config["callbacks"][callback]["monitor"] == "val/loss"
        assert config["callbacks"][callback]["mode"] == "min"


@pytest.mark.parametrize(
    ("argument", "hint"),
    [
        ("modl=unet", "Did you mean 'model'"),
        ("model=unett", "Did you mean 'unet'"),
        ("loss=dice_bse", "Did you mean 'dice_bce'"),
        ("model.encodr=resnet18", "Did you mean 'encoder'"),
        ("trainer.max_epoch=3", "Did you mean 'max_epochs'"),
        ("+trainer.max_epoch=3", "Did you mean 'max_epochs'"),
        ("++trainer.max_epoch=3", "Did you mean 'max_epochs'"),
        ("logger=[csv,tensorbord]", "Did you mean 'tensorboard'"),
        ("model=unet,unett", "Did you mean 'unet'"),
        ("unet", "group=option"),
        ("model=", "no such option"),
        ("fold=[", "cannot be read"),
    ],
)
def test_a_misspelt_argument_is_refused_with_the_nearest_valid_one(argument: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=hint.replace("[", r"\[")):
        compose("train", [argument])


def test_an_open_dict_takes_new_keys() -> None:
    assert compose("train", ["model=resnet18", "+model.kwargs.drop_path_rate=0.1"])["model"]["kwargs"] == {"drop_path_rate": 0.1}
    assert compose("train", ["+data.relabel.normal=benign"])["data"]["relabel"] == {"normal": "benign"}


@pytest.mark.parametrize("path", ["/d/BUSI (1)", "/d/O'Brien", "/d/münchen", "/d/a&b", "/d/[x]", "/d/a b", "/d/a=b"])
def test_any_path_may_be_typed(path: str) -> None:
    assert compose("train", [f"data.root={path}"])["data"]["root"] == path
    assert compose("predict", ["run=r", "output=o", f"input={path}/benign (1).png"])["input"] == f"{path}/benign (1).png"


def test_a_value_that_must_be_given_is_asked_for() -> None:
    with pytest.raises(ConfigError, match="run must be given"):
        compose("evaluate")


def test_every_option_begins_with_a_line_that_explains_it() -> None:
    for group, options in groups().items():
        for option in options:
            lines = (CONF / group / f"{option}.yaml").read_text().splitlines()
            first = next(line for line in lines if not line.startswith("# @package"))
            assert first.startswith("# "), f"{group}/{option}.yaml"


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_needs_no_heavy_import(name: str) -> None:
    heavy = "import sys; sys.argv = ['x', '--help']; import runpy; runpy.run_path(sys.orig_argv[-1], run_name='__main__');"
    heavy += "assert not {'torch', 'hydra', 'pandas', 'lightning'} & set(sys.modules), sorted(sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", heavy, str(CONF.parent / "scripts" / name)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert name.removesuffix(".py") in done.stdout


def test_help_lists_every_option() -> None:
    text = help_text("train", "")
    for group in ("model", "data", "loss", "guide", "trainer"):
        for option in groups()[group]:
            assert option in text


def test_a_mistake_on_the_command_line_is_one_sentence_and_no_traceback(tmp_path: Path) -> None:
    done = _script("train.py", "model=unett", f"output={tmp_path}")
    assert done.returncode == 2
    assert done.stderr.startswith("error: model=unett")
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_absent_data_are_answered_with_where_to_get_them(tmp_path: Path) -> None:
    done = _script("prepare_data.py", "data=busi", f"data.root={tmp_path / 'absent'}", f"output={tmp_path}")
    assert done.returncode == 1
    assert "doi" in done.stderr
    assert "data.root=" in done.stderr
    assert "Traceback" not in done.stderr


def test_prepare_data_shows_what_a_data_set_holds(tmp_path: Path) -> None:
    done = _script("prepare_data.py", "data.source.n_images=20", f"output={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert "malignant" in done.stdout
    folder = next((tmp_path / "prepared").iterdir())
    assert {"manifest.csv", "groups.csv", "cache-fit128"} <= {path.name for path in folder.iterdir()}
