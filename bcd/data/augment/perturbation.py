"""Masks with errors of a stated amount: the true mask moved, grown, shrunk or dropped."""

import math
import zlib
from dataclasses import dataclass

import cv2
import numpy as np

# Keeps these draws apart from those of the augmentation, which has the same seed.
_STREAM = zlib.crc32(b"guide")


@dataclass(frozen=True)
class Perturbation:
    """Alters a mask at random, by amounts relative to the lesion's size.

    The size is the equivalent diameter: that of a disc with the area of the mask, all lesions together. One draw settles
    direction, distance, growth and dropping; the strength scales it, so that at a greater strength each mask has the same, larger
    errors.

    Args:
        strength: scales all that follows; at 0 the mask stays what it is, to the bit.
        shift: at strength 1 the mask moves in a random direction by a random distance up to this share of the diameter.
        dilate: at strength 1 it grows on all sides by up to this share of the diameter.
        erode: at strength 1 it shrinks on all sides by up to this share. The change on all sides is drawn evenly
            between `-erode` and `dilate`.
        drop: at strength 1 it is gone with this probability.
    """

    strength: float
    shift: float
    dilate: float
    erode: float
    drop: float

    def __call__(
        self, mask: np.ndarray, box: tuple[int, int, int, int], *, seed: int, case_id: str, epoch: int | None
    ) -> np.ndarray:
        """Return the altered mask, uint8 (S, S) in {0, 1}.

        Args:
            mask: uint8 (S, S) in {0, 1}.
            box: top, left, height and width in px of the image in the square; the mask stays off the padding around it.
            seed: of the run.
            case_id: with the seed and the epoch, all that the draw depends on.
            epoch: None for a draw that is the same at any time, as validation and test need it.
        """
        if self.strength == 0 or not mask.any():
            return mask.copy()
        name = zlib.crc32(case_id.encode("utf-8", "surrogateescape"))
        random = np.random.default_rng([_STREAM, seed, name, 0 if epoch is None else epoch + 1])
        chance, turn, distance, growth = random.uniform(size=4)
        amounts = {name: self.strength * getattr(self, name) for name in ("shift", "dilate", "erode", "drop")}
        if chance < amounts["drop"]:
            return np.zeros_like(mask)
        diameter = math.sqrt(4 * int(mask.sum()) / math.pi)
        length, angle = distance * amounts["shift"] * diameter, 2 * math.pi * turn
        # Towards zero: never further than stated.
        move = np.array([[1.0, 0, int(length * math.cos(angle))], [0, 1, int(length * math.sin(angle))]])
        moved = cv2.warpAffine(mask, move, mask.shape[::-1], flags=cv2.INTER_NEAREST)
        grown = _grown(moved, (growth * (amounts["dilate"] + amounts["erode"]) - amounts["erode"]) * diameter)
        rows, columns = slice(box[0], box[0] + box[2]), slice(box[1], box[1] + box[3])
        inside = np.zeros_like(mask)
        inside[rows, columns] = grown[rows, columns]
        return inside


def _grown(mask: np.ndarray, radius: float) -> np.ndarray:
    """Return the mask grown on all sides by a radius in px, or shrunk by a negative one."""
    if not mask.any():
        return mask
    if radius < 0:
        inside = cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        return (inside > -radius).astype(np.uint8)
    outside = cv2.distanceTransform(1 - mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return (outside <= radius).astype(np.uint8)
