"""The audit of a data set: what to know about the images before trusting any result.

`audit.csv` has one row per finding: `kind,case_id,group,cluster,label,value,detail`. Kinds without a finding have one row without a
case that shows it. KINDS describes the value of each kind.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedShuffleSplit

from bcd.data.audit.outliers import FAR, image_features, outliers, unusual_mask
from bcd.data.copies.find import COPY_SIMILARITY
from bcd.data.manifest import Case, read_case
from bcd.data.parallel import in_threads
from bcd.images.marks import Marks, find_marks, read_colour

COLUMNS = ("kind", "case_id", "group", "cluster", "label", "value", "detail")
KINDS = {
    "near_copy": "images that are copies of one another; value: similarity to the most similar, in [-1, 1]",
    "contradiction": "copies that carry different labels; value: similarity to the most similar that contradicts",
    "same_scene": "other frames of one scene, kept in one group; value: similarity to the most similar",
    "leak": "what a random split by image would put into training as well; value: mean share of the test images",
    "mark": "text, calipers or colour burnt in; value: connected strokes",
    "outlier": "images far from the rest of the data set; value: robust deviations",
    "mask_tiny": "masks that are next to nothing; value: share of the image",
    "mask_large": "masks that are nearly the whole image; value: share of the image",
    "mask_border": "masks that touch the edge of the image, so that the lesion may go on beyond; value: edges",
    "mask_pieces": "masks in several pieces, or with specks; value: pieces",
    "mask_holes": "masks with holes; value: holes",
}
REPEATS = 100
TEST_SHARE = 0.2

Row = dict[str, object]


# What is burnt in, the image's features, float64 (F,), and what is odd about the mask: kind -> (value, in words).
Inspection = tuple[Marks, NDArray[np.float64], Mapping[str, tuple[float, str]]]


def audit(cases: Sequence[Case], groups: pd.DataFrame, copies: pd.DataFrame, max_pixels: int) -> pd.DataFrame:
    """Return the findings, one row each, COLUMNS; every kind has one row at least.

    `groups` is `case_id`, `group`, `cluster`, `contradictory`, one row per case; `copies` is `first`, `second`, `similarity` and
    optionally `mirrored`, one row per pair.
    """
    inspections = list(in_threads(lambda case: inspect_case(case, max_pixels), cases))
    findings = [*_copies(cases, groups, copies), *_leaks(cases, groups), *_inspections(cases, inspections)]
    columns = (groups[name].astype(str) for name in ("case_id", "group", "cluster"))
    facts: dict[str, Row] = {name: {"group": group, "cluster": cluster} for name, group, cluster in zip(*columns, strict=True)}
    labels = {case.case_id: case.label or "" for case in cases}
    rows: list[Row] = []
    for kind in KINDS:
        none: Row = {"kind": kind, "case_id": "", "value": 0, "detail": "none found"}
        for row in [row for row in findings if row["kind"] == kind] or [none]:
            case_id = str(row["case_id"])
            rows.append({"group": "", "cluster": "", **facts.get(case_id, {}), "label": labels.get(case_id, ""), **row})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def inspect_case(case: Case, max_pixels: int) -> Inspection:
    """Read one case and return its findings."""
    image, mask = read_case(case, max_pixels)
    return find_marks(image, read_colour(case.image)), image_features(image), unusual_mask(mask)


def leak_of_random_splits(labels: Sequence[str | None], units: Sequence[str], repeats: int = REPEATS) -> float:
    """Return the mean share of test images that share their unit with a training image, over splits by image, in [0, 1].

    Args:
        labels: one per case; the splits are stratified by it where each has five cases at least.
        units: one per case: clusters for near-copies, groups for patients as well.
        repeats: number of splits, each with TEST_SHARE of the images in the test part.
    """
    codes = np.unique(np.array([str(label) for label in labels]), return_inverse=True)[1]
    strata = codes if np.bincount(codes).min() >= 5 else np.zeros(len(codes), np.int64)
    numbers = np.unique(np.array(units, dtype=str), return_inverse=True)[1]
    splits = StratifiedShuffleSplit(repeats, test_size=TEST_SHARE, random_state=0).split(numbers, strata)
    return float(np.mean([np.isin(numbers[test], numbers[train]).mean() for train, test in splits]))


def _copies(cases: Sequence[Case], groups: pd.DataFrame, copies: pd.DataFrame) -> list[Row]:
    """Return the near-copies, contradictions and scenes: one row per case and kind, with its partners, the most similar first."""
    labels = {case.case_id: case.label for case in cases}
    partners: dict[str, list[tuple[float, str, bool]]] = defaultdict(list)
    mirrored = copies["mirrored"] if "mirrored" in copies else [False] * len(copies)
    for first, second, similarity, turned in zip(copies["first"], copies["second"], copies["similarity"], mirrored, strict=True):
        partners[first].append((float(similarity), second, bool(turned)))
        partners[second].append((float(similarity), first, bool(turned)))
    rows: list[Row] = []
    for case in cases:
        alike = sorted(partners[case.case_id], key=lambda partner: (-partner[0], partner[1]))
        near = [partner for partner in alike if partner[0] >= COPY_SIMILARITY]
        scenes = [partner for partner in alike if partner[0] < COPY_SIMILARITY]
        against = [partner for partner in near if None not in (case.label, labels[partner[1]]) and labels[partner[1]] != case.label]
        for kind, chosen in (("near_copy", near), ("contradiction", against), ("same_scene", scenes)):
            if chosen:
                rows.append({"kind": kind, "case_id": case.case_id, "value": chosen[0][0], "detail": _named(chosen, labels)})
    direct = {str(row["case_id"]) for row in rows if row["kind"] == "contradiction"}
    through = [name for name in groups.loc[groups["contradictory"], "case_id"] if name not in direct]
    return rows + [
        {"kind": "contradiction", "case_id": name, "value": 0, "detail": "a copy of a copy has another label"} for name in through
    ]


def _named(partners: Sequence[tuple[float, str, bool]], labels: Mapping[str, str | None]) -> str:
    return "; ".join(
        f"{name} ({labels[name] or 'no label'}, {similarity:.2f}{', mirrored' if turned else ''})"
        for similarity, name, turned in partners
    )


def _leaks(cases: Sequence[Case], groups: pd.DataFrame) -> list[Row]:
    """Return how many test images a split by image would have shown in training."""
    if len(cases) < 10:
        return []
    labels = [case.label for case in cases]
    units = {"cluster": "a near-copy", "group": "an image of the same group (patient, copy or scene)"}
    rows: list[Row] = []
    for column, what in units.items():
        share = leak_of_random_splits(labels, groups[column].tolist())
        detail = f"of the test images have {what} in training: mean of {REPEATS} random splits by image, {TEST_SHARE:.0%} for test"
        rows.append({"kind": "leak", "case_id": "", "value": share, "detail": f"{share:.1%} {detail}"})
    return rows


def _inspections(cases: Sequence[Case], inspections: Sequence[Inspection]) -> list[Row]:
    """Return marks, outliers and odd masks, the most striking first."""
    scores = outliers(np.array([features for _, features, _ in inspections]))
    rows: list[Row] = []
    for case, (marks, _, odd), score, feature in zip(cases, inspections, scores["score"], scores["feature"], strict=True):
        if marks.is_marked:
            rows.append({"kind": "mark", "case_id": case.case_id, "value": marks.pieces, "detail": str(marks)})
        if score >= FAR:
            rows.append({"kind": "outlier", "case_id": case.case_id, "value": score, "detail": f"most unlike: {feature}"})
        for kind, (value, detail) in odd.items():
            rows.append({"kind": kind, "case_id": case.case_id, "value": value, "detail": detail})
    return sorted(rows, key=lambda row: -float(str(row["value"])) if row["kind"] != "mask_tiny" else float(str(row["value"])))
