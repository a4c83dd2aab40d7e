"""Start the page: find or make a bundle, and hand over to Streamlit, which keeps everything on this machine."""

import logging
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bcd.app.settings import Settings
from bcd.predictor.bundle import read_bundle
from bcd.predictor.bundles.default import RELEASED, released_bundle

log = logging.getLogger(__name__)

START = Path(__file__).parent / "start.py"
MADE = "No bundle was given, and none comes with this copy of the project: it is one of simulated images, made on this machine."
RELEASE = "No bundle was given: it is the one that comes with the project."


def serve(config: Mapping[str, Any]) -> None:
    """Serve the page, as conf/serve.yaml says, until it is stopped; this process becomes Streamlit's.

    Raises:
        BundleError: when the bundle cannot be used.
        OSError: when the port is taken.
    """
    check_port(config["address"], config["port"])
    settings = settings_for(config)
    log.info("Bundle: %s. %s", settings.bundle, settings.note)
    environment = {**os.environ, **settings.to_environment()}
    # In place of this process: its memory goes, and Ctrl-C reaches Streamlit alone.
    os.execve(sys.executable, streamlit_command(config), environment)


def settings_for(config: Mapping[str, Any]) -> Settings:
    """Return the page's settings; without a bundle, take the project's or make one of phantoms.

    Raises:
        BundleError: when the bundle cannot be used.
    """
    outputs = Path(config["outputs"]).expanduser().absolute()
    bundle, note = _bundle(config["bundle"], outputs)
    read_bundle(bundle)
    return Settings(
        bundle=bundle.absolute(),
        bundles=(Path(config["bundles"]).expanduser().absolute(), RELEASED, outputs / "bundles"),
        outputs=outputs,
        note=note,
        max_pixels=config["max_pixels"],
        max_upload_mb=config["max_upload_mb"],
        trusted=tuple(config["trusted"]),
        local=is_local(config["address"]),
    )


def _bundle(given: str | None, outputs: Path) -> tuple[Path, str]:
    if given is not None:
        return Path(given).expanduser(), ""
    released = released_bundle()
    if released is not None:
        return released, RELEASE
    from bcd.app.phantom_bundle import phantom_bundle  # torch takes seconds to import, and trains only here

    return phantom_bundle(outputs), MADE


def check_port(address: str, port: int) -> None:
    """Refuse a port that is taken.

    Raises:
        OSError: saying so.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a server that has just ended still holds it for a while
        try:
            probe.bind((address, port))
        except OSError as error:
            raise OSError(f"The page cannot be served at {address}:{port} ({error.strerror}). Give another port=.") from error


def streamlit_command(config: Mapping[str, Any], start: Path = START) -> list[str]:
    """Return the command line of Streamlit for a script; it goes before any configuration file of the user's."""
    options = {
        "server.address": config["address"],
        "server.port": config["port"],
        "server.headless": "true",
        "server.maxUploadSize": config["max_upload_mb"],
        "server.enableXsrfProtection": "true",
        "server.enableCORS": "true",
        "server.enableStaticServing": "false",
        "server.fileWatcherType": "none",
        "server.disconnectedSessionTTL": 30,
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",
        "client.showErrorLinks": "false",
        "runner.magicEnabled": "false",
        "theme.base": "light",
        "theme.primaryColor": "#0b5c8a",
    }
    # Another site's page that a name server points here (DNS rebinding) is not let in.
    hosts = [f"--server.allowedHosts={host}" for host in ("localhost", "127.0.0.1")] if is_local(config["address"]) else []
    flags = [f"--{name}={value}" for name, value in options.items()]
    return [sys.executable, "-m", "streamlit", "run", str(start), *flags, *hosts]


def is_local(address: str) -> bool:
    """Return whether a page at an address is for this machine alone."""
    return address in ("localhost", "127.0.0.1", "::1")
