"""What the keys of each command's config hold, where no constructor takes them; and what libraries' signatures leave open.

Every key must be there, and no other: `conf/` has them all. Descriptions of objects (`_target_`) are checked by their classes.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo

from bcd.config.options import included_in
from bcd.config.ranges import Count, Natural, Part, Positive, Share, Within

_RUN_CONFIG = "config.yaml"


def _as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _there(kind: str) -> AfterValidator:
    """Require a path that exists, if the command will run."""

    def check(value: str, info: ValidationInfo) -> str:
        path = Path(value).expanduser()
        if info.context is None or not info.context["run"]:
            return value
        if not {"file": path.is_file, "file or folder": path.exists}.get(kind, path.is_dir)():
            raise ValueError(f"there is no such {'folder' if kind == 'run' else kind}.")
        if kind == "run" and not (path / _RUN_CONFIG).is_file():
            raise ValueError(f"it is not a run's folder: it has no {_RUN_CONFIG}. Give the path that training printed last.")
        return value

    return AfterValidator(check)


def _object(value: Any) -> Any:
    if isinstance(value, Mapping) and "_target_" not in value:
        raise ValueError("the class is missing: name it by _target_.")
    return value


def _duration(value: str) -> str:
    if not re.fullmatch(r"\d+:\d{2}:\d{2}:\d{2}", value):
        raise ValueError('it must be days:hours:minutes:seconds, such as "00:00:07:30".')
    return value


Text = Annotated[str, BeforeValidator(_as_text)]
Texts = list[Text]
File = Annotated[str, _there("file")]
Folder = Annotated[str, _there("folder")]
FileOrFolder = Annotated[str, _there("file or folder")]
Run = Annotated[str, _there("run")]
Object = Annotated[dict[str, Any], BeforeValidator(_object)]
Objects = dict[str, Object]
Port = Annotated[int, Field(ge=1, le=65535)]


class _Keys(BaseModel):
    """Keys of a config, none of which may be missing, and no other."""

    model_config = ConfigDict(extra="forbid")


class _Data(_Keys):
    name: Text
    root: str | None
    source: Object
    classes: Texts
    labels: Texts
    relabel: dict[str, Text]
    only: Texts | None = None
    lesions_only: bool
    require_masks: Literal["auto"] | bool
    max_pixels: Count
    exclude_contradictions: bool
    split: File | None
    split_by: Literal["group", "image"]
    folds: Annotated[int, Field(ge=3)]
    split_seed: Natural
    train_share: Part
    allow_leak: bool


class _OfData(_Keys):
    """What every command has that reads a data set."""

    data: _Data
    on_error: Literal["stop", "skip"]
    output: Text
    trusted: Texts


class _Plan(_Keys):
    minutes: Positive
    probe_minutes: Positive
    lesion_px: Positive
    sizes: Annotated[list[Annotated[int, Field(ge=16)]], Field(min_length=1)]
    networks: Annotated[list[dict[str, Any]], Field(min_length=1)]
    choices: dict[str, Any]
    sources: list[Any]


class _Sweep(_Keys):
    name: Text | None
    space: dict[str, Any]
    sampler: Literal["auto", "grid", "random", "tpe", "nsga2"]
    n_trials: Count | None
    startup: Count
    objective: str | list[str] | None
    directions: list[Literal["maximize", "minimize"]] | None
    pruner: Literal["none", "asha", "hyperband", "median"]
    least_validations: Count
    reduction: Annotated[int, Field(ge=2)]
    seed: Natural
    retries: Natural
    fail_fast: bool
    test: Literal["all", "best", "none"]
    storage: str | None
    continues: Text | None
    dry_run: bool


class Training(_OfData):
    """What a training takes, alone or among others."""

    guide: dict[str, Any]
    preprocess: Object
    augmentation: Object
    loss: Object
    optimizer: Object
    scheduler: Object
    finetune: Object
    mixing: Object
    trainer: Object
    callbacks: Objects
    logger: Objects
    task: Object
    model: Object
    launcher: Object
    name: Text
    group: Text | None
    fold: Count | None
    seed: Natural
    batch_size: Count
    sampling: Literal["natural", "balanced"]
    plan: _Plan | None
    resume: Run | None
    pretrained: bool | File
    memory_format: Literal["auto", "channels_last", "contiguous"]
    num_workers: Literal["auto"] | Natural
    probability_maps: bool
    limit_test: Count | None
    refit: bool
    overfit: Count | None
    folder: Text


class Train(Training):
    """A training, or a sweep of many."""

    sweep: _Sweep


class _Crossval(Training):
    folds: list[Count] | None
    seeds: list[Natural] | None
    jobs: Count


class _LearningCurve(_Crossval):
    shares: list[Part]


class _LearningRates(_Keys):
    lowest: Positive
    highest: Positive
    steps: Annotated[int, Field(ge=10)]


class _FindLr(Train):
    search: _LearningRates


class _Pipeline(_OfData):
    seg: Text
    roi: Text
    options: str
    seg_options: str
    roi_options: str
    multitask_options: str
    rows: Texts
    crossfit: Literal["simple", "strict"]
    inner_folds: Annotated[int, Field(ge=3)]
    perturbation: Literal["matched", "none"]
    segmentation: Run | None
    folds: list[Count] | None
    jobs: Count
    deploy: bool
    deploy_row: Literal["out_of_fold_mask", "perturbed_mask"]
    seed: Natural
    resume: Run | None
    name: Text
    folder: Text


class _PrepareData(_OfData):
    preprocess: Object


class _ShardData(_OfData):
    shards: Text
    shard_mb: Annotated[float, Field(ge=1)]


class _ShowAugmentation(_Keys):
    data: _Data
    preprocess: Object
    augmentation: Object
    cases: Count
    case_ids: Texts | None
    draws: Count
    seed: Natural
    output: Text
    name: Text
    trusted: Texts


class _Root(_Keys):
    """`data` of a command that takes the run's data set."""

    root: Folder | None


