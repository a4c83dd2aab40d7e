"""What is checked before anything heavy is imported: values, ranges, names and combinations, and what must pass."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from bcd.config import CONF, ConfigError, compose, groups
from bcd.config.annotations import fits, in_words
from bcd.config.arguments import read
from bcd.config.build import build
from bcd.config.composing import check
from bcd.config.constructors import Constructor, constructor
from bcd.config.described import entries
from bcd.config.limits import limit_in
from bcd.config.names import problem
from bcd.config.source import Module, constant, find
from bcd.config.values import _nodes
from bcd.tasks.base import BaseTask


def _refusal(*arguments: str, command: str = "train") -> str:
    with pytest.raises(ConfigError) as refused:
        check(read(arguments, command))
    return str(refused.value)


# Ranges in words.


@pytest.mark.parametrize(
    ("text", "good", "bad"),
    [
        ("share of the average that stays, in [0, 1).", [0, 0.5, 0.999], [1, -0.1, "x", True, None, float("nan")]),
        ("in (0, 1]", [1, 1e-9], [0, 1.1]),
        ("test fold, from 1", [1, 7], [0, 1.5, 2.0, "one", True]),
        ("of the Dice loss; at least 0.", [0, 0.0, 3.5], [-1e-9]),
        ("added, in pixels; positive.", [1, 0.1], [0, -1]),
        ("not negative", [0, 2], [-1]),
        ("auto or from 0; auto is 0 where the CPU trains", ["auto", 0, 4], ["many", -1, None, 0.5]),
        ("null or from 1", [None, 1], ["null ", 0]),
        ("one of auto, cpu, gpu", ["auto", "gpu"], ["gpuu", 1]),
        ("one of warn, true, false", ["warn", True, False], ["yes"]),
        ("each, in [0, 1]; of a list", [[0.0, 1.0], {"x": [0.5, 0.6]}], [[0.5, 2.0], {"x": [0.5, -1]}]),
    ],
)
def test_words_are_a_rule(text: str, good: list[Any], bad: list[Any]) -> None:
    limit = limit_in(text)
    assert limit is not None
    assert [value for value in good if limit.problem("key", value) is not None] == []
    assert [value for value in bad if limit.problem("key", value) is None] == []


@pytest.mark.parametrize(
    "text", ["any timm name", "px", "image at least 16 px wide is padded", "float32 (B, C) in [0, 1] or so", ""]
)
def test_other_words_are_none(text: str) -> None:
    assert limit_in(text) is None


def test_paths_that_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()
    for text, value in (
        ("an existing file", tmp_path / "config.yaml"),
        ("an existing folder", tmp_path),
        ("an existing run", tmp_path),
    ):
        limit = limit_in(text)
        assert limit is not None
        assert limit.problem("key", str(value)) is None
        assert limit.problem("key", str(tmp_path / "no")) == f"key={tmp_path / 'no'}: there is no such {text.split()[-1]}.".replace(
            "such run", "such folder"
        )


# Types, as annotations say them.


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        ("int", [1], [1.0, True, "1", None]),
        ("float", [1, 0.5], [True, "x"]),
        ("bool | str", [True, "a.pth"], [1.5, None]),
        ("Sequence[int]", [[1, 2], []], ["1", [1.5], 3]),
        ("tuple[float, float] | None", [[0.1, 1], None], [[None]]),
        ("Mapping[str, float]", [{"a": 1.0}], [{"a": "b"}, 1]),
        ('Literal["min", "max"]', ["min"], ["minimum"]),
        ("Optional[Union[int, str]]", [None, 1, "a"], [1.5]),
        ("Alias", [1, "auto"], ["atuo", 0.5]),
        ("nn.Module", [{"_target_": "x"}, 3], []),
        ("Unknown[int]", [3, "x", None], []),
    ],
)
def test_annotations_tell_what_fits(annotation: str, good: list[Any], bad: list[Any]) -> None:
    module = Module("m", Path("m.py"), ast.parse('Alias = int | Literal["auto"]'))
    node = ast.parse(annotation, mode="eval").body
    assert [value for value in good if not fits(value, node, module)] == []
    assert [value for value in bad if fits(value, node, module)] == []


def test_annotations_are_put_into_words() -> None:
    module = Module("m", Path("m.py"), ast.parse(""))
    words = {text: in_words(ast.parse(text, mode="eval").body, module) for text in ("int | None", "Sequence[float]", "bool | str")}
    assert list(words.values()) == ["a whole number or null", "a list, each entry a number", "true or false or text"]


# Constructors, read as text.


def test_a_constructor_is_read_without_being_imported() -> None:
    cls = constructor("bcd.tasks.roi_classification.RoiClassificationTask")
    assert cls is not None
    assert cls.arguments is not None
    assert cls.arguments["num_classes"].default is None  # its base's constructor
    assert cls.attribute("label_is_all") is False
    assert cls.takes("forward", "guide") is True
    assert constant("bcd.data.guides.KINDS") == ("true", "none", "predicted", "perturbed", "predicted_perturbed")
    assert find("bcd.losses.dice.NoSuchLoss") is None


def test_a_constructor_that_another_module_offers_is_found_where_it_is_written() -> None:
    trainer = constructor("lightning.pytorch.Trainer")
    flip = constructor("albumentations.HorizontalFlip")
    assert trainer is not None
    assert trainer.module.name == "lightning.pytorch.trainer.trainer"
    assert flip is not None
    assert flip.module.name == "albumentations.augmentations.geometric.flip"


def test_a_dataclass_takes_its_fields() -> None:
    cls = constructor("bcd.preprocess.Preprocess")
    assert cls is not None
    assert list(cls.arguments or ()) == ["size", "mean", "std"]
    assert cls.refusal({"size": 15}) == "preprocess.size=15 is not a network's input; use 16 to 4096 px, such as 128, 224 or 512."
    assert cls.refusal({"size": 16, "std": 0}) == "preprocess.std=0 must be positive."


def _written(text: str) -> Constructor:
    tree = ast.parse(text)
    return Constructor(Module("m", Path("m.py"), tree), next(node for node in tree.body if isinstance(node, ast.ClassDef)))


def test_a_constructors_own_refusals_are_run_with_its_own_functions_and_nothing_else() -> None:
    cls = _written(
        "import os\n"
        "LOWEST = 3\n"
        "def low(value):\n    return value < LOWEST\n"
        "class Part:\n"
        "    def __init__(self, a, b=2):\n"
        "        if low(a) and b > 1:\n            raise ValueError(f'a={a} is low')\n"
        "        if os.remove(a):\n            raise ValueError('never run')\n"
        "        if open(a):\n            raise ValueError('never run')\n"
    )
    assert cls.refusal({"a": 2}) == "a=2 is low"
    assert cls.refusal({"a": 2, "b": 1}) is None
    assert cls.refusal({"a": 4}) is None


@pytest.mark.parametrize("group", ["loss", "scheduler", "mixing", "preprocess"])
def test_what_the_reader_refuses_its_constructor_refuses_in_the_same_words(group: str) -> None:
    compared = 0
    for path in (CONF / group).glob("*.yaml"):
        node = {key: entry.value for key, entry in entries(path).items() if "." not in key and "${" not in str(entry.value)}
        cls = constructor(node["_target_"])
        assert cls is not None
        plain = {name: value for name, value in node.items() if name != "_target_"}
        assert cls.refusal(plain) is None
        required = {key for key, argument in (cls.arguments or {}).items() if argument.default is None}
        for name in [name for name, value in plain.items() if isinstance(value, int | float)]:
            message = cls.refusal({**plain, name: -7})
            if message is not None and required <= set(plain):
                with pytest.raises(ValueError, match="-7") as refused:
                    build({**node, name: -7})
                assert message == str(refused.value)
                compared += 1
    assert compared > 0


# Names that libraries know.


@pytest.mark.parametrize(
    ("argument", "value", "near"),
    [
        ("encoder", "resnet81", "'resnet18'"),
        ("backbone", "mobilenetv2_10", "'mobilenetv2_100'"),
        ("backbone", "tu-resnet18", "'resnet18'"),
        ("tta", "mirorr", "'mirror'"),
    ],
)
def test_a_misspelt_name_is_answered_with_the_nearest(argument: str, value: str, near: str) -> None:
    assert near in str(problem(argument, "model.x", value))


@pytest.mark.parametrize("value", ["resnet18", "tu-resnet18", "mit_b0", "efficientnet-b0", "resnet10t.c3_in1k", "hf-hub:a/b"])
def test_names_of_both_libraries_pass_for_an_encoder(value: str) -> None:
    assert problem("encoder", "model.encoder", value) is None


def test_every_name_that_timm_and_smp_list_passes() -> None:
    import segmentation_models_pytorch as smp
    import timm

    assert [name for name in timm.list_models() if problem("backbone", "x", name) is not None] == []
    assert [name for name in smp.encoders.encoders if problem("encoder", "x", name) is not None] == []


# Whole command lines.


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["optimizer.lr=abc"], "optimizer.lr=abc must be a number."),
        (["optimizer.lr=0"], "optimizer.lr=0 must be positive."),
        (["trainer.max_epochs=ten"], "trainer.max_epochs=ten must be a whole number"),
        (["++trainer.max_epochs=ten"], "trainer.max_epochs=ten must be a whole number"),
        (["+optimizer.betas=3"], "Write optimizer.betas=[3]."),
        (["trainer.precision=bf17-mixed"], "Did you mean 'bf16-mixed'"),
        (["trainer.max_time=5min"], "must be days:hours:minutes:seconds"),
        (["batch_size=many"], "batch_size=many must be a whole number from 1."),
        (["fold=one"], "fold=one must be a whole number from 1."),
        (["seed=true"], "seed=true must be a whole number from 0."),
        (["data.lesions_only=maybe"], "data.lesions_only=maybe must be true or false."),
        (["memory_format=chanels_last"], "Did you mean 'channels_last'"),
        (["task.mode=maximum"], "Did you mean 'max'"),
        (["task.monitor=val/dise"], "Did you mean 'val/dice'"),
        (["task.threshold=1.5"], "task.threshold=1.5 must lie between 0 and 1."),
        (["model.encoder=resnet81"], "Did you mean 'resnet18'"),
        (["preprocess.size=8"], "preprocess.size=8 is not a network's input"),
        (["preprocess.size=100000"], "use 16 to 4096 px"),
        (["trusted=mylab"], "Write trusted=[mylab]."),
        (["pretrained=/no/such.pth"], "pretrained=/no/such.pth: there is no such file."),
        (["model._target_=os.system"], "not a trusted constructor"),
        (["task._target_=bcd.tasks.segmentation.SegmentationTsk"], "Did you mean 'SegmentationTask'"),
        (["finetune=gradual", "finetune.until=1.0"], "needs finetune.until below 1"),
        (["model=resnet18", "loss=dice"], "DiceLoss is for segmentation, and ClassificationTask needs one for classification"),
        (["model=multitask", "loss@task.classification_loss=dice"], "task.classification_loss: DiceLoss is for segmentation"),
        (["model=resnet18", "data.lesions_only=true"], "leaves no case of normal"),
        (["model=resnet18", "data.classes=[benign]"], "two or more"),
        (["data.classes=[normal]"], "normal has none: data.classes=[benign,malignant]"),
        (["data.classes=[benign,malignat]"], "Did you mean 'malignant'"),
        (["data.classes=[benign,benign]"], "names 'benign' twice"),
        (["+data.relabel.normall=benign"], "Did you mean 'normal'"),
        (["guide=true"], "SegmentationTask takes no outline"),
        (["model=roi_crop", "guide.test=tru"], "Did you mean 'true'"),
        (["model=roi_crop", "data.classes=[normal,benign]"], "guide=true with normal among the classes"),
        (["model=roi_crop", "guide=predicted"], "guide=predicted needs guide.masks="),
        (["model=roi_crop", "guide=predicted", "guide.masks=/no/where"], "guide.masks=/no/where: there is no such folder."),
        (["mixing=mixup"], "Use mixing=none."),
        (["fold=6"], "fold=6: there are folds 1 to 5."),
        (["data=busbra", "data.root=/", "fold=11"], "has folds 1 to 5."),
        (["data.split=/no/split.csv"], "data.split=/no/split.csv: there is no such file."),
        (["data=busi", "data.root=/no/busi"], "doi:10.1016/j.dib.2019.104863"),
        (["hydra.run.dirr=x"], "Did you mean 'dir'"),
        (["trainer.barebones=true"], "+trainer.barebones=true"),
        (["model=resnet18", "model.kwargs={img_size: 96}"], "+model.kwargs.img_size=..."),
    ],
)
def test_what_cannot_work_is_refused(arguments: list[str], said: str) -> None:
    assert said in _refusal(*arguments)


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
        "3 things cannot be so:",
        "  - optimizer.lr=abc must be a number.",
        "  - fold=one must be a whole number from 1.",
        "  - batch_size=many must be a whole number from 1.",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["model=unet,resnet18", "loss=dice"], "In the sweep's job model=resnet18 loss=dice: loss: DiceLoss is for segmentation"),
        (["optimizer.lr=1e-3,abc"], "In the sweep's job optimizer.lr=abc: optimizer.lr=abc must be a number."),
        (["model=choice(unet,unett)"], "Did you mean 'unet'"),
        (["optimizer.lr=interval(-1,0.1)"], "optimizer.lr=-1.0 must be positive."),
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
    assert "optimizer.weight_decay=-1 must be not negative." in _refusal("-m", *wide, "optimizer.weight_decay=0,1,2,3,-1")


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
    assert f"run={tmp_path} is not a run's folder" in _refusal(f"run={tmp_path}", *others, command=command)


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
        assert "cannot be given beside it" in _refusal(f"resume={folder}", other)


# Every option that there is.


@pytest.mark.parametrize("group", sorted(groups()))
def test_what_our_files_say_passes_as_if_a_user_had_typed_it(group: str) -> None:
    """When a command runs, what our own files say is not checked."""
    for path in (CONF / group).glob("*.yaml"):
        for key, node in _nodes(yaml.safe_load(path.read_text(encoding="utf-8")) or {}, ""):
            cls = constructor(node["_target_"])
            assert cls is not None, node["_target_"]
            for name, value in node.items():
                where = f"{path.name}: {key}.{name}"
                if cls.arguments is None or name in ("_target_", "_partial_", "defaults") or "${" in str(value):
                    continue
                assert name in cls.arguments, where
                annotation, limit = cls.arguments[name].annotation, cls.limits.get(name)
                number = float(value) if re.fullmatch(r"\d+e-\d+", str(value)) else value
                allowed = (name, value) in (("precision", "auto"), ("deterministic", "warn"))
                assert allowed or annotation is None or fits(number, annotation, cls.module), where
                assert limit is None or limit.problem(where, number) is None


def test_comments_and_values_are_read_key_by_key() -> None:
    found = entries(CONF / "optimizer" / "adamw.yaml")
    assert found["lr"] == (1e-3, "positive", True)
    assert found["_target_"].comment == ""
    assert entries(CONF / "train.yaml")["fold"].comment == "test fold, from 1"


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
