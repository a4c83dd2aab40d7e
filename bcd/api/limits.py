"""What the service puts up with."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MB = 1 << 20
# Of one pixel while its request lasts: grey, colour, and the maps and masks that are made of it.
BYTES_PER_PIXEL = 16


@dataclass(frozen=True)
class Limits:
    """What the service puts up with; the values stand in `conf/serve_api.yaml`.

    Args:
        file_mb: size of one file.
        request_mb: size of a request.
        files: in a request.
        images: in a request, each frame of a DICOM file counting as one.
        pixels: of one image.
        requests: that are worked on at once.
        waiting: images that wait for the model.
        batch: images that go to the model in one call.
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

    @property
    def file_bytes(self) -> int:
        """Return the size of one file in bytes."""
        return int(self.file_mb * MB)

    @property
    def request_bytes(self) -> int:
        """Return the size of a request in bytes."""
        return int(self.request_mb * MB)

    @property
    def memory_bytes(self) -> int:
        """Return what all requests together may hold, in bytes."""
        return int(self.memory_mb * MB)
