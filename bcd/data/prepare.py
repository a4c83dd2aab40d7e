"""Preparation: from a source to a folder with manifest, groups and split that every run of that data reads."""

import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bcd.data.copies.find import SCENE_SIMILARITY, find_copies, group_cases
from bcd.data.intake import VERIFIED, Intake, take_in
from bcd.data.manifest import Case, Source, read_manifest, read_sizes, write_manifest
from bcd.data.nnunet_splits import read_splits_json
from bcd.data.problems import Problem
from bcd.data.splits import SplitError, draw_split, read_split, write_split
from bcd.data.verify import Checks, read_verified, write_verified
from bcd.files import build_folder, write_text
from bcd.images.read import read_image

logger = logging.getLogger(__name__)

# Raise it when verification or the duplicate audit finds something else in the same data.
VERSION = 3

# What a drawn split keeps together: a group, or nothing but the image itself.
SPLIT_BY = ("group", "image")


@dataclass(frozen=True, eq=False)
class Streaming:
    """How cases are read that no cache holds: from shards, a few of them at a time.

    Args:
        sizes: native height and width in pixels of each case, int64 (N, 2).
        shards: the shard of each case, int64 (N,).
        shuffle_shards: a training epoch is shuffled within so many shards at a time.
    """

    sizes: NDArray[np.int64]
    shards: NDArray[np.int64]
    shuffle_shards: int


