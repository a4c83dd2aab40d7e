"""Ctrl-C and SIGTERM: stop at the next safe point, or at once where there is nothing to save."""

import signal
import threading
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class RunStopped(BaseException):
    """The run was asked to stop.

    A request and no error, as KeyboardInterrupt is: for any interrupted code, and any error handling of it (a
    damaged picture, a wrong config), this passes through.

    Args:
        signum: SIGINT (Ctrl-C) or SIGTERM (a scheduler that preempts).
    """

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.signum = signum


class StopSignals:
    """Turns Ctrl-C and SIGTERM into RunStopped: at once, or between two steps while training goes on.

    Use it as a context; in a thread that is not the main one, where Python allows no handlers, it does nothing.

    Args:
        echoes: so many signals after the first one say the same once more, and are passed over. Ctrl-C reaches a process twice that
            another one waits for: from the terminal, and from that one. Any further signal stops at once.

    Attributes:
        wait: the caller checks `requested` between the steps, or calls `heed`.
        requested: the signal that came.
    """

    def __init__(self, echoes: int = 0) -> None:
        self.wait = False
        self.requested: int | None = None
        self._echoes = echoes
        self._heard = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            self._before = {signum: signal.getsignal(signum) for signum in _SIGNALS}
            self.install()
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def install(self) -> None:
        """Take the signals; again where a library took them meanwhile, as Lightning does when training begins."""
        if self._before:
            for signum in _SIGNALS:
                signal.signal(signum, self._handle)

    def heed(self) -> None:
        """Stop now where a signal came while it was waited for, and after the last step no check followed.

        Raises:
            RunStopped: for the signal.
        """
        if self.requested is not None:
            raise RunStopped(self.requested)

    def _handle(self, signum: int, _: FrameType | None) -> None:
        self._heard += 1
        if self._heard == 1:
            self.requested = signum  # though it is raised: Python drops what is raised while an object is being deleted
        if (not self.wait and self._heard == 1) or self._heard > 1 + self._echoes:
            raise RunStopped(signum)
