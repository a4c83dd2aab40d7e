"""Fetching shards and their tables: from a folder, over HTTP, or from any store that fsspec supports."""

import hashlib
import os
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import AbstractContextManager
from http.client import HTTPException
from pathlib import Path
from typing import Any, cast

from bcd.data.shards.index import ShardError, Stamp

_CHUNK = 1 << 20
_TIMEOUT_S = 60
_ATTEMPTS = 3
_FAILURES = (OSError, HTTPException, ImportError, ValueError)


def is_url(root: str) -> bool:
    """Return whether shards lie behind a URL, not in a folder."""
    return "://" in root


def locate(root: str, name: str) -> str:
    """Return where a file of a sharded data set lies."""
    return f"{root.rstrip('/')}/{name}" if is_url(root) else str(Path(root) / name)


def read_text(root: str, name: str) -> str:
    """Return a small file.

    Raises:
        FileNotFoundError: when it cannot be had.
    """
    try:
        with _open(root, name) as file:
            return str(file.read().decode("utf-8"))
    except _FAILURES as error:
        raise FileNotFoundError(f"{locate(root, name)} cannot be read ({_reason(error)}).") from error


def fetch(root: str, name: str, path: Path, stamp: Stamp) -> None:
    """Copy a file to `path`, whole and checked, or not at all; a network that fails is tried three times.

    Raises:
        ShardError: when it cannot be had, or is not what the index says.
    """
    descriptor, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            copied = _copy(root, name, file, stamp.bytes)
        if copied != stamp:
            how = f"{copied.bytes} bytes of {stamp.bytes}" if copied.bytes != stamp.bytes else "another SHA-256"
            raise ShardError(f"{locate(root, name)} is not what the index beside it says ({how}); put the whole file there again.")
        Path(aside).chmod(0o644)
        Path(aside).replace(path)
    finally:
        Path(aside).unlink(missing_ok=True)


def _copy(root: str, name: str, file: Any, wanted: int) -> Stamp:
    """Write what lies there into an open file; return its stamp."""
    for attempt in range(1, _ATTEMPTS + 1):
        file.seek(0)
        file.truncate()
        digest = hashlib.sha256()
        try:
            with _open(root, name) as source:
                while chunk := source.read(_CHUNK):
                    file.write(chunk)
                    digest.update(chunk)
            # A connection that breaks off may look like the end of the file.
            if file.tell() >= wanted or attempt == _ATTEMPTS or not is_url(root):
                return Stamp(bytes=file.tell(), sha256=digest.hexdigest())
        except _FAILURES as error:
            # What is not there, or needs a package, will not come by waiting; a network may.
            lasting = isinstance(error, FileNotFoundError | ImportError | ValueError) or getattr(error, "code", 500) < 500
            if lasting or attempt == _ATTEMPTS:
                remedy = "put it there, or correct data.root" if lasting else "try again later: what is here already is kept"
                raise ShardError(f"{locate(root, name)} cannot be fetched ({_reason(error)}); {remedy}.") from error
        time.sleep(attempt)
    raise AssertionError("the last attempt returns or raises")


def _open(root: str, name: str) -> AbstractContextManager[Any]:
    place = locate(root, name)
    if not is_url(root):
        return Path(place).open("rb")
    if place.startswith(("http://", "https://")):
        # The standard library's, which lives through the fork of a loading process; fsspec's does not.
        return cast("AbstractContextManager[Any]", urllib.request.urlopen(place, timeout=_TIMEOUT_S))
    import fsspec  # late: few need it; it comes with Lightning, and asks by name for what a scheme needs besides (s3fs, gcsfs)

    return cast("AbstractContextManager[Any]", fsspec.open(place, "rb", skip_instance_cache=True))


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.URLError) and not isinstance(error, urllib.error.HTTPError):
        return str(error.reason)
    return str(error) or type(error).__name__
