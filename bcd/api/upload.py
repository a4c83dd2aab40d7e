"""A multipart body as files in memory, within bounds from the first byte on.

Starlette's own parser writes what is larger than a megabyte to the disk before anybody looks at it. This one counts as it goes,
keeps nothing on the disk, and stops at the first byte too many.
"""

import asyncio
import logging
import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from bcd.api.limits import Limits
from bcd.api.problems import ProblemError
from bcd.api.room import Stay

HOW = "Send multipart/form-data with the files in it: curl -F file=@image.png http://.../predict"
_LONGEST_LABEL = 80
# As older clients write a name that is not ASCII; the standard of forms has no such thing, but they are about.
_ENCODED_NAME = re.compile(rb";\s*filename\*=[^';]*'[^';]*'([^;]*)", re.IGNORECASE)
# Of one line before a part, which holds its file's name.
_LONGEST_LINE = 16 * 1024

# It logs bytes of what it cannot read.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)


@dataclass(frozen=True, repr=False)
class Upload:
    """A file that was sent.

    Args:
        number: from 0, in the order of sending.
        label: what its sender calls it, made harmless; never a path, never logged: it may name a patient.
        content: its bytes.
    """

    number: int
    label: str
    content: bytes


async def read_uploads(request: Request, limits: Limits, stay: Stay) -> list[Upload]:
    """Return a request's files.

    Raises:
        ProblemError: for a body that is no multipart form (415, 400), has no file (422), or is too large (413) or too slow (408).
        ClientDisconnect: when the client goes away.
    """
    receiver = _Receiver(_boundary(request), limits, stay)
    _check_length(request, limits)
    try:
        async with asyncio.timeout(limits.upload_s):
            async for chunk in request.stream():
                receiver.feed(chunk)
    except TimeoutError as error:
        reason = f"The request did not arrive within {limits.upload_s:g} s."
        raise ProblemError(408, "time_out", reason, "Send fewer or smaller files at a time.", {"Connection": "close"}) from error
    return receiver.finish()


def _boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data":
        raise ProblemError(415, "form", "The body is no multipart form.", HOW)
    if not options.get(b"boundary"):
        error = "The Content-Type names no boundary between the parts."
        raise ProblemError(400, "form", error, "Leave the Content-Type header to your client: it knows the boundary.")
    return options[b"boundary"]


def _check_length(request: Request, limits: Limits) -> None:
    length = request.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and int(length[:19]) > limits.request_bytes:
        raise _too_large_request(limits)


def _too_large_request(limits: Limits) -> ProblemError:
    return ProblemError(413, "too_large", f"The request is larger than {limits.request_mb:g} MB.", "Send fewer files at a time.")


class _Receiver:
    """Takes a body in pieces; keeps its files."""

    def __init__(self, boundary: bytes, limits: Limits, stay: Stay) -> None:
        self._limits, self._stay = limits, stay
        self._uploads: list[Upload] = []
        self._received = self._size = 0
        self._name = self._value = self._disposition = b""
        self._label = ""
        self._pieces: list[bytes] = []
        self._is_whole = False
        callbacks = {
            "on_part_begin": self._begin,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_end,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._all,
        }
        try:
            # Its TypedDict asks for literals.
            self._parser = MultipartParser(boundary, callbacks, max_header_size=_LONGEST_LINE)  # type: ignore[arg-type]
        except FormParserError as error:
            raise ProblemError(400, "form", "The boundary between the parts is too long.", "Leave it to your client.") from error

    def feed(self, chunk: bytes) -> None:
        """Take the next piece."""
        self._received += len(chunk)
        if self._received > self._limits.request_bytes:
            raise _too_large_request(self._limits)
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise ProblemError(400, "form", "The body is no well-formed multipart form.", HOW) from error

    def finish(self) -> list[Upload]:
        """Return the files of a body that has arrived."""
        if not self._is_whole:
            error = "The body ends before its last boundary: it was cut short, or the boundary is another one."
            raise ProblemError(400, "form", error, "Send it again, whole.")
        if not self._uploads:
            raise ProblemError(422, "form", "There is no file in the form.", HOW)
        return self._uploads

    def _begin(self) -> None:
        self._disposition, self._pieces, self._size = b"", [], 0

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = self._value
        self._name = self._value = b""

    def _headers_end(self) -> None:
        filename = _filename(self._disposition)
        if filename is None:
            error = "A field of the form is text, not a file; text is never taken for a path or an option."
            remedy = "Put @ before the file's name, as in curl -F file=@image.png; options go into the address: /predict?mask=png"
            raise ProblemError(422, "form", error, remedy)
        if len(self._uploads) >= self._limits.files:
            error = f"There are more than {self._limits.files} files in the request."
            raise ProblemError(413, "too_large", error, "Send them in several requests.")
        self._label = label_of(filename, len(self._uploads))

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._size += end - start
        if self._size > self._limits.file_bytes:
            error = f"File {len(self._uploads) + 1} is larger than {self._limits.file_mb:g} MB."
            raise ProblemError(413, "too_large", error, "Send it smaller, such as one frame of a clip, or compressed.")
        self._stay.hold(end - start)
        self._pieces.append(data[start:end])

    def _end(self) -> None:
        self._uploads.append(Upload(len(self._uploads), self._label, b"".join(self._pieces)))
        self._pieces = []

    def _all(self) -> None:
        self._is_whole = True


def _filename(disposition: bytes) -> str | None:
    """Return what a part calls its file; None for a part that is none."""
    _, options = parse_options_header(disposition.decode("latin-1"))
    if b"filename" in options:
        return options[b"filename"].decode("utf-8", errors="replace")
    encoded = _ENCODED_NAME.search(disposition)
    return None if encoded is None else unquote_to_bytes(encoded[1]).decode("utf-8", errors="replace")


def label_of(filename: str, number: int) -> str:
    """Return what a file is called in the answer: its name without folders, and of its characters those that are harmless."""
    last = filename.replace("\\", "/").rpartition("/")[2]
    kept = "".join(letter if letter.isalnum() or letter in " ._-()" else "_" for letter in last).strip(" .")
    return kept[-_LONGEST_LABEL:].strip(" .") or f"file_{number + 1}"
