"""What can be asked for beside the class, in the address."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Annotated

from fastapi import Query, Request
from starlette.datastructures import QueryParams

from bcd.api.answers import MaskFormat
from bcd.api.batcher import Asked
from bcd.api.problems import ProblemError
from bcd.config.spelling import nearest

_NAMES = ("point", "mask", "probability_map", "uncertainty", "heat_map")
_LONGEST_SHOWN = 64


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


def options_of(points: Collection[str]) -> Callable[..., Options]:
    """Return what reads a request's options.

    Args:
        points: operating points that can be asked for.
    """

    def options(
        request: Request,
        point: Annotated[
            str | None,
            Query(
                description="Operating point; the bundle's own if left out.",
                json_schema_extra={"enum": [*points]} if points else {"not": {}},
            ),
        ] = None,
        mask: Annotated[
            MaskFormat, Query(description="The outline as a PNG (0 and 255) in base64, or as COCO's run lengths.")
        ] = "none",
        probability_map: Annotated[
            bool, Query(description="The lesion probability of each pixel, as a 16-bit PNG in base64.")
        ] = False,
        uncertainty: Annotated[bool, Query(description="How sure the model is; takes several times as long.")] = False,
        heat_map: Annotated[bool, Query(description="What the class rests on, as a 16-bit PNG in base64; takes longer.")] = False,
    ) -> Options:
        _check_names(request.query_params)
        if point is not None and point not in points:
            remedy = nearest(point[:_LONGEST_SHOWN], points) if points else "This model has none: leave point out."
            raise ProblemError(422, "option", "There is no such operating point.", remedy)
        return Options(Asked(point, uncertainty, heat_map), mask, probability_map)

    return options


def _check_names(asked: QueryParams) -> None:
    """Refuse an option that there is not, or that stands there twice."""
    for name in asked:
        if len(asked.getlist(name)) > 1:
            raise ProblemError(422, "option", "An option stands in the address more than once.", "Give each once.")
        if name not in _NAMES:
            remedy = nearest(name[:_LONGEST_SHOWN], _NAMES)
            raise ProblemError(422, "option", "There is an option in the address that is not known.", remedy)
