"""The application behind a socket, with patience for no one who dawdles."""

import asyncio
import logging
from dataclasses import dataclass
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI, Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from bcd.api.problems import busy, unreadable

log = logging.getLogger(__name__)

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_LONGEST_HEADER = 16 * 1024
_TOO_MANY = 2
_COME_AGAIN_S = 5


@dataclass(frozen=True)
class Listening:
    """Where and how to listen.

    Args:
        host: address.
        port: of TCP; 0 for any that is free.
        header_s: for a client to say what it wants, and to stop sending after it was refused.
        keep_alive_s: that a connection may lie idle between requests.
        answer_s: for a client to take its answer.
        connections: at once that are answered; twice as many are hung up on.
        closing_s: for requests to be answered after the service was told to end.
    """

    host: str
    port: int
    header_s: float
    keep_alive_s: int
    answer_s: float
    connections: int
    closing_s: int


def make_server(app: FastAPI, listening: Listening) -> uvicorn.Server:
    """Return the server."""
    config = uvicorn.Config(
        app,
        host=listening.host,
        port=listening.port,
        http=patient_for(listening),
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        access_log=False,  # it writes addresses with all that stands in them; Shield logs what it may
        proxy_headers=False,
        server_header=False,
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


def patient_for(how: Listening) -> type[asyncio.Protocol]:
    """Return uvicorn's protocol with a deadline for all that it would wait for endlessly, and refusals in sentences.

    It would wait for a request's first lines, sent byte by byte, for the rest of a body after it was refused, and for a client
    that does not read its answer.
    """

    class PatientProtocol(H11Protocol):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._served = self.app
            self._deadline: asyncio.TimerHandle | None = None
            self._reading: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            transport.set_write_buffer_limits(high=0)  # so that we hear of anything that is not read
            if len(self.connections) > _TOO_MANY * how.connections:
                transport.abort()  # no file descriptors would be left to answer anybody
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def handle_events(self) -> None:
            self.app = self._served if len(self.connections) < how.connections else _crowded
            super().handle_events()

        def send_400_response(self, msg: str) -> None:
            if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                self._refuse(unreadable().response())
            if self.cycle is not None:  # whoever still reads that request's body, or writes its answer, may stop
                self.cycle.disconnected = True
                self.cycle.message_event.set()
            self.transport.close()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._reading = self.loop.call_later(how.answer_s, self.transport.abort)

        def resume_writing(self) -> None:
            _cancel(self._reading)
            super().resume_writing()

        def connection_lost(self, exc: Exception | None) -> None:
            _cancel(self._deadline)
            _cancel(self._reading)
            super().connection_lost(exc)

        def _should_upgrade(self) -> bool:
            return False  # uvicorn's own writes advice on web sockets into the log

        def _refuse(self, response: Response) -> None:
            headers = [*response.raw_headers]
            for event in (
                h11.Response(status_code=response.status_code, headers=headers, reason=b"Bad Request"),
                h11.Data(bytes(response.body)),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")

        def _watch(self) -> None:
            dawdles = self.conn.their_state is h11.IDLE or self.conn.our_state is h11.DONE
            if not dawdles:
                _cancel(self._deadline)
                self._deadline = None
            elif self._deadline is None:
                self._deadline = self.loop.call_later(how.header_s, self._hang_up)

        def _hang_up(self) -> None:
            self._deadline = None
            # One that has meanwhile begun or ended a request is left to the deadlines of that.
            if self.conn.their_state is h11.IDLE or self.conn.our_state is h11.DONE:
                self.transport.close()

    return PatientProtocol


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


async def _crowded(scope: Scope, receive: Receive, send: Send) -> None:
    problem = busy("Too many clients are connected.", _COME_AGAIN_S)
    problem.headers["Connection"] = "close"
    await problem.response()(scope, receive, send)
