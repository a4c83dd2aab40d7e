"""Who is in, and how much all of them hold: what would overflow memory is refused instead."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from bcd.api.limits import MB
from bcd.api.problems import ProblemError, busy


class GoneError(Exception):
    """The request that work was done for is no longer there."""


class Stay:
    """One request's stay: what it holds counts until it leaves.

    Args:
        room: the room it stays in.
    """

    def __init__(self, room: "Room") -> None:
        self._room = room
        self.held = 0
        self.is_over = False

    def hold(self, size: int) -> None:
        """Count so many bytes more.

        Raises:
            GoneError: when the request has left.
            ProblemError: 413 when it would not even fit alone; 503 when it would beside the others.
        """
        if self.is_over:
            raise GoneError
        self._room.take(size, self.held)
        self.held += size


class Room:
    """What all requests together may take.

    Args:
        max_requests: that are worked on at once.
        max_bytes: held by all of them.
    """

    def __init__(self, max_requests: int, max_bytes: int) -> None:
        self._max_requests, self._max_bytes = max_requests, max_bytes
        self._lock = threading.Lock()
        self.requests = 0
        self.held = 0

    @contextmanager
    def enter(self) -> Iterator[Stay]:
        """Let a request in: what it holds counts from now on."""
        stay = Stay(self)
        try:
            yield stay
        finally:
            with self._lock:
                stay.is_over = True
                self.held -= stay.held

    def check(self, wait_s: float) -> None:
        """Refuse a request that would find no seat.

        Args:
            wait_s: what to tell it.

        Raises:
            ProblemError: 503 when there are too many.
        """
        if self.requests >= self._max_requests:
            raise busy(f"{self.requests} requests are being answered; there is no room for more.", wait_s)

    @contextmanager
    def sit(self, wait_s: float) -> Iterator[None]:
        """Give a request that has arrived a seat while it is worked on; see `check`."""
        with self._lock:
            self.check(wait_s)
            self.requests += 1
        try:
            yield
        finally:
            with self._lock:
                self.requests -= 1

    def take(self, size: int, already: int) -> None:
        """Count bytes of a request that holds so many already; see `Stay.hold`."""
        if already + size > self._max_bytes:
            error = f"The request would take more than {self._max_bytes / MB:.0f} MB of memory."
            raise ProblemError(413, "too_large", error, "Send fewer or smaller images at a time, or ask for fewer maps.")
        with self._lock:
            if self.held + size > self._max_bytes:
                raise busy("Other requests take all the memory that there is.", 2)
            self.held += size
