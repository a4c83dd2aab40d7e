"""The command line: what it accepts, what it refuses, and how fast it answers for help."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import run_main, run_script

from bcd.config import CONF, ConfigError, command, compose, groups, help_text

SCRIPTS = sorted(path.name for path in (CONF.parent / "scripts").glob("*.py"))


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
    with pytest.raises(ConfigError, match="input must be given"):
        compose("predict")


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
    done = run_script(tmp_path, "train", "model=unett", f"output={tmp_path}")
    assert done.returncode == 2
    assert done.stderr.startswith("error: model=unett")
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_options_are_explained_a_line_each(tmp_path: Path) -> None:
    done = run_script(tmp_path, "train", "--options")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "model=  (default: unet)" in lines
    assert "  unet                    U-Net with any smp or timm encoder" in done.stdout
    assert "  fold: 1                 # test fold, from 1" in lines
    for group, options in groups().items():
        assert f"{group}=" in done.stdout
        assert all(any(line.startswith(f"  {option} ") for line in lines) for option in options)


def test_the_config_that_would_run_is_shown_even_where_it_could_not(tmp_path: Path) -> None:
    done = run_script(tmp_path, "train", "--cfg", "job", "data=busi", "data.root=/no/where", "model.encoder=resnet34")
    assert done.returncode == 0, done.stderr
    shown = yaml.safe_load(done.stdout)
    assert (shown["data"]["root"], shown["model"]["encoder"], shown["fold"]) == ("/no/where", "resnet34", 1)


_DRIVER = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as end:
    heavy = {"torch", "lightning", "pandas", "timm", "albumentations", "cv2", "numpy"} & set(sys.modules)
    assert not heavy, heavy
    raise
"""


@pytest.mark.parametrize(
    ("script", "arguments", "hint"),
    [
        ("train", ["--options"], ""),
        ("train", ["modle=unet"], "'model'"),
        ("train", ["model=unett"], "'unet'"),
        ("train", ["trainer.max_epoch=3"], "'max_epochs'"),
        ("train", ["-m", "model=unet,resnet18", "model.encoder=resnet34"], "no key 'encoder'"),
        ("train", ["-m", "seed=1", "sweep.n_trial=3"], "'n_trials'"),
        ("train", ["optimizer.lr=abc"], "optimizer.lr=abc must be a number above 0."),
        ("evaluate", ["run=/no/run"], "run=/no/run: there is no such folder."),
        ("evaluate", ["run=began"], "holds neither best.ckpt nor last.ckpt"),
        ("predict", ["run=began", "input=.", "output=x"], "holds neither best.ckpt nor last.ckpt"),
        ("predict", ["run=began", "input=/no/image.png", "output=x"], "input=/no/image.png: there is no such file or folder."),
        ("serve_api", ["limits.memory_mb=-1"], "limits.memory_mb=-1"),
    ],
)
def test_options_misspelt_names_and_what_needs_no_class_are_answered_before_anything_heavy_is_imported(
    script: str, arguments: list[str], hint: str, tmp_path: Path
) -> None:
    (tmp_path / "began").mkdir()
    (tmp_path / "began" / "config.yaml").touch()
    path = str(CONF.parent / "scripts" / f"{script}.py")
    done = subprocess.run(
        [sys.executable, "-c", _DRIVER, path, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert hint in done.stderr
    assert done.returncode == 0 if arguments == ["--options"] else done.stderr.startswith("error: ")
    assert [entry.name for entry in tmp_path.iterdir()] == ["began"]


@pytest.mark.parametrize(
    ("script", "arguments", "key"),
    [
        ("train", ["optimizer.lr=abc", "fold=6"], "optimizer.lr=abc"),
        ("train", ["resume=/no/run"], "resume=/no/run"),
        ("prepare_data", ["data=busi", "data.root=/no/busi"], "doi:10.1016/j.dib.2019.104863"),
    ],
)
def test_a_wrong_value_ends_before_the_runs_folder_is_made(script: str, arguments: list[str], key: str, tmp_path: Path) -> None:
    done = run_script(tmp_path, script, *arguments)
    assert done.stderr.startswith("error: ")
    assert key in done.stderr
    assert done.returncode == 2
    assert list(tmp_path.iterdir()) == []


def _command(body: Callable[[dict[str, Any], Path], object], folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a small command of our own over conf/find_lr.yaml."""
    return run_main(command("find_lr")(body), folder, "find_lr.py", *arguments)


def _raise(error: BaseException) -> Callable[[dict[str, Any], Path], object]:
    def body(config: dict[str, Any], folder: Path) -> None:
        raise error

    return body


NEVER = _raise(AssertionError("never begun"))


def test_an_interrupted_command_says_how_to_go_on(tmp_path: Path) -> None:
    done = _command(_raise(KeyboardInterrupt("The run is saved; go on with: python scripts/train.py resume=x")), tmp_path)
    assert done.returncode == 130
    assert done.stderr == "Interrupted. The run is saved; go on with: python scripts/train.py resume=x\n"


def test_an_error_that_an_interrupt_brought_about_ends_as_the_interrupt(tmp_path: Path) -> None:
    def body(config: dict[str, Any], folder: Path) -> None:
        try:
            raise KeyboardInterrupt
        finally:
            raise ValueError("cut off")

    done = _command(body, tmp_path)
    assert (done.returncode, done.stderr) == (130, "Interrupted.\n")


def test_a_terminated_command_keeps_its_exit_status(tmp_path: Path) -> None:
    assert _command(_raise(SystemExit(143)), tmp_path).returncode == 143


@pytest.mark.parametrize("arguments", [["hydra.run.dir=occupied/run"], ["output=occupied"], ["-m", "output=occupied", "fold=1,2"]])
def test_a_folder_that_cannot_be_made_ends_in_a_sentence(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "occupied").touch()
    done = _command(NEVER, tmp_path, *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("error: No folder for the run can be made, or written to: [Errno 20] Not a directory:")
    assert done.stderr.count("\n") == 1


def test_a_log_that_cannot_be_written_ends_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "run" / "find_lr.log").mkdir(parents=True)
    done = _command(NEVER, tmp_path, "hydra.run.dir=run")
    assert done.returncode == 1
    assert done.stderr.startswith("error: No folder for the run can be made, or written to: [Errno 21] Is a directory:")


def test_an_error_in_a_job_of_a_sweep_is_a_sentence_too(tmp_path: Path) -> None:
    done = _command(_raise(ValueError("The data are wrong.")), tmp_path, "-m", "fold=1,2", "output=out")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "error: The data are wrong."
    assert "Traceback" not in done.stderr


def test_a_run_that_goes_on_writes_nothing_new_into_hydras_folder(tmp_path: Path) -> None:
    run = tmp_path / "my run (1)"
    run.mkdir()
    (run / "config.yaml").touch()
    done = _command(lambda config, folder: sys.stdout.write(f"{folder} {config['resume']}\n"), tmp_path, f"resume={run}")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{run} {run}\n"
    assert sorted(path.name for path in run.iterdir()) == ["config.yaml", "find_lr.log"]
    assert [path.name for path in tmp_path.iterdir()] == ["my run (1)"]


def test_prepare_data_shows_what_a_data_set_holds(tmp_path: Path) -> None:
    done = run_script(tmp_path, "prepare_data", "data.source.n_images=20", f"output={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert "malignant" in done.stdout
    folder = next((tmp_path / "prepared").iterdir())
    assert {"manifest.csv", "groups.csv", "cache-fit128"} <= {path.name for path in folder.iterdir()}
