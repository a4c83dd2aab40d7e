"""What the sources share: where a data set lies, and which of its files count."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from bcd.data.manifest import Case, natural_key
from bcd.data.problems import DataProblems, Problem, counted
from bcd.images.decode import EXTENSIONS, printable

logger = logging.getLogger(__name__)

_LISTED = 20
_NOT_DATA = {"thumbs.db", "desktop.ini", "__macosx"}


class DataNotFound(FileNotFoundError):  # noqa: N818  (says what it is)
    """A data set is not where it was looked for; the message says how to get it and where to put it."""


def data_root(root: str | Path) -> Path:
    """Return a data folder absolute and without `..`, so that it is clear what lies in it."""
    return Path(os.path.normpath(Path(root).expanduser().absolute()))


def nested_root(root: str | Path, wanted: Sequence[str]) -> Path:
    """Return the folder that holds all of `wanted`: `root`, or the one folder in it that does; else `root` itself.

    Archives often unpack into a folder of their own (`Dataset_BUSI_with_GT`).
    """
    given = data_root(root)
    if _holds(given, wanted) or not given.is_dir():
        return given
    nested = [folder for folder in given.iterdir() if is_folder(folder) and _holds(folder, wanted)]
    return nested[0] if len(nested) == 1 else given


def require(root: Path, wanted: Sequence[str], how_to_get: str) -> None:
    """Refuse, by a DataNotFound that names what is missing and how to get it, a folder that is absent or lacks what is wanted."""
    if not root.is_dir():
        raise DataNotFound(f"{root}: there is no such folder. {how_to_get}")
    missing = [name for name in wanted if not (root / name).exists()]
    if missing:
        raise DataNotFound(f"{root}: holds no {', no '.join(missing)}. {how_to_get}")


def visible(folder: Path, problems: list[Problem]) -> list[Path]:
    """Return a folder's entries in natural order, without what operating systems leave behind.

    Where the folder cannot be read, `problems` gets one and there are no entries.
    """
    try:
        entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    except OSError as error:
        problems.append(Problem("", folder, f"cannot be read ({error.strerror})", "allow reading it, or remove it"))
        return []
    return sorted((entry for entry in entries if entry.name.lower() not in _NOT_DATA), key=lambda entry: natural_key(entry.name))


def is_folder(path: Path) -> bool:
    """Return whether a path is a folder; one that cannot be looked at is none."""
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises for what may not be looked at


def is_picture(path: Path) -> bool:
    """Tell by its ending whether something is meant to be an image or mask; what it is in truth, reading it tells."""
    return path.suffix.lower() in EXTENSIONS


def checked(root: Path, cases: Sequence[Case], problems: Sequence[Problem], others: Sequence[Path]) -> list[Case]:
    """Return the cases sorted by id; log the files that are no part of the data set, so that nobody believes they were used.

    Raises:
        DataProblems: if there is any problem.
    """
    ordered = sorted(cases, key=lambda case: natural_key(case.case_id))
    if others:
        names = [printable(other.relative_to(root).as_posix()) for other in others[:_LISTED]]
        more = [f"... and {len(others) - _LISTED} more"] if len(others) > _LISTED else []
        logger.warning("%s: %d other files are not used: %s", root, len(others), ", ".join([*names, *more]))
    if problems:
        raise DataProblems(f"{root}: {counted(problems)}.", problems, ordered)
    return ordered


def _holds(folder: Path, wanted: Sequence[str]) -> bool:
    return all(os.path.exists(folder / name) for name in wanted)  # noqa: PTH110 - as for is_folder
