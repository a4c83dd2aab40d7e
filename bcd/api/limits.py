"""The service's limits, and the memory that all requests share: a request that does not fit is refused."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bcd.api.problems import ProblemError, busy
from bcd.config.ranges import Count, FromOne, NotNegative, Positive

MB = 1 << 20
# Of one pixel while its request lasts: grey, colour, and the maps and masks that are made of it.
BYTES_PER_PIXEL = 16


@dataclass(frozen=True)
class Limits:
    """The service's limits; `conf/serve_api.yaml` describes each."""

    file_mb: Positive
    request_mb: Positive
    files: Count
    images: Count
    pixels: Count
    requests: Count
    waiting: Count
    batch: Count
    memory_mb: Positive
    upload_s: Positive
    request_s: Positive

    def check(self) -> None:
        """Refuse limits with which the largest allowed image would never fit.

        Raises:
            ValueError: saying what to change.
        """
        needed_mb = self.file_mb + self.pixels * BYTES_PER_PIXEL / MB
        if needed_mb > self.memory_mb:
            raise ValueError(
                f"limits.memory_mb={self.memory_mb:g} is less than one file of limits.file_mb={self.file_mb:g} with "
                f"limits.pixels={self.pixels} takes: {needed_mb:.0f}. Raise it, or lower the other two."
            )


@dataclass(frozen=True)
class Listening:
    """Where and how to listen; see `conf/serve_api.yaml`. More than twice the number of allowed connections are closed."""

    host: str
    port: int
    header_s: Positive
    keep_alive_s: FromOne
    answer_s: Positive
    connections: Count
    closing_s: NotNegative


class ReleasedError(Exception):
    """The request that needs memory has ended meanwhile."""


class MemoryBudget:
    """The memory that all requests together may hold."""

    def __init__(self, max_mb: float) -> None:
        self.max_bytes = int(max_mb * MB)
        self.held = 0
        self.lock = threading.Lock()

    @contextmanager
    def reservation(self) -> Iterator["Reservation"]:
        """Yield a request's share, which is given back at the end of the context."""
        reservation = Reservation(self)
        try:
            yield reservation
        finally:
            with self.lock:
                reservation.is_released = True
                self.held -= reservation.held


class Reservation:
    """One request's share of the memory; see `MemoryBudget.reservation`."""

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self.held = 0
        self.is_released = False

    def hold(self, size: int) -> None:
        """Add so many bytes.

        Raises:
            ReleasedError: when the request has ended.
            ProblemError: 413 if it cannot fit even alone; 503 if it does not fit now.
        """
        budget = self._budget
        if self.held + size > budget.max_bytes:
            error = f"The request would take more than {budget.max_bytes / MB:.0f} MB of memory."
            raise ProblemError(413, "too_large", error, "Send fewer or smaller images at a time, or ask for fewer maps.")
        with budget.lock:
            if self.is_released:
                raise ReleasedError
            if budget.held + size > budget.max_bytes:
                raise busy("Other requests use all the available memory.", 2)
            budget.held += size
            self.held += size
