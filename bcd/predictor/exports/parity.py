"""Whether an exported model says what its networks say: a certificate, measured on images, within tolerances stated here."""

import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bcd.data.sources.phantom_simulator import draw_anatomy, draw_lesion, simulate
from bcd.predictor.measurements import dice_of
from bcd.predictor.networks import Member
from bcd.predictor.predictor import Predictor
from bcd.predictor.result import Result


@dataclass(frozen=True)
class Tolerance:
    """How far an exported model may be from its networks.

    Attributes:
        class_probability: largest difference of a class's calibrated probability.
        pixel_probability: largest difference of a pixel's probability; 1 where single pixels may differ at will.
        mean_pixel_probability: largest mean difference over the pixels of an image.
        flipped: share of images whose class changes, or whose outline appears or vanishes.
        mean_dice: least mean Dice between the masks, over images where either has an outline.
        lowest_dice: least Dice between the masks of an image where both have an outline.
    """

    class_probability: float
    pixel_probability: float
    mean_pixel_probability: float
    flipped: float
    mean_dice: float
    lowest_dice: float

    def share(self, part: float) -> "Tolerance":
        """Return a part (0 to 1) of this tolerance; single pixels keep what they have."""
        return Tolerance(
            self.class_probability * part,
            self.pixel_probability,
            self.mean_pixel_probability * part,
            self.flipped * part,
            1 - (1 - self.mean_dice) * part,
            1 - (1 - self.lowest_dice) * part,
        )


TOLERANCES = {
    "fp32": Tolerance(1e-3, 2e-3, 1e-4, 0.0, 0.999, 0.98),
    "bf16": Tolerance(0.05, 1.0, 0.01, 0.02, 0.99, 0.90),
    "int8": Tolerance(0.10, 1.0, 0.01, 0.02, 0.99, 0.90),
}
"""Precision -> what is let pass. An outline of few pixels loses much Dice by one of them: hence the room at the lower end."""
ABROAD = {
    **TOLERANCES,
    "bf16": replace(TOLERANCES["bf16"], mean_dice=0.97, lowest_dice=0.75),
    "int8": replace(TOLERANCES["int8"], mean_dice=0.97, lowest_dice=0.75),
}
"""The same on simulated images for networks that learned from real ones. Their outlines there are guesses: where a network is not
sure of any pixel, the last bits decide."""

_SEED = 726
_BATCHES = (1, 2, 5)
PACKAGES = {
    "onnx": ("torch", "onnx", "onnxscript", "onnxruntime"),
    "openvino": ("torch", "onnx", "onnxscript", "openvino"),
    "torch_export": ("torch",),
}


