"""From a request with files to the answer: read, decode, predict, write, each within its limits."""

import asyncio
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from fastapi import Request, Response
from starlette.requests import ClientDisconnect

from bcd.api.answers import Health, entry
from bcd.api.limits import Limits, MemoryBudget, Reservation
from bcd.api.metrics import Metrics
from bcd.api.model_worker import ModelWorker
from bcd.api.options import RequestOptions
from bcd.api.problems import ProblemError, busy
from bcd.api.upload import Unreadable, Upload, UploadedScan, read_all, read_uploads
from bcd.images.scan import Scan
from bcd.predictor.predictor import Predictor
from bcd.predictor.result import Result

Value = TypeVar("Value")

# A call of the model that lasts so many times a request's time is not coming back.
_STUCK = 5


class Service:
    """The model, its queue, and what holds the two together; so many `decoders`, threads, read files and write answers."""

    def __init__(self, model: Predictor, limits: Limits, decoders: int) -> None:
        self.model, self.limits = model, limits
        self.worker = ModelWorker(model, limits.waiting, limits.batch)
        self.memory = MemoryBudget(limits.memory_mb)
        self.requests = 0  # that have arrived and are worked on
        self.metrics = Metrics(lambda: self.worker.waiting, lambda: self.memory.held)
        self._threads = ThreadPoolExecutor(decoders, thread_name_prefix="files")

    def close(self) -> None:
        """End the threads."""
        self.worker.close()
        self._threads.shutdown(cancel_futures=True)

    def health(self) -> Health:
        """Return whether images are taken."""
        is_stuck = self.worker.running_s > _STUCK * self.limits.request_s
        return Health(live=True, ready=not is_stuck, waiting=self.worker.waiting)

    async def predict(self, request: Request, options: RequestOptions) -> Response:
        """Answer a request with files.

        Raises:
            ProblemError: where it cannot be answered.
        """
        self._refuse_too_many()  # before anything of it arrives
        with self.memory.reservation() as reservation:
            try:
                async with asyncio.timeout(self.limits.request_s):
                    uploads = await read_uploads(request, self.limits, reservation)
                    self._refuse_too_many()
                    # It counts from now on, or those who send byte by byte would keep everybody else out.
                    self.requests += 1
                    try:
                        return await self._answer(uploads, request, options, reservation)
                    finally:
                        self.requests -= 1
            except TimeoutError as error:
                reason = f"There was no answer within {self.limits.request_s:g} s."
                remedy = "Send fewer images at a time, leave uncertainty and heat map out, or try again later."
                raise ProblemError(504, "time_out", reason, remedy) from error

    def _refuse_too_many(self) -> None:
        if self.requests >= self.limits.requests:
            raise busy(f"{self.requests} requests are in progress; there is no room for more.", self.worker.wait_s)

    async def _answer(
        self, uploads: Sequence[Upload], request: Request, options: RequestOptions, reservation: Reservation
    ) -> Response:
        read = await self._in_thread(read_all, uploads, self.limits, reservation)
        scans = [one.scan for one in read if isinstance(one, UploadedScan)]
        unreadable = [one for one in read if not isinstance(one, UploadedScan)]
        self.metrics.images.labels("unreadable").inc(len(unreadable))
        if not scans:
            raise _nothing_readable(unreadable, len(uploads))
        results = await self._predicted(scans, options, request)
        self.metrics.images.labels("predicted").inc(len(scans))
        content = await self._in_thread(self._written, read, results, options, reservation)
        return Response(content, media_type="application/json")

    async def _in_thread(self, work: Callable[..., Value], *arguments: Any) -> Value:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    async def _predicted(self, scans: Sequence[Scan], options: RequestOptions, request: Request) -> list[Result]:
        """Return the model's results; give up when the client does."""

        async def disconnected() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass

        results, gone = asyncio.create_task(self.worker.predict(scans, options)), asyncio.create_task(disconnected())
        try:
            await asyncio.wait((results, gone), return_when=asyncio.FIRST_COMPLETED)
            if not results.done():
                raise ClientDisconnect
            return results.result()
        finally:
            results.cancel()
            gone.cancel()

    def _written(
        self,
        read: Sequence[UploadedScan | Unreadable],
        results: Sequence[Result],
        options: RequestOptions,
        reservation: Reservation,
    ) -> bytes:
        remaining = iter(results)
        entries = [
            entry(one, next(remaining), options.mask, options.probability_map, reservation.hold)
            if isinstance(one, UploadedScan)
            else one
            for one in read
        ]
        bundle = self.model.bundle
        model = {"name": bundle.name, "fingerprint": bundle.fingerprint}
        answer = {"model": model, "research_use_only": True, "results": entries}
        return json.dumps(answer, ensure_ascii=False, allow_nan=False).encode()


def _nothing_readable(unreadable: Sequence[Unreadable], n_files: int) -> ProblemError:
    if n_files == 1:
        return ProblemError(422, "unreadable", unreadable[0]["error"], unreadable[0]["remedy"])
    error, remedy = f"None of the {n_files} files can be read.", "Each has its reason under results."
    return ProblemError(422, "unreadable", error, remedy, beside={"results": list(unreadable)})
