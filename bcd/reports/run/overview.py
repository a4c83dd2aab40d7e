"""The summary of the page: task and data, the headline figures, how they were calculated, and which parts are missing."""

from collections.abc import Mapping
from typing import Any

from bcd.reports.run.results import Results, Section
from bcd.reports.wording import definitions_for, figures_in, is_number, number, point_name, share, with_interval
from bcd.tasks.info import info_of

_TASKS = {
    "segmentation": "lesion segmentation",
    "classification": "image classification",
    "roi": "mask-guided classification",
    "multitask": "lesion segmentation and classification",
}


def overview(results: Results) -> Section:
    """Return task and data, the headline figures, and how the figures were calculated."""
    parts = [(name, figure.partition(" ("), count) for name, figure, count in headline(results)]
    cards = [(name, value, interval.removesuffix(")"), count) for name, (value, _, interval), count in parts]
    return Section(
        id="overview",
        title="Headline figures",
        text=[task_and_data(results)],
        template="overview",
        more={"cards": cards, "policies": policies(results)},
    )


def task_and_data(results: Results) -> str:
    """Return the task, the model and the data in a sentence or two."""
    test, data = results.test, results.data
    classes = f" ({', '.join(results.class_names)})" if results.class_names else ""
    model = f" by {model_name(results.config)}" if model_name(results.config) else ""
    fold = f"test fold {data['fold']} of " if data.get("fold") is not None else ""
    fold = f"{len(data['folds'])} test folds, pooled, of " if data.get("folds") else fold
    grouped = f" (grouped by {data['grouped_by']})" if data.get("grouped_by") else ""
    sentences = [
        f"The task: {task_name(results)}{model}.",
        f"The data: {fold}{data.get('name', 'a data set')}{classes}, {number(test['n_cases'])} test images of "
        f"{number(test['n_groups'])} groups{grouped}.",
    ]
    if external := results.metrics.get("external"):
        sentences.append(f"External validation: the model was trained on {external['trained_on']['name']}. {external['statement']}")
    if started := results.metrics.get("training", {}).get("initial_weights"):
        sentences.append(f"Training started from {started}.")
    return " ".join(sentences)


def task_name(results: Results) -> str:
    """Return the task in words."""
    role = info_of(results.metrics, results.config).role
    return _TASKS.get(role, role)


def model_name(config: Mapping[str, Any]) -> str:
    """Return the network with its encoder or backbone, as the config names them; empty where there is no config."""
    model = config.get("model") or config.get("task", {}).get("model") or {}
    name = str(model.get("_target_", "")).rpartition(".")[2]
    inner = next((str(model[key]) for key in ("encoder", "backbone") if isinstance(model.get(key), str)), "")
    return f"{name} ({inner})" if name and inner else name


def headline(results: Results) -> list[tuple[str, str, str]]:
    """Return name, figure with interval, and count of each headline figure."""
    test, figures = results.test, []
    if results.outlines:
        figures += _segmentation_headline(results)
    if results.classifies:
        of_classes = ", ".join(f"{number(block['n'])} {name}" for name, block in test["by_class"].items())
        figures.append(("AUROC", results.figure(test, "auroc"), of_classes))
        positive = positive_class(test)
        if positive is not None and positive in test["by_class"] and len(results.class_names) > 2:
            block = test["by_class"][positive]
            figures.append(
                (f"AUROC, {positive}", results.figure(block, "auroc", f"by_class.{positive}"), f"{number(block['n'])} images")
            )
        figures.append(("Balanced accuracy", results.figure(test, "balanced_accuracy"), f"{number(test['n_cases'])} images"))
        figures += _operating_headline(test)
    return figures


def positive_class(test: Mapping[str, Any]) -> str | None:
    """Return the class that the operating points look for, or None."""
    points = test.get("operating_points") or []
    return str(points[0]["positive"]) if points else None


def _segmentation_headline(results: Results) -> list[tuple[str, str, str]]:
    lesion, free = results.test["lesion_images"], results.test.get("lesion_free_images") or {}
    figures = []
    if lesion.get("n"):
        missed = f"{share(lesion.get('n_missed'), lesion['n'])} missed"
        figures.append(("Dice", results.figure(lesion, "dice", "lesion_images"), f"{number(lesion['n'])} lesion images, {missed}"))
        for name, title in (("hd95_mm", "HD95 (mm)"), ("hd95_px", "HD95 (px)")):
            if lesion.get(name) is not None:
                figures.append(
                    (title, results.figure(lesion, name, "lesion_images"), "the image's diagonal where the predicted mask is empty")
                )
                break
    detection = results.test.get("detection")
    if detection and detection.get("sensitivity") is not None:
        rate = number(detection["false_positives_per_image"], "false_positives_per_image")
        count = f"{number(detection['n_lesions'])} lesions, {rate} false positives per image"
        figures.append(("Lesion sensitivity", results.figure(detection, "sensitivity", "detection"), count))
    if free.get("n"):
        rate = results.figure(free, "false_positive_rate", "lesion_free_images")
        figures.append(("False-positive rate", rate, f"{number(free['n'])} images without a lesion"))
    return figures


