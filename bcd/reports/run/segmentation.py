"""How well lesions are outlined and found, and what is outlined where there is none."""

from collections.abc import Mapping
from typing import Any

from bcd.reports.charts import dice_by_size, dice_histogram, froc_chart
from bcd.reports.markup import Html, element, figure, joined, table
from bcd.reports.run.results import Results, Section
from bcd.reports.svg import to_svg
from bcd.reports.wording import figures_in, label_of, number, share

_COUNTS = {
    "n_missed": "missed lesions (Dice 0)",
    "n_not_outlined": "of them, nothing outlined at all",
    "n_with_spacing": "with known spacing (figures in mm)",
}


def segmentation(results: Results) -> Section | None:
    """Return the figures of the lesion images, all and by class, and their distribution."""
    if not results.outlines:
        return None
    test = results.test
    by_class = test.get("lesion_images_by_class") or {}
    blocks = {"all lesion images": ("lesion_images", test["lesion_images"])}
    blocks |= {str(name): (f"lesion_images_by_class.{name}", block) for name, block in by_class.items()}
    return Section(
        "segmentation",
        "Segmentation of lesion images",
        joined([_figures(results, blocks), element("div", *_distribution(results), class_="charts")]),
    )


def _figures(results: Results, blocks: Mapping[str, tuple[str, Mapping[str, Any]]]) -> Html:
    names = [name for name in figures_in(results.test["lesion_images"]) if name != "n" and name not in _COUNTS]
    rows: list[list[object]] = [["images", *(number(block.get("n"), "n") for _, block in blocks.values())]]
    rows += [[label_of(name), *(results.figure(block, name, path) for path, block in blocks.values())] for name in names]
    for name, words in _COUNTS.items():
        if name in results.test["lesion_images"]:
            rows.append([words, *(share(block.get(name), block.get("n")) for _, block in blocks.values())])
    return table(
        ["figure", *blocks], rows, "Per image, then the mean; 95 % intervals in brackets" if results.test.get("intervals") else ""
    )


def _distribution(results: Results) -> list[Html]:
    if results.cases is None or "dice" not in results.cases:
        return []
    lesion = results.cases[(results.cases["lesion_area_px"] > 0) & results.cases["dice"].notna()]
    if len(lesion) < 2:
        return []
    dice = lesion["dice"]
    words = (
        f"Dice of the {len(lesion)} lesion images: median {dice.median():.3f}; a quarter lies below {dice.quantile(0.25):.3f}, a "
        f"tenth below {dice.quantile(0.1):.3f}."
    )
    small = lesion.sort_values("lesion_area_px")["dice"]
    third = max(1, len(small) // 3)
    sizes = f"Mean Dice of the smallest third {small[:third].mean():.3f}, of the largest third {small[-third:].mean():.3f}."
    return [
        figure(to_svg(dice_histogram(dice.to_list()), "dice", f"Histogram. {words}"), words),
        figure(
            to_svg(dice_by_size(lesion, results.class_names), "size", f"Dice against lesion size. {sizes}"),
            f"Dice by the size of the lesion. {sizes}",
        ),
    ]


def lesion_free(results: Results) -> Section | None:
    """Return what is outlined on images without a lesion."""
    block = results.test.get("lesion_free_images") if results.outlines else None
    if not block or not block.get("n"):
        return None
    rate = block.get("false_positive_rate")
    told = f" ({share(round(rate * block['n']), block['n'])} have any outlined pixel)" if rate is not None else ""
    rows = [["images", number(block["n"], "n")]]
    rows += [[label_of(name), results.figure(block, name, "lesion_free_images")] for name in figures_in(block) if name != "n"]
    sentence = f"Scored apart from the lesion images{told}; Dice says nothing where there is no lesion."
    return Section("lesion-free", "Images without a lesion", joined([element("p", sentence), table(["figure", "value"], rows)]))


def detection(results: Results) -> Section | None:
    """Return lesion by lesion what is found, and the FROC curve."""
    block = results.test.get("detection")
    if not block:
        return None
    parts: list[object] = [element("p", block["criterion"])] if block.get("criterion") else []
    rows = [[label_of(name), results.figure(block, name, "detection")] for name in figures_in(block)]
    whole = table(["figure", "value"], rows)
    if (block.get("froc") or {}).get("sensitivity"):
        whole = element("div", element("div", whole, _at_points(block)), _froc(results, block), class_="charts")
    return Section("detection", "Detection of lesions", joined([*parts, whole]))


def _froc(results: Results, block: Mapping[str, Any]) -> Html:
    froc, points = block["froc"], block.get("froc_points") or []
    words = (
        f"FROC: lesion sensitivity rises to {max(froc['sensitivity']):.3f} at {max(froc['false_positives_per_image']):.2f} false "
        "positives per image, as components of lower probability are let in."
    )
    if points:
        words += f" The dotted lines are where the average of {results.figure(block, 'froc_average', 'detection')} is taken."
    at = [point["false_positives_per_image"] for point in points]
    return figure(to_svg(froc_chart(froc, at), "froc", words), words)


def _at_points(block: Mapping[str, Any]) -> Html:
    points = block.get("froc_points") or []
    rows = [[f"{point['false_positives_per_image']:g}", number(point["sensitivity"], "sensitivity")] for point in points]
    return table(["false positives per image", "sensitivity"], rows, "Along the curve") if rows else Html("")
