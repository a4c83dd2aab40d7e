"""The tables of a prediction, written row by row, so that a second call goes on where the first was stopped.

`predictions.csv` and a hidden `.predictions.jsonl` grow by one row a case, after the case's pictures are written: whatever stops
the program, at most one case is lost. `predict.json` says what made them; another bundle, input or option is refused.
"""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bcd.files import write_text

TABLE = "predictions.csv"
RESULTS = "predictions.json"
MADE_BY = "predict.json"
_LINES = ".predictions.jsonl"

# Text, whatever it looks like.
_TEXT = (
    *("case_id", "file", "frame", "error", "predicted_label", "point", "threshold_on"),
    *("conformal", "consistency", "uncertainty", "warnings"),
)

Key = tuple[str, str]
"""File and frame of a row; the frame is empty for a file of one."""


class Ledger:
    """The rows of one output folder.

    Rows of files that could not be read are dropped when a ledger is opened again: they may have been mended.

    Args:
        folder: made if absent.
        columns: of predictions.csv.
        made_by: what decides the rows, plain values.
        keep_broken: keep those rows all the same.

    Raises:
        ValueError: when the folder holds predictions of something else.
    """

    def __init__(self, folder: Path, columns: Sequence[str], made_by: Mapping[str, Any], keep_broken: bool = False) -> None:
        self.folder = folder
        self.columns = list(columns)
        self.made_by = dict(made_by)
        self._check()
        rows = [row for row in self.rows() if keep_broken or not row["error"]]
        told = {entry["case_id"]: entry for entry in self.entries()}
        self.done: dict[Key, str] = {(row["file"], row["frame"]): row["case_id"] for row in rows if row["case_id"] in told}
        kept = [row for row in rows if row["case_id"] in told]
        write_text(folder / TABLE, _csv(self.columns, kept, head=True))
        write_text(folder / _LINES, "".join(_line(told[row["case_id"]]) for row in kept))
        write_text(folder / MADE_BY, json.dumps(self.made_by, indent=2, ensure_ascii=False) + "\n")

    def add(self, row: Mapping[str, Any], entry: Mapping[str, Any]) -> None:
        """Add a case: its row, and what predictions.json says of it."""
        with (self.folder / _LINES).open("a", encoding="utf-8") as file:
            file.write(_line({"case_id": row["case_id"], **entry}))
        with (self.folder / TABLE).open("a", encoding="utf-8", newline="") as file:
            file.write(_csv(self.columns, [row], head=False))
        self.done[str(row["file"]), str(row["frame"])] = str(row["case_id"])

    def close(self) -> pd.DataFrame:
        """Write predictions.json; return the table."""
        return _close(self.folder, self.rows(), list(self.entries()), self.columns, self.made_by)

    def _check(self) -> None:
        path = self.folder / MADE_BY
        if not path.is_file():
            if (self.folder / TABLE).is_file():
                raise ValueError(f"{self.folder} holds predictions of unknown origin; choose another output=, or delete it.")
            return
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} cannot be read; choose another output=, or delete it.") from error
        differ = [name for name in self.made_by if before.get(name) != self.made_by[name]]
        if differ:
            raise ValueError(
                f"{self.folder} holds predictions made with another {differ[0]} ({before.get(differ[0])}, now "
                f"{self.made_by[differ[0]]}); choose another output=, or delete it."
            )

    def rows(self) -> list[dict[str, str]]:
        """Return the whole rows; one that was cut off is none."""
        path = self.folder / TABLE
        text = path.read_text(encoding="utf-8", errors="surrogateescape") if path.is_file() else ""
        cells = list(csv.reader(io.StringIO(text, newline="")))
        whole = cells[1:] if text.endswith("\n") else cells[1:-1]
        return [dict(zip(self.columns, row, strict=True)) for row in whole if len(row) == len(self.columns)]

    def entries(self) -> Iterable[dict[str, Any]]:
        """Return what predictions.json says of each case; of a case that was told twice, the last."""
        path = self.folder / _LINES
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        found: dict[str, dict[str, Any]] = {}
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # cut off; its case has no row
            found[entry["case_id"]] = entry
        return found.values()


def join(
    folder: Path, parts: Sequence[Path], columns: Sequence[str], made_by: Mapping[str, Any], order: Mapping[str, int]
) -> pd.DataFrame:
    """Write the tables of several ledgers, which are closed, as one; return it.

    Args:
        folder: for predictions.csv, predictions.json and predict.json.
        parts: the ledgers' folders.
        columns: of predictions.csv.
        made_by: what decided the rows, plain values.
        order: file -> its place among all; every file must have its rows in one of the ledgers.

    Raises:
        ValueError: when a file has no row, or rows in two ledgers; nothing is written then.
    """
    rows: list[dict[str, str]] = []
    entries: dict[str, dict[str, Any]] = {}
    part_of: dict[str, Path] = {}
    for part in parts:
        ledger = Ledger(part, columns, made_by, keep_broken=True)
        for row in ledger.rows():
            if part_of.setdefault(row["file"], part) != part:
                raise ValueError(
                    f"{row['file']} has rows in {part_of[row['file']].name} and in {part.name}; delete one of the two."
                )
            rows.append(row)
        entries |= {entry["case_id"]: entry for entry in ledger.entries()}
    missing = [file for file in order if file not in part_of]
    if missing:
        way_out = f"delete {folder / 'shards'}/*/done.json and call again"
        raise ValueError(f"{len(missing)} files have no row yet (first: {missing[0]}); {way_out}.")
    rows.sort(key=lambda row: order[row["file"]])
    write_text(folder / TABLE, _csv(columns, rows, head=True))
    write_text(folder / MADE_BY, json.dumps(dict(made_by), indent=2, ensure_ascii=False) + "\n")
    return _close(folder, rows, [entries[row["case_id"]] for row in rows], columns, made_by)


def _close(
    folder: Path, rows: list[dict[str, str]], entries: list[dict[str, Any]], columns: Sequence[str], made_by: Mapping[str, Any]
) -> pd.DataFrame:
    """Write predictions.json; return the table, its columns typed."""
    text = json.dumps({**made_by, "cases": entries}, indent=2, allow_nan=False, ensure_ascii=False)
    write_text(folder / RESULTS, text + "\n")
    table = pd.DataFrame(rows, columns=list(columns))
    return table.apply(lambda column: column if column.name in _TEXT else _values(column))


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
