"""The result of one image."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bcd.predictor.measurements import Lesion, Spacing
from bcd.predictor.scope import Scope


@dataclass(frozen=True)
class Uncertainty:
    """The spread of several predictions for one image: of an ensemble's networks, or of one network on altered images.

    Attributes:
        classes: standard deviation of each class's calibrated probability, float64 (C,); None where nothing is classified.
        entropy: of the mean probabilities, in bits; None where nothing is classified.
        mask: standard deviation of each pixel's probability, float32 (H, W); None where nothing is segmented.
        dice: mean Dice between the masks of each two looks, two empty ones agreeing; None where nothing is segmented.
        n: looks.
        source: whose they are, in words.
    """

    classes: np.ndarray | None
    entropy: float | None
    mask: np.ndarray | None
    dice: float | None
    n: int
    source: str


@dataclass(frozen=True)
class Result:
    """What a Predictor predicts for one image.

    Attributes:
        name: of the image.
        height: of the image, in pixels.
        width: of the image, in pixels.
        spacing_mm: distance of rows, and of columns, in mm; None if unknown.
        probability_map: lesion probability of each pixel, float32 (H, W); None where nothing is segmented.
        mask: bool (H, W); None where nothing is segmented, and no mask was given.
        lesions: components of the mask, the largest first.
        raw: probabilities as evaluation writes them, float32 (C,), of an ensemble their mean; None where nothing is classified.
        probabilities: class -> calibrated probability; empty where nothing is classified.
        label: the class of highest calibrated probability; None where nothing is classified.
        point: the operating point used; None where there is none.
        threshold: of the positive class's probability at that point.
        is_positive: whether the image is positive at that point.
        consistent: whether class and mask agreed before the bundle's rule was applied; None where one of them is missing.
        consistency: the same in a sentence, with what the rule did.
        conformal: classes that the image may have, at the coverage of the bundle; None where the bundle has no such sets.
        scope: whether the image is like those that the bundle was trained on; None if the bundle has no scope model.
        uncertainty: where it was asked for.
        heat_map: which parts of the image speak for the class, float32 (H, W) in [0, 1], where it was asked for.
        warnings: sentences.
    """

    name: str
    height: int
    width: int
    spacing_mm: Spacing | None
    probability_map: np.ndarray | None
    mask: np.ndarray | None
    lesions: tuple[Lesion, ...]
    raw: np.ndarray | None
    probabilities: dict[str, float]
    label: str | None
    point: str | None
    threshold: float | None
    is_positive: bool | None
    consistent: bool | None
    consistency: str
    conformal: tuple[str, ...] | None
    scope: Scope | None
    uncertainty: Uncertainty | None
    heat_map: np.ndarray | None
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values, without maps and masks."""
        plain = {name: value for name, value in vars(self).items() if name not in ("probability_map", "mask", "heat_map")}
        uncertainty = None
        if self.uncertainty is not None:
            classes = self.uncertainty.classes
            uncertainty = {name: value for name, value in vars(self.uncertainty).items() if name != "mask"}
            uncertainty["classes"] = None if classes is None else [float(value) for value in classes]
        return plain | {
            "spacing_mm": list(self.spacing_mm) if self.spacing_mm is not None else None,
            "lesions": [asdict(lesion) | {"box": list(lesion.box)} for lesion in self.lesions],
            "raw": [float(value) for value in self.raw] if self.raw is not None else None,
            "conformal": list(self.conformal) if self.conformal is not None else None,
            "scope": None if self.scope is None else asdict(self.scope) | {"reasons": list(self.scope.reasons)},
            "uncertainty": uncertainty,
            "warnings": list(self.warnings),
        }
