"""Model cards of runs and of bundles: purpose, limits, data and figures; the figures are those of metrics.json.

After Mitchell et al., Model Cards for Model Reporting, FAT* 2019, doi:10.1145/3287560.3287596.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from bcd.reports.rendering import Table, markdown_page
from bcd.reports.run.classification import classification
from bcd.reports.run.flow import counts
from bcd.reports.run.groups import subgroups
from bcd.reports.run.overview import headline, model_name, policies, task_and_data, task_name
from bcd.reports.run.probabilities import calibration, operating_points
from bcd.reports.run.provenance import provenance, training
from bcd.reports.run.results import Results, Section
from bcd.reports.run.segmentation import lesion_free, segmentation
from bcd.reports.wording import number, point_name

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
_TASKS = {
    "segmentation": "lesion segmentation",
    "classification": "image classification",
    "roi_classification": "lesion segmentation and mask-guided classification",
    "multitask": "lesion segmentation and classification by one network",
}
_CONSISTENCY = {
    "report": "Where class and mask disagree, both are reported as the networks give them, and the disagreement is stated.",
    "class": "Where class and mask disagree, the class decides: the mask of an image that is called lesion-free is emptied.",
    "mask": "Where class and mask disagree, the mask decides: an image with an empty mask is lesion-free, any other is not.",
}
_LESION = ("n", "n_missed", "dice", "iou", "hd95_px")
_FREE = ("n", "false_positive_rate")
_CLASSES = ("auroc", "auprc", "accuracy", "balanced_accuracy", "brier", "ece")


# The parts of the report that the card has, too, as their tables.
_FIGURES = (segmentation, lesion_free, classification, operating_points, calibration, subgroups)


def model_card(results: Results) -> str:
    """Return the card of a run or of an evaluation as Markdown."""
    metrics = results.metrics
    trained_on = (metrics.get("external") or {}).get("trained_on") or results.data
    synthetic = {"trained": trained_on.get("synthetic"), "tested": results.data.get("synthetic")}
    return markdown_page(
        "card.md",
        about=None,
        name=metrics["name"],
        synthetic=" and ".join(stage for stage, value in synthetic.items() if value),
        warnings=metrics.get("warnings", []),
        summary=task_and_data(results),
        intended_use=[sentence.format(task=task_name(results)) for sentence in USE],
        limits=[*LIMITS, *_own_limits(results)],
        data=Table(["data", "value"], _data(results)),
        training=training(results),
        runs=[_figures(results)],
        provenance=provenance(results),
    )


def bundle_card(about: Mapping[str, Any], results: Sequence[Results]) -> str:
    """Return the card of a bundle as Markdown, from the content of bundle.yaml and the results of the runs it comes from."""
    tested = [one for one in results if "test" in one.metrics]
    keys = ("network", "device", "threads", "precision", "seconds", "images_seen", "epochs")
    made_by = {**about["made_by"], "created": about["created"]}
    return markdown_page(
        "card.md",
        about=about,
        name=about["name"],
        synthetic="trained and tested" if about["data"]["synthetic"] else "",
        warnings=dict.fromkeys(str(warning) for one in tested for warning in one.metrics.get("warnings", [])),
        summary="",
        intended_use=about["intended_use"],
        limits=about["limits"],
        networks=Table(
            ["network", "role", "model", "temperature", "not trained on fold"],
            [
                [network["name"], network["role"], model_name(network["task"]), network["temperature"], network["fold"]]
                for network in about["networks"]
            ],
        ),
        trainings=Table(
            [key.replace("images_seen", "images seen").replace("device", "trained on") for key in keys],
            [[entry.get(key) for key in keys] for entry in about.get("training", [])],
        ),
        rules=_rules(about),
        data=Table(["data", "value"], _bundle_data(about["data"], about)),
        runs=[_figures(one) for one in tested],
        provenance=Section(
            id="provenance",
            title="Provenance",
            tables=[Table(["item", "value"], [[name, value] for name, value in made_by.items() if value])],
        ),
    )


def intended_use(about: Mapping[str, Any]) -> list[str]:
    """Return the intended use of a bundle, and uses that are excluded, in sentences."""
    task = _TASKS[about["task"]]
    if about["task"] == "classification" and about["mask_threshold"] is not None:
        task = "lesion segmentation and image classification, each by networks of its own"
    return [sentence.format(task=task) for sentence in USE]


def limits(about: Mapping[str, Any], results: Sequence[Results]) -> list[str]:
    """Return the limits of a bundle in sentences; arguments as of `bundle_card`."""
    tested = [one for one in results if "test" in one.metrics]
    sentences = [*LIMITS, *(sentence for one in tested for sentence in _own_limits(one))]
    roles = [network["role"] for network in about["networks"]]
    if len(set(roles)) < len(roles):
        sentences.append("Its networks are averaged. The figures are those of single networks, on images not used to train them.")
    if len(tested) < len(results):
        sentences.append(
            "Some or all of its networks were trained on all folds, and no image is left to test them on: the figures are those of "
            "their recipe in cross-validation."
            if tested
            else "It was not tested: its performance is unknown."
        )
    if about["task"] == "roi_classification":
        sentences.append("The figures of its ROI network are for masks by other networks than those of this bundle.")
    return list(dict.fromkeys(sentences))


def figures(results: Results) -> dict[str, Any]:
    """Return an entry of `metrics` in bundle.yaml: the main test figures, each with its 95 % interval."""
    test, entries = results.test, list[dict[str, Any]]()
    if results.outlines:
        entries += _of_block(results, test["lesion_images"], _LESION, "lesion_images")
        entries += _of_block(results, test.get("lesion_free_images") or {}, _FREE, "lesion_free_images")
    if results.classifies:
        entries += _of_block(results, test, _CLASSES, "")
        after = (test.get("calibration") or {}).get("after") or {}
        entries += _of_block(results, after, ("brier", "ece"), "calibration.after")
        for point in test.get("operating_points") or []:
            intervals = point.get("intervals") or {}
            entries += [
                {"name": f"{name}, {point_name(str(point['name']))}", "value": point.get(name), "interval": intervals.get(name)}
                for name in ("sensitivity", "specificity")
            ]
    return {
        "of": str(results.metrics["name"]),
        "task": task_name(results),
        "on": _tested_on(results.data),
        "n_cases": test["n_cases"],
        "n_groups": test["n_groups"],
        "figures": entries,
        "intervals": "95 %, bootstrap over groups",
    }


def _of_block(results: Results, block: Mapping[str, Any], names: Sequence[str], path: str) -> list[dict[str, Any]]:
    intervals = results.test.get("intervals") or {}
    dotted = {name: f"{path}.{name}" if path else name for name in names if name in block}
    return [{"name": whole, "value": block[name], "interval": intervals.get(whole)} for name, whole in dotted.items()]


def _tested_on(data: Mapping[str, Any]) -> str:
    folds = [str(one["fold"]) for one in data.get("folds") or []]
    if folds:
        return f"out of fold, folds {', '.join(folds)} of {data['name']}"
    return f"fold {data['fold']} of {data['name']}" if data.get("fold") is not None else f"all cases of {data['name']}"


def _own_limits(results: Results) -> list[str]:
    """Return the limits that follow from the test itself."""
    test, sentences = results.test, []
    if not results.metrics.get("external") and not results.metrics.get("predictions"):
        sentences.append("Its test images come from the data set that it was trained on, not from another hospital.")
    if "patients unknown" in str(results.data.get("grouped_by", "")):
        sentences.append("The data set does not identify patients: images of one patient may be on both sides of the split.")
    if results.outlines and test["lesion_images"].get("n_missed"):
        missed, images = (number(test["lesion_images"][name]) for name in ("n_missed", "n"))
        sentences.append(f"It missed {missed} of {images} images with a lesion: no pixel of the lesion was predicted.")
    if results.outlines and not (test.get("lesion_free_images") or {}).get("n"):
        sentences.append("The test has no images without a lesion: its false-positive rate on normal images is unknown.")
    return sentences


def _rules(about: Mapping[str, Any]) -> list[str]:
    """Return the decision rules of a bundle, in sentences."""
    decisions, sentences = about["decisions"], []
    if about["classes"]:
        points = [f"{point_name(name)}: {value:.3f}" for name, value in decisions["thresholds"].items() if value is not None]
        sentences.append(f"Classes: {', '.join(about['classes'])}. Operating points are for {about['positive']}.")
        chosen_on = decisions["source"] or "nothing"
        sentences.append(f"Thresholds, on {decisions['on']} probabilities, chosen on {chosen_on}: {'; '.join(points) or 'none'}.")
        sentences += [f"{note}." for note in decisions["notes"]]
    if about["mask_threshold"] is not None:
        sentences.append(f"A pixel is lesion where its probability is at least {about['mask_threshold']:g}.")
    if about["classes"] and about["mask_threshold"] is not None:
        sentences.append(_CONSISTENCY[about["consistency"]])
    return sentences


def _bundle_data(data: Mapping[str, Any], about: Mapping[str, Any]) -> list[list[object]]:
    rows: list[list[object]] = [["data set", data["name"]]]
    rows += [[f"images, {part.replace('_', ' ')}", count] for part, count in data["n_cases"].items()]
    rows += [["licence of the data", text] for text in data["licences"]]
    rows += [["to cite", text] for text in data["citations"]]
    rows += [["initial weights", text] for text in about["initial_weights"]]
    rows += [["licence of the weights", about["weights_licence"]]]
    return [*rows, ["fingerprint of the data", data["fingerprint"]], ["split, SHA-256", data["split_sha256"]]]


def _data(results: Results) -> list[list[object]]:
    data, count = results.data, counts(results.data)
    rows: list[list[object]] = [["data set", data.get("name")], ["classes", ", ".join(results.class_names)]]
    rows += [["images in the data set", number(count["all"])], ["skipped, because of problems", number(count["skipped"])]]
    rows += [[f"left out: {reason}", number(n)] for reason, n in data.get("left_out", {}).items()]
    groups = data.get("n_groups") or {}
    for part, n in data["n_cases"].items():
        of = f" of {number(groups[part])} groups" if part in groups else ""
        rows.append([part, f"{number(n)} images{of}"])
    return [*rows, ["grouped by", data.get("grouped_by")], ["fingerprint", data.get("fingerprint")]]


def _figures(results: Results) -> dict[str, Any]:
    return {
        "name": results.metrics["name"],
        "summary": task_and_data(results),
        "headline": Table(["figure", "value (95 % interval)", "on"], headline(results)),
        "sections": [section for make in _FIGURES if (section := make(results)) is not None],
        "policies": policies(results),
    }
