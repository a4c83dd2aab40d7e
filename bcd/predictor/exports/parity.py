"""Whether an exported model gives the results of its networks: a certificate, measured on images, within tolerances stated here."""

import platform
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bcd.data.sources.phantom_simulator import simulate_image
from bcd.predictor.measurements import dice_of
from bcd.predictor.networks import Member
from bcd.predictor.predictor import Predictor


@dataclass(frozen=True)
class Tolerance:
    """How far an exported model may be from its networks: limits of what `Parity` measures.

    Attributes:
        pixel_probability: 1 where single pixels may differ at will.
        flipped: share of images whose class changes, or whose mask appears or vanishes.
    """

    class_probability: float
    pixel_probability: float
    mean_pixel_probability: float
    flipped: float
    mean_dice: float
    lowest_dice: float

    def half(self) -> "Tolerance":
        """Return half of this tolerance; that of single pixels stays the same."""
        return replace(
            self,
            class_probability=self.class_probability / 2,
            mean_pixel_probability=self.mean_pixel_probability / 2,
            flipped=self.flipped / 2,
            mean_dice=(1 + self.mean_dice) / 2,
            lowest_dice=(1 + self.lowest_dice) / 2,
        )


TOLERANCES = {
    "fp32": Tolerance(1e-3, 2e-3, 1e-4, 0.0, 0.999, 0.98),
    "bf16": Tolerance(0.05, 1.0, 0.01, 0.02, 0.99, 0.90),
    "int8": Tolerance(0.10, 1.0, 0.01, 0.02, 0.99, 0.90),
}
"""Precision -> what is let pass. A mask of few pixels loses much Dice by one of them: hence the room at the lower end."""
TOLERANCES_ABROAD = {
    **TOLERANCES,
    "bf16": replace(TOLERANCES["bf16"], mean_dice=0.97, lowest_dice=0.75),
    "int8": replace(TOLERANCES["int8"], mean_dice=0.97, lowest_dice=0.75),
}
"""The same on simulated images for networks that learned from real ones. Their masks there are guesses: where a network is not
sure of any pixel, the last bits decide."""

Logits = Tensor | tuple[Tensor, ...]
"""Of a mask (B, 1, H, W), of classes (B, C), or both."""

_SEED = 726
_BATCHES = (1, 2, 5)
_PACKAGES = ("torch", "onnx", "onnxscript")
_RUNTIMES = {"onnx": "onnxruntime", "openvino": "openvino"}


@dataclass(frozen=True)
class Parity:
    """How far apart two predictors are over a number of images; None where a bundle has no such results.

    Attributes:
        n_images: images.
        class_probability: largest difference of a class's calibrated probability.
        pixel_probability: largest difference of a pixel's probability.
        mean_pixel_probability: largest mean difference over the pixels of an image.
        flipped_labels: images whose class changes.
        flipped_outlines: images whose mask appears or vanishes.
        mean_dice: between the masks, over images where either has a lesion; 1 where none has.
        lowest_dice: the same over images where both have; 1 where none has.
        n_outlined: images where either mask has a lesion.
    """

    n_images: int
    class_probability: float | None
    pixel_probability: float | None
    mean_pixel_probability: float | None
    flipped_labels: int | None
    flipped_outlines: int | None
    mean_dice: float | None
    lowest_dice: float | None
    n_outlined: int | None

    def complaints(self, tolerance: Tolerance) -> list[str]:
        """Return what lies outside the tolerance, in words; nothing where all is well."""
        outside = []
        for name in ("class_probability", "pixel_probability", "mean_pixel_probability"):
            value, limit = getattr(self, name), getattr(tolerance, name)
            if value is not None and not value <= limit:
                outside.append(f"{name.replace('_', ' ')} differs by {value:.3g} (at most {limit:g})")
        labels, outlines = self.flipped_labels or 0, self.flipped_outlines or 0
        if max(labels, outlines) > tolerance.flipped * self.n_images:
            outside.append(
                f"{labels} classes and {outlines} masks of {self.n_images} images flip (at most {tolerance.flipped:.0%} each)"
            )
        for name in ("mean_dice", "lowest_dice"):
            value, limit = getattr(self, name), getattr(tolerance, name)
            if value is not None and not value >= limit:
                outside.append(f"the {name.replace('_dice', '')} Dice between the masks is {value:.4f} (at least {limit:g})")
        return outside


@dataclass(frozen=True)
class Prediction:
    """What is compared of one image: class probabilities (C,), perhaps none; pixel probabilities and bool mask (H, W), or None."""

    classes: np.ndarray
    pixels: np.ndarray | None
    mask: np.ndarray | None


def compare(reference: Predictor, exported: Predictor, images: Iterable[np.ndarray]) -> Parity:
    """Return how far apart two predictors of a bundle are, each over its whole way from image to mask and class."""

    def prediction(predictor: Predictor, image: np.ndarray) -> Prediction:
        result = predictor.predict(image)
        return Prediction(np.array(list(result.probabilities.values())), result.probability_map, result.mask)

    return parity_of((prediction(reference, image), prediction(exported, image)) for image in images)


def prediction_of(logits: Logits, temperature: float, threshold: float) -> Prediction:
    """Return what a network's logits for one image say: its classes at a temperature, its mask from a threshold on."""
    classes, pixels, mask = np.zeros(0), None, None
    for part in logits if isinstance(logits, tuple) else (logits,):
        if part.ndim == 4:
            pixels = part[0, 0].double().sigmoid().numpy()
            mask = pixels >= threshold
        else:
            classes = (part[0].double() / temperature).softmax(0).numpy()
    return Prediction(classes, pixels, mask)


