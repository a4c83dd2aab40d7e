"""The plan of experiment=auto: its rules, its search, and the experiment file that it leaves."""

import json
import logging
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from bcd.config import ConfigError, compose
from bcd.data.manifest import read_case, read_sizes
from bcd.data.prepare import Prepared
from bcd.preprocess import Preprocess
from bcd.runs import folder as files
from bcd.runs.assemble import build_datamodule, prepare_data
from bcd.runs.folder import with_absolute_paths
from bcd.runs.hardware import Hardware
from bcd.runs.planning import rules
from bcd.runs.planning.plan import EXPERIMENT, PLAN, planned
from bcd.runs.planning.probe import Footprint, Pace, StepProbe, _memory_of_container
from bcd.runs.planning.search import Candidate, Goal, Search, Space, fitting_batch
from bcd.runs.planning.statistics import DataStatistics, statistics

HARDWARE = Hardware("cpu", "test processor", "32-true", "channels_last", 0)
MB = 2.0**20
COST = {"resnet10t": 1.0, "resnet18": 1.5, "mobilenetv2_100": 1.8, "resnet34": 2.0, "resnet50": 4.0}


@dataclass
class FixedProbe:
    """Figures that follow from size and network alone: an image of 100 px takes 10 ms and 10 MB with the cheapest network."""

    slowness: float = 1.0
    memory_mb: float = 10_000.0
    refused: tuple[str, ...] = ()
    spent: float = 0.0

    def free_memory(self) -> float:
        return self.memory_mb * MB

    def footprint(self, config: Mapping[str, Any]) -> Footprint:
        if _network(config) in self.refused:
            raise OSError(f"the weights of {_network(config)} cannot be had\nfor a long reason")
        return Footprint(0.0, 10 * MB * (config["preprocess"]["size"] / 100) ** 2)

    def pace(self, config: Mapping[str, Any], batch_size: int, side: int | None = None) -> Pace:
        self.spent += 1
        seconds = 0.01 * self.slowness * COST[_network(config)] * (config["preprocess"]["size"] / 100) ** 2
        return Pace(train=seconds, valid=seconds / 2)

    def seconds(self) -> float:
        return self.spent


def _network(config: Mapping[str, Any]) -> str:
    model = config["model"]
    return model.get("encoder", model.get("backbone", "resnet10t"))


