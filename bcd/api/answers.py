"""Results as JSON: what was asked for and nothing more."""

import base64
from collections.abc import Callable
from typing import Any, Literal

import cv2
import numpy as np

from bcd.api.batcher import Answered
from bcd.api.reading import Readable

MaskFormat = Literal["none", "png", "rle"]
_LEVELS = 65535


def entry(
    readable: Readable, result: Answered, mask: MaskFormat, probability_map: bool, hold: Callable[[int], None]
) -> dict[str, Any]:
    """Return the answer's entry for one image.

    Args:
        readable: the image.
        result: what the model said.
        mask: how to write the outline.
        probability_map: write the maps of probability, and of uncertainty where there is one.
        hold: told the size of each map, in bytes.
    """
    scan, uncertainty = readable.scan, result.uncertainty
    written = {"file": readable.file, **result.to_dict()}
    if scan.region is not None:
        written |= {"region": list(scan.region), "frame_size": list(scan.frame_size)}
    if scan.frame is not None:
        written["frame"] = scan.frame
    if mask != "none":
        written["mask"] = _mask(result.mask, mask, hold)
    if probability_map:
        written["probability_map"] = _map(result.probability_map, hold)
        if uncertainty is not None:
            written["uncertainty_map"] = _map(uncertainty.mask, hold)
    if result.heat_map is not None:
        written["heat_map"] = _map(result.heat_map, hold)
    return written


def run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """Return a mask as run lengths, as COCO has them: down the columns, one after the other, zeros first.

    Args:
        mask: bool (H, W).
    """
    flat = np.concatenate([[False], mask.ravel(order="F")])
    # A mask that begins with a one begins with a run of no zeros.
    turns = np.flatnonzero(flat[1:] != flat[:-1])
    ends = np.append(turns, mask.size)
    return {"size": list(mask.shape), "counts": np.diff(ends, prepend=0).tolist()}


def _mask(mask: np.ndarray | None, form: MaskFormat, hold: Callable[[int], None]) -> dict[str, Any] | None:
    if mask is None:
        return None
    if form == "rle":
        return run_lengths(np.asarray(mask, bool))
    return {"png": _png(np.asarray(mask, np.uint8) * 255, hold)}


def _map(values: np.ndarray | None, hold: Callable[[int], None]) -> dict[str, Any] | None:
    """Return a map of values in [0, 1] as a PNG of 16 bits."""
    if values is None:
        return None
    levels = np.rint(np.clip(values, 0, 1).astype(np.float64) * _LEVELS).astype(np.uint16)
    return {"png": _png(levels, hold), "scale": _LEVELS}


def _png(pixels: np.ndarray, hold: Callable[[int], None]) -> str:
    _, content = cv2.imencode(".png", pixels)
    hold(2 * content.size)
    return base64.b64encode(content.tobytes()).decode("ascii")
