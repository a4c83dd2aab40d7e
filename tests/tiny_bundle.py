"""A bundle that is made in a second: an untrained network that outlines and classifies, with a scope of phantoms."""

from pathlib import Path

import numpy as np
import torch

from bcd.config import compose
from bcd.config.build import build
from bcd.data.sources.phantom_simulator import draw_anatomy, draw_lesion, simulate
from bcd.predictor.bundles.write import write_bundle

CLASSES = ["normal", "benign", "malignant"]
THRESHOLDS = {"0.5": 0.5, "youden": 0.34, "sensitivity>=0.90": 0.2, "sensitivity>=0.95": None}


def phantom(seed: int, shape: tuple[int, int] = (120, 160), lesion: bool = True) -> np.ndarray:
    """A simulated image, grey uint8 (H, W)."""
    rng = np.random.default_rng(seed)
    anatomy = draw_anatomy(rng)
    return simulate(rng, anatomy, draw_lesion(rng, malignant=True) if lesion else None, shape)[0]


def make_bundle(folder: Path, name: str = "tiny", seed: int = 0, scope: bool = True) -> Path:
    options = ["model=multitask", "model.network.encoder=tu-resnet10t", "model.network.decoder_channels=[8,8,8,8,8]"]
    config = compose("train", [*options, "preprocess.size=32"])
    torch.manual_seed(seed)
    task = build(config["task"])
    network = {
        "name": "multitask",
        "role": "multitask",
        "weights": "weights/multitask.safetensors",
        "task": config["task"],
        "preprocess": config["preprocess"],
        "temperature": 1.5,
        "fold": None,
        "learned_from_sha256": None,
    }
    about = {
        "schema_version": 1,
        "name": name,
        "created": "2026-01-01T00:00:00+00:00",
        "made_by": {"bcd": "0", "commit": None},
        "task": "multitask",
        "classes": CLASSES,
        "lesion_free": ["normal"],
        "positive": "malignant",
        "networks": [network],
        "mask_threshold": 0.5,
        "consistency": "report",
        "decisions": {"thresholds": THRESHOLDS, "on": "raw", "default_point": "youden", "source": "nothing", "notes": []},
        "conformal": 0.9,
        "data": {"name": "phantom", "licences": ["none"], "citations": [], "synthetic": True},
        "training": [],
        "initial_weights": ["random weights"],
        "weights_licence": "none",
        "precision": "fp32",
        "metrics": [],
        "intended_use": ["For testing the page."],
        "limits": ["It is untrained: it knows nothing."],
        "research_use_only": True,
    }
    card = "# Card of tiny\n\n![picture](https://elsewhere.example/spy.png)\n\nIt costs $5.\n"
    seen = ([phantom(seed) for seed in range(24)], [str(seed) for seed in range(24)]) if scope else None
    write_bundle(folder, about, {"multitask": dict(task.model.state_dict())}, card, seen)
    return folder
