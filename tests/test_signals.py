"""Requests to stop."""

import os
import signal

import pytest
from omegaconf import OmegaConf

from bcd.data.images import decode_image
from bcd.runs.signals import RunStopped, StopSignals


def test_a_request_to_stop_is_no_error_of_the_config_that_it_interrupts() -> None:
    OmegaConf.register_new_resolver("asked_to_stop", lambda: os.kill(os.getpid(), signal.SIGTERM), replace=True)
    config = OmegaConf.create({"a": {"b": "${asked_to_stop:}"}})
    with StopSignals(), pytest.raises(RunStopped) as stop:
        OmegaConf.to_container(config, resolve=True)
    assert stop.value.signum == signal.SIGTERM


def test_a_picture_at_which_the_request_came_is_not_told_as_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.Image.open", lambda *_, **__: os.kill(os.getpid(), signal.SIGINT))
    with StopSignals(), pytest.raises(RunStopped, match="SIGINT"):
        decode_image(b"\x89PNG\r\n\x1a\n" + bytes(100), "a.png")
