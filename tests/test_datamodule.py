"""The data module: parts, determinism, guides, contradictions, leaks."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bcd.config import compose
from bcd.config.build import build
from bcd.data.datamodule import Loading, UltrasoundDataModule
from bcd.data.guides import GuideError, GuidePolicy
from bcd.data.prepare import Prepared
from bcd.data.splits import SplitError
from bcd.runs.assemble import build_datamodule, prepare_data
from bcd.runs.hardware import Hardware

Make = Callable[..., UltrasoundDataModule]
CPU = Hardware("cpu", "test", "32-true", "contiguous", 0)


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def prepared(output: Path) -> Prepared:
    return prepare_data(compose("train", ["data.source.n_images=60", "data.source.near_copies=6", f"output={output}"]))


@pytest.fixture
def make(prepared: Prepared, output: Path) -> Make:
    def _make(*overrides: str, hardware: Hardware = CPU, data: Prepared | None = None) -> UltrasoundDataModule:
        config = compose("train", ["preprocess.size=64", "batch_size=8", f"output={output}", *overrides])
        return build_datamodule(config, data or prepared, hardware)

    return _make


def _pass(module: UltrasoundDataModule, epoch: int) -> dict[str, torch.Tensor]:
    loader = module.train_dataloader()
    loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
    return {case_id: image for batch in loader for case_id, image in zip(batch["case_id"], batch["image"], strict=True)}


def test_a_batch_is_what_the_tasks_expect(make: Make) -> None:
    module = make()
    module.setup()
    batch = next(iter(module.train_dataloader()))
    assert batch["image"].shape == batch["mask"].shape == batch["guide"].shape == (8, 1, 64, 64)
    assert batch["image"].dtype == batch["mask"].dtype == torch.float32
    assert set(batch["mask"].unique().tolist()) <= {0.0, 1.0}
    assert batch["label"].dtype == torch.int64
    assert batch["native_size"].shape == (8, 2)
    assert len(batch["case_id"]) == 8


def test_no_group_and_no_near_copy_stands_in_two_parts(make: Make, prepared: Prepared) -> None:
    module = make()
    module.setup()
    part_of = {case.case_id: part for part, cases in module.cases.items() for case in cases}
    assert len(part_of) == len(prepared.cases) == 66
    for case in prepared.cases:
        copied = case.metadata.get("copy_of")
        if copied:
            assert part_of[case.case_id] == part_of[copied]
    groups = module.group_of()
    for first in part_of:
        for second in part_of:
            assert groups[first] != groups[second] or part_of[first] == part_of[second]


def test_augmentation_repeats_in_no_epoch_and_does_not_depend_on_the_workers(make: Make) -> None:
    single = make()
    single.setup()
    several = make(hardware=replace(CPU, num_workers=2))
    several.setup()
    first, second = _pass(single, 0), _pass(single, 1)
    assert all(not torch.equal(first[name], second[name]) for name in first.keys() & second.keys())
    for epoch in (0, 1):
        one, two = _pass(single, epoch), _pass(several, epoch)
        assert one.keys() == two.keys()
        assert list(one) == list(two)
        assert all(torch.equal(one[name], two[name]) for name in one)


def test_validation_and_test_are_not_augmented(make: Make) -> None:
    module = make()
    module.setup()
    for loader in (module.val_dataloader(), module.test_dataloader()):
        first, second = (
            {name: image for batch in loader for name, image in zip(batch["case_id"], batch["image"], strict=True)} for _ in "ab"
        )
        assert all(torch.equal(first[name], second[name]) for name in first)


def test_setup_may_run_twice(make: Make) -> None:
    module = make()
    module.setup("fit")
    before = module.cases
    module.setup("test")
    assert module.cases is before


def test_classes_can_be_limited_and_joined(make: Make) -> None:
    module = make("data.classes=[malignant,benign]")
    module.setup()
    assert {case.label for cases in module.cases.values() for case in cases} == {"benign", "malignant"}
    assert sum(map(len, module.left_out.values())) > 0
    batch = next(iter(module.train_dataloader()))
    of = {case.case_id: case.label for case in module.cases["train"]}
    assert [of[name] for name in batch["case_id"]] == [["malignant", "benign"][index] for index in batch["label"]]
    joined = make("data.classes=[benign,malignant]", "+data.relabel.normal=benign")
    joined.setup()
    assert not joined.left_out


def test_lesion_images_alone_can_be_asked_for(make: Make) -> None:
    module = make("data.lesions_only=true")
    module.setup()
    assert all(case.masks for cases in module.cases.values() for case in cases)


@pytest.mark.parametrize(
    ("override", "reason"), [("data.classes=[benign,cyst]", r"'cyst'.*benign \(\d+\), malignant"), ("fold=6", "fold")]
)
def test_a_class_or_a_fold_that_there_is_not_is_refused(make: Make, override: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        make(override).setup()


def _leaking(prepared: Prepared) -> Prepared:
    split = prepared.split.copy()
    pair = prepared.groups[prepared.groups["group"].duplicated(keep=False)].sort_values("group").head(2)["case_id"].tolist()
    split["group"] = split["case_id"]
    split.loc[split["case_id"] == pair[0], "fold"] = 1
    split.loc[split["case_id"] == pair[1], "fold"] = 3
    return replace(prepared, split=split)


def test_a_group_that_crosses_the_split_stops_the_run_unless_it_is_allowed(make: Make, prepared: Prepared) -> None:
    with pytest.raises(SplitError, match="of one group"):
        make(data=_leaking(prepared)).setup()
    module = make("data.allow_leak=true", data=_leaking(prepared))
    module.setup()
    assert module.crossings


def test_a_split_of_other_data_stops_the_run(make: Make, prepared: Prepared) -> None:
    with pytest.raises(SplitError):
        make("data.allow_leak=true", data=replace(prepared, split=prepared.split.iloc[:-3])).setup()


def test_contradicting_copies_are_left_out_by_default_and_listed(make: Make, prepared: Prepared) -> None:
    groups = prepared.groups.copy()
    chosen = groups["case_id"].iloc[:2].tolist()
    groups.loc[groups["case_id"].isin(chosen), "contradictory"] = True
    changed = replace(prepared, groups=groups)
    module = make(data=changed)
    module.setup()
    assert sorted(name for names in module.left_out.values() for name in names) == sorted(chosen)
    kept = make("data.exclude_contradictions=false", data=changed)
    kept.setup()
    assert not kept.left_out


def test_guides_are_the_truth_nothing_or_predicted(make: Make, tmp_path: Path) -> None:
    for kind in ("true", "none"):
        module = make(f"guide={kind}", "data.lesions_only=true")
        module.setup()
        batch = next(iter(module.train_dataloader()))
        expected = batch["mask"] if kind == "true" else torch.zeros_like(batch["mask"])
        assert torch.equal(batch["guide"], expected)


def test_training_and_test_may_have_different_guides(make: Make) -> None:
    module = make("guide=true", "guide.test=none", "data.lesions_only=true")
    module.setup()
    assert next(iter(module.train_dataloader()))["guide"].any()
    assert not next(iter(module.val_dataloader()))["guide"].any()
    assert not next(iter(module.test_dataloader()))["guide"].any()


def test_predicted_guides_need_a_folder() -> None:
    with pytest.raises(GuideError, match=r"guide\.masks"):
        GuidePolicy(train="predicted", test="none")


def test_transforms_draw_independently_of_each_other() -> None:
    node = {
        "_target_": "bcd.data.augment.pipeline.Augmentation",
        "transforms": [
            {"_target_": "albumentations.HorizontalFlip", "p": 0.5},
            {
                "_target_": "albumentations.RandomBrightnessContrast",
                "brightness_limit": [0.2, 0.2],
                "contrast_limit": [0.0, 0.0],
                "p": 0.5,
            },
        ],
    }
    augmentation = build(node)
    image = np.tile(np.arange(64, dtype=np.uint8), (64, 1))
    outcomes = []
    for epoch in range(400):
        altered = augmentation(image, image, image, seed=0, epoch=epoch, case_id="a")[0]
        outcomes.append((bool(altered[0, 0] > altered[0, -1]), bool(altered.max() > 63)))
    shares = [outcomes.count((flipped, brighter)) / 400 for flipped in (True, False) for brighter in (True, False)]
    assert all(0.18 < share < 0.32 for share in shares), shares


def test_loading_a_last_single_case_is_left_for_another_epoch(make: Make) -> None:
    module = make()
    module.setup()
    size = len(module.cases["train"]) - 1
    module.loading = Loading(batch_size=size, num_workers=0, seed=0)
    assert [len(batch["case_id"]) for batch in module.train_dataloader()] == [size]
