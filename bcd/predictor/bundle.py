"""A bundle: a trained pipeline in one folder, for whoever shall use it. docs/bundle.md describes the format.

A bundle may come from anywhere, so nothing in it is believed before it is checked, and nothing in it is run: weights are
safetensors, everything else is text, and a config may name our own networks alone.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from bcd.images.decode import printable
from bcd.predictor.bundles.hashes import BundleError, fingerprint, read_hashes, read_sealed

SCHEMA_VERSION = 1
DESCRIPTION = "bundle.yaml"
CARD = "model_card.md"
SCOPE = "scope.safetensors"
EXAMPLES = "examples"
EXPORTS = "exports"

TASKS = {
    "segmentation": {"segmentation"},
    "classification": {"classification", "segmentation"},
    "roi_classification": {"roi", "segmentation"},
    "multitask": {"multitask"},
}
"""Task of a bundle -> the roles that its networks may have; the first one named after the task must be there."""
_NEEDED = {
    "segmentation": "segmentation",
    "classification": "classification",
    "roi_classification": "roi",
    "multitask": "multitask",
}
CONSISTENCY = ("report", "class", "mask")
RAW, CALIBRATED = "raw", "calibrated"

MAX_NETWORKS = 64
MAX_DESCRIPTION_BYTES = 1 << 19
MAX_CLASSES = 100
_LONGEST_TEXT = 20_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True)
class Network:
    """One network of a bundle.

    Args:
        name: of its weights file; letters, digits, `_` and `-`.
        role: `segmentation`, `classification`, `roi` or `multitask`.
        task: plain config of the task.
        preprocess: plain config of the preprocessing.
        temperature: of `bcd.metrics.calibration.scale`, positive; 1 changes nothing.
        fold: that it was not trained on; None where it has none.
        learned_from_sha256: of the sorted ids of the cases it learned from or was chosen by, one a line; None if unknown.
    """

    name: str
    role: str
    task: Mapping[str, Any]
    preprocess: Mapping[str, Any]
    temperature: float = 1.0
    fold: int | None = None
    learned_from_sha256: str | None = None

    @property
    def weights(self) -> str:
        """Return the name of its weights file, from the bundle's folder on."""
        return f"weights/{self.name}.safetensors"


@dataclass(frozen=True)
class Choices:
    """Operating points.

    Args:
        thresholds: operating point -> probability of the positive class from which on a case is positive; None: not to be had.
        on: `raw` or `calibrated`: which probabilities the thresholds are for.
        default_point: one of those that are to be had; None where there is none.
        source: what they were chosen on, in words.
        notes: what is to be known of them.
    """

    thresholds: Mapping[str, float | None] = field(default_factory=dict)
    on: str = RAW
    default_point: str | None = None
    source: str = ""
    notes: Sequence[str] = ()

    @property
    def usable(self) -> dict[str, float]:
        """Return the operating points that have a threshold."""
        return {point: value for point, value in self.thresholds.items() if value is not None}


