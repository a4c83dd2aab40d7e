"""The model card of a bundle: what it is for, what it is made of, what binds it, and the figures of the runs that it comes from."""

from collections.abc import Mapping, Sequence
from typing import Any

from bcd.reports.markdown import plain
from bcd.reports.model_card import LIMITS, SYNTHETIC, USE, blocks_of, own_limits, rows_table, sentences
from bcd.reports.run.overview import asked, headline, policies, task_name
from bcd.reports.run.results import Results
from bcd.reports.wording import point_name

_TASKS = {
    "segmentation": "outline the lesion",
    "classification": "tell the class of an image",
    "roi_classification": "outline the lesion, and tell its class with the help of the outline",
    "multitask": "outline the lesion and tell its class",
}
_CONSISTENCY = {
    "report": "Where class and outline disagree, both are reported as the networks give them, and the disagreement is told.",
    "class": "Where class and outline disagree, the class counts: of an image that is called lesion-free the outline is emptied.",
    "mask": "Where class and outline disagree, the outline counts: without one an image is lesion-free, with one it is not.",
}
_LESION = ("n", "n_missed", "dice", "iou", "hd95_px")
_FREE = ("n", "false_positive_rate")
_CLASSES = ("auroc", "auprc", "accuracy", "balanced_accuracy", "brier", "ece")


def intended_use(about: Mapping[str, Any]) -> list[str]:
    """Return what a bundle is for, and what not, in sentences."""
    task = _TASKS[about["task"]]
    if about["task"] == "classification" and about["mask_threshold"] is not None:
        task = "outline the lesion, and tell the class of the image, each by networks of its own"
    return [sentence.format(task=task) for sentence in USE]


def limits(about: Mapping[str, Any], results: Sequence[Results]) -> list[str]:
    """Return what limits a bundle, in sentences.

    Args:
        about: the content of bundle.yaml.
        results: of the runs that it comes from.
    """
    tested = [one for one in results if "test" in one.metrics]
    own = [sentence for one in tested for sentence in own_limits(one)]
    several = any(sum(network["role"] == other["role"] for other in about["networks"]) > 1 for network in about["networks"])
    told = [*LIMITS, *own]
    if several:
        told.append("Its networks are averaged. The figures are those of single networks, each on images that it had not seen.")
    if len(tested) < len(results):
        told.append(
            "Its networks, or some of them, were trained on all folds, and no image is left to test them on: the figures are those "
            "of their recipe in cross-validation."
            if tested
            else "It was not tested: no figure says how good it is."
        )
    if about["task"] == "roi_classification":
        told.append("The figures of its ROI network are for outlines that other networks made than those of this bundle.")
    return list(dict.fromkeys(told))


def figures(results: Results) -> dict[str, Any]:
    """Return an entry of `metrics` in bundle.yaml: the main test figures, each with its 95 % interval.

    Args:
        results: of a run or a cross-validation.
    """
    test, found = results.test, list[dict[str, Any]]()
    if results.outlines:
        found += _of_block(results, test["lesion_images"], _LESION, "lesion_images")
        found += _of_block(results, test.get("lesion_free_images") or {}, _FREE, "lesion_free_images")
    if results.classifies:
        found += _of_block(results, test, _CLASSES, "")
        after = (test.get("calibration") or {}).get("after") or {}
        found += _of_block(results, after, ("brier", "ece"), "calibration.after")
        for point in test.get("operating_points") or []:
            intervals = point.get("intervals") or {}
            found += [
                {"name": f"{name}, {point_name(str(point['name']))}", "value": point.get(name), "interval": intervals.get(name)}
                for name in ("sensitivity", "specificity")
            ]
    return {
        "of": str(results.metrics["name"]),
        "task": task_name(results),
        "on": _where(results.data),
        "n_cases": test["n_cases"],
        "n_groups": test["n_groups"],
        "figures": found,
        "intervals": "95 %, bootstrap over groups",
    }


def _of_block(results: Results, block: Mapping[str, Any], names: Sequence[str], path: str) -> list[dict[str, Any]]:
    intervals = results.test.get("intervals") or {}
    dotted = {name: f"{path}.{name}" if path else name for name in names if name in block}
    return [{"name": whole, "value": block[name], "interval": intervals.get(whole)} for name, whole in dotted.items()]


