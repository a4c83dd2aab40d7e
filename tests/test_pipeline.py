"""From outlining to mask-guided classification, on small phantoms."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from bcd.config import compose
from bcd.config.errors import ConfigError
from bcd.data.guides import find_masks
from bcd.data.splits import assign_parts, read_split
from bcd.evaluation.cases import read_table
from bcd.runs import folder as files
from bcd.runs.assemble import build_datamodule, prepare_data
from bcd.runs.bundle import collect_bundle
from bcd.runs.folder import RunError
from bcd.runs.hardware import Hardware
from bcd.runs.studies.crossval import crossval
from bcd.runs.studies.pipeline.crossfit import MaskSource, check_strict
from bcd.runs.studies.pipeline.pipeline import pipeline
from bcd.runs.testing.run import evaluate
from bcd.runs.training.train import train

SMALL = "trainer.max_epochs=1 logger=csv preprocess.size=32 batch_size=8 callbacks.pictures=null"
UNET = "model.encoder=resnet10t model.decoder_channels=[16,8,8,8,8]"
CROP = "model.backbone=resnet10t model.crop_size=32"

Piped = tuple[Path, dict[str, Any]]


def _config(output: Path, folder: Path, *overrides: str) -> dict[str, Any]:
    given = ["data.source.n_images=60", "data.folds=3", f"options={SMALL}", f"seg_options={UNET}", f"roi_options={CROP}"]
    return compose(
        "pipeline", [*given, "multitask_options=model.network.encoder=resnet10t", f"output={output}", *overrides], folder
    )


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def strict(output: Path) -> Piped:
    folder = output / "pipelines" / "strict"
    rows = "rows=[out_of_fold_mask]"
    return folder, pipeline(_config(output, folder, "crossfit=strict", "folds=[1]", rows, "deploy=false"), folder)


@pytest.mark.slow
def test_no_model_behind_a_mask_has_seen_the_test_fold_where_cross_fitting_is_strict(strict: Piped) -> None:
    folder, metrics = strict
    split = read_split(folder / "classification" / "out_of_fold_mask" / "split.csv")
    part_of = assign_parts(split, 1)
    tested = {name for name, part in part_of.items() if part == "test"}
    inner = json.loads((folder / "strict" / "fold_1" / "segmentation" / "masks" / "origin.json").read_text())
    assert all(tested.isdisjoint(names) for names in inner["models"].values())
    masks = {path.stem for path in (folder / "strict" / "fold_1" / "segmentation" / "masks").glob("*.png")}
    assert masks == {name for name, part in part_of.items() if part in ("train", "valid")}
    assert metrics["crossfit"] == "strict"
    assert metrics["masks_to_learn_from"] == [{"fold": 1, "masks": len(masks), "of_models_that_saw_the_test": 0}]


@pytest.fixture(scope="module")
def all_outlined(output: Path) -> Path:
    """Return a cross-validation that outlined every fold, so that its masks cover what is learned from, too."""
    folder = output / "outlined"
    given = ["data.source.n_images=60", "data.folds=3", *SMALL.split(), *UNET.split(), f"output={output}"]
    crossval(compose("crossval", given, folder), folder)
    return folder


@pytest.mark.slow
def test_strict_masks_are_learned_from_where_the_outer_models_outlined_every_fold_too(all_outlined: Path, output: Path) -> None:
    folder = output / "pipelines" / "strict_of_all"
    given = (
        f"segmentation={all_outlined}",
        "crossfit=strict",
        "folds=[2]",
        "rows=[out_of_fold_mask]",
        "deploy=false",
    )
    metrics = pipeline(_config(output, folder, *given), folder)
    assert metrics["masks_to_learn_from"][0]["of_models_that_saw_the_test"] == 0
    guide = files.read_config(folder / "classification" / "out_of_fold_mask" / "fold_2")["guide"]
    part_of = assign_parts(read_split(folder / "classification" / "out_of_fold_mask" / "split.csv"), 2)
    cases = prepare_data(files.read_config(folder / "classification" / "out_of_fold_mask" / "fold_2")).cases
    for case, path in zip(cases, find_masks([Path(one) for one in guide["masks"]], cases), strict=True):
        assert path is not None
        assert (all_outlined in path.parents) == (part_of[case.case_id] == "test")


def test_masks_of_models_that_saw_the_test_fold_are_refused_as_strict(tmp_path: Path) -> None:
    source = MaskSource("strict", {1: [tmp_path]})
    check_strict(source, {1: (0, 40)})
    check_strict(MaskSource("simple", {1: [tmp_path]}), {1: (40, 40)})
    with pytest.raises(RunError, match=r"trained on the test fold \(fold 1: 3\)"):
        check_strict(source, {1: (3, 40)})


@pytest.mark.slow
def test_each_mask_comes_from_a_model_that_had_not_seen_its_image(strict: Piped) -> None:
    folder, _ = strict
    metrics = files.read_metrics(folder / "classification" / "out_of_fold_mask")
    assert metrics["guide"]["train"] == "predicted_perturbed"
    assert metrics["guide"]["test"] == "predicted"
    assert not any("learned from those very images" in warning for warning in metrics["warnings"])
    amounts = metrics["guide"]["perturbation"]["train"]
    assert set(amounts) == {"strength", "shift", "dilate", "erode", "drop"}
    assert amounts["strength"] == 1


@pytest.mark.slow
def test_the_page_says_how_masks_were_fitted_and_shows_each_fold(strict: Piped) -> None:
    folder, metrics = strict
    page = (folder / "study.html").read_text()
    assert "crossfit=strict" in page
    assert "Cross-fitting is strict" in page
    table = pd.read_csv(folder / "folds.csv")
    assert set(table["variant"]) == {"classification/out_of_fold_mask"}
    assert table["fold_1"].notna().all()
    assert "lesion_free_with_outline" in metrics["consistency"]
    assert metrics["consistency"]["lesion_free_classes"] == ["normal"]


@pytest.mark.slow
def test_a_finished_pipeline_is_not_done_again(strict: Piped) -> None:
    folder, metrics = strict
    checkpoint = folder / "classification" / "out_of_fold_mask" / "fold_1" / "checkpoints" / "best.ckpt"
    before = checkpoint.stat().st_mtime_ns
    assert pipeline({"resume": str(folder), "trusted": []}, folder) == metrics
    assert checkpoint.stat().st_mtime_ns == before


@pytest.mark.slow
def test_another_cross_validation_serves_where_it_fits(strict: Piped, output: Path) -> None:
    other = output / "pipelines" / "other"
    with pytest.raises(RunError, match="fold 2, 3"):
        pipeline(_config(output, other, f"segmentation={strict[0] / 'segmentation'}", "deploy=false"), other)
    nothing = output / "pipelines" / "nothing"
    with pytest.raises(RunError, match="no finished cross-validation"):
        pipeline(_config(output, nothing, f"segmentation={strict[0]}"), nothing)


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        (["seg=resnet18", "seg_options="], ValueError, "segmentation"),
        (["roi=unet", "roi_options="], ValueError, "guided by a mask"),
        (["seg=unett"], ConfigError, "unet"),
        (["roi_options=model.backbonee=resnet10t"], ConfigError, "backbone"),
        (["options=data=busi"], ValueError, "for the whole pipeline"),
        (["rows=[whole_image]"], ValueError, "out_of_fold_mask among them"),
        (["rows=[out_of_fold_mask,whole]"], ValueError, "whole is none of them"),
        (["deploy_row=true_mask"], ConfigError, "out_of_fold_mask, perturbed_mask"),
        (["deploy_row=perturbed_mask", "rows=[whole_image,out_of_fold_mask]"], ValueError, "would be unknown; add it"),
    ],
)
def test_what_cannot_work_is_refused_before_there_is_a_folder(
    output: Path, tmp_path: Path, overrides: list[str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        pipeline(_config(output, tmp_path / "p", *overrides), tmp_path / "p")
    assert not (tmp_path / "p").exists()


def test_a_refit_learns_from_all_but_its_validation_part_and_is_not_tested(output: Path) -> None:
    folder = output / "runs" / "refit"
    options = ["data.source.n_images=60", "data.folds=3", *SMALL.split(), "model=resnet18", "model.backbone=resnet10t"]
    metrics = train(compose("train", [*options, "refit=true", f"output={output}"], folder), folder)
    assert "test" not in metrics
    assert metrics["data"]["n_cases"] == {"train": 40, "valid": 20, "test": 0}
    validation = read_table(folder / "validation.csv")
    learned = set(torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)["run_config"]["learned_from"])
    assert len(validation) == 20
    assert len(learned) == 60
    assert metrics["decisions"]["1"]["thresholds"]["0.5"] == 0.5
    assert files.is_finished(folder)
    assert not (folder / "cases.csv").exists()
    with pytest.raises(RunError, match="figures are those of the cross-validation"):
        evaluate(folder)


@pytest.mark.slow
def test_predicted_outlines_vary_from_epoch_to_epoch_in_training_and_never_in_the_test(strict: Piped) -> None:
    folder, _ = strict
    config = files.read_config(folder / "classification" / "out_of_fold_mask" / "fold_1")
    config["guide"] = {**config["guide"], "strength": 1.0, "shift": 0.5, "dilate": 0.3, "erode": 0.2, "drop": 0.0}
    datamodule = build_datamodule(config, prepare_data(config), Hardware("cpu", "test", "32-true", "contiguous", 0))
    datamodule.setup("fit")
    training, test = datamodule._datasets["train"], datamodule._datasets["test"]
    outlined = [row for row in range(len(training)) if training[0, row]["guide"].any()]
    if outlined:  # after one epoch on 40 phantoms there may be few outlines
        drawn = [np.asarray(training[epoch, outlined[0]]["guide"]) for epoch in range(6)]
        assert any((drawn[0] != other).any() for other in drawn[1:])
    assert all((test[0, row]["guide"] == test[5, row]["guide"]).all() for row in range(len(test)))


@pytest.mark.slow
def test_all_rows_side_by_side_and_both_models_refitted(output: Path) -> None:
    folder = output / "pipelines" / "simple"
    metrics = pipeline(_config(output, folder), folder)
    rows = {row["variant"].rpartition("/")[2] for row in metrics["variants"]}
    assert rows == {"whole_image", "out_of_fold_mask", "perturbed_mask", "true_mask", "multitask"}
    assert all(entry["of_models_that_saw_the_test"] == entry["masks"] for entry in metrics["masks_to_learn_from"])
    assert files.read_metrics(folder / "deploy" / "segmentation")["refit"]
    assert files.read_metrics(folder / "deploy" / "roi")["refit"]
    assert files.read_config(folder / "deploy" / "roi")["guide"]["train"] == "predicted_perturbed"
    for row in ("true_mask", "perturbed_mask"):
        assert files.read_metrics(folder / "classification" / row)["data"]["selection"]["classes"] == ["benign", "malignant"]


@pytest.mark.slow
def test_the_classifier_for_use_is_refitted_by_the_recipe_that_was_asked_for_and_bundled_with_its_figures(
    all_outlined: Path, output: Path
) -> None:
    folder = output / "pipelines" / "perturbed"
    given = (f"segmentation={all_outlined}", "rows=[out_of_fold_mask,perturbed_mask]", "deploy_row=perturbed_mask")
    metrics = pipeline(_config(output, folder, *given), folder)
    assert metrics["deploy"]["row"] == "perturbed_mask"
    refitted = files.read_config(folder / "deploy" / "roi")
    assert (refitted["guide"]["train"], refitted["guide"]["test"]) == ("perturbed", "predicted")
    assert refitted["data"]["classes"] == ["benign", "malignant"]  # an empty true mask would tell the class
    made = collect_bundle(folder)
    assert made.about["classes"] == ["benign", "malignant"]
    shown = next(one for one in made.about["metrics"] if one["of"].endswith("perturbed_mask"))
    auroc = next(figure["value"] for figure in shown["figures"] if figure["name"] == "auroc")
    assert auroc == files.read_metrics(folder / "classification" / "perturbed_mask")["test"]["auroc"]