@dataclass(frozen=True)
class Bundle:
    """What a bundle says of itself.

    Args:
        name: for people.
        created: date and time, ISO 8601.
        made_by: `bcd` (version) and `commit`.
        task: `segmentation`, `classification`, `roi_classification` or `multitask`.
        classes: in the order of the probabilities; empty where it does not classify.
        lesion_free: those of the classes whose images have no lesion.
        positive: the class that operating points are for; None where it does not classify.
        networks: several of one role are averaged.
        mask_threshold: a pixel is lesion from this probability on; None where nothing is outlined.
        consistency: what counts where class and outline disagree: `report`, `class` or `mask`.
        decisions: operating points.
        conformal: highest score, 1 - calibrated probability, of a class in the set; None where there are no sets.
        data: name, fingerprint, split_sha256, n_cases, licences, citations, synthetic.
        training: of each network: network, device, threads, precision, seconds, images_seen, epochs; None where unknown.
        initial_weights: where the networks' weights began, in words.
        weights_licence: of the weights in the bundle, in words.
        precision: `fp32` or `fp16`: how the weights are stored.
        metrics: test figures with intervals: of, on, n_cases, n_groups, figures.
        intended_use: sentences.
        limits: sentences.
        folder: where it lies; None for one that lies nowhere.
        fingerprint: of its files; empty for one that lies nowhere.
    """

    name: str
    created: str
    made_by: Mapping[str, Any]
    task: str
    classes: Sequence[str]
    lesion_free: Sequence[str]
    positive: str | None
    networks: Sequence[Network]
    mask_threshold: float | None
    consistency: str
    decisions: Choices
    conformal: float | None
    data: Mapping[str, Any]
    training: Sequence[Mapping[str, Any]] = ()
    initial_weights: Sequence[str] = ()
    weights_licence: str = ""
    precision: str = "fp32"
    metrics: Sequence[Mapping[str, Any]] = ()
    intended_use: Sequence[str] = ()
    limits: Sequence[str] = ()
    research_use_only: bool = True
    schema_version: int = SCHEMA_VERSION
    folder: Path | None = None
    fingerprint: str = ""

    @property
    def synthetic(self) -> bool:
        """Tell whether its networks learned from simulated images."""
        return bool(self.data.get("synthetic"))

    def of_role(self, *roles: str) -> list[Network]:
        """Return the networks of these roles."""
        return [network for network in self.networks if network.role in roles]

    def to_dict(self) -> dict[str, Any]:
        """Return the content of bundle.yaml, plain values."""
        networks = [{"name": one.name, "role": one.role, "weights": one.weights, **asdict(one)} for one in self.networks]
        own = {key: value for key, value in vars(self).items() if key not in ("folder", "fingerprint", "schema_version")}
        return _plain({"schema_version": self.schema_version, **own, "networks": networks, "decisions": asdict(self.decisions)})

    @classmethod
    def from_dict(cls, values: Any, folder: Path | None = None) -> "Bundle":
        """Return what `to_dict` gave, every value checked.

        Raises:
            BundleError: saying which value is wrong.
        """
        if not isinstance(values, Mapping):
            raise BundleError(f"{DESCRIPTION} is no mapping; get the bundle again.")
        version = values.get("schema_version")
        if version != SCHEMA_VERSION:
            raise BundleError(
                f"{DESCRIPTION}: schema_version is {_shown(version)}, this version of bcd reads {SCHEMA_VERSION}; update bcd, or "
                "get a bundle that was made for it."
            )
        known = set(cls.__dataclass_fields__) - {"folder", "fingerprint"}
        _same_keys(DESCRIPTION, values, known)
        bundle = cls(
            **{
                **values,
                "networks": tuple(_network(number, entry) for number, entry in enumerate(_list("networks", values["networks"]))),
                "decisions": _choices(values["decisions"]),
                "folder": folder,
            }
        )
        _check(bundle)
        return bundle


def read_bundle(folder: Path) -> Bundle:
    """Return what a bundle says of itself; its weights are not looked at yet.

    Raises:
        BundleError: when it is no bundle, was changed, or says something that cannot be.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise BundleError(f"{printable(folder)}: there is no such folder; give the folder that scripts/bundle.py wrote.")
    content = read_sealed(folder, DESCRIPTION, read_hashes(folder), MAX_DESCRIPTION_BYTES)
    bundle = Bundle.from_dict(_parsed(content, folder / DESCRIPTION), folder)
    return replace(bundle, fingerprint=fingerprint(folder))


class _PlainLoader(yaml.SafeLoader):
    """Reads YAML without aliases, of which a short file can make endless ones."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias")
        return super().compose_node(parent, index)


