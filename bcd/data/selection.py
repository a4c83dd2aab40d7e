"""Which cases a run uses, and in which part each stands."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

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
        only: of the classes, those whose cases are used, if the tested model has more classes; None for all.
        fold: the test fold, from 1; None where every case is tested, and none is learned from.
        allow_leak: go on although a group crosses the split.
        overfit: learn so many training cases, not augmented, and validate on the very same ones; None for all of them, and the
            proper validation part.
        refit: learn from all but the validation part, the test fold included, for a model to share; there is no test part.
        train_share: share of the training groups to learn from, in (0, 1]; a smaller share is a part of every larger one.
        seed: of the groups that a share takes.
    """

    classes: Sequence[str]
    fold: int | None
    relabel: Mapping[str, str] = field(default_factory=dict)
    lesions_only: bool = False
    exclude_contradictions: bool = True
    allow_leak: bool = False
    overfit: int | None = None
    train_share: float = 1.0
    seed: int = 0
    only: Sequence[str] | None = None
    refit: bool = False


def spread(cases: Sequence[Case], count: int) -> list[Case]:
    """Return so many cases, spread evenly over the labels."""
    ordered = sorted(cases, key=lambda case: case.label or "")
    count = min(count, len(ordered))
    return [ordered[(2 * number + 1) * len(ordered) // (2 * count)] for number in range(count)]


def share_of_groups(cases: Sequence[Case], groups: Mapping[str, str], share: float, seed: int) -> list[Case]:
    """Return the cases of a share, in (0, 1], of the groups of each label, one group at least, whichever order the cases come in.

    Groups are taken in one random order, label by label in proportion: a smaller share is a part of every larger one. `groups` is
    case id -> group.
    """
    label_of = {groups[case.case_id]: case.label or "" for case in sorted(cases, key=lambda case: case.case_id)}
    taken: set[str] = set()
    for label in sorted(set(label_of.values())):
        names = sorted(group for group, its in label_of.items() if its == label)
        order = np.random.default_rng([seed, len(names)]).permutation(len(names))
        taken |= {names[number] for number in order[: max(1, round(share * len(names)))]}
    return [case for case in cases if groups[case.case_id] in taken]


def select(cases: Sequence[Case], contradictory: set[str], selection: Selection) -> tuple[list[Case], dict[str, list[str]]]:
    """Return the cases that the run uses, relabelled, and those it leaves out, by reason; `contradictory` has ids of cases.

    Unlabelled cases stay: a segmentation can use them.

    Raises:
        ValueError: for a class, or a label to rename, that no case has, with the labels that there are.
    """
    present = Counter(case.label for case in cases if case.label is not None)
    unknown = [label for label in selection.relabel if label not in present]
    if unknown:
        raise ValueError(f"data.relabel: no case is labelled {unknown[0]!r}; labels here: {_counted(present)}.")
    new_labels = [selection.relabel.get(case.label, case.label) if case.label else None for case in cases]
    # The very same case where there is nothing to rename: a copy of each would be many.
    pairs = zip(cases, new_labels, strict=True)
    renamed = [case if case.label == label else replace(case, label=label) for case, label in pairs]
    labels = Counter(case.label for case in renamed if case.label is not None)
    used = selection.classes if selection.only is None else selection.only
    absent = [label for label in used if label not in labels]
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
    used = selection.classes if selection.only is None else selection.only
    if case.label is not None and case.label not in used:
        return f"labelled {case.label}, which data.classes does not list"
    if selection.lesions_only and not case.masks:
        return "without a lesion (data.lesions_only)"
    if selection.exclude_contradictions and case.case_id in contradictory:
        return "near-copies that carry different labels (data.exclude_contradictions)"
    return None


def _counted(labels: Counter[str]) -> str:
    return ", ".join(f"{label} ({count})" for label, count in sorted(labels.items())) or "none"
