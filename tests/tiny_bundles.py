"""Bundles of tiny networks that learned nothing: what a test of bundles and predictors needs, without a training."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bcd.config import compose
from bcd.config.build import build
from bcd.data.sources.phantom_simulator import draw_anatomy, draw_lesion, simulate
from bcd.predictor.bundle import Bundle
from bcd.predictor.bundles.write import bundle_of, write_bundle
from bcd.predictor.predictor import Predictor
from bcd.tasks.networks import without_pretrained

CLASSES = ("normal", "benign", "malignant")
MODELS = {
    "segmentation": ["model=unet", "model.encoder=test_resnet", "model.decoder_channels=[8,8,8]"],
    "classification": ["model=resnet18", "model.backbone=test_resnet"],
    "roi": [
        "model=roi_crop",
        "model.backbone=test_resnet",
        "model.crop_size=32",
        "guide=none",
        "data.classes=[normal,benign,malignant]",
    ],
    "vit": ["model=resnet18", "model.backbone=test_vit"],
    "multitask": ["model=multitask", "model.network.encoder=test_resnet", "model.network.decoder_channels=[8,8,8]"],
}
State = dict[str, Tensor]


def phantom(seed: int, shape: tuple[int, int] = (120, 160), lesion: bool = True) -> np.ndarray:
    """Return a simulated image, grey uint8 (H, W)."""
    rng = np.random.default_rng(seed)
    anatomy = draw_anatomy(rng)
    return simulate(rng, anatomy, draw_lesion(rng, malignant=True) if lesion else None, shape)[0]


@cache
def config_of(role: str) -> dict[str, Any]:
    return compose("train", [*MODELS[role], "preprocess.size=32", "pretrained=false"])


@cache
def network(role: str, seed: int) -> tuple[dict[str, Any], State]:
    """Return the config of a task and random weights; figures of batch norms are random too, so that answers differ."""
    node = without_pretrained(config_of(role)["task"])
    torch.manual_seed(seed)
    state = dict(build(node).model.state_dict())
    for name, tensor in state.items():
        if name.endswith("running_mean"):
            tensor.normal_(0, 0.2)
    return node, state


def tiny(
    *roles: str, folds: int = 1, temperatures: Sequence[float] = (1.0,), **changes: Any
) -> tuple[dict[str, Any], dict[str, State]]:
    """Return the content of bundle.yaml, and weights by name, of networks of these roles, `folds` of each."""
    networks, states = [], {}
    for place, role in enumerate(roles):
        for fold in range(folds):
            node, state = network(role, 10 * place + fold)
            name = f"{role}_fold_{fold + 1}" if folds > 1 else role
            states[name] = state
            networks.append(
                {
                    "name": name,
                    "role": role if role != "vit" else "classification",
                    "weights": f"weights/{name}.safetensors",
                    "task": node,
                    "preprocess": config_of(role)["preprocess"],
                    "temperature": temperatures[fold % len(temperatures)] if role != "segmentation" else 1.0,
                    "fold": fold + 1,
                    "learned_from_sha256": None,
                }
            )
    classifies = roles != ("segmentation",)
    task = next(task for task in ("roi", "multitask", "classification") if task in roles or task == "classification")
    task = "segmentation" if roles == ("segmentation",) else task
    about = {
        "schema_version": 1,
        "name": "tiny",
        "created": "2026-01-01T00:00:00+00:00",
        "made_by": {"bcd": "0", "commit": None},
        "task": "roi_classification" if task == "roi" else task,
        "classes": list(CLASSES) if classifies else [],
        "lesion_free": ["normal"] if classifies else [],
        "positive": "malignant" if classifies else None,
        "networks": networks,
        "mask_threshold": 0.5 if {"segmentation", "multitask"} & set(roles) else None,
        "consistency": "report",
        "decisions": {
            "thresholds": {"0.5": 0.5, "youden": 0.3, "sensitivity>=0.95": None} if classifies else {},
            "on": "raw" if folds == 1 else "calibrated",
            "default_point": "youden" if classifies else None,
            "source": "nothing",
            "notes": [],
        },
        "conformal": 0.6 if classifies else None,
        "data": {
            "name": "phantom",
            "fingerprint": None,
            "split_sha256": None,
            "n_cases": {"learned_from": 0},
            "licences": ["none"],
            "citations": ["none"],
            "synthetic": True,
        },
        "training": [],
        "initial_weights": ["random weights"],
        "weights_licence": "MIT",
        "precision": "fp32",
        "metrics": [],
        "intended_use": ["Tests."],
        "limits": ["It knows nothing."],
        "research_use_only": True,
    }
    return about | changes, states


def written(folder: Path, *roles: str, precision: str = "fp32", **how: Any) -> Bundle:
    """Write a tiny bundle."""
    about, states = tiny(*roles, **how)
    return write_bundle(folder, about, states, "# tiny: model card\n", precision=precision)


def make_bundle(folder: Path, name: str = "tiny", seed: int = 0, scope: bool = True) -> Path:
    """Write the bundle of a network that segments and classifies, with a scope of phantoms; return its folder."""
    options = ["model=multitask", "model.network.encoder=tu-resnet10t", "model.network.decoder_channels=[8,8,8,8,8]"]
    config = compose("train", [*options, "preprocess.size=32"])
    torch.manual_seed(seed)
    task = build(config["task"])
    thresholds = {"0.5": 0.5, "youden": 0.34, "sensitivity>=0.90": 0.2, "sensitivity>=0.95": None}
    about, _ = tiny("multitask", temperatures=(1.5,), name=name, conformal=0.9, limits=["It is untrained: it knows nothing."])
    about["networks"][0] |= {"task": config["task"], "fold": None}
    about["decisions"]["thresholds"] = thresholds
    card = "# Card of tiny\n\n![picture](https://elsewhere.example/spy.png)\n\nIt costs $5.\n"
    images = ([phantom(number) for number in range(24)], [str(number) for number in range(24)]) if scope else None
    write_bundle(folder, about, {"multitask": dict(task.model.state_dict())}, card, images)
    return folder


def tiny_predictor(*roles: str, **how: Any) -> Predictor:
    """Return the predictor of a tiny bundle that lies nowhere."""
    about, states = tiny(*roles, **how)
    return Predictor.of(bundle_of(about, states), states, "cpu")


def counted(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows by the name of each image that is predicted."""
    seen: list[str] = []
    run = predictor.pipeline.__class__.__call__

    def call(self: object, image: np.ndarray, name: str, *rest: object) -> object:
        seen.append(name)
        return run(self, image, name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(predictor.pipeline.__class__, "__call__", call)
    return seen
