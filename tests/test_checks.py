"""Values, ranges, names and combinations that are refused before any data are read, and what must pass."""

from pathlib import Path

import pytest
import yaml

from bcd.config import CONF, ConfigError, compose, groups
from bcd.config.arguments import read
from bcd.config.build import build
from bcd.config.composing import check
from bcd.config.schema import of_command
from bcd.tasks.base import BaseTask


def _refusal(*arguments: str, command: str = "train") -> str:
    with pytest.raises(ConfigError) as refused:
        check(read(arguments, command))
    return str(refused.value)


# Whole command lines.


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["optimizer.lr=abc"], "optimizer.lr=abc must be a number"),
        (["optimizer.lr=0"], "optimizer.lr=0 must be a number above 0."),
        (["trainer.max_epochs=ten"], "trainer.max_epochs=ten must be a whole number"),
        (["++trainer.max_epochs=ten"], "trainer.max_epochs=ten must be a whole number"),
        (["+optimizer.betas=3"], "Write optimizer.betas=[3]."),
        (["trainer.precision=bf17-mixed"], "Did you mean 'bf16-mixed'"),
        (["trainer.max_time=5min"], "must be days:hours:minutes:seconds"),
        (["batch_size=many"], "batch_size=many must be a whole number from 1."),
        (["fold=one"], "fold=one must be a whole number from 1, or null."),
        (["seed=true"], "seed=true must be a whole number from 0."),
        (["data.lesions_only=maybe"], "data.lesions_only=maybe must be true or false."),
        (["memory_format=chanels_last"], "Did you mean 'channels_last'"),
        (["task.mode=maximum"], "Did you mean 'max'"),
        (["task.monitor=val/dise"], "Did you mean 'val/dice'"),
        (["task.threshold=1.5"], "task.threshold=1.5 must be a number above 0 and below 1."),
        (["model.encoder=resnet81"], "Did you mean 'resnet18'"),
        (["preprocess.size=8"], "preprocess.size=8 must be a whole number from 16 to 4096."),
        (["trusted=mylab"], "Write trusted=[mylab]."),
        (["pretrained=/no/such.pth"], "pretrained=/no/such.pth: there is no such file."),
        (["model._target_=os.system"], "not a trusted constructor"),
        (["task._target_=bcd.tasks.segmentation.SegmentationTsk"], "Did you mean 'SegmentationTask'"),
        (["finetune=gradual", "finetune.until=1.0"], "needs finetune.until below 1"),
        (["model=resnet18", "loss=dice"], "DiceLoss is for segmentation, and ClassificationTask needs one for classification"),
        (["model=multitask", "loss@task.classification_loss=dice"], "task.classification_loss: DiceLoss is for segmentation"),
        (["model=resnet18", "data.lesions_only=true"], "leaves no case of normal"),
        (["model=resnet18", "data.classes=[benign]"], "two classes"),
        (["data.classes=[normal]"], "normal has none: data.classes=[benign,malignant]"),
        (["data.classes=[benign,malignat]"], "Did you mean 'malignant'"),
        (["data.classes=[benign,benign]"], "names 'benign' twice"),
        (["+data.relabel.normall=benign"], "Did you mean 'normal'"),
        (["guide=true"], "SegmentationTask takes no guide"),
        (["model=roi_crop", "guide.test=tru"], "Did you mean 'true'"),
        (["model=roi_crop", "data.classes=[normal,benign]"], "guide=true with normal"),
        (["model=roi_crop", "guide=predicted"], "guide=predicted needs guide.masks="),
        (["model=roi_crop", "guide=predicted", "guide.masks=/no/where"], "guide.masks=/no/where: there is no such folder."),
        (["mixing=mixup"], "Use mixing=none."),
        (["fold=6"], "fold=6: there are folds 1 to 5."),
        (["data=busbra", "data.root=/", "fold=11"], "has folds 1 to 5."),
        (["data.split=/no/split.csv"], "data.split=/no/split.csv: there is no such file."),
        (["data=busi", "data.root=/no/busi"], "doi:10.1016/j.dib.2019.104863"),
        (["hydra.run.dirr=x"], "Did you mean 'dir'"),
        (["trainer.barebones=true"], "+trainer.barebones=true"),
        (["+trainer.max_epoch=3"], "Did you mean 'max_epochs'"),
        (["model=resnet18", "model.kwargs={img_size: 96}"], "+model.kwargs.img_size=..."),
    ],
)
def test_what_cannot_work_is_refused(arguments: list[str], said: str) -> None:
    assert said in _refusal(*arguments)


