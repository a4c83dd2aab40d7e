"""Figures stay the same, and what an earlier version made is still read: the files of `tests/guard/`, by today's commands."""

import csv
import json
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from commands import run_script

# What a script warns of on the screen does not end it.
pytestmark = pytest.mark.filterwarnings("ignore")

HOME = Path(__file__).parents[1]
GUARD = Path(__file__).parent / "guard"
# The folder that the files were made in.
MADE_IN = "/guard"
KINDS = ("segmentation", "classification", "roi")

# A processor other than the one that made the files rounds otherwise.
ROUNDING = 1e-4
# Training carries such differences on; batch norm over a few values, as in attention gates, most.
TRAINED = 2e-3
# Seven epochs of AdamW, which makes whole steps of what rounding leaves of a small gradient.
RESUMED = 3e-2
# The area under the curve of eight images goes in steps: two that lie close together change places on another processor.
IN_STEPS = ("train/auroc", "val/auroc")
TRAINED_FROM = {"segmentation": 1e-2, "classification": TRAINED, "roi": TRAINED}
# So many pixels of an outline may change sides.
FEW_PX = 5

# Entries of metrics.json that are no figures.
NO_FIGURES = {
    "cost",
    "train_seconds",
    "test_seconds",
    "provenance",
    "warnings",
    "interval_warnings",
    "device",
    "group",
    "name",
    "seconds",
}
# Columns of tables that are no figures, or are prose.
NO_COLUMNS = {"file", "warnings", "consistency", "seconds", "folder", "reason", "assumes", "test", "error"}

PHANTOMS = [
    "data.source.n_images=24",
    "+data.source.size=[80,96]",
    "data.folds=3",
    "preprocess.size=64",
    "num_workers=0",
    "logger=none",
    "augmentation=light",
    "trainer=cpu",
    "callbacks.pictures=null",
]
TINY = "+model.kwargs.channel_multiplier=0.25"
MODELS = {
    # Plain descent: AdamW makes whole steps of what rounding leaves of a gradient near zero.
    "segmentation": ["model=attention_unet", "model.channels=[4,8,16,16]", "optimizer=sgd", "optimizer.lr=0.02", "batch_size=2"],
    "classification": ["model=classifier", "model.backbone=test_efficientnet_gn", TINY, "optimizer.lr=0.01", "batch_size=4"],
    "roi": [
        *("model=roi_crop", "model.backbone=test_efficientnet", TINY, "model.crop_size=48"),
        *("data.classes=[benign,malignant]", "optimizer.lr=0.01", "batch_size=3"),
    ],
}
SWEEP = [
    *("model=classifier", "model.backbone=test_efficientnet_gn", TINY, "optimizer.lr=0.005,0.01", "batch_size=4"),
    *("trainer.max_epochs=4", "sweep.name=rates"),
]

DATA = [word for word in PHANTOMS if "data." in word]
NAMES = ("phantom-0001-a", "phantom-0005-a", "phantom-0007-a")

Command = Callable[..., Path]


