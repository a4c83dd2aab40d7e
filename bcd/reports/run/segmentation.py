"""Segmentation and detection of lesions, and false positives where there is none."""

from collections.abc import Mapping
from typing import Any

from bcd.reports.charts import dice_by_size, dice_histogram, froc_chart
from bcd.reports.rendering import Picture, Table, chart
from bcd.reports.run.results import Results, Section
from bcd.reports.wording import figures_in, label_of, number, share

_COUNTS = {
    "n_missed": "missed lesions (Dice 0)",
    "n_not_outlined": "of these, with an empty predicted mask",
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
        id="segmentation",
        title="Segmentation of lesion images",
        tables=[_figures(results, blocks)],
        charts=_distribution(results),
    )


def _figures(results: Results, blocks: Mapping[str, tuple[str, Mapping[str, Any]]]) -> Table:
    names = [name for name in figures_in(results.test["lesion_images"]) if name != "n" and name not in _COUNTS]
    rows: list[list[object]] = [["images", *(number(block.get("n"), "n") for _, block in blocks.values())]]
    rows += [[label_of(name), *(results.figure(block, name, path) for path, block in blocks.values())] for name in names]
    for name, words in _COUNTS.items():
        if name in results.test["lesion_images"]:
            rows.append([words, *(share(block.get(name), block.get("n")) for _, block in blocks.values())])
    caption = "Per image, then the mean; 95 % intervals in brackets" if results.test.get("intervals") else ""
    return Table(["figure", *blocks], rows, caption)


def _distribution(results: Results) -> list[Picture]:
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
        chart(dice_histogram(dice.to_list()), words, f"Histogram. {words}"),
        chart(dice_by_size(lesion, results.class_names), f"Dice by the size of the lesion. {sizes}"),
    ]


def lesion_free(results: Results) -> Section | None:
    """Return the false positives on images without a lesion."""
    block = results.test.get("lesion_free_images") if results.outlines else None
    if not block or not block.get("n"):
        return None
    rate = block.get("false_positive_rate")
    count = f" ({share(round(rate * block['n']), block['n'])} have a predicted pixel)" if rate is not None else ""
    rows = [["images", number(block["n"], "n")]]
    rows += [[label_of(name), results.figure(block, name, "lesion_free_images")] for name in figures_in(block) if name != "n"]
    sentence = f"Scored apart from the lesion images{count}; Dice is not defined where there is no lesion."
    return Section(id="lesion-free", title="Images without a lesion", text=[sentence], tables=[Table(["figure", "value"], rows)])


def detection(results: Results) -> Section | None:
    """Return the figures of lesions as objects, and the FROC curve."""
    block = results.test.get("detection")
    if not block:
        return None
    rows = [[label_of(name), results.figure(block, name, "detection")] for name in figures_in(block)]
    figures = Table(["figure", "value"], rows)
    at = [
        [f"{point['false_positives_per_image']:g}", number(point["sensitivity"], "sensitivity")]
        for point in block.get("froc_points") or []
    ]
    points = [Table(["false positives per image", "sensitivity"], at, "Along the curve")] if at else []
    has_curve = bool((block.get("froc") or {}).get("sensitivity"))
    return Section(
        id="detection",
        title="Detection of lesions",
        text=[block["criterion"]] if block.get("criterion") else [],
        tables=[] if has_curve else [figures],
        beside=[figures, *points] if has_curve else [],
        charts=[_froc(results, block)] if has_curve else [],
    )


def _froc(results: Results, block: Mapping[str, Any]) -> Picture:
    froc, points = block["froc"], block.get("froc_points") or []
    words = (
        f"FROC: lesion sensitivity rises to {max(froc['sensitivity']):.3f} at {max(froc['false_positives_per_image']):.2f} false "
        "positives per image, as components of lower probability are included."
    )
    if points:
        words += f" The dotted lines are where the average of {results.figure(block, 'froc_average', 'detection')} is taken."
    return chart(froc_chart(froc, [point["false_positives_per_image"] for point in points]), words)
