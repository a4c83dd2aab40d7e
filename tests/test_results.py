"""What every evaluation leaves in its folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from fake_results import CLASSES, fake_cases, fake_metrics, fake_test

from bcd.evaluation.cases import CaseTruth, score_case, to_detections, to_frame
from bcd.runs import folder as files
from bcd.runs.testing import results
from bcd.runs.testing.results import Tables, write_results

PIXELS = 10**6
_SHAPE = (60, 80)


def _pictures(names: Sequence[str]) -> Mapping[str, tuple[np.ndarray, np.ndarray]]:
    return {name: (np.zeros(_SHAPE, np.uint8), np.ones(_SHAPE, np.uint8)) for name in names}


def _write(folder: Path, tables: Tables) -> dict[str, object]:
    about = {key: value for key, value in fake_metrics(fake_test(fake_cases())).items() if key not in ("test", "decisions")}
    return write_results(folder, tables, about, list(CLASSES), {}, _pictures, PIXELS)


def _outlined() -> Tables:
    options = {"threshold": 0.5, "classes": None, "class_names": CLASSES, "guide_is_empty": None}
    probability = np.full(_SHAPE, 0.75, np.float32)
    truths = [CaseTruth(f"case-{place}", f"group-{place}", CLASSES[1], np.ones(_SHAPE, bool)) for place in range(4)]
    scores = [score_case(truth, probability=probability, **options) for truth in truths]
    rows = [component for score in scores for component in score.components]
    return Tables(to_frame([score.row for score in scores]), to_detections(rows), None)


def _classified(cases: pd.DataFrame) -> Tables:
    return Tables(cases, None, None)


def test_a_test_of_another_kind_leaves_nothing_of_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outlined, drawn = _outlined(), list[Mapping[str, np.ndarray]]()
    (tmp_path / files.MASKS).mkdir()
    for name in outlined.cases["case_id"]:
        cv2.imwrite(str(tmp_path / files.MASKS / f"{name}.png"), np.full(_SHAPE, 255, np.uint8))
    monkeypatch.setattr(results, "draw_extremes", lambda cases, pictures, predicted, folder: drawn.append(predicted))
    _write(tmp_path, outlined)
    assert {files.SUMMARY, files.DETECTIONS} <= {path.name for path in tmp_path.iterdir()}
    probabilities = {f"probability_{name}": 1 / 3 for name in CLASSES}
    known = outlined.cases[["case_id", "group", "label", "fold", "height", "width", "lesion_area_px"]]
    _write(tmp_path, _classified(known.assign(**probabilities, predicted_label=CLASSES[0])))
    assert not {files.SUMMARY, files.DETECTIONS} & {path.name for path in tmp_path.iterdir()}
    assert drawn[0]
    assert drawn[1] == {}


def test_intervals_of_few_groups_are_warned_of_in_every_result(tmp_path: Path) -> None:
    for n_groups, said in ((12, "all images (12 groups)."), (40, "normal images (14 groups)"), (90, "")):
        metrics = _write(tmp_path, _classified(fake_cases(n_groups, outlines=False)))
        warnings = metrics["warnings"]
        assert isinstance(warnings, list)
        assert [said in warning for warning in warnings[1:]] == [True] * bool(said)
        for name in (files.REPORT, "model_card.md"):
            assert ("The 95 % intervals are too narrow" in (tmp_path / name).read_text()) == bool(said)
    assert files.read_metrics(tmp_path) == metrics