def parity_of(pairs: Iterable[tuple[Prediction, Prediction]]) -> Parity:
    """Return how far apart the predictions are, image by image."""
    rows = [_differences(*pair) for pair in pairs]

    def values(name: str) -> list[float]:
        return [row[name] for row in rows if name in row]

    classes, pixels, dice = values("class_probability"), values("pixel_probability"), values("dice")
    return Parity(
        n_images=len(rows),
        class_probability=max(classes) if classes else None,
        pixel_probability=max(pixels) if pixels else None,
        mean_pixel_probability=max(values("mean_pixel_probability")) if pixels else None,
        flipped_labels=int(sum(values("flipped_label"))) if classes else None,
        flipped_outlines=int(sum(values("flipped_mask"))) if pixels else None,
        mean_dice=float(np.mean(dice)) if dice else 1.0 if pixels else None,
        lowest_dice=min(values("dice_of_both"), default=1.0) if pixels else None,
        n_outlined=len(dice) if pixels else None,
    )


def _differences(first: Prediction, second: Prediction) -> dict[str, float]:
    row: dict[str, float] = {}
    if first.classes.size:
        row["class_probability"] = np.abs(first.classes - second.classes).max()
        row["flipped_label"] = first.classes.argmax() != second.classes.argmax()
    if first.pixels is not None and second.pixels is not None and first.mask is not None and second.mask is not None:
        apart = np.abs(first.pixels.astype(np.float64) - second.pixels)
        row |= {"pixel_probability": apart.max(), "mean_pixel_probability": apart.mean()}
        drawn = bool(first.mask.any()), bool(second.mask.any())
        row["flipped_mask"] = drawn[0] != drawn[1]
        if any(drawn):
            row["dice"] = dice_of(first.mask, second.mask)
        if all(drawn):
            row["dice_of_both"] = row["dice"]
    # A number that is none differs from every other: NaN must not pass for "no difference".
    return {name: float(value) if np.isfinite(value) else np.inf for name, value in row.items()}


@torch.no_grad()
def compare_batches(reference: Member, exported: Member, free: bool) -> dict[str, Any]:
    """Return how far apart the probabilities of a network and its export are for several images at once.

    With `free`, for several sizes; else for the preprocessing's alone.
    """
    size = reference.preprocess.size
    sizes = [(size, size), *([(size, size + 32), (size + 64, max(32, size - 32))] if free else [])]
    largest, shapes = 0.0, []
    for number, (count, (height, width)) in enumerate((count, sides) for count in _BATCHES for sides in sizes):
        inputs = _inputs(reference, count, height, width, number)
        answers = [member.task.model(*inputs) for member in (reference, exported)]
        parts = [logits if isinstance(logits, tuple) else (logits,) for logits in answers]
        first, second = (
            [part.float().sigmoid() if part.ndim == 4 else part.float().softmax(1) for part in of_member] for of_member in parts
        )
        if [one.shape for one in first] != [other.shape for other in second]:
            return {"pixel_or_class_probability": float("inf"), "shapes": [[count, height, width]]}
        apart = max(float((one - other).abs().max()) for one, other in zip(first, second, strict=True))
        largest = max(largest, apart if np.isfinite(apart) else np.inf)
        shapes.append([count, height, width])
    return {"pixel_or_class_probability": largest, "shapes": shapes}


def _inputs(member: Member, count: int, height: int, width: int, number: int) -> tuple[Tensor, ...]:
    """Return simulated images of a size and, for an ROI network, boxes in all but the last of several, as its guides."""
    images = []
    guides = torch.zeros(count, 1, height, width)
    for position in range(count):
        rng = np.random.default_rng([_SEED, 1, number, position])
        label = "malignant" if position % 2 else "benign"
        images.append(member.preprocess.standardise(simulate_image(rng, label, (height, width))))
        top, left = (int(rng.integers(0, side // 2)) for side in (height, width))
        if position + 1 < count or count == 1:
            guides[position, 0, top : top + height // 3 + 1, left : left + width // 3 + position + 1] = 1
    return (torch.stack(images), guides) if member.task.takes_guide else (torch.stack(images),)


def certificate(
    format: str, precision: str, on_images: Mapping[str, tuple[Parity, Tolerance]], on_batches: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return what `parity.json` says: the tolerance, what was measured, with what, and what lies outside: nothing, in a bundle.

    `on_images` is what the images were, in words -> parity of the whole way, and its tolerance; `on_batches` is name of a network
    -> its `compare_batches`.
    """
    outside = [f"on {name}, {words}" for name, (parity, tolerance) in on_images.items() for words in parity.complaints(tolerance)]
    if precision == "fp32":  # of the others, single pixels may differ at will
        limit = TOLERANCES[precision].pixel_probability
        for name, measured in on_batches.items():
            value = float(measured["pixel_or_class_probability"])
            if not value <= limit:
                outside.append(f"{name} in batches differs by {value:.3g} (at most {limit:g})")
    versions = {}
    for package in (*_PACKAGES, _RUNTIMES[format], *(["nncf"] if precision == "int8" else [])):
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    processor = torch.backends.cpu.get_cpu_capability()
    return {
        "passed": not outside,
        "outside": outside,
        "images": {name: asdict(parity) for name, (parity, _) in on_images.items()},
        "tolerances": {name: asdict(tolerance) for name, (_, tolerance) in on_images.items()},
        "batches": {name: dict(measured) for name, measured in on_batches.items()},
        "made_with": versions,
        "hardware": {"machine": platform.machine(), "processor": processor, "threads": torch.get_num_threads()},
    }
