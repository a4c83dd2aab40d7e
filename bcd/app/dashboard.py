"""The dashboard: the runs' page alone, with TensorBoard beside it. Nothing leaves this machine, nobody logs in."""

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from bcd.app.serving import check_port, is_local, streamlit_command

log = logging.getLogger(__name__)

START = Path(__file__).parent / "start_dashboard.py"
OUTPUTS, TENSORBOARD = "BCD_DASHBOARD_OUTPUTS", "BCD_DASHBOARD_TENSORBOARD"
_POLL_S = 0.3
_PORTS_TRIED = 50
# Nothing is uploaded here, and Streamlit has no option for none.
_MAX_UPLOAD_MB = 1


def dashboard(config: Mapping[str, Any]) -> None:
    """Show the runs, as conf/dashboard.yaml says, until the command is stopped.

    Raises:
        ValueError: for a folder that is not there.
        OSError: when a port is taken.
    """
    outputs = Path(config["output"]).expanduser().absolute()
    if not outputs.is_dir():
        raise ValueError(f"output={config['output']}: there is no such folder. Train something first: make train.")
    check_port(config["address"], config["port"])
    port = tensorboard_port(config["tensorboard"], config["address"], config["port"])
    shown = f"http://{'localhost' if is_local(config['address']) else socket.gethostname()}"
    environment = {**os.environ, OUTPUTS: str(outputs), TENSORBOARD: f"{shown}:{port}" if port else ""}
    commands = [tensorboard_command(outputs, config["address"], port)] if port else []
    commands.append(streamlit_command({**config, "max_upload_mb": _MAX_UPLOAD_MB}, START))
    log.info("Runs below %s: %s:%s%s", outputs, shown, config["port"], f"; TensorBoard: {shown}:{port}" if port else "")
    with _running(commands, environment) as processes:
        page = processes[-1]
        while page.poll() is None:
            time.sleep(_POLL_S)
    if page.returncode not in (0, -signal.SIGTERM, -signal.SIGINT):
        raise OSError(f"The page ended with status {page.returncode}; see its messages above.")


def tensorboard_port(wanted: int | str | None, address: str, port: int) -> int | None:
    """Return TensorBoard's port: `wanted`, for `auto` the first free one after the page's, and None where none is wanted.

    Raises:
        OSError: when the port is taken, or all that were tried are.
    """
    if wanted is None:
        return None
    if isinstance(wanted, int):
        check_port(address, wanted)
        return wanted
    for candidate in range(port + 1, min(port + 1 + _PORTS_TRIED, 65536)):
        with contextlib.suppress(OSError):
            check_port(address, candidate)
            return candidate
    raise OSError(f"No port from {port + 1} on is free for TensorBoard; give tensorboard=<port>, or tensorboard=null.")


def tensorboard_command(outputs: Path, address: str, port: int) -> list[str]:
    """Return the command line of TensorBoard."""
    options = ["--logdir", str(outputs), "--host", address, "--port", str(port), "--reload_interval", "15"]
    return [sys.executable, "-m", "tensorboard.main", *options]


@contextlib.contextmanager
def _running(commands: list[list[str]], environment: Mapping[str, str]) -> Iterator[list["subprocess.Popen[bytes]"]]:
    """Run processes until the end of the context, or until this one is asked to stop."""

    def stop(signum: int, _: FrameType | None) -> None:
        raise SystemExit(128 + signum)

    before = signal.signal(signal.SIGTERM, stop)
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for command in commands:
            processes.append(subprocess.Popen(command, env=dict(environment)))
        yield processes
    finally:
        signal.signal(signal.SIGTERM, before)
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()
