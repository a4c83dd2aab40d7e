"""A bundle is evaluated on a data set by the same rules as a run, with its own thresholds and temperature."""

from pathlib import Path

import pandas as pd
import pytest
from tiny_bundles import written

from bcd.config import compose
from bcd.images.read import read_image
from bcd.predictor.evaluated import EvaluatedBundle
from bcd.predictor.predictor import Predictor
from bcd.runs.folder import RunError
from bcd.runs.testing.evaluation import evaluation

SMALL = ["data=phantom", "data.source.n_images=8", "+data.source.views=1", "data.folds=3", "data.classes=[benign,malignant]"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prepared")


def test_a_bundle_scores_what_its_predictor_returns(prepared: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    written(folder, "segmentation", "roi", temperatures=(2.0,))
    predictor = Predictor.load(folder)
    overrides = [f"bundle={folder}", *SMALL, f"data.root={prepared}/phantoms", f"output={tmp_path / 'out'}", f"prepared={prepared}"]
    metrics = evaluation(compose("evaluate", overrides), EvaluatedBundle.load)
    cases = pd.read_csv(tmp_path / "out" / "cases.csv")
    assert len(cases) == metrics["test"]["n_cases"] > 0
    for row in cases.head(3).to_dict("records"):
        (path,) = (prepared / "phantoms").rglob(f"images/{row['case_id']}.png")
        result = predictor.predict(read_image(path))
        assert result.raw is not None
        assert row["probability_malignant"] == pytest.approx(float(result.raw[predictor.classes.index("malignant")]), abs=1e-6)
        assert row["predicted_area_px"] == result.mask.sum()
    (decisions,) = metrics["decisions"].values()
    assert decisions["thresholds"] == dict(predictor.bundle.decisions.thresholds)
    assert decisions["temperature"] == 2.0
    assert metrics["external"]["trained_on"]["name"] == predictor.bundle.data["name"]
    assert metrics["guide"]["test"].startswith("predicted")


def test_data_that_a_bundle_learned_from_are_refused(prepared: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    written(folder, "classification")
    model = EvaluatedBundle.load(folder)
    places = [f"data.root={prepared}/phantoms", f"output={tmp_path / 'out'}", f"prepared={prepared}"]
    command = compose("evaluate", [f"bundle={folder}", *SMALL, *places])
    fingerprint = evaluation(command, lambda _: model)["data"]["fingerprint"]
    model.origin["trained_on"]["fingerprint"] = fingerprint
    with pytest.raises(RunError, match="trained on"):
        evaluation(command, lambda _: model)


@pytest.mark.parametrize(
    ("overrides", "word"),
    [
        ([], "none"),
        (["run={}", "bundle={}"], "run and bundle"),
        (["bundle={}"], "data="),
        (["bundle={}", *SMALL], "output="),
    ],
)
def test_a_command_names_one_source_and_what_it_needs(overrides: list[str], word: str, tmp_path: Path) -> None:
    config = compose("evaluate", [text.format(tmp_path) for text in overrides])
    with pytest.raises(ValueError, match=word):
        evaluation(config, EvaluatedBundle.load)
