"""The tables of a prediction, written row by row, so that a second call continues where the first was stopped.

`predictions.csv` and a hidden `.predictions.jsonl`, which holds all values of the tables, grow by one case after the case's
pictures are written: if the program is stopped, at most one case is lost. `predict.json` records their origin; another bundle,
input or option is refused.
"""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bcd.files import write_text

TABLE = "predictions.csv"
RESULTS = "predictions.json"
MADE_BY = "predict.json"
_LINES = ".predictions.jsonl"

Row = dict[str, Any]
Line = dict[str, Row]
"""A case: its `row` of predictions.csv, and its `entry` of predictions.json."""


class ResultTable:
    """The tables of one output folder; rows of files that could not be read are dropped: the files may have been repaired.

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
        _check_origin(folder, made_by)
        self.folder, self.columns, self.made_by = folder, columns, made_by
        lines = [line for line in _read_lines(folder) if not line["row"]["error"]]
        self.done = {(line["row"]["file"], line["row"]["frame"]): line["row"]["case_id"] for line in lines}
        _write_json(folder / MADE_BY, made_by)  # first: a table without it is of unknown origin
        write_text(folder / TABLE, _csv(columns, lines, head=True))
        write_text(folder / _LINES, "".join(f"{json.dumps(line)}\n" for line in lines))

    def add(self, row: Row, entry: Row) -> None:
        """Add a case: its row, and what predictions.json says of it."""
        line = {"row": row, "entry": {"case_id": row["case_id"], **entry}}
        with (self.folder / _LINES).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")
        with (self.folder / TABLE).open("a", encoding="utf-8", newline="") as file:
            file.write(_csv(self.columns, [line], head=False))
        self.done[row["file"], row["frame"]] = row["case_id"]

    def close(self) -> list[Row]:
        """Write predictions.json; return the rows."""
        lines = _read_lines(self.folder)
        _write_json(self.folder / RESULTS, {**self.made_by, "cases": [line["entry"] for line in lines]})
        return [line["row"] for line in lines]


def join(
    folder: Path, parts: Sequence[Path], columns: Sequence[str], made_by: Mapping[str, Any], files: Sequence[str]
) -> list[Row]:
    """Write the tables of several folders, `parts`, as one; return its rows in the order of the files.

    Raises:
        ValueError: when a file has no row; nothing is written then.
    """
    order = {file: place for place, file in enumerate(files)}
    lines = sorted((line for part in parts for line in _read_lines(part)), key=lambda line: order[line["row"]["file"]])
    missing = sorted(order.keys() - {line["row"]["file"] for line in lines}, key=order.__getitem__)
    if missing:
        raise ValueError(
            f"{len(missing)} files have no row (the first: {missing[0]}); delete {RESULTS} in each folder below {parts[0].parent}, "
            "and give the same command again."
        )
    _write_json(folder / MADE_BY, made_by)
    write_text(folder / TABLE, _csv(columns, lines, head=True))
    _write_json(folder / RESULTS, {**made_by, "cases": [line["entry"] for line in lines]})
    return [line["row"] for line in lines]


def _check_origin(folder: Path, made_by: Mapping[str, Any]) -> None:
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


def _read_lines(folder: Path) -> list[Line]:
    """Return the cases that were written whole."""
    path = folder / _LINES
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    whole = (line for line in text.splitlines(keepends=True) if line.endswith("\n"))
    return [line for line in map(json.loads, whole) if "row" in line]  # earlier versions had the entry alone


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(dict(content), indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def _csv(columns: Sequence[str], lines: Iterable[Line], head: bool) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    if head:
        writer.writeheader()
    writer.writerows(line["row"] for line in lines)
    return text.getvalue()
