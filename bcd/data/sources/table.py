"""Your own images with a table: CSV or Parquet, one row per image."""

import csv
import os
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from bcd.data.manifest import Case, natural_key
from bcd.data.sources.layout import refuse_broken, refuse_duplicates, require

_NEEDED = ("case_id", "image")
_KNOWN = (*_NEEDED, "mask", "label", "patient")
_MISSING = ("", "NA", "N/A", "NaN", "null", "unknown", "?")

Row = dict[str, str | list[str]]


class Table:
    """A table that names each image, and what is known about it; columns beyond the five become metadata.

    Paths are relative to the table's folder or to `root`, and must stay inside `root`.

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
        delimiter: str = ",",
        mask_delimiter: str = ";",
        missing: Sequence[str] = _MISSING,
        name: str = "table",
    ) -> None:
        given = dict(columns or {})
        if unknown := [key for key in given if key not in _KNOWN]:
            raise ValueError(f"columns: {unknown[0]!r} is none of {', '.join(_KNOWN)}{_nearest(unknown[0], _KNOWN)}.")
        self.name = name
        self.root = Path(root).expanduser().absolute()
        self.file, self.table = file, self.root / file
        self.columns = {key: given.get(key, key) for key in _KNOWN}
        self.delimiter, self.mask_delimiter = delimiter, mask_delimiter
        self.missing = {cell.strip().lower() for cell in missing} | {""}

    def cases(self) -> list[Case]:
        """Return every case, sorted by case id.

        Raises:
            DataNotFound: when there is no such table.
            ValueError: for a missing column, a duplicate or empty id, or a file that is missing or outside `root`.
        """
        require(self.root, [self.file], self.how_to_get)
        is_parquet = self.table.suffix.lower() == ".parquet"
        names, rows = _read_parquet(self.table) if is_parquet else _read_csv(self.table, self.delimiter)
        used = self._used_columns(names)
        problems: list[str] = []
        cases = [self._case(row, used, f"{self.table.name}, row {number}", problems) for number, row in enumerate(rows, 1)]
        refuse_broken(self.table, problems)
        refuse_duplicates(self.table, cases)
        return sorted(cases, key=lambda case: natural_key(case.case_id))

    def _case(self, row: Row, used: Mapping[str, str], where: str, problems: list[str]) -> Case:
        case_id = _text(row[used["case_id"]])
        if not case_id:
            problems.append(f"{where}: the case id is empty; give every row one.")
        where = f"{where} ({case_id})"
        images = self._paths(row[used["image"]], None, where, problems)
        if not images:
            problems.append(f"{where}: the image is empty; name one or remove the row.")
        metadata = {name: _text(cell) for name, cell in row.items() if name not in used.values()}
        return Case(
            case_id=case_id,
            image=images[0] if images else self.root,
            masks=tuple(self._paths(row[used["mask"]], self.mask_delimiter, where, problems)) if "mask" in used else (),
            label=self._known(row[used["label"]]) if "label" in used else None,
            patient=self._known(row[used["patient"]]) if "patient" in used else None,
            metadata={name: text for name, text in metadata.items() if text.lower() not in self.missing},
        )

    def _known(self, cell: str | list[str]) -> str | None:
        text = _text(cell)
        return None if text.lower() in self.missing else text

    def _paths(self, cell: str | list[str], delimiter: str | None, where: str, problems: list[str]) -> list[Path]:
        parts = [cell] if isinstance(cell, str) else cell
        if delimiter is not None and isinstance(cell, str):
            parts = cell.split(delimiter)
        given = [part.strip() for part in parts if part.strip().lower() not in self.missing]
        paths = []
        for part in given:
            try:
                paths.append(self._locate(part))
            except ValueError as error:
                problems.append(f"{where}: {error}")
        return paths

    def _locate(self, part: str) -> Path:
        # Windows writes a backslash. normpath, not resolve(), so that links to a store elsewhere stay usable.
        spellings = dict.fromkeys([part, part.replace("\\", "/")])
        places = [Path(os.path.normpath(base / spelling)) for spelling in spellings for base in (self.table.parent, self.root)]
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            raise ValueError(f"{part} is missing, looked for {places[-1]}; copy it there or correct the row.")
        if not found.is_relative_to(self.root):
            way_out = "copy it inside, or set data.root to a folder around both"
            raise ValueError(f"{part} lies outside the data folder {self.root}; {way_out}.")
        return found

    def _used_columns(self, names: Sequence[str]) -> dict[str, str]:
        used = {key: name for key, name in self.columns.items() if name is not None}
        absent = [key for key, name in used.items() if name not in names and (key in _NEEDED or name != key)]
        absent += [key for key in _NEEDED if key not in used]
        if absent:
            wanted = self.columns[absent[0]]
            hint = _nearest(str(wanted), names)
            if len(names) == 1 and any(sign in names[0] for sign in ",;\t|"):
                hint = f"; is {self.delimiter!r} the right delimiter?"
            there = ", ".join(map(repr, names))
            raise ValueError(f"{self.table}: there is no column {wanted!r} for {absent[0]}, only {there}{hint}.")
        return {key: name for key, name in used.items() if name in names}


def _read_csv(table: Path, delimiter: str) -> tuple[list[str], list[Row]]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            lines = [line for line in csv.reader(file, delimiter=delimiter) if any(cell.strip() for cell in line)]
    except UnicodeDecodeError as error:
        raise ValueError(f"{table} is not UTF-8 ({error.reason}); save it as 'CSV UTF-8'.") from error
    names = [name.strip() for name in lines[0]] if lines else []
    problems = [f"two columns are called {name!r}; rename one." for name in sorted(set(names)) if names.count(name) > 1]
    for number, line in enumerate(lines[1:], 1):
        if len(line) != len(names):
            counts = f"{len(line)} cells, the header has {len(names)}"
            problems.append(f"row {number}: {counts}; quote cells that hold {delimiter!r}.")
    refuse_broken(table, problems)
    return names, [dict(zip(names, line, strict=True)) for line in lines[1:]]


def _read_parquet(table: Path) -> tuple[list[str], list[Row]]:
    import pyarrow.parquet as parquet  # half a second that tables in CSV need not pay

    content = parquet.read_table(table)
    return content.column_names, [{name: _cell(value) for name, value in row.items()} for row in content.to_pylist()]


def _cell(value: object) -> str | list[str]:
    if isinstance(value, list):
        return [str(item) for item in value]
    return "" if value is None or value != value else str(value)


def _text(cell: str | list[str]) -> str:
    return cell.strip() if isinstance(cell, str) else ";".join(cell)


def _nearest(name: str, names: Sequence[str]) -> str:
    close = get_close_matches(name, names, n=1) or [other for other in names if other.lower() == name.lower()]
    return f"; did you mean {close[0]!r}?" if close else ""
