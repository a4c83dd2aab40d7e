import asyncio
import base64
import json
import logging
import re
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from api_service import LIMITS, TOKEN, FakePredictor, encoded, pixels
from fastapi import FastAPI
from fastapi.testclient import TestClient

from bcd.api.answers import run_lengths
from bcd.api.application import create_app
from bcd.api.middleware import read_token
from bcd.api.upload import label_of

JANE = "DOE^JANE"
GOOD = encoded(pixels())


@pytest.fixture
def model() -> FakePredictor:
    return FakePredictor()


@pytest.fixture
def client(model: FakePredictor) -> Iterator[TestClient]:
    with TestClient(create_app(model, LIMITS)) as client:
        yield client


def serving(model: FakePredictor, **changes: Any) -> TestClient:
    return TestClient(create_app(model, replace(LIMITS, **changes)))


def sent(client: TestClient, *files: tuple[str, bytes], options: str = "", **kwargs: Any) -> Any:
    return client.post(f"/predict{options}", files=[("file", file) for file in files], **kwargs)


def refused(response: Any, status: int) -> str:
    body = response.json()
    assert response.status_code == status, body
    assert body["error"].endswith(".")
    assert body["remedy"]
    assert "Traceback" not in response.text
    return f"{body['error']} {body['remedy']}"


def png_of(value: dict[str, Any]) -> np.ndarray:
    return np.asarray(cv2.imdecode(np.frombuffer(base64.b64decode(value["png"]), np.uint8), cv2.IMREAD_UNCHANGED))


# Good files


def test_an_image_is_answered(client: TestClient) -> None:
    response = sent(client, ("a lesion.png", GOOD))
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    answer = response.json()
    assert answer["model"] == {"name": "fake", "fingerprint": "ab" * 32}
    assert answer["research_use_only"] is True
    (entry,) = answer["results"]
    assert (entry["file"], entry["name"], entry["height"], entry["width"]) == (0, "a lesion", 24, 32)
    assert entry["probabilities"]["malignant"] == pixels().mean() / 255
    assert not {"mask", "probability_map", "heat_map", "uncertainty_map"} & set(entry)


def test_masks_and_maps_come_back_as_they_were(client: TestClient) -> None:
    options = "?mask=png&probability_map=true&uncertainty=true&heat_map=true&point=sensitivity_95"
    (entry,) = sent(client, ("a.png", GOOD), options=options).json()["results"]
    mask = pixels() > np.median(pixels())
    assert np.array_equal(png_of(entry["mask"]), mask * np.uint8(255))
    assert np.array_equal(png_of(entry["probability_map"]), pixels().astype(np.uint16) * 257)
    assert entry["probability_map"]["scale"] == 65535
    assert (png_of(entry["heat_map"]) == 65535).all()
    assert (png_of(entry["uncertainty_map"]) == 0).all()
    assert entry["point"] == "sensitivity_95"
    (entry,) = sent(client, ("a.png", GOOD), options="?mask=rle").json()["results"]
    assert entry["mask"] == run_lengths(mask)


@pytest.mark.parametrize(
    ("mask", "counts"),
    [
        ([[0, 0], [0, 0]], [4]),
        ([[1, 1], [1, 1]], [0, 4]),
        ([[0, 1, 1], [0, 0, 1]], [2, 1, 1, 2]),  # columns 00, 10, 11
        ([[1, 0], [0, 1]], [0, 1, 2, 1]),
    ],
)
def test_run_lengths_go_down_the_columns(mask: list[list[int]], counts: list[int]) -> None:
    assert run_lengths(np.array(mask, bool)) == {"size": list(np.shape(mask)), "counts": counts}


def test_of_several_files_the_bad_one_has_its_own_entry(client: TestClient) -> None:
    response = sent(client, ("a.png", GOOD), ("b.png", b"no picture"), ("c.jpg", encoded(pixels(1), "JPEG")))
    assert response.status_code == 200
    first, second, third = response.json()["results"]
    assert [one["file"] for one in (first, second, third)] == [0, 1, 2]
    assert second["name"] == "b.png"
    assert second["error"].startswith("b.png: ")
    assert second["remedy"].endswith(".")
    assert "error" not in first
    assert third["label"] == "benign"
    both = sent(client, ("b.png", b"no picture"), ("d.png", b""))
    assert "None of the 2 files" in refused(both, 422)
    assert len(both.json()["results"]) == 2


