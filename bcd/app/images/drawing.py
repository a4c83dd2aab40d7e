"""Pictures of a result: contour, tinted probabilities, side by side. RGB, uint8 (H, W, 3), in memory alone."""

import cv2
import numpy as np

from bcd.reports.contours import PREDICTED_COLOUR, outlined

_GAP_PX = 8


def grey(image: np.ndarray) -> np.ndarray:
    """Return a grey image, uint8 (H, W), as RGB."""
    return np.repeat(image[..., None], 3, axis=2)


def tinted(picture: np.ndarray, values: np.ndarray, opacity: float) -> np.ndarray:
    """Return the picture with values laid over it, from none at 0 to yellow at 1; where they are low, it shines through.

    Args:
        picture: RGB, uint8 (H, W, 3).
        values: in [0, 1], (H, W).
        opacity: in [0, 1], where a value is 1.
    """
    levels = np.clip(np.nan_to_num(values) * 255, 0, 255).astype(np.uint8)
    colours = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    # The root: a probability of a quarter is to be seen, not guessed.
    weight = (opacity * np.sqrt(levels.astype(np.float32) / 255))[..., None]
    return np.rint(picture * (1 - weight) + colours * weight).astype(np.uint8)


def drawn(image: np.ndarray, mask: np.ndarray | None, values: np.ndarray | None, opacity: float) -> np.ndarray:
    """Return the image with values laid over it and the mask's contour on top.

    Args:
        image: grey, uint8 (H, W).
        mask: binary (H, W), or None.
        values: in [0, 1], (H, W), or None.
        opacity: of the values, in [0, 1].
    """
    base = grey(image) if values is None or opacity == 0 else tinted(grey(image), values, opacity)
    if mask is None or not mask.any():
        return base
    line = outlined(image, [(mask, PREDICTED_COLOUR)])
    is_line = (line != grey(image)).any(axis=2)
    return np.where(is_line[..., None], line, base)


def side_by_side(*pictures: np.ndarray) -> np.ndarray:
    """Return pictures of one height, RGB, beside each other with a white gap."""
    gap = np.full((pictures[0].shape[0], _GAP_PX, 3), 255, np.uint8)
    parts = [part for picture in pictures for part in (picture, gap)][:-1]
    return np.concatenate(parts, axis=1)


def png(picture: np.ndarray) -> bytes:
    """Return a grey or RGB picture, uint8, as the content of a PNG file."""
    stored = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    _, content = cv2.imencode(".png", stored)
    return content.tobytes()
