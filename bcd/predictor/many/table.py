"""The tables of a prediction, written row by row, so that a second call goes on where the first was stopped.

`predictions.csv` and a hidden `.predictions.jsonl` grow by one row a case, after the case's pictures are written: whatever stops
the program, at most one case is lost. `predict.json` says what made them; another bundle, input or option is refused.
"""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bcd.files import write_text

if TYPE_CHECKING:
    import pandas as pd

TABLE = "predictions.csv"
RESULTS = "predictions.json"
MADE_BY = "predict.json"
_LINES = ".predictions.jsonl"

# Text, whatever it looks like.
_TEXT = (
    *("case_id", "file", "frame", "error", "predicted_label", "point", "threshold_on"),
    *("conformal", "consistency", "uncertainty", "warnings"),
)

Row = dict[str, str]
Entry = dict[str, Any]
"""What predictions.json says of a case."""


class ResultTable:
    """The rows of one output folder; those of files that could not be read are dropped: they may have been mended.

    Args:
        folder: made if absent.
        columns: of predictions.csv.
        made_by: what decides the rows, plain values.

    Attributes:
        done: case id of each row, by file and frame; the frame is empty for a file of one.

    Raises:
        ValueError: when the folder holds predictions of something else.
    """

    def __init__(self, folder: Path, columns: Sequence[str], made_by: Mapping[str, Any]) -> None:
        check_origin(folder, made_by)
        self.folder = folder
        self.columns = list(columns)
        self.made_by = dict(made_by)
        rows, entries = read_rows(folder, columns), read_entries(folder)
        rows = [row for row in rows if not row["error"] and row["case_id"] in entries]
        self.done = {(row["file"], row["frame"]): row["case_id"] for row in rows}
        write_text(folder / TABLE, _csv(self.columns, rows, head=True))
        write_text(folder / _LINES, "".join(_line(entries[row["case_id"]]) for row in rows))
        _write_json(folder / MADE_BY, self.made_by)

    def add(self, row: Mapping[str, Any], entry: Mapping[str, Any]) -> None:
        """Add a case: its row, and what predictions.json says of it."""
        with (self.folder / _LINES).open("a", encoding="utf-8") as file:
            file.write(_line({"case_id": row["case_id"], **entry}))
        with (self.folder / TABLE).open("a", encoding="utf-8", newline="") as file:
            file.write(_csv(self.columns, [row], head=False))
        self.done[str(row["file"]), str(row["frame"])] = str(row["case_id"])

    def close(self) -> list[Row]:
        """Write predictions.json; return the rows."""
        _write_json(self.folder / RESULTS, {**self.made_by, "cases": list(read_entries(self.folder).values())})
        return read_rows(self.folder, self.columns)


def check_origin(folder: Path, made_by: Mapping[str, Any]) -> None:
    """Refuse a folder that holds predictions of something else.

    Raises:
        ValueError: saying what differs.
    """
    path = folder / MADE_BY
    if not path.is_file():
        if (folder / TABLE).is_file():
            raise ValueError(f"{folder} holds predictions of unknown origin; choose another output=, or delete it.")
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} cannot be read; choose another output=, or delete it.") from error
    for name, value in made_by.items():
        if before.get(name) != value:
            raise ValueError(
                f"{folder} holds predictions made with another {name} ({before.get(name)}, now {value}); choose another output=, "
                "or delete it."
            )


def read_rows(folder: Path, columns: Sequence[str]) -> list[Row]:
    """Return the whole rows of predictions.csv; one that was cut off is none."""
    path = folder / TABLE
    text = path.read_text(encoding="utf-8", errors="surrogateescape") if path.is_file() else ""
    cells = list(csv.reader(io.StringIO(text, newline="")))
    whole = cells[1:] if text.endswith("\n") else cells[1:-1]
    return [dict(zip(columns, row, strict=True)) for row in whole if len(row) == len(columns)]


def read_entries(folder: Path) -> dict[str, Entry]:
    """Return what predictions.json is to say of each case; of a case that stands there twice, the last."""
    path = folder / _LINES
    entries: dict[str, Entry] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # cut off; its case has no row
        entries[entry["case_id"]] = entry
    return entries


def join(
    folder: Path, parts: Sequence[Path], columns: Sequence[str], made_by: Mapping[str, Any], files: Sequence[str]
) -> list[Row]:
    """Write the tables of several folders as one; return its rows.

    Args:
        folder: for predictions.csv, predictions.json and predict.json.
        parts: the folders.
        columns: of predictions.csv.
        made_by: what decided the rows, plain values.
        files: all files, in the order that their rows get.

    Raises:
        ValueError: when a file has no row; nothing is written then.
    """
    order = {file: place for place, file in enumerate(files)}
    rows = sorted((row for part in parts for row in read_rows(part, columns)), key=lambda row: order[row["file"]])
    missing = sorted(order.keys() - {row["file"] for row in rows}, key=order.__getitem__)
    if missing:
        raise ValueError(
            f"{len(missing)} files have no row (the first: {missing[0]}); delete {RESULTS} in each folder below {parts[0].parent}, "
            "and give the same command again."
        )
    entries = {name: entry for part in parts for name, entry in read_entries(part).items()}
    write_text(folder / TABLE, _csv(columns, rows, head=True))
    _write_json(folder / MADE_BY, made_by)
    _write_json(folder / RESULTS, {**made_by, "cases": [entries[row["case_id"]] for row in rows]})
    return rows


def typed(rows: Sequence[Row], columns: Sequence[str]) -> "pd.DataFrame":
    """Return rows as a table, its columns typed."""
    import pandas as pd  # late: the command writes its tables without it

    table = pd.DataFrame(rows, columns=list(columns))
    return table.apply(lambda column: column if column.name in _TEXT else _values(column))


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(dict(content), indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def _csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]], head: bool) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    if head:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _line(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry, allow_nan=False) + "\n"


def _values(column: "pd.Series[str]") -> "pd.Series[Any]":
    """Return truth values, or numbers, an empty cell as NaN; Python's own conversion is exact."""
    if {"True", "False"} & set(column):
        return column.map({"True": True, "False": False})
    return column.map(lambda text: float(text) if text else float("nan"))
