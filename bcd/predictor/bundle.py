"""A bundle: a trained pipeline in one folder, to share with others. docs/bundle.md describes the format.

A bundle may come from anywhere, so everything in it is checked, and no code in it is run: weights are
safetensors, everything else is text, and a config may name only our own networks.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from bcd.config.errors import sentence, shortened
from bcd.evaluation.decisions import BESIDE, Decisions, Probability, Temperature
from bcd.images.decode import printable
from bcd.predictor.bundles.hashes import BundleError, fingerprint, read_hashes, read_sealed

SCHEMA_VERSION = 1
DESCRIPTION = "bundle.yaml"
CARD = "model_card.md"
SCOPE = "scope.safetensors"
EXAMPLES = "examples"
EXPORTS = "exports"

ROLES = {
    "segmentation": ("segmentation",),
    "classification": ("classification", "segmentation"),
    "roi_classification": ("roi", "segmentation"),
    "multitask": ("multitask",),
}
"""Task of a bundle -> the roles that its networks may have; one of the first must be there."""

_MAX_DESCRIPTION_BYTES = 1 << 19
_MAX_ENTRIES = 1000
_MAX_DEPTH = 24
_MAX_TEXT = 20_000
# No network of the field has a layer, crop or list so long; some libraries build it before it can be checked.
_MAX_NETWORK_ENTRIES = 256
_MAX_NETWORK_NUMBER = 1 << 14
# What would let timm read a file or reach for the network.
_FORBIDDEN_KEYS = {"checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"}


def _check_network_config(node: Any) -> Any:
    if isinstance(node, Mapping | list | tuple):
        if len(node) > _MAX_NETWORK_ENTRIES:
            raise ValueError(f"it holds {len(node)} entries in one place; no network needs more than {_MAX_NETWORK_ENTRIES}")
        forbidden = _FORBIDDEN_KEYS.intersection(node) if isinstance(node, Mapping) else ()
        if forbidden:
            raise ValueError(f"{min(forbidden)} is not allowed in a bundle: its weights come from the bundle alone")
        for value in node.values() if isinstance(node, Mapping) else node:
            _check_network_config(value)
    elif isinstance(node, int | float) and not abs(node) <= _MAX_NETWORK_NUMBER:
        raise ValueError(f"it holds {shortened(node)}; no network needs a number above {_MAX_NETWORK_NUMBER}")
    return node


Texts = Annotated[tuple[str, ...], Field(strict=False)]
NetworkConfig = Annotated[dict[str, Any], AfterValidator(_check_network_config)]


class Network(BaseModel):
    """One network of a bundle.

    Args:
        name: of its weights file; letters, digits, `_` and `-`.
        role: what it is for.
        weights: its weights file, from the bundle's folder on: `weights/<name>.safetensors`.
        task: plain config of the task.
        preprocess: plain config of the preprocessing.
        temperature: of `bcd.metrics.calibration.scale`; 1 changes nothing.
        fold: that it was not trained on; None where it has none.
        learned_from_sha256: of the sorted ids of the cases it learned from or was chosen by, one per line; None if unknown.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
    role: Literal["segmentation", "classification", "roi", "multitask"]
    weights: str
    task: NetworkConfig
    preprocess: dict[str, Any]
    temperature: Temperature
    fold: int | None
    learned_from_sha256: str | None

    @model_validator(mode="after")
    def _fits_together(self) -> "Network":
        if self.weights != f"weights/{self.name}.safetensors":
            raise ValueError(f"weights is {shortened(self.weights)}; it must be weights/{self.name}.safetensors")
        size = self.preprocess.get("size")
        if type(size) is not int or not 16 <= size <= 4096:
            raise ValueError(f"preprocess: size is {shortened(size)}; it must be a whole number of pixels from 16 to 4096")
        return self


