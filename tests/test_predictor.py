"""The predictor: the same digits however an image came, ensembles, rules, uncertainty, heat maps."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_bundles import CLASSES, tiny_predictor

from bcd.images.decode import ImageError
from bcd.images.scan import Scan
from bcd.metrics.calibration import scale
from bcd.predictor.backends import ExportedNetwork
from bcd.predictor.bundles.examples import example_image
from bcd.predictor.consistency import agreement, shared_out
from bcd.predictor.heat_map import deepest_map, logits_of
from bcd.predictor.options import PredictOptions
from bcd.predictor.pipeline import batch_of
from bcd.predictor.predictor import Predictor
from bcd.predictor.result import Result
from bcd.predictor.scope import ScopeModel


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    return [example_image(name)[:200, :240] for name in ("benign", "malignant", "normal")]


@pytest.fixture(scope="module")
def guided() -> Predictor:
    return tiny_predictor("segmentation", "roi", temperatures=(1.5,))


@pytest.fixture(scope="module")
def ensemble() -> Predictor:
    return tiny_predictor("segmentation", "roi", folds=3, temperatures=(0.7, 1.0, 2.0))


def one(predictor: Predictor, image: object, **asked: object) -> Result:
    result = predictor.predict(image, **asked)  # type: ignore[arg-type]
    assert isinstance(result, Result)
    return result


def same(first: Result, second: Result) -> None:
    assert np.array_equal(first.raw, second.raw)
    assert np.array_equal(first.probability_map, second.probability_map)
    assert np.array_equal(first.mask, second.mask)
    assert {**first.to_dict(), "name": ""} == {**second.to_dict(), "name": ""}


def test_the_same_digits_alone_and_among_others(guided: Predictor, images: list[np.ndarray]) -> None:
    together = guided.predict(images)
    backwards = guided.predict(images[::-1])
    for image, first, second in zip(images, together, backwards[::-1], strict=True):
        alone = one(guided, image)
        same(alone, first)
        same(alone, second)
    assert guided.predict([]) == []


def test_the_same_digits_however_an_image_came(guided: Predictor, images: list[np.ndarray], tmp_path: Path) -> None:
    path, content = tmp_path / "lesion.png", io.BytesIO()
    Image.fromarray(images[0]).save(path)
    Image.fromarray(images[0]).convert("RGB").save(content, "PNG")
    scan = Scan("lesion", images[0], None, None, None, images[0].shape, None, None)
    expected = one(guided, images[0])
    forms = [path, str(path), path.read_bytes(), content.getvalue(), Image.open(path), np.repeat(images[0][..., None], 3, 2), scan]
    for form in forms:
        same(one(guided, form), expected)
    assert one(guided, path).name == one(guided, scan).name == "lesion"


def test_asking_for_more_changes_no_digit(guided: Predictor, images: list[np.ndarray]) -> None:
    asked = one(guided, images[0], uncertainty=True, heat_map=True, point="0.5")
    plain = one(guided, images[0], point="0.5")
    assert np.array_equal(asked.raw, plain.raw)
    assert asked.uncertainty is not None
    same(asked.__class__(**{**vars(asked), "uncertainty": None, "heat_map": None}), plain)


def test_a_result_has_native_size_and_plain_values(guided: Predictor, images: list[np.ndarray]) -> None:
    result = one(guided, images[0], uncertainty=True)
    assert result.probability_map is not None
    assert result.mask is not None
    assert result.probability_map.shape == result.mask.shape == (result.height, result.width) == (200, 240)
    assert result.probability_map.dtype == np.float32
    assert np.array_equal(result.mask, result.probability_map >= 0.5)
    assert sum(result.probabilities.values()) == pytest.approx(1)
    assert list(result.probabilities) == list(CLASSES)
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False))["label"] == result.label
    assert not set(result.to_dict()) & {"mask", "probability_map", "heat_map"}


def test_probabilities_are_calibrated_and_the_threshold_is_for_raw_ones(guided: Predictor, images: list[np.ndarray]) -> None:
    result = one(guided, images[0])
    assert result.raw is not None
    assert list(result.probabilities.values()) == scale(result.raw[None], 1.5)[0].tolist()
    assert (result.point, result.threshold) == ("youden", 0.3)
    assert result.is_positive == (float(result.raw[2]) >= 0.3)
    assert one(guided, images[0], point="0.5").threshold == 0.5
    with pytest.raises(ValueError, match="no such operating point"):
        guided.predict(images[0], point="sensitivity>=0.95")  # validation could not tell it
    assert result.conformal == tuple(name for name, value in result.probabilities.items() if 1 - value <= 0.6)


def test_an_ensemble_is_the_mean_of_its_networks(ensemble: Predictor, images: list[np.ndarray]) -> None:
    result = one(ensemble, images[1], uncertainty=True)
    answer = ensemble.pipeline(images[1], "image", 0.5)
    assert len(answer.maps) == len(answer.raw) == 3
    assert result.probability_map == pytest.approx(np.mean(answer.maps, axis=0), abs=1e-6)
    calibrated = [scale(raw[None], temperature)[0] for raw, temperature in zip(answer.raw, (0.7, 1.0, 2.0), strict=True)]
    assert list(result.probabilities.values()) == pytest.approx(np.mean(calibrated, axis=0).tolist(), abs=1e-12)
    assert result.is_positive == (result.probabilities["malignant"] >= 0.3)
    assert result.uncertainty is not None
    assert (result.uncertainty.n, result.uncertainty.source) == (3, "ensemble of 3")
    assert result.uncertainty.classes == pytest.approx(np.std(calibrated, axis=0), abs=1e-12)
    assert result.uncertainty.mask == pytest.approx(np.std(answer.maps, axis=0), abs=1e-6)


def test_an_outline_that_is_given_takes_the_place_of_the_predicted_one(guided: Predictor, images: list[np.ndarray]) -> None:
    own = one(guided, images[0])
    assert own.mask is not None
    again = one(guided, images[0], mask=own.mask.astype(np.uint8))
    assert np.array_equal(again.raw, own.raw)
    drawn = np.zeros(images[0].shape, bool)
    drawn[40:80, 60:120] = True
    given = one(guided, images[0], outline=drawn)
    assert np.array_equal(given.mask, drawn)
    assert [lesion.box for lesion in given.lesions] == [(40, 60, 40, 60)]
    assert not np.array_equal(given.raw, own.raw)
    both = guided.predict(images[:2], mask=[None, drawn])
    same(both[0], own)
    assert np.array_equal(both[1].mask, drawn)
    for wrong in (drawn[:-1], drawn * 2, np.where(drawn, 255, 0)):
        with pytest.raises(ValueError, match="give one of 0 and 1, 200 x 240"):
            guided.predict(images[0], outline=wrong)
    with pytest.raises(ValueError, match="2 images and 1 masks"):
        guided.predict(images[:2], outline=[drawn])


def test_options_are_given_as_one_object_or_by_name(guided: Predictor, images: list[np.ndarray]) -> None:
    options = PredictOptions(mask_threshold=0.3, uncertainty=True)
    same(one(guided, images[0], options=options), one(guided, images[0], mask_threshold=0.3, uncertainty=True))
    assert one(guided, images[0], options=options, uncertainty=False).uncertainty is None
    with pytest.raises(TypeError, match="heatmap"):
        guided.predict(images[0], heatmap=True)


def test_another_mask_threshold_makes_another_outline(guided: Predictor, images: list[np.ndarray]) -> None:
    areas = []
    for threshold in (0.01, 0.5, 0.99):
        result = one(guided, images[0], mask_threshold=threshold)
        assert result.mask is not None
        assert np.array_equal(result.mask, result.probability_map >= np.float32(threshold))
        areas.append(int(result.mask.sum()))
    assert areas == sorted(areas, reverse=True)
    with pytest.raises(ValueError, match="must lie between 0 and 1"):
        guided.predict(images[0], mask_threshold=1.0)


def test_a_single_network_is_asked_at_altered_images_how_sure_it_is(guided: Predictor, images: list[np.ndarray]) -> None:
    result = one(guided, images[0], uncertainty=True)
    sure = result.uncertainty
    assert sure is not None
    assert (sure.n, sure.source) == (5, "test-time augmentation, 4 views")
    assert sure.mask is not None
    assert sure.mask.shape == images[0].shape
    assert sure.mask.dtype == np.float32
    assert sure.classes is not None
    assert (sure.classes >= 0).all()
    assert sure.classes.max() > 0
    assert sure.entropy is not None
    assert 0 < sure.entropy <= np.log2(3)
    assert sure.dice is not None
    assert 0 <= sure.dice <= 1
    mirrored = one(tiny_predictor("segmentation"), np.hstack([images[0], images[0][:, ::-1]]), uncertainty=True)
    assert mirrored.uncertainty is not None
    assert (mirrored.uncertainty.classes, mirrored.uncertainty.entropy) == (None, None)


@pytest.mark.parametrize("roles", [("classification",), ("vit",), ("multitask",), ("segmentation", "roi")])
def test_a_heat_map_shows_where_a_classifier_looked(roles: tuple[str, ...], images: list[np.ndarray]) -> None:
    drawn = np.zeros(images[0].shape, bool)
    drawn[90:110, 100:130] = True
    result = one(tiny_predictor(*roles), images[0], heat_map=True, outline=drawn if "roi" in roles else None)
    assert result.heat_map is not None
    assert result.heat_map.shape == images[0].shape
    assert result.heat_map.dtype == np.float32
    assert result.heat_map.min() >= 0
    assert result.heat_map.max() in (0, pytest.approx(1))
    if "roi" in roles:
        assert result.heat_map[:20].max() == 0  # the network sees the box around the outline, and no more


@pytest.mark.parametrize("roles", [("classification",), ("segmentation", "roi")])
def test_a_network_without_gradients_as_an_export_is_has_a_heat_map_by_occlusion(
    roles: tuple[str, ...], images: list[np.ndarray]
) -> None:
    predictor = tiny_predictor(*roles)
    (member,) = predictor.pipeline.classifiers
    network = member.task.model

    def run(inputs: list[np.ndarray]) -> list[np.ndarray]:
        with torch.no_grad():
            return [network(*(torch.from_numpy(array) for array in inputs)).numpy()]

    member.task.model = ExportedNetwork(run)
    found = one(predictor, images[0], heat_map=True).heat_map
    assert found is not None
    assert found.shape == images[0].shape
    assert 0 <= found.min() <= found.max() <= 1


@pytest.mark.parametrize(
    ("role", "expected"),
    [("classification", "network.layer3"), ("roi", "network.layer3"), ("multitask", "network.network.encoder"), ("vit", None)],
)
def test_the_deepest_feature_map_is_found_in_any_network(role: str, expected: str | None, images: list[np.ndarray]) -> None:
    (member,) = tiny_predictor(role).pipeline.classifiers
    batch = batch_of(images[0], "image", None, member.preprocess)
    found = deepest_map(member.task.model, logits_of(member.task, batch, batch["guide"]), batch["image"], 1)
    names = {module: name for name, module in member.task.model.named_modules()}
    assert (found is None) == (expected is None)
    assert expected is None or names[found].startswith(expected)


def test_a_segmentation_has_no_heat_map_and_no_class(images: list[np.ndarray]) -> None:
    predictor = tiny_predictor("segmentation")
    assert (predictor.outlines, predictor.classifies, predictor.points, predictor.positive) == (True, False, {}, None)
    result = one(predictor, images[0], heat_map=True)
    assert (result.heat_map, result.raw, result.label, result.is_positive, result.consistent) == (None,) * 5
    assert any("no heat map" in warning for warning in result.warnings)
    classifier = one(tiny_predictor("classification"), images[0])
    assert (classifier.mask, classifier.probability_map, classifier.lesions, classifier.consistent) == (None, None, (), None)


def test_warnings_are_told(guided: Predictor, images: list[np.ndarray]) -> None:
    assert any("simulated images" in warning for warning in one(guided, images[0]).warnings)
    assert any("40 x 50 px, too few" in warning for warning in one(guided, images[0][:40, :50]).warnings)
    assert not any("px, too few" in warning for warning in one(guided, images[0]).warnings)
    lonely = tiny_predictor("roi")
    assert any("it was given the whole image" in warning for warning in one(lonely, images[0]).warnings)
    drawn = np.ones(images[0].shape, bool)
    assert not any("whole image" in warning for warning in one(lonely, images[0], outline=drawn).warnings)
    assert any("does not use a mask" in warning for warning in one(tiny_predictor("multitask"), images[0], outline=drawn).warnings)


def test_what_is_out_of_scope_is_told(guided: Predictor, images: list[np.ndarray]) -> None:
    rng = np.random.default_rng(0)
    learned = [np.roll(image, shift, axis=1) for image in images for shift in range(0, 240, 30)]
    predictor = Predictor(guided.bundle, guided.pipeline, ScopeModel.fit(learned))
    noise = one(predictor, rng.integers(0, 256, (200, 240), dtype=np.uint8))
    assert noise.scope is not None
    assert not noise.scope.in_scope
    assert any(warning.startswith("Out of scope: ") for warning in noise.warnings)
    usual = one(predictor, images[0])
    assert usual.scope is not None
    assert usual.scope.in_scope
    assert usual.to_dict()["scope"]["reasons"] == []
    coloured = np.stack([images[0], images[0] // 2, 255 - images[0]], axis=2)
    told = one(predictor, coloured).scope
    assert told is not None
    assert not told.in_scope


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((20, 20)),
        np.zeros((20, 20, 4), np.uint8),
        np.zeros((0, 20), np.uint8),
        np.zeros(20, np.uint8),
        b"no picture",
        b"",
        Path("nowhere.png"),
    ],
)
def test_what_is_no_image_is_refused_in_a_sentence(guided: Predictor, image: object) -> None:
    with pytest.raises(ImageError) as refused:
        guided.predict(image)  # type: ignore[arg-type]
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("label", "n_lesions", "rule", "consistent", "empties", "allowed"),
    [
        ("normal", 0, "report", True, False, None),
        ("normal", 2, "report", False, False, None),
        ("benign", 0, "report", False, False, None),
        ("benign", 1, "report", True, False, None),
        ("normal", 2, "class", False, True, None),
        ("benign", 0, "class", False, False, None),
        ("normal", 2, "mask", False, False, [False, True, True]),
        ("benign", 0, "mask", False, False, [True, False, False]),
        ("benign", 1, "mask", True, False, [False, True, True]),
    ],
)
def test_class_and_outline_go_together_by_a_rule(
    label: str, n_lesions: int, rule: str, consistent: bool, empties: bool, allowed: list[bool] | None
) -> None:
    found = agreement(label, n_lesions, CLASSES, ["normal"], rule)
    assert (found.consistent, found.empties_mask) == (consistent, empties)
    assert (None if found.allowed is None else found.allowed.tolist()) == allowed
    assert ("they agree" in found.sentence) == consistent


def test_probabilities_are_shared_out_among_the_allowed_classes() -> None:
    probabilities = np.array([0.5, 0.3, 0.2])
    assert shared_out(probabilities, None) is probabilities
    assert shared_out(probabilities, np.array([False, True, True])) == pytest.approx([0, 0.6, 0.4])
    assert shared_out(np.array([1.0, 0, 0]), np.array([False, True, True])) == pytest.approx([0, 0.5, 0.5])


@pytest.mark.parametrize(("drawn", "label"), [(False, "normal"), (True, None)])
def test_the_mask_rule_makes_class_and_decision_follow_the_outline(
    drawn: bool, label: str | None, images: list[np.ndarray]
) -> None:
    predictor = tiny_predictor("segmentation", "roi", consistency="mask")
    outline = np.zeros(images[0].shape, bool)
    outline[50:90, 50:90] = drawn
    result = one(predictor, images[0], outline=outline)
    assert result.label == label if label is not None else result.label != "normal"
    assert result.probabilities["normal"] == (0 if drawn else 1)
    assert sum(result.probabilities.values()) == pytest.approx(1)
    assert drawn or result.is_positive is False


def test_the_class_rule_empties_the_outline_of_what_is_called_normal(images: list[np.ndarray]) -> None:
    free = tiny_predictor("segmentation", "roi", consistency="class", lesion_free=list(CLASSES))
    result = one(free, images[0], mask_threshold=0.01)
    assert result.probability_map is not None
    assert (result.probability_map >= 0.01).any()
    assert result.mask is not None
    assert not result.mask.any()
    assert result.lesions == ()
    assert "the mask was emptied" in result.consistency
    drawn = np.ones(images[0].shape, bool)
    kept = one(free, images[0], outline=drawn)  # an outline that somebody drew is not taken away
    assert kept.mask is not None
    assert kept.mask.all()
