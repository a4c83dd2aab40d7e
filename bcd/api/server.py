"""The application behind a socket, with patience for no one who dawdles."""

import asyncio
import logging
from dataclasses import dataclass
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

log = logging.getLogger(__name__)

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_LONGEST_HEADER = 16 * 1024


@dataclass(frozen=True)
class Listening:
    """Where and how to listen.

    Args:
        host: address.
        port: of TCP; 0 for any that is free.
        header_s: for a client to say what it wants, and to stop sending after it was refused.
        keep_alive_s: that a connection may lie idle between requests.
        connections: at once.
        closing_s: for requests to be answered after the service was told to end.
    """

    host: str
    port: int
    header_s: float
    keep_alive_s: int
    connections: int
    closing_s: int


def make_server(app: FastAPI, listening: Listening) -> uvicorn.Server:
    """Return the server."""
    config = uvicorn.Config(
        app,
        host=listening.host,
        port=listening.port,
        http=patient_for(listening.header_s),
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        access_log=False,  # it writes addresses with all that stands in them; Shield logs what it may
        proxy_headers=False,
        server_header=False,
        limit_concurrency=listening.connections,
        timeout_keep_alive=listening.keep_alive_s,
        timeout_graceful_shutdown=listening.closing_s,
        h11_max_incomplete_event_size=_LONGEST_HEADER,
    )
    return uvicorn.Server(config)


def serve(app: FastAPI, listening: Listening, has_token: bool) -> None:
    """Answer until the process is told to end."""
    if listening.host not in _LOOPBACK and not has_token:
        log.warning("Whoever reaches %s:%d may use this service: it asks for no token (BCD_TOKEN).", listening.host, listening.port)
    make_server(app, listening).run()


def patient_for(header_s: float) -> type[asyncio.Protocol]:
    """Return uvicorn's protocol with a deadline for what it would wait for endlessly.

    That is a request's first lines, sent byte by byte, and the rest of a body after it was refused.
    """

    class PatientProtocol(H11Protocol):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            self._unwatch()
            super().connection_lost(exc)

        def _watch(self) -> None:
            dawdles = self.conn.their_state is h11.IDLE or self.conn.our_state is h11.DONE
            if not dawdles:
                self._unwatch()
            elif self._deadline is None:
                self._deadline = self.loop.call_later(header_s, self._hang_up)

        def _unwatch(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

        def _hang_up(self) -> None:
            self._deadline = None
            # One that has meanwhile begun or ended a request is left to the deadlines of that.
            if self.conn.their_state is h11.IDLE or self.conn.our_state is h11.DONE:
                self.transport.close()

    return PatientProtocol
