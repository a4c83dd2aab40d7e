"""The shape of what is answered, for the OpenAPI document."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class ProblemAnswer(BaseModel):
    """What was wrong, and what to do."""

    error: str = Field(description="What was wrong, a sentence.")
    remedy: str = Field(description="What to do about it, a sentence.")


class Png(BaseModel):
    """A picture inside the answer."""

    model_config = ConfigDict(extra="allow")
    png: str = Field(description="A PNG file, base64.")
    scale: int | None = Field(default=None, description="Of a map: the grey value that stands for 1; it has 16 bits.")


class RunLengths(BaseModel):
    """A mask as COCO's uncompressed run lengths."""

    size: tuple[int, int] = Field(description="Height and width.")
    counts: list[int] = Field(description="Lengths of runs down the columns, one column after the other, zeros first.")


class Entry(BaseModel):
    """One image, one frame of a DICOM file, or a file that could not be read (then `error` and `remedy` stand in it)."""

    model_config = ConfigDict(extra="allow")
    file: int = Field(description="Which of the files that were sent, from 0.")
    name: str = Field(description="What the file was called, made harmless; frames of a DICOM file are numbered.")
    error: str | None = Field(default=None, description="Why the file could not be read.")
    remedy: str | None = Field(default=None, description="What to do about it.")
    height: int | None = Field(default=None, description="Of the image, in pixels.")
    width: int | None = Field(default=None, description="Of the image, in pixels.")
    spacing_mm: tuple[float, float] | None = Field(default=None, description="From row to row and column to column, if known.")
    region: tuple[int, int, int, int] | None = Field(
        default=None, description="Of a DICOM frame: top, left, height and width of what was looked at; all else counts from there."
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
    warnings: list[str] | None = Field(default=None, description="Sentences to be read before the figures.")
    mask: Png | RunLengths | None = Field(default=None, description="The outline, if it was asked for.")
    probability_map: Png | None = Field(default=None, description="Lesion probability of each pixel, if it was asked for.")
    uncertainty: dict[str, Any] | None = Field(default=None, description="How sure, if it was asked for.")
    uncertainty_map: Png | None = Field(default=None, description="With `uncertainty` and `probability_map`: sd of each pixel.")
    heat_map: Png | None = Field(default=None, description="What the class rests on, if it was asked for.")


class Unread(ProblemAnswer):
    """Nothing was judged: no file could be read, or the question was not understood."""

    results: list[Entry] | None = Field(
        default=None, description="Where several files were sent and none can be read: why, for each."
    )


class ModelName(BaseModel):
    """Which bundle answered."""

    name: str
    fingerprint: str = Field(description="Of all its files.")


class Answer(BaseModel):
    """What the model says; for research use only, no medical device."""

    model: ModelName
    research_use_only: bool
    results: list[Entry]


class Health(BaseModel):
    """Whether the service lives, and takes images."""

    live: bool
    ready: bool
    waiting: int = Field(description="Images that wait for the model.")