def _operating_headline(test: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    point = next((point for point in test.get("operating_points") or [] if str(point["name"]).startswith("sensitivity")), None)
    if point is None or not point["n"]:  # no threshold could be chosen on validation
        return []
    intervals = point.get("intervals") or {}
    counts = {"sensitivity": (point["tp"], point["tp"] + point["fn"]), "specificity": (point["tn"], point["tn"] + point["fp"])}
    return [
        (
            f"{name.capitalize()}, {point['positive']}",
            with_interval(point[name], intervals.get(name), name),
            f"{share(*counts[name])}; threshold chosen on validation for {point_name(str(point['name']))}",
        )
        for name in ("sensitivity", "specificity")
    ]


def policies(results: Results) -> list[str]:
    """Return how the figures were calculated, in sentences."""
    metrics, test = results.metrics, results.test
    blocks = [test, test.get("lesion_images") or {}, (test.get("calibration") or {}).get("before") or {}]
    names = [name for block in blocks for name in figures_in(block)]
    sentences = [
        metrics.get("empty_mask_policy") if results.outlines else None,
        metrics.get("distance_convention") if results.outlines else None,
        test.get("interval_method")
        if test.get("intervals")
        else "This test has no confidence intervals; read the figures with care.",
        *_chosen(results.metrics),
        _guide(results),
        *definitions_for(names, {"auroc": test.get("auroc_definition"), **(test.get("definitions") or {})}),
    ]
    return list(dict.fromkeys(sentence for sentence in sentences if sentence))


def _chosen(metrics: Mapping[str, Any]) -> list[str]:
    """Return the cases on which thresholds and temperature were chosen, and what could not be chosen."""
    decisions = metrics.get("decisions") or {}
    if not decisions:
        return []
    sentences = ["Thresholds and temperature were chosen on validation cases, for each model separately; never on test cases."]
    for fold, decision in decisions.items():
        of = f"Model of fold {fold}: " if len(decisions) > 1 else ""
        if decision.get("source"):
            sentences.append(f"{of}chosen on {decision['source']}." if of else f"Chosen on {decision['source']}.")
        sentences += [f"{of}{note}." for note in decision.get("notes", [])]
    return sentences


def _guide(results: Results) -> str | None:
    guide = results.metrics.get("guide")
    if not guide:
        return None
    sentence = f"Masks that guided the model: {guide['train']} in training, {guide['test']} in the test"
    if is_number(guide.get("dice")):
        sentence += f"; mean Dice of the test's masks with the truth: {number(guide['dice'], 'dice')}"
    if "n_empty_guides" in results.test:
        sentence += f"; {share(results.test['n_empty_guides'], results.test['n_cases'])} had an empty mask"
    return f"{sentence}."


def missing(results: Results) -> Section | None:
    """Return the parts that this report does not have, with the reasons; None where nothing is missing."""
    test, reasons = results.test, []
    if not test.get("intervals"):
        reasons.append("Confidence intervals: metrics.json holds none for this test.")
    if len(test.get("folds") or []) < 2 and not results.metrics.get("predictions"):
        reasons.append("Figures per fold: the test is of one model, so there is no spread over folds.")
    if results.classifies:
        chosen = {"operating_points": "Operating points", "calibration": "Calibration", "decision_curve": "Decision curve"}
        names = [name for key, name in chosen.items() if not test.get(key)]
        if names:
            reasons.append(f"{', '.join(names)}: metrics.json holds none; they need predictions on validation cases.")
        if not test.get("patient_level"):
            unknown = "patients unknown" in str(results.data.get("grouped_by", ""))
            reasons.append(f"Patient level: {'the data set does not identify patients' if unknown else 'metrics.json holds none'}.")
    if results.outlines:
        if not test.get("detection"):
            reasons.append("Detection and FROC: metrics.json holds none.")
        if not (test.get("lesion_free_images") or {}).get("n"):
            reasons.append("Images without a lesion: the test has none, so the false-positive rate on normal images is unknown.")
    if not test.get("subgroups"):
        reasons.append("Subgroups: metrics.json holds none.")
    if results.cases is None:
        reasons.append("Distributions, curves, galleries and failures: there is no cases.csv beside metrics.json.")
    if not results.metrics.get("external") and not results.metrics.get("predictions"):
        reasons.append("External validation: the test cases come from the same data set as the training cases.")
    return Section(id="missing", title="Not in this report", text=reasons, template="missing") if reasons else None