class _OtherGuide(_Keys):
    """`guide` of a test with another guide than the run's."""

    test: Literal["true", "none", "predicted", "perturbed"] | bool | None
    masks: str | list[str] | None
    strength: Share | None
    shift: Share | None
    dilate: Share | None
    erode: Annotated[float, Field(ge=0, le=0.5)] | None
    drop: Share | None


class _Evaluate(_Keys):
    data: _Data | _Root
    run: Run | None
    bundle: Folder | None
    predictions: str | list[str] | None
    fold: Count | None
    on_error: Literal["stop", "skip"]
    trusted: Texts
    output: Text | None
    prepared: Text
    guide: _OtherGuide


class _Predict(_Keys):
    launcher: Object
    bundle: Folder | None
    run: Run | None
    segmentation: Run | None
    input: FileOrFolder
    output: Text
    point: Text | None
    mask_threshold: Within | None
    probabilities: bool
    uncertainty: bool
    heat_map: bool
    seg: bool
    export: Text | None
    trusted: Texts
    guides: Folder | None
    max_pixels: Count
    shards: Count | None
    shard: Count | None


class _Bundle(_Keys):
    run: Run | None
    segmentation: Run | None
    figures: Texts
    output: Text | None
    verify: Folder | None
    name: Text | None
    precision: Literal["fp32", "fp16"]
    consistency: Literal["report", "class", "mask"]
    point: Text | None
    data_licence: Text | None
    data_citation: Text | None
    trusted: Texts


class _Export(_Keys):
    bundle: Folder
    format: Literal["onnx", "openvino", "torch_export"]
    precision: Literal["fp32", "bf16", "int8"]
    images: Folder | None
    run: Folder | None
    calibration: Folder | None
    calibration_images: Count
    threads: Count | None
    trusted: Texts


class _Serve(_Keys):
    bundle: Folder | None
    bundles: Text
    outputs: Text
    address: Text
    port: Port
    max_upload_mb: Annotated[int, Field(ge=1)]
    max_pixels: Count
    trusted: Texts


