"""Several processes share the cases: each is seen once, and the figures are those of one process."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from bcd.config import CONF
from bcd.data.dataset import EpochSampler, Share
from bcd.runs.assemble import build_datamodule, prepare_data
from bcd.runs.hardware import choose
from bcd.runs.testing.run import evaluate
from bcd.tasks.checkpoint import load_checkpoint


def _rows(sampler: EpochSampler) -> list[tuple[int, int]]:
    rows = list(sampler)
    assert len(rows) == len(sampler)
    return rows


@pytest.mark.parametrize("world_size", [2, 3])
def test_every_validation_case_comes_to_exactly_one_process(world_size: int) -> None:
    rows = [_rows(EpochSampler([0] * 10, None, share=Share(rank, world_size))) for rank in range(world_size)]
    assert sorted(row for part in rows for _, row in part) == list(range(10))


def test_processes_share_each_batch_that_one_process_would_see() -> None:
    one = _rows(EpochSampler([0] * 14, 3, multiple=4))
    both = [_rows(EpochSampler([0] * 14, 3, share=Share(rank, 2), multiple=4)) for rank in range(2)]
    assert len(one) == 12  # two rows are left for another epoch
    for batch in range(3):
        theirs = both[0][2 * batch : 2 * batch + 2] + both[1][2 * batch : 2 * batch + 2]
        assert sorted(theirs) == sorted(one[4 * batch : 4 * batch + 4])


def test_balanced_sampling_shows_each_class_equally_often() -> None:
    labels = np.array([0] * 12 + [1] * 3 + [2] * 5)
    sampler = EpochSampler(labels, 0, balanced=True)
    seen = _rows(sampler)
    counts = np.bincount(labels[[row for _, row in seen]])
    assert sorted(counts.tolist()) == [6, 7, 7]
    rare = [row for _, row in seen if labels[row] == 1]
    assert max(np.bincount(rare)[12:15]) - min(np.bincount(rare)[12:15]) <= 1
    assert len(set(seen)) == len(seen)  # a row that repeats is augmented otherwise
    sampler.set_epoch(1)
    assert _rows(sampler) != seen


def test_a_pass_that_was_begun_goes_on_where_it_stopped() -> None:
    whole = _rows(EpochSampler([0] * 10, 0))
    sampler = EpochSampler([0] * 10, 0)
    sampler.skip(4)
    assert list(sampler) == whole[4:]
    sampler.set_epoch(1)
    assert len(list(sampler)) == 10


def _train(folder: Path, *overrides: str) -> dict[str, Any]:
    arguments = [
        "data.source.n_images=45", "+data.source.views=1", "preprocess.size=32", "batch_size=4", "trainer.max_epochs=2",
        "trainer.precision=32-true",
        "model.encoder=resnet10t", "model.decoder_channels=[8,8,8]", "logger=[csv]", f"output={folder.parent}", *overrides,
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, str(CONF.parent / "scripts" / "train.py"), *arguments, f"hydra.run.dir={folder}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads((folder / "metrics.json").read_text()))


def _validate(folder: Path) -> dict[str, float]:
    """Return the validation figures of a run's best checkpoint, as one process computes them."""
    config = yaml.safe_load((folder / "config.yaml").read_text())
    task, _, _ = load_checkpoint(folder / "checkpoints" / "best.ckpt")
    datamodule = build_datamodule(config, prepare_data(config), choose("cpu", "32-true", "auto", 0))
    datamodule.setup("fit")
    metrics = task.metrics["val_metrics"]
    losses = []
    with torch.no_grad():
        for batch in datamodule.val_dataloader():
            for position in range(len(batch["case_id"])):
                one = {name: value[position : position + 1] for name, value in batch.items()}
                losses.append(float(task.step(one, metrics)))  # type: ignore[arg-type]
    return {name: float(value) for name, value in metrics.compute().items()} | {"val/loss": float(np.mean(losses))}


@pytest.mark.slow
def test_two_processes_score_each_case_once_and_give_the_figures_of_one(tmp_path: Path) -> None:
    folder = tmp_path / "two"
    # Nine validation cases in batches of two: one process has a batch more than the other.
    metrics = _train(folder, "trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu")
    assert metrics["data"]["n_cases"]["valid"] == 9
    assert metrics["training"]["processes"] == 2
    assert metrics["training"]["images_seen"] == 2 * (metrics["data"]["n_cases"]["train"] // 4 * 4)
    tested = pd.read_csv(folder / "cases.csv")["case_id"]
    split = pd.read_csv(folder / "split.csv")
    assert sorted(tested) == sorted(split.loc[split["fold"] == 1, "case_id"])
    history = pd.read_csv(folder / "history.csv")
    best = history[history["best"]].iloc[0]
    for name, value in _validate(folder).items():
        if not np.isnan(value):
            assert best[name] == pytest.approx(value, abs=1e-6), name
    assert evaluate(folder, tmp_path / "one")["test"] == metrics["test"]
