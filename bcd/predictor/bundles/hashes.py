"""The files of a bundle: their limits, and SHA-256 digests that detect changes.

The digests guard against damage and against a file that was swapped by mistake. Anybody who can write to the folder can write new
digests too: to know who made a bundle, compare its `fingerprint` with the one that its maker published.
"""

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from bcd.files import write_text
from bcd.images.decode import printable

HASHES = "hashes.json"
MAX_TEXT_BYTES = 4 << 20
MAX_FILES = 10_000


class BundleError(ValueError):
    """A bundle cannot be used; the message says why, and what to do."""


def seal(folder: Path) -> str:
    """Write the digests of all files of a bundle; return its fingerprint. Call it again after adding a file."""
    text = _text_of({name: _file_digest(folder / name) for name in file_names(folder) if name != HASHES})
    write_text(folder / HASHES, text)
    return hashlib.sha256(text.encode()).hexdigest()


def fingerprint(folder: Path) -> str:
    """Return what identifies this bundle, 64 hexadecimal digits: the digest of its digests."""
    return hashlib.sha256(_read(folder, HASHES, MAX_TEXT_BYTES)).hexdigest()


def read_hashes(folder: Path) -> dict[str, str]:
    """Return the digest of each file.

    Raises:
        BundleError: when they are absent, or not as `seal` writes them, to the last byte.
    """
    content = _read(folder, HASHES, MAX_TEXT_BYTES)
    try:
        digests = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{folder / HASHES} is damaged; get the bundle again.") from error
    is_whole = isinstance(digests, dict) and all(isinstance(digest, str) for digest in digests.values())
    if not is_whole or _text_of(digests).encode() != content:
        raise BundleError(f"{folder / HASHES} was changed or damaged; get the bundle again.")
    return digests


def read_sealed(folder: Path, name: str, digests: Mapping[str, str], most: int = MAX_TEXT_BYTES) -> bytes:
    """Return the content of a file, `name` with forward slashes, of at most `most` bytes, whose digest is right.

    Raises:
        BundleError: when it is absent, was changed, is too large, or is no plain file in the folder.
    """
    content = _read(folder, name, most)
    if name not in digests:
        raise BundleError(f"{folder}: {name} is not listed in {HASHES}; get the bundle again.")
    if hashlib.sha256(content).hexdigest() != digests[name]:
        raise BundleError(f"{folder}: {name} was changed or damaged: its SHA-256 is not that in {HASHES}; get the bundle again.")
    return content


def differences(folder: Path) -> list[str]:
    """Return one sentence for each changed file of a bundle; nothing if all are unchanged.

    Raises:
        BundleError: when its digests cannot be read, or it holds anything but plain files and folders.
    """
    digests, files = read_hashes(folder), set(file_names(folder)) - {HASHES}
    changed = [name for name in sorted(files & set(digests)) if _file_digest(folder / name) != digests[name]]
    return [
        *(f"{name} is missing." for name in sorted(set(digests) - files)),
        *(f"{name} does not belong to the bundle." for name in sorted(files - set(digests))),
        *(f"{name} was changed." for name in changed),
    ]


def file_names(folder: Path) -> list[str]:
    """Return the files below a folder, with forward slashes, sorted.

    Raises:
        BundleError: for links, pipes and devices, or more files than any bundle has.
    """
    names = []
    for parent, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            path = Path(parent, name)
            mode = path.lstat().st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                raise BundleError(f"{printable(path)} is a link, pipe or device; a bundle holds plain files alone.")
            if stat.S_ISREG(mode):
                names.append(path.relative_to(folder).as_posix())
            if len(names) > MAX_FILES:
                raise BundleError(f"{folder} holds more than {MAX_FILES} files, which no bundle has.")
    return sorted(names)


def _read(folder: Path, name: str, most: int) -> bytes:
    path = folder
    for part in name.split("/"):
        if part in ("", ".", "..") or "\\" in part or "\0" in part:
            raise BundleError(f"{folder}: {printable(name)!r} is no name of a file in a bundle.")
        path = path / part
        try:
            status = path.lstat()
        except OSError as error:
            raise BundleError(f"{folder} has no {printable(name)}: it is no bundle, or a damaged one.") from error
        if stat.S_ISLNK(status.st_mode):
            raise BundleError(f"{printable(path)} is a link; a bundle holds plain files alone.")
    if not stat.S_ISREG(status.st_mode):
        raise BundleError(f"{printable(path)} is no plain file.")
    if status.st_size > most:
        raise BundleError(f"{printable(path)} has {status.st_size} bytes; no bundle's has more than {most}.")
    return path.read_bytes()


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _text_of(digests: Mapping[str, str]) -> str:
    return json.dumps(digests, indent=2, sort_keys=True) + "\n"
