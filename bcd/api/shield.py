"""Around every request: counted, timed, logged by path and status alone, and answered even where we fail."""

import logging
import time
import traceback
from collections.abc import Collection
from pathlib import Path

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bcd.api.metrics import Metrics
from bcd.api.problems import failed
from bcd.api.room import GoneError

log = logging.getLogger(__name__)

CLIENT_LEFT = 499  # as nginx calls it
_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
)


class Shield:
    """ASGI middleware that lets no exception, and no word of a request, into logs or answers.

    Args:
        app: what is inside.
        metrics: counts of the service.
        paths: that there are; any other is counted as `other`, or strangers could fill memory with counts.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: Collection[str]) -> None:
        self._app, self._metrics, self._paths = app, metrics, frozenset(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD":  # which those who watch over services ask with; the server leaves the body out
            scope = {**scope, "method": "GET"}
        status = 0

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), *_HEADERS]}
            await send(message)

        path = scope["path"] if scope["path"] in self._paths else "other"
        began_s = time.perf_counter()
        with self._metrics.in_flight.track_inprogress():
            try:
                await self._app(scope, receive, send_on)
            except (ClientDisconnect, GoneError):
                status = status or CLIENT_LEFT
            except Exception as error:
                _log_failure(error)
                self._metrics.errors.labels("failed").inc()
                if status == 0:
                    await failed().response()(scope, receive, send_on)
        seconds = time.perf_counter() - began_s
        self._metrics.requests.labels(path, str(status)).inc()
        self._metrics.seconds.labels(path).observe(seconds)
        # Neither method nor address: a stranger chooses both, and may put anything into them.
        log.log(logging.DEBUG if path != "/predict" else logging.INFO, "%s answered %d in %.0f ms", path, status, seconds * 1000)


def _log_failure(error: Exception) -> None:
    """Log where we failed, and not the message, which may quote what was sent."""
    steps = [f"{Path(step.filename).name}:{step.lineno} {step.name}" for step in traceback.extract_tb(error.__traceback__)[-6:]]
    log.error("A request failed with %s, at %s", type(error).__name__, " > ".join(steps))