def _data(p5: float = 0.1, side: int = 600, **figures: Any) -> DataStatistics:
    shape = (side // 2, side, side)
    known = DataStatistics(400, 100, 300, {"benign": 250, "malignant": 150}, shape, shape, 0.0, (p5, p5))
    return replace(known, **figures)


WISHES = rules.Wishes(30, 2, 16, (96, 128, 160, 192, 256, 320, 384), ({"encoder": "resnet10t"},))


# The rules.


def test_fewer_images_get_more_epochs_and_pretrained_networks_fewer() -> None:
    assert [rules.enough_epochs(n, pretrained=False) for n in (50, 500, 1250, 10_000)] == [150, 50, 20, 20]
    assert [rules.enough_epochs(n, pretrained=True) for n in (50, 500, 1250, 10_000)] == [150, 20, 10, 10]


def test_the_batch_grows_with_the_data_and_is_shared_by_the_processes() -> None:
    assert [rules.wanted_batch(n, 1) for n in (40, 400, 799, 800, 1600)] == [8, 8, 8, 16, 32]
    assert [rules.wanted_batch(800, processes) for processes in (2, 3, 24)] == [16, 15, 24]


def test_tiny_lesions_ask_for_a_larger_input_within_the_images_own_size() -> None:
    assert rules.sizes_for(WISHES, _data(p5=0.1))[1] == 160
    assert rules.sizes_for(WISHES, _data(p5=0.05))[1] == 320
    assert rules.sizes_for(WISHES, _data(p5=0.05, side=200))[1] == 192
    assert rules.sizes_for(WISHES, _data(side=50)) == ([96], 96)


def test_twice_what_is_enough_is_the_most_that_is_tried() -> None:
    assert rules.sizes_for(WISHES, _data(p5=0.125))[0] == [96, 128, 160, 192, 256]


def test_without_outlines_the_size_is_what_backbones_are_made_for() -> None:
    assert rules.sizes_for(WISHES, _data(diameters=()))[1] == 256


def test_validations_are_counted_as_the_trainer_makes_them() -> None:
    def count(every: int | None, interval: float) -> float:
        return rules.validations_per_epoch({"check_val_every_n_epoch": every, "val_check_interval": interval}, steps=100)

    assert count(1, 1.0) == 1
    assert count(5, 1.0) == 0.2
    assert count(1, 0.25) == 4
    assert count(None, 50) == 2
    assert count(1, 50) == 2


def test_a_rare_class_is_drawn_more_often_unless_the_loss_weighs_it() -> None:
    task = {"_target_": "bcd.tasks.classification.ClassificationTask", "num_classes": 2}
    segmentation = {"_target_": "bcd.tasks.segmentation.SegmentationTask"}
    rare = _data(classes={"benign": 310, "malignant": 90})
    assert rules.sampling_and_reason({"task": task, "loss": {}}, _data())[0] == "natural"
    assert rules.sampling_and_reason({"task": task, "loss": {}}, rare)[0] == "balanced"
    assert rules.sampling_and_reason({"task": task, "loss": {"weights": "balanced"}}, rare)[0] == "natural"
    assert rules.sampling_and_reason({"task": segmentation, "loss": {}}, rare)[0] == "natural"


def test_images_that_come_up_often_are_augmented_strongly() -> None:
    assert [rules.augmentation_and_reason(epochs)[0] for epochs in (19, 20)] == ["standard", "strong"]


@pytest.mark.parametrize(
    ("key", "value"),
    [("minutes", 0), ("minutes", "auto"), ("minutes", True), ("lesion_px", -1), ("sizes", []), ("sizes", [8]), ("networks", [])],
)
def test_wishes_that_make_no_sense_are_refused(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"plan.{key}="):
        compose("train", ["experiment=auto", f"plan.{key}={value}"])


# The search.


def _search(
    probe: FixedProbe, limit: float = 100.0, networks: tuple[str, ...] = ("resnet10t", "resnet18", "resnet50"), **goal: Any
) -> Search:
    # 1000 images an epoch: at 100 px and with the cheapest network, 10 s; an hour holds 324 of them.
    known = Goal(3600, probe.free_memory(), epochs=30, batch_size=16, batch_is_given=False, n_train=1000, n_valid=0)
    space = Space((50, 100, 200, 400), 200, networks)

    def configure(candidate: Candidate) -> dict[str, Any]:
        return {"preprocess": {"size": candidate.size}, "model": {"encoder": candidate.network}}

    return Search(space, replace(known, **goal), probe, configure, limit)


def test_resolution_comes_first_then_the_network_then_more_resolution() -> None:
    # 200 px: 40 s an epoch, 81 epochs; resnet18 54, resnet50 20 of 30.
    assert _search(FixedProbe()).run().candidate == Candidate(200, "resnet18")
    # Four times as fast: resnet50 81 epochs at 200 px, and 20 of 30 at 400 px.
    assert _search(FixedProbe(slowness=0.25)).run().candidate == Candidate(200, "resnet50")
    assert _search(FixedProbe(slowness=0.1)).run().candidate == Candidate(400, "resnet50")


def test_a_slow_machine_gets_smaller_images_and_then_fewer_epochs() -> None:
    slow = _search(FixedProbe(slowness=5))
    best = slow.run()
    assert (best.candidate, best.epochs, best.problem) == (Candidate(100, "resnet10t"), 64, None)
    assert slow.trials[0].problem == "the time holds 16 of 30 epochs"
    slower = _search(FixedProbe(slowness=50))
    best = slower.run()
    assert (best.candidate, best.epochs) == (Candidate(50, "resnet10t"), 25)
    assert best.problem == "the time holds 25 of 30 epochs"
    # At 200 px the time holds 1.6 epochs, so that at 100 px it cannot hold 30: not worth a measurement.
    assert [trial.candidate.size for trial in slower.trials] == [200, 50]


def test_validation_and_processes_count_in_the_time() -> None:
    # 200 px, resnet10t: 1000 images of 40 ms and 500 of 20 ms.
    search = _search(FixedProbe(), n_valid=500)
    search.run()
    assert search.trials[0].epoch_seconds == pytest.approx(50)
    search = _search(FixedProbe(), n_valid=500, processes=2)
    search.run()
    assert search.trials[0].epoch_seconds == pytest.approx(25)


def test_little_memory_means_a_smaller_batch_and_then_smaller_images() -> None:
    # 200 px take 40 MB an image; 70 % of the memory may be used.
    assert _search(FixedProbe(memory_mb=1000)).run().batch_size == 16
    assert _search(FixedProbe(memory_mb=500)).run().batch_size == 8
    small = _search(FixedProbe(memory_mb=120))
    assert small.run().candidate.size == 100
    assert small.trials[0].problem == "the memory holds a batch of 2 only"


def test_a_batch_that_the_user_gave_is_not_made_smaller() -> None:
    best = _search(FixedProbe(memory_mb=500), batch_is_given=True).run()
    assert (best.candidate.size, best.batch_size) == (100, 16)


def test_the_batch_of_several_processes_is_halved_for_all_of_them() -> None:
    goal = _search(FixedProbe(memory_mb=100)).goal
    footprint = Footprint(fixed=10 * MB, per_image=10 * MB)
    assert fitting_batch(footprint, replace(goal, batch_size=24, processes=3)) == 12
    assert fitting_batch(footprint, replace(goal, memory=20 * MB)) == 0


def test_networks_that_do_not_run_are_passed_over() -> None:
    search = _search(FixedProbe(refused=("resnet10t",)))
    assert search.run().candidate == Candidate(200, "resnet18")
    assert search.trials[0].problem == "it does not run: the weights of resnet10t cannot be had"
    assert [trial.candidate.network for trial in search.trials].count("resnet10t") == 1


def test_a_smaller_size_is_explained_by_the_network_that_was_taken() -> None:
    search = _search(FixedProbe(slowness=3, refused=("resnet10t",)))
    best = search.run()
    assert best.candidate == Candidate(100, "resnet18")
    said = rules.size_reason(search, best, WISHES, _data())
    assert said == (
        "the 5th percentile of the lesions' diameters is 10.0 px here, 16 wanted; 200 px would be better, but there the time "
        "holds 18 of 30 epochs"
    )


def test_where_no_network_runs_the_first_reason_is_given() -> None:
    with pytest.raises(OSError, match="the weights of resnet10t"):
        _search(FixedProbe(refused=tuple(COST))).run()


def test_a_network_of_a_fixed_larger_size_is_found() -> None:
    class OnlyAt400(FixedProbe):
        def footprint(self, config: Mapping[str, Any]) -> Footprint:
            if config["preprocess"]["size"] != 400:
                raise AssertionError("Input height doesn't match model (400).")
            return super().footprint(config)

    assert _search(OnlyAt400(slowness=0.1)).run().candidate == Candidate(400, "resnet10t")


def test_measuring_ends_when_its_time_is_over() -> None:
    search = _search(FixedProbe(slowness=0.1), limit=1.5)
    assert search.run().candidate == Candidate(200, "resnet18")
    assert search.remarks == [
        "the time for measuring (plan.probe_minutes) was over before networks stronger than resnet18 could be tried"
    ]


# What is seen in the data, and measured.


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outputs")


Composed = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def composed(output: Path) -> Composed:
    """Compose as the command line would, in the form that a run has it."""

    def _composed(*overrides: str, folder: Path | str = "outputs/run", name: str = "auto") -> dict[str, Any]:
        given = [f"experiment={name}", f"output={output}", "data.source.n_images=30", *overrides]
        return with_absolute_paths(compose("train", given, folder))

    return _composed


@pytest.fixture(scope="module")
def config(composed: Composed) -> dict[str, Any]:
    return composed()


@pytest.fixture(scope="module")
def prepared(config: dict[str, Any]) -> Prepared:
    return prepare_data(config)


def test_lesions_are_measured_as_shares_of_the_square_input(prepared: Prepared) -> None:
    case = next(case for case in prepared.cases if case.masks)
    height, width = read_sizes(prepared.folder / "manifest.csv")[case.case_id]
    data = statistics([case], [], prepared, Preprocess(400))
    area = int(read_case(case)[1].sum())
    assert data.diameters[0] == pytest.approx((4 * area / 3.14159265) ** 0.5 / max(height, width), rel=0.02)
    assert data.lesion_px(200, 5) == pytest.approx(200 * data.diameters[0])
    assert (data.n_train, data.n_valid, data.n_lesion, data.native_side) == (1, 0, 1, max(height, width))
    assert data.padding == pytest.approx(1 - min(height, width) / max(height, width))


def test_real_steps_are_timed_and_weighed(composed: Composed, prepared: Prepared) -> None:
    small = {"model=attention_unet", "model.channels=[4,8]", "augmentation=none", "preprocess.size=32", "batch_size=4"}
    config = composed(*small, name="quickstart")
    datamodule = build_datamodule(config, prepared, HARDWARE)
    datamodule.select_cases()
    probe = StepProbe(datamodule, HARDWARE)
    larger = {**config, "preprocess": {**config["preprocess"], "size": 64}}
    # Four times the pixels are four times the activations, whatever the machine is doing meanwhile.
    assert probe.footprint(larger).per_image == pytest.approx(4 * probe.footprint(config).per_image, rel=0.1)
    pace = probe.pace(config, 4)
    assert pace.train > 0
    assert pace.valid > 0
    assert probe.free_memory() > 0
    assert probe.seconds() > 0


def test_a_pace_is_that_of_fitted_images_at_the_side_that_is_asked_for(
    composed: Composed, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = composed("model=attention_unet", "model.channels=[4,8]", "preprocess.size=32", "batch_size=4", name="quickstart")
    datamodule = build_datamodule(config, prepared, HARDWARE)
    datamodule.select_cases()
    probe, fit = StepProbe(datamodule, HARDWARE), Preprocess.fit_image
    fitted: list[bool] = []
    sides: list[int] = []

    def counted(act: Callable[[], None], *_: float) -> float:  # a clock on which everything takes two seconds
        before = len(fitted)
        act()
        assert len(fitted) == before  # a run reads what was fitted before
        return 2.0

    monkeypatch.setattr(Preprocess, "fit_image", lambda self, image: (fitted.append(True), fit(self, image))[1])
    monkeypatch.setattr(probe, "_median", counted)
    monkeypatch.setattr(probe, "_step", lambda task, batch, optimizer: sides.append(batch["image"].shape[-1]))
    assert probe.pace(config, 4) == Pace(train=1.0, valid=1.0)  # loading and computing, 2 s each, for four images
    assert probe.pace(config, 4, side=16) == Pace(train=1.0, valid=1.0)
    assert sides == [32, 16]


def test_a_containers_limit_counts_and_cached_files_do_not(tmp_path: Path) -> None:
    assert _memory_of_container(tmp_path) == float("inf")
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 400\ninactive_file 200\nactive_file 100\n")
    assert _memory_of_container(tmp_path) == 600
    (tmp_path / "memory.max").write_text("max\n")
    assert _memory_of_container(tmp_path) == float("inf")


# The whole.


def _with(config: dict[str, Any], folder: Path, **plan: Any) -> dict[str, Any]:
    return {**config, "folder": str(folder), "plan": {**config["plan"], **plan}}


def _kept(folder: Path) -> list[str]:
    """Keep a run's experiment file in a folder of the user's own, and return what chooses it."""
    (folder / "own" / "experiment").mkdir(parents=True)
    shutil.copy(folder / EXPERIMENT, folder / "own" / "experiment" / "mine.yaml")
    return [f"--config-dir={folder / 'own'}", "experiment=mine"]


def test_a_plan_fills_every_auto_gives_its_reasons_and_is_the_same_again(
    config: dict[str, Any], prepared: Prepared, tmp_path: Path
) -> None:
    results = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        final = planned(_with(config, tmp_path / name), prepared, HARDWARE, tmp_path / name, FixedProbe())
        record = json.loads((tmp_path / name / PLAN).read_text())
        results.append((final["model"], final["trainer"], record["values"], record["choices"], record["measured"]))
    assert results[0] == results[1]
    assert "auto" not in str([final["model"], final["task"], final["preprocess"], final["augmentation"]])
    assert final["task"]["model"] == final["model"]
    assert set(record["reasons"]) == {*record["values"], *record["choices"]}
    assert set(record["values"]) == {
        "preprocess.size", "model.encoder", "model.decoder_channels", "batch_size", "sampling", "trainer.max_epochs"
    }  # fmt: skip
    text = (tmp_path / "first" / EXPERIMENT).read_text()
    assert "5th percentile of the lesions' diameters" in text
    assert "an epoch takes" in text


def test_the_written_experiment_composes_to_the_very_config_of_the_run(
    composed: Composed, prepared: Prepared, tmp_path: Path
) -> None:
    given = ["model=unetpp", "loss=bce", "optimizer.lr=2e-3", "data.classes=[benign,malignant]", "task.monitor=val/loss"]
    more = ["task.mode=min", "logger=[csv]", "guide.test=none", "+data.relabel.normal=benign", "~callbacks.pictures"]
    config = composed(*given, *more, folder=tmp_path)
    final = planned(config, prepared, HARDWARE, tmp_path, FixedProbe())
    mine = _kept(tmp_path)
    again = with_absolute_paths(compose("train", [*mine, f"output={config['output']}"], tmp_path))
    assert again["plan"] is None
    assert {**again, "plan": None} == {**final, "plan": None}
    # What points to another value still does: the task follows the model that is edited in the file.
    edited = compose("train", [*mine, "model.encoder=resnet34", "task.monitor=val/dice"], tmp_path)
    assert edited["task"]["model"]["encoder"] == "resnet34"
    assert edited["callbacks"]["checkpoint"]["dirpath"] == f"{tmp_path}/checkpoints"


def test_what_the_user_gives_stays(composed: Composed, prepared: Prepared, tmp_path: Path) -> None:
    given = ["preprocess.size=96", "model.encoder=resnet34", "batch_size=6", "trainer.max_epochs=7", "augmentation=none"]
    final = planned(composed(*given, folder=tmp_path), prepared, HARDWARE, tmp_path, FixedProbe())
    record = json.loads((tmp_path / PLAN).read_text())
    assert (final["preprocess"]["size"], final["model"]["encoder"], final["batch_size"]) == (96, "resnet34", 6)
    assert (final["trainer"]["max_epochs"], final["augmentation"]["transforms"]) == (7, [])
    assert set(record["values"]) == {"model.decoder_channels", "sampling"}
    assert not record["choices"]
    assert all(trial["size"] == 96 and trial["batch_size"] == 6 for trial in record["measured"])


def test_a_model_that_names_its_backbone_keeps_it_and_another_gets_one(
    composed: Composed, prepared: Prepared, tmp_path: Path
) -> None:
    for model, backbone in (("resnet18", "resnet18"), ("classifier", "resnet50")):
        (tmp_path / model).mkdir()
        config = composed(f"model={model}", folder=tmp_path / model)
        final = planned(config, prepared, HARDWARE, tmp_path / model, FixedProbe(slowness=0.01))
        assert final["task"]["model"]["backbone"] == backbone
        assert "encoder" not in final["model"]


def test_a_file_of_weights_needs_to_know_its_network(composed: Composed, prepared: Prepared, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"say which by model\.encoder="):
        planned(composed("pretrained=some.safetensors", folder=tmp_path), prepared, HARDWARE, tmp_path, FixedProbe())


def test_a_folder_that_holds_a_plan_keeps_it(config: dict[str, Any], prepared: Prepared, tmp_path: Path) -> None:
    config = _with(config, tmp_path)
    first = planned(config, prepared, HARDWARE, tmp_path, FixedProbe())
    assert planned(config, prepared, HARDWARE, tmp_path, FixedProbe(slowness=1000)) == first
    # A run that goes on reads the config with every value in it: there is nothing to plan, and nothing is measured.
    (tmp_path / PLAN).unlink()
    assert planned(first, prepared, HARDWARE, tmp_path, FixedProbe(refused=tuple(COST))) == first


def test_a_further_process_waits_for_the_plan_of_the_one_that_leads(
    config: dict[str, Any], prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr("bcd.runs.planning.plan._PATIENCE_S", 0)
    together = _with(config, tmp_path, probe_minutes=1e-9)
    together["trainer"] = {**together["trainer"], "devices": 2}
    with pytest.raises(files.RunError, match="the process that leads"):
        planned(together, prepared, HARDWARE, tmp_path, FixedProbe())


def test_a_time_too_short_for_an_epoch_is_refused_with_what_would_do(
    config: dict[str, Any], prepared: Prepared, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"plan\.minutes=0\.001 is too short for a single epoch") as caught:
        planned(_with(config, tmp_path, minutes=0.001), prepared, HARDWARE, tmp_path, FixedProbe())
    enough = int(re.findall(r"plan\.minutes=(\d+) would hold", str(caught.value))[0])
    (tmp_path / "enough").mkdir()
    final = planned(_with(config, tmp_path / "enough", minutes=enough), prepared, HARDWARE, tmp_path / "enough", FixedProbe())
    assert json.loads((tmp_path / "enough" / PLAN).read_text())["warnings"] == []
    assert final["trainer"]["max_epochs"] >= 150


def test_a_short_time_is_a_warning_in_the_log_and_in_the_file(
    config: dict[str, Any], prepared: Prepared, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "bcd"):
        final = planned(_with(config, tmp_path, minutes=0.1), prepared, HARDWARE, tmp_path, FixedProbe())
    assert final["preprocess"]["size"] == 96
    assert "plan.minutes=0.1 is short" in caplog.text
    assert "# WARNING: plan.minutes=0.1 is short" in (tmp_path / EXPERIMENT).read_text()


def test_too_little_memory_is_refused(config: dict[str, Any], prepared: Prepared, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="The memory is too small to train"):
        planned(_with(config, tmp_path), prepared, HARDWARE, tmp_path, FixedProbe(memory_mb=10))


def test_options_of_the_users_own_folder_are_planned_for(composed: Composed, prepared: Prepared, tmp_path: Path) -> None:
    (tmp_path / "mine" / "loss").mkdir(parents=True)
    (tmp_path / "mine" / "loss" / "gentle.yaml").write_text("# Mine.\n_target_: bcd.losses.bce.BCELoss\n")
    config = composed(f"--config-dir={tmp_path / 'mine'}", "loss=gentle", folder=tmp_path)
    final = planned(config, prepared, HARDWARE, tmp_path, FixedProbe())
    assert final["task"]["loss"]["_target_"] == "bcd.losses.bce.BCELoss"
    text = (tmp_path / EXPERIMENT).read_text()
    assert "- override /loss: gentle" in text
    assert f"--config-dir={tmp_path / 'mine'}" in text


@pytest.mark.slow
def test_a_run_plans_itself_trains_and_its_experiment_repeats_it(composed: Composed, tmp_path: Path) -> None:
    from bcd.runs.training.train import train

    given = [
        "plan.minutes=0.05",
        "plan.probe_minutes=0.01",
        "plan.sizes=[32,48]",
        "+plan.networks=[{encoder: resnet10t}]",
        "logger=none",
    ]
    first = train(composed(*given, folder=tmp_path / "first"), tmp_path / "first")
    mine = _kept(tmp_path / "first")
    second = train(composed(*mine, folder=tmp_path / "second", name="mine"), tmp_path / "second")
    assert second["test"] == first["test"]
    assert not (tmp_path / "second" / PLAN).exists()