@pytest.mark.parametrize(
    "key",
    [
        "trainer.enable_progress_bar=false",
        "+trainer.enable_checkpointing=false",
        "trainer.limit_val_batches=0",
        "trainer.limit_val_batches=-1",
        "trainer.limit_train_batches=0",
        "trainer.limit_train_batches=1.5",
        "trainer.val_check_interval=0",
        "trainer.val_check_interval=1.5",
        "trainer.check_val_every_n_epoch=31",
        "trainer.max_epochs=0",
        "trainer.max_epochs=-2",
        "trainer.max_steps=0",
        "trainer.accelerator=tpuu",
        "trainer.devices=0",
        "trainer.devices=99",
        "trainer.strategy=dpp",
        "trainer.accumulate_grad_batches=0",
        "trainer.log_every_n_steps=0",
        "trainer.num_sanity_val_steps=-2",
        "+trainer.gradient_clip_algorithm=median",
        "+trainer.overfit_batches=0.2",
        "+trainer.fast_dev_run=true",
        "callbacks.early_stopping.monitor=val/dise",
        "callbacks.checkpoint.monitor=auroc",
        "callbacks.early_stopping.patience=0",
        "callbacks.checkpoint.mode=best",
    ],
)
def test_what_lightning_would_refuse_names_its_key_before_data_are_read(key: str) -> None:
    assert key.lstrip("+").partition("=")[0] in _refusal(key).splitlines()[0]


@pytest.mark.parametrize(
    "arguments",
    [
        ["data.lesions_only=true"],
        ["+optimizer.betas=[0.9,0.99]", "+trainer.benchmark=true", "trainer.precision=32", "trainer.gradient_clip_val=null"],
        ["model=resnet18", "+data.relabel.normal=benign", "data.classes=[benign,malignant]", "data.lesions_only=true"],
        ["model=roi_crop", "data.classes=[normal,benign]", "guide=none"],
        ["task.monitor=val/loss", "task.mode=min", "name=2024", "trainer.max_time='00:00:07:30'"],
        ["model=resnet18", "model.backbone=resnet10t.c3_in1k", "+model.kwargs.img_size=96"],
        ["experiment=auto", "batch_size=4"],
        ["~callbacks.pictures"],
    ],
)
def test_what_can_work_passes(arguments: list[str]) -> None:
    check(read(arguments, "train"))


def test_several_mistakes_are_told_together() -> None:
    assert _refusal("batch_size=many", "fold=one", "optimizer.lr=abc").splitlines() == [
        "3 errors:",
        "  - fold=one must be a whole number from 1, or null.",
        "  - batch_size=many must be a whole number from 1.",
        "  - optimizer.lr=abc must be a number above 0.",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["model=unet,resnet18", "loss=dice"], "In the sweep's job model=resnet18 loss=dice: loss: DiceLoss is for segmentation"),
        (["optimizer.lr=1e-3,abc"], "In the sweep's job optimizer.lr=abc: optimizer.lr=abc must be a number"),
        (["model=choice(unet,unett)"], "Did you mean 'unet'"),
        (["optimizer.lr=interval(-1,0.1)"], "optimizer.lr=-1.0 must be a number above 0."),
        (["model=unet,resnet18", "model.encoder=resnet34"], "model.encoder: there is no key 'encoder' in 'model'."),
    ],
)
def test_a_sweep_is_checked_whole_before_its_first_job(arguments: list[str], said: str) -> None:
    assert said in _refusal("-m", *arguments)