def _where(data: Mapping[str, Any]) -> str:
    folds = [str(one["fold"]) for one in data.get("folds") or []]
    if folds:
        return f"out of fold, folds {', '.join(folds)} of {data['name']}"
    return f"fold {data['fold']} of {data['name']}" if data.get("fold") is not None else f"all cases of {data['name']}"


def bundle_card(about: Mapping[str, Any], results: Sequence[Results]) -> str:
    """Return the card as Markdown.

    Args:
        about: the content of bundle.yaml.
        results: of the runs that it comes from.
    """
    tested = [one for one in results if "test" in one.metrics]
    warnings = dict.fromkeys(str(warning) for one in tested for warning in one.metrics.get("warnings", []))
    parts = [
        f"# {plain(about['name'])}: model card",
        "**Research use. Not a medical device.**",
        *([SYNTHETIC.format(done="trained and tested")] if about["data"]["synthetic"] else []),
        *(f"> **Warning.** {plain(warning)}" for warning in warnings),
        "## Intended use",
        sentences(about["intended_use"]),
        "## Limits",
        sentences(about["limits"]),
        "## What it is made of",
        _networks(about),
        sentences(_rules(about)),
        "## Data and licences",
        _data(about),
        *(section for one in tested for section in _figures(one)),
        "## What made it",
        rows_table(["", ""], [[name, value] for name, value in {**about["made_by"], "created": about["created"]}.items() if value]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _networks(about: Mapping[str, Any]) -> str:
    rows = [
        [network["name"], network["role"], _model(network["task"]), network["temperature"], network["fold"]]
        for network in about["networks"]
    ]
    made = rows_table(["network", "does", "model", "temperature", "not trained on fold"], rows)
    keys = ("network", "device", "threads", "precision", "seconds", "images_seen", "epochs")
    trained = [[entry.get(key) for key in keys] for entry in about.get("training", [])]
    head = [key.replace("images_seen", "images seen").replace("device", "trained on") for key in keys]
    return f"{made}\n\n{rows_table(head, trained)}" if trained else made


def _model(task: Mapping[str, Any]) -> str:
    model = task.get("model") or {}
    name = str(model.get("_target_", "")).rpartition(".")[2]
    inner = next((str(model[key]) for key in ("encoder", "backbone") if isinstance(model.get(key), str)), "")
    return f"{name} ({inner})" if inner else name


def _rules(about: Mapping[str, Any]) -> list[str]:
    """Return by which rules answers are given, in sentences."""
    decisions, told = about["decisions"], []
    if about["classes"]:
        points = [f"{point_name(name)}: {value:.3f}" for name, value in decisions["thresholds"].items() if value is not None]
        told.append(f"Classes: {', '.join(about['classes'])}. Operating points are for {about['positive']}.")
        chosen_on = decisions["source"] or "nothing"
        told.append(f"Thresholds, on {decisions['on']} probabilities, chosen on {chosen_on}: {'; '.join(points) or 'none'}.")
        told += [f"{note}." for note in decisions["notes"]]
    if about["mask_threshold"] is not None:
        told.append(f"A pixel is lesion from a probability of {about['mask_threshold']:g} on.")
    if about["classes"] and about["mask_threshold"] is not None:
        told.append(_CONSISTENCY[about["consistency"]])
    return told


def _data(about: Mapping[str, Any]) -> str:
    data = about["data"]
    rows: list[list[object]] = [["data set", data["name"]]]
    rows += [[f"images, {part.replace('_', ' ')}", count] for part, count in data["n_cases"].items()]
    rows += [["licence of the data", text] for text in data["licences"]]
    rows += [["to cite", text] for text in data["citations"]]
    rows += [["weights began as", text] for text in about["initial_weights"]]
    rows += [["licence of the weights", about["weights_licence"]]]
    rows += [["fingerprint of the data", data["fingerprint"]], ["split, SHA-256", data["split_sha256"]]]
    return rows_table(["", ""], rows)


def _figures(results: Results) -> list[str]:
    return [
        f"## Figures: {plain(results.metrics['name'])}",
        plain(asked(results)),
        rows_table(["figure", "value (95 % interval)", "on"], headline(results)),
        *blocks_of(results),
        "### How the figures were made",
        sentences(policies(results)),
    ]