@dataclass(frozen=True)
class Prepared:
    """A data set that is verified, audited for duplicates, and split.

    Args:
        name: the data set's name.
        fingerprint: 16 hex digits over ids, labels, patients, paths and file contents of the cases.
        folder: where manifest, groups, drawn splits and caches lie.
        cases: every case that is used; one whose masks are all black has no masks.
        groups: one row per case: case_id, group, cluster, contradictory.
        split: one row per case: case_id, group, fold and optionally valid_<k>.
        split_file: where the split was read from.
        synthetic: whether the images are simulated.
        how_to_get: where others find the data; empty for simulated ones.
        max_pixels: the most pixels that a picture may have.
        skipped: what is wrong with the cases that are not used; empty unless `on_error` is `skip`.
        streaming: how the cases are read, in their order; None where they are decoded once into a cache.
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
    max_pixels: int
    skipped: list[Problem]
    streaming: Streaming | None = None


def prepare(
    source: Source,
    name: str,
    output: str | Path,
    *,
    folds: int,
    seed: int,
    checks: Checks,
    on_error: str = "stop",
    split_file: str | Path | None = None,
    split_by: str = "group",
    allow_leak: bool = False,
) -> Prepared:
    """Return the prepared data set in `<output>/<name>-<fingerprint>/`, which is made where it is absent or damaged.

    What is left of a data set after skipping has a folder of its own, `<name>-<fingerprint>-skip`. Changed data have another
    fingerprint, so another folder. A split that is not given is drawn once for each `folds`, `seed` and `split_by`, and kept there.

    Args:
        source: the data set.
        name: of the data set.
        output: the folder for prepared data.
        folds: number of folds, where the split is drawn.
        seed: of the drawn split.
        checks: what the cases are held to.
        on_error: `stop` refuses a data set with any problem, `skip` continues without the cases that have one.
        split_file: a split to use instead, ours or nnU-Net's `splits_final.json`; it may name cases that are skipped.
        split_by: `group` keeps patients and near-copies together; `image` draws as if there were none, to show what that does.
        allow_leak: whether `image` is meant.

    Raises:
        DataProblems: when anything is wrong with any case; lists them, and names `problems.csv`, which lists all.
        SplitError: when the split would be drawn by image and that is not allowed, or cannot be since a split is given.
        FileNotFoundError: when the data set or the split file is absent.
    """
    if split_by not in SPLIT_BY:
        raise SplitError(f"data.split_by={split_by}: choose group or image.")
    if split_by == "image" and split_file is not None:
        raise SplitError(f"data.split_by=image draws a split, but data.split={split_file} gives one; add data.split=null.")
    if split_by == "image" and not allow_leak:
        raise SplitError(
            "data.split_by=image puts images of one patient, and near-copies, on both sides of the split, which inflates every "
            "figure. Use data.split_by=group; or add data.allow_leak=true to show this effect; every result will state it."
        )
    prepared = Path(output).absolute()
    intake = take_in(source, checks, on_error, lambda identity: prepared / f"{name}-{identity}")
    cases, identity = intake.cases, intake.fingerprint
    folder = prepared / (f"{name}-{identity}-skip" if intake.problems else f"{name}-{identity}")
    case_ids = [case.case_id for case in cases]
    build_folder(
        folder,
        build=lambda aside: _build(intake, source.root, aside, checks.max_pixels),
        is_whole=lambda candidate: _is_whole(candidate, case_ids, source.root),
    )
    groups = read_groups(folder / "groups.csv")
    drawn = f"split-{folds}-{seed}.csv" if split_by == "group" else f"split-{split_by}-{folds}-{seed}.csv"
    chosen = folder / drawn if split_file is None else Path(split_file)
    if split_file is None:
        _draw_once(groups, cases, chosen, folds, seed, split_by, identity)
    if chosen.suffix.lower() == ".json":
        split = read_splits_json(chosen, dict(zip(groups["case_id"], groups["group"].astype(str), strict=True)))
    else:
        split = read_split(chosen)
    skipped = {case.case_id for case, _ in intake.skipped} - set(case_ids)
    # The fingerprint leaves metadata out: they may have changed.
    path, metadata = folder / "manifest.csv", {case.case_id: case.metadata for case in cases}
    current = [replace(case, metadata=metadata[case.case_id]) for case in read_manifest(path, source.root)]
    write_manifest(current, path, source.root, read_sizes(path), intake.skipped)
    return Prepared(
        name=name,
        fingerprint=identity,
        folder=folder,
        cases=current,
        groups=groups,
        split=split[[case_id not in skipped for case_id in split["case_id"]]].reset_index(drop=True),
        split_file=chosen,
        synthetic=source.synthetic,
        how_to_get=str(getattr(source, "how_to_get", "")),  # phantoms are made, not got
        max_pixels=checks.max_pixels,
        skipped=intake.problems,
    )


def summary(prepared: Prepared) -> list[tuple[str, str]]:
    """Return what a short table says of a prepared data set: (what, how many)."""
    cases, groups = prepared.cases, prepared.groups
    labels = Counter("no label" if case.label is None else case.label for case in cases)
    patients = {case.patient for case in cases} - {None}
    cluster_sizes = groups["cluster"].value_counts()
    copied = cluster_sizes[cluster_sizes > 1]
    folds = prepared.split["fold"].value_counts().sort_index()
    sides = list(zip(*read_sizes(prepared.folder / "manifest.csv").values(), strict=True))
    sizes = ["{:g} x {:g}".format(*(statistic(side) for side in sides)) for statistic in (min, median, max)]
    return [
        ("images", str(len(cases))),
        *((f"  {label}", str(count)) for label, count in sorted(labels.items())),
        ("images with a lesion mask", str(sum(bool(case.masks) for case in cases))),
        ("patients", str(len(patients)) if patients else "unknown"),
        ("groups (patient or near-copies)", str(groups["group"].nunique())),
        ("near-copies", f"{copied.sum()} images in {len(copied)} clusters"),
        ("contradictory copies", str(int(groups["contradictory"].sum()))),
        ("height x width, min / median / max", " / ".join(sizes)),
        ("images a fold", " ".join(str(count) for count in folds)),
        *([("problems skipped (on_error=skip)", str(len(prepared.skipped)))] if prepared.skipped else []),
    ]


def _build(intake: Intake, root: Path, folder: Path, max_pixels: int) -> None:
    cases, verified = intake.cases, intake.verified
    kept = [replace(case, masks=()) if case.case_id in verified.without_lesion else case for case in cases]
    logger.info("Looking for near-copies among %d images.", len(cases))
    copies = find_copies(
        [case.case_id for case in cases],
        lambda index: read_image(cases[index].image, max_pixels),
        similarity=SCENE_SIMILARITY,
        looks=intake.looks,
    )
    write_manifest(kept, folder / "manifest.csv", root, verified.sizes, intake.skipped)
    write_verified(folder / VERIFIED, verified)
    columns = ["first", "second", "similarity", "overlap", "distance", "mirrored"]
    table = pd.DataFrame([[getattr(pair, column) for column in columns] for pair in copies], columns=columns)
    write_text(folder / "copies.csv", table.to_csv(index=False, float_format="%.3f"))
    write_text(folder / "groups.csv", group_cases(cases, copies).to_csv(index=False))
    write_text(folder / "prepared.json", json.dumps({"version": VERSION, "similarity": SCENE_SIMILARITY}, indent=2))


def _is_whole(folder: Path, case_ids: Sequence[str], root: Path) -> bool:
    try:
        done = json.loads((folder / "prepared.json").read_text())
        listed = [case.case_id for case in read_manifest(folder / "manifest.csv", root)]
        grouped = list(read_groups(folder / "groups.csv")["case_id"])
        verified = read_verified(folder / VERIFIED)
    except (OSError, ValueError, KeyError):
        return False
    if verified is None or verified.sizes.keys() != set(case_ids):
        return False
    return done == {"version": VERSION, "similarity": SCENE_SIMILARITY} and listed == grouped == list(case_ids)


def read_groups(path: Path) -> pd.DataFrame:
    """Return groups.csv: case_id, group, cluster as text, contradictory as truth values."""
    # As text: a patient called 007 or NA is no number and not missing.
    groups = pd.read_csv(path, dtype=str, keep_default_na=False)
    groups["contradictory"] = groups["contradictory"] == "True"
    return groups


def _draw_once(
    groups: pd.DataFrame, cases: Sequence[Case], path: Path, folds: int, seed: int, split_by: str, identity: str
) -> None:
    if path.exists():
        return
    logger.info("Drawing %d folds by %s with seed %d; they are kept in %s.", folds, split_by, seed, path)
    labels, case_ids = [case.label for case in cases], groups["case_id"].tolist()
    together = groups["group"].tolist() if split_by == "group" else case_ids
    # The file names the groups all the same, so that everyone can count those that cross.
    split = draw_split(together, labels, case_ids, folds, seed).assign(group=groups["group"].tolist())
    name = path.parent.name.partition(f"-{identity}")[0]
    unit = "grouped by patient and near-copy" if split_by == "group" else "by image, ignoring groups: it leaks"
    method = f"{unit}, stratified by label; validation is fold k + 1"
    write_split(split, path, seed=seed, fingerprint=identity, method=method, name=name)
