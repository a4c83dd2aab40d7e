"""Uncertainty of a prediction: the spread over the networks of an ensemble, or of one network over altered images."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from bcd.metrics.calibration import scale
from bcd.predictor.measurements import dice_of
from bcd.predictor.pipeline import Answer, Pipeline, look
from bcd.predictor.result import Uncertainty
from bcd.tasks.views import VIEWS, ViewName

# Those that show the whole image, and leave it what it is.
LOOKS: tuple[ViewName, ...] = ("mirror", "zoom_out", "brighter", "darker")


def uncertainty_of(
    pipeline: Pipeline, image: np.ndarray, name: str, mask_threshold: float | None, given: np.ndarray | None, answer: Answer
) -> Uncertainty:
    """Return the uncertainty of a pipeline for one grey image, uint8 (H, W), for which it gave `answer`.

    Masks are made at `mask_threshold`; `given`, bool (H, W), is a mask in place of the predicted one.
    """
    if max(len(pipeline.segmenters), len(pipeline.classifiers)) > 1:
        classes = _by_mask(pipeline, image, name, mask_threshold, answer) if given is None else answer.calibrated
        n = max(len(answer.maps), len(classes))
        return _spread(answer.maps, classes, mask_threshold, n, f"ensemble of {n}")
    looks = [answer, *(pipeline(image, name, mask_threshold, given, VIEWS[view]) for view in LOOKS)]
    maps = [one for look_at in looks for one in look_at.maps]
    classes = [one for look_at in looks for one in look_at.calibrated]
    return _spread(maps, classes, mask_threshold, len(looks), f"test-time augmentation, {len(LOOKS)} views")


def _by_mask(pipeline: Pipeline, image: np.ndarray, name: str, threshold: float | None, answer: Answer) -> list[np.ndarray]:
    """Return the classes as each network sees them; of a single ROI network, given the mask of each network that segments."""
    only = pipeline.classifiers[0] if len(pipeline.classifiers) == 1 else None
    if only is None or not only.task.takes_guide or threshold is None:
        return answer.calibrated
    predicted = [look(only, image, name, one >= threshold).classes for one in answer.maps]
    return [scale(classes[None], only.temperature)[0] for classes in predicted if classes is not None]


def _spread(maps: Sequence[np.ndarray], classes: Sequence[np.ndarray], threshold: float | None, n: int, source: str) -> Uncertainty:
    masks = [one >= threshold for one in maps] if threshold is not None else []
    pairs = [dice_of(first, second) for first, second in combinations(masks, 2)]
    mean = np.mean(classes, axis=0) if classes else np.zeros(0)
    likely = mean[mean > 0]
    entropy = float(abs((likely * np.log2(likely)).sum()))  # abs: of a sure answer it is minus zero
    return Uncertainty(
        classes=np.std(classes, axis=0) if classes else None,
        entropy=entropy if classes else None,
        mask=np.std(maps, axis=0, dtype=np.float64).astype(np.float32) if maps else None,
        dice=float(np.mean(pairs)) if pairs else None,
        n=n,
        source=source,
    )
