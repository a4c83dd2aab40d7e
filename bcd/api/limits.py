"""The service's limits, and the memory that all requests share: what would overflow it is refused."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bcd.api.problems import ProblemError, busy

MB = 1 << 20
# Of one pixel while its request lasts: grey, colour, and the maps and masks that are made of it.
BYTES_PER_PIXEL = 16


@dataclass(frozen=True)
class Limits:
    """The service's limits; their values stand in `conf/serve_api.yaml`.

    Args:
        file_mb: size of one file.
        request_mb: size of a request.
        files: in a request.
        images: in a request, each frame of a DICOM file counting as one.
        pixels: of one image.
        requests: that are worked on at once.
        waiting: images that wait for the model.
        batch: images of a request that go to the model in one call; then others have their turn.
        memory_mb: what all requests together may hold: files, pixels, maps.
        upload_s: for a request to arrive.
        request_s: for a request from its arrival to its answer.
    """

    file_mb: float
    request_mb: float
    files: int
    images: int
    pixels: int
    requests: int
    waiting: int
    batch: int
    memory_mb: float
    upload_s: float
    request_s: float

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Limits":
        """Return the limits of a config.

        Raises:
            ValueError: where the largest allowed image could never be held.
        """
        limits = cls(**config)
        needed_mb = limits.file_mb + limits.pixels * BYTES_PER_PIXEL / MB
        if needed_mb > limits.memory_mb:
            raise ValueError(
                f"limits.memory_mb={limits.memory_mb:g} is less than one file of limits.file_mb={limits.file_mb:g} with "
                f"limits.pixels={limits.pixels} takes: {needed_mb:.0f}. Raise it, or lower the other two."
            )
        return limits


class ReleasedError(Exception):
    """The request that memory is wanted for has ended meanwhile."""


class MemoryBudget:
    """The memory that all requests together may hold.

    Args:
        max_mb: held by all of them.
    """

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
            ProblemError: 413 when it would not even fit alone; 503 when it would beside the others.
        """
        budget = self._budget
        if self.held + size > budget.max_bytes:
            error = f"The request would take more than {budget.max_bytes / MB:.0f} MB of memory."
            raise ProblemError(413, "too_large", error, "Send fewer or smaller images at a time, or ask for fewer maps.")
        with budget.lock:
            if self.is_released:
                raise ReleasedError
            if budget.held + size > budget.max_bytes:
                raise busy("Other requests take all the memory that there is.", 2)
            budget.held += size
            self.held += size
