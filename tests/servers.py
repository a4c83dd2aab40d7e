"""Servers that tests start, and the browser that visits them."""

import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

CHROMIUM = "/usr/bin/chromium"
_ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]
_PATIENCE_MS = 300_000.0


def free_port() -> int:
    """Return a port of this machine that nobody listens at."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return int(free.getsockname()[1])


def wait_for(url: str, server: "subprocess.Popen[bytes]") -> None:
    """Wait until a server answers.

    Raises:
        AssertionError: when its process has ended.
    """
    while True:
        try:
            urllib.request.urlopen(url, timeout=5)
            return
        except OSError:
            assert server.poll() is None, "The command ended."
            time.sleep(0.5)


@contextmanager
def browser() -> Iterator[tuple[Any, list[str]]]:
    """Yield a page of the browser, and the addresses of everything that it asks for."""
    from playwright.sync_api import expect, sync_playwright

    addresses: list[str] = []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)
        page = chromium.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(_PATIENCE_MS)
        expect.set_options(timeout=_PATIENCE_MS)
        page.on("request", lambda request: addresses.append(request.url))
        yield page, addresses
        chromium.close()


def elsewhere(addresses: list[str]) -> set[str]:
    """Return the addresses on other machines; data and blobs are in the page itself."""
    return {url for url in addresses if not url.startswith(("http://localhost:", "ws://localhost:", "data:", "blob:"))}


def keep(page: Any, name: str) -> None:
    """Keep a picture of the page where somebody wants to look at it."""
    if os.environ.get("BCD_SCREENSHOTS"):
        page.screenshot(path=f"{os.environ['BCD_SCREENSHOTS']}/{name}.png", full_page=True)
