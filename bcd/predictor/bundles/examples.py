"""Examples of a bundle: simulated images, and their predictions when it was written, as a check."""

import json
import platform
from collections.abc import Collection, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from bcd.data.sources.phantom_simulator import simulate_image
from bcd.files import write_bytes, write_text
from bcd.images.read import decode_image
from bcd.predictor.bundle import EXAMPLES
from bcd.predictor.bundles.hashes import BundleError, differences, read_hashes, read_sealed
from bcd.predictor.measurements import dice_of
from bcd.predictor.predictor import Predictor
from bcd.predictor.result import Result

EXPECTED = f"{EXAMPLES}/expected.json"
NAMES = ("benign", "malignant", "normal")
PROBABILITY_TOLERANCE = 1e-4
LOWEST_DICE = 0.999
TOLERANCE = (
    f"the same digits on the machine and with the libraries that made the bundle; elsewhere probabilities within "
    f"{PROBABILITY_TOLERANCE:g}, and a Dice of at least {LOWEST_DICE:g} between the masks"
)
_SIZE = (300, 360)
_SEED = 2026


def example_image(name: str) -> np.ndarray:
    """Return the simulated image of a name, grey uint8 (300, 360): always the same."""
    return simulate_image(np.random.default_rng([_SEED, NAMES.index(name)]), name, _SIZE)


def write_examples(folder: Path, predictor: Predictor) -> None:
    """Write `examples/` of a bundle: images, and as expected what its predictor on the CPU gives for them."""
    cases = {}
    for name in NAMES:
        image = example_image(name)
        result = predictor.predict(image)
        write_bytes(folder / EXAMPLES / f"{name}.png", png(image))
        raw = [] if result.raw is None else [float(value) for value in result.raw]
        # json writes the shortest digits that give the same float back
        cases[name] = {"raw": raw, "probabilities": list(result.probabilities.values()), "label": result.label}
        if result.mask is not None:
            write_bytes(folder / EXAMPLES / f"{name}_mask.png", png(result.mask.astype(np.uint8) * 255))
    machine = {"python": platform.python_version(), "torch": torch.__version__, "processor": platform.machine()}
    expected = {"tolerance": TOLERANCE, "made_with": machine, "cases": cases}
    write_text(folder / EXPECTED, json.dumps(expected, indent=2, allow_nan=False) + "\n")


def verify(folder: Path, trusted: Collection[str] = (), export: str | None = None) -> list[str]:
    """Check a bundle's files, and run it, or one of its exported models, on its examples; return the results, in sentences.

    Raises:
        BundleError: when a file is missing, changed, or does not belong there, or an example does not give what it gave.
    """
    folder = Path(folder)
    changed = differences(folder)
    if changed:
        more = f" And {len(changed) - 5} more." if len(changed) > 5 else ""
        raise BundleError(f"{folder} was changed: {' '.join(changed[:5])}{more} Get the bundle again.")
    digests = read_hashes(folder)
    predictor = Predictor.load(folder, "cpu", export, trusted)
    content = read_sealed(folder, EXPECTED, digests)
    try:
        cases = json.loads(content)["cases"]
        expected = {name: [np.array(cases[name][key], dtype=float) for key in ("raw", "probabilities")] for name in NAMES}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(f"{EXPECTED} does not hold the results of the examples; get the bundle again.") from error
    lines = [f"{len(digests)} files are unchanged, fingerprint {predictor.bundle.fingerprint}."]
    for name in NAMES:
        image = decode_image(read_sealed(folder, f"{EXAMPLES}/{name}.png", digests), f"{name}.png")
        mask = None
        if predictor.outlines:
            content = read_sealed(folder, f"{EXAMPLES}/{name}_mask.png", digests)
            mask = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
            if mask is None:
                raise BundleError(f"{EXAMPLES}/{name}_mask.png cannot be read; get the bundle again.")
        lines.append(_compared(name, predictor.predict(image), expected[name], mask))
    return lines


def png(picture: np.ndarray) -> bytes:
    """Return a grey or RGB picture, uint8 (H, W) or (H, W, 3), as the content of a PNG file."""
    stored = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    _, content = cv2.imencode(".png", stored)
    return content.tobytes()


def _compared(name: str, result: Result, expected: Sequence[np.ndarray], mask: np.ndarray | None) -> str:
    raw = np.empty(0) if result.raw is None else result.raw
    largest = 0.0
    for now, then in zip((raw.astype(float), np.array(list(result.probabilities.values()))), expected, strict=True):
        if now.shape != then.shape:
            raise BundleError(f"Example {name}: {len(now)} classes where {len(then)} were expected.")
        largest = max(largest, float(np.abs(now - then).max(initial=0.0)))
    dice = 1.0 if mask is None or result.mask is None else dice_of(result.mask, mask > 0)
    if largest == 0 and dice == 1:
        return f"Example {name}: the same digits as when it was made."
    if largest <= PROBABILITY_TOLERANCE and dice >= LOWEST_DICE:
        return f"Example {name}: probabilities within {largest:.2g}, Dice {dice:.6f}."
    raise BundleError(
        f"Example {name} gives another result: probabilities differ by {largest:.3g}, the Dice between the masks is "
        f"{dice:.4f}. Expected: {TOLERANCE}."
    )
