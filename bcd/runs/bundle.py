"""Collect what a bundle needs from a run, or from a cross-validation: its description as plain values, and weights."""

import hashlib
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from bcd.config.build import UntrustedTargetError, constructor
from bcd.config.errors import nearest
from bcd.evaluation.cases import read_table
from bcd.evaluation.classification import choose_positive
from bcd.evaluation.decisions import BESIDE, Decisions
from bcd.evaluation.validation import pooled
from bcd.images.read import read_image
from bcd.reports.model_card import bundle_card, figures, intended_use, limits
from bcd.reports.run.results import Results, read_results
from bcd.runs import folder as files
from bcd.runs.assemble import prepare_data
from bcd.runs.folder import RunError
from bcd.runs.hardware import provenance
from bcd.tasks.base import BaseTask
from bcd.tasks.checkpoint import load_checkpoint
from bcd.tasks.networks import without_pretrained

log = logging.getLogger(__name__)

_UNKNOWN = "unknown: ask the owner of the data"
_DEFAULT_POINT = "youden"


@dataclass(frozen=True)
class BundleContent:
    """The content of a bundle.

    Args:
        about: the content of bundle.yaml.
        states: name of a network -> its weights.
        card: the model card, Markdown.
        learned_from: ids of the cases that the networks learned from or were chosen by.
        config: of the run, which says where its data lie.
    """

    about: dict[str, Any]
    states: dict[str, dict[str, Tensor]]
    card: str
    learned_from: list[str]
    config: Mapping[str, Any]


@dataclass(frozen=True)
class BundleOptions:
    """How to write a bundle of a run.

    Args:
        name: of the bundle; None for the run's.
        consistency: what counts where class and mask disagree: `report`, `class` or `mask`.
        point: the operating point that is used unless another is asked for; None for Youden's where there is one.
        data_licence: of data whose source states none.
        data_citation: of data whose source states none.
        figures: runs or cross-validations whose figures describe networks that were refitted, and so not tested.
        trusted: constructors of the user's own that the run's config may name.
    """

    name: str | None = None
    consistency: str = "report"
    point: str | None = None
    data_licence: str | None = None
    data_citation: str | None = None
    figures: Sequence[Path] = ()
    trusted: Collection[str] = ()


@dataclass(frozen=True)
class _Part:
    """One trained network, or the networks of all folds: a run or a cross-validation."""

    folder: Path
    config: Mapping[str, Any]
    metrics: Mapping[str, Any]  # empty where it was not tested
    networks: list[dict[str, Any]]  # of bundle.yaml, as `training` below
    states: dict[str, dict[str, Tensor]]  # weights by the network's name
    tasks: list[BaseTask]
    classes: list[str]
    learned_from: list[str]  # ids of cases
    training: list[dict[str, Any]]

    @property
    def role(self) -> str:
        return str(self.networks[0]["role"])

    @property
    def data(self) -> Mapping[str, Any]:
        return self.metrics.get("data", {})

    def of_source(self, attribute: str) -> Any:
        """Return what the class of the data's source states; None where it states nothing, or is not trusted."""
        try:
            source = constructor(self.config["data"]["source"], "data.source", self.config["trusted"])
        except UntrustedTargetError:  # prediction needs the network alone
            return None
        value = getattr(source, attribute, None)
        return None if isinstance(value, property) else value


def collect_bundle(run: Path, segmentation: Path | None = None, options: BundleOptions | None = None) -> BundleContent:
    """Return the content of a run's bundle.

    Args:
        run: a run; or a cross-validation, whose folds become an ensemble; or a pipeline's folder with `deploy/roi/` and
            `deploy/segmentation/`.
        segmentation: a run or a cross-validation that segments, for classifiers that do not: an ROI network is given its mask.
        options: how.

    Raises:
        RunError: when a folder is no such run, or the two do not go together.
        CheckpointError: when a checkpoint cannot be used.
    """
    options = options or BundleOptions()
    figures_of = list(options.figures)
    if segmentation is None and (run / "deploy" / "roi").is_dir() and (run / "deploy" / "segmentation").is_dir():
        # Of a pipeline the networks for use, and the results of their recipes.
        recipes = [run / "segmentation", run / "classification" / str(files.read_config(run)["deploy_row"])]
        figures_of += [folder for folder in recipes if (folder / files.METRICS).is_file()]
        run, segmentation = run / "deploy" / "roi", run / "deploy" / "segmentation"
    main = _part(run, options.trusted)
    parts = [main] if segmentation is None else [_part(segmentation, options.trusted), main]
    if segmentation is not None and (main.role not in ("classification", "roi") or parts[0].role != "segmentation"):
        raise RunError(
            f"segmentation={segmentation} goes with a classifier in run=; {run} is a {main.role} run, and "
            f"{segmentation} a {parts[0].role} run."
        )
    if main.role == "roi" and segmentation is None:
        log.warning("No segmentation= was given: unless a mask comes with an image, this ROI network sees whole images.")
    described = [(part.folder, part.config) for part in parts] + [(folder, files.read_config(folder)) for folder in figures_of]
    results = [read_results(folder, files.read_metrics(folder), config, folder) for folder, config in described]
    about = _about(parts, main, options, results)
    states = {name: state for part in parts for name, state in part.states.items()}
    learned_from = sorted({name for part in parts for name in part.learned_from})
    return BundleContent(about, states, bundle_card(about, results), learned_from, main.config)


