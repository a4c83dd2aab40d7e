"""From files that were sent to scans that a model can judge; what cannot be read becomes an entry of the answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bcd.api.limits import BYTES_PER_PIXEL, Limits
from bcd.api.problems import ProblemError
from bcd.api.room import Stay
from bcd.api.upload import Upload
from bcd.images.decode import ImageError
from bcd.images.dicom.header import is_dicom
from bcd.images.scan import Scan, read_scans


@dataclass(frozen=True, repr=False)
class Readable:
    """A scan of a file.

    Args:
        file: number of the file, from 0.
        scan: what was in it.
    """

    file: int
    scan: Scan


@dataclass(frozen=True, repr=False)
class Unreadable:
    """A file, or the rest of one, that cannot be read.

    Args:
        file: number of the file, from 0.
        name: what to call it.
        error: what is wrong, a sentence.
        remedy: what to do about it, a sentence.
    """

    file: int
    name: str
    error: str
    remedy: str

    def to_dict(self) -> dict[str, Any]:
        """Return the entry of the answer."""
        return {"file": self.file, "name": self.name, "error": self.error, "remedy": self.remedy}


def read_all(uploads: Sequence[Upload], limits: Limits, stay: Stay) -> list[Readable | Unreadable]:
    """Return the scans of files, in their order, and after a file's scans the reason where not all of it can be read.

    Raises:
        ProblemError: for more images, or more memory, than a request may take.
        GoneError: when the request has left meanwhile.
    """
    read: list[Readable | Unreadable] = []
    n_images = 0
    for upload in uploads:
        try:
            if not upload.content:
                raise ImageError(upload.label, "is empty", "choose the file again")
            for scan in read_scans(upload.content, upload.label, limits.pixels, _place(upload)):
                n_images += 1
                if n_images > limits.images:
                    error = f"The request holds more than {limits.images} images, frames of DICOM files counted."
                    raise ProblemError(413, "too_large", error, "Send them in several requests, or fewer frames.")
                stay.hold(scan.image.size * BYTES_PER_PIXEL)
                read.append(Readable(upload.number, scan))
        except ImageError as error:
            read.append(_unreadable(upload, error))
    return read


def _place(upload: Upload) -> str:
    return f"file_{upload.number + 1}"


def _unreadable(upload: Upload, error: ImageError) -> Unreadable:
    # DICOM files are often called by their patient; the other names were chosen by whoever sent them.
    name = _place(upload) if is_dicom(upload.content[:132]) else upload.label
    remedy = error.remedy.replace("max_pixels", "limits.pixels of the service")
    remedy = remedy[:1].upper() + remedy[1:]
    return Unreadable(upload.number, name, f"{name}: {error.reason}.", f"{remedy}.")
