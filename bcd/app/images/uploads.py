"""From uploaded files to scans: what cannot be read, or is too much, becomes an error message."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from bcd.images.decode import ImageError, printable
from bcd.images.scan import Scan, read_scans

log = logging.getLogger(__name__)

MAX_SCANS = 60
"""At once, because the page keeps each and its maps in memory."""
MAX_TOTAL_PIXELS = 96 * 1024 * 1024
FORMATS = "PNG, JPEG, BMP, TIFF, WebP or DICOM"


@dataclass(frozen=True)
class Upload:
    """A file as the browser sent it; its key is unlike that of any other file."""

    key: str
    name: str
    content: bytes


@dataclass(frozen=True)
class FileContent:
    """What a file holds: scans in the order of the frames, and problems in sentences."""

    scans: tuple[Scan, ...]
    problems: tuple[str, ...] = ()


def read_upload(upload: Upload, max_pixels: int, most: int = MAX_SCANS) -> FileContent:
    """Return the scans of a file, at most so many, and what was wrong, in sentences; nothing is raised.

    A frame of more than `max_pixels` is refused before it is decoded.
    """
    scans: list[Scan] = []
    problems = []
    try:
        frames = read_scans(upload.content, upload.name, max_pixels, "An upload")
        scans.extend(islice(frames, most))
        if next(frames, None) is not None:
            problems.append(
                f"{printable(upload.name)}: it has more frames than are read at once; these are the first {len(scans)}."
            )
    except ImageError as error:
        problems.append(str(error))
    except Exception as error:
        # A stranger's file must not bring the page down. The kind of the error alone is logged: its text may quote the file.
        log.error("A file could not be read: %s", type(error).__name__)
        problems.append(f"{printable(upload.name)}: cannot be read, for an unforeseen reason; save it as PNG and try again.")
    return FileContent(tuple(scans), tuple(problems))


def within_limits(files: Sequence[tuple[str, FileContent]]) -> tuple[list[tuple[str, Scan]], list[str]]:
    """Return the scans of files that are shown together, each with a key, and what was wrong, in sentences."""
    kept: list[tuple[str, Scan]] = []
    problems = [problem for _, one in files for problem in one.problems]
    scans = [(f"{key}/{number}", scan) for key, one in files for number, scan in enumerate(one.scans)]
    pixels = 0
    for key, scan in scans:
        pixels += scan.image.size
        if len(kept) == MAX_SCANS or pixels > MAX_TOTAL_PIXELS:
            left = len(scans) - len(kept)
            problems.append(f"These are too many to keep at once: the last {left} of {len(scans)} images are left out; take fewer.")
            break
        kept.append((key, scan))
    return kept, problems


def distinct_names(scans: Sequence[Scan]) -> list[str]:
    """Return the scans' names, with a number behind those that are there already: rows and files need names of their own."""
    names: list[str] = []
    for scan in scans:
        name, number = scan.name, 2
        while name in names:
            name, number = f"{scan.name}_{number}", number + 1
        names.append(name)
    return names
