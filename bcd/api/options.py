"""What can be asked for beside the class, in the address."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Query, Request

from bcd.api.answers import MaskFormat
from bcd.api.batcher import Asked
from bcd.api.problems import ProblemError
from bcd.spelling import nearest

_NAMES = ("point", "mask", "probability_map", "uncertainty", "heat_map")


@dataclass(frozen=True)
class Options:
    """What is asked of a request's images.

    Args:
        asked: of the model.
        mask: how to write the outline.
        probability_map: write the maps.
    """

    asked: Asked
    mask: MaskFormat
    probability_map: bool


def options(
    request: Request,
    point: Annotated[
        str | None, Query(max_length=64, description="Operating point, one of `points` in /model; the bundle's own if left out.")
    ] = None,
    mask: Annotated[
        MaskFormat, Query(description="The outline as a PNG (0 and 255) in base64, or as COCO's run lengths.")
    ] = "none",
    probability_map: Annotated[bool, Query(description="The lesion probability of each pixel, as a 16-bit PNG in base64.")] = False,
    uncertainty: Annotated[bool, Query(description="How sure the model is; takes several times as long.")] = False,
    heat_map: Annotated[bool, Query(description="What the class rests on, as a 16-bit PNG in base64; takes longer.")] = False,
) -> Options:
    """Return a request's options.

    Raises:
        ProblemError: 422 for one that there is not, or that stands there twice.
    """
    for name in request.query_params:
        if len(request.query_params.getlist(name)) > 1:
            raise ProblemError(422, "option", "An option stands in the address more than once.", "Give each once.")
        if name not in _NAMES:
            raise ProblemError(422, "option", "There is an option in the address that is not known.", nearest(name[:64], _NAMES))
    return Options(Asked(point, uncertainty, heat_map), mask, probability_map)
