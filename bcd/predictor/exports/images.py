"""Images that an export is calibrated on, or compared on."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bcd.data.sources.phantom_simulator import draw_anatomy, draw_lesion, simulate
from bcd.images.scan import read_scans
from bcd.predictor.many.inputs import Input, find_inputs

log = logging.getLogger(__name__)

_SIZES = ((300, 360), (256, 256), (480, 640), (200, 440), (520, 380), (131, 97))


@dataclass(frozen=True)
class Images:
    """Images for a purpose.

    Args:
        name: what they are, in words.
        images: grey, uint8 (H, W).
    """

    name: str
    images: Iterable[np.ndarray]


def images_of(folder: Path) -> Images:
    """Return the images of a folder with its subfolders, or those that a CSV lists; what cannot be read is told and left out.

    Raises:
        FileNotFoundError: when there is none.
    """
    return Images(f"the images of {folder.name}", _read(find_inputs(folder)))


def _read(inputs: Iterable[Input]) -> Iterator[np.ndarray]:
    for one in inputs:
        try:
            yield from (scan.image for scan in read_scans(one.path, one.shown))
        except (ValueError, OSError) as error:
            log.warning("Left out: %s", error)


def phantoms(count: int, seed: int) -> Iterator[np.ndarray]:
    """Yield simulated images, grey uint8 (H, W), of many sizes: a third each benign, malignant and without a lesion."""
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        anatomy = draw_anatomy(rng)
        lesion = None if number % 3 == 2 else draw_lesion(rng, malignant=number % 3 == 1)
        yield simulate(rng, anatomy, lesion, _SIZES[number // 3 % len(_SIZES)])[0]
