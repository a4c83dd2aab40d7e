"""Intake: which cases of a source can be used, and what is wrong with the others; all of it at once."""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bcd.data.copies.find import Look, look_at
from bcd.data.manifest import Case, Source, fingerprint, natural_key
from bcd.data.problems import DataProblems, Problem, counted, listed, write_problems
from bcd.data.verify import (
    Checks,
    Verified,
    check_ids,
    check_labels,
    check_spacing,
    read_verified,
    spelt_as_known,
    verify,
    write_verified,
)
from bcd.images.decode import printable

logger = logging.getLogger(__name__)

# Kept in the folder of the data's fingerprint, whether they can be used or not.
VERIFIED = "verified.json"
PROBLEMS = "problems.csv"

ON_ERROR = ("stop", "skip")


@dataclass(frozen=True)
class Intake:
    """What a source gives.

    Args:
        cases: those that can be used, in the source's order.
        verified: what decoding found about them.
        fingerprint: of them.
        problems: everything that is wrong with the others; empty for a data set in order.
        skipped: the others, each with what is wrong with it; a file that belongs to no case is one without an id.
        looks: case id -> what the search for copies needs of an image, of those that were decoded just now.
    """

    cases: list[Case]
    verified: Verified
    fingerprint: str
    problems: list[Problem]
    skipped: list[tuple[Case, str]]
    looks: dict[str, Look]


def take_in(source: Source, checks: Checks, on_error: str, folder_of: Callable[[str], Path]) -> Intake:
    """Return the cases of a source that can be used, with all of their files decoded once.

    `on_error` is `stop`, which refuses a data set with any problem, or `skip`, which continues without the cases that have one.
    `folder_of` is fingerprint -> the folder for data of that fingerprint; files known there to be in order are not read again.

    Raises:
        DataProblems: with `stop`, for any problem; with `skip`, when no case is left. `problems.csv` in the folder lists all.
        ValueError: when there is no case at all, or for another `on_error`.
    """
    if on_error not in ON_ERROR:
        raise ValueError(f"on_error={on_error}: choose stop or skip.")
    problems: list[Problem] = []
    try:
        cases = source.cases()
    except DataProblems as error:
        cases, problems = error.cases, error.problems
    if not cases and not problems:
        raise ValueError(f"{source.root}: holds no case.")
    spelling = spelt_as_known(cases, checks.labels) if checks.labels is not None else {}
    for label, known in spelling.items():
        logger.info("%d cases are labelled %r: taken as %r.", sum(case.label == label for case in cases), label, known)
    cases = [replace(case, label=spelling[case.label]) if case.label in spelling else case for case in cases]
    unusable = [problem for case in cases for problem in _unusable_names(case, source.root)]
    nameable = _without(cases, unusable)
    identity = fingerprint(nameable, source.root)
    folder = folder_of(identity)
    looks: dict[str, Look] = {}
    verified = verify(
        nameable,
        checks.max_pixels,
        read_verified(folder / VERIFIED),
        see=lambda case_id, image: looks.update({case_id: look_at(image)}),
    )
    problems += [*unusable, *check_ids(cases), *verified.problems, *check_spacing(nameable)]
    problems += check_labels(nameable, verified, checks)
    problems.sort(key=lambda problem: natural_key(problem.case_id))
    if not problems:
        if (folder / PROBLEMS).exists():
            (folder / PROBLEMS).unlink()  # the same files were refused under other checks
        return Intake(cases, verified, identity, [], [], looks)
    used = _without(nameable, problems)
    write_problems(folder / PROBLEMS, problems)
    write_verified(folder / VERIFIED, _restricted(verified, _without(nameable, verified.problems)))
    where = f"{counted(problems)}; all of them are in {folder / PROBLEMS}"
    if not used:
        raise DataProblems(f"{where}. No case is left without one.", problems, cases)
    if on_error == "stop":
        raise DataProblems(f"{where}. Repair them, or go on without these cases: on_error=skip", problems, cases)
    logger.warning("%s. Going on without these cases: %d of %d are left.\n%s", where, len(used), len(cases), listed(problems))
    printable_problems = [problem._replace(case_id=printable(problem.case_id)) for problem in problems]
    skipped = _skipped(problems, cases)
    return Intake(used, _restricted(verified, used), fingerprint(used, source.root), printable_problems, skipped, looks)


def _unusable_names(case: Case, root: Path) -> list[Problem]:
    """Return what keeps a case from being named in files and reports."""
    wrong: list[tuple[Path, str, str]] = []
    files = (case.image, *case.masks)
    if not case.case_id.strip():
        wrong.append((case.image, "the case id is empty", "give every case one"))
    for name, file in [(case.case_id, case.image), *((str(file), file) for file in files)]:
        if printable(name) != name:
            wrong.append((file, "the name is not UTF-8", "rename the file, then name it so wherever it is listed"))
    for file in files:
        # Lexically: a link in the folder that points elsewhere is a normal way to hold data.
        if not Path(os.path.normpath(file)).is_relative_to(os.path.normpath(root)):
            wrong.append((file, f"lies outside the data folder {root}", "put it there, or link to it from there"))
    return [Problem(case.case_id, *entry) for entry in dict.fromkeys(wrong)]


def _without(cases: Sequence[Case], problems: Sequence[Problem]) -> list[Case]:
    bad = {problem.case_id for problem in problems}
    return [case for case in cases if case.case_id not in bad]


def _restricted(verified: Verified, cases: Sequence[Case]) -> Verified:
    case_ids = {case.case_id for case in cases}
    sizes = {case_id: size for case_id, size in verified.sizes.items() if case_id in case_ids}
    return Verified([], sizes, verified.without_lesion & case_ids)


def _skipped(problems: Sequence[Problem], cases: Sequence[Case]) -> list[tuple[Case, str]]:
    """Return each case, or file that belongs to none, that has a problem, with all that is wrong with it."""
    known = {case.case_id: case for case in cases}
    reasons: dict[tuple[str, Path | None], tuple[Case, list[str]]] = {}
    for case_id, file, reason, _ in problems:
        case = known.get(case_id) or Case(case_id, file)
        reasons.setdefault((case_id, None if case_id else file), (case, []))[1].append(f"{file.name}: {reason}")
    return [(case, printable("; ".join(of_case))) for case, of_case in reasons.values()]