def test_what_a_config_sweeps_over_is_checked_too(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\n# Rates.\nhydra:\n  sweeper:\n    params:\n      optimizer.lr: choice(0.1,abc)\n"
    (tmp_path / "experiment" / "rates.yaml").write_text(text)
    said = _refusal("-m", f"--config-dir={tmp_path}", "experiment=rates")
    assert "In the sweep's job optimizer.lr=abc" in said
    assert "optimizer.lr=abc must be a number" in _refusal("hydra.mode=MULTIRUN", "optimizer.lr=0.1,abc")


def test_of_a_large_sweep_every_value_is_checked() -> None:
    wide = [f"{key}={','.join(str(0.1 * number) for number in range(1, 8))}" for key in ("optimizer.lr", "task.threshold")]
    assert "optimizer.weight_decay=-1 must be" in _refusal("-m", *wide, "optimizer.weight_decay=0,1,2,3,-1")


def test_several_values_without_a_sweep_are_refused() -> None:
    assert _refusal("model=unet,resnet18") == "model=unet,resnet18 names several values; add -m for a sweep, or quote the value."


def test_nothing_behind_the_equals_sign_is_refused() -> None:
    assert "data.root= is empty" in _refusal("data=folder", "data.root=")
    assert "model.encoder= is empty" in _refusal("-m", "model.encoder=", "seed=1,2")
    refusal = _refusal("run=", "input=", "output=x", command="predict")
    assert "run= is empty" in refusal
    assert "input= is empty" in refusal


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_a_run_that_is_not_there_is_told_at_once(command: str, tmp_path: Path) -> None:
    others = ["input=/no/images", "output=x"] if command == "predict" else []
    assert "run=/no/run: there is no such folder." in _refusal("run=/no/run", *others, command=command)
    assert f"run={tmp_path}: it is not a run's folder" in _refusal(f"run={tmp_path}", *others, command=command)


GIVEN = {
    "export": ["bundle=x"],
    "predict": ["input=x", "output=x"],
    "shard_data": ["shards=x"],
    "sweep_report": ["sweep=x"],
}


@pytest.mark.parametrize("command", sorted(path.stem for path in (CONF.parent / "scripts").glob("*.py")))
def test_the_schema_of_each_command_has_the_keys_of_its_file(command: str) -> None:
    assert of_command(command, ()) is not None
    compose(command, GIVEN.get(command, []))


# Resuming.


def test_a_resumed_run_takes_nothing_but_trust_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "my run"
    folder.mkdir()
    assert "resume=" in _refusal(f"resume={folder}")
    (folder / "config.yaml").touch()
    line = read([f"resume={folder}", "trusted=[mylab]"], "train")
    check(line)
    assert line.overrides == (f"resume='{folder}'", "trusted=[mylab]", f"hydra.run.dir='{folder}'", "hydra.output_subdir=null")
    monkeypatch.chdir(tmp_path)
    assert read(["resume=my run", "trusted=[mylab]"], "train").overrides == line.overrides
    for other in ("fold=2", "model=unet", "+x=1", "-m"):
        assert "cannot be given with it" in _refusal(f"resume={folder}", other)


@pytest.mark.parametrize("name", groups()["task"])
def test_the_figures_that_a_task_may_monitor_are_those_that_it_logs(name: str) -> None:
    model = {"roi_classification": "roi_crop", "classification": "resnet18", "multitask": "multitask"}.get(name, "unet")
    config = compose("train", [f"model={model}", "preprocess.size=64"])
    task: BaseTask = build(config["task"])
    made_of_others = {"score"} if name == "multitask" else set()
    logged = {key.removeprefix("val/") for key in task.metrics["val_metrics"].keys()}  # noqa: SIM118 - not a dict
    assert set(type(task).figures) == logged | made_of_others  # type: ignore[attr-defined]
    target = yaml.safe_load((CONF / "task" / f"{name}.yaml").read_text())
    assert config["task"]["_target_"] == target.get("_target_", target.get("task", {}).get("_target_"))
