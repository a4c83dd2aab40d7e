"""What `input=` names: one file, those of a folder, or those that a CSV lists; each with the name that its results get."""

import csv
import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import count
from pathlib import Path

from bcd.images.decode import EXTENSIONS, ImageError, printable
from bcd.images.dicom.header import (
    DICOM_EXTENSIONS,
    is_dicom,
    printable_name,
    read_header,
    safe_name,
    stem_of,
    text_of,
    without_words_of,
)

log = logging.getLogger(__name__)

COLUMNS = ("file", "path", "image")


@dataclass(frozen=True)
class Input:
    """A file to be predicted.

    Attributes:
        path: of the file.
        shown: the path as tables show it, without what names a patient.
        case_id: of its row, unique; each of several frames has `_frame_003` behind it.
    """

    path: Path
    shown: str
    case_id: str


def find_inputs(source: Path) -> list[Input]:
    """Return the files of a folder with its subfolders, those that a CSV lists, or the one file that is given.

    Case ids are file names without their ending; where two pictures would have the same, all have the path below the folder, with
    the ending where it is needed. Those of DICOM files are without what names a patient, with a number behind one that another file
    has. Masks that lie beside their image are left out, and so are links to folders. A CSV has a column `file`,
    `path` or `image`, paths counting from its own folder, and may have `case_id`.

    Raises:
        FileNotFoundError: when there is nothing to predict.
        ValueError: for a CSV without such a column, or that names a file or a case id twice, or none.
    """
    if source.is_file() and source.suffix.lower() == ".csv":
        return _listed(source)
    files = [source] if source.is_file() else _of_folder(source)
    return _named(files, source if source.is_dir() else source.parent)


def shown_path(path: Path) -> str:
    """Return a path as tables may show it: of a DICOM file without what names its patient, and then with a mark of its own."""
    return _dicom_names(path)[0] if _holds_dicom(path) else printable(path)


def _dicom_names(path: Path) -> tuple[str, str]:
    """Return the path of a DICOM file as tables may show it, and a name for its row."""
    number = None
    try:
        with path.open("rb") as file:
            try:
                header, pixels = read_header(file, path)
                shown = printable_name(path, header, file, pixels)
                name = safe_name(path, header)
                number = text_of(header, "SOPInstanceUID", shown)
            except ImageError:  # its reason is given when the file is predicted
                shown = name = without_words_of(str(path), file)
    except OSError:  # likewise
        return printable(path), printable(stem_of(path))
    stem, file_name = stem_of(shown), Path(shown).name
    name = name if name.startswith(stem) else stem  # where the header breaks off, more is hidden
    if shown == str(path):
        return printable(shown), printable(name)
    mark = sha256(f"{number}\0{path.absolute()}".encode(errors="surrogateescape")).hexdigest()[:8]
    return printable(Path(shown).with_name(f"{stem}_{mark}{file_name.removeprefix(stem)}")), printable(name)


def _of_folder(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"input={folder}: there is no such file or folder.")

    def log_unreadable(error: OSError) -> None:
        log.warning("%s cannot be read (%s); what lies in it is left out.", printable(error.filename), error.strerror)

    # Links to folders are not followed, or one could lead in a circle.
    walked = os.walk(folder, onerror=log_unreadable)
    paths = (Path(place, name) for place, folders, files in walked for name in (*folders, *files))
    endings = EXTENSIONS + DICOM_EXTENSIONS
    files = sorted(
        path for path in paths if not path.name.startswith(".") and (path.suffix.lower() in endings or _holds_dicom(path))
    )
    names = {(file.parent, file.stem) for file in files}
    masks = [file for file in files if "_mask" in file.stem and (file.parent, file.stem.rpartition("_mask")[0]) in names]
    if masks:
        log.info("Left out %d masks that lie beside their image (%s, ...).", len(masks), printable(masks[0].name))
    images = sorted(set(files).difference(masks))
    if not images:
        raise FileNotFoundError(f"input={folder} holds no image ({', '.join(EXTENSIONS)}, or DICOM).")
    return images


def _holds_dicom(path: Path) -> bool:
    try:
        if not path.is_file():  # a pipe would wait forever
            return False
        with path.open("rb") as file:
            return is_dicom(file.read(132))
    except OSError:
        return False


def _named(files: Sequence[Path], root: Path) -> list[Input]:
    dicom = {file: _dicom_names(file) for file in files if _holds_dicom(file)}
    names = _names([file for file in files if file not in dicom], root)
    taken = set(names.values())
    # Names that several frames would share with a picture; empty for what is called otherwise.
    frames = {name.rpartition("_frame_")[0] for name in taken}
    for file, (_, wanted) in dicom.items():
        likes = (wanted if number == 1 else f"{wanted}_{number}" for number in count(1))
        names[file] = next(name for name in likes if not {name, name.rpartition("_frame_")[0]} & taken and name not in frames)
        taken.add(names[file])
        frames.add(names[file].rpartition("_frame_")[0])
    return [Input(file, dicom[file][0] if file in dicom else printable(file), names[file]) for file in files]


def _names(pictures: Sequence[Path], root: Path) -> dict[Path, str]:
    """Return a name of its own for each picture, the shortest kind that differs for all."""
    inside = [Path(os.path.relpath(picture, root)) for picture in pictures]
    bare = Counter(path.with_suffix("") for path in inside)
    kinds = (
        [picture.stem for picture in pictures],
        [(path if bare[path.with_suffix("")] > 1 else path.with_suffix("")).as_posix() for path in inside],
        [path.as_posix() for path in inside],
    )
    return dict(zip(pictures, next((kind for kind in kinds if len(set(kind)) == len(kind)), kinds[-1]), strict=True))


def _listed(table: Path) -> list[Input]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or ()
            rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{table} is no CSV in UTF-8 ({error}); save it as one.") from error
    column = next((name for name in COLUMNS if name in columns), None)
    if column is None:
        raise ValueError(f"{table} has no column {', '.join(COLUMNS[:-1])} or {COLUMNS[-1]} that names the images.")
    if not rows:
        raise FileNotFoundError(f"input={table} lists no image.")
    nameless = [number for number, row in enumerate(rows, start=1) if not row[column]]
    if nameless:
        raise ValueError(f"{table}: row {nameless[0]} names no {column}; fill it in, or delete the row.")
    paths = [table.parent / row[column] for row in rows]
    twice = [path for path, n in Counter(paths).items() if n > 1]
    if twice:
        raise ValueError(f"{table} lists {printable(twice[0])} twice.")
    if "case_id" not in columns:
        return _named(paths, table.parent)
    names = [row["case_id"] for row in rows]
    twice_named = [name for name, n in Counter(names).items() if n > 1 or not name]
    if twice_named:
        raise ValueError(f"{table}: case_id {twice_named[0]!r} is empty, or stands there twice.")
    return [Input(path, shown_path(path), name) for path, name in zip(paths, names, strict=True)]
