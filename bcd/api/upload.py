"""From the body of a request to scans: a multipart form in memory, within limits from the first byte on."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from bcd.api.limits import BYTES_PER_PIXEL, MB, Limits, Reservation
from bcd.api.problems import ProblemError
from bcd.images.decode import ImageError
from bcd.images.dicom.header import is_dicom
from bcd.images.scan import Scan, read_scans

HOW = "Send multipart/form-data with the files in it: curl -F file=@image.png http://.../predict"
_LONGEST_LABEL = 80

# It logs bytes of what it cannot read.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)


@dataclass(frozen=True, repr=False)
class Upload:
    """A file that was sent. Its label, its name made harmless, is never a path and never logged: it may name a patient."""

    number: int
    label: str
    content: bytes

    @property
    def place(self) -> str:
        """Return what to call it where its label may not be used."""
        return f"file_{self.number + 1}"


@dataclass(frozen=True, repr=False)
class UploadedScan:
    """A scan, and the number of the file that it was in."""

    file: int
    scan: Scan


# The answer's entry of a file, or of the rest of one, that cannot be read: `file`, its number, `name`, `error` and `remedy`.
Unreadable = dict[str, Any]


async def read_uploads(request: Request, limits: Limits, reservation: Reservation) -> list[Upload]:
    """Return a request's files.

    Raises:
        ProblemError: for a body that is no multipart form (415, 400), has no file (422), or is too large (413) or too slow (408).
        ClientDisconnect: when the client goes away.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "multipart/form-data":
        raise ProblemError(415, "form", "The body is no multipart form.", HOW)
    parser = _FormParser(request.headers, _body(request, limits, reservation), max_files=limits.files, max_fields=limits.files)
    parser.spool_max_size = int(limits.request_mb * MB)  # nothing is written to the disk
    try:
        async with asyncio.timeout(limits.upload_s):
            form = await parser.parse()
    except TimeoutError as error:
        reason = f"The request did not arrive within {limits.upload_s:g} s."
        raise ProblemError(408, "time_out", reason, "Send fewer or smaller files at a time.", {"Connection": "close"}) from error
    except MultiPartException as error:
        if parser.has_too_many_files:
            reason = f"There are more than {limits.files} files in the request."
            raise ProblemError(413, "too_large", reason, "Send them in several requests.") from error
        raise ProblemError(400, "form", f"The body is no well-formed multipart form. {error.message}", HOW) from error
    try:
        if not form:
            raise ProblemError(422, "form", "There is no file in the form.", HOW)
        return [await _upload(number, part, limits) for number, (_, part) in enumerate(form.multi_items())]
    finally:
        await form.close()


class _FormParser(MultiPartParser):
    """Starlette's parser, which also refuses a form that is cut short, and knows whether there were too many files."""

    _is_whole = False

    @property
    def has_too_many_files(self) -> bool:
        return self._current_files > self.max_files

    def on_end(self) -> None:
        self._is_whole = True

    async def parse(self) -> FormData:
        form = await super().parse()
        if not self._is_whole:
            for file in self._files_to_close_on_error:
                file.close()
            raise MultiPartException("It ends before its last boundary, so it was cut short, or the boundary is another one.")
        return form


async def _body(request: Request, limits: Limits, reservation: Reservation) -> AsyncGenerator[bytes, None]:
    """Yield a body in pieces, up to the first byte too many."""
    too_large = ProblemError(
        413, "too_large", f"The request is larger than {limits.request_mb:g} MB.", "Send fewer files at a time."
    )
    length = request.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and int(length[:19]) > limits.request_mb * MB:
        raise too_large
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > limits.request_mb * MB:
            raise too_large
        reservation.hold(len(chunk))
        yield chunk


async def _upload(number: int, part: UploadFile | str, limits: Limits) -> Upload:
    if isinstance(part, str):
        error = "A field of the form is text, not a file; text is never taken for a path or an option."
        remedy = "Put @ before the file's name, as in curl -F file=@image.png; options go into the address: /predict?mask=png"
        raise ProblemError(422, "form", error, remedy)
    content = await part.read()
    if len(content) > limits.file_mb * MB:
        error = f"File {number + 1} is larger than {limits.file_mb:g} MB."
        raise ProblemError(413, "too_large", error, "Send it smaller, such as one frame of a clip, or compressed.")
    return Upload(number, label_of(part.filename or "", number), content)


def label_of(filename: str, number: int) -> str:
    """Return what a file is called in the answer: its name without folders, and of its characters those that are harmless."""
    last = filename.replace("\\", "/").rpartition("/")[2]
    kept = "".join(letter if letter.isalnum() or letter in " ._-()" else "_" for letter in last).strip(" .")
    return kept[-_LONGEST_LABEL:].strip(" .") or f"file_{number + 1}"


def read_all(uploads: Sequence[Upload], limits: Limits, reservation: Reservation) -> list[UploadedScan | Unreadable]:
    """Return the scans of files, in their order, and after a file's scans the reason where not all of it can be read.

    Raises:
        ProblemError: for more images, or more memory, than a request may take.
        ReleasedError: when the request has ended meanwhile.
    """
    read: list[UploadedScan | Unreadable] = []
    n_images = 0
    for upload in uploads:
        try:
            if not upload.content:
                raise ImageError(upload.label, "is empty", "choose the file again")
            for scan in read_scans(upload.content, upload.label, limits.pixels, upload.place):
                n_images += 1
                if n_images > limits.images:
                    error = f"The request holds more than {limits.images} images, frames of DICOM files counted."
                    raise ProblemError(413, "too_large", error, "Send them in several requests, or fewer frames.")
                reservation.hold(scan.image.size * BYTES_PER_PIXEL)
                read.append(UploadedScan(upload.number, scan))
        except ImageError as error:
            read.append(_unreadable(upload, error))
    return read


def _unreadable(upload: Upload, error: ImageError) -> Unreadable:
    # DICOM files are often called by their patient; the other names were chosen by the sender.
    name = upload.place if is_dicom(upload.content[:132]) else upload.label
    remedy = error.remedy.replace("max_pixels", "limits.pixels of the service")
    return {
        "file": upload.number,
        "name": name,
        "error": f"{name}: {error.reason}.",
        "remedy": f"{remedy[:1].upper()}{remedy[1:]}.",
    }