def test_a_file_is_called_by_a_harmless_name() -> None:
    assert label_of("../../etc/pass\nwd\x1b[31m.png", 0) == "pass_wd__31m.png"
    assert label_of(r"C:\pictures\lesion 1.png", 0) == "lesion 1.png"
    assert label_of("..", 3) == "file_4"
    assert label_of("", 0) == "file_1"
    assert len(label_of("x" * 5000 + ".png", 0)) == 80


# Bad and hostile requests


def bomb() -> bytes:
    """A PNG file of few bytes that claims 60,000 x 60,000 px."""
    header = GOOD[12:16] + struct.pack(">II", 60_000, 60_000) + GOOD[24:29]
    return GOOD[:12] + header + struct.pack(">I", zlib.crc32(header)) + GOOD[33:]


HOSTILE = {
    "empty": b"",
    "cut.png": GOOD[: len(GOOD) // 2],
    "bomb.png": bomb(),
    "text.png": b"<html><script>alert(1)</script></html>",
    "one.png": encoded(np.zeros((1, 1), np.uint8)),
    "scan.dcm": bytes(128) + b"DICM" + b"\xff" * 500,
    "bare.dcm": b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100" + b"\x10\x00\x10\x00PN\x08\x00DOE^JANE" + b"\xff" * 100,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_a_sentence(client: TestClient, name: str) -> None:
    assert JANE not in refused(sent(client, (name, HOSTILE[name])), 422)
    assert sent(client, ("a.png", GOOD)).status_code == 200


def test_too_many_pixels_are_refused_before_they_are_decoded(client: TestClient) -> None:
    assert "limits.pixels of the service" in refused(sent(client, ("bomb.png", HOSTILE["bomb.png"])), 422)


MULTIPART = "multipart/form-data; boundary=x"
PART = b'--x\r\nContent-Disposition: form-data; name="file"'


@pytest.mark.parametrize(
    ("content_type", "body", "status", "words"),
    [
        (None, GOOD, 415, "curl -F file=@image.png"),
        ("image/png", GOOD, 415, "no multipart form"),
        ("application/json", b'{"path": "/etc/passwd"}', 415, "no multipart form"),
        ("multipart/form-data", b"--x\r\n", 400, "boundary"),
        ("multipart/form-data; boundary=", b"--x\r\n", 400, "well-formed"),
        (f"multipart/form-data; boundary={'x' * 5000}", b"--x\r\n", 400, "well-formed"),
        (MULTIPART, b"", 400, "cut short"),
        (MULTIPART, GOOD, 400, "well-formed"),
        (MULTIPART, b"--y\r\n\r\n--y--\r\n", 400, "well-formed"),
        (MULTIPART, b"--x--\r\n", 422, "no file"),
        (MULTIPART, PART + b"\r\n\r\n/etc/passwd\r\n--x--\r\n", 422, "never taken for a path"),
        (MULTIPART, PART + b'; filename="a.png"\r\n\r\n' + GOOD, 400, "cut short"),
        (MULTIPART, PART + b'; filename="a.png"\r\n\r\n' + GOOD + b"\r\n--x\r\n", 400, "cut short"),
        (MULTIPART, b"--x\r\nX-Long: " + b"y" * 100_000 + b"\r\n\r\n", 400, "well-formed"),
        (MULTIPART, b"--x\r\n" + b"A: b\r\n" * 1000 + b"\r\n", 400, "well-formed"),
    ],
)
def test_a_form_that_is_none_is_refused_in_a_sentence(
    client: TestClient, content_type: str | None, body: bytes, status: int, words: str
) -> None:
    headers = {"content-type": content_type} if content_type is not None else {}
    assert words in refused(client.post("/predict", content=body, headers=headers), status)


@pytest.mark.parametrize(("filename", "name"), [("x" * 3000 + ".png", "x" * 76 + ".png"), ("乳.png", "乳.png")])
def test_files_of_uncommon_names_are_read(client: TestClient, filename: str, name: str) -> None:
    body = PART + f'; filename="{filename}"\r\n\r\nnot an image\r\n--x--\r\n'.encode()
    assert refused(client.post("/predict", content=body, headers=FORM), 422).startswith(f"{name}: its content")


def test_a_path_is_never_opened(client: TestClient, tmp_path: Path) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(GOOD)
    assert client.post("/predict", data={"file": str(path)}, files={"x": ("", b"")}).status_code == 422
    assert client.post("/predict", data={"file": str(path)}).status_code == 415
    assert refused(sent(client, (str(path), b"x")), 422).startswith("secret.png: ")


@pytest.mark.parametrize("name", [JANE, "DOE JANE 1970.dcm"])
def test_what_a_dicom_file_says_of_a_patient_reaches_neither_answer_nor_log(
    client: TestClient, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    files = pytest.importorskip("dicom_files")
    caplog.set_level(logging.DEBUG)
    content = files.dicom(pixels(), PatientName=JANE, PatientID="JANE1970")
    response = sent(client, (name, content), options="?mask=rle")
    assert response.status_code == 200
    (entry,) = response.json()["results"]
    assert entry["probabilities"]["malignant"] == pixels().mean() / 255
    cut = sent(client, (name, content[:-100]))
    refused(cut, 422)
    for text in (response.text, cut.text, caplog.text):
        assert "JANE" not in text


def test_names_of_files_and_what_is_in_addresses_are_not_logged(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="bcd")
    sent(client, ("JANE.png", GOOD))
    sent(client, ("JANE.png", b"x"))
    sent(client, ("a.png", GOOD), options="?point=JANE")
    client.get("/JANE")
    client.get("/health?name=JANE", headers={"Referer": "JANE"})
    assert "/predict answered 200" in caplog.text
    assert "JANE" not in caplog.text


def test_what_is_odd_about_a_dicom_file_is_logged_without_its_name(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    files = pytest.importorskip("dicom_files")
    caplog.set_level(logging.DEBUG)
    odd = files.dicom(files.speckle((40, 56)), SequenceOfUltrasoundRegions=[files.region(0, 0, 500, 500)])
    assert sent(client, ("SMITH.dcm", odd)).json()["results"][0]["name"] == "SMITH"
    client.post("/predict", content=b"SMITH", headers=FORM)
    assert "file_1: none of its 1 ultrasound regions" in caplog.text
    assert "SMITH" not in caplog.text
    assert "boundary character" not in caplog.text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("?maks=png", "Did you mean 'mask'?"),
        ("?mask=jpeg", "mask cannot have this value"),
        ("?point=yuden", "Did you mean 'youden'?"),
        ("?uncertainty=perhaps", "uncertainty cannot"),
        (f"?point={'x' * 1000}", "Valid: sensitivity_95, youden."),
        ("?point=", "Valid: sensitivity_95, youden."),
        ("?mask_threshold=nan", "Valid: heat_map, mask"),
        ("?mask=png&mask=rle", "more than once"),
    ],
)
def test_an_option_that_is_not_known_is_refused(client: TestClient, options: str, words: str) -> None:
    assert words in refused(sent(client, ("a.png", GOOD), options=options), 422)


def test_a_model_without_operating_points_says_so(model: FakePredictor) -> None:
    model.points = {}
    with serving(model) as client:
        assert "leave point out" in refused(sent(client, ("a.png", GOOD), options="?point=youden"), 422)


def test_other_addresses_and_methods_are_refused_in_a_sentence(client: TestClient) -> None:
    assert "/predict" in refused(client.get("/etc/passwd"), 404)
    assert "/predict" in refused(sent(client, ("a.png", GOOD), options="/"), 404)
    assert "POST" in refused(client.get("/predict"), 405)
    assert client.options("/predict", headers={"Origin": "http://x", "Access-Control-Request-Method": "POST"}).status_code == 405
    assert "access-control-allow-origin" not in client.get("/health", headers={"Origin": "http://x"}).headers
    assert [client.head(path).status_code for path in ("/health", "/model", "/metrics", "/docs", "/predict")] == [200] * 4 + [405]


# Limits


def scope_of(headers: dict[str, str]) -> dict[str, Any]:
    """Return what a server tells an application of a request to /predict."""
    named = [(name.encode(), value.encode()) for name, value in headers.items()]
    place = {"path": "/predict", "raw_path": b"/predict", "root_path": "", "query_string": b"", "scheme": "http"}
    return {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "headers": named, **place}


FORM = {"content-type": MULTIPART}


async def posted(app: FastAPI, receive: Callable[[], Any], headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
    """Send a request whose body comes from `receive`; return status and answer."""
    messages: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        messages.append(message)

    async with app.router.lifespan_context(app):
        await app(scope_of(headers), receive, send)  # type: ignore[arg-type]
    return messages[0]["status"], json.loads(b"".join(message.get("body", b"") for message in messages[1:]))


@pytest.mark.parametrize(
    ("headers", "pieces"),
    [({}, 33), ({"content-length": "9" * 30}, 0)],  # the head, the 31 whole pieces that fit beside it, and one too many
)
def test_no_more_is_read_than_is_allowed(headers: dict[str, str], pieces: int) -> None:
    taken: list[bytes] = []

    async def endless() -> dict[str, Any]:
        taken.append(bytes(65536) if taken else PART + b'; filename="a.png"\r\n\r\n')
        return {"type": "http.request", "body": taken[-1], "more_body": True}

    status, answer = asyncio.run(posted(create_app(FakePredictor(), LIMITS), endless, FORM | headers))
    assert status == 413
    assert "larger than 2 MB" in answer["error"]
    assert len(taken) == pieces


def test_a_body_that_dawdles_is_refused() -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    assert asyncio.run(posted(create_app(FakePredictor(), replace(LIMITS, upload_s=0.01)), never, FORM))[0] == 408


def test_too_many_files_frames_or_bytes_are_refused(client: TestClient) -> None:
    assert "File 2 is larger than 1 MB" in refused(sent(client, ("a.png", GOOD), ("b.png", bytes(1_100_000))), 413)
    assert "more than 4 files" in refused(sent(client, *[("a.png", GOOD)] * 5), 413)
    assert "larger than 2 MB" in refused(sent(client, *[("a.png", bytes(900_000))] * 3), 413)
    with serving(FakePredictor(), images=2) as small:
        assert "more than 2 images" in refused(sent(small, *[("a.png", GOOD)] * 3), 413)
    with serving(FakePredictor(), memory_mb=0.05) as small:
        assert "memory" in refused(sent(small, *[("a.png", encoded(pixels(0, 60, 60)))] * 2), 413)
        assert small.app.state.service.memory.held == 0  # type: ignore[attr-defined]


def test_a_large_file_stays_in_memory(model: FakePredictor, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("a file on the disk")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with serving(model, file_mb=4, request_mb=5, memory_mb=16) as client:
        assert "its content" in refused(sent(client, ("a.png", bytes(3_000_000))), 422)


def test_limits_that_could_never_hold_one_image_are_refused() -> None:
    LIMITS.check()
    with pytest.raises(ValueError, match=r"limits.memory_mb=1 is less than"):
        replace(LIMITS, memory_mb=1).check()


# Many at once


def until(condition: Any) -> None:
    """Wait for what another thread brings about."""
    while not condition():
        time.sleep(0.002)


def test_a_request_of_many_images_lets_others_have_their_turn_and_gives_the_same_digits(model: FakePredictor) -> None:
    images = [("a.png", encoded(pixels(seed))) for seed in range(3)]
    with serving(model, batch=2) as client, ThreadPoolExecutor(2) as threads:
        alone = [sent(client, image).json()["results"][0] for image in images]
        service = client.app.state.service  # type: ignore[attr-defined]
        model.calls.clear()
        model.may_answer.clear()
        many = threads.submit(sent, client, *images)
        until(lambda: model.calls == [2])
        single = threads.submit(sent, client, images[0])
        until(lambda: service.worker.waiting == 2)  # the third of the first request, and that of the second
        model.may_answer.set()
        together = many.result().json()["results"]
        assert single.result().json()["results"] == [alone[0]]
    assert model.calls == [2, 1, 1]
    assert [{**one, "file": 0} for one in together] == alone


def test_who_finds_no_room_is_told_when_to_come_again(model: FakePredictor) -> None:
    with serving(model, waiting=1, requests=3) as client, ThreadPoolExecutor(4) as threads:
        service = client.app.state.service  # type: ignore[attr-defined]
        model.may_answer.clear()
        inside = [threads.submit(sent, client, ("a.png", GOOD))]
        until(lambda: model.calls == [1])
        inside.append(threads.submit(sent, client, ("a.png", GOOD)))
        until(lambda: service.worker.waiting == 1)
        full = sent(client, ("a.png", GOOD))
        assert "images are waiting" in refused(full, 503)
        assert 1 <= int(full.headers["retry-after"]) <= 60
        assert client.get("/health").json() == {"live": True, "ready": True, "waiting": 1}
        model.may_answer.set()
        assert [one.result().status_code for one in inside] == [200, 200]
    with serving(model, requests=1) as client, ThreadPoolExecutor(1) as threads:
        model.may_answer.clear()
        model.calls.clear()
        one = threads.submit(sent, client, ("a.png", GOOD))
        until(lambda: model.calls == [1])
        assert "no room" in refused(sent(client, ("a.png", GOOD)), 503)
        model.may_answer.set()
        assert one.result().status_code == 200
        assert sent(client, ("a.png", GOOD)).status_code == 200


def test_a_model_that_does_not_come_back_costs_the_request_and_makes_the_service_unready(model: FakePredictor) -> None:
    with serving(model, request_s=0.02) as client:
        model.may_answer.clear()
        assert "within 0.02 s" in refused(sent(client, ("a.png", GOOD)), 504)
        assert client.app.state.service.requests == 0  # type: ignore[attr-defined]
        until(lambda: client.get("/health").status_code == 503)
        assert client.get("/health").json() == {"live": True, "ready": False, "waiting": 0}
        model.may_answer.set()
        until(lambda: client.get("/health").status_code == 200)


def test_good_requests_go_on_among_hostile_ones(client: TestClient) -> None:
    def bad(name: str) -> int:
        return int(sent(client, (name, HOSTILE[name])).status_code)

    with ThreadPoolExecutor(6) as threads:
        answers = [
            (threads.submit(bad, name), threads.submit(sent, client, ("a.png", encoded(pixels(seed)))))
            for seed, name in enumerate(HOSTILE)
        ]
        for seed, (hostile, good) in enumerate(answers):
            assert hostile.result() in (422, 503)
            assert good.result().status_code in (200, 503)
            if good.result().status_code == 200:
                (entry,) = good.result().json()["results"]
                assert entry["probabilities"]["malignant"] == pixels(seed).mean() / 255
    assert client.app.state.service.memory.held == 0  # type: ignore[attr-defined]


def test_one_image_at_which_the_model_fails_takes_no_other_with_it(
    model: FakePredictor, client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    model.may_answer.clear()
    service = client.app.state.service  # type: ignore[attr-defined]
    with ThreadPoolExecutor(3) as threads:
        first = threads.submit(sent, client, ("a.png", GOOD))
        until(lambda: model.calls == [1])
        bad = threads.submit(sent, client, ("a.png", encoded(pixels(0, 20, 13))))
        good = threads.submit(sent, client, ("a.png", GOOD))
        until(lambda: service.worker.waiting == 2)
        model.may_answer.set()
        assert refused(bad.result(), 500).startswith("The service failed")
        assert (first.result().status_code, good.result().status_code) == (200, 200)
    assert "RuntimeError, at " in caplog.text  # where, and not what: the message may quote what was sent
    assert "JANE" not in caplog.text
    assert client.get("/health").status_code == 200


def test_a_client_that_leaves_takes_its_image_out_of_the_queue(model: FakePredictor) -> None:
    app = create_app(model, LIMITS)
    service = app.state.service
    body = PART + b'; filename="a.png"\r\n\r\n' + GOOD + b"\r\n--x--\r\n"
    model.may_answer.clear()

    def receiving(leave: asyncio.Event) -> Callable[[], Any]:
        messages = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> dict[str, Any]:
            for message in messages:
                return message
            await leave.wait()
            return {"type": "http.disconnect"}

        return receive

    async def main() -> None:
        answers: list[int] = []

        async def send(message: dict[str, Any]) -> None:
            answers.extend([message["status"]] if "status" in message else [])

        async def become(condition: Callable[[], bool]) -> None:
            while not condition():
                await asyncio.sleep(0.002)

        async with app.router.lifespan_context(app):
            leave = asyncio.Event()
            stays = asyncio.create_task(app(scope_of(FORM), receiving(asyncio.Event()), send))  # type: ignore[arg-type]
            await become(lambda: model.calls == [1])
            leaves = asyncio.create_task(app(scope_of(FORM), receiving(leave), send))  # type: ignore[arg-type]
            await become(lambda: service.worker.waiting == 1)
            leave.set()
            await leaves
            assert service.worker.waiting == 0
            model.may_answer.set()
            await stays
        assert answers == [200]

    asyncio.run(main())
    assert model.calls == [1]
    assert 'status="499"' in service.metrics.text().decode()


# Token, model, metrics, docs


def test_a_token_is_asked_for_where_there_is_one(model: FakePredictor) -> None:
    with TestClient(create_app(model, LIMITS, TOKEN)) as client:
        right = {"Authorization": f"Bearer {TOKEN}"}
        for path in ("/model", "/metrics"):
            assert client.get(path, headers=right).status_code == 200
            assert client.get(path).headers["www-authenticate"] == "Bearer"
        assert client.get("/health").status_code == 200
        assert client.get("/docs").status_code == 200
        assert sent(client, ("a.png", GOOD), headers=right).status_code == 200
        assert "requires a token" in refused(sent(client, ("a.png", GOOD)), 401)
        for wrong in (f"Bearer {TOKEN[:-1]}", "Bearer", f"Basic {TOKEN}", TOKEN, "Bearer \xe9\xe9"):
            assert "token" in refused(client.get("/model", headers={"Authorization": wrong.encode("latin-1")}), 401)
    assert model.calls == [1]


def test_a_token_comes_from_the_environment_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    assert read_token({}, None) is None
    assert read_token({"BCD_TOKEN": TOKEN}, None) == read_token({}, file) == TOKEN
    with pytest.raises(ValueError, match="give one of them"):
        read_token({"BCD_TOKEN": TOKEN}, file)
    for bad in ("", "short", "x" * 20 + " y", "\xe9" * 20):
        with pytest.raises(ValueError, match="16 or more plain characters"):
            read_token({"BCD_TOKEN": bad}, None)


def test_the_model_is_described(client: TestClient) -> None:
    facts = client.get("/model").json()
    assert facts["points"] == {"youden": 0.4, "sensitivity_95": 0.1}
    assert (facts["default_point"], facts["positive"], facts["classes"]) == ("youden", "malignant", ["benign", "malignant"])
    assert facts["intended_use"] == ["Research."]
    assert facts["training"] == [{"network": "a", "device": "AMD EPYC", "seconds": 12.5}]
    assert facts["networks"] == [{"name": "a", "role": "multitask", "fold": None, "temperature": 1.0}]


def test_metrics_count_what_happened(client: TestClient) -> None:
    sent(client, ("a.png", GOOD), ("b.png", b"x"))
    sent(client, ("b.png", b"x"))
    client.get("/nowhere/DOE")
    text = client.get("/metrics").text
    for line in (
        'bcd_requests_total{path="/predict",status="200"} 1.0',
        'bcd_requests_total{path="/predict",status="422"} 1.0',
        'bcd_requests_total{path="other",status="404"} 1.0',
        'bcd_images_total{outcome="predicted"} 1.0',
        'bcd_images_total{outcome="unreadable"} 2.0',
        'bcd_errors_total{kind="unreadable"} 1.0',
        'bcd_request_seconds_count{path="/predict"} 2.0',
        "bcd_requests_in_flight 1.0",
        "bcd_queue_images 0.0",
        "bcd_held_bytes 0.0",
    ):
        assert line in text.splitlines()
    with TestClient(create_app(FakePredictor(), LIMITS)) as other:
        assert 'path="/predict"' not in other.get("/metrics").text


def test_the_documentation_names_every_address_and_needs_no_other_host(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.")
    assert set(document["paths"]) == {"/predict", "/model", "/health", "/metrics"}
    predict = document["paths"]["/predict"]["post"]
    assert [one["name"] for one in predict["parameters"]] == ["point", "mask", "probability_map", "uncertainty", "heat_map"]
    files = predict["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]["file"]
    assert files["minItems"] == 1
    assert {"200", "400", "408", "413", "415", "422", "500", "503", "504"} == set(predict["responses"])
    assert predict["parameters"][0]["schema"]["enum"] == ["youden", "sensitivity_95"]
    assert "retry-after" in {name.lower() for name in predict["responses"]["503"]["headers"]}
    assert "results" in document["components"]["schemas"]["Unread"]["properties"]
    references = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert references <= set(document["components"]["schemas"])
    page = client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "<script" not in page.text
    assert "src=" not in page.text
    assert "http" not in page.text.replace("http://127.0.0.1:8000", "")
    for word in ("POST /predict", "probability_map", "Retry-After", "not a medical device"):
        assert word in page.text
    assert client.get("/", follow_redirects=False).headers["location"] == "docs"


def test_the_document_asks_for_a_token_where_the_service_does(client: TestClient) -> None:
    assert "security" not in client.get("/openapi.json").text
    with TestClient(create_app(FakePredictor(), LIMITS, TOKEN)) as guarded:
        paths = guarded.get("/openapi.json").json()["paths"]
    for path, method in (("/predict", "post"), ("/model", "get"), ("/metrics", "get")):
        assert paths[path][method]["security"]
        assert "401" in paths[path][method]["responses"]
    assert "security" not in paths["/health"]["get"]
