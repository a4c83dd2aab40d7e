"""Cross-validation, external validation and the referee, on small phantoms."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from bcd.config import compose
from bcd.data.guides import GuidePolicy, seen_in_training
from bcd.data.manifest import Case, case_file_name
from bcd.evaluation.cases import read_table
from bcd.evaluation.decisions import Decisions
from bcd.evaluation.validation import pooled
from bcd.predictor.evaluated import EvaluatedBundle
from bcd.reports.run.flow import counts
from bcd.runs import folder as files
from bcd.runs.assemble import build_datamodule, prepare_data
from bcd.runs.bundle import collect_bundle
from bcd.runs.folder import RunError
from bcd.runs.hardware import choose
from bcd.runs.studies.crossval import crossval
from bcd.runs.studies.matrix import matrix
from bcd.runs.studies.out_of_fold import spread_over_seeds
from bcd.runs.testing.evaluation import evaluation
from bcd.runs.testing.foreign import PredictionProblems, find_masks, read_probabilities
from bcd.runs.testing.run import evaluate

SMALL = ["data.source.n_images=60", "data.folds=3", "preprocess.size=32", "trainer.max_epochs=1", "logger=[csv]", "batch_size=8"]
UNET = ["model=unet", "model.encoder=resnet10t", "model.decoder_channels=[16,8,8,8,8]"]

Crossvalidated = tuple[Path, dict[str, Any]]


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outputs")


def _config(output: Path, folder: Path, *overrides: str) -> dict[str, Any]:
    return compose("crossval", [*SMALL, f"output={output}", *overrides], folder)


@pytest.fixture(scope="module")
def outlined(output: Path) -> Crossvalidated:
    folder = output / "crossval" / "unet"
    return folder, crossval(_config(output, folder, *UNET, "name=unet"), folder)


@pytest.fixture(scope="module")
def classified(output: Path) -> Crossvalidated:
    folder = output / "crossval" / "resnet"
    overrides = ["model=resnet18", "model.backbone=resnet10t", "name=resnet", "data.classes=[benign,malignant]"]
    return folder, crossval(_config(output, folder, *overrides), folder)


def test_every_case_is_tested_once_by_the_model_of_its_fold(outlined: Crossvalidated) -> None:
    folder, metrics = outlined
    cases = read_table(folder / "cases.csv").set_index("case_id")
    split = pd.read_csv(folder / "split.csv").set_index("case_id")
    assert len(cases) == 60
    assert cases.index.is_unique
    assert (cases["fold"] == split.loc[cases.index, "fold"]).all()
    assert metrics["test"]["n_cases"] == 60
    assert metrics["test"]["dice"] == pytest.approx(cases.loc[cases["lesion_area_px"] > 0, "dice"].mean(), abs=1e-12)
    for fold in (1, 2, 3):
        own = read_table(folder / f"fold_{fold}" / "cases.csv")
        assert set(own["case_id"]) == set(cases.index[cases["fold"] == fold])


def test_out_of_fold_masks_and_probabilities_are_there_and_agree(outlined: Crossvalidated) -> None:
    folder, _ = outlined
    cases = read_table(folder / "cases.csv")
    for row in cases.itertuples():
        mask = cv2.imread(str(folder / "masks" / f"{row.case_id}.png"), cv2.IMREAD_GRAYSCALE)
        probability = cv2.imread(str(folder / "probabilities" / f"{row.case_id}.png"), cv2.IMREAD_GRAYSCALE)
        assert mask.shape == probability.shape == (row.height, row.width)
        assert int((mask > 0).sum()) == row.predicted_area_px
        assert abs(probability.max() / 255 - row.max_probability) <= 0.5 / 255 + 1e-6


def test_out_of_fold_masks_say_which_model_made_them(outlined: Crossvalidated) -> None:
    folder, _ = outlined
    cases = [Case(name, Path(f"{name}.png")) for name in read_table(folder / "cases.csv")["case_id"]]
    whole = GuidePolicy("predicted", "predicted", masks=str(folder / "masks"))
    assert seen_in_training(whole, cases) == ([], 0)
    origin = json.loads((folder / "masks" / "origin.json").read_text())
    assert set(origin["models"]) == {"fold_1", "fold_2", "fold_3"}
    made_by_itself = {**origin, "made_by": dict.fromkeys(origin["made_by"], "fold_1")}
    (folder / "masks" / "origin.json").write_text(json.dumps(made_by_itself))
    seen, _ = seen_in_training(whole, cases)
    (folder / "masks" / "origin.json").write_text(json.dumps(origin))
    assert set(seen) == set(origin["models"]["fold_1"])


def test_it_leaves_the_files_that_others_read(outlined: Crossvalidated) -> None:
    folder, metrics = outlined
    for name in ("report.html", "model_card.md", "metrics.json", "detections.csv", "summary.json", "splits_final.json"):
        assert (folder / name).is_file(), name
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    assert len(json.loads((folder / "summary.json").read_text())["metric_per_case"]) == 60
    assert [one["fold"] for one in metrics["data"]["folds"]] == [1, 2, 3]


def test_trackers_group_its_trainings_by_its_folder(outlined: Crossvalidated) -> None:
    folder, metrics = outlined
    group = files.read_config(folder)["group"]
    assert group.endswith(folder.name)
    assert metrics["group"] == group
    for fold in (1, 2, 3):
        assert files.read_config(folder / f"fold_{fold}")["group"] == group
        assert files.read_metrics(folder / f"fold_{fold}")["cost"]["train_seconds"] > 0
    assert metrics["cost"]["train_seconds"] == pytest.approx(metrics["train_seconds"], abs=0.01)


def test_finished_folds_are_not_repeated(outlined: Crossvalidated, output: Path) -> None:
    folder, metrics = outlined
    before = {fold: (folder / f"fold_{fold}" / "checkpoints" / "best.ckpt").stat().st_mtime_ns for fold in (1, 2, 3)}
    (folder / "fold_2" / "report.html").unlink()  # as if it had been stopped during its test
    again = crossval({"resume": str(folder), "trusted": []}, folder)
    assert again["test"] == metrics["test"]
    assert {fold: (folder / f"fold_{fold}" / "checkpoints" / "best.ckpt").stat().st_mtime_ns for fold in (1, 2, 3)} == before
    with pytest.raises(RunError, match="holds a run already"):
        crossval(_config(output, folder, *UNET), folder)


@pytest.mark.slow
def test_two_at_a_time_give_what_one_after_the_other_gives(classified: Crossvalidated, output: Path) -> None:
    folder, _ = classified
    together = output / "crossval" / "together"
    overrides = ["model=resnet18", "model.backbone=resnet10t", "data.classes=[benign,malignant]", "folds=[1,2]", "jobs=2"]
    crossval(_config(output, together, *overrides), together)
    ours = read_table(together / "cases.csv").set_index("case_id")
    theirs = read_table(folder / "cases.csv").set_index("case_id").loc[ours.index]
    # Another number of threads adds up in another order.
    assert np.abs(ours["probability_malignant"] - theirs["probability_malignant"]).max() < 1e-3


def test_what_was_decided_on_validation_stands_with_each_fold(classified: Crossvalidated) -> None:
    folder, metrics = classified
    assert set(metrics["decisions"]) == {"1", "2", "3"}
    for fold in (1, 2, 3):
        own = files.read_metrics(folder / f"fold_{fold}")
        assert own["decisions"] == {str(fold): metrics["decisions"][str(fold)]}
    validation = read_table(folder / "validation.csv")
    split = pd.read_csv(folder / "split.csv").set_index("case_id")
    assert not (split.loc[validation["case_id"], "fold"].to_numpy() == validation["fold"].to_numpy()).any()


def test_folds_are_released_together_with_what_was_decided_on_all_of_them(classified: Crossvalidated) -> None:
    folder, metrics = classified
    about = collect_bundle(folder).about
    assert [network["fold"] for network in about["networks"]] == [1, 2, 3]
    assert [network["temperature"] for network in about["networks"]] == [
        metrics["decisions"][fold]["temperature"] for fold in "123"
    ]
    assert about["decisions"]["on"] == "calibrated"
    decisions = {int(fold): Decisions.from_dict(made) for fold, made in metrics["decisions"].items()}
    expected = pooled(read_table(folder / "validation.csv"), about["classes"], decisions)
    assert about["decisions"]["thresholds"] == expected.thresholds
    assert about["conformal"] == expected.conformal
    assert about["metrics"][0]["on"] == "out of fold, folds 1, 2, 3 of phantom"
    assert any("averaged" in limit for limit in about["limits"])


def test_what_cannot_be_cross_validated_is_refused(output: Path) -> None:
    for overrides, said in (
        (["fold=2"], r"folds=\[2\] limits it"),
        (["folds=[4]"], "the split has folds 1 to 3"),
        (["folds=[1,1]"], "different whole numbers"),
        (["seeds=[]"], "different whole numbers"),
    ):
        folder = output / "refused" / overrides[0].partition("=")[0] / overrides[0][-3:].strip("[]=")
        with pytest.raises(ValueError, match=said):
            crossval(_config(output, folder, *UNET, *overrides), folder)


def test_the_spread_over_seeds_is_that_of_their_figures(tmp_path: Path) -> None:
    results = {seed: {"test": {"dice": value, "auroc": None}} for seed, value in {0: 0.7, 1: 0.8, 2: 0.9}.items()}
    metrics = spread_over_seeds(results, tmp_path, {"name": "x"})
    assert set(metrics["over_seeds"]) == {"dice"}
    assert metrics["over_seeds"]["dice"] == pytest.approx({"mean": 0.8, "sd": 0.1, "min": 0.7, "max": 0.9})
    assert list(pd.read_csv(tmp_path / "seeds.csv")["dice"]) == [0.7, 0.8, 0.9]


def test_splits_go_to_nnunets_form_and_are_read_from_it(outlined: Crossvalidated, output: Path) -> None:
    folder, _ = outlined
    config = compose("train", [*SMALL, f"output={output}", f"data.split={folder / 'splits_final.json'}"])
    read = prepare_data(config).split.set_index("case_id")["fold"]
    ours = pd.read_csv(folder / "split.csv").set_index("case_id")["fold"]
    assert (read == ours.loc[read.index]).all()


# Another data set.


def _evaluate(*overrides: str) -> dict[str, Any]:
    return evaluation(compose("evaluate", [*overrides]), EvaluatedBundle.load)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory, output: Path) -> Callable[..., list[str]]:
    """Give the overrides of another phantom data set, drawn from another seed."""
    root = tmp_path_factory.mktemp("elsewhere")
    return lambda *more: ["data=phantom", f"data.root={root}", "data.source.n_images=40", "data.source.seed=5", *more]


def test_an_external_validation_takes_every_choice_from_the_run(
    classified: Crossvalidated, elsewhere: Callable[..., list[str]], tmp_path: Path
) -> None:
    run = classified[0] / "fold_1"
    settings = [f"run={run}", f"output={tmp_path / 'out'}", *elsewhere("data.classes=[benign,malignant]")]
    metrics = _evaluate(*settings)
    before = files.read_metrics(run)
    assert metrics["external"]["trained_on"]["fingerprint"] == before["data"]["fingerprint"] != metrics["data"]["fingerprint"]
    assert list(metrics["decisions"].values()) == list(before["decisions"].values())
    cases = read_table(tmp_path / "out" / "cases.csv")
    assert len(cases) == metrics["test"]["n_cases"] == metrics["data"]["n_total"] - sum(metrics["data"]["left_out"].values())
    assert metrics["data"]["n_cases"] == {"test": len(cases)}
    assert counts(metrics["data"])["kept"] == len(cases)
    assert not {"split", "split_sha256", "crossings"} & set(metrics["data"])
    assert set(cases["label"]) == {"benign", "malignant"}
    assert "nothing was fitted" in (tmp_path / "out" / "report.html").read_text()


def test_classes_that_the_run_does_not_know_must_be_mapped(
    classified: Crossvalidated, elsewhere: Callable[..., list[str]], tmp_path: Path
) -> None:
    run = classified[0] / "fold_1"
    with pytest.raises(ValueError, match=r"has normal besides.*\+data.relabel.normal=benign"):
        _evaluate(f"run={run}", f"output={tmp_path}", *elsewhere())
    mapped = elsewhere("+data.relabel.normal=benign", "data.classes=[benign,malignant]")
    metrics = _evaluate(f"run={run}", f"output={tmp_path / 'mapped'}", *mapped)
    assert metrics["external"]["relabel"] == {"normal": "benign"}
    assert metrics["test"]["n_cases"] == 40 - sum(metrics["data"]["left_out"].values())


def test_own_data_are_no_external_ones(outlined: Crossvalidated, output: Path, tmp_path: Path) -> None:
    own = ["data=phantom", f"data.root={output / 'phantoms'}", "data.source.n_images=60"]
    with pytest.raises(RunError, match="is what the run was trained on"):
        _evaluate(f"run={outlined[0] / 'fold_1'}", f"output={tmp_path}", *own)
    with pytest.raises(RunError, match="give the run of one of its folds"):
        _evaluate(f"run={outlined[0]}", f"output={tmp_path}", *own)


def test_a_matrix_needs_two_data_sets(outlined: Crossvalidated, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="are all of phantom"):
        matrix([str(outlined[0] / "fold_1"), str(outlined[0] / "fold_2")], tmp_path)


# Another tool's predictions.


def _referee(output: Path, predictions: str, result: Path, *overrides: str) -> dict[str, Any]:
    data = ["data=phantom", f"data.root={output / 'phantoms'}", "data.source.n_images=60", "data.folds=3"]
    return _evaluate(f"predictions={predictions}", f"output={result}", f"prepared={output}", *data, *overrides)


def test_another_tools_masks_are_scored_by_the_same_rules(outlined: Crossvalidated, output: Path, tmp_path: Path) -> None:
    folder, metrics = outlined
    again = _referee(output, str(folder / "masks"), tmp_path / "all")
    ours, theirs = read_table(folder / "cases.csv"), read_table(tmp_path / "all" / "cases.csv")
    shared = ["case_id", "dice", "iou", "hd95_px", "assd_px", "predicted_area_px"]
    pd.testing.assert_frame_equal(
        ours[shared].sort_values("case_id", ignore_index=True), theirs[shared].sort_values("case_id", ignore_index=True)
    )
    assert again["test"]["dice"] == pytest.approx(metrics["test"]["dice"], abs=1e-12)
    assert (tmp_path / "all" / "report.html").is_file()
    assert "detection.froc_average" not in again["test"]["intervals"]
    one = _referee(output, str(folder / "masks"), tmp_path / "one", "fold=1")
    assert one["test"]["n_cases"] == len(read_table(folder / "fold_1" / "cases.csv"))
    assert one["data"]["left_out"]["of a fold that was not tested"] == 60 - one["test"]["n_cases"]
    assert counts(one["data"]) == {"all": 60, "skipped": 0, "left_out": 60 - one["test"]["n_cases"], "kept": one["test"]["n_cases"]}


def test_label_maps_of_zeros_and_ones_are_read_too(outlined: Crossvalidated, output: Path, tmp_path: Path) -> None:
    folder, metrics = outlined
    (tmp_path / "maps").mkdir()
    for path in (folder / "masks").glob("*.png"):
        cv2.imwrite(str(tmp_path / "maps" / path.name), (cv2.imread(str(path), 0) > 0).astype(np.uint8))
    (tmp_path / "maps" / "dataset.json").write_text("{}")
    dice = _referee(output, str(tmp_path / "maps"), tmp_path / "out")["test"]["dice"]
    assert dice == pytest.approx(metrics["test"]["dice"], rel=1e-12)


def test_missing_extra_wrongly_sized_and_unreadable_masks_are_each_named(
    outlined: Crossvalidated, output: Path, tmp_path: Path
) -> None:
    folder, _ = outlined
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    names = sorted(path.name for path in (folder / "masks").glob("*.png"))
    for name in names[1:]:
        (theirs / name).write_bytes((folder / "masks" / name).read_bytes())
    (theirs / "stranger.png").write_bytes((folder / "masks" / names[0]).read_bytes())
    (theirs / names[2]).write_bytes((theirs / names[2]).read_bytes()[:60])
    cv2.imwrite(str(theirs / names[3]), np.zeros((7, 9), np.uint8))
    cv2.imwrite(str(theirs / names[4]), np.arange(12, dtype=np.uint8).reshape(3, 4))
    with pytest.raises(PredictionProblems) as refused:
        _referee(output, str(theirs), tmp_path / "out")
    said = str(refused.value)
    for part in (f"{names[0]}: missing", "stranger.png: extra", names[2], "the mask is 7 x 9 px", names[4], "5 problems"):
        assert part in said
    assert len(pd.read_csv(tmp_path / "out" / "problems.csv")) == 5
    metrics = _referee(output, str(theirs), tmp_path / "out", "on_error=skip")
    cases = read_table(tmp_path / "out" / "cases.csv").set_index("case_id")
    assert len(cases) == 60
    for name in (names[0], *names[2:5]):
        assert cases.loc[name.removesuffix(".png"), "predicted_area_px"] == 0
    assert len(metrics["predictions"]["problems"]) == 5
    assert any("5 problems" in warning for warning in metrics["warnings"])


def test_a_csv_of_probabilities_is_scored(classified: Crossvalidated, output: Path, tmp_path: Path) -> None:
    folder, metrics = classified
    cases = read_table(folder / "cases.csv")
    table = tmp_path / "theirs.csv"
    cases[["case_id", "probability_benign", "probability_malignant"]].to_csv(table, index=False)
    classes = "data.classes=[benign,malignant]"
    again = _referee(output, str(table), tmp_path / "out", classes)
    assert again["test"]["auroc"] == pytest.approx(metrics["test"]["auroc"], abs=1e-12)
    of_positive = tmp_path / "positive.csv"
    cases[["case_id", "probability_malignant"]].rename(columns={"probability_malignant": "probability"}).to_csv(
        of_positive, index=False
    )
    of_one = _referee(output, str(of_positive), tmp_path / "two", classes)
    # Of the other class rounding may make a tie: 1 - p is not what the softmax gave.
    malignant = [one["test"]["by_class"]["malignant"]["auroc"] for one in (of_one, again)]
    assert malignant[0] == pytest.approx(malignant[1], abs=1e-12)


def test_problems_of_a_csv_are_each_named(classified: Crossvalidated, output: Path, tmp_path: Path) -> None:
    cases = read_table(classified[0] / "cases.csv")[["case_id", "probability_benign", "probability_malignant"]]
    cases.loc[1, "probability_benign"] = 1.5
    cases.loc[2, "probability_malignant"] = np.nan
    cases.loc[3, "probability_benign"] = cases.loc[3, "probability_benign"] / 2
    rows = pd.concat([cases.iloc[1:], cases.iloc[[5]], cases.iloc[[6]].assign(case_id="stranger")])
    rows.to_csv(tmp_path / "theirs.csv", index=False)
    with pytest.raises(PredictionProblems) as refused:
        _referee(output, str(tmp_path / "theirs.csv"), tmp_path / "out", "data.classes=[benign,malignant]")
    for part in ("6 problems", "missing", "are no probabilities", "add up to", "2 rows", "stranger"):
        assert part in str(refused.value)
    cases.drop(columns="probability_benign").rename(columns={"probability_malignant": "malignant"}).to_csv(tmp_path / "x.csv")
    with pytest.raises(ValueError, match="the column probability_benign is missing"):
        _referee(output, str(tmp_path / "x.csv"), tmp_path / "out", "data.classes=[benign,malignant]")


def test_predictions_of_skipped_cases_are_not_called_extra(tmp_path: Path) -> None:
    masks, table = tmp_path / "masks", tmp_path / "theirs.csv"
    (masks / "old").mkdir(parents=True)
    for name in (case_file_name("benign/1"), "stranger"):
        (masks / f"{name}.png").write_bytes(b"never read")
    _, problems = find_masks(masks, [], {}, 10**6, skipped={"benign/1"})
    assert [(one.file.name, one.reason.partition(":")[0]) for one in problems] == [("old", "a folder"), ("stranger.png", "extra")]
    table.write_text("case_id,probability\nbenign/1,0.5\nstranger,0.5\n")
    _, problems = read_probabilities(table, [], {"benign/1"}, ["benign", "malignant"])
    assert [one.case_id for one in problems] == ["stranger"]


def test_a_csv_that_is_not_utf_8_is_refused_with_a_sentence(tmp_path: Path) -> None:
    table = tmp_path / "theirs.csv"
    table.write_bytes("case_id,probability\nM\u00fcller,0.5\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"theirs.csv is no CSV in UTF-8 .*; save it as one"):
        read_probabilities(table, [], set(), ["benign", "malignant"])


def test_a_half_trained_fold_is_not_pooled(outlined: Crossvalidated, tmp_path: Path) -> None:
    folder = tmp_path / "stopped"
    shutil.copytree(outlined[0], folder, ignore=shutil.ignore_patterns("masks", "probabilities", "overlays", "logs"))
    (folder / "fold_2" / files.TRAINING).unlink()
    with pytest.raises(RunError, match=r"fold_2 is not trained to its end; go on with: python scripts/crossval.py resume="):
        _evaluate(f"run={folder}", f"output={tmp_path / 'out'}")
    assert not (tmp_path / "out").exists()


def test_pooled_results_warn_of_their_own_groups_and_not_of_their_folds(outlined: Crossvalidated) -> None:
    folder, metrics = outlined
    own = files.read_metrics(folder / "fold_1")["test"]
    assert own["n_groups"] < 20 <= metrics["test"]["n_groups"]
    assert f"all images ({own['n_groups']} groups)" in own["interval_warnings"][0]
    assert not set(own["interval_warnings"]) & set(metrics["warnings"])
    assert set(metrics["test"]["interval_warnings"]) <= set(metrics["warnings"])


def test_what_an_evaluation_lacks_is_said(outlined: Crossvalidated, tmp_path: Path) -> None:
    for settings, said in (
        ([], "none was given"),
        ([f"predictions={tmp_path}"], "predictions= needs data="),
        ([f"predictions={tmp_path}", "data=phantom"], "Give output="),
        ([f"run={outlined[0] / 'fold_1'}", "fold=2"], "fold= is for another data set"),
    ):
        with pytest.raises(ValueError, match=said):
            _evaluate(*settings)


def test_a_single_run_keeps_its_digits(outlined: Crossvalidated, tmp_path: Path) -> None:
    run = outlined[0] / "fold_1"
    assert evaluate(run, tmp_path)["test"] == files.read_metrics(run)["test"]


@pytest.mark.slow
def test_a_cross_validation_tested_again_keeps_its_digits(outlined: Crossvalidated, tmp_path: Path) -> None:
    folder, metrics = outlined
    assert _evaluate(f"run={folder}", f"output={tmp_path}")["test"] == metrics["test"]


def test_a_run_of_another_version_is_refused_with_what_its_config_lacks(outlined: Crossvalidated, tmp_path: Path) -> None:
    config = files.read_config(outlined[0] / "fold_1")
    del config["data"]["train_share"]
    files.write_config(tmp_path, config)
    with pytest.raises(RunError, match=r"has no data\.train_share"):
        evaluate(tmp_path)


def test_a_share_of_the_training_groups_is_part_of_a_larger_one(output: Path) -> None:
    learned = {}
    for share in (0.25, 0.5, 1.0):
        config = compose("train", [*SMALL, *UNET, f"output={output}", f"data.train_share={share}"])
        datamodule = build_datamodule(config, prepare_data(config), choose("cpu", "32-true", "auto", 0))
        datamodule.select_cases()
        learned[share] = {case.case_id for case in datamodule.cases["train"]}
        assert any("train_share" in reason for reason in datamodule.left_out) == (share < 1)
        assert {case.label for case in datamodule.cases["train"]} == {"normal", "benign", "malignant"}
    assert learned[0.25] < learned[0.5] < learned[1.0]
    assert len(learned[0.5]) == pytest.approx(len(learned[1.0]) / 2, abs=3)


def test_a_pooled_result_tells_of_every_training(outlined: Crossvalidated) -> None:
    folder, metrics = outlined
    own = [files.read_metrics(folder / f"fold_{fold}")["training"] for fold in (1, 2, 3)]
    assert metrics["training"]["images_seen"] == sum(one["images_seen"] for one in own)
    assert metrics["training"]["folds"] == own
    assert metrics["training"]["parameters"] == own[0]["parameters"]
    assert "best_value" not in metrics["training"] or len({one["best_value"] for one in own}) == 1
    assert "each fold" in (folder / "report.html").read_text()
