"""Preparation: from a source to a folder with manifest, groups and split that every run of that data reads."""

import csv
import io
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import pandas as pd

from bcd.data.duplicates import SCENE_SIMILARITY, CopyPair, find_copies, group_cases
from bcd.data.images import read_image
from bcd.data.manifest import Case, Source, fingerprint, read_manifest, read_sizes, write_manifest
from bcd.data.splits import draw_split, read_split, write_split
from bcd.data.verify import Problem, verify
from bcd.data.writing import build_folder, write_text

logger = logging.getLogger(__name__)

# Raise it when verification or the duplicate audit finds something else in the same data.
VERSION = 1

_LISTED = 20


@dataclass(frozen=True)
class Prepared:
    """A data set that is verified, audited for duplicates, and split.

    Args:
        name: the data set's name.
        fingerprint: 16 hex digits over ids, labels, patients, paths and file contents.
        folder: where manifest, groups, drawn splits and caches lie.
        cases: every case; one whose masks are all black has no masks.
        groups: one row a case: case_id, group, cluster, contradictory.
        split: one row a case: case_id, group, fold and optionally valid_<k>.
        split_file: where the split was read from.
        synthetic: whether the images are simulated.
        how_to_get: where others find the data; empty for simulated ones.
    """

    name: str
    fingerprint: str
    folder: Path
    cases: list[Case]
    groups: pd.DataFrame
    split: pd.DataFrame
    split_file: Path
    synthetic: bool
    how_to_get: str


def prepare(
    source: Source, name: str, output: str | Path, *, folds: int, seed: int, split_file: str | Path | None = None
) -> Prepared:
    """Return the prepared data set in `<output>/<name>-<fingerprint>/`, which is made where it is absent or damaged.

    Changed data have another fingerprint, so another folder. A split that is not given is drawn once for each `folds` and
    `seed`, and kept there.

    Args:
        source: the data set.
        name: what to call it.
        output: the folder for prepared data.
        folds: number of folds, where the split is drawn.
        seed: of the drawn split.
        split_file: a split to use instead.

    Raises:
        ValueError: when anything is wrong with any case; lists them, and names `problems.csv`, which lists all.
        FileNotFoundError: when the data set or the split file is absent.
    """
    cases = source.cases()
    identity = fingerprint(cases, source.root)
    folder = Path(output).absolute() / f"{name}-{identity}"
    case_ids = [case.case_id for case in cases]
    build_folder(
        folder,
        build=lambda aside: _build(cases, source.root, aside, folder / "problems.csv"),
        is_whole=lambda candidate: _is_whole(candidate, case_ids, source.root),
    )
    groups = _read_groups(folder / "groups.csv")
    chosen = folder / f"split-{folds}-{seed}.csv" if split_file is None else Path(split_file)
    if split_file is None:
        _draw_once(groups, cases, chosen, folds, seed)
    return Prepared(
        name=name,
        fingerprint=identity,
        folder=folder,
        cases=_refresh_manifest(cases, folder / "manifest.csv", source.root),
        groups=groups,
        split=read_split(chosen),
        split_file=chosen,
        synthetic=source.synthetic,
        how_to_get=str(getattr(source, "how_to_get", "")),  # phantoms are made, not got
    )


def summary(prepared: Prepared) -> list[tuple[str, str]]:
    """Return what a short table says of a prepared data set: (what, how many)."""
    cases, groups = prepared.cases, prepared.groups
    labels = Counter("no label" if case.label is None else case.label for case in cases)
    patients = {case.patient for case in cases} - {None}
    cluster_sizes = groups["cluster"].value_counts()
    copied = cluster_sizes[cluster_sizes > 1]
    folds = prepared.split["fold"].value_counts().sort_index()
    return [
        ("images", str(len(cases))),
        *((f"  {label}", str(count)) for label, count in sorted(labels.items())),
        ("images with a lesion mask", str(sum(bool(case.masks) for case in cases))),
        ("patients", str(len(patients)) if patients else "unknown"),
        ("groups (patient or near-copies)", str(groups["group"].nunique())),
        ("near-copies", f"{copied.sum()} images in {len(copied)} clusters"),
        ("contradictory copies", str(int(groups["contradictory"].sum()))),
        ("height x width, min / median / max", _size_range(read_sizes(prepared.folder / "manifest.csv"))),
        ("images a fold", " ".join(str(count) for count in folds)),
    ]