@dataclass(frozen=True)
class Parity:
    """How far apart two predictors are over a number of images; None where a bundle has no such answers.

    Attributes:
        n_images: images.
        class_probability: largest difference of a class's calibrated probability.
        pixel_probability: largest difference of a pixel's probability.
        mean_pixel_probability: largest mean difference over the pixels of an image.
        flipped_labels: images whose class changes.
        flipped_outlines: images whose outline appears or vanishes.
        mean_dice: over images where either mask has an outline; 1 where none has.
        lowest_dice: over images where both have; 1 where none has.
        n_outlined: images where either mask has an outline.
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
        told = []
        for name in ("class_probability", "pixel_probability", "mean_pixel_probability"):
            found, limit = getattr(self, name), getattr(tolerance, name)
            if found is not None and not found <= limit:
                told.append(f"{name.replace('_', ' ')} differs by {found:.3g} (at most {limit:g})")
        flipped = max(self.flipped_labels or 0, self.flipped_outlines or 0)
        if flipped > tolerance.flipped * self.n_images:
            told.append(
                f"{self.flipped_labels or 0} classes and {self.flipped_outlines or 0} outlines of {self.n_images} images flip "
                f"(at most {tolerance.flipped:.0%} each)"
            )
        for name in ("mean_dice", "lowest_dice"):
            found, limit = getattr(self, name), getattr(tolerance, name)
            if found is not None and not found >= limit:
                told.append(f"the {name.replace('_dice', '')} Dice between the masks is {found:.4f} (at least {limit:g})")
        return told


def compare(reference: Predictor, exported: Predictor, images: Iterable[np.ndarray]) -> Parity:
    """Return how far apart two predictors of a bundle are, each over its whole way from image to mask and class."""
    pairs = [_Pair.of(reference.predict(image), exported.predict(image)) for image in images]
    return _parity(pairs, exported.outlines, exported.classifies)


Answer = Tensor | tuple[Tensor, ...]


def compare_answers(pairs: Iterable[tuple[Answer, Answer]], temperature: float, threshold: float) -> Parity:
    """Return how far apart the answers of a network and of its export are, image by image.

    Args:
        pairs: logits of both for one image: of the outline (1, 1, H, W), of the classes (1, C), or both.
        temperature: of the classes' probabilities.
        threshold: of the outline's.
    """
    listed = [[answer if isinstance(answer, tuple) else (answer,) for answer in pair] for pair in pairs]
    kinds = {answer.ndim for answer in listed[0][0]} if listed else set()
    return _parity([_Pair.of_answers(one, other, temperature, threshold) for one, other in listed], 4 in kinds, 2 in kinds)


def _parity(pairs: Sequence["_Pair"], masks: bool, classes: bool) -> Parity:
    dices = [pair for pair in pairs if pair.dice is not None and pair.outlined]
    both = [pair.dice for pair in dices if not pair.outline_flipped and pair.dice is not None]
    return Parity(
        n_images=len(pairs),
        class_probability=max((pair.classes for pair in pairs), default=0.0) if classes else None,
        pixel_probability=max((pair.pixel for pair in pairs), default=0.0) if masks else None,
        mean_pixel_probability=max((pair.mean_pixel for pair in pairs), default=0.0) if masks else None,
        flipped_labels=sum(pair.label_flipped for pair in pairs) if classes else None,
        flipped_outlines=sum(pair.outline_flipped for pair in pairs) if masks else None,
        mean_dice=float(np.mean([pair.dice for pair in dices])) if dices else 1.0 if masks else None,
        lowest_dice=min(both, default=1.0) if masks else None,
        n_outlined=len(dices) if masks else None,
    )


@dataclass(frozen=True)
class _Pair:
    classes: float
    pixel: float
    mean_pixel: float
    label_flipped: bool
    outline_flipped: bool
    outlined: bool
    dice: float | None

    @classmethod
    def of(cls, first: Result, second: Result) -> "_Pair":
        classes = max((abs(first.probabilities[name] - second.probabilities[name]) for name in first.probabilities), default=0.0)
        apart, masks = np.zeros(1), None
        if first.probability_map is not None and second.probability_map is not None:
            apart = np.abs(first.probability_map.astype(np.float64) - second.probability_map)
        if first.mask is not None and second.mask is not None:
            masks = first.mask, second.mask
        return cls._made(classes, apart, first.label != second.label, masks)

    @classmethod
    def of_answers(cls, first: Sequence[Tensor], second: Sequence[Tensor], temperature: float, threshold: float) -> "_Pair":
        classes, flipped_label, apart, masks = 0.0, False, np.zeros(1), None
        for one, other in zip(first, second, strict=True):
            if one.ndim == 4:
                maps = [answer[0, 0].double().sigmoid().numpy() for answer in (one, other)]
                apart, masks = np.abs(maps[0] - maps[1]), (maps[0] >= threshold, maps[1] >= threshold)
            else:
                shares = [(answer[0].double() / temperature).softmax(0).numpy() for answer in (one, other)]
                classes, flipped_label = float(np.abs(shares[0] - shares[1]).max()), bool(shares[0].argmax() != shares[1].argmax())
        return cls._made(classes, apart, flipped_label, masks)

    @classmethod
    def _made(cls, classes: float, apart: np.ndarray, label_flipped: bool, masks: tuple[np.ndarray, np.ndarray] | None) -> "_Pair":
        # A number that is none differs from every other: NaN must not pass for "no difference".
        far, pixel, mean_pixel = (float(value) if np.isfinite(value) else np.inf for value in (classes, apart.max(), apart.mean()))
        if masks is None:
            return cls(far, pixel, mean_pixel, label_flipped, False, False, None)
        first, second = (bool(mask.any()) for mask in masks)
        return cls(far, pixel, mean_pixel, label_flipped, first != second, first or second, dice_of(*masks))


@torch.no_grad()
def compare_batches(reference: Member, exported: Member, free: bool) -> dict[str, Any]:
    """Return how far apart the answers of a network and its export are for several images at once, and of several sizes.

    Args:
        reference: the network.
        exported: its export.
        free: whether the export takes other sizes than the preprocessing's.
    """
    size = reference.preprocess.size
    sizes = [(size, size), *([(size, size + 32), (size + 64, max(32, size - 32))] if free else [])]
    largest, shapes = 0.0, []
    for number, (count, (height, width)) in enumerate((count, sides) for count in _BATCHES for sides in sizes):
        inputs = _inputs(reference, count, height, width, number)
        first, second = (_probabilities(member.task.model(*inputs)) for member in (reference, exported))
        if [answer.shape for answer in first] != [answer.shape for answer in second]:
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
        picture, _ = simulate(rng, draw_anatomy(rng), draw_lesion(rng, malignant=bool(position % 2)), (height, width))
        images.append(member.preprocess.standardise(picture))
        top, left = (int(rng.integers(0, side // 2)) for side in (height, width))
        if position + 1 < count or count == 1:
            guides[position, 0, top : top + height // 3 + 1, left : left + width // 3 + position + 1] = 1
    return (torch.stack(images), guides) if member.role == "roi" else (torch.stack(images),)


def _probabilities(found: Tensor | tuple[Tensor, ...]) -> list[Tensor]:
    answers = found if isinstance(found, tuple) else (found,)
    return [answer.float().sigmoid() if answer.ndim == 4 else answer.float().softmax(1) for answer in answers]


def certificate(
    format: str,
    precision: str,
    on_images: Mapping[str, tuple[Parity, Tolerance]],
    on_batches: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Return what `parity.json` says: the tolerance, what was measured, with what, and what lies outside: nothing, in a bundle.

    Args:
        format: of the exported model.
        precision: of it.
        on_images: what the images were, in words -> parity of the whole way, and its tolerance.
        on_batches: name of a network -> `compare_batches` of it.
    """
    told = [f"on {name}, {words}" for name, (parity, tolerance) in on_images.items() for words in parity.complaints(tolerance)]
    if precision == "fp32":  # of the others, single pixels may differ at will
        limit = TOLERANCES[precision].pixel_probability
        far = {name: float(found["pixel_or_class_probability"]) for name, found in on_batches.items()}
        told += [
            f"{name} in batches differs by {value:.3g} (at most {limit:g})" for name, value in far.items() if not value <= limit
        ]
    return {
        "passed": not told,
        "outside": told,
        "images": {name: asdict(parity) for name, (parity, _) in on_images.items()},
        "tolerances": {name: asdict(tolerance) for name, (_, tolerance) in on_images.items()},
        "batches": {name: dict(found) for name, found in on_batches.items()},
        "made_with": {name: found for name in _packages(format, precision) if (found := _version(name)) is not None},
        "hardware": {"machine": platform.machine(), "processor": _processor(), "threads": torch.get_num_threads()},
    }


def _packages(format: str, precision: str) -> Sequence[str]:
    return (*PACKAGES[format], "nncf") if precision == "int8" else PACKAGES[format]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    return torch.backends.cpu.get_cpu_capability()
