"""From a request with files to the answer: read, decode, judge, write, each within its bounds."""

import asyncio
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from fastapi import Request, Response
from starlette.requests import ClientDisconnect

from bcd.api.answers import entry
from bcd.api.batcher import Answered, Asked, Batcher, Model
from bcd.api.limits import Limits
from bcd.api.metrics import Metrics
from bcd.api.options import Options
from bcd.api.problems import ProblemError
from bcd.api.reading import Readable, Unreadable, read_all
from bcd.api.room import Room, Stay
from bcd.api.schema import Health
from bcd.api.upload import Upload, read_uploads
from bcd.images.scan import Scan

Value = TypeVar("Value")

# A call of the model that lasts so many times a request's time is not coming back.
_STUCK = 5


class Service:
    """The model, its queue, and what holds the two together.

    Args:
        model: the predictor.
        limits: what is put up with.
        decoders: threads that read files and write answers.
    """

    def __init__(self, model: Model, limits: Limits, decoders: int) -> None:
        self.model, self.limits = model, limits
        self.batcher = Batcher(model, limits.waiting, limits.batch)
        self.room = Room(limits.requests, limits.memory_bytes)
        self.metrics = Metrics(lambda: self.batcher.waiting, lambda: self.room.held)
        self._threads = ThreadPoolExecutor(decoders, thread_name_prefix="files")

    def close(self) -> None:
        """End the threads."""
        self.batcher.close()
        self._threads.shutdown(cancel_futures=True)

    def health(self) -> Health:
        """Return whether images are taken."""
        is_stuck = self.batcher.running_s > _STUCK * self.limits.request_s
        return Health(live=True, ready=self.batcher.is_alive and not is_stuck, waiting=self.batcher.waiting)

    async def predict(self, request: Request, options: Options) -> Response:
        """Answer a request with files.

        Raises:
            ProblemError: where it cannot be answered.
        """
        self.room.check(self.batcher.wait_s)  # before anything of it arrives
        with self.room.enter() as stay:
            try:
                async with asyncio.timeout(self.limits.request_s):
                    return await self._answer(request, options, stay)
            except TimeoutError as error:
                reason = f"There was no answer within {self.limits.request_s:g} s."
                remedy = "Send fewer images at a time, leave uncertainty and heat map out, or come again later."
                raise ProblemError(504, "time_out", reason, remedy) from error

    async def _answer(self, request: Request, options: Options, stay: Stay) -> Response:
        uploads = await read_uploads(request, self.limits, stay)
        # Only now, or those who send byte by byte would keep every seat.
        with self.room.sit(self.batcher.wait_s):
            return await self._worked_on(uploads, request, options, stay)

    async def _worked_on(self, uploads: Sequence[Upload], request: Request, options: Options, stay: Stay) -> Response:
        read = await self._in_thread(read_all, uploads, self.limits, stay)
        readable = [one for one in read if isinstance(one, Readable)]
        self.metrics.images.labels("unreadable").inc(len(read) - len(readable))
        if not readable:
            raise _nothing_readable([one for one in read if isinstance(one, Unreadable)], len(uploads))
        results = await self._judged([one.scan for one in readable], options.asked, request)
        self.metrics.images.labels("predicted").inc(len(readable))
        content = await self._in_thread(self._written, read, results, options, stay)
        return Response(content, media_type="application/json")

    async def _in_thread(self, work: Callable[..., Value], *arguments: Any) -> Value:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    async def _judged(self, scans: Sequence[Scan], asked: Asked, request: Request) -> list[Answered]:
        """Return the model's results; give up when the client does."""
        results = asyncio.wrap_future(self.batcher.submit(scans, asked))
        gone = asyncio.ensure_future(_disconnected(request))
        either: list[asyncio.Future[Any]] = [results, gone]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not results.done():
                raise ClientDisconnect
            return results.result()
        finally:
            results.cancel()
            gone.cancel()

    def _written(self, read: Sequence[Readable | Unreadable], results: Sequence[Answered], options: Options, stay: Stay) -> bytes:
        remaining = iter(results)
        entries = [
            one.to_dict()
            if isinstance(one, Unreadable)
            else entry(one, next(remaining), options.mask, options.probability_map, stay.hold)
            for one in read
        ]
        bundle = self.model.bundle
        answer = {
            "model": {"name": bundle.name, "fingerprint": bundle.fingerprint},
            "research_use_only": True,
            "results": entries,
        }
        return json.dumps(answer, ensure_ascii=False, allow_nan=False).encode()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _nothing_readable(refused: Sequence[Unreadable], n_files: int) -> ProblemError:
    if n_files == 1:
        return ProblemError(422, "unreadable", refused[0].error, refused[0].remedy)
    error = f"None of the {n_files} files can be read."
    beside = {"results": [one.to_dict() for one in refused]}
    return ProblemError(422, "unreadable", error, "Each has its reason under results.", beside=beside)
