"""What the sources share: where a data set lies, which files count, and errors that list every broken file."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from bcd.data.images import EXTENSIONS
from bcd.data.manifest import Case, natural_key

logger = logging.getLogger(__name__)

_LISTED = 20
_NOT_DATA = {"thumbs.db", "desktop.ini", "__macosx"}


class DataNotFound(FileNotFoundError):  # noqa: N818  (says what it is)
    """A data set is not where it was looked for; the message says how to get it and where to put it."""


def nested_root(root: str | Path, wanted: Sequence[str]) -> Path:
    """Return the folder that holds all of `wanted`: `root`, or the one folder in it that does; else `root` itself.

    Archives often unpack into a folder of their own (`Dataset_BUSI_with_GT`).
    """
    given = Path(root).expanduser().absolute()
    if _holds(given, wanted) or not given.is_dir():
        return given
    nested = [folder for folder in given.iterdir() if folder.is_dir() and _holds(folder, wanted)]
    return nested[0] if len(nested) == 1 else given


def require(root: Path, wanted: Sequence[str], how_to_get: str) -> None:
    """Refuse a folder that is absent or lacks what is wanted.

    Raises:
        DataNotFound: naming what was looked for and how to get it.
    """
    if not root.is_dir():
        raise DataNotFound(f"{root}: there is no such folder. {how_to_get}")
    missing = [name for name in wanted if not (root / name).exists()]
    if missing:
        raise DataNotFound(f"{root}: holds no {', no '.join(missing)}. {how_to_get}")


def visible(folder: Path) -> list[Path]:
    """Return a folder's entries in natural order, without what operating systems leave behind."""
    entries = (entry for entry in folder.iterdir() if not entry.name.startswith(".") and entry.name.lower() not in _NOT_DATA)
    return sorted(entries, key=lambda entry: natural_key(entry.name))


def is_picture(path: Path) -> bool:
    """Tell by its extension whether a file is meant to be an image or mask."""
    return path.suffix.lower() in EXTENSIONS and path.is_file()


def warn_of_others(root: Path, others: Sequence[Path]) -> None:
    """Log the files that are no part of the data set, so that nobody believes they were used."""
    if others:
        names = listed([other.relative_to(root).as_posix() for other in others])
        logger.warning("%s: %d other files are not used: %s", root, len(others), names)


def refuse_broken(root: Path, problems: Sequence[str]) -> None:
    """Raise one error for all problems.

    Raises:
        ValueError: if there is any.
    """
    if problems:
        raise ValueError(f"{root}: {len(problems)} problems.\n" + listed(problems, "\n"))


def refuse_duplicates(root: Path, cases: Iterable[Case]) -> None:
    """Refuse two cases of one id, naming their images.

    Raises:
        ValueError: if there are any.
    """
    images: dict[str, list[str]] = {}
    for case in cases:
        images.setdefault(case.case_id, []).append(case.image.name)
    twice = {case_id: names for case_id, names in images.items() if len(names) > 1}
    refuse_broken(
        root,
        [f"case id {case_id!r} stands for {' and '.join(names)}; make ids unique." for case_id, names in twice.items()],
    )


def listed(items: Sequence[str], separator: str = ", ") -> str:
    """Return the first items, and how many more there are."""
    more = [f"... and {len(items) - _LISTED} more"] if len(items) > _LISTED else []
    return separator.join([*items[:_LISTED], *more])


def _holds(folder: Path, wanted: Sequence[str]) -> bool:
    return all((folder / name).exists() for name in wanted)
