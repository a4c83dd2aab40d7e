"""For every request: count, time, a log line with path and status only, a response even after a failure; and the token."""

import hmac
import logging
import time
import traceback
from collections.abc import Collection, Mapping
from pathlib import Path

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bcd.api.limits import ReleasedError
from bcd.api.metrics import Metrics
from bcd.api.problems import ProblemError, failed

log = logging.getLogger(__name__)

CLIENT_LEFT = 499  # as nginx calls it
_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
)
_VARIABLE = "BCD_TOKEN"
_SHORTEST_TOKEN = 16
_MAKE_TOKEN = 'python -c "import secrets; print(secrets.token_urlsafe())"'


class RequestMiddleware:
    """ASGI middleware that keeps exceptions and the content of requests out of logs and responses.

    A path that is not among `paths` is counted as `other`, or strangers could fill memory with counts.
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
            except (ClientDisconnect, ReleasedError):
                status = status or CLIENT_LEFT
            except Exception as error:
                # Where it failed, and not the message, which may quote what was sent.
                steps = traceback.extract_tb(error.__traceback__)[-6:]
                places = " > ".join(f"{Path(step.filename).name}:{step.lineno} {step.name}" for step in steps)
                log.error("A request failed with %s, at %s", type(error).__name__, places)
                self._metrics.errors.labels("failed").inc()
                if status == 0:
                    await failed().response()(scope, receive, send_on)
        seconds = time.perf_counter() - began_s
        self._metrics.requests.labels(path, str(status)).inc()
        self._metrics.seconds.labels(path).observe(seconds)
        # No method and no address: the client chooses both, and may put anything into them.
        log.log(logging.DEBUG if path != "/predict" else logging.INFO, "%s answered %d in %.0f ms", path, status, seconds * 1000)


def read_token(environment: Mapping[str, str], file: Path | None) -> str | None:
    """Return the token from the environment variable BCD_TOKEN or from a file; None where neither is given.

    Never from the command line, where every user of the machine could read it.

    Raises:
        ValueError: for both, or one that is too short or not plain.
    """
    if file is not None and _VARIABLE in environment:
        raise ValueError(f"There is a token in {_VARIABLE} and one in token_file={file}; give one of them.")
    if file is None and _VARIABLE not in environment:
        return None
    where = _VARIABLE if file is None else f"token_file={file}"
    token = environment[_VARIABLE] if file is None else file.read_text(encoding="utf-8", errors="replace").strip()
    if len(token) < _SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError(f"{where}: a token has {_SHORTEST_TOKEN} or more plain characters. Make one: {_MAKE_TOKEN}")
    return token


def check_token(header: str | None, token: str) -> None:
    """Let a request pass, or not, by its Authorization header.

    Raises:
        ProblemError: 401.
    """
    scheme, _, sent = (header or "").partition(" ")
    # Bytes, because compare_digest refuses text that is not ASCII; and in constant time.
    if scheme.lower() != "bearer" or not hmac.compare_digest(sent.strip().encode("utf-8"), token.encode("ascii")):
        error = "The token is wrong." if header else "This service requires a token."
        remedy = "Send the header Authorization: Bearer <token>; ask the operator of the service for it."
        raise ProblemError(401, "token", error, remedy, {"WWW-Authenticate": "Bearer"})
