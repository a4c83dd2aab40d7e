"""Fetching shards and their tables: from a folder, over HTTP, or from whatever store fsspec knows."""

import hashlib
import os
import shutil
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import AbstractContextManager
from http.client import HTTPException
from pathlib import Path
from typing import Any

from bcd.data.shards.index import ShardError, Stamp

_CHUNK = 1 << 20
_TIMEOUT_S = 60
_ATTEMPTS = 3


def is_url(root: str) -> bool:
    """Tell whether shards lie behind a URL, not in a folder."""
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
        with _opened(root, name) as file:
            return str(file.read().decode("utf-8"))
    except (OSError, HTTPException, ImportError, ValueError) as error:
        raise FileNotFoundError(f"{locate(root, name)} cannot be read ({_told(error)}).") from error


def fetch(root: str, name: str, path: Path, stamp: Stamp) -> None:
    """Copy a file to `path`, whole and checked, or not at all; a network that fails is tried three times.

    Raises:
        ShardError: when it cannot be had, or is not what the index says.
    """
    descriptor, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            found = _copied(root, name, file, stamp.bytes)
        if found != stamp:
            how = f"{found.bytes} bytes of {stamp.bytes}" if found.bytes != stamp.bytes else "another SHA-256"
            raise ShardError(f"{locate(root, name)} is not what the index beside it says ({how}); put the whole file there again.")
        Path(aside).chmod(0o644)
        Path(aside).replace(path)
    finally:
        Path(aside).unlink(missing_ok=True)


def _copied(root: str, name: str, file: Any, wanted: int) -> Stamp:
    for attempt in range(1, _ATTEMPTS + 1):
        file.seek(0)
        file.truncate()
        digest = hashlib.sha256()
        try:
            with _opened(root, name) as source:
                while chunk := source.read(_CHUNK):
                    file.write(chunk)
                    digest.update(chunk)
            # A connection that breaks off may look like the end of the file.
            if file.tell() >= wanted or attempt == _ATTEMPTS or not is_url(root):
                return Stamp(file.tell(), digest.hexdigest())
        except (OSError, HTTPException, ImportError, ValueError) as error:
            # What is not there, or needs a package, will not come by waiting; a network may.
            lasting = isinstance(error, FileNotFoundError | ImportError | ValueError) or getattr(error, "code", 500) < 500
            if lasting or attempt == _ATTEMPTS:
                remedy = "put it there, or correct data.root" if lasting else "try again later: what is here already is kept"
                raise ShardError(f"{locate(root, name)} cannot be fetched ({_told(error)}); {remedy}.") from error
        time.sleep(attempt)
    raise AssertionError("the last attempt returns or raises")


def _opened(root: str, name: str) -> AbstractContextManager[Any]:
    place = locate(root, name)
    if not is_url(root):
        return Path(place).open("rb")
    if place.startswith(("http://", "https://")):
        # The standard library's, which lives through the fork of a loading process; fsspec's does not.
        response: AbstractContextManager[Any] = urllib.request.urlopen(place, timeout=_TIMEOUT_S)
        return response
    import fsspec  # comes with Lightning; what the scheme needs besides (s3fs, gcsfs) it asks for by name

    opened: AbstractContextManager[Any] = fsspec.open(place, "rb", skip_instance_cache=True)
    return opened


def _told(error: Exception) -> str:
    if isinstance(error, urllib.error.URLError) and not isinstance(error, urllib.error.HTTPError):
        return str(error.reason)
    return str(error) or type(error).__name__


def copy_tables(root: str, tables: dict[str, Stamp], folder: Path) -> None:
    """Copy tables into a folder, each checked.

    Raises:
        ShardError: when one cannot be had, or is not what the index says.
    """
    free = shutil.disk_usage(folder).free
    needed = sum(stamp.bytes for stamp in tables.values())
    if needed > free:
        raise ShardError(f"The tables of {root} take {needed / 1e6:.0f} MB, and {folder} has room for {free / 1e6:.0f}; make room.")
    for name, stamp in tables.items():
        fetch(root, name, folder / name, stamp)
