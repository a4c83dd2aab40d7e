"""One network that outlines and classifies: its loss, its figures, and a whole run on small phantoms."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from bcd.config import compose
from bcd.images.read import read_image
from bcd.losses.bce import BCELoss
from bcd.losses.cross_entropy import CrossEntropyLoss
from bcd.predictor.bundles.write import bundle_of
from bcd.predictor.many.files import predict_files
from bcd.predictor.predictor import Predictor
from bcd.runs.assemble import check_fit
from bcd.runs.bundle import collect_bundle
from bcd.runs.testing.run import evaluate
from bcd.runs.training.train import train
from bcd.sample import Batch
from bcd.tasks.base import BaseTask
from bcd.tasks.multitask import MultitaskTask
from bcd.tasks.networks import without_pretrained
from bcd.tasks.schedules import ConstantSchedule

Trained = tuple[Path, dict[str, Any]]
LOG_3 = math.log(3)


class _Says(nn.Module):
    """Gives the logits it was made with, whatever the image."""

    def __init__(self, outline: Tensor, classes: Tensor) -> None:
        super().__init__()
        self.outline, self.classes = nn.Parameter(outline), nn.Parameter(classes)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return self.outline, self.classes


def _task(model: nn.Module, **changed: Any) -> MultitaskTask:
    arguments: dict[str, Any] = {
        "loss": BCELoss(),
        "classification_loss": CrossEntropyLoss(),
        "segmentation_weight": 2.0,
        "classification_weight": 0.5,
        "optimizer": torch.optim.SGD,
        "scheduler": ConstantSchedule(),
        "num_classes": 2,
        "threshold": 0.5,
        "monitor": "val/score",
        "mode": "max",
        "tta": [],
        **changed,
    }
    return MultitaskTask(model, **arguments)


def _batch() -> Batch:
    """Return three images of 1 x 2 px: lesion on the left, lesion on both, and no lesion; benign, malignant, benign."""
    mask = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]).view(3, 1, 1, 2)
    return Batch(
        image=torch.zeros(3, 1, 1, 2),
        mask=mask,
        guide=torch.zeros_like(mask),
        label=torch.tensor([0, 1, 0]),
        native_size=torch.tensor([[1, 2]] * 3),
        case_id=list("abc"),
    )


def _sure(*probabilities: float) -> Tensor:
    return torch.tensor(probabilities).logit()


def test_the_loss_is_the_weighted_sum_of_both_and_normals_count_in_both() -> None:
    # Three quarters for the truth everywhere costs log(4/3) a pixel; a case without lesion gets it wrong: log(4) a pixel.
    outline = torch.stack([_sure(0.75, 0.25), _sure(0.75, 0.75), _sure(0.75, 0.75)]).view(3, 1, 1, 2)
    # The same for the class: right, right, and wrong for the normal.
    classes = torch.tensor([[LOG_3, 0.0], [0.0, LOG_3], [0.0, LOG_3]])  # three quarters against one
    task = _task(_Says(outline, classes))
    loss = task.step(_batch(), task.metrics["train_metrics"])  # type: ignore[arg-type]
    each = (2 * math.log(4 / 3) + math.log(4)) / 3
    assert loss.item() == pytest.approx(2.0 * each + 0.5 * each, abs=1e-6)
    figures = task.metrics["train_metrics"].compute()  # type: ignore[operator]
    assert figures["train/segmentation_loss"].item() == pytest.approx(each, abs=1e-6)
    assert figures["train/classification_loss"].item() == pytest.approx(each, abs=1e-6)
    loss.backward()
    assert all(parameter.grad is not None and parameter.grad.abs().gt(0).all() for parameter in task.model.parameters())


def test_a_weight_of_zero_leaves_one_loss_out() -> None:
    outline, classes = torch.zeros(3, 1, 1, 2), torch.zeros(3, 2)
    for weights, expected in (((1.0, 0.0), math.log(2)), ((0.0, 3.0), 3 * math.log(2))):
        task = _task(_Says(outline, classes), segmentation_weight=weights[0], classification_weight=weights[1])
        assert task.step(_batch(), task.metrics["val_metrics"]).item() == pytest.approx(expected, abs=1e-6)  # type: ignore[arg-type]


def test_the_figures_are_those_of_both_tasks_and_their_mean() -> None:
    # Outlined: both pixels of the first image (Dice 2/3), one of the second (2/3), one of the third (a false positive).
    outline = torch.stack([_sure(0.9, 0.9), _sure(0.9, 0.1), _sure(0.9, 0.1)]).view(3, 1, 1, 2)
    # Malignant with probability 0.2, 0.6, 0.7: of two pairs of benign and malignant, one is in order; two cases are right.
    classes = torch.tensor([[0.8, 0.2], [0.4, 0.6], [0.3, 0.7]]).log()
    task = _task(_Says(outline, classes))
    task.step(_batch(), task.metrics["val_metrics"])  # type: ignore[arg-type]
    figures = {name: value.item() for name, value in task.metrics["val_metrics"].compute().items()}  # type: ignore[operator]
    assert figures["val/dice"] == pytest.approx(2 / 3)
    assert figures["val/iou"] == pytest.approx(1 / 2)
    assert figures["val/false_positive_rate"] == 1
    assert figures["val/auroc"] == pytest.approx(1 / 2)
    assert figures["val/accuracy"] == pytest.approx(2 / 3)
    assert figures["val/balanced_accuracy"] == pytest.approx(3 / 4)
    assert figures["val/score"] == pytest.approx((2 / 3 + 1 / 2) / 2)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"segmentation_weight": 0.0, "classification_weight": 0.0}, "both 0"),
        ({"tta": ["mirror", "mirror"]}, "twice"),
    ],
)
def test_what_makes_no_sense_is_refused(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        _task(nn.Identity(), **changed)


def test_every_part_is_swapped_from_the_command_line() -> None:
    swaps = ["model@model.network=fpn", "loss=bce", "loss@task.classification_loss=focal_ce", "task.monitor=val/auroc"]
    config = compose("train", ["model=multitask", *swaps, "model.network.encoder=resnet10t"])
    task = config["task"]
    assert task["_target_"].endswith("MultitaskTask")
    assert task["model"]["network"]["_target_"].endswith("FPN")
    assert task["model"]["network"]["encoder"] == "resnet10t"
    assert task["loss"]["_target_"].endswith("BCELoss")
    assert task["classification_loss"]["_target_"].endswith("FocalCrossEntropyLoss")
    assert task["monitor"] == config["callbacks"]["checkpoint"]["monitor"] == "val/auroc"


def test_a_network_inside_a_network_comes_back_without_reading_pretrained_weights() -> None:
    config = compose("train", ["model=multitask", "pretrained=true"])
    assert config["task"]["model"]["network"]["pretrained"] is True
    assert without_pretrained(config["task"])["model"]["network"]["pretrained"] is False
    assert config["task"]["model"]["network"]["pretrained"] is True


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    output = tmp_path_factory.mktemp("outputs")
    folder = output / "runs" / "multitask"
    network = ["model.network.encoder=test_resnet", "model.network.decoder_channels=[16,16,8,8,8]"]
    small = [
        "data.source.n_images=60",
        "preprocess.size=64",
        "trainer.max_epochs=1",
        "batch_size=8",
        "logger=[csv]",
        "callbacks=[default,ema]",
    ]
    config = compose("train", ["model=multitask", *network, *small, f"output={output}", "name=multitask"], folder)
    return folder, train(config, folder)


def test_a_run_writes_the_figures_of_both_and_repeats_them_to_the_last_digit(trained: Trained, tmp_path: Path) -> None:
    folder, metrics = trained
    test = metrics["test"]
    assert {"dice", "iou", "lesion_images", "lesion_free_images", "auroc", "accuracy", "by_class"} <= set(test)
    cases = pd.read_csv(folder / "cases.csv", dtype={"case_id": str})
    probabilities = [f"probability_{name}" for name in ("normal", "benign", "malignant")]
    assert {"dice", "iou", "predicted_area_px", "predicted_label", *probabilities} <= set(cases)
    assert cases[probabilities].sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-6)
    for _, row in cases.iterrows():
        assert int((read_image(folder / "masks" / f"{row['case_id']}.png") > 0).sum()) == row["predicted_area_px"]
    assert json.loads((folder / "masks" / "origin.json").read_text())["learned_from"]
    assert (folder / "overlays" / "panel.png").is_file()
    history = pd.read_csv(folder / "history.csv")
    assert {"val/dice", "val/auroc", "val/segmentation_loss", "val/classification_loss"} <= set(history)
    assert history["val/score"].to_numpy() == pytest.approx((history["val/dice"] + history["val/auroc"]).to_numpy() / 2)
    again = evaluate(folder, tmp_path / "again")
    assert again["test"] == test
    assert (tmp_path / "again" / "cases.csv").read_bytes() == (folder / "cases.csv").read_bytes()


def test_prediction_writes_outline_and_class_and_agrees_with_evaluation_to_the_bit(trained: Trained, tmp_path: Path) -> None:
    folder, _ = trained
    cases = pd.read_csv(folder / "cases.csv", dtype={"case_id": str}).set_index("case_id")
    data = json.loads((folder / "metrics.json").read_text())["data"]
    assert data["n_cases"]["test"] == len(cases)
    images = next(folder.parent.parent.glob("**/phantom-60-*")) / "images"
    name = str(cases.index[0])
    made = collect_bundle(folder)
    predictor = Predictor.of(bundle_of(made.about, made.states), made.states)
    table = predict_files(predictor, images / f"{name}.png", tmp_path, learned_from=made.learned_from).set_index("case_id")
    assert table.loc[name, "raw_benign"] == cases.loc[name, "probability_benign"]
    assert table.loc[name, "max_probability"] == cases.loc[name, "max_probability"]
    assert table.loc[name, "lesion_area_px"] == cases.loc[name, "predicted_area_px"]
    assert table.loc[name, "predicted_label"] == cases.loc[name, "predicted_label"]
    written = read_image(tmp_path / "masks" / f"{name}.png")
    assert np.array_equal(written, read_image(folder / "masks" / f"{name}.png"))
    assert (tmp_path / "masks" / "origin.json").is_file()
    assert (tmp_path / "overlays" / f"{name}.png").is_file()


def test_it_asks_for_labels_and_for_lesions() -> None:
    class _Data:
        def __init__(self) -> None:
            self.cases: dict[str, list[object]] = {part: [] for part in ("train", "valid", "test")}
            self.asked = False

        def require_labels(self) -> None:
            self.asked = True

    task: BaseTask = _task(nn.Identity())
    data = _Data()
    with pytest.raises(ValueError, match="needs lesion images"):
        check_fit(task, data)  # type: ignore[arg-type]
    assert data.asked
