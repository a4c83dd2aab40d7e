"""The service under load: a process of its own, and clients that each send an image as soon as the last one was answered."""

import json
import math
import re
import statistics
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from bcd.config.options import CONF
from bcd.data.sources.phantom_simulator import draw_anatomy, draw_lesion, simulate

_SCRIPT = CONF.parent / "scripts" / "serve_api.py"
_LISTENS = re.compile(r"running on http://127\.0\.0\.1:(\d+)")
_MB = 1 << 20
_BOUNDARY = "bcd-bench"
_BAD = b"this is no image"
_TIMEOUT_S = 120


@dataclass
class _Tally:
    """What one client was answered."""

    seconds: list[float] = field(default_factory=list)
    refused: int = 0
    busy: int = 0
    errors: int = 0


def bench_api(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Print for each number of clients images/s, latencies, errors and the service's memory; return the rows.

    Args:
        config: of `conf/bench_api.yaml`.

    Raises:
        RuntimeError: when the service does not start.
    """
    good = [_form(f"{number}.png", image) for number, image in enumerate(_images(config["n_images"], config["image_size"]))]
    path = "/predict" + (f"?{config['query']}" if config["query"] else "")
    with _service(config) as port:
        for number in range(config["warm_up"]):
            _post(HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S), path, good[number % len(good)])
        rows = [_measure(port, path, good, clients, config["seconds"], config["bad_share"]) for clients in config["clients"]]
    _print(rows)
    return rows


def _print(rows: Sequence[Mapping[str, Any]]) -> None:
    table = Table(title="The service under load; every client sends its next image when the last one was answered")
    columns = {
        "clients": "{clients}",
        "images/s": "{images_per_s:.2f}",
        "p50 ms": "{p50_ms:.0f}",
        "p95 ms": "{p95_ms:.0f}",
        "answered": "{answered}",
        "bad: 422": "{refused}",
        "busy: 503": "{busy}",
        "errors": "{errors}",
        "MB before": "{before_mb:.0f}",
        "MB after": "{after_mb:.0f}",
    }
    for title in columns:
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        milliseconds = {f"{name}_ms": 1000 * (row[f"{name}_s"] or math.nan) for name in ("p50", "p95")}
        table.add_row(*(cell.format(**row, **milliseconds) for cell in columns.values()))
    Console(width=120).print(table)


@contextmanager
def _service(config: Mapping[str, Any]) -> Iterator[int]:
    """Run the service; yield its port."""
    bundle = [f"bundle={config['bundle']}"] if config["bundle"] is not None else []
    command = [sys.executable, str(_SCRIPT), *bundle, "port=0", *config["serve"]]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield _port(process)
    finally:
        process.terminate()
        process.wait()


def _port(process: "subprocess.Popen[str]") -> int:
    """Wait for the line that names the port; from then on, read on, or the service would wait for a reader."""
    last: deque[str] = deque(maxlen=3)
    lines = iter(process.stdout or ())
    for line in lines:
        last.append(line)
        match = _LISTENS.search(line)
        if match is not None:
            threading.Thread(target=deque, args=(lines, 0), daemon=True).start()  # a deque of length 0 forgets what it reads
            return int(match[1])
    raise RuntimeError(f"The service did not start: {''.join(last).strip()}")


def _measure(port: int, path: str, good: Sequence[bytes], clients: int, seconds: float, bad_share: float) -> dict[str, Any]:
    before_mb = _memory_mb(port)
    tallies = [_Tally() for _ in range(clients)]
    began_s = time.perf_counter()
    end_s = began_s + seconds
    threads = [
        threading.Thread(target=_send, args=(port, path, good, number, end_s, bad_share, tally))
        for number, tally in enumerate(tallies)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took_s = time.perf_counter() - began_s
    latencies = sorted(second for tally in tallies for second in tally.seconds)
    return {
        "clients": clients,
        "images_per_s": len(latencies) / took_s,
        "p50_s": statistics.median(latencies) if latencies else None,
        "p95_s": float(np.percentile(latencies, 95)) if latencies else None,
        "answered": len(latencies),
        **{name: sum(getattr(tally, name) for tally in tallies) for name in ("refused", "busy", "errors")},
        "before_mb": before_mb,
        "after_mb": _memory_mb(port),
    }


def _send(port: int, path: str, good: Sequence[bytes], number: int, end_s: float, bad_share: float, tally: _Tally) -> None:
    """Be one client: send an image, wait for the answer, send the next."""
    rng = np.random.default_rng(number)
    bad = _form("bad.png", _BAD)
    connection = HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    while time.perf_counter() < end_s:
        is_bad = rng.random() < bad_share
        began_s = time.perf_counter()
        try:
            status = _post(connection, path, bad if is_bad else good[int(rng.integers(len(good)))])
        except (OSError, HTTPException):
            tally.errors += 1
            connection.close()
            continue
        if status == 200 and not is_bad:
            tally.seconds.append(time.perf_counter() - began_s)
        elif status == 503:
            tally.busy += 1
            time.sleep(0.5)
        elif status == 422 and is_bad:
            tally.refused += 1
        else:
            tally.errors += 1
    connection.close()


def _post(connection: HTTPConnection, path: str, body: bytes) -> int:
    connection.request("POST", path, body, {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"})
    response = connection.getresponse()
    content = response.read()
    if response.status == 200:
        json.loads(content)  # one that is cut short is none
    return response.status


def _memory_mb(port: int) -> float:
    """Return the service's resident memory, as it counts it for Prometheus."""
    connection = HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    connection.request("GET", "/metrics")
    match = re.search(r"^process_resident_memory_bytes (\S+)$", connection.getresponse().read().decode(), re.MULTILINE)
    connection.close()
    return float(match[1]) / _MB if match is not None else math.nan


def _form(name: str, content: bytes) -> bytes:
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    return head.encode() + content + f"\r\n--{_BOUNDARY}--\r\n".encode()


def _images(count: int, size: Sequence[int]) -> Iterator[bytes]:
    """Yield simulated images as PNG files."""
    for number in range(count):
        rng = np.random.default_rng(number)
        image, _ = simulate(rng, draw_anatomy(rng), draw_lesion(rng, number % 2 == 0), (size[0], size[1]))
        yield cv2.imencode(".png", image)[1].tobytes()
