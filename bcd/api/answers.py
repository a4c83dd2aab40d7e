"""The responses of the service: their schema, for the OpenAPI document, and a result as JSON."""

import base64
from collections.abc import Callable
from typing import Any, Literal

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from bcd.api.upload import UploadedScan
from bcd.predictor.result import Result

MaskFormat = Literal["none", "png", "rle"]
_LEVELS = 65535


class ProblemAnswer(BaseModel):
    """What was wrong, and what to do."""

    error: str = Field(description="What was wrong, a sentence.")
    remedy: str = Field(description="What to do about it, a sentence.")


class Png(BaseModel):
    """A picture in the response."""

    model_config = ConfigDict(extra="allow")
    png: str = Field(description="A PNG file, base64.")
    scale: int | None = Field(default=None, description="Of a map: the grey value that means 1; 16 bits.")


class RunLengths(BaseModel):
    """A mask as COCO's uncompressed run lengths."""

    size: tuple[int, int] = Field(description="Height and width.")
    counts: list[int] = Field(description="Lengths of runs down the columns, one column after the other, zeros first.")


class Entry(BaseModel):
    """One image, one frame of a DICOM file, or a file that could not be read (then with `error` and `remedy`)."""

    model_config = ConfigDict(extra="allow")
    file: int = Field(description="Which of the files that were sent, from 0.")
    name: str = Field(description="Sanitised name of the file; frames of a DICOM file are numbered.")
    error: str | None = Field(default=None, description="Why the file could not be read.")
    remedy: str | None = Field(default=None, description="What to do about it.")
    height: int | None = Field(default=None, description="Of the image, in pixels.")
    width: int | None = Field(default=None, description="Of the image, in pixels.")
    spacing_mm: tuple[float, float] | None = Field(default=None, description="From row to row and column to column, if known.")
    region: tuple[int, int, int, int] | None = Field(
        default=None,
        description="Of a DICOM frame: top, left, height and width of the part that was used; all else is relative to it.",
    )
    label: str | None = Field(default=None, description="The class of highest calibrated probability.")
    probabilities: dict[str, float] | None = Field(default=None, description="Calibrated, by class.")
    raw: list[float] | None = Field(default=None, description="The same before calibration, in the order of `classes` in /model.")
    point: str | None = Field(default=None, description="The operating point used.")
    threshold: float | None = Field(
        default=None,
        description="Of the positive class's probability: in `raw` or in `probabilities`, as `thresholds_on` in /model says.",
    )
    is_positive: bool | None = Field(default=None, description="Whether the image is positive at that point.")
    lesions: list[dict[str, Any]] | None = Field(default=None, description="Box, area, diameters and probability of each.")
    scope: dict[str, Any] | None = Field(default=None, description="Whether the image is like those that the model learned from.")
    warnings: list[str] | None = Field(default=None, description="Read these before the results.")
    mask: Png | RunLengths | None = Field(default=None, description="Of the segmentation, if it was asked for.")
    probability_map: Png | None = Field(default=None, description="Lesion probability of each pixel, if it was asked for.")
    uncertainty: dict[str, Any] | None = Field(default=None, description="Of the prediction, if it was asked for.")
    uncertainty_map: Png | None = Field(default=None, description="With `uncertainty` and `probability_map`: sd of each pixel.")
    heat_map: Png | None = Field(default=None, description="Of the predicted class, if it was asked for.")


class Unread(ProblemAnswer):
    """Nothing was predicted: no file could be read, or an option is unknown."""

    results: list[Entry] | None = Field(
        default=None, description="If several files were sent and none can be read: the reason for each."
    )


class ModelName(BaseModel):
    """The bundle that was used."""

    name: str
    fingerprint: str = Field(description="Of all its files.")


class Answer(BaseModel):
    """The predictions; for research use only, no medical device."""

    model: ModelName
    research_use_only: bool
    results: list[Entry]


class Health(BaseModel):
    """Whether the service runs, and takes images."""

    live: bool
    ready: bool
    waiting: int = Field(description="Images that wait for the model.")


def entry(
    uploaded: UploadedScan, result: Result, mask: MaskFormat, probability_map: bool, hold: Callable[[int], None]
) -> dict[str, Any]:
    """Return the response's entry for one image. `hold` is called with the size of each picture, in bytes.

    `probability_map` asks for the map of the uncertainty, too, where there is one.
    """
    scan = uploaded.scan
    written = {"file": uploaded.file, **result.to_dict()}
    if scan.region is not None:
        written |= {"region": list(scan.region), "frame_size": list(scan.frame_size)}
    if scan.frame is not None:
        written["frame"] = scan.frame
    if mask != "none":
        written["mask"] = None
        if result.mask is not None:
            written["mask"] = run_lengths(result.mask) if mask == "rle" else {"png": _png(result.mask.astype(np.uint8) * 255, hold)}
    if probability_map:
        written["probability_map"] = _map(result.probability_map, hold)
        if result.uncertainty is not None:
            written["uncertainty_map"] = _map(result.uncertainty.mask, hold)
    if result.heat_map is not None:
        written["heat_map"] = _map(result.heat_map, hold)
    return written


def run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """Return a mask, bool (H, W), as COCO's run lengths: down the columns, one after the other, zeros first."""
    flat = np.concatenate([[False], mask.ravel(order="F")])
    # A mask that begins with a one begins with a run of no zeros.
    turns = np.flatnonzero(flat[1:] != flat[:-1])
    ends = np.append(turns, mask.size)
    return {"size": list(mask.shape), "counts": np.diff(ends, prepend=0).tolist()}


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
