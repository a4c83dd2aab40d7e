"""Ranges that constructors and the config's schema state in their type hints: `margin: NotNegative`."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, Field


def _ascending(pair: Sequence[float]) -> Sequence[float]:
    if len(pair) != 2 or pair[0] > pair[1]:
        raise ValueError("give [from, to], the smaller number first.")
    return pair


Ascending = AfterValidator(_ascending)  # two numbers, the first not above the second

Natural = Annotated[int, Field(ge=0)]  # a whole number from 0
Count = Annotated[int, Field(ge=1)]  # a whole number from 1
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
FromOne = Annotated[float, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]  # both ends allowed
Part = Annotated[float, Field(gt=0, le=1)]  # a share that is something
Within = Annotated[float, Field(gt=0, lt=1)]  # strictly between 0 and 1
Rest = Annotated[float, Field(ge=0, lt=1)]  # a share that leaves something
Side = Annotated[int, Field(ge=16, le=4096)]  # of a square image, in pixels
Channels = Annotated[int, Field(ge=1, le=1 << 14)]  # of a layer
Classes = Annotated[int, Field(ge=1, le=1000)]  # how many; a training with one is refused by data.classes=
