"""The service with a bundle behind a socket, as clients meet it."""

import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from api_service import LIMITS, FakePredictor, encoded, pixels
from fastapi import FastAPI
from tiny_bundles import phantom, written

from bcd.api import server
from bcd.api.application import create_app
from bcd.api.limits import Limits, Listening
from bcd.config import compose
from bcd.predictor.bundles import default
from bcd.predictor.bundles.hashes import read_hashes
from bcd.predictor.predictor import Predictor

LISTENING = Listening("127.0.0.1", 0, header_s=30, keep_alive_s=5, answer_s=30, connections=32, closing_s=5)
FORM = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\nTransfer-Encoding: chunked\r\n\r\n"


@contextmanager
def running(app: Any, how: Listening = LISTENING) -> Iterator[Any]:
    """Run the server in a thread; yield it."""
    server_ = server.make_server(app, how)
    thread = threading.Thread(target=server_.run)
    thread.start()
    try:
        while not server_.started:
            assert thread.is_alive()
            time.sleep(0.005)
        yield server_
    finally:
        server_.should_exit = True
        thread.join()


def port_of(server_: Any) -> int:
    return int(server_.servers[0].sockets[0].getsockname()[1])


@contextmanager
def listening(app: FastAPI, how: Listening = LISTENING) -> Iterator[int]:
    """Run the service in a thread; yield its port."""
    with running(app, how) as server_:
        yield port_of(server_)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    written(folder, "multitask")
    return folder


def test_a_bundle_behind_a_socket_gives_the_digits_of_its_predictor(bundle: Path) -> None:
    predictor = Predictor.load(bundle, "cpu")
    images = [phantom(seed) for seed in range(3)]
    alone = [predictor.predict(image) for image in images]
    limits = Limits(**{**vars(LIMITS), "pixels": 1 << 20, "memory_mb": 64})
    files = [("file", (f"{number}.png", encoded(image))) for number, image in enumerate(images)]
    with listening(create_app(predictor, limits, hashes=read_hashes(bundle))) as port:
        address = f"http://127.0.0.1:{port}"
        answer = httpx.post(
            f"{address}/predict?mask=rle", files=[*files, ("file", ("x.png", b"x"))], trust_env=False, timeout=60
        ).json()
        facts = httpx.get(f"{address}/model", trust_env=False).json()
    assert answer["model"]["fingerprint"] == predictor.bundle.fingerprint == facts["fingerprint"]
    for entry, result in zip(answer["results"], alone, strict=False):
        plain = json.loads(json.dumps(result.to_dict()))  # type: ignore[union-attr]
        assert {key: entry[key] for key in plain if key != "name"} == {key: value for key, value in plain.items() if key != "name"}
        assert sum(entry["mask"]["counts"]) == images[0].size
    assert "error" in answer["results"][3]
    assert facts["points"] == {"0.5": 0.5, "youden": 0.3}
    assert "weights/multitask.safetensors" in facts["sha256"]
    assert str(bundle) not in json.dumps(facts)


def test_what_is_no_request_is_refused_and_good_ones_go_on() -> None:
    app = create_app(FakePredictor(), LIMITS)
    with listening(app) as port:
        for request in (
            b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 20_000,
            b"hello\r\n\r\n",
            b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: minus\r\n\r\n",
            FORM + b"zz\r\n",  # a chunk whose size is no number
        ):
            assert answered(port, request).startswith(b"HTTP/1.1 400 ")
        good = httpx.post(f"http://127.0.0.1:{port}/predict", files={"file": ("a.png", encoded(pixels()))}, trust_env=False)
        assert good.status_code == 200


