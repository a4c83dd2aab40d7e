"""Your own images with a table: CSV or Parquet, one row per image."""

import csv
import io
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PureWindowsPath
from typing import Annotated

from pydantic import Field

from bcd.config.errors import hint
from bcd.data.manifest import Case
from bcd.data.problems import Problem
from bcd.data.sources.layout import checked, data_root, require
from bcd.images.decode import open_file

logger = logging.getLogger(__name__)

_NEEDED = ("case_id", "image")
_KNOWN = (*_NEEDED, "mask", "label", "patient")
_MISSING = ("", "NA", "N/A", "NaN", "null", "unknown", "?")

# A column this like one that is absent is not taken for mere metadata: a patient_id that is overlooked leaks.
_SURELY_MEANT = 0.8
_SHOWN = 200  # characters of a cell in a message

Row = dict[str, str | list[str]]


class Table:
    """A table that names each image, and what is known about it; columns beyond the five become metadata.

    Paths are relative to the table's folder or to `root`, and must stay inside `root`; a link in there may point elsewhere.

    Args:
        root: the data folder.
        file: the table, relative to `root`; `.parquet` is read as Parquet, all else as CSV in UTF-8.
        columns: how the table calls case_id, image, mask, label and patient, where it calls them otherwise; None for
            one that is not to be used. The last three may be absent under their own names.
        delimiter: between the cells of a CSV.
        mask_delimiter: between several masks in one cell.
        missing: cells that mean unknown, in any case; empty ones always do.
        name: the data set's name, in folders and reports.

    Raises:
        ValueError: for a key in `columns` that is none of the five.
    """

    synthetic = False
    how_to_get = (
        "Write a CSV with the columns case_id, image and, where you know them, mask, label and patient into your data folder, "
        "and name the folder with data.root=/path/to/it."
    )

    def __init__(
        self,
        root: str | Path,
        file: str = "cases.csv",
        columns: Mapping[str, str | None] | None = None,
        delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ",",
        mask_delimiter: Annotated[str, Field(min_length=1)] = ";",
        missing: Sequence[str] = _MISSING,
        name: str = "table",
    ) -> None:
        given = dict(columns or {})
        if unknown := [key for key in given if key not in _KNOWN]:
            raise ValueError(f"columns: {unknown[0]!r} is none of {', '.join(_KNOWN)}{hint(unknown[0], _KNOWN) or '.'}")
        self.name = name
        self.root = data_root(root)
        self.file, self.table = file, self.root / file
        self.columns = {key: given.get(key, key) for key in _KNOWN}
        self.delimiter, self.mask_delimiter = delimiter, mask_delimiter
        self.missing = {cell.strip().lower() for cell in missing} | {""}

    def cases(self) -> list[Case]:
        """Return every case, sorted by case id.

        Raises:
            DataNotFound: when there is no such table.
            ValueError: for a missing column, or a table that cannot be read.
            DataProblems: for rows without an id or an image, or with a file that is missing or outside `root`.
        """
        require(self.root, [self.file], self.how_to_get)
        problems: list[Problem] = []
        is_parquet = self.table.suffix.lower() == ".parquet"
        names, rows = _read_parquet(self.table) if is_parquet else _read_csv(self.table, self.delimiter, problems)
        used = self._used_columns(names)
        of_rows = [self._case(row, used, number, problems) for number, row in rows.items()]
        cases = checked(self.table, [case for case in of_rows if case is not None], problems, [])
        # A `diagnosis` may be meant for the label.
        absent = [key for key in _KNOWN if key not in used and self.columns[key] is not None]
        free = [name for name in names if name not in used.values()]
        if absent and free:
            remedy = "is one of them meant? Then say data.source.columns.<column>=<its name>"
            logger.info("%s: no column for %s; %s kept as metadata; %s.", self.table, ", ".join(absent), ", ".join(free), remedy)
        return cases

    def _case(self, row: Row, used: Mapping[str, str], number: int, problems: list[Problem]) -> Case | None:
        """Return the case of a row, as far as there is one, and add what is wrong with the row."""
        case_id = _text(row[used["case_id"]])
        images, wrong = self._paths(row[used["image"]], None)
        masks, wrong_masks = self._paths(row[used["mask"]], self.mask_delimiter) if "mask" in used else ([], [])
        wrong += wrong_masks
        if not case_id:
            wrong.append(("the case id is empty", "give every row one"))
        if not (images or wrong):
            wrong.append(("the image is empty", "name one or remove the row"))
        problems += [Problem(case_id, self.table, f"row {number}: {reason}", remedy) for reason, remedy in wrong]
        if not (case_id and images):
            return None
        metadata = {name: _text(cell) for name, cell in row.items() if name not in used.values()}
        return Case(
            case_id=case_id,
            image=images[0],
            masks=tuple(masks),
            label=self._known(row[used["label"]]) if "label" in used else None,
            patient=self._known(row[used["patient"]]) if "patient" in used else None,
            metadata={name: text for name, text in metadata.items() if text.lower() not in self.missing},
        )

    def _known(self, cell: str | list[str]) -> str | None:
        text = _text(cell)
        return None if text.lower() in self.missing else text

    def _paths(self, cell: str | list[str], delimiter: str | None) -> tuple[list[Path], list[tuple[str, str]]]:
        """Return the files that a cell names, and reason and remedy for those that are not to be had."""
        parts = [cell] if isinstance(cell, str) else cell
        if delimiter is not None and isinstance(cell, str):
            parts = cell.split(delimiter)
        files = [self._locate(part.strip()) for part in parts if part.strip().lower() not in self.missing]
        return [file for file in files if isinstance(file, Path)], [file for file in files if not isinstance(file, Path)]

    def _locate(self, part: str) -> Path | tuple[str, str]:
        """Return a file that a row names, or reason and remedy; nothing outside the data folder is looked at."""
        # Windows writes a backslash. normpath, not resolve(), so that links to a store elsewhere stay usable.
        spellings = dict.fromkeys([part, part.replace("\\", "/")])
        places = [Path(os.path.normpath(base / spelling)) for spelling in spellings for base in (self.table.parent, self.root)]
        inside = [place for place in places if place.is_relative_to(self.root)]
        # lexists, not is_file: of a folder or a broken link, reading says what is wrong.
        there = next((place for place in inside if os.path.lexists(place)), None)
        excerpt = part if len(part) <= _SHOWN else f"{part[:_SHOWN]}..."
        if there is not None:
            return there
        if not {places[-1], places[-2]} & set(inside) or PureWindowsPath(part).drive:
            remedy = "copy it inside, link to it from there, or set data.root to a folder around both"
            return f"{excerpt} lies outside the data folder {self.root}", remedy
        return f"{excerpt} is missing below {self.root}", "copy it there or correct the row"

    def _used_columns(self, names: Sequence[str]) -> dict[str, str]:
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"{self.table}: two columns are called {twice[0]!r}; rename one.")
        used = {key: name for key, name in self.columns.items() if name is not None}
        absent = [key for key, name in used.items() if name not in names and (key in _NEEDED or name != key)]
        absent += [key for key in _NEEDED if key not in used]
        if absent:
            wanted = self.columns[absent[0]]
            there = ", ".join(map(repr, names)) or "none"
            remedy = hint(str(wanted), names) or "."
            if len(names) == 1 and any(sign in names[0] for sign in ",;\t|"):
                remedy = f"; is {self.delimiter!r} the right delimiter?"
            raise ValueError(f"{self.table}: there is no column {wanted!r} for {absent[0]}, only {there}{remedy}")
        for key in (key for key, name in used.items() if name not in names):
            free = [name for name in names if name not in used.values()]
            if near := hint(key, free, cutoff=_SURELY_MEANT):
                raise ValueError(
                    f"{self.table}: there is no column {key!r}{near} Then say data.source.columns.{key}=<its name>, else "
                    f"data.source.columns.{key}=null."
                )
        return {key: name for key, name in used.items() if name in names}