def _parsed(content: bytes, path: Path) -> Any:
    try:
        return yaml.load(content.decode("utf-8"), _PlainLoader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BundleError(f"{path} cannot be read as a bundle's description ({reason}).") from error


def _network(number: int, entry: Any) -> Network:
    where = f"networks[{number}]"
    if not isinstance(entry, Mapping):
        raise BundleError(f"{DESCRIPTION}: {where} is no mapping.")
    _same_keys(where, entry, {*Network.__dataclass_fields__, "weights"})
    if not isinstance(entry["name"], str) or not _NAME.fullmatch(entry["name"]):
        raise BundleError(f"{DESCRIPTION}: {where}.name is {_shown(entry['name'])}; use up to 64 letters, digits, _ and -.")
    network = Network(**{key: value for key, value in entry.items() if key != "weights"})
    if entry["weights"] != network.weights:
        raise BundleError(f"{DESCRIPTION}: {where}.weights is {_shown(entry['weights'])}; it must be {network.weights}.")
    for name in ("task", "preprocess"):
        if not isinstance(entry[name], Mapping):
            raise BundleError(f"{DESCRIPTION}: {where}.{name} is no mapping.")
    _number(f"{where}.temperature", network.temperature, 1e-3, 1e3)
    if network.fold is not None and (not isinstance(network.fold, int) or isinstance(network.fold, bool)):
        raise BundleError(f"{DESCRIPTION}: {where}.fold is {_shown(network.fold)}; it must be a whole number or null.")
    return network


def _choices(values: Any) -> Choices:
    if not isinstance(values, Mapping):
        raise BundleError(f"{DESCRIPTION}: decisions is no mapping.")
    _same_keys("decisions", values, set(Choices.__dataclass_fields__))
    thresholds = values["thresholds"]
    if not isinstance(thresholds, Mapping) or len(thresholds) > MAX_CLASSES:
        raise BundleError(f"{DESCRIPTION}: decisions.thresholds is no mapping of operating points.")
    for point, value in thresholds.items():
        _text("decisions.thresholds", point)
        if value is not None:
            _number(f"decisions.thresholds.{point}", value, 0, 1)
    choices = Choices(**{**values, "notes": tuple(_list("decisions.notes", values["notes"]))})
    if choices.on not in (RAW, CALIBRATED):
        raise BundleError(f"{DESCRIPTION}: decisions.on is {_shown(choices.on)}; it must be {RAW} or {CALIBRATED}.")
    if choices.default_point is not None and choices.default_point not in choices.usable:
        raise BundleError(f"{DESCRIPTION}: decisions.default_point is {_shown(choices.default_point)}, which has no threshold.")
    return choices


def _check(bundle: Bundle) -> None:
    """Refuse a description whose values cannot be, or do not belong together."""
    for name in ("name", "created", "weights_licence", "precision"):
        _text(name, getattr(bundle, name))
    for name in ("classes", "lesion_free", "initial_weights", "intended_use", "limits"):
        for value in _list(name, getattr(bundle, name)):
            _text(name, value)
    for name in ("made_by", "data"):
        if not isinstance(getattr(bundle, name), Mapping):
            raise BundleError(f"{DESCRIPTION}: {name} is no mapping.")
    for name in ("metrics", "training"):
        if not all(isinstance(one, Mapping) for one in _list(name, getattr(bundle, name))):
            raise BundleError(f"{DESCRIPTION}: {name} must be a list of mappings.")
    if bundle.research_use_only is not True:
        raise BundleError(f"{DESCRIPTION}: research_use_only must be true: no bundle is a medical device.")
    if bundle.consistency not in CONSISTENCY:
        raise BundleError(f"{DESCRIPTION}: consistency is {_shown(bundle.consistency)}; use one of {', '.join(CONSISTENCY)}.")
    _check_networks(bundle)
    _check_classes(bundle)
    if bundle.conformal is not None:
        _number("conformal", bundle.conformal, 0, 1)
    if bool(bundle.of_role("segmentation", "multitask")) != (bundle.mask_threshold is not None):
        raise BundleError(f"{DESCRIPTION}: a mask_threshold goes with networks that outline, and these without.")
    if bundle.mask_threshold is not None:
        _number("mask_threshold", bundle.mask_threshold, 0, 1)


def _check_networks(bundle: Bundle) -> None:
    if not isinstance(bundle.task, str) or bundle.task not in TASKS:
        raise BundleError(f"{DESCRIPTION}: task is {_shown(bundle.task)}; this version knows {', '.join(TASKS)}.")
    if not 1 <= len(bundle.networks) <= MAX_NETWORKS:
        raise BundleError(f"{DESCRIPTION}: there are {len(bundle.networks)} networks; a bundle has 1 to {MAX_NETWORKS}.")
    names = [network.name for network in bundle.networks]
    if len(set(names)) < len(names):
        raise BundleError(f"{DESCRIPTION}: two networks have the same name.")
    roles = {str(network.role) for network in bundle.networks}
    if roles - TASKS[bundle.task] or _NEEDED[bundle.task] not in roles:
        raise BundleError(f"{DESCRIPTION}: networks of {', '.join(sorted(roles))} make no {bundle.task} bundle.")


def _check_classes(bundle: Bundle) -> None:
    classes = list(bundle.classes)
    classifies = bundle.task != "segmentation"
    if len(set(classes)) < len(classes) or (not 2 <= len(classes) <= MAX_CLASSES if classifies else classes):
        raise BundleError(
            f"{DESCRIPTION}: classes must be 2 to {MAX_CLASSES} different names, and none where nothing is classified."
        )
    if not set(bundle.lesion_free) <= set(classes):
        raise BundleError(f"{DESCRIPTION}: lesion_free must be among the classes.")
    if (bundle.positive in classes) != classifies or (bundle.positive is None) == classifies:
        raise BundleError(f"{DESCRIPTION}: positive is {_shown(bundle.positive)}; it must be one of the classes.")


def _same_keys(where: str, values: Mapping[str, Any], wanted: set[str]) -> None:
    missing, foreign = sorted(wanted - set(values)), sorted(map(str, set(values) - wanted))
    if missing or foreign:
        wrong = f"{missing[0]} is missing" if missing else f"{_shown(foreign[0])} is not known"
        raise BundleError(f"{DESCRIPTION}: {wrong} in {where}; get the bundle again.")


def _list(name: str, value: Any) -> Sequence[Any]:
    if not isinstance(value, list | tuple) or len(value) > 1000:
        raise BundleError(f"{DESCRIPTION}: {name} must be a list, of at most 1000 entries.")
    return value


def _text(name: str, value: Any) -> None:
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT or not value.replace("\n", " ").isprintable():
        raise BundleError(f"{DESCRIPTION}: {name} must be plain text, not {_shown(value)}.")


def _number(name: str, value: Any, low: float, high: float) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not low <= value <= high:
        raise BundleError(f"{DESCRIPTION}: {name} is {_shown(value)}; it must lie between {low:g} and {high:g}.")


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value