class _ServeApi(_Keys):
    bundle: Folder | None
    export: Text | None
    device: Text | None
    trusted: Texts
    host: Text
    port: Annotated[int, Field(ge=0, le=65535)]
    token_file: File | None
    decoders: Count
    limits: Object
    listening: Object


class _Dashboard(_Keys):
    output: Text
    address: Text
    port: Port
    tensorboard: Literal["auto"] | Port | None


class _Compare(_Keys):
    runs: list[Folder]
    output: Text
    names: Texts | None
    figures: Texts | None
    positive: Text | None
    permutations: Count
    seed: Natural


class _Matrix(_Keys):
    runs: list[Run]
    output: Text
    trusted: Texts


class _ShortcutStudy(_Keys):
    data: _Root
    run: Folder | None
    output: Text | None
    trusted: Texts
    seed: Natural


class _SweepReport(_Keys):
    sweep_folder: Folder


_OF_COMMANDS: dict[str, type[BaseModel]] = {
    "bundle": _Bundle,
    "compare": _Compare,
    "crossval": _Crossval,
    "dashboard": _Dashboard,
    "evaluate": _Evaluate,
    "export": _Export,
    "find_lr": _FindLr,
    "learning_curve": _LearningCurve,
    "matrix": _Matrix,
    "pipeline": _Pipeline,
    "predict": _Predict,
    "prepare_data": _PrepareData,
    "serve": _Serve,
    "serve_api": _ServeApi,
    "shard_data": _ShardData,
    "shortcut_study": _ShortcutStudy,
    "show_augmentation": _ShowAugmentation,
    "sweep_report": _SweepReport,
    "train": Train,
}

# What takes `guide` of a training, which names no class.
GUIDE = "bcd.data.guides.GuidePolicy"

_RATES = {"lr": Positive, "weight_decay": Annotated[float, Field(ge=0)]}
# Types and ranges that the signatures of trusted libraries leave open, by the name that a config has for the class.
RANGES: dict[str, dict[str, Any]] = {
    "torch.optim.Adam": _RATES,
    "torch.optim.AdamW": _RATES,
    "torch.optim.SGD": {**_RATES, "momentum": Annotated[float, Field(ge=0, lt=1)]},
    "lightning.pytorch.callbacks.EarlyStopping": {"patience": Count, "mode": Literal["min", "max"]},
    "lightning.pytorch.callbacks.ModelCheckpoint": {"mode": Literal["min", "max"]},
    "lightning.pytorch.Trainer": {
        "accelerator": Literal["auto", "cpu", "gpu", "cuda"],
        "devices": Literal["auto"] | Count | list[Natural],
        "num_nodes": Count,
        "precision": Literal["auto", 64, 32, 16, "64", "32", "16", "bf16"]
        | Literal["64-true", "32-true", "16-true", "bf16-true", "16-mixed", "bf16-mixed"]
        | Literal["transformer-engine", "transformer-engine-float16"],
        "max_epochs": Count,
        "max_steps": Literal[-1] | Count,
        "max_time": Annotated[str, AfterValidator(_duration)] | None,
        "gradient_clip_val": Annotated[float, Field(ge=0)] | None,
        "gradient_clip_algorithm": Literal["norm", "value"] | None,
        "accumulate_grad_batches": Count,
        "check_val_every_n_epoch": Count | None,
        "val_check_interval": Count | Part,
        "limit_train_batches": Count | Part,
        "limit_val_batches": Natural | Share,
        "limit_test_batches": Natural | Share,
        "log_every_n_steps": Count,
        "num_sanity_val_steps": Annotated[int, Field(ge=-1)],
        "deterministic": Literal["warn"] | bool,
    },
}


def of_command(config_name: str, folders: Sequence[Path]) -> type[BaseModel] | None:
    """Return the model of a command's config, or of the config that a user's own builds on; None where neither is ours."""
    if config_name in _OF_COMMANDS:
        return _OF_COMMANDS[config_name]
    return next((model for name in included_in(config_name, folders) if (model := of_command(name, folders))), None)
