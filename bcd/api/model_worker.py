"""One thread for the model, with a first-in, first-out queue of limited length."""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from bcd.api.problems import busy
from bcd.images.scan import Scan
from bcd.predictor.options import PredictOptions
from bcd.predictor.predictor import Predictor
from bcd.predictor.result import Result

_FIRST_GUESS_S = 0.5


class ModelWorker:
    """Runs the model for one request at a time.

    A call of the model cannot be stopped. When a request ends before its call does, nobody waits for the result, and the next
    call still begins after it.

    Args:
        model: the predictor.
        max_waiting: images that may wait; more are refused.
        batch: images of a request in one call; then the next request in the queue has its turn.
    """

    def __init__(self, model: Predictor, max_waiting: int, batch: int) -> None:
        self._model, self._max_waiting, self._batch = model, max_waiting, batch
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._turn = asyncio.Lock()
        self._began_s: float | None = None
        self._image_s = _FIRST_GUESS_S
        self.waiting = 0

    @property
    def wait_s(self) -> float:
        """Return about how long a new image would wait, in seconds."""
        return self._image_s * (self.waiting + 1)

    @property
    def running_s(self) -> float:
        """Return how long the present call has lasted, in seconds; 0 between calls."""
        return 0.0 if self._began_s is None else time.monotonic() - self._began_s

    async def predict(self, scans: Sequence[Scan], options: PredictOptions) -> list[Result]:
        """Return the results of a request's images; if it is cancelled, those that still wait leave the queue.

        Raises:
            ProblemError: 503 when too many images wait.
        """
        if self.waiting + len(scans) > self._max_waiting:
            raise busy(f"{self.waiting} images are waiting already.", self._image_s * (self.waiting + len(scans)))
        waiting = len(scans)
        self.waiting += waiting
        results: list[Result] = []
        try:
            for start in range(0, len(scans), self._batch):
                batch = scans[start : start + self._batch]
                await self._turn.acquire()
                waiting -= len(batch)
                self.waiting -= len(batch)
                results += await self._call(batch, options)
        finally:
            self.waiting -= waiting
        return results

    async def _call(self, scans: Sequence[Scan], options: PredictOptions) -> list[Result]:
        """Return the results of one call; the turn ends with the call, not with the request."""
        began_s = self._began_s = time.monotonic()
        call = asyncio.get_running_loop().run_in_executor(self._thread, self._model.predict, scans, options)

        def ended(call: "asyncio.Future[list[Result]]") -> None:
            self._image_s += 0.2 * ((time.monotonic() - began_s) / len(scans) - self._image_s)
            self._began_s = None
            self._turn.release()
            if not call.cancelled():
                call.exception()  # asyncio would log one that no request takes, and it may quote what was sent

        call.add_done_callback(ended)
        await asyncio.wait([call])
        return call.result()

    def close(self) -> None:
        """End the thread, after the call that is running."""
        self._thread.shutdown(cancel_futures=True)
