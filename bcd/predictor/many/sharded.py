"""Prediction shared by many processes, on one machine or on several that share the output folder.

The inputs are listed once, in `<output>/shards/inputs.csv`, and dealt out to a fixed number of shards. A process that works on a
shard holds its lock, which the system gives back if the process ends; what it has done stands in the shard's own ledger, so that
whoever takes the shard next goes on there. When all shards are done, their rows are joined: one row a case.
"""

import csv
import io
import json
import logging
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from filelock import FileLock, Timeout

from bcd.files import write_text
from bcd.predictor.many.files import Wishes, Writer, columns_of, finish, made_by, refuse_outlines
from bcd.predictor.many.inputs import Input, find_inputs
from bcd.predictor.many.ledger import Ledger, join
from bcd.predictor.many.names import ClaimedNames
from bcd.predictor.predictor import Predictor

log = logging.getLogger(__name__)

FOLDER = "shards"
_INPUTS, _PLAN, _DONE = "inputs.csv", "plan.json", "done.json"
_WAIT_S = 1.0


@dataclass(frozen=True)
class Plan:
    """Which inputs there are, and which shard each falls to.

    Args:
        folder: `<output>/shards`.
        inputs: all of them, in order.
        shards: how many.
    """

    folder: Path
    inputs: Sequence[Input]
    shards: int

    @classmethod
    def of(cls, output: Path, source: Path, shards: int) -> "Plan":
        """Return the plan of an output folder; the first process makes it, all others read it.

        Raises:
            FileNotFoundError: when there is nothing to predict.
            ValueError: when the folder was begun with another number of shards, or another input.
        """
        folder = output / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".plan.lock"):
            if not (folder / _PLAN).is_file():
                if (output / "predict.json").is_file():
                    raise ValueError(f"{output} holds predictions that were made without shards=; choose another output=.")
                _write_inputs(folder / _INPUTS, find_inputs(source))
                write_text(folder / _PLAN, json.dumps({"shards": shards, "input": str(source.absolute())}) + "\n")
        known = json.loads((folder / _PLAN).read_text(encoding="utf-8"))
        for name, asked in (("shards", shards), ("input", str(source.absolute()))):
            if known[name] != asked:
                raise ValueError(f"{output} was begun with {name}={known[name]}, not {asked}; go on with that, or choose another.")
        return cls(folder, _read_inputs(folder / _INPUTS), shards)

    def of_shard(self, number: int) -> list[Input]:
        """Return the inputs of a shard, which counts from 1."""
        return list(self.inputs[number - 1 :: self.shards])

    def place(self, number: int) -> Path:
        """Return the folder of a shard."""
        return self.folder / f"{number:04d}-of-{self.shards:04d}"

    def is_done(self, number: int) -> bool:
        """Tell whether every input of a shard has its row."""
        return (self.place(number) / _DONE).is_file()

    def left(self) -> list[int]:
        """Return the shards that are not done."""
        return [number for number in range(1, self.shards + 1) if not self.is_done(number)]