def call(folder: Path, name: str, *words: str) -> None:
    """Run `scripts/<name>.py` in a folder."""
    done = run_script(folder, name, *words)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which the files lie as they lay where they were made, with the images they learned from."""
    folder = tmp_path_factory.mktemp("guard")
    for name in ("runs", "crossval", "sweeps", "phantoms"):
        shutil.copytree(GUARD / name, folder / "outputs" / name)
    for path in folder.rglob("*"):
        if path.suffix in (".yaml", ".json", ".log", ".csv"):
            text = path.read_text(encoding="utf-8")
            if MADE_IN in text:
                path.write_text(text.replace(MADE_IN, str(folder)), encoding="utf-8")
    call(folder, "prepare_data", "data=phantom", *DATA)
    (folder / "images").mkdir()
    drawn = next((folder / "outputs" / "phantoms").glob("phantom-24-0-*")) / "images"
    for name in NAMES:
        shutil.copy(drawn / f"{name}.png", folder / "images")
    return folder


@pytest.fixture
def command(workspace: Path) -> Command:
    """Return a function that runs `scripts/<name>.py` in the workspace, and returns that."""

    def _command(name: str, *words: str) -> Path:
        call(workspace, name, *words)
        return workspace

    return _command


def leaves(node: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the figures of what JSON holds, each with its place; prose is none."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key not in NO_FIGURES:
                yield from leaves(value, f"{place}/{key}")
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from leaves(value, f"{place}/{number}")
    elif not isinstance(node, str) or " " not in node:
        yield place, node


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def number(value: Any) -> float | None:
    if value is None or isinstance(value, bool) or value == "":
        return None
    try:
        return float(value)
    except ValueError:
        return None


def agree(now: Any, then: Any, tolerance: float, few: int = 0) -> bool:
    """Tell whether two figures are the same: whole numbers and words exactly, but for so `few`, others within the tolerance."""
    one, other = number(now), number(then)
    if one is None or other is None:
        return now == then
    if math.isnan(other) or math.isinf(other):
        return str(one) == str(other)
    if isinstance(then, int) or (isinstance(then, str) and then.lstrip("-").isdigit()):
        return abs(one - other) <= few
    return abs(one - other) <= tolerance * max(1.0, abs(other))


def changed_figures(now: Path, then: Path, tolerance: float = ROUNDING, few: int = 0) -> list[str]:
    """Return what a JSON file says otherwise than an earlier one; it may say more."""
    found = dict(leaves(json.loads(now.read_text(encoding="utf-8"))))
    known = dict(leaves(json.loads(then.read_text(encoding="utf-8"))))
    assert known
    absent = object()
    return [
        f"{place}: {found.get(place, 'absent')}, then {value}"
        for place, value in known.items()
        if not agree(found.get(place, absent), value, tolerance, few)
    ]


def changed_rows(now: Path, then: Path, tolerance: float = ROUNDING, few: int = 0, but: Sequence[str] = ()) -> list[str]:
    """Return what a table says otherwise than an earlier one; it may have more columns."""
    found, known = rows(now), rows(then)
    assert known
    if len(found) != len(known):
        return [f"{len(found)} rows, then {len(known)}"]
    return [
        f"row {place}, {column}: {row.get(column, 'absent')}, then {value}"
        for place, (row, before) in enumerate(zip(found, known, strict=True))
        for column, value in before.items()
        if column not in {*NO_COLUMNS, *but} and not agree(row.get(column, "absent"), value, tolerance, few)
    ]


def changed_masks(now: Path, then: Path) -> list[str]:
    """Return which masks of an earlier folder are absent or differ in more than a few pixels."""
    found = []
    for path in sorted(then.glob("*.png")):
        one, other = (cv2.imread(str(folder / path.name), cv2.IMREAD_GRAYSCALE) for folder in (now, then))
        apart = one.shape != other.shape or int(np.count_nonzero((one > 0) != (other > 0))) if one is not None else "absent"
        if apart == "absent" or apart > FEW_PX:
            found.append(f"{path.name}: {apart}")
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_is_tested_again_has_the_figures_it_had(kind: str, command: Command) -> None:
    then = GUARD / "runs" / kind
    now = command("evaluate", f"run=outputs/runs/{kind}", f"output=again/{kind}") / "again" / kind
    assert changed_figures(now / "metrics.json", then / "metrics.json") == []
    for table in sorted(then.glob("*.csv")):
        if table.name not in ("history.csv", "split.csv"):
            assert changed_rows(now / table.name, table) == [], table.name
    assert changed_masks(now / "masks", then / "masks") == []


def test_the_released_bundle_says_of_its_examples_what_it_said(command: Command, workspace: Path) -> None:
    examples = workspace / "examples"
    examples.mkdir()
    for name in ("benign", "malignant", "normal"):
        shutil.copy(HOME / "bundles" / "busbra" / "examples" / f"{name}.png", examples)
    bundle = HOME / "bundles" / "busbra"
    now = command("predict", f"bundle={bundle}", "input=examples", "output=predicted/bundle") / "predicted" / "bundle"
    then = GUARD / "expected" / "predicted" / "bundle"
    assert changed_rows(now / "predictions.csv", then / "predictions.csv", few=FEW_PX, but=["case_id"]) == []
    assert [row["case_id"] for row in rows(now / "predictions.csv")] == ["benign", "malignant", "normal"]
    assert changed_masks(now / "masks", then / "masks") == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("segmentation", ["run=outputs/runs/segmentation"]),
        ("classification", ["run=outputs/runs/classification"]),
        ("roi", ["run=outputs/runs/roi", "segmentation=outputs/runs/segmentation"]),
        ("crossval", ["run=outputs/crossval/segmentation"]),
    ],
)
def test_runs_and_cross_validations_predict_what_they_predicted(name: str, words: list[str], command: Command) -> None:
    now = command("predict", *words, "input=images", f"output=predicted/{name}") / "predicted" / name
    then = GUARD / "expected" / "predicted" / name
    assert changed_rows(now / "predictions.csv", then / "predictions.csv", few=FEW_PX) == []
    assert changed_masks(now / "masks", then / "masks") == []


def test_a_run_becomes_a_bundle_that_predicts_as_the_run_did(command: Command) -> None:
    command("bundle", "run=outputs/runs/roi", "segmentation=outputs/runs/segmentation", "output=bundled")
    command("bundle", "verify=bundled")
    now = command("predict", "bundle=bundled", "input=images", "output=predicted/bundled") / "predicted" / "bundled"
    then = GUARD / "expected" / "predicted" / "roi"
    assert changed_rows(now / "predictions.csv", then / "predictions.csv", few=FEW_PX) == []


def test_runs_are_compared_as_they_were(command: Command) -> None:
    runs = "runs=[outputs/sweeps/rates/trial_0000,outputs/sweeps/rates/trial_0001]"
    now = command("compare", runs, "output=compared", "permutations=200")
    assert changed_rows(now / "compared" / "compare.csv", GUARD / "expected" / "compare.csv") == []


def test_a_cross_validation_that_is_finished_is_joined_again_with_the_figures_it_had(command: Command, workspace: Path) -> None:
    folder, then = workspace / "outputs" / "crossval" / "segmentation", GUARD / "crossval" / "segmentation"
    for fold in (1, 2):  # reports are not kept here, and one that has no report is not finished
        (folder / f"fold_{fold}" / "report.html").touch()
    for name in ("metrics.json", "cases.csv"):
        (folder / name).unlink()
    command("crossval", "resume=outputs/crossval/segmentation")
    assert changed_figures(folder / "metrics.json", then / "metrics.json", few=0) == []
    assert changed_rows(folder / "cases.csv", then / "cases.csv") == []
    assert not (folder / "fold_1" / "checkpoints" / "last.ckpt").exists()  # nothing was trained


def test_a_cross_validation_that_is_tested_again_has_the_figures_it_had(command: Command) -> None:
    then = GUARD / "crossval" / "segmentation"
    now = command("evaluate", "run=outputs/crossval/segmentation", "output=again/crossval") / "again" / "crossval"
    assert changed_rows(now / "cases.csv", then / "cases.csv", TRAINED, FEW_PX) == []  # outlines drawn where all is near 0.5
    assert changed_masks(now / "masks", then / "masks") == []


def test_a_sweep_is_reported_as_it_was_and_none_of_its_jobs_is_done_again(command: Command, workspace: Path) -> None:
    folder, then = workspace / "outputs" / "sweeps" / "rates", GUARD / "sweeps" / "rates"
    for again in (["sweep_report", "sweep=outputs/sweeps/rates"], ["train", "-m", *PHANTOMS, *SWEEP]):
        (folder / "leaderboard.csv").unlink()
        command(*again)
        assert changed_rows(folder / "leaderboard.csv", then / "leaderboard.csv") == []
        assert changed_figures(folder / "summary.json", then / "summary.json") == []
    assert not (folder / "trial_0001" / "checkpoints").exists()  # nothing was trained


def test_a_run_that_was_stopped_goes_on_to_the_figures_of_one_that_was_not(command: Command) -> None:
    now, then = command("train", "resume=outputs/runs/stopped") / "outputs" / "runs" / "stopped", GUARD / "runs" / "roi"
    assert changed_rows(now / "history.csv", then / "history.csv", RESUMED, but=IN_STEPS) == []
    assert changed_rows(now / "cases.csv", then / "cases.csv", RESUMED) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_short_training_learns_what_it_learned(kind: str, command: Command) -> None:
    words = [*PHANTOMS, *MODELS[kind], "trainer.max_epochs=2", f"name={kind}", f"hydra.run.dir=short/{kind}"]
    now, then = command("train", *words) / "short" / kind, GUARD / "expected" / "short" / kind
    assert changed_rows(now / "history.csv", then / "history.csv", TRAINED_FROM[kind], but=IN_STEPS) == []
    assert changed_rows(now / "cases.csv", then / "cases.csv", TRAINED_FROM[kind], FEW_PX) == []
    assert (now / "checkpoints" / "best.ckpt").is_file()


@pytest.mark.parametrize("path", sorted(GUARD.rglob("*.ckpt")), ids=lambda path: str(path.relative_to(GUARD)))
def test_a_checkpoint_holds_tensors_and_plain_values_alone(path: Path) -> None:
    content = torch.load(path, map_location="cpu", weights_only=True)
    assert {"run_config", "state_dict"} <= set(content)
