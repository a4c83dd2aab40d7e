from pathlib import Path

import pytest
from fake_results import fake_cases, fake_metrics, fake_test

from bcd.reports.markdown import plain
from bcd.reports.model_card import model_card
from bcd.reports.run import Results, read_results


def made(**kinds: bool) -> Results:
    cases = fake_cases(**kinds)
    return Results(fake_metrics(fake_test(cases)), cases=cases)


def headings(card: str) -> list[str]:
    return [line for line in card.splitlines() if line.startswith("#")]


def test_the_card_has_the_same_figures_as_metrics() -> None:
    results = made()
    test, card = results.test, model_card(results)
    low, high = test["intervals"]["lesion_images.dice"]
    assert f"| Dice | {test['lesion_images']['dice']:.3f} ({low:.3f}\N{EN DASH}{high:.3f}) |" in card
    point = test["operating_points"][1]
    assert f"| malignant | {point['tp']} | {point['fn']} |\n| not malignant | {point['fp']} | {point['tn']} |" in card
    assert "| Brier score | 0.412 | 0.388 |" in card
    assert f"| A | 40 | 20 | {test['subgroups'][0]['figures']['dice']:.3f}" in card


def test_the_card_has_its_parts_in_order() -> None:
    assert headings(model_card(made())) == [
        "# made-up: model card",
        *("## Intended use", "## Limits", "## Data", "## Training", "## Figures on test"),
        *("### Segmentation of lesion images", "### Images without a lesion", "### Classification"),
        *("### Operating points for malignant", "### Calibration", "### Subgroups", "### How the figures were calculated"),
        *("## Ethics and licences", "## Provenance"),
    ]


@pytest.mark.parametrize("synthetic", [True, False])
def test_synthetic_data_are_warned_of_before_anything_else(synthetic: bool) -> None:
    results = made()
    results.metrics["data"]["synthetic"] = synthetic
    assert model_card(results).splitlines()[2].startswith("**SYNTHETIC DATA.**") == synthetic


def test_limits_come_from_the_figures() -> None:
    results = made()
    results.metrics["data"]["grouped_by"] = "near-copy, patients unknown"
    results.metrics["test"]["lesion_images"]["n_missed"] = 0
    results.metrics["test"]["lesion_free_images"] = {"n": 0}
    card = model_card(results)
    assert "does not identify patients" in card
    assert "It missed" not in card
    assert "normal images is unknown" in card
    assert "not from another hospital" in card
    external = {"trained_on": {"name": "another set"}, "statement": "Nothing was fitted."}
    assert "not from another hospital" not in model_card(Results({**results.metrics, "external": external}))


def test_names_of_strangers_are_text() -> None:
    assert plain("<script>alert(1)</script>") == "&lt;script&gt;alert(1)&lt;/script&gt;"
    assert plain("a|b\n# c [d](http://e) `f` *g* _h_") == r"a\|b \# c \[d\](http:&#47;&#47;e) \`f\` \*g\* \_h\_"
    results = made()
    results.metrics["data"]["left_out"] = {"<script>|x|</script>\n# title": 1}
    card = model_card(results)
    assert "<script>" not in card
    assert "# title" not in headings(card)
    assert r"| left out: &lt;script&gt;\|x\|&lt;/script&gt; \# title | 1 |" in card


def test_every_row_of_a_table_has_as_many_cells_as_its_head() -> None:
    blocks = [block for block in model_card(made()).split("\n\n") if block.startswith("|")]
    assert len(blocks) > 8
    for block in blocks:
        assert len({line.count("|") for line in block.splitlines()}) == 1, block


def test_the_card_names_the_network_of_the_config(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("model: {_target_: bcd.models.segmentation.UNet, encoder: resnet18}")
    assert "| network | UNet (resnet18) |" in model_card(read_results(tmp_path, made().metrics))
