"""The service as an ASGI application: its endpoints and error responses."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cache
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.security import HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException

from bcd import __version__
from bcd.api.answers import Answer, Health, ProblemAnswer, Unread
from bcd.api.limits import Limits
from bcd.api.middleware import RequestMiddleware, check_token
from bcd.api.options import RequestOptions, options_of
from bcd.api.problems import ProblemError, of_status
from bcd.api.reference import reference_page
from bcd.api.service import Service
from bcd.predictor.predictor import Predictor

PATHS = ("/predict", "/model", "/health", "/metrics", "/docs", "/openapi.json", "/")
_ABOUT = """Predictions of a trained model for breast-ultrasound images. Research use only: not a medical device.

Nothing is stored: files stay in memory until the response is sent, and their names and contents are not logged."""
_HOW = """Files go into a multipart form, with any field names; options go into the query string:

    curl -F file=@image.png 'http://127.0.0.1:8000/predict?mask=png&uncertainty=true'

PNG, JPEG, BMP, TIFF, WebP and DICOM are recognised by their content. Each image has an entry in `results`, and so has each \
frame of a DICOM file. Of several files, one that cannot be read has an entry with its error, and the others are answered; if none \
can be read, the status is 422."""
_REFUSALS = {
    400: "The request or its form is not well-formed, or was cut short.",
    401: "The token is missing or wrong.",
    408: "The body came too slowly.",
    413: "A file, the request, or the number of files or images is too large.",
    415: "The body is no multipart form.",
    422: "No file could be read, an image has too many pixels, an option is not known, or a field is text.",
    500: "The service failed.",
    503: "The service is busy; Retry-After states when to try again.",
    504: "The answer took too long.",
}
_HEADERS = {401: ("WWW-Authenticate", "Bearer"), 503: ("Retry-After", "Seconds to wait before the next try.")}
# What /model says of the bundle: all but its networks' configs and its folder.
_FIELDS = (
    *("name", "created", "made_by", "task", "classes", "lesion_free", "positive", "mask_threshold", "consistency", "conformal"),
    *("data", "training", "initial_weights", "weights_licence", "precision", "metrics", "intended_use", "limits"),
    *("research_use_only", "schema_version", "fingerprint"),
)
_BEARER = HTTPBearer(auto_error=False, description="The token that the service was started with.")


def create_app(
    model: Predictor, limits: Limits, token: str | None = None, decoders: int = 2, hashes: Mapping[str, str] | None = None
) -> FastAPI:
    """Return the service; without a token, everybody may use it. `hashes`, file of the bundle -> SHA-256, are for /model."""
    service = Service(model, limits, decoders)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.close)

    app = FastAPI(title="bcd", version=__version__, description=_ABOUT, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.router.redirect_slashes = False  # a client that posts files does not follow, or sends them twice
    app.state.service = service
    app.add_middleware(RequestMiddleware, metrics=service.metrics, paths=PATHS)
    _add_refusals(app, service)
    _add_predict(app, service, token)
    _add_model_health_metrics(app, service, token, hashes or {})
    _add_docs(app)
    return app


def _add_predict(app: FastAPI, service: Service, token: str | None) -> None:
    files = {
        "type": "array",
        "minItems": 1,
        "description": f"At most {service.limits.files}.",
        "items": {"type": "string", "format": "binary"},
    }
    form = {"type": "object", "required": ["file"], "properties": {"file": files}}

    @app.post(
        "/predict",
        dependencies=_guards(token),
        summary="Segment and classify images.",
        description=_HOW,
        response_model=Answer,
        responses=_refusals(token, *_REFUSALS),
        openapi_extra={"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}}}},
    )
    async def predict(request: Request, options: Annotated[RequestOptions, Depends(options_of(service.model.points))]) -> Response:
        return await service.predict(request, options)


def _add_model_health_metrics(app: FastAPI, service: Service, token: str | None, hashes: Mapping[str, str]) -> None:
    info = _model_info(service.model, hashes)
    always = _refusals(token, 400, 500, 503)
    guarded = _refusals(token, 400, 401, 500, 503)
    unready = {**always[503], "model": Health | ProblemAnswer, "description": "It accepts no images, or no more requests."}

    @app.get("/model", dependencies=_guards(token), summary="The bundle's description.", responses=guarded)
    async def model() -> dict[str, Any]:
        return info

    @app.get("/health", summary="Is it running and accepting images?", response_model=Health, responses={**always, 503: unready})
    async def health(response: Response) -> Health:
        state = service.health()
        response.status_code = 200 if state.ready else 503
        return state

    @app.get(
        "/metrics",
        dependencies=_guards(token),
        summary="Counts for Prometheus.",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}}, **guarded},
    )
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)


def _model_info(model: Predictor, hashes: Mapping[str, str]) -> dict[str, Any]:
    """Return JSON values about the bundle."""
    bundle, decisions = model.bundle, model.bundle.decisions
    info = {
        **{name: getattr(bundle, name) for name in _FIELDS},
        "points": model.points,
        "default_point": decisions.default_point,
        "thresholds_on": decisions.on,
        "thresholds_from": decisions.source,
        "thresholds_notes": decisions.notes,
        "networks": [{name: getattr(one, name) for name in ("name", "role", "fold", "temperature")} for one in bundle.networks],
        "sha256": hashes,
    }
    return dict(jsonable_encoder(info))


def _add_docs(app: FastAPI) -> None:
    page = cache(lambda: reference_page(app.openapi()))

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(page())

    @app.get("/", include_in_schema=False)
    async def home() -> RedirectResponse:
        return RedirectResponse("docs")


def _add_refusals(app: FastAPI, service: Service) -> None:
    def answer(problem: ProblemError) -> Response:
        service.metrics.errors.labels(problem.kind).inc()
        return problem.response()

    @app.exception_handler(ProblemError)
    async def ours(_: Request, problem: ProblemError) -> Response:
        return answer(problem)

    @app.exception_handler(HTTPException)
    async def of_http(_: Request, error: HTTPException) -> Response:
        return answer(of_status(error.status_code, error.detail, dict(error.headers or {})))

    @app.exception_handler(RequestValidationError)
    async def of_values(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        # The value itself is not repeated: it may be anything.
        return answer(ProblemError(422, "option", f"{first['loc'][-1]} cannot have this value.", f"{first['msg']}."))


def _guards(token: str | None) -> list[Any]:
    if token is None:
        return []

    async def allowed(request: Request) -> None:
        check_token(request.headers.get("authorization"), token)

    return [Depends(allowed), Depends(_BEARER)]


def _refusals(token: str | None, *statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the responses of these statuses for the OpenAPI document."""
    answers: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        if status == 401 and token is None:
            continue
        answers[status] = {"model": Unread if status == 422 else ProblemAnswer, "description": _REFUSALS[status]}
        if status in _HEADERS:
            name, description = _HEADERS[status]
            answers[status]["headers"] = {name: {"description": description, "schema": {"type": "string"}}}
    return answers