def _read_csv(table: Path, delimiter: str, problems: list[Problem]) -> tuple[list[str], dict[int, Row]]:
    """Return the columns, and the rows by number, counted from 1 below the header; a row that does not fit it is a problem."""
    try:
        with open_file(table) as file:
            text = file.read().decode("utf-8-sig")
        lines = [line for line in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if any(map(str.strip, line))]
    except UnicodeDecodeError as error:
        raise ValueError(f"{table} is not UTF-8 ({error.reason}); save it as 'CSV UTF-8'.") from error
    except csv.Error as error:
        raise ValueError(f"{table} cannot be read as CSV ({error}); save it again.") from error
    names = [name.strip() for name in lines[0]] if lines else []
    rows: dict[int, Row] = {}
    for number, line in enumerate(lines[1:], 1):
        if len(line) == len(names):
            rows[number] = dict(zip(names, line, strict=True))
        else:
            reason = f"row {number}: {len(line)} cells, the header has {len(names)}"
            remedy = f"fill what is missing, or quote cells that hold {delimiter!r}"
            problems.append(Problem("", table, reason, remedy))
    return names, rows


def _read_parquet(table: Path) -> tuple[list[str], dict[int, Row]]:
    import pyarrow.parquet as parquet  # half a second that tables in CSV need not pay

    with open_file(table) as file:
        try:
            content = parquet.read_table(file)
        except (ValueError, OSError, RuntimeError) as error:  # pyarrow's own are of these
            raise ValueError(f"{table} cannot be read as Parquet ({error}); save it again.") from error
    rows = content.to_pylist()

    def cell(value: object) -> str | list[str]:
        if isinstance(value, list):
            return [str(item) for item in value]
        return "" if value is None or value != value else str(value)

    return content.column_names, {number: {name: cell(value) for name, value in row.items()} for number, row in enumerate(rows, 1)}


def _text(cell: str | list[str]) -> str:
    return cell.strip() if isinstance(cell, str) else ";".join(cell)
