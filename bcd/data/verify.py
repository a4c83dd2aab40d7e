"""Verification: decode every file once and list all that is wrong, not the first."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from bcd.data.images import ImageError, read_image, read_masks
from bcd.data.manifest import Case

logger = logging.getLogger(__name__)

_LESION_LABELS = {"benign", "malignant"}
_LESION_FREE_LABELS = {"normal"}
_THREADS = 4


class Problem(NamedTuple):
    """Something that keeps a case from being used.

    Args:
        case_id: the case.
        file: the file that is to blame.
        reason: what is wrong with it.
        remedy: what to do about it.
    """

    case_id: str
    file: Path
    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.case_id}: {self.file}: {self.reason}; {self.remedy}."


class Verified(NamedTuple):
    """What verification found.

    Args:
        problems: all of them, in the order of the cases.
        sizes: native height and width in pixels by case id, of every image that could be read.
        without_lesion: ids of the cases whose masks are all empty, or that have none.
    """

    problems: list[Problem]
    sizes: dict[str, tuple[int, int]]
    without_lesion: set[str]


def verify(cases: Sequence[Case]) -> Verified:
    """Decode every image and mask; return all problems and the native sizes.

    A problem is an unreadable or constant file, a mask of another size or with more than two levels, an empty mask on a
    benign or malignant case, a mask that is not empty on a normal one, or a case id that stands twice. A lesion without
    any mask is none: it can still be classified.
    """
    problems = list(_duplicates(cases))
    sizes, without_lesion = {}, set()
    with ThreadPoolExecutor(_THREADS) as pool:  # the decoders release the interpreter lock
        for number, (case, (found, size, has_lesion)) in enumerate(zip(cases, pool.map(_verify_case, cases), strict=True), 1):
            problems += found
            if size is not None:
                sizes[case.case_id] = size
            if not has_lesion:
                without_lesion.add(case.case_id)
            if number % 500 == 0:
                logger.info("Verified %d of %d cases.", number, len(cases))
    return Verified(problems, sizes, without_lesion)


def _duplicates(cases: Sequence[Case]) -> Iterator[Problem]:
    count = Counter(case.case_id for case in cases)
    for case in cases:
        if count[case.case_id] > 1:
            yield Problem(case.case_id, case.image, f"its id stands {count[case.case_id]} times", "make ids unique")


def _verify_case(case: Case) -> tuple[list[Problem], tuple[int, int] | None, bool]:
    try:
        height, width = read_image(case.image).shape
    except ImageError as error:
        return [Problem(case.case_id, case.image, error.reason, error.remedy)], None, False
    problems, has_lesion = [], False
    for mask in case.masks:
        try:
            has_lesion |= bool(read_masks([mask], (height, width), case.image).any())
        except ImageError as error:
            problems.append(Problem(case.case_id, mask, error.reason, error.remedy))
    return problems or _contradictions(case, has_lesion), (height, width), has_lesion


def _contradictions(case: Case, has_lesion: bool) -> list[Problem]:
    if case.masks and case.label in _LESION_LABELS and not has_lesion:
        reason, remedy = "the mask is empty", "outline the lesion, or drop the mask or the case"
    elif case.label in _LESION_FREE_LABELS and has_lesion:
        reason, remedy = "the mask shows a lesion", "correct the label, or drop the mask or the case"
    else:
        return []
    return [Problem(case.case_id, case.masks[0], f"{reason}, the label is {case.label}", remedy)]
