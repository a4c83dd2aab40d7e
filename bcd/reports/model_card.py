"""model_card.md: what a model is for, on what it was trained, and how good it is; the figures are those of metrics.json.

After Mitchell et al., Model Cards for Model Reporting, FAT* 2019, doi:10.1145/3287560.3287596.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bcd.reports.markdown import plain, table
from bcd.reports.run.flow import counts
from bcd.reports.run.overview import asked, headline, model_name, policies, task_name
from bcd.reports.run.provenance import portable
from bcd.reports.run.results import Results
from bcd.reports.wording import figures_in, is_number, label_of, number, point_name, with_interval

SYNTHETIC = (
    "**SYNTHETIC DATA.** This model was {done} on simulated images. Its figures say nothing about patients, and it must not be "
    "used on any."
)
USE = (
    "Research on breast ultrasound: {task}. A starting point for comparison, and for studies that a clinician leads.",
    "Not a medical device, and not for diagnosis, screening, or any decision about a patient.",
    "Not for images of other organs, of other modalities, or of Doppler, elastography or contrast, unless the data below say so.",
)
LIMITS = (
    "The figures hold for images like those of the test: the same scanners, the same population, the same way of choosing images.",
    "A data set that was collected for research has another share of malignant lesions than a clinic; predictive values, accuracy "
    "and net benefit change with it.",
)
_ETHICS = (
    "Which patients are in the data, with which consent, and who is missing among them, is for whoever publishes the data to say. "
    "Differences between groups of patients that the data do not tell apart are unknown.",
    "The licence of the data, and that of pretrained weights, may bind the use of this model. Ask for both before you share it.",
    "A wrong answer that looks sure does harm: keep a reader in charge, and look at the failures in the report first.",
)


def model_card(results: Results) -> str:
    """Return the card as Markdown."""
    metrics = results.metrics
    parts = [
        f"# {plain(metrics['name'])}: model card",
        *_synthetic(results),
        *(f"> **Warning.** {plain(warning)}" for warning in metrics.get("warnings", [])),
        plain(asked(results)),
        "## Intended use",
        sentences([sentence.format(task=task_name(results)) for sentence in USE]),
        "## Limits",
        sentences([*LIMITS, *own_limits(results)]),
        "## Data",
        _data(results),
        "## Training",
        _training(results),
        "## Figures on test",
        rows_table(["figure", "value (95 % interval)", "on"], headline(results)),
        *blocks_of(results),
        "### How the figures were made",
        sentences(policies(results)),
        *_subgroups(results),
        *_calibration(results),
        "## Ethics and licences",
        sentences(_ETHICS),
        "## What made it",
        _provenance(results),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def sentences(texts: Iterable[object]) -> str:
    """Return sentences as a list in Markdown."""
    return "\n".join(f"- {plain(sentence)}" for sentence in texts)


def rows_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table in Markdown, a dash for what is missing; empty where there are no rows."""
    lines = [[plain(cell) if cell not in (None, "") else "\N{EN DASH}" for cell in row] for row in rows]
    if not lines:
        return ""
    return table([plain(name) for name in head], lines)


def own_limits(results: Results) -> list[str]:
    """Return the limits that the figures themselves tell."""
    test, told = results.test, []
    if not results.metrics.get("external") and not results.metrics.get("predictions"):
        told.append("Its test images come from the data set that it was trained on, not from another hospital.")
    if "patients unknown" in str(results.data.get("grouped_by", "")):
        told.append("The data set does not tell its patients: images of one patient may stand on both sides of the split.")
    if results.outlines and test["lesion_images"].get("n_missed"):
        missed, images = (number(test["lesion_images"][name]) for name in ("n_missed", "n"))
        told.append(f"It missed {missed} of {images} images with a lesion: nothing of it was outlined.")
    free = test.get("lesion_free_images") or {}
    if results.outlines and not free.get("n"):
        told.append("The test has no images without a lesion: what it outlines on normal images is unknown.")
    return told


def _synthetic(results: Results) -> list[str]:
    """Return the warning about simulated images, where any took part."""
    trained_on = (results.metrics.get("external") or {}).get("trained_on") or results.data
    stages = {"trained": trained_on.get("synthetic"), "tested": results.data.get("synthetic")}
    done = " and ".join(name for name, synthetic in stages.items() if synthetic)
    return [SYNTHETIC.format(done=done)] if done else []


