"""Which cases a run uses, and in which part each stands."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from bcd.data.manifest import Case

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Selection:
    """Which cases of a data set a run uses.

    Args:
        classes: the labels to keep, in the order of the probabilities.
        relabel: old label -> new label, applied first.
        lesions_only: leave images without a lesion out.
        exclude_contradictions: leave near-copies that carry different labels out.
        fold: the test fold, from 1.
        allow_leak: go on although a group crosses the split.
        overfit: learn so many training cases, not augmented, and validate on the very same ones; None for all of them, and the
            proper validation part.

    Raises:
        ValueError: for an `overfit` below 1.
    """

    classes: Sequence[str]
    fold: int
    relabel: Mapping[str, str] = field(default_factory=dict)
    lesions_only: bool = False
    exclude_contradictions: bool = True
    allow_leak: bool = False
    overfit: int | None = None

    def __post_init__(self) -> None:
        if self.overfit is not None and self.overfit < 1:
            raise ValueError(f"overfit={self.overfit} must be a number of cases from 1, or null.")


def spread(cases: Sequence[Case], count: int) -> list[Case]:
    """Return so many cases, spread evenly over the labels."""
    ordered = sorted(cases, key=lambda case: case.label or "")
    count = min(count, len(ordered))
    return [ordered[(2 * number + 1) * len(ordered) // (2 * count)] for number in range(count)]


def select(cases: Sequence[Case], contradictory: set[str], selection: Selection) -> tuple[list[Case], dict[str, list[str]]]:
    """Return the cases that the run uses, relabelled, and those it leaves out, by reason.

    Unlabelled cases stay: a segmentation can use them.

    Args:
        cases: all of the data set.
        contradictory: ids of near-copies that carry different labels.
        selection: what to keep.

    Raises:
        ValueError: for a class, or a label to rename, that no case has, with the labels that there are.
    """
    present = Counter(case.label for case in cases if case.label is not None)
    unknown = [label for label in selection.relabel if label not in present]
    if unknown:
        raise ValueError(f"data.relabel: no case is labelled {unknown[0]!r}; labels here: {_counted(present)}.")
    renamed = [replace(case, label=selection.relabel.get(case.label, case.label) if case.label else None) for case in cases]
    labels = Counter(case.label for case in renamed if case.label is not None)
    absent = [label for label in selection.classes if label not in labels]
    if labels and absent:
        listed = ",".join(sorted(labels))
        raise ValueError(
            f"data.classes: no case is labelled {absent[0]!r}; labels here: {_counted(labels)}. "
            f"Choose among them: data.classes=[{listed}]"
        )
    kept: list[Case] = []
    left_out: dict[str, list[str]] = {}
    for case in renamed:
        reason = _reason(case, contradictory, selection)
        if reason is None:
            kept.append(case)
        else:
            left_out.setdefault(reason, []).append(case.case_id)
    for reason, names in left_out.items():
        log.info("Left out %d cases: %s (%s%s).", len(names), reason, ", ".join(names[:5]), ", ..." if len(names) > 5 else "")
    return kept, left_out


def _reason(case: Case, contradictory: set[str], selection: Selection) -> str | None:
    if case.label is not None and case.label not in selection.classes:
        return f"labelled {case.label}, which data.classes does not list"
    if selection.lesions_only and not case.masks:
        return "without a lesion (data.lesions_only)"
    if selection.exclude_contradictions and case.case_id in contradictory:
        return "near-copies that carry different labels (data.exclude_contradictions)"
    return None


def _counted(labels: Counter[str]) -> str:
    return ", ".join(f"{label} ({count})" for label, count in sorted(labels.items())) or "none"
