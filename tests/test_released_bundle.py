"""The bundle that comes with the project."""

from pathlib import Path

import pytest

from bcd.predictor.bundle import read_bundle
from bcd.predictor.bundles.default import released_bundle
from bcd.predictor.bundles.examples import verify

MOST_BYTES = 20 * 10**6


@pytest.fixture(scope="module")
def bundle() -> Path:
    found = released_bundle()
    assert found is not None
    return found


def test_it_is_as_it_was_sealed_and_says_what_it_said_when_it_was_made(bundle: Path) -> None:
    told = "\n".join(verify(bundle))
    assert "files are unchanged" in told
    assert all(f"Example {name}" in told for name in ("benign", "malignant", "normal"))


def test_it_is_small_and_tells_where_it_comes_from(bundle: Path) -> None:
    assert sum(path.stat().st_size for path in bundle.rglob("*")) <= MOST_BYTES
    about = read_bundle(bundle)
    assert about.task == "roi_classification"
    assert list(about.classes) == ["benign", "malignant"]
    assert not about.synthetic
    assert "10.1002/mp.16812" in " ".join(about.data["citations"])
    assert "free to use" in " ".join(about.data["licences"])
    of = [entry["figures"] for entry in about.metrics]
    assert len(of) == 2  # of outlines and of classes, over all folds
    card = (bundle / "model_card.md").read_text()
    assert "Not a medical device" in card
    assert "/tmp" not in card
