"""Requests to stop."""

import os
import signal

import pytest
from omegaconf import OmegaConf

from bcd.images.read import decode_image
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


def test_a_request_held_back_is_heeded_later_and_its_echo_passed_over_once() -> None:
    with StopSignals(echoes=1) as signals:
        signals.wait = True
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)  # from the process that passes Ctrl-C on
        with pytest.raises(RunStopped, match="SIGINT"):
            signals.heed()
        with pytest.raises(RunStopped, match="SIGTERM"):
            os.kill(os.getpid(), signal.SIGTERM)  # somebody means it


def test_between_two_steps_a_second_request_stops_at_once() -> None:
    with StopSignals() as signals:
        signals.wait = True
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.requested == signal.SIGINT
        with pytest.raises(RunStopped, match="SIGTERM"):
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it is what is tested
def test_a_request_that_python_drops_is_heeded_later() -> None:
    class Deleted:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    with StopSignals(echoes=1) as signals:
        Deleted()
        with pytest.raises(RunStopped, match="SIGTERM"):
            signals.heed()