@contextmanager
def _held(folder: Path) -> Iterator[bool]:
    """Give whether this process may work in a shard's folder: it may where no other does."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def predict_shards(
    predictor: Predictor,
    source: Path,
    output: Path,
    wishes: Wishes | None,
    learned_from: Sequence[str] | None,
    shards: int,
    shard: int | None = None,
) -> pd.DataFrame | None:
    """Predict one shard, or whichever are free until none is left; join them when all are done.

    Args:
        predictor: of a bundle or a run.
        source: as for `predict_files`.
        output: as for `predict_files`; what is not yet joined lies in `shards/` below.
        wishes: what is wanted besides.
        learned_from: ids of the cases that the networks learned from; None if unknown.
        shards: into how many the inputs are dealt out, from 1; the same in every call.
        shard: the one to do, from 1; None takes the free ones, and waits for those that others work on.

    Returns:
        predictions.csv, if all shards are done; None if others are still to be done.

    Raises:
        FileNotFoundError: when there is nothing to predict.
        ValueError: when a number is out of range, the shard is taken, not a single image can be read, or `output` holds something
            else.
    """
    wishes = wishes or Wishes()
    _check_numbers(shards, shard)
    refuse_outlines(predictor, wishes)
    plan = Plan.of(output, source, shards)
    work = _Work(predictor, output, wishes, plan, made_by(predictor, source, wishes) | {"shards": shards})
    if shard is not None:
        work.one(shard)
    else:
        work.all()
    return None if plan.left() else work.joined(learned_from)


def try_again(output: Path, shards: int, shard: int | None = None) -> None:
    """Let those shards be done again in which files could not be read: they may have been mended.

    Args:
        output: as for `predict_files`.
        shards: how many there are.
        shard: look at this one alone, as nobody would do the others again; None for all.
    """
    which = "*" if shard is None else f"{shard:04d}"
    for path in (output / FOLDER).glob(f"{which}-of-{shards:04d}/{_DONE}"):
        if json.loads(path.read_text(encoding="utf-8"))["broken"]:
            path.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Work:
    predictor: Predictor
    output: Path
    wishes: Wishes
    plan: Plan
    origin: dict[str, object]

    def one(self, number: int) -> None:
        """Do a shard.

        Raises:
            ValueError: when another process works on it.
        """
        with _held(self.plan.place(number)) as ours:
            if not ours:
                whose = _read(self.plan.place(number) / "worker")
                raise ValueError(f"shard={number} is being predicted already ({whose}); wait for it, or take another.")
            self._do(number)

    def all(self) -> None:
        """Do what is free, until nothing is left; a shard of a process that is killed meanwhile becomes free."""
        while left := self.plan.left():
            # Begin at different shards, so that processes seldom meet.
            first = os.getpid() % len(left)
            did = [number for number in [*left[first:], *left[:first]] if self._try(number)]
            if not did:
                time.sleep(_WAIT_S)

    def _try(self, number: int) -> bool:
        with _held(self.plan.place(number)) as ours:
            if ours:
                self._do(number)
            return ours

    def _do(self, number: int) -> None:
        place = self.plan.place(number)
        if self.plan.is_done(number):
            return
        write_text(place / "worker", f"process {os.getpid()} on {socket.gethostname()}")
        names = ClaimedNames(self.plan.folder / "names", [one.case_id for one in self.plan.inputs if one.case_id is not None])
        ledger = Ledger(place, columns_of(self.predictor, self.wishes), self.origin)
        writer = Writer(self.predictor, self.output, self.wishes, ledger, names)
        broken = list(writer.predict(self.plan.of_shard(number)))
        write_text(place / _DONE, json.dumps({"rows": len(ledger.done), "broken": broken}) + "\n")
        log.info("Shard %d of %d is done.", number, self.plan.shards)

    def joined(self, learned_from: Sequence[str] | None) -> pd.DataFrame:
        """Return the table of all shards, joined once and by one process."""
        places = [self.plan.place(number) for number in range(1, self.plan.shards + 1)]
        order = {one.shown: position for position, one in enumerate(self.plan.inputs)}
        with FileLock(self.plan.folder / ".join.lock"):
            table = join(self.output, places, columns_of(self.predictor, self.wishes), self.origin, order)
        broken = [reason for place in places for reason in json.loads(_read(place / _DONE))["broken"]]
        finish(self.output, table, broken, learned_from if self.predictor.outlines else None)
        return table


def _check_numbers(shards: int, shard: int | None) -> None:
    if shards < 1 or (shard is not None and not 1 <= shard <= shards):
        raise ValueError(f"shards={shards} shard={shard}: give a number of shards from 1, and one of them, from 1.")


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else "by an unknown process"


def _write_inputs(path: Path, inputs: Sequence[Input]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "shown", "case_id"])
    writer.writerows([os.path.abspath(one.path), one.shown, one.case_id or ""] for one in inputs)  # noqa: PTH100 - links stay
    write_text(path, text.getvalue())


def _read_inputs(path: Path) -> list[Input]:
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return [Input(Path(row["path"]), row["shown"], row["case_id"] or None) for row in csv.DictReader(file)]
