"""From a config to the application behind a socket, with a time limit for everything that a client can delay."""

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from bcd.api.application import create_app
from bcd.api.limits import Limits, Listening
from bcd.config.build import build
from bcd.predictor.bundles.default import released_bundle
from bcd.predictor.bundles.hashes import read_hashes
from bcd.predictor.predictor import Predictor

log = logging.getLogger(__name__)

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_LONGEST_HEADER = 16 * 1024


def start(config: Mapping[str, Any], token: str | None) -> None:
    """Serve, as `conf/serve_api.yaml` says, until the process is asked to end; without a token, everybody may ask.

    Raises:
        ValueError: for a bundle or limits that cannot work.
    """
    limits: Limits = build(config["limits"])
    limits.check()
    listening: Listening = build(config["listening"])
    folder = Path(config["bundle"]).expanduser() if config["bundle"] is not None else released_bundle()
    if folder is None:
        make = "python scripts/bundle.py run=<a run's folder> output=my_bundle"
        raise ValueError(f"No bundle comes with this copy of the project. Make one, and give bundle=my_bundle: {make}")
    predictor = Predictor.load(folder, config["device"], config["export"], config["trusted"])
    app = create_app(predictor, limits, token, config["decoders"], read_hashes(folder))
    log.info("Bundle %s (%s), fingerprint %s", predictor.bundle.name, predictor.bundle.task, predictor.bundle.fingerprint[:12])
    if predictor.bundle.synthetic:
        log.warning("This bundle learned from simulated images; its predictions for a patient's image mean nothing.")
    if listening.host not in _LOOPBACK and token is None:
        log.warning(
            "Everyone who can reach %s:%d may use this service: it requires no token (BCD_TOKEN).", listening.host, listening.port
        )
    make_server(app, listening).run()


def make_server(app: FastAPI, listening: Listening) -> uvicorn.Server:
    """Return the server."""
    config = uvicorn.Config(
        app,
        host=listening.host,
        port=listening.port,
        http=_protocol(listening),
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        access_log=False,  # it writes full addresses; the middleware logs what it may
        proxy_headers=False,
        server_header=False,
        limit_concurrency=listening.connections,
        timeout_keep_alive=listening.keep_alive_s,  # type: ignore[arg-type] # it takes fractions of a second, too
        timeout_graceful_shutdown=listening.closing_s,  # type: ignore[arg-type] # and so here
        h11_max_incomplete_event_size=_LONGEST_HEADER,
    )
    return uvicorn.Server(config)


def _protocol(listening: Listening) -> type[asyncio.Protocol]:
    """Return uvicorn's protocol with the time limits that it lacks.

    Of uvicorn 0.54, hypercorn 0.18 and granian 2.8, none ends a connection whose client does not read its answer: it stays in
    memory. Uvicorn has no time limit for headers either; hypercorn has one for headers and idle connections together, and
    any number of connections; granian's keeps more clients waiting in place of refusing them.
    """

    class Protocol(H11Protocol):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._sending: asyncio.TimerHandle | None = None
            self._taking: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            transport.set_write_buffer_limits(high=0)  # so that writing pauses while anything is not read
            if len(self.connections) > 2 * listening.connections:
                transport.abort()  # no file descriptors would be left to answer anybody
            self._limit_sending()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._limit_sending()

        def _limit_sending(self) -> None:
            """Limit the time for a header, or for the rest of a body that was answered already; bodies have limits.upload_s."""
            is_limited = self.conn.their_state is h11.IDLE or self.conn.our_state is h11.DONE
            if not is_limited:
                _cancel(self._sending)
                self._sending = None
            elif self._sending is None:
                self._sending = self.loop.call_later(listening.header_s, self._end_sending)

        def _end_sending(self) -> None:
            self._sending = None
            # A request that has meanwhile begun, or ended, has time limits of its own.
            if self.conn.their_state is h11.IDLE or self.conn.our_state is h11.DONE:
                self.transport.close()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._taking = self.loop.call_later(listening.answer_s, self.transport.abort)

        def resume_writing(self) -> None:
            _cancel(self._taking)
            super().resume_writing()

        def connection_lost(self, exc: Exception | None) -> None:
            _cancel(self._sending)
            _cancel(self._taking)
            super().connection_lost(exc)

        def send_400_response(self, msg: str) -> None:
            # Uvicorn's raises where an answer has begun, and asyncio logs that.
            if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                super().send_400_response(msg)
            self.transport.close()

    return Protocol


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
