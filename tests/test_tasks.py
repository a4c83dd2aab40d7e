"""What a task does is stated by its class, and read from there: a task from elsewhere gets the report that fits it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule
from tiny_bundles import network

from bcd.config import compose
from bcd.config.build import UntrustedTargetError, build, constructor
from bcd.preprocess import Preprocess
from bcd.reports.run.overview import task_name
from bcd.reports.run.results import Results
from bcd.runs.training.train import train
from bcd.sample import Batch
from bcd.tasks.inference import predict
from bcd.tasks.info import TaskInfo, info_of
from bcd.tasks.networks import TaskNetwork, inference_network

OURS = {
    "segmentation": ("segmentation.SegmentationTask", True, False, False),
    "classification": ("classification.ClassificationTask", False, True, False),
    "roi": ("roi_classification.RoiClassificationTask", False, True, True),
    "multitask": ("multitask.MultitaskTask", True, True, False),
}

OWN_TASK = '''
from torchmetrics import MetricCollection

from bcd.metrics.training import LesionDice
from bcd.tasks.base import BaseTask
from bcd.tasks.networks import Outputs


class Contouring(BaseTask):
    """Segments the darker half of what the network finds."""

    role = "contouring"
    outlines = True
    figures = ("dice",)

    def __init__(self, model, loss, optimizer, scheduler, threshold, monitor, mode, tta):
        metrics = MetricCollection({"dice": LesionDice()})
        super().__init__(model, loss, metrics, optimizer, scheduler, monitor, mode, tta, threshold)

    def step(self, batch, metrics):
        logits = self.model(batch["image"]).float()
        metrics.update((logits.detach().sigmoid() >= self.threshold).long(), batch["mask"].long())
        return self.loss(logits, batch["mask"])

    def infer(self, batch):
        return Outputs(mask=self.model(batch["image"]).float().sigmoid())
'''


@pytest.mark.parametrize("role", OURS)
def test_a_file_that_does_not_state_what_its_task_does_is_read_by_the_name_of_the_task(role: str) -> None:
    name, outlines, classifies, takes_guide = OURS[role]
    config = {"task": {"_target_": f"bcd.tasks.{name}"}}
    info = TaskInfo(role, outlines, classifies, takes_guide)
    assert TaskInfo.of(constructor(config["task"])) == info
    assert info_of({"test": {}}, config) == info
    assert info_of({"task": info.to_dict()}) == info


def test_without_a_config_the_figures_say_what_was_predicted() -> None:
    assert info_of({"test": {"lesion_images": {}, "confusion": []}}) == TaskInfo("multitask", outlines=True, classifies=True)
    assert info_of({"test": {"confusion": []}}) == TaskInfo("classification", outlines=False, classifies=True)


@pytest.mark.parametrize("role", OURS)
def test_a_bundle_predicts_to_the_bit_what_the_task_does(role: str) -> None:
    node, state = network(role, 3)
    task, bare = build(node).eval(), inference_network(node).eval()
    assert isinstance(task, LightningModule)
    assert not isinstance(bare, LightningModule)
    task.model.load_state_dict(state)
    bare.model.load_state_dict(state)
    image = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    guide = torch.zeros(2, 1, 32, 32)
    guide[0, :, 8:20, 8:20] = 1
    size, label = torch.tensor([[40, 48]] * 2), torch.tensor([0, 1])
    batch = Batch(image=image, mask=guide, guide=guide, label=label, native_size=size, case_id=["a", "b"])
    for one, other in zip(predict(task, batch, Preprocess(32)), predict(bare, batch, Preprocess(32)), strict=True):
        assert np.array_equal(one.mask, other.mask) if task.outlines else one.mask is other.mask is None
        assert np.array_equal(one.classes, other.classes) if task.classifies else one.classes is other.classes is None
        assert one.guide_is_empty == other.guide_is_empty


def test_a_bundle_names_no_foreign_constructor_even_where_it_is_not_needed() -> None:
    node, _ = network("segmentation", 3)
    with pytest.raises(UntrustedTargetError, match=r"os\.system"):
        inference_network({**node, "loss": {"_target_": "os.system", "command": "true"}})


def test_a_task_that_states_nothing_is_refused() -> None:
    with pytest.raises(TypeError, match="outlines"):
        TaskNetwork(torch.nn.Identity())


@pytest.mark.slow
def test_a_task_of_the_users_own_gets_the_report_that_fits_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ownlab").mkdir()
    (tmp_path / "ownlab" / "__init__.py").write_text("")
    (tmp_path / "ownlab" / "tasks.py").write_text(OWN_TASK)
    monkeypatch.syspath_prepend(tmp_path)
    task = ["task._target_=ownlab.tasks.Contouring", "trusted=[ownlab]"]
    small = ["model=attention_unet", "model.channels=[4,8]", "preprocess.size=32", "trainer.max_epochs=1", "logger=none"]
    folder = tmp_path / "run"
    config = compose("train", [*task, *small, "data.source.n_images=40", "batch_size=8", f"output={tmp_path}"], folder)
    train(config, folder)
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["task"] == {"role": "contouring", "outlines": True, "classifies": False, "takes_guide": False}
    assert "lesion_images" in metrics["test"]
    report = (folder / "report.html").read_text(encoding="utf-8")
    assert 'id="segmentation"' in report
    assert 'id="classification"' not in report
    assert task_name(Results(metrics, config)) == "contouring"
    stored = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    assert stored["run_config"]["task_info"] == metrics["task"]
