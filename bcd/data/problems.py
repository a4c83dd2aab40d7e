"""Problems: what keeps files and cases from being used, found all at once and given as one list."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bcd.data.manifest import Case
from bcd.files import write_text
from bcd.images.decode import printable

SHOWN = 20


class Problem(NamedTuple):
    """What keeps a case, or a file that belongs to none, from being used: the file to blame, why, and what to do.

    `case_id` is empty where the file belongs to none.
    """

    case_id: str
    file: Path
    reason: str
    remedy: str

    def __str__(self) -> str:
        lead = f"{self.case_id}: " if self.case_id else ""
        return printable(f"{lead}{self.file}: {self.reason}; {self.remedy}.")


class DataProblems(ValueError):  # noqa: N818  (says what it is)
    """All that is wrong with a data set; the message shows up to 20 problems, of every kind at least one where they fit.

    The cases are those that were found all the same, with problems or without; what else is wrong with them can still be looked
    for.
    """

    def __init__(self, lead: str, problems: Sequence[Problem], cases: Sequence[Case] = ()) -> None:
        super().__init__(lead, problems, cases)
        self.lead, self.problems, self.cases = lead, list(problems), list(cases)

    def __str__(self) -> str:
        return f"{self.lead}\n{listed(self.problems)}"


def counted(problems: Sequence[Problem]) -> str:
    """Return how many there are, in words."""
    return "1 problem" if len(problems) == 1 else f"{len(problems)} problems"


def listed(problems: Sequence[Problem]) -> str:
    """Return up to 20 problems, one per line in their order, and how many more there are; no kind is hidden behind another."""
    kinds: dict[str, int] = {}
    for number, problem in enumerate(problems):
        kinds.setdefault(problem.remedy, number)  # not the reason, which often names sizes or rows
    first = set(kinds.values())
    chosen = sorted([*kinds.values(), *(number for number in range(len(problems)) if number not in first)][:SHOWN])
    more = [f"... and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
    return "\n".join([*(str(problems[number]) for number in chosen), *more])


def write_problems(path: Path, problems: Sequence[Problem]) -> None:
    """Write every problem as CSV: case_id, file, reason, remedy."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Problem._fields)
    writer.writerows([printable(entry) for entry in problem] for problem in problems)
    write_text(path, text.getvalue())
