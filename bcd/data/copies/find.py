"""The duplicate audit: which images are copies of one another, and which cases must therefore stay together.

Copies are looked for by hash and confirmed on the aligned pixels, since a threshold on plainly resized images loses true copies.
The two thresholds were chosen by eye on BUSI and BUS-BRA, where hardly a pair lies near either: copies of one image reach 0.95,
neighbouring frames of one sweep 0.75 to 0.9, later frames of it and other views of one lesion 0.35 to 0.65, and no pair of images
that are known or look to be of different patients reaches 0.3.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from bcd.data.copies.alignment import GLANCE, Likeness, Thumbnail, compare, glance, portray, thumbnail
from bcd.data.copies.hashing import MIRROR, WINDOWS, WORDS, Hashes, hash_image, near_hashes
from bcd.data.copies.neighbours import Candidates
from bcd.data.manifest import Case
from bcd.data.parallel import in_threads

COPY_SIMILARITY = 0.7
SCENE_SIMILARITY = 0.35
# Portraits kept at a time, about 150 kB each.
PORTRAITS = 2048

logger = logging.getLogger(__name__)

Grey = NDArray[np.uint8]
Look = tuple[Hashes, Thumbnail]


@dataclass(frozen=True)
class CopyPair:
    """Two cases that show the same image, or frames of the same scene; `first` comes first in the data set.

    Args:
        first: case id.
        second: case id.
        similarity: correlation of the aligned pixels, in [-1, 1]; a copy from COPY_SIMILARITY on.
        overlap: share of the smaller image that the other covers, in [0, 1].
        distance: bits between the nearest of their hashes.
        mirrored: whether one shows the other from left to right.
    """

    first: str
    second: str
    similarity: float
    overlap: float
    distance: int
    mirrored: bool = False


def look_at(image: Grey) -> Look:
    """Return what the search for copies keeps of an image, some 2 kB: its hashes, uint64 (W, K), and its thumbnail."""
    return hash_image(image), thumbnail(image)


def find_copies(
    case_ids: Sequence[str], read: Callable[[int], Grey], similarity: float = COPY_SIMILARITY, looks: dict[str, Look] | None = None
) -> list[CopyPair]:
    """Return the pairs of cases whose images are that similar, one of them perhaps mirrored, in the order of the case ids.

    Each image is read once for its hashes and its thumbnail; pairs of near hash whose thumbnails agree are aligned and compared.

    Args:
        case_ids: unique ids.
        read: the grey image, uint8 (H, W), of the case with this index; called again when needed.
        similarity: pairs from this similarity on; COPY_SIMILARITY for copies, SCENE_SIMILARITY for frames of one scene as well.
        looks: case id -> what `look_at` returned for its image, which is then not read; those that are used are taken out.

    Raises:
        ValueError: a case id is there twice.
    """
    if len(set(case_ids)) != len(case_ids):
        twice = next(case_id for case_id, count in Counter(case_ids).items() if count > 1)
        raise ValueError(f"{twice}: is twice among the case ids; give each case its own id.")
    hashes, thumbnails = _look_at(case_ids, read, {} if looks is None else looks)
    candidates = near_hashes(hashes, None, MIRROR)
    correlations = [
        glance(thumbnails[first], _turn(thumbnails[second], mirrored), WINDOWS[window])
        for first, second, window, mirrored in _pairs(candidates)
    ]
    promising = candidates.take(np.array(correlations) >= GLANCE)
    logger.info("%d pairs of near hash, %d of them with thumbnails that agree.", len(candidates.first), len(promising.first))
    return confirm(case_ids, read, promising, similarity)


def confirm(
    case_ids: Sequence[str], read: Callable[[int], Grey], candidates: Candidates, similarity: float = COPY_SIMILARITY
) -> list[CopyPair]:
    """Return the candidates that the aligned pixels confirm, in the order of the case ids; arguments as for `find_copies`."""
    portrait = lru_cache(maxsize=PORTRAITS)(lambda index, turned: portray(_turn(read(index), turned)))

    def measure(pair: tuple[int, int, int, bool]) -> Likeness:
        first, second, window, mirrored = pair
        return compare(portrait(first, False), portrait(second, mirrored), WINDOWS[window])

    likenesses = list(in_threads(measure, _pairs(candidates)))
    low, high = np.minimum(candidates.first, candidates.second), np.maximum(candidates.first, candidates.second)
    confirmed = [index for index, likeness in enumerate(likenesses) if likeness.similarity >= similarity]
    logger.info("%d of %d candidate pairs confirmed at similarity %.2f.", len(confirmed), len(likenesses), similarity)
    return [
        CopyPair(
            case_ids[low[index]],
            case_ids[high[index]],
            likenesses[index].similarity,
            likenesses[index].overlap,
            int(candidates.distance[index]),
            bool(candidates.mirrored[index]),
        )
        for index in sorted(confirmed, key=lambda index: (low[index], high[index]))
    ]


def _look_at(case_ids: Sequence[str], read: Callable[[int], Grey], looks: dict[str, Look]) -> tuple[Hashes, list[Thumbnail]]:
    """Return the hashes, uint64 (count, W, K), and the thumbnail of each image."""

    def look(index: int) -> Look:
        known = looks.pop(case_ids[index], None)  # out of there, so that nothing is held twice
        return look_at(read(index)) if known is None else known

    count = len(case_ids)
    hashes, thumbnails = np.zeros((count, len(WINDOWS), WORDS), np.uint64), []
    for index, (of_image, small) in enumerate(in_threads(look, range(count))):
        hashes[index] = of_image
        thumbnails.append(small)
        if (index + 1) % 10_000 == 0:
            logger.info("Hashed %d of %d images.", index + 1, count)
    return hashes, thumbnails


def _pairs(candidates: Candidates) -> list[tuple[int, int, int, bool]]:
    """Return first, second, window and mirrored of each candidate."""
    columns = (candidates.first, candidates.second, candidates.window, candidates.mirrored)
    first, second, window, mirrored = (column.tolist() for column in columns)
    return list(zip(first, second, window, mirrored, strict=True))


def _turn(image: NDArray[Any], mirrored: bool) -> NDArray[Any]:
    """Return the image, mirrored from left to right or not."""
    return np.ascontiguousarray(image[:, ::-1]) if mirrored else image


def group_cases(cases: Sequence[Case], copies: Sequence[CopyPair]) -> pd.DataFrame:
    """Return one row per case, in their order: `case_id`, `group`, `cluster`, `contradictory`.

    A group is what must not be split: cases joined by patient or by any of the pairs. It bears the name of its patient where it
    has just one, otherwise of its smallest case id. A cluster is joined by near-copies alone and bears its smallest case id.
    Contradictory are all cases of a cluster that carries more than one label. Pairs below COPY_SIMILARITY (frames of one scene)
    join groups and not clusters.

    Raises:
        ValueError: a pair names a case that is not among the cases.
    """
    case_ids = [case.case_id for case in cases]
    unknown = {name for pair in copies for name in (pair.first, pair.second)} - set(case_ids)
    if unknown:
        raise ValueError(f"{min(unknown)}: a copy pair names it, but it is not among the cases; run the audit again.")
    members: dict[str, list[str]] = defaultdict(list)
    for case in cases:
        if case.patient is not None:
            members[case.patient].append(case.case_id)
    alike = [(pair.first, pair.second) for pair in copies] + [pair for ids in members.values() for pair in pairwise(ids)]
    near = [(pair.first, pair.second) for pair in copies if pair.similarity >= COPY_SIMILARITY]
    groups = _group_names(case_ids, [case.patient for case in cases], _components(case_ids, alike))
    table = pd.DataFrame({"case_id": case_ids, "group": groups, "cluster": _cluster_names(case_ids, _components(case_ids, near))})
    labels = pd.Series([case.label for case in cases], dtype=object)
    return table.assign(contradictory=labels.groupby(table["cluster"]).transform("nunique") > 1)  # no label contradicts nothing


def _components(names: Sequence[str], pairs: Sequence[tuple[str, str]]) -> NDArray[np.int32]:
    """Return the component of each name, int32 (N,), numbered in the order of the names."""
    index = {name: number for number, name in enumerate(names)}
    rows, columns = ([index[pair[side]] for pair in pairs] for side in (0, 1))
    graph = coo_array((np.ones(len(pairs), bool), (rows, columns)), shape=(len(names), len(names)))
    return np.asarray(connected_components(graph, directed=False)[1], np.int32)


def _cluster_names(case_ids: Sequence[str], components: NDArray[np.int32]) -> list[str]:
    order = np.array(sorted(range(len(case_ids)), key=case_ids.__getitem__), np.int64)
    # The first of each component in that order; pandas' own minimum of text goes through every group in Python.
    numbers, first = np.unique(components[order], return_index=True)
    smallest = order[first][np.searchsorted(numbers, components)]
    return [case_ids[row] for row in smallest.tolist()]


def _group_names(case_ids: Sequence[str], patients: Sequence[str | None], components: NDArray[np.int32]) -> list[str]:
    """Name each component after its patient where it has one and only that, otherwise after its smallest case id."""
    known: dict[int, set[str | None]] = defaultdict(set)
    for component, patient in zip(components.tolist(), patients, strict=True):
        known[component].add(patient)
    smallest = _cluster_names(case_ids, components)
    names, case_names = [], set(smallest)
    for component, fallback in zip(components.tolist(), smallest, strict=True):
        patient = next(iter(known[component])) if len(known[component]) == 1 else None
        # Patient 12 and case 12 need not be one: then the patient's name would join two groups.
        names.append(fallback if patient is None or patient in case_names else patient)
    return names
