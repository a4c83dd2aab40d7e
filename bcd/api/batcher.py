"""One thread for the model: it takes what is waiting, as one list, and answers each."""

import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

from bcd.api.problems import busy
from bcd.images.scan import Scan

_FIRST_GUESS_S = 0.5


class Answered(Protocol):
    """What a model says of one image."""

    @property
    def mask(self) -> Any:
        """Outline, bool (H, W), or None."""

    @property
    def probability_map(self) -> Any:
        """Lesion probability, float32 (H, W), or None."""

    @property
    def heat_map(self) -> Any:
        """What the class rests on, float32 (H, W) in [0, 1], or None."""

    @property
    def uncertainty(self) -> Any:
        """How much several looks differ, with a map `mask`, or None."""

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values, without maps."""


class Model(Protocol):
    """What the service asks of a predictor."""

    @property
    def points(self) -> dict[str, float]:
        """Operating points."""

    @property
    def bundle(self) -> Any:
        """What the bundle says of itself."""

    def predict(self, images: Sequence[Scan], *, point: str | None, uncertainty: bool, heat_map: bool) -> Any:
        """Return a result for each image; what it says of one depends on no other."""


@dataclass(frozen=True)
class Asked:
    """What is to be said of an image.

    Args:
        point: operating point; None for the bundle's own.
        uncertainty: say how sure.
        heat_map: show what the class rests on.
    """

    point: str | None = None
    uncertainty: bool = False
    heat_map: bool = False


@dataclass(frozen=True, eq=False)
class _Job:
    images: Sequence[Scan]
    asked: Asked
    future: "Future[list[Answered]]" = field(default_factory=Future)


class Batcher:
    """Gathers the images that wait and gives them to the model together, in a thread of its own.

    The model looks at one image at a time even so: what it says of one does not depend on what else was waiting. A call that fails
    is repeated request by request, so that one image fails for its own request alone.

    Args:
        model: the predictor.
        max_waiting: images that may wait; more are refused.
        max_batch: images in one call, unless one request has more.
    """

    def __init__(self, model: Model, max_waiting: int, max_batch: int) -> None:
        self._model, self._max_waiting, self._max_batch = model, max_waiting, max_batch
        self._jobs: deque[_Job] = deque()
        self._change = threading.Condition()
        self._is_closed = False
        self._began_s: float | None = None
        self._image_s = _FIRST_GUESS_S
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def close(self) -> None:
        """Stop after the call that is running; what still waits is cancelled."""
        with self._change:
            self._is_closed = True
            for job in self._jobs:
                job.future.cancel()
            self._jobs.clear()
            self._change.notify_all()
        self._thread.join()

    @property
    def waiting(self) -> int:
        """Return how many images wait."""
        with self._change:
            return self._n_waiting()

    @property
    def wait_s(self) -> float:
        """Return about how long a new image would wait, in seconds."""
        return self._image_s * (self.waiting + 1)

    @property
    def running_s(self) -> float:
        """Return how long the present call has lasted, in seconds; 0 between calls."""
        began_s = self._began_s
        return 0.0 if began_s is None else time.monotonic() - began_s

    @property
    def is_alive(self) -> bool:
        """Tell whether images are taken."""
        return self._thread.is_alive() and not self._is_closed

    def submit(self, images: Sequence[Scan], asked: Asked) -> "Future[list[Answered]]":
        """Put a request's images into the queue; return what will be their results.

        Raises:
            ProblemError: 503 when too many wait, or the service is about to end.
        """
        job = _Job(images, asked)
        with self._change:
            waiting = self._n_waiting()
            if self._is_closed:
                raise busy("The service is closing.", 10)
            if waiting + len(images) > self._max_waiting:
                raise busy(f"{waiting} images are waiting already.", self._image_s * (waiting + len(images)))
            self._jobs.append(job)
            self._change.notify()
        return job.future

    def _n_waiting(self) -> int:
        return sum(len(job.images) for job in self._jobs if not job.future.cancelled())

    def _run(self) -> None:
        while (batch := self._gather()) is not None:
            self._began_s = time.monotonic()
            self._work(batch)
            n_images = sum(len(job.images) for job in batch)
            self._image_s += 0.2 * ((time.monotonic() - self._began_s) / n_images - self._image_s)
            self._began_s = None
            del batch  # or its images would stay until the next one comes

    def _gather(self) -> list[_Job] | None:
        """Return the jobs of the next call, which ask for the same, in the order of their coming; None at the end."""
        with self._change:
            while True:
                if self._is_closed:
                    return None
                batch: list[_Job] = []
                size = 0
                for job in list(self._jobs):
                    fits = not batch or (job.asked == batch[0].asked and size + len(job.images) <= self._max_batch)
                    if job.future.cancelled():
                        self._jobs.remove(job)
                    elif fits:
                        self._jobs.remove(job)
                        if job.future.set_running_or_notify_cancel():
                            batch.append(job)
                            size += len(job.images)
                if batch:
                    return batch
                self._change.wait()

    def _work(self, batch: Sequence[_Job]) -> None:
        try:
            results = self._predict([image for job in batch for image in job.images], batch[0].asked)
        except Exception as error:  # of whatever kind: the thread must go on
            if len(batch) == 1:
                batch[0].future.set_exception(error)
                return
            for job in batch:
                self._work([job])
            return
        for job in batch:
            job.future.set_result(results[: len(job.images)])
            results = results[len(job.images) :]

    def _predict(self, images: list[Scan], asked: Asked) -> list[Answered]:
        results = self._model.predict(images, point=asked.point, uncertainty=asked.uncertainty, heat_map=asked.heat_map)
        if len(results) != len(images):
            raise RuntimeError(f"The model gave {len(results)} results for {len(images)} images.")
        return list(results)
