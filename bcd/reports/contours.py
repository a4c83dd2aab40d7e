"""Contours of masks, drawn over an image; no plotting library is loaded for them."""

from collections.abc import Sequence

import cv2
import numpy as np

# Blue and orange stay apart for the colour-blind, and both from grey.
TRUE_COLOUR = (86, 180, 233)
PREDICTED_COLOUR = (230, 159, 0)


def overlay(image: np.ndarray, true_mask: np.ndarray | None, predicted_mask: np.ndarray | None) -> np.ndarray:
    """Return the image, uint8 (H, W), as RGB with contours: blue for the true mask, orange for the predicted one.

    Returns:
        uint8 (H, W, 3), RGB.
    """
    pairs = ((true_mask, TRUE_COLOUR), (predicted_mask, PREDICTED_COLOUR))
    return outlined(image, [(mask, colour) for mask, colour in pairs if mask is not None])


def outlined(image: np.ndarray, masks: Sequence[tuple[np.ndarray, tuple[int, int, int]]]) -> np.ndarray:
    """Return the image, uint8 (H, W), with the contour of each mask (H, W) in its colour: uint8 (H, W, 3), RGB."""
    coloured = np.repeat(image[..., None], 3, axis=2)
    thickness = max(1, round(max(image.shape) / 200))
    for mask, colour in masks:
        contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(coloured, contours, -1, colour, thickness)
    return coloured


def jpeg(pixels: np.ndarray, width: int) -> bytes:
    """Return pixels, uint8 (H, W, 3), RGB, as a JPEG file of a width."""
    height = max(1, round(pixels.shape[0] * width / pixels.shape[1]))
    resized = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", cv2.cvtColor(resized, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes()
