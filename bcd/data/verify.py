"""Verification: decode every file once, hold labels and masks against each other, and list all that is wrong, not the first."""

import json
import logging
import math
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bcd.config.errors import hint
from bcd.data.manifest import Case, spacing_of
from bcd.data.parallel import in_threads
from bcd.data.problems import Problem
from bcd.files import write_text
from bcd.images.decode import MAX_PIXELS, ImageError, pixel_limit
from bcd.images.read import read_image, read_masks

logger = logging.getLogger(__name__)

# Raise it when reading or decoding finds something else in the same files.
VERSION = 1

_LESION_LABELS = ("benign", "malignant")
_LESION_FREE_LABELS = ("normal",)
_THREADS = 4


@dataclass(frozen=True)
class Checks:
    """What the cases of a data set are held to.

    Args:
        labels: the labels that a case may carry; None allows any.
        relabel: label -> the label that replaces it, for labels that are not normal, benign or malignant themselves.
        require_masks: whether every benign and malignant case needs a mask: True, False, or `auto`, which asks for them in a data
            set that has any; one without any is for classification alone.
        max_pixels: the most pixels that a picture may have.

    Raises:
        ValueError: for another `require_masks`, or a limit below 1.
    """

    labels: Sequence[str] | None = None
    relabel: Mapping[str, str] = field(default_factory=dict)
    require_masks: bool | str = "auto"
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        if self.require_masks not in (True, False, "auto"):
            raise ValueError(f"data.require_masks={self.require_masks}: choose auto, true or false.")
        pixel_limit(self.max_pixels)

    def meaning(self, label: str | None) -> str | None:
        """Return the label after relabelling."""
        known = label is None or label in (*_LESION_LABELS, *_LESION_FREE_LABELS)
        return label if known else self.relabel.get(str(label), label)


class Verified(NamedTuple):
    """What decoding found.

    Args:
        problems: all of them, in the order of the cases.
        sizes: native height and width in pixels by case id, of every case whose files could be read.
        without_lesion: ids of those whose masks are all empty, or that have none.
    """

    problems: list[Problem]
    sizes: dict[str, tuple[int, int]]
    without_lesion: set[str]


def verify(
    cases: Sequence[Case],
    max_pixels: int = MAX_PIXELS,
    known: Verified | None = None,
    see: Callable[[str, np.ndarray], None] | None = None,
) -> Verified:
    """Decode every image and mask; return all problems, the native sizes, and which cases have no lesion.

    A problem is an unreadable or constant file, or a mask of another size or with more than two levels. What `known`, an earlier
    result for the same files, found in order is not read again. `see` is given id and image, uint8 (H, W), of every case that is
    decoded, by several threads.
    """
    sizes, without_lesion = ({}, set()) if known is None else (dict(known.sizes), set(known.without_lesion))
    unknown = [case for case in cases if not 0 < math.prod(sizes.get(case.case_id, (0, 0))) <= max_pixels]
    problems = []
    if unknown:
        logger.info("Verifying %d cases.", len(unknown))
    results = in_threads(lambda case: _verify_case(case, max_pixels, see), unknown, _THREADS)
    for number, (case, (wrong, size, has_lesion)) in enumerate(zip(unknown, results, strict=True), 1):
        problems += wrong
        if not wrong:
            sizes[case.case_id] = size
            if not has_lesion:
                without_lesion.add(case.case_id)
        if number % 500 == 0:
            logger.info("Verified %d of %d cases.", number, len(unknown))
    return Verified(problems, sizes, without_lesion)


def write_verified(path: Path, verified: Verified) -> None:
    """Keep what was found in order, so that it need not be decoded again."""
    kept = {"version": VERSION, "sizes": verified.sizes, "without_lesion": sorted(verified.without_lesion)}
    write_text(path, json.dumps(kept) + "\n")


