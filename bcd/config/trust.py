"""Which names a config, or a checkpoint, may construct: only names are checked, nothing is imported."""

import sys
from collections.abc import Collection, Mapping
from typing import Any

# Classes defined in these parts of ours may be named; in a checkpoint, only what prediction needs.
OUR_PARTS = (
    "bcd.api.limits",
    "bcd.data",
    "bcd.launchers",
    "bcd.losses",
    "bcd.metrics",
    "bcd.models",
    "bcd.preprocess",
    "bcd.runs.training.callbacks",
    "bcd.runs.training.sharing",
    "bcd.tasks",
)
OUR_PARTS_IN_CHECKPOINTS = ("bcd.losses", "bcd.models", "bcd.preprocess", "bcd.tasks")

# Constructors of others, one by one: trusting a whole package would admit the likes of `torch.hub.load`.
OPTIMIZERS = frozenset({"torch.optim.Adam", "torch.optim.AdamW", "torch.optim.SGD"})
THEIRS = OPTIMIZERS | {
    "lightning.pytorch.Trainer",
    "lightning.pytorch.callbacks.EarlyStopping",
    "lightning.pytorch.callbacks.LearningRateMonitor",
    "lightning.pytorch.callbacks.ModelCheckpoint",
    "lightning.pytorch.loggers.CSVLogger",
    "lightning.pytorch.loggers.MLFlowLogger",
    "lightning.pytorch.loggers.TensorBoardLogger",
    "lightning.pytorch.loggers.WandbLogger",
    "lightning.pytorch.profilers.SimpleProfiler",
    "albumentations.Affine",
    "albumentations.CLAHE",
    "albumentations.CoarseDropout",
    "albumentations.ElasticTransform",
    "albumentations.GaussianBlur",
    "albumentations.GaussNoise",
    "albumentations.GridDistortion",
    "albumentations.HorizontalFlip",
    "albumentations.MultiplicativeNoise",
    "albumentations.RandomBrightnessContrast",
    "albumentations.RandomGamma",
    "albumentations.ShiftScaleRotate",
}


def is_ours(target: str, from_checkpoint: bool = False) -> bool:
    """Return whether a dotted name lies in our own parts."""
    return _lies_in(target, OUR_PARTS_IN_CHECKPOINTS if from_checkpoint else OUR_PARTS)


def is_named(target: str, trusted: Collection[str] = (), from_checkpoint: bool = False) -> bool:
    """Return whether a dotted name is one of the constructors that are trusted by their full name."""
    return target in (OPTIMIZERS if from_checkpoint else THEIRS) or target in trusted


def packages(trusted: Collection[str]) -> list[str]:
    """Return the entries of `trusted` whose own classes are trusted, all of them: packages and modules of the user's own.

    The standard library, and the libraries whose constructors are listed here one by one, cannot be trusted as a whole.
    """
    listed = {name.partition(".")[0] for name in THEIRS} | {"bcd"} | set(sys.stdlib_module_names)
    return [entry for entry in trusted if entry.partition(".")[0] not in listed]


def package_of(target: str, trusted: Collection[str]) -> str | None:
    """Return the trusted package that a dotted name lies in."""
    return next((entry for entry in packages(trusted) if _lies_in(target, [entry])), None)


def refusal(target: object, trusted: Collection[str] = (), from_checkpoint: bool = False) -> str | None:
    """Return why a `_target_` may not be constructed, and what to do; None where it may."""
    if not isinstance(target, str):
        return f"_target_ must be a dotted name, not {target!r}."
    target = today(target)
    if is_ours(target, from_checkpoint) or is_named(target, trusted, from_checkpoint) or package_of(target, trusted) is not None:
        return None
    if from_checkpoint and (is_ours(target) or target in THEIRS):
        return f"_target_ {target!r} is not a trusted constructor; a checkpoint may not name it."
    package = target.partition(".")[0]
    whole = f" or, for all classes of your package, trusted=[{package}]" if packages([package]) and "." in target else ""
    return f"_target_ {target!r} is not a trusted constructor; if it is your own, add trusted=[{target}]{whole}."


def _lies_in(target: str, parents: Collection[str]) -> bool:
    return any(target.startswith(f"{parent}.") for parent in parents)


# Constructors that have moved: configs, checkpoints and bundles of before name them by their old homes.
MOVED = {
    "bcd.data.augmentation": "bcd.data.augment.pipeline",
    "bcd.data.deformation": "bcd.data.augment.deformation",
    "bcd.data.perturbation": "bcd.data.augment.perturbation",
    "bcd.data.sources.shards": "bcd.data.shards.source",
    "bcd.data.ultrasound": "bcd.data.augment.ultrasound",
    "bcd.runs.callbacks": "bcd.runs.training.callbacks",
    "bcd.runs.sharing": "bcd.runs.training.sharing",
    "bcd.sweeps.launchers.local": "bcd.launchers.local",
    "bcd.sweeps.launchers.ray": "bcd.launchers.ray",
    "bcd.sweeps.launchers.slurm": "bcd.launchers.slurm",
}

# Options that are gone, and what to write instead.
GONE = {"launcher=joblib": "launcher=local launcher.workers=N does the same"}


def today(target: str) -> str:
    """Return the name that a constructor goes by today."""
    module, _, name = target.rpartition(".")
    return f"{MOVED.get(module, module)}.{name}" if module else target


def of_today(node: Any) -> Any:
    """Return a config node in which every constructor goes by the name that it has today."""
    if isinstance(node, Mapping):
        return {
            key: today(value) if key == "_target_" and isinstance(value, str) else of_today(value) for key, value in node.items()
        }
    return [of_today(child) for child in node] if isinstance(node, list | tuple) else node
