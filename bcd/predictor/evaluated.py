"""A bundle as evaluation needs it: one prediction a case, and what was decided before."""

from pathlib import Path
from typing import Any

import numpy as np

from bcd.evaluation.decisions import CALIBRATED, RAW, Decisions
from bcd.predictor.pipeline import mean_map, mean_of
from bcd.predictor.predictor import Predictor
from bcd.tasks.inference import Prediction


class EvaluatedBundle:
    """The networks of a bundle with its thresholds and temperature, for `scripts/evaluate.py bundle=`.

    Attributes:
        name: of the bundle.
        classes: in the order of the probabilities; empty where it does not classify.
        mask_threshold: a pixel is lesion from this probability on; None where nothing is segmented.
        decisions: thresholds, temperature and conformal quantile; None where it does not classify.
        origin: `bundle`, `fingerprint`, `trained_on` (`data` of bundle.yaml), `guide`.
    """

    def __init__(self, predictor: Predictor, folder: Path) -> None:
        self._pipeline = predictor.pipeline
        bundle = predictor.bundle
        self.name = bundle.name
        self.classes = list(bundle.classes)
        self.mask_threshold = bundle.mask_threshold
        temperatures = {member.temperature for member in self._pipeline.classifiers}
        # A threshold for calibrated probabilities needs them; one temperature alone can be applied to the mean of raw ones.
        self._calibrated = bundle.decisions.on == CALIBRATED or len(temperatures) > 1
        temperature = 1.0 if self._calibrated else max(temperatures, default=1.0)
        # The thresholds are for the probabilities that `predict` returns.
        changes = {"temperature": temperature, "on": RAW, "default_point": None}
        self.decisions: Decisions | None = bundle.decisions.model_copy(update=changes) if bundle.classes else None
        own = "predicted by the bundle's own segmentation" if predictor.outlines else "none"
        guide: dict[str, Any] = {"train": "see the model card", "test": own, "folders": [], "perturbation": None, "dice": None}
        self.origin: dict[str, Any] = {
            "bundle": str(folder),
            "fingerprint": bundle.fingerprint,
            "trained_on": dict(bundle.data),
            "guide": guide if self._pipeline.takes_guide else None,
        }

    @classmethod
    def load(cls, folder: Path) -> "EvaluatedBundle":
        """Return the bundle in a folder.

        Raises:
            BundleError: when it cannot be used.
        """
        return cls(Predictor.load(folder), folder)

    def predict(self, image: np.ndarray, name: str) -> Prediction:
        """Return the prediction for a grey image, uint8 (H, W), at its own size."""
        answer = self._pipeline(image, name, self.mask_threshold)
        classes = mean_of(answer.calibrated if self._calibrated else answer.raw)
        is_guided = any(member.task.takes_guide for member in self._pipeline.classifiers)
        return Prediction(
            case_id=name,
            mask=mean_map(answer.maps) if answer.maps else None,
            classes=None if classes is None else np.asarray(classes, np.float32),
            guide_is_empty=(answer.mask is None or not answer.mask.any()) if is_guided else None,
        )