def _build(cases: Sequence[Case], root: Path, folder: Path, problems_file: Path) -> None:
    logger.info("Verifying %d cases.", len(cases))
    problems, sizes, without_lesion = verify(cases)
    if problems:
        _refuse(problems, problems_file)
    kept = [replace(case, masks=()) if case.case_id in without_lesion else case for case in cases]
    logger.info("Looking for near-copies among %d images.", len(cases))
    copies = find_copies(
        [case.case_id for case in cases], lambda index: read_image(cases[index].image), similarity=SCENE_SIMILARITY
    )
    write_manifest(kept, folder / "manifest.csv", root, sizes)
    write_text(folder / "copies.csv", _copies_table(copies))
    write_text(folder / "groups.csv", group_cases(cases, copies).to_csv(index=False))
    write_text(folder / "prepared.json", json.dumps({"version": VERSION, "similarity": SCENE_SIMILARITY}, indent=2))


def _is_whole(folder: Path, case_ids: Sequence[str], root: Path) -> bool:
    try:
        done = json.loads((folder / "prepared.json").read_text())
        listed = [case.case_id for case in read_manifest(folder / "manifest.csv", root)]
        grouped = list(_read_groups(folder / "groups.csv")["case_id"])
    except (OSError, ValueError, KeyError):
        return False
    return done == {"version": VERSION, "similarity": SCENE_SIMILARITY} and listed == grouped == list(case_ids)


def _refuse(problems: Sequence[Problem], file: Path) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Problem._fields)
    writer.writerows(problems)
    write_text(file, text.getvalue())
    shown = "\n".join(str(problem) for problem in problems[:_LISTED])
    rest = f"\n... and {len(problems) - _LISTED} more" if len(problems) > _LISTED else ""
    raise ValueError(f"{len(problems)} problems; all of them are in {file}\n{shown}{rest}")


def _copies_table(copies: Sequence[CopyPair]) -> str:
    columns = ["first", "second", "similarity", "overlap", "distance"]
    rows = [[getattr(pair, column) for column in columns] for pair in copies]
    return pd.DataFrame(rows, columns=columns).to_csv(index=False, float_format="%.3f")


def _read_groups(path: Path) -> pd.DataFrame:
    # As text: a patient called 007 or NA is no number and not missing.
    groups = pd.read_csv(path, dtype=str, keep_default_na=False)
    groups["contradictory"] = groups["contradictory"] == "True"
    return groups


def _draw_once(groups: pd.DataFrame, cases: Sequence[Case], path: Path, folds: int, seed: int) -> None:
    if path.exists():
        return
    logger.info("Drawing %d folds with seed %d; they are kept in %s.", folds, seed, path)
    labels = [case.label for case in cases]
    split = draw_split(groups["group"].tolist(), labels, groups["case_id"].tolist(), folds, seed)
    name, _, identity = path.parent.name.rpartition("-")
    method = "grouped by patient and near-copy, stratified by label; validation is fold k + 1"
    write_split(split, path, seed=seed, fingerprint=identity, method=method, name=name)


def _refresh_manifest(cases: Sequence[Case], path: Path, root: Path) -> list[Case]:
    """Return the manifest's cases with the source's metadata, which the fingerprint leaves out and may have changed."""
    metadata: Mapping[str, Mapping[str, str]] = {case.case_id: case.metadata for case in cases}
    listed = read_manifest(path, root)
    current = [replace(case, metadata=metadata[case.case_id]) for case in listed]
    if current != listed:
        write_manifest(current, path, root, read_sizes(path))
    return current


def _size_range(sizes: Mapping[str, tuple[int, int]]) -> str:
    sides = list(zip(*sizes.values(), strict=True))
    return " / ".join("{:g} x {:g}".format(*(statistic(side) for side in sides)) for statistic in (min, median, max))
