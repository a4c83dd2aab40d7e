"""A stand-in for a predictor, and images to send, for the tests of the service."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from bcd.api.limits import Limits
from bcd.images.scan import Scan
from bcd.predictor.options import PredictOptions

LIMITS = Limits(
    file_mb=1,
    request_mb=2,
    files=4,
    images=6,
    pixels=10_000,
    requests=8,
    waiting=8,
    batch=4,
    memory_mb=8,
    upload_s=5,
    request_s=20,
)
TOKEN = "correct-horse-battery"


@dataclass
class FakeResult:
    """The brightest half of an image is its lesion; its mean is the probability."""

    name: str
    image: np.ndarray
    point: str | None
    uncertainty: Any
    heat_map: np.ndarray | None

    @property
    def mask(self) -> np.ndarray:
        return self.image > np.median(self.image)

    @property
    def probability_map(self) -> np.ndarray:
        return (self.image / 255).astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "height": self.image.shape[0],
            "width": self.image.shape[1],
            "probabilities": {"benign": 1 - float(self.image.mean()) / 255, "malignant": float(self.image.mean()) / 255},
            "label": "benign",
            "point": self.point,
            "warnings": [],
        }


@dataclass
class FakePredictor:
    """Answers when it may; fails at images that are 13 pixels wide."""

    may_answer: threading.Event = field(default_factory=threading.Event)
    calls: list[int] = field(default_factory=list)
    points: dict[str, float] = field(default_factory=lambda: {"youden": 0.4, "sensitivity_95": 0.1})

    def __post_init__(self) -> None:
        self.may_answer.set()
        decisions = SimpleNamespace(default_point="youden", on="raw", source="validation", notes=())
        network = SimpleNamespace(name="a", role="multitask", fold=None, temperature=1.0)
        plain = {"created": "", "made_by": {}, "lesion_free": [], "positive": "malignant", "mask_threshold": 0.5, "data": {}}
        plain |= {"consistency": "report", "conformal": None, "initial_weights": [], "weights_licence": "MIT", "precision": "fp32"}
        plain |= {"metrics": [], "intended_use": ["Research."], "limits": [], "research_use_only": True, "schema_version": 1}
        plain |= {"training": ({"network": "a", "device": "AMD EPYC", "seconds": 12.5},)}
        self.bundle = SimpleNamespace(
            name="fake",
            fingerprint="ab" * 32,
            task="multitask",
            classes=("benign", "malignant"),
            decisions=decisions,
            networks=(network,),
            **plain,
        )

    def predict(self, images: Sequence[Scan], options: PredictOptions) -> list[FakeResult]:
        self.calls.append(len(images))
        self.may_answer.wait(30)
        if any(scan.image.shape[1] == 13 for scan in images):
            raise RuntimeError("DOE^JANE broke it")
        return [self._result(scan, options) for scan in images]

    def _result(self, scan: Scan, options: PredictOptions) -> FakeResult:
        uncertainty = SimpleNamespace(mask=np.zeros(scan.image.shape, np.float32)) if options.uncertainty else None
        heat_map = np.ones(scan.image.shape, np.float32) if options.heat_map else None
        return FakeResult(scan.name, scan.image, options.point or "youden", uncertainty, heat_map)


def pixels(seed: int = 0, height: int = 24, width: int = 32) -> np.ndarray:
    """Return a grey image, uint8 (H, W)."""
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


def encoded(array: np.ndarray, form: str = "PNG") -> bytes:
    """Return an image as a file."""
    file = BytesIO()
    Image.fromarray(array).save(file, form)
    return file.getvalue()
