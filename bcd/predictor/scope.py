"""Whether an image is of the kind that a bundle was trained on: no network, but image statistics and their usual spread.

The figures of `image_statistics` are standardised by median and robust deviation, far values are drawn in, and the Mahalanobis
distance from the training images' mean is taken, with a shrunk covariance (Ledoit and Wolf, J. Multivariate Analysis 88 (2004)
365, doi:10.1016/S0047-259X(03)00096-4). An image is out of scope from the distance on that one training image in two hundred
would exceed, each by a model that saw neither it nor its group.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from bcd.files import write_bytes
from bcd.images.marks import COLOUR
from bcd.predictor.image_statistics import FIGURES, image_statistics

QUANTILE = 0.995
FOLDS = 5
FEWEST_IMAGES = 20
SMALLEST_PX = 32
# From so many robust deviations on, a figure counts by its logarithm: one wild figure must not hide the others.
LINEAR = 3.0
# Marks in colour and a small Doppler box are usual in breast ultrasound; a picture with more colour is not grey.
COLOURED_SHARE = 0.2
MOST_REASONS = 3
RIDGE = 1e-6
VERSION = 1
_LARGEST_BYTES = 1 << 20
_SHAPES: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("centre", "spread", "low", "high", "mean"), (len(FIGURES),)),
    "precision": (len(FIGURES), len(FIGURES)),
    **dict.fromkeys(("limit", "n_images"), ()),
}

Grey = NDArray[np.uint8]
Floats = NDArray[np.float64]


class ScopeError(ValueError):
    """A file that holds no scope model that this version can use."""


@dataclass(frozen=True)
class Scope:
    """Whether an image is like the training images: `score`, the distance from them, is at most `limit`; `reasons` say why not."""

    in_scope: bool
    score: float
    limit: float
    reasons: tuple[str, ...]


class ScopeModel:
    """The statistics of the training images.

    Args:
        arrays: float64; `centre`, `spread`, `low`, `high` (F,) of the training images' figures, `mean` (F,) and `precision` (F, F)
            of the standardised ones, `limit` () and `n_images` ().

    Raises:
        ScopeError: when an array is missing, of another shape, or holds what it cannot.
    """

    def __init__(self, arrays: dict[str, Floats]) -> None:
        for name, shape in _SHAPES.items():
            if name not in arrays or arrays[name].shape != shape or arrays[name].dtype != np.float64:
                raise ScopeError(f"the scope model's {name} is missing or not float64 {shape}; make the bundle again.")
            if not np.isfinite(arrays[name]).all():
                raise ScopeError(f"the scope model's {name} holds NaN or infinity; make the bundle again.")
        if arrays["spread"].min() <= 0 or arrays["limit"] <= 0:
            raise ScopeError("the scope model's spread and limit must be above 0; make the bundle again.")
        self._arrays = {name: np.asarray(arrays[name], np.float64) for name in _SHAPES}
        self.limit = float(arrays["limit"])
        self.n_images = int(arrays["n_images"])

    @classmethod
    def fit(cls, images: Iterable[Grey], seed: int = 0, groups: Sequence[str] | None = None) -> "ScopeModel":
        """Return the model of training images.

        Args:
            images: grey, uint8 (H, W), at least FEWEST_IMAGES; read one by one, and not kept.
            seed: shuffles the groups into FOLDS folds, by which the limit is found.
            groups: one name an image, where images of one patient or near-copies belong together; each by itself without.

        Raises:
            ValueError: for too few images, an image that cannot be measured, or a wrong number of groups.
        """
        figures = []
        for number, image in enumerate(images):
            name = f"training image {number}"
            _require_grey(image, name)
            if min(image.shape) < SMALLEST_PX:
                height, width = image.shape
                raise ValueError(f"{name} is {height} x {width} pixels; at least {SMALLEST_PX} a side are needed.")
            figures.append(image_statistics(image))
        return cls.of_statistics(np.array(figures), seed, groups)

    @classmethod
    def of_statistics(cls, figures: Floats, seed: int = 0, groups: Sequence[str] | None = None) -> "ScopeModel":
        """Return the model of training images whose `image_statistics`, float64 (N, F), are known; the rest as for `fit`."""
        if len(figures) < FEWEST_IMAGES:
            raise ValueError(f"{len(figures)} training images are too few to fit a scope model; give at least {FEWEST_IMAGES}.")
        names = np.arange(len(figures)).astype(str) if groups is None else np.array(groups, dtype=str)
        if len(names) != len(figures):
            raise ValueError(f"{len(names)} groups for {len(figures)} images; give one per image.")
        if len(np.unique(names)) < 2:
            raise ValueError("the training images are all of one group; at least two are needed to find the limit.")
        return cls(_fit(figures) | {"limit": np.array(_limit(figures, names, seed))})

    def distances(self, figures: Floats) -> Floats:
        """Return the distances, float64 (N,), of images whose `image_statistics`, float64 (N, F), are known."""
        return _distance(figures, self._arrays)

    def check(self, image: Grey, colour: Grey | None = None) -> Scope:
        """Return whether an image, uint8 (H, W), is like the training images.

        `colour` is the same with its colours, uint8 (H, W, 3), where it has any.

        Raises:
            ValueError: for another dtype or shape.
        """
        _require_grey(image, "the image")
        coloured = 0.0 if colour is None else coloured_share(colour, image)
        figures = image_statistics(image)
        # In units of the limit; what is too small or in colour is out of scope however usual its grey levels are.
        score = max(
            float(self.distances(figures[None])[0]) / self.limit,
            coloured / COLOURED_SHARE,
            SMALLEST_PX / min(image.shape),
        )
        return Scope(score <= 1, score * self.limit, self.limit, () if score <= 1 else self._reasons(image, figures, coloured))

    def save(self, path: Path) -> None:
        """Write the model as safetensors."""
        write_bytes(path, save(self._arrays, {"about": _about()}))

    @classmethod
    def load(cls, path: Path) -> "ScopeModel":
        """Return the model of a file that `save` wrote.

        Raises:
            FileNotFoundError: it is not there.
            ScopeError: it is something else, damaged, or of another version.
        """
        if path.stat().st_size > _LARGEST_BYTES:
            raise ScopeError(f"{path.name} is larger than any scope model; make the bundle again.")
        try:
            with safe_open(path, "numpy") as file:
                about = file.metadata() or {}
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        except (SafetensorError, OSError, TypeError, ValueError) as error:
            raise ScopeError(f"{path.name} cannot be read as safetensors ({error}); make the bundle again.") from error
        if about.get("about") != _about():
            raise ScopeError(f"{path.name} was made by another version, with other figures; make the bundle again.")
        return cls(arrays)

    def _reasons(self, image: Grey, figures: Floats, coloured: float) -> tuple[str, ...]:
        reasons = []
        if min(image.shape) < SMALLEST_PX:
            reasons.append(f"{image.shape[0]} x {image.shape[1]} pixels: too small to be compared, at least {SMALLEST_PX} a side")
        if coloured > COLOURED_SHARE:
            reasons.append(f"in colour ({coloured:.0%} of its pixels): the training images are grey")
        if image.min() == image.max():
            reasons.append("one grey level everywhere: there is nothing to see")
        elif self.distances(figures[None])[0] > self.limit:
            reasons.append(f"{self._unusual(figures)}: unlike the training images")
        return tuple(reasons)

    def _unusual(self, figures: Floats) -> str:
        """Return in words the figures furthest outside of what 99 % of the training images have."""
        below, above = ((self._arrays["low"] - figures), (figures - self._arrays["high"]))
        outside = np.maximum(below, above) / self._arrays["spread"]
        furthest = [index for index in np.argsort(-outside, kind="stable") if outside[index] > 0]
        if not furthest:
            return "each figure is usual, but their combination is not"
        every = (FIGURES[index].low if below[index] > 0 else FIGURES[index].high for index in furthest)
        words = list(dict.fromkeys(every))[:MOST_REASONS]  # neighbouring figures say the same
        return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def coloured_share(colour: Grey, image: Grey) -> float:
    """Return the share of pixels with colour, in [0, 1], of a picture, uint8 (H, W, 3), that is `image`, (H, W), in grey.

    Raises:
        ValueError: for another dtype or shape.
    """
    if colour.dtype != np.uint8 or colour.shape != (*image.shape, 3):
        raise ValueError(f"the colours are {colour.dtype} {colour.shape}; give uint8 {(*image.shape, 3)}, as the image is.")
    return float((colour.max(axis=2) - colour.min(axis=2) > COLOUR).mean())


def _about() -> str:
    # One entry: safetensors writes several in any order, and the same model must give the same bytes.
    return json.dumps({"format": "bcd-scope", "version": VERSION, "figures": [figure.name for figure in FIGURES]})


def _require_grey(image: Grey, name: str) -> None:
    if image.dtype != np.uint8 or image.ndim != 2 or not image.size:
        raise ValueError(f"{name} is {image.dtype} {image.shape}; give grey levels as uint8 (H, W).")


def _fit(figures: Floats) -> dict[str, Floats]:
    from sklearn.covariance import LedoitWolf  # here, as below: a bundle is loaded without scikit-learn, which takes seconds

    centre = np.median(figures, axis=0)
    spread = np.diff(np.percentile(figures, (16, 84), axis=0), axis=0)[0] / 2
    # A figure that most images share exactly (no white at all) has no robust spread, and the first that differs would win.
    spread = np.maximum(spread, 0.25 * figures.std(axis=0) + 1e-3)
    low, high = np.percentile(figures, (0.5, 99.5), axis=0)
    standard = _standard(figures, centre, spread)
    estimate = LedoitWolf().fit(standard)
    # The ridge is far below the covariance of real images, and lets copies of a single one have an inverse.
    precision = np.linalg.inv(estimate.covariance_ + RIDGE * np.eye(len(FIGURES)))
    fitted = {"centre": centre, "spread": spread, "low": low, "high": high, "mean": estimate.location_, "precision": precision}
    return fitted | {"n_images": np.array(float(len(figures)))}


def _limit(figures: Floats, groups: NDArray[np.str_], seed: int) -> float:
    """Return the QUANTILE of the images' distances, each from a model of the other folds."""
    from scipy.special import ndtri
    from sklearn.model_selection import GroupKFold

    distances = np.empty(len(figures))
    folds = GroupKFold(min(FOLDS, len(np.unique(groups))), shuffle=True, random_state=seed)
    for rest, part in folds.split(figures, groups=groups):
        distances[part] = _distance(figures[part], _fit(figures[rest]))
    rank = min(len(distances), int(np.ceil(QUANTILE * (len(distances) + 1))))
    # Few images have no such rank: their distances are close to log-normal, which says how far the next might lie.
    logarithms = np.log(np.maximum(distances, RIDGE))
    extrapolated = np.exp(logarithms.mean() + ndtri(QUANTILE) * logarithms.std(ddof=1))
    return float(max(np.sort(distances)[rank - 1], extrapolated))


def _distance(figures: Floats, arrays: dict[str, Floats]) -> Floats:
    offset = _standard(figures, arrays["centre"], arrays["spread"]) - arrays["mean"]
    return np.asarray(np.sqrt(np.maximum(np.einsum("ni,ij,nj->n", offset, arrays["precision"], offset), 0)))


def _standard(figures: Floats, centre: Floats, spread: Floats) -> Floats:
    standard = (figures - centre) / spread
    size = np.abs(standard)
    return np.asarray(np.sign(standard) * np.where(size <= LINEAR, size, LINEAR * (1 + np.log(np.maximum(size, LINEAR) / LINEAR))))