def read_verified(path: Path) -> Verified | None:
    """Return what `write_verified` kept, or None where that is absent, damaged or of another version."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        sizes = {str(case_id): (int(height), int(width)) for case_id, (height, width) in kept["sizes"].items()}
        return Verified([], sizes, set(kept["without_lesion"])) if kept["version"] == VERSION else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def spelt_as_known(cases: Sequence[Case], labels: Sequence[str]) -> dict[str, str]:
    """Return label -> the known label that it equals but for upper and lower case, blanks around it, or how accents are coded."""
    known = {_folded(label): label for label in reversed(labels)}
    others = {case.label for case in cases if case.label is not None} - set(labels)
    return {label: known[_folded(label)] for label in sorted(others) if _folded(label) in known}


def check_ids(cases: Sequence[Case]) -> Iterator[Problem]:
    """Yield a problem for each case whose id another has too, if only in other letter case: their results would be one file."""
    members: dict[str, list[Case]] = {}
    for case in cases:
        members.setdefault(_folded(case.case_id), []).append(case)
    for alike in members.values():
        ids = list(dict.fromkeys(case.case_id for case in alike))
        files = " and ".join(case.image.name for case in alike)
        reason = f"its id stands for {files}" if len(ids) == 1 else f"the ids {' and '.join(ids)} differ in letter case alone"
        if len(alike) > 1:
            yield from (Problem(case.case_id, case.image, reason, "make ids unique") for case in alike)


def check_spacing(cases: Sequence[Case]) -> Iterator[Problem]:
    """Yield a problem for each case whose pixel spacing cannot be read."""
    for case in cases:
        try:
            spacing_of(case)
        except ValueError as error:
            reason, _, remedy = str(error).removeprefix(f"{case.case_id}: ").partition("; ")
            yield Problem(case.case_id, case.image, reason, remedy.rstrip("."))


def check_labels(cases: Sequence[Case], verified: Verified, checks: Checks) -> Iterator[Problem]:
    """Yield a problem for each unknown label, and for each case whose label and masks contradict each other."""
    need_masks = any(case.masks for case in cases) if checks.require_masks == "auto" else checks.require_masks
    for case in cases:
        if checks.labels is not None and case.label is not None and case.label not in checks.labels:
            near = hint(case.label, checks.labels).removeprefix("; ")
            remedy = "name it in data.classes, in data.relabel, or in data.labels if it is to be left out"
            reason = f"the label {case.label!r} is none of {', '.join(checks.labels)}"
            yield Problem(case.case_id, case.image, reason, f"{near} Else {remedy}" if near else f"correct it, or {remedy}")
        meaning = checks.meaning(case.label)
        label = case.label if case.label == meaning else f"{case.label} ({meaning})"
        if meaning in _LESION_LABELS and need_masks and not case.masks:
            remedy = "add the mask, drop the case, or set data.require_masks=false to let cases without one be classified"
            yield Problem(case.case_id, case.image, f"the label is {label}, and there is no mask", remedy)
        if not case.masks or case.case_id not in verified.sizes:
            continue
        is_empty = case.case_id in verified.without_lesion
        if meaning in _LESION_LABELS and is_empty:
            remedy = "segment the lesion, or drop the mask or the case"
            yield Problem(case.case_id, case.masks[0], f"the mask is empty, the label is {label}", remedy)
        elif meaning in _LESION_FREE_LABELS and not is_empty:
            remedy = "correct the label, or drop the mask or the case"
            yield Problem(case.case_id, case.masks[0], f"the mask shows a lesion, the label is {label}", remedy)


def _verify_case(
    case: Case, max_pixels: int, see: Callable[[str, np.ndarray], None] | None
) -> tuple[list[Problem], tuple[int, int], bool]:
    try:
        image = read_image(case.image, max_pixels)
        height, width = image.shape
    except ImageError as error:
        return [Problem(case.case_id, case.image, error.reason, error.remedy)], (0, 0), False
    if see is not None:
        see(case.case_id, image)
    problems, has_lesion = [], False
    for mask in case.masks:
        try:
            has_lesion |= bool(read_masks([mask], (height, width), case.image.name, max_pixels).any())
        except ImageError as error:
            problems.append(Problem(case.case_id, mask, error.reason, error.remedy))
    return problems, (height, width), has_lesion


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip().casefold()