def training_images(content: BundleContent, most: int = 1000) -> tuple[Iterator[np.ndarray], list[str]] | None:
    """Return up to `most` images that the networks learned from, evenly spread, and the group of each; None without any.

    Images are grey, uint8 (H, W), and read one by one.
    """
    try:
        prepared = prepare_data(content.config)
    except (ValueError, OSError) as error:
        log.warning("The training images cannot be read (%s): the bundle will not warn of images unlike them.", error)
        return None
    known = {case.case_id: case for case in prepared.cases}
    there = [known[name] for name in content.learned_from if name in known]
    chosen = there[:: max(1, -(-len(there) // most))]
    group_of = dict(zip(prepared.groups["case_id"], prepared.groups["group"].astype(str), strict=True))
    images = (read_image(case.image, prepared.max_pixels) for case in chosen)
    return images, [group_of[case.case_id] for case in chosen]


def _part(folder: Path, trusted: Collection[str]) -> _Part:
    # The trust in the folder's own config is ignored, like that in a checkpoint.
    config, metrics = {**files.read_config(folder), "trusted": [*trusted]}, files.read_metrics(folder)
    runs = files.trained_runs(folder)
    loaded = [load_checkpoint(files.best_checkpoint(run), "cpu", trusted) for run in runs]
    tasks = [task for task, _, _ in loaded]
    role, classes = tasks[0].role, [str(name) for name in loaded[0][2]["classes"]]
    networks, states, learned_from, training = [], {}, set[str](), []
    for run, (task, _, run_config) in zip(runs, loaded, strict=True):
        if [str(name) for name in run_config["classes"]] != classes or task.role != role:
            raise RunError(f"{folder}: its folds are of different tasks or classes, and make no ensemble.")
        fold = run_config.get("fold")
        name = f"{role}_fold_{fold}" if len(runs) > 1 else role
        decided = (metrics.get("decisions") or {}).get(str(fold if fold is not None else 0))
        cases = sorted(run_config.get("learned_from", ()))
        networks.append(
            {
                "name": name,
                "role": role,
                "weights": f"weights/{name}.safetensors",
                "task": without_pretrained(run_config["task"]),
                "preprocess": run_config["preprocess"],
                "temperature": float(decided["temperature"]) if decided is not None else 1.0,
                "fold": None if config.get("refit") else fold,  # a refit has learned from its fold, too
                "learned_from_sha256": hashlib.sha256("\n".join(cases).encode()).hexdigest() if cases else None,
            }
        )
        trained = files.read_json(run / files.TRAINING)
        training.append(
            {
                "network": name,
                "device": trained.get("device"),
                "threads": files.read_metrics(run).get("provenance", {}).get("hardware", {}).get("threads"),
                "precision": trained.get("precision"),
                "seconds": trained.get("train_seconds"),
                "images_seen": trained.get("images_seen"),
                "epochs": trained.get("epochs"),
            }
        )
        states[name] = dict(task.model.state_dict())
        learned_from |= set(cases)
    return _Part(folder, config, metrics, networks, states, tasks, classes, sorted(learned_from), training)


def _about(parts: Sequence[_Part], main: _Part, options: BundleOptions, results: Sequence[Results]) -> dict[str, Any]:
    classifies = main.tasks[0].classifies
    origin = provenance()
    # As the data's source says, or else by the name.
    bare = main.of_source("lesion_free")
    relabel = {str(old): str(new) for old, new in (main.config["data"].get("relabel") or {}).items()}
    lesion_free = ["normal"] if bare is None else [relabel.get(str(name), str(name)) for name in bare]
    thresholds = {task.threshold for part in parts for task in part.tasks if task.threshold is not None}
    if len(thresholds) > 1:
        raise RunError(f"The networks segment at different thresholds ({sorted(thresholds)}), and make no ensemble.")
    trainings = [part.metrics.get("training", {}) for part in parts]
    trainings += [fold for training in trainings for fold in training.get("folds", [])]
    initial_weights = sorted({str(one["initial_weights"]) for one in trainings if one.get("initial_weights") is not None})
    data, began = _data(parts, main, options), "; ".join(initial_weights) or "weights of unknown origin"
    about = {
        "schema_version": 1,
        "name": options.name if options.name is not None else str(main.config["name"]),
        "created": origin["finished"],
        "made_by": {"bcd": origin["bcd"], "commit": origin["commit"]},
        "task": "roi_classification" if main.role == "roi" else main.role,
        "classes": main.classes if classifies else [],
        "lesion_free": [name for name in main.classes if name in lesion_free] if classifies else [],
        "positive": choose_positive(main.classes, None) if classifies else None,
        "networks": [network for part in parts for network in part.networks],
        "mask_threshold": next(iter(thresholds), None),
        "consistency": options.consistency,
        **_decided(main, options.point),
        "data": data,
        "training": [entry for part in parts for entry in part.training],
        "initial_weights": initial_weights,
        "precision": "fp32",
        "metrics": [figures(one) for one in results if "test" in one.metrics],
        "research_use_only": True,
        "weights_licence": f"The weights follow from the data ({'; '.join(data['licences'])}) and began as {began}. Users of "
        "them are bound by the licences of both; this project's own code is under the MIT licence.",
    }
    return about | {"intended_use": intended_use(about), "limits": limits(about, results)}


def _decided(part: _Part, point: str | None) -> dict[str, Any]:
    """Return `decisions` and `conformal` of bundle.yaml.

    Raises:
        RunError: for an operating point that there is not.
    """
    decisions = _decisions(part)
    usable = list(decisions.usable)
    if point is not None and point not in usable:
        raise RunError(f"point={point}: there is no such operating point. {nearest(point, usable)}")
    default = point if point is not None else _DEFAULT_POINT if _DEFAULT_POINT in usable else next(iter(usable), None)
    decisions = decisions.model_copy(update={"default_point": default})
    return {"decisions": decisions.model_dump(mode="json", exclude=BESIDE), "conformal": decisions.conformal}


def _decisions(part: _Part) -> Decisions:
    if not part.tasks[0].classifies:
        return Decisions(thresholds={})
    by_fold = {int(fold): Decisions.from_dict(one) for fold, one in (part.metrics.get("decisions") or {}).items()}
    positive = choose_positive(part.classes, None)
    if not by_fold:
        note = "This run was not tested: nothing was chosen on validation, and its probabilities are not calibrated"
        return Decisions(positive=positive, thresholds={"0.5": 0.5}, source="nothing", notes=(note,))
    if len(part.networks) == 1:
        return next(iter(by_fold.values()))
    decisions = pooled(read_table(part.folder / files.VALIDATION), part.classes, by_fold, positive)
    note = (
        "Thresholds and conformal sets were chosen on validation cases as single networks see them, and are used on the mean of "
        "all: no case is left that none of them has seen"
    )
    return decisions.model_copy(update={"notes": (*decisions.notes, note)})


def _data(parts: Sequence[_Part], main: _Part, options: BundleOptions) -> dict[str, Any]:
    """Return `data` of bundle.yaml; of parts that learned from different data, names, licences and citations together."""

    def stated(attribute: str, given: str | None) -> list[str]:
        texts = [part.of_source(attribute) for part in parts]
        instead = given if given is not None else _UNKNOWN
        return list(dict.fromkeys(str(text) if text is not None else instead for text in texts))

    learned_from = {name for part in parts for name in part.learned_from}
    synthetic = any(part.data.get("synthetic", part.of_source("synthetic")) for part in parts)
    return {
        "name": ", ".join(dict.fromkeys(str(part.config["data"]["name"]) for part in parts)),
        "fingerprint": main.data.get("fingerprint"),
        "split_sha256": main.data.get("split_sha256"),
        "n_cases": {"learned_from": len(learned_from), **main.data.get("n_cases", {})},
        "licences": stated("licence", options.data_licence),
        "citations": stated("citation", options.data_citation),
        "synthetic": bool(synthetic),
    }