def _data(results: Results) -> str:
    data, found = results.data, counts(results.data)
    rows: list[list[object]] = [["data set", data.get("name")], ["classes", ", ".join(results.class_names)]]
    rows += [["images in the data set", number(found["all"])], ["skipped, because of problems", number(found["skipped"])]]
    rows += [[f"left out: {reason}", number(count)] for reason, count in data.get("left_out", {}).items()]
    groups = data.get("n_groups") or {}
    for part, count in data["n_cases"].items():
        of = f" of {number(groups[part])} groups" if part in groups else ""
        rows.append([f"{part}", f"{number(count)} images{of}"])
    rows += [["grouped by", data.get("grouped_by")], ["fingerprint", data.get("fingerprint")]]
    return rows_table(["", ""], rows)


def _training(results: Results) -> str:
    told = results.metrics.get("training") or {}
    names = ("initial_weights", "epochs", "best_epoch", "monitor", "parameters", "precision", "device", "train_seconds")
    rows: list[list[object]] = [["network", model_name(results.config)], ["seed", results.metrics.get("seed")]]
    rows += [[name.replace("_", " "), told[name]] for name in names if told.get(name) is not None]
    return rows_table(["", ""], [row for row in rows if row[1] not in (None, "")])


def blocks_of(results: Results) -> list[str]:
    """Return a table for each kind of figures that the test has."""
    test, made = results.test, []
    if results.outlines:
        made += ["### Lesion images", _columns(results, {"all": "lesion_images"}, "lesion_images_by_class")]
        free = test.get("lesion_free_images") or {}
        if free.get("n"):
            rows = [[label_of(name), results.figure(free, name, "lesion_free_images")] for name in figures_in(free)]
            made += ["### Images without a lesion", rows_table(["figure", "value"], rows)]
    if results.classifies:
        made += ["### Classes", _columns(results, {}, "by_class")]
    points = test.get("operating_points") or []
    if points:
        made += [f"### Operating points for {plain(points[0]['positive'])}", _operating_points(points)]
    return made


def _columns(results: Results, whole: Mapping[str, str], by_class: str) -> str:
    blocks = {title: (path, results.test[path]) for title, path in whole.items()}
    blocks |= {name: (f"{by_class}.{name}", block) for name, block in (results.test.get(by_class) or {}).items()}
    names = figures_in({name: value for _, block in blocks.values() for name, value in block.items() if is_number(value)})
    rows = [[label_of(name), *(results.figure(block, name, path) for path, block in blocks.values())] for name in names]
    return rows_table(["figure", *blocks], rows)


def _operating_points(points: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [point_name(str(point["name"]))]
        + [
            with_interval(point.get(name), (point.get("intervals") or {}).get(name), name)
            for name in ("sensitivity", "specificity")
        ]
        + [number(point[count]) for count in ("tp", "fp", "fn", "tn")]
        for point in points
    ]
    return rows_table(["chosen on validation for", "sensitivity", "specificity", "TP", "FP", "FN", "TN"], rows)


def _subgroups(results: Results) -> list[str]:
    entries = results.test.get("subgroups") or []
    if not entries:
        return []
    names = list(dict.fromkeys(name for entry in entries for name in figures_in(entry["figures"])))
    rows = [
        [f"{str(entry['by']).removeprefix('meta.')}: {entry['value']}", number(entry["n"])]
        + [with_interval(entry["figures"].get(name), (entry.get("intervals") or {}).get(name), name) for name in names]
        for entry in entries
    ]
    return ["## Subgroups", rows_table(["subgroup", "images", *(label_of(name) for name in names)], rows)]


def _calibration(results: Results) -> list[str]:
    block = results.test.get("calibration") or {}
    parts = {part: block[part] for part in ("before", "after") if block.get(part)}
    if not parts:
        return []
    names = list(dict.fromkeys(name for part in parts.values() for name in figures_in(part) if name != "n"))
    rows = [
        [label_of(name), *(results.figure(part, name, f"calibration.{which}") for which, part in parts.items())] for name in names
    ]
    binning = f"Binning: {plain(str(block['binning']).rstrip('.'))}." if block.get("binning") else ""
    return ["## Calibration", binning, rows_table(["figure", *(f"{which} temperature scaling" for which in parts)], rows)]


def _provenance(results: Results) -> str:
    made, metrics = results.metrics.get("provenance") or {}, results.metrics
    rows: list[list[object]] = [
        ["code", " ".join(str(part) for part in (made.get("bcd"), made.get("commit")) if part)],
        ["split, SHA-256", results.data.get("split_sha256")],
        ["checkpoint", metrics.get("checkpoint")],
        ["command", portable(str(made.get("command") or ""))],
        ["finished", made.get("finished")],
        *([name, version] for name, version in (made.get("libraries") or {}).items() if version),
    ]
    return rows_table(["", ""], [row for row in rows if row[1] not in (None, "")])
