"""The options of a request, in its query string."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Annotated

from fastapi import Query, Request

from bcd.api.answers import MaskFormat
from bcd.api.problems import ProblemError
from bcd.config.errors import nearest
from bcd.predictor.options import PredictOptions

_NAMES = ("point", "mask", "probability_map", "uncertainty", "heat_map")
_LONGEST_SHOWN = 64


@dataclass(frozen=True)
class RequestOptions(PredictOptions):
    """What the response contains: `PredictOptions`, how to write the mask, and whether to write the maps."""

    mask: MaskFormat = "none"
    probability_map: bool = False


def options_of(points: Collection[str]) -> Callable[..., RequestOptions]:
    """Return the dependency that reads a request's options; `points` are the operating points that can be asked for."""

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
            MaskFormat, Query(description="The mask as a PNG (0 and 255) in base64, or as COCO's run lengths.")
        ] = "none",
        probability_map: Annotated[
            bool, Query(description="The lesion probability of each pixel, as a 16-bit PNG in base64.")
        ] = False,
        uncertainty: Annotated[bool, Query(description="Of the prediction; takes several times as long.")] = False,
        heat_map: Annotated[bool, Query(description="Of the predicted class, as a 16-bit PNG in base64; takes longer.")] = False,
    ) -> RequestOptions:
        for name in request.query_params:
            if len(request.query_params.getlist(name)) > 1:
                raise ProblemError(422, "option", "An option is given more than once.", "Give each once.")
            if name not in _NAMES:
                remedy = nearest(name[:_LONGEST_SHOWN], _NAMES)
                raise ProblemError(422, "option", "There is an unknown option.", remedy)
        if point is not None and point not in points:
            remedy = nearest(point[:_LONGEST_SHOWN], points) if points else "This model has none: leave point out."
            raise ProblemError(422, "option", "There is no such operating point.", remedy)
        return RequestOptions(point, None, uncertainty, heat_map, mask, probability_map)

    return options
