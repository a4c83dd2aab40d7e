"""Atomic writing: files and folders are built under a temporary name and renamed into place."""

import glob
import logging
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

logger = logging.getLogger(__name__)

_DAY_S = 24 * 3600


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all; a reader, or a second writer, never sees a partial file."""
    # surrogateescape: a file name that is not UTF-8 comes back as the bytes it had.
    write_bytes(path, text.encode("utf-8", errors="surrogateescape"))


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write a file whole or not at all, on the disk before its name is: a power cut leaves no partial file.

    Raises:
        OSError: when it cannot be written, a full disk among the reasons; what was there before is still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    aside = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.chmod(0o644)  # mkstemp makes files that colleagues cannot read
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def _sync(folder: Path) -> None:
    """Bring a folder's own entries to the disk."""
    if os.name == "nt":
        return  # folders cannot be opened there
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def build_folder(folder: Path, build: Callable[[Path], None], is_whole: Callable[[Path], bool]) -> None:
    """Make sure that `folder` is there and whole; build it aside and rename it where it is not.

    Two processes may do this at once: the first to finish wins, the other discards its own and uses the winner's. One
    that is killed leaves a temporary sibling, which a later call removes.

    Args:
        folder: where the result goes.
        build: fills the empty folder that it is given.
        is_whole: returns whether a folder holds a finished, undamaged result.

    Raises:
        OSError: when the result can be built but not put into place.
    """
    if is_whole(folder):
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(folder)
    # Before building, which takes long, and not after: by then another run may have put a good one there.
    _discard_damaged(folder, is_whole)
    aside = _sibling(folder)
    try:
        build(aside)
        _put_into_place(aside, folder, is_whole)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _put_into_place(aside: Path, folder: Path, is_whole: Callable[[Path], bool]) -> None:
    for _ in range(3):  # another process may put its own there between two of our steps
        try:
            aside.rename(folder)
        except OSError:  # something is there
            if is_whole(folder):
                logger.info("%s was finished by another run meanwhile; using that one.", folder)
                return
            _discard_damaged(folder, is_whole)
        else:
            return
    raise OSError(f"{folder} could not be replaced; close what uses it, delete it, and start again.")


def _discard_damaged(folder: Path, is_whole: Callable[[Path], bool]) -> None:
    if not folder.exists() or is_whole(folder):
        return
    logger.warning("%s is unfinished, damaged or outdated; making it again.", folder)
    grave = _sibling(folder)
    try:
        folder.rename(grave / folder.name)  # one atomic step; deleting in place would show others half a folder
    except FileNotFoundError:
        pass  # another run did it first
    finally:
        shutil.rmtree(grave, ignore_errors=True)


def _sibling(folder: Path) -> Path:
    aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f"{_prefix(folder)}{os.getpid()}."))
    aside.chmod(0o755)  # mkdtemp makes folders that colleagues cannot read
    return aside


def _prefix(folder: Path) -> str:
    return f".{folder.name}.{socket.gethostname()}."


def _remove_leftovers(folder: Path) -> None:
    for leftover in folder.parent.glob(f".{glob.escape(folder.name)}.*.*.*"):
        if _is_abandoned(leftover, _prefix(folder)):
            logger.info("Removing %s, which a run that was killed left behind.", leftover)
            shutil.rmtree(leftover, ignore_errors=True)


def _is_abandoned(leftover: Path, local_prefix: str) -> bool:
    try:
        age_s = time.time() - max(path.stat().st_mtime for path in (leftover, *leftover.iterdir()))
    except OSError:
        return False  # it went away while we looked
    start, process, _ = leftover.name.rsplit(".", 2)
    return age_s > _DAY_S or (f"{start}." == local_prefix and process.isdigit() and not _is_running(int(process)))


def _is_running(process: int) -> bool:
    if os.name == "nt":
        return True  # os.kill would end the process there instead of asking for it
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it runs, as another user
    return True
