"""What `input=` names: one file, those of a folder, or those that a CSV lists; each with the name that its results get."""

import csv
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bcd.data.decoding import EXTENSIONS, printable
from bcd.data.dicom_header import is_dicom

log = logging.getLogger(__name__)

COLUMNS = ("file", "path", "image")


@dataclass(frozen=True)
class Input:
    """A file to be judged.

    Attributes:
        path: where it lies.
        shown: the path as tables show it.
        case_id: of its row; None for a DICOM file, whose name is told by its content, without what names a patient.
    """

    path: Path
    shown: str
    case_id: str | None


def find_inputs(source: Path) -> list[Input]:
    """Return the files of a folder with its subfolders, those that a CSV lists, or the one file that is given.

    Case ids are file names without their ending; where two would be the same, the path below the folder. Masks that lie beside
    their image are left out. A CSV has a column `file`, `path` or `image`, paths counting from its own folder, and may have
    `case_id`.

    Raises:
        FileNotFoundError: when there is nothing to predict.
        ValueError: for a CSV without such a column, or that names a case id twice.
    """
    if source.is_file() and source.suffix.lower() == ".csv":
        return _listed(source)
    files = [source] if source.is_file() else _of_folder(source)
    return _named(files, source if source.is_dir() else source.parent)


def _of_folder(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"input={folder}: there is no such file or folder.")
    files = sorted(file for file in folder.rglob("*") if not file.name.startswith(".") and _is_image(file))
    names = {(file.parent, file.stem) for file in files}
    masks = [file for file in files if "_mask" in file.stem and (file.parent, file.stem.rpartition("_mask")[0]) in names]
    if masks:
        log.info("Left out %d masks that lie beside their image (%s, ...).", len(masks), printable(masks[0].name))
    beside = set(masks)
    images = [file for file in files if file not in beside]
    if not images:
        raise FileNotFoundError(f"input={folder} holds no image ({', '.join(EXTENSIONS)}, or DICOM).")
    return images


def _is_image(path: Path) -> bool:
    """Tell whether a file ends as pictures do, or is DICOM, whatever it ends in."""
    return path.suffix.lower() in EXTENSIONS or _holds_dicom(path)


def _holds_dicom(path: Path) -> bool:
    if not path.is_file():  # a pipe would wait for ever
        return False
    try:
        with path.open("rb") as file:
            return is_dicom(file.read(132))
    except OSError:
        return False


def _named(files: Sequence[Path], root: Path) -> list[Input]:
    pictures = [file for file in files if not _holds_dicom(file)]
    stems = Counter(file.stem for file in pictures)
    unique = len(stems) == len(pictures)
    known = set(pictures)
    return [
        Input(file, printable(file), (file.stem if unique else file.relative_to(root).with_suffix("").as_posix()))
        if file in known
        else Input(file, printable(file), None)
        for file in files
    ]


def _listed(table: Path) -> list[Input]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{table} is no CSV in UTF-8 ({error}); save it as one.") from error
    column = next((name for name in COLUMNS if name in (reader.fieldnames or ())), None)
    if column is None:
        raise ValueError(f"{table} has no column {', '.join(COLUMNS[:-1])} or {COLUMNS[-1]} that names the images.")
    paths = [table.parent / row[column] for row in rows if row[column]]
    if not paths:
        raise FileNotFoundError(f"input={table} lists no image.")
    if "case_id" not in (reader.fieldnames or ()):
        twice = [path for path, count in Counter(paths).items() if count > 1]
        if twice:
            raise ValueError(f"{table} lists {twice[0]} twice.")
        stems = Counter(path.stem for path in paths)
        return [
            Input(path, printable(path), None if _holds_dicom(path) else path.stem if stems[path.stem] == 1 else path.as_posix())
            for path in paths
        ]
    names = [row["case_id"] for row in rows if row[column]]
    twice_named = [name for name, count in Counter(names).items() if count > 1 or not name]
    if twice_named:
        raise ValueError(f"{table}: case_id {twice_named[0]!r} is empty, or stands there twice.")
    return [Input(path, printable(path), name) for path, name in zip(paths, names, strict=True)]
