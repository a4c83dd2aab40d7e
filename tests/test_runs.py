"""Whole runs on small phantoms: train, test, repeat, predict."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from bcd.config import compose
from bcd.config.build import UntrustedTargetError
from bcd.data.guides import GuideError
from bcd.images.read import read_image
from bcd.predictor.bundles.write import bundle_of, write_bundle
from bcd.predictor.many.files import predict_files
from bcd.predictor.predictor import Predictor
from bcd.runs.bundle import BundleContent, BundleOptions, collect_bundle, training_images
from bcd.runs.folder import RunError, best_checkpoint
from bcd.runs.testing.run import evaluate
from bcd.runs.training.train import train
from bcd.tasks.checkpoint import CheckpointError, load_checkpoint

Trained = tuple[Path, dict[str, Any]]
SMALL = ["data.source.n_images=60", "preprocess.size=64", "trainer.max_epochs=2", "logger=[csv]", "batch_size=8"]
SMALL_UNET = ["model=unet", "model.decoder_channels=[32,16,8,8,8]"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Trained]:
    """Train as the command line would, below one output folder, so that the phantoms are made once."""
    output = tmp_path_factory.mktemp("outputs")

    def _run(name: str, *overrides: str) -> Trained:
        folder = output / "runs" / name
        config = compose("train", [*SMALL, f"output={output}", f"name={name}", *overrides], folder)
        return folder, train(config, folder)

    return _run


@pytest.fixture(scope="module")
def unet(run: Callable[..., Trained]) -> Trained:
    return run("unet", *SMALL_UNET, "logger=[csv,tensorboard]", "callbacks=[default,ema]")


@pytest.fixture(scope="module")
def classifier(run: Callable[..., Trained]) -> Trained:
    return run("classifier", "model=resnet18", "model.backbone=resnet10t")


def test_a_run_leaves_everything_that_made_its_numbers(unet: Trained) -> None:
    folder, metrics = unet
    tables = ["config.yaml", "metrics.json", "cases.csv", "history.csv", "split.csv", "logs/metrics.csv", "report.html"]
    pictures = ["learning_curves.png", "overlays/panel.png", "overlays/best_1.png", "pictures/epoch_0001.png"]
    for name in [*tables, *pictures, "checkpoints/best.ckpt", "checkpoints/last.ckpt"]:
        assert (folder / name).is_file(), name
    assert list((folder / "tensorboard").iterdir())
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    assert yaml.safe_load((folder / "config.yaml").read_text())["model"]["encoder"] == "resnet18"
    assert metrics["train_seconds"] > 0
    assert metrics["training"]["initial_weights"] == "random weights"
    assert set(pd.read_csv(folder / "history.csv")) >= {"epoch", "train/loss", "val/loss", "val/dice", "best"}


def test_synthetic_data_are_said_to_be_so(unet: Trained) -> None:
    folder, metrics = unet
    assert metrics["warnings"][0].startswith("SYNTHETIC DATA")
    assert "SYNTHETIC DATA" in (folder / "report.html").read_text()
    assert "BUSI" in metrics["warnings"][0]


def test_the_figures_are_those_of_the_rows(unet: Trained) -> None:
    folder, metrics = unet
    cases = pd.read_csv(folder / "cases.csv", keep_default_na=False, na_values=[""], dtype={"case_id": str})
    assert list(cases)[:4] == ["case_id", "group", "patient", "label"]
    lesion = cases[cases["lesion_area_px"] > 0]
    assert metrics["test"]["dice"] == pytest.approx(lesion["dice"].mean(), abs=1e-12)
    assert metrics["test"]["lesion_images"]["n"] + metrics["test"]["lesion_free_images"]["n"] == len(cases)
    assert cases.loc[cases["lesion_area_px"] == 0, "dice"].isna().all()
    for _, row in cases.iterrows():
        predicted = read_image(folder / "masks" / f"{row['case_id']}.png") if row["predicted_area_px"] else np.zeros(1)
        assert int((predicted > 0).sum()) == row["predicted_area_px"]


def test_no_group_stands_in_two_parts(unet: Trained) -> None:
    split = pd.read_csv(unet[0] / "split.csv")
    assert (split.groupby("group")["fold"].nunique() == 1).all()
    tested = set(pd.read_csv(unet[0] / "cases.csv")["case_id"])
    assert tested == set(split.loc[split["fold"] == 1, "case_id"])


def test_a_checkpoint_holds_plain_values_and_rebuilds_its_network_by_itself(unet: Trained) -> None:
    content = torch.load(unet[0] / "checkpoints" / "best.ckpt", weights_only=True)
    assert content["run_config"]["preprocess"]["size"] == 64
    task, preprocess, _ = load_checkpoint(unet[0] / "checkpoints" / "best.ckpt")
    assert preprocess.size == 64
    assert not task.training


def test_evaluating_again_gives_the_same_digits(unet: Trained, tmp_path: Path) -> None:
    folder, metrics = unet
    again = evaluate(folder, tmp_path / "again")
    assert again["test"] == metrics["test"]
    assert (tmp_path / "again" / "cases.csv").read_bytes() == (folder / "cases.csv").read_bytes()
    assert again["train_seconds"] == metrics["train_seconds"]


def predictor_of(made: BundleContent) -> Predictor:
    return Predictor.of(bundle_of(made.about, made.states), made.states)


def test_predictor_and_evaluation_agree_to_the_bit(unet: Trained, tmp_path: Path) -> None:
    folder, _ = unet
    cases = pd.read_csv(folder / "cases.csv", dtype={"case_id": str}).set_index("case_id")
    data = yaml.safe_load((folder / "config.yaml").read_text())["data"]
    made = collect_bundle(folder)
    predictor = predictor_of(made)
    images = next(Path(data["root"]).glob("phantom-60-*")) / "images"
    for case_id in list(cases.index)[:3]:
        result = predictor.predict(images / f"{case_id}.png")
        assert result.probability_map is not None
        assert float(result.probability_map.max()) == cases.loc[case_id, "max_probability"]
        assert int(result.mask.sum()) == cases.loc[case_id, "predicted_area_px"]
    chosen = tmp_path / "chosen"
    chosen.mkdir()
    name = cases.index[0]
    (chosen / f"{name}.png").write_bytes((images / f"{name}.png").read_bytes())
    (chosen / "broken.png").write_bytes(b"no picture")
    table = predict_files(predictor, chosen, tmp_path / "out", learned_from=made.learned_from).set_index("case_id")
    origins = [json.loads((place / "masks" / "origin.json").read_text()) for place in (tmp_path / "out", folder)]
    assert sorted(origins[0]["learned_from"]) == sorted(origins[1]["learned_from"])
    written = cv2.imread(str(tmp_path / "out" / "masks" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
    assert (written == cv2.imread(str(folder / "masks" / f"{name}.png"), cv2.IMREAD_UNCHANGED)).all()
    assert set(np.unique(written)) <= {0, 255}
    assert table.loc["broken", "error"]
    assert pd.read_csv(tmp_path / "out" / "predictions.csv").shape[0] == 2
    assert (tmp_path / "out" / "overlays" / f"{name}.png").is_file()


def test_a_classification_run_reports_probabilities_and_auroc(classifier: Trained, tmp_path: Path) -> None:
    folder, metrics = classifier
    cases = pd.read_csv(folder / "cases.csv")
    names = [f"probability_{name}" for name in ("normal", "benign", "malignant")]
    assert cases[names].sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-6)
    assert 0 <= metrics["test"]["auroc"] <= 1
    assert evaluate(folder, tmp_path)["test"] == metrics["test"]


def test_a_roi_classifier_takes_predicted_masks_and_counts_empty_ones(
    run: Callable[..., Trained], unet: Trained, tmp_path: Path
) -> None:
    data = yaml.safe_load((unet[0] / "config.yaml").read_text())["data"]
    images = next(Path(data["root"]).glob("phantom-60-*")) / "images"
    predict_files(predictor_of(collect_bundle(unet[0])), images, tmp_path)
    masks = tmp_path / "masks"
    blank = sorted(masks.glob("*.png"))[-1]
    for path in masks.glob("*.png"):
        mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        cv2.imwrite(str(path), np.zeros_like(mask) if path == blank else np.full_like(mask, 255))
    guided = ["model=roi_crop", "model.backbone=resnet10t", "model.crop_size=48"]
    classes = "data.classes=[normal,benign,malignant]"
    folder, metrics = run("roi", *guided, classes, "guide=predicted", f"guide.masks={masks}", "trainer.max_epochs=1")
    tested = pd.read_csv(folder / "cases.csv")
    assert metrics["test"]["n_empty_guides"] == int((tested["case_id"] == blank.stem).sum())
    assert metrics["guide"]["test"] == "predicted"
    again = evaluate(folder, tmp_path / "none", {"guide": {"test": "none"}})
    assert again["test"]["n_empty_guides"] == len(tested)
    predictor, row = predictor_of(collect_bundle(folder)), tested.iloc[0]
    shown = read_image(images / f"{row['case_id']}.png")
    given = cv2.imread(str(masks / f"{row['case_id']}.png"), cv2.IMREAD_GRAYSCALE) > 0
    result = predictor.predict(shown, outline=given)
    assert [float(value) for value in result.raw] == [row[f"probability_{name}"] for name in predictor.classes]
    blank.unlink()
    with pytest.raises(GuideError, match="have no predicted mask"):
        run("roi-missing", *guided, classes, "guide=predicted", f"guide.masks={masks}")


def test_true_masks_of_normals_are_refused_as_guides(run: Callable[..., Trained]) -> None:
    with pytest.raises(GuideError, match="the class"):
        run("leak", "model=roi_pool", "model.backbone=resnet10t", "data.classes=[normal,benign,malignant]")


def test_masks_of_a_run_say_which_cases_their_model_learned_from(unet: Trained) -> None:
    origin = json.loads((unet[0] / "masks" / "origin.json").read_text())
    tested = set(pd.read_csv(unet[0] / "cases.csv")["case_id"])
    assert origin["learned_from"]
    assert not tested & set(origin["learned_from"])


def test_the_same_seed_gives_the_same_weights(run: Callable[..., Trained]) -> None:
    states = []
    for name in ("first", "second"):
        folder, _ = run(name, *SMALL_UNET, "logger=none", "trainer.max_epochs=1")
        states.append(torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"])
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_wandb_works_offline_and_without_an_account(run: Callable[..., Trained], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SILENT", "true")
    folder, _ = run("wandb", *SMALL_UNET, "trainer=debug", "logger=[csv,wandb]")
    assert list((folder / "wandb").glob("offline-run-*"))
    import wandb

    wandb.finish()


def test_a_run_becomes_a_bundle_that_says_where_it_comes_from(classifier: Trained, unet: Trained, tmp_path: Path) -> None:
    folder, metrics = classifier
    made = collect_bundle(folder, unet[0])
    bundle = write_bundle(tmp_path / "bundle", made.about, made.states, made.card, training_images(made))
    card = (tmp_path / "bundle" / "model_card.md").read_text(encoding="utf-8")
    assert [network.role for network in bundle.networks] == ["segmentation", "classification"]
    (decided,) = metrics["decisions"].values()
    assert bundle.decisions.thresholds == decided["thresholds"]
    assert (bundle.decisions.on, bundle.decisions.default_point, bundle.conformal) == ("raw", "youden", decided["conformal"])
    assert bundle.networks[1].temperature == decided["temperature"]
    assert bundle.data["fingerprint"] == metrics["data"]["fingerprint"]
    assert bundle.data["licences"] == ["simulated by this project, MIT like its code"]
    assert (bundle.synthetic, list(bundle.lesion_free), bundle.positive) == (True, ["normal"], "malignant")
    of_classes = next(one for one in bundle.metrics if one["of"] == metrics["name"])
    auroc = next(one for one in of_classes["figures"] if one["name"] == "auroc")
    assert (auroc["value"], auroc["interval"]) == (metrics["test"]["auroc"], metrics["test"]["intervals"].get("auroc"))
    assert of_classes["on"] == "fold 1 of phantom"
    assert "**SYNTHETIC DATA.**" in card
    assert "Research use. Not a medical device." in card
    assert str(tmp_path) not in card + (tmp_path / "bundle" / "bundle.yaml").read_text(encoding="utf-8")

    predictor = Predictor.load(tmp_path / "bundle")
    cases = pd.read_csv(folder / "cases.csv", dtype={"case_id": str}).set_index("case_id")
    data = yaml.safe_load((folder / "config.yaml").read_text())["data"]
    images = next(Path(data["root"]).glob("phantom-60-*")) / "images"
    case_id = str(cases.index[0])
    result = predictor.predict(images / f"{case_id}.png")
    assert [float(value) for value in result.raw] == [cases.loc[case_id, f"probability_{name}"] for name in predictor.classes]
    assert np.array_equal(result.mask, read_image(unet[0] / "masks" / f"{case_id}.png") > 0)
    assert result.scope is not None
    with pytest.raises(RunError, match="goes with a classifier"):
        collect_bundle(unet[0], unet[0])
    with pytest.raises(RunError, match="no such operating point"):
        collect_bundle(folder, options=BundleOptions(point="sensitivity"))


def test_another_guide_does_not_overwrite_the_runs_own_results(unet: Trained) -> None:
    with pytest.raises(RunError, match="output="):
        evaluate(unet[0], None, {"guide": {"test": "none"}})


def test_a_folder_that_holds_a_run_takes_no_second_one(unet: Trained) -> None:
    config = compose("train", ["logger=none"], unet[0])
    with pytest.raises(RunError, match="holds a run already"):
        train(config, unet[0])


def test_a_damaged_or_foreign_checkpoint_is_refused(unet: Trained, tmp_path: Path) -> None:
    whole = (unet[0] / "checkpoints" / "best.ckpt").read_bytes()
    truncated, foreign = tmp_path / "truncated.ckpt", tmp_path / "foreign.ckpt"
    truncated.write_bytes(whole[: len(whole) // 2])
    torch.save({"state_dict": {}}, foreign)
    for path, words in ((truncated, "cannot be read"), (foreign, "no run_config"), (tmp_path / "absent.ckpt", "no such")):
        with pytest.raises(CheckpointError, match=words):
            load_checkpoint(path)


def test_a_hostile_checkpoint_runs_nothing(unet: Trained, tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "was run",)

    torch.save({"state_dict": Hostile(), "run_config": {}}, tmp_path / "pickle.ckpt")
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / "pickle.ckpt")
    content = torch.load(unet[0] / "checkpoints" / "best.ckpt", weights_only=True)
    content["run_config"]["task"]["model"] = {"_target_": "pathlib.Path.touch", "self": str(tmp_path / "was run")}
    torch.save(content, tmp_path / "config.ckpt")
    with pytest.raises(UntrustedTargetError):
        load_checkpoint(tmp_path / "config.ckpt")
    assert not (tmp_path / "was run").exists()


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no config\.yaml"):
        evaluate(tmp_path)
    with pytest.raises(RunError, match="neither"):
        best_checkpoint(tmp_path)
