"""Prediction shared by many processes, on one machine or on several that share the output folder.

The inputs are listed once, in `<output>/shards/inputs.csv`; shard k of n has the inputs k, k + n, k + 2n, ... A process that works
on a shard holds its lock, which the system releases if the process ends; its results are in the shard's own tables, so
that the next process continues there. When all shards are done, their rows are combined: one row per case.
"""

import csv
import io
import json
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from bcd.files import write_text
from bcd.images.dicom.header import stem_of
from bcd.predictor.many.files import FileOptions, Writer, check_options, columns_of, finish, made_by
from bcd.predictor.many.inputs import Input, find_inputs
from bcd.predictor.many.table import MADE_BY, RESULTS, ResultTable, Row, join
from bcd.predictor.predictor import Predictor

log = logging.getLogger(__name__)

FOLDER = "shards"
_INPUTS, _SHARDS = "inputs.csv", "plan.json"
_WAIT_S = 1.0


@dataclass(frozen=True)
class Shards:
    """The inputs of a prediction, in order, to be done in `count` parts; `folder` is `<output>/shards`."""

    folder: Path
    inputs: Sequence[Input]
    count: int

    @classmethod
    def of(cls, output: Path, source: Path, count: int) -> "Shards":
        """Return the shards of an output folder; the first process lists the inputs, all others read the list.

        Raises:
            FileNotFoundError: when there is nothing to predict.
            ValueError: when the folder was started with another number of shards, or another input.
        """
        folder, wanted = output / FOLDER, {"shards": count, "input": str(source.absolute())}
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".plan.lock"):
            if not (folder / _SHARDS).is_file():
                if (output / MADE_BY).is_file():
                    raise ValueError(f"{output} holds predictions that were made without shards=; choose another output=.")
                text = io.StringIO(newline="")
                writer = csv.writer(text, lineterminator="\n")
                writer.writerow(["path", "shown", "case_id"])
                writer.writerows([one.path.absolute(), one.shown, one.case_id] for one in find_inputs(source))
                write_text(folder / _INPUTS, text.getvalue())
                write_text(folder / _SHARDS, json.dumps(wanted) + "\n")
        begun = json.loads((folder / _SHARDS).read_text(encoding="utf-8"))
        for name, value in wanted.items():
            if begun[name] != value:
                raise ValueError(f"{output} was begun with {name}={begun[name]}, not {value}; go on with that, or choose another.")
        with (folder / _INPUTS).open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            rows = list(csv.DictReader(file))
        # An earlier version left it open how DICOM files are called.
        inputs = [Input(Path(row["path"]), row["shown"], row["case_id"] or stem_of(row["shown"])) for row in rows]
        return cls(folder, inputs, count)

    def inputs_of(self, number: int) -> Sequence[Input]:
        """Return the inputs of a shard, which counts from 1."""
        return self.inputs[number - 1 :: self.count]

    def folder_of(self, number: int) -> Path:
        """Return the folder of a shard."""
        return self.folder / f"{number:04d}-of-{self.count:04d}"

    def left(self) -> list[int]:
        """Return the shards that are not done."""
        return [number for number in range(1, self.count + 1) if not (self.folder_of(number) / RESULTS).is_file()]


def predict_shards(
    predictor: Predictor,
    source: Path,
    output: Path,
    options: FileOptions | None,
    learned_from: Sequence[str] | None,
    shards: int,
    shard: int | None = None,
) -> list[Row] | None:
    """Predict one shard, or all free ones until none is left; combine them when all are done.

    What is not stated is as for `write_predictions`. What is not yet joined lies in `shards/` below the output.

    Args:
        predictor: of a bundle or a run.
        source: of the images.
        output: of all shards.
        options: what is wanted besides.
        learned_from: ids of cases.
        shards: number of parts, from 1; the same in every call.
        shard: the one to do, from 1; None takes the free ones, and waits for those that others work on.

    Returns:
        The rows of predictions.csv, if all shards are done; None if others are still to be done.

    Raises:
        FileNotFoundError: when there is nothing to predict.
        ValueError: when a number is out of range, the shard is taken, not a single image can be read, or `output` holds something
            else.
    """
    options = options or FileOptions()
    if shards < 1 or (shard is not None and not 1 <= shard <= shards):
        raise ValueError(f"shards={shards} shard={shard}: give a number of shards from 1, and one of them, from 1.")
    check_options(predictor, options)
    parts = Shards.of(output, source, shards)
    columns, origin = columns_of(predictor, options), made_by(predictor, source, options) | {"shards": shards}

    def predict(number: int) -> bool:
        """Predict a shard, unless another process works on it; return whether it was free."""
        folder = parts.folder_of(number)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(folder / ".lock", timeout=0):
                if not (folder / RESULTS).is_file():
                    table = ResultTable(folder, columns, origin)
                    Writer(predictor, output, options, table).predict(parts.inputs_of(number))
                    table.close()
                    log.info("Shard %d of %d is done.", number, shards)
        except Timeout:
            return False
        return True

    if shard is not None and not predict(shard):
        raise ValueError(f"shard={shard} is being predicted by another process; wait for it, or take another.")
    while shard is None and (left := parts.left()):
        first = os.getpid() % len(left)  # processes begin at different shards, and so seldom meet
        were_free = [predict(number) for number in [*left[first:], *left[:first]]]
        if not any(were_free):
            time.sleep(_WAIT_S)
    if parts.left():
        return None
    with FileLock(parts.folder / ".join.lock"):
        folders = [parts.folder_of(number) for number in range(1, shards + 1)]
        rows = join(output, folders, columns, origin, [one.shown for one in parts.inputs])
    finish(output, rows, learned_from if predictor.outlines else None)
    return rows


def try_again(output: Path, shards: int, shard: int | None = None) -> None:
    """Let those of `shards` shards be done again in which files could not be read: they may have been repaired.

    With `shard`, only this one, because no process would do the others again.
    """
    which = "*" if shard is None else f"{shard:04d}"
    for path in (output / FOLDER).glob(f"{which}-of-{shards:04d}/{RESULTS}"):
        if any(case["error"] for case in json.loads(path.read_text(encoding="utf-8"))["cases"]):
            path.unlink(missing_ok=True)
