"""Errors as responses: a status, a sentence on what was wrong, and one on what to do."""

from typing import Any

from starlette.responses import JSONResponse

_SEE_DOCS = "See /docs for what the service answers."
_HTTP = {
    401: "Send the header Authorization: Bearer <token>.",
    404: "There are /predict, /model, /health, /metrics, /docs and /openapi.json.",
    405: "POST files to /predict; everything else is read with GET.",
}


class ProblemError(Exception):
    """A request that fails.

    `kind` is one word for the metrics, `error` says in a sentence what is wrong, `remedy` in another what to do; `beside` holds
    further values for the answer's body.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        error: str,
        remedy: str,
        headers: dict[str, str] | None = None,
        beside: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(error)
        self.status, self.kind, self.error, self.remedy = status, kind, error, remedy
        self.headers = dict(headers or {})
        self.beside = dict(beside or {})

    def response(self) -> JSONResponse:
        """Return the response."""
        return JSONResponse({"error": self.error, "remedy": self.remedy, **self.beside}, self.status, self.headers)


def busy(error: str, wait_s: float) -> ProblemError:
    """Return the problem of a busy service."""
    seconds = max(1, min(60, round(wait_s)))
    return ProblemError(503, "busy", error, f"Send it again in {seconds} s.", {"Retry-After": str(seconds)})


def failed() -> ProblemError:
    """Return the problem of a failure of the service, of which the client learns nothing."""
    return ProblemError(500, "failed", "The service failed at this request.", "Its log says where; report it if it happens again.")


def of_status(status: int, detail: str, headers: dict[str, str] | None = None) -> ProblemError:
    """Return the problem of a plain HTTP error."""
    return ProblemError(status, "request", f"{detail.rstrip('.')}.", _HTTP.get(status, _SEE_DOCS), headers)