class Bundle(BaseModel):
    """The content of bundle.yaml.

    Args:
        schema_version: of this format.
        name: for people.
        created: date and time, ISO 8601.
        made_by: `bcd` (version) and `commit`.
        task: what it does.
        classes: in the order of the probabilities; empty where it does not classify.
        lesion_free: those of the classes whose images have no lesion.
        positive: the class that operating points are for; None where it does not classify.
        networks: several of one role are averaged.
        mask_threshold: a pixel is lesion from this probability on; None where nothing is segmented.
        consistency: the rule where class and mask disagree; see `bcd.predictor.consistency`.
        decisions: operating points. In bundle.yaml without the values stored elsewhere: `positive`, `conformal`, and each network's
            temperature.
        conformal: highest score, 1 - calibrated probability, of a class in the set; None where there are no sets.
        data: name, fingerprint, split_sha256, n_cases, licences, citations, synthetic.
        training: of each network: network, device, threads, precision, seconds, images_seen, epochs; None where unknown.
        initial_weights: where the networks' weights began, in words.
        weights_licence: of the weights in the bundle, in words.
        precision: how the weights are stored.
        metrics: test figures with intervals: of, on, n_cases, n_groups, figures.
        intended_use: sentences.
        limits: sentences.
        research_use_only: no bundle is a medical device.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_version: Literal[1]
    name: str
    created: str
    made_by: dict[str, Any]
    task: Literal["segmentation", "classification", "roi_classification", "multitask"]
    classes: Annotated[Texts, Field(max_length=100)]
    lesion_free: Texts
    positive: str | None
    networks: Annotated[tuple[Network, ...], Field(strict=False, min_length=1, max_length=64)]
    mask_threshold: Probability | None
    consistency: Literal["report", "class", "mask"]
    decisions: Decisions
    conformal: Probability | None
    data: dict[str, Any]
    training: Annotated[tuple[dict[str, Any], ...], Field(strict=False)]
    initial_weights: Texts
    weights_licence: str
    precision: Literal["fp32", "fp16"]
    metrics: Annotated[tuple[dict[str, Any], ...], Field(strict=False)]
    intended_use: Texts
    limits: Texts
    research_use_only: Literal[True]

    _folder: Path | None = PrivateAttr(None)
    _fingerprint: str = PrivateAttr("")

    @model_validator(mode="before")
    @classmethod
    def _complete_decisions(cls, values: dict[str, Any]) -> dict[str, Any]:
        decisions, known = values.get("decisions"), Decisions.model_fields.keys() - BESIDE
        if not isinstance(decisions, Mapping) or decisions.keys() != known:
            raise ValueError(f"decisions must have the keys {', '.join(sorted(known))}, and no others")
        beside = {"positive": values.get("positive") or "", "conformal": values.get("conformal")}
        return {**values, "decisions": {**decisions, **beside}}

    @model_validator(mode="after")
    def _fits_together(self) -> "Bundle":
        names, roles = [network.name for network in self.networks], {network.role for network in self.networks}
        if len(set(names)) < len(names):
            raise ValueError("networks: two have the same name")
        if roles - set(ROLES[self.task]) or ROLES[self.task][0] not in roles:
            raise ValueError(f"networks of {', '.join(sorted(roles))} make no {self.task} bundle")
        classifies = self.task != "segmentation"
        if len(set(self.classes)) < len(self.classes) or (len(self.classes) < 2 if classifies else self.classes):
            raise ValueError("classes must be two different names or more, and none where nothing is classified")
        if not set(self.lesion_free) <= set(self.classes):
            raise ValueError("lesion_free must be among the classes")
        if (self.positive in self.classes) != classifies or (self.positive is None) == classifies:
            raise ValueError(f"positive is {shortened(self.positive)}; it must be one of the classes")
        if bool(self.of_role("segmentation", "multitask")) != (self.mask_threshold is not None):
            raise ValueError("mask_threshold goes with networks that segment, and must be null without")
        return self

    @property
    def folder(self) -> Path | None:
        """Return where it lies; None for one that lies nowhere."""
        return self._folder

    @property
    def fingerprint(self) -> str:
        """Return what identifies this bundle: the digest of its files, or of its content where it lies nowhere."""
        return self._fingerprint

    @property
    def synthetic(self) -> bool:
        """Return whether its networks learned from simulated images."""
        return bool(self.data.get("synthetic"))

    def of_role(self, *roles: str) -> list[Network]:
        """Return the networks of these roles."""
        return [network for network in self.networks if network.role in roles]

    def to_dict(self) -> dict[str, Any]:
        """Return the content of bundle.yaml, plain values."""
        return self.model_dump(mode="json", exclude={"decisions": BESIDE})

    @classmethod
    def from_dict(cls, values: Any, folder: Path | None = None, fingerprint: str = "") -> "Bundle":
        """Return what `to_dict` gave, every value checked.

        Raises:
            BundleError: saying which value is wrong.
        """
        if not isinstance(values, Mapping):
            raise BundleError(f"{DESCRIPTION} is no mapping; get the bundle again.")
        if values.get("schema_version") != SCHEMA_VERSION:
            raise BundleError(
                f"{DESCRIPTION}: schema_version is {shortened(values.get('schema_version'))}, this version of bcd reads "
                f"{SCHEMA_VERSION}; update bcd, or get a bundle that was made for it."
            )
        _refuse_strange(values, DESCRIPTION)
        try:
            bundle = cls.model_validate(dict(values))
        except ValidationError as error:
            raise BundleError(f"{DESCRIPTION}: {sentence(error)}") from error
        bundle._folder, bundle._fingerprint = folder, fingerprint
        return bundle


def read_bundle(folder: Path) -> Bundle:
    """Return the description of a bundle; its weights are not looked at yet.

    Raises:
        BundleError: when it is no bundle, was changed, or has invalid values.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise BundleError(f"{printable(folder)}: there is no such folder; give the folder that scripts/bundle.py wrote.")
    content = read_sealed(folder, DESCRIPTION, read_hashes(folder), _MAX_DESCRIPTION_BYTES)
    try:
        values = yaml.load(content.decode("utf-8"), _PlainLoader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BundleError(f"{folder / DESCRIPTION} cannot be read as a bundle's description ({reason}).") from error
    return Bundle.from_dict(values, folder, fingerprint(folder))


class _PlainLoader(yaml.SafeLoader):
    """Reads YAML without aliases, of which a short file can make endless ones."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias")
        return super().compose_node(parent, index)


def _refuse_strange(node: Any, where: str, depth: int = 0) -> None:
    """Refuse invalid values at any depth: interpolations, control characters, endless or nested values, NaN."""
    if isinstance(node, Mapping | list | tuple):
        if depth > _MAX_DEPTH or len(node) > _MAX_ENTRIES:
            raise BundleError(f"{where[:100]} has more than {_MAX_ENTRIES} entries, or is nested deeper than {_MAX_DEPTH} levels.")
        for key, value in node.items() if isinstance(node, Mapping) else enumerate(node):
            _refuse_strange(key, where, depth + 1)
            _refuse_strange(value, f"{where}: {key}" if depth == 0 else f"{where}.{key}", depth + 1)
    elif isinstance(node, str):
        if len(node) > _MAX_TEXT or not node.replace("\n", " ").isprintable() or "${" in node:
            raise BundleError(f"{where[:100]} must be plain text without interpolations, not {shortened(node)}.")
    elif not isinstance(node, bool | int | float | None) or (isinstance(node, float) and not math.isfinite(node)):
        raise BundleError(f"{where[:100]} is {shortened(node)}; it must be a finite number, text, true, false or null.")