def test_garbage_behind_a_refusal_leaves_no_trace_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    elsewhere = FORM.replace(b"/predict", b"/nowhere")
    part = b'--x\r\nContent-Disposition: form-data; name="f"; filename="a.png"\r\n\r\n'
    with listening(create_app(FakePredictor(), LIMITS)) as port:
        for begin, status in ((elsewhere, b"404"), (FORM + b"%x\r\n%s\r\n" % (len(part), part), b"400")):
            with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
                connection.sendall(begin)
                begun = connection.recv(65536) if status == b"404" else b""
                connection.sendall(b"zz\r\n")
                assert (begun + rest(connection)).startswith(b"HTTP/1.1 " + status)
        assert b" 405 " in answered(port, b"GET /predict HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_who_sends_a_body_byte_by_byte_keeps_nobody_out() -> None:
    with listening(create_app(FakePredictor(), replace(LIMITS, requests=1))) as port, socket.socket() as dawdler:
        dawdler.connect(("127.0.0.1", port))
        dawdler.sendall(FORM + b"5\r\n--x\r\n\r\n")
        address = f"http://127.0.0.1:{port}"
        while "bcd_requests_in_flight 2.0" not in httpx.get(f"{address}/metrics", trust_env=False).text:
            time.sleep(0.005)
        good = httpx.post(f"{address}/predict", files={"file": ("a.png", encoded(pixels()))}, trust_env=False)
    assert good.status_code == 200


@pytest.mark.parametrize(("answer_s", "comes_whole"), [(0.1, False), (1e6, True)])
def test_who_does_not_read_the_answer_is_hung_up_on(answer_s: float, comes_whole: bool) -> None:
    size = 32 << 20  # more than the system keeps

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for _ in range(2):
                await send({"type": f"{(await receive())['type']}.complete"})
        else:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
            await send({"type": "http.response.body", "body": bytes(size)})

    with running(app, replace(LISTENING, answer_s=answer_s)) as server_, socket.socket() as lazy:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.connect(("127.0.0.1", port_of(server_)))
        lazy.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        while not comes_whole and (server_.server_state.total_requests == 0 or server_.server_state.connections):
            time.sleep(0.005)
        assert (len(rest(lazy)) > size) is comes_whole


def test_more_clients_than_are_served_are_refused() -> None:
    with listening(create_app(FakePredictor(), LIMITS), replace(LISTENING, connections=2)) as port:
        with ExitStack() as idle:
            for _ in range(2):
                idle.enter_context(socket.create_connection(("127.0.0.1", port)))
            assert answered(port, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").startswith(b"HTTP/1.1 503 ")
            for _ in range(2):
                idle.enter_context(socket.create_connection(("127.0.0.1", port)))
            assert answered(port, b"") == b""  # at once, and not after the time for its first lines
        while httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False).status_code != 200:
            time.sleep(0.005)


def answered(port: int, request: bytes) -> bytes:
    """Send bytes as they are; return what comes back until the other side hangs up."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return rest(connection)


def rest(connection: socket.socket) -> bytes:
    """Return what comes until the other side hangs up."""
    received = []
    while not received or received[-1]:
        try:
            received.append(connection.recv(65536))
        except ConnectionResetError:
            break
    return b"".join(received)


def test_who_sends_its_first_lines_forever_is_hung_up_on() -> None:
    with listening(create_app(FakePredictor(), LIMITS), replace(LISTENING, header_s=0.05)) as port:
        for begin in (b"", b"GET /health HTTP/1.1\r\n", FORM + b"5\r\n--y\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
                connection.sendall(begin)
                while True:
                    try:
                        connection.sendall(b"a")
                        if connection.recv(65536, socket.MSG_DONTWAIT) == b"":
                            break
                    except BlockingIOError:
                        time.sleep(0.005)
                    except (ConnectionResetError, BrokenPipeError):
                        break
        assert httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False).status_code == 200


def test_a_large_body_is_refused_and_the_client_reads_why() -> None:
    with listening(create_app(FakePredictor(), LIMITS)) as port:
        answer = httpx.post(f"http://127.0.0.1:{port}/predict", files={"file": ("a.png", bytes(20_000_000))}, trust_env=False)
    assert answer.status_code == 413
    assert answer.json()["error"] == "The request is larger than 2 MB."


def test_the_command_starts_it(bundle: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    started: dict[str, Any] = {}

    class NotRun:
        def __init__(self, app: FastAPI, how: Listening) -> None:
            started.update(app=app, how=how)

        def run(self) -> None:
            pass

    monkeypatch.setattr(server, "make_server", NotRun)
    server.start(compose("serve_api", [f"bundle={bundle}", "port=0", "host=0.0.0.0", "limits.files=3"]), None)
    assert started["how"].port == 0
    assert started["app"].state.service.limits.files == 3
    assert "requires no token" in caplog.text


def test_without_a_bundle_it_says_how_to_make_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(default, "RELEASED", tmp_path)
    with pytest.raises(ValueError, match=r"scripts/bundle\.py run="):
        server.start(compose("serve_api", []), None)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "bundle.yaml").write_text("")
    assert default.released_bundle() == tmp_path / "mine"
