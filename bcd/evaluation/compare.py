"""Runs side by side on the same cases: figures with intervals, differences with intervals and corrected p-values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from bcd.evaluation.classification import choose_positive, truth_of
from bcd.evaluation.intervals import intervals
from bcd.evaluation.paired import (
    ALL_EXCHANGES,
    PERMUTATIONS,
    PairedTest,
    delong_tests,
    difference_intervals,
    holm,
    mcnemar_test,
    permutation_test,
    wilcoxon_test,
)
from bcd.evaluation.summary import headline_figures
from bcd.evaluation.weighted import Figure, plain, with_parts

# What must be the same for the same case; the runs' models alone may differ.
_SHARED = ("label", "group", "fold", "lesion_area_px")


@dataclass(frozen=True)
class Contestant:
    """One of the runs that are compared: its printed name, its cases.csv, and the fingerprint of its data, "" if unknown."""

    name: str
    cases: pd.DataFrame
    fingerprint: str = ""

    @property
    def class_names(self) -> list[str]:
        """Return the classes in the order of the probabilities."""
        return [name.removeprefix("probability_") for name in map(str, self.cases) if name.startswith("probability_")]


@dataclass(frozen=True)
class Comparison:
    """What a comparison found.

    Args:
        runs: in the order of the command line, the cases of each in the same order.
        positive: class that sensitivity and specificity are about; None where nothing is classified.
        figures: `run, figure, value, low, high`.
        differences: `first, second, figure, difference, low, high, test, assumes, p, n, p_holm`, one row a test; the
            difference is the second run's figure minus the first's.
    """

    runs: tuple[Contestant, ...]
    positive: str | None
    figures: pd.DataFrame
    differences: pd.DataFrame


def align(runs: Sequence[Contestant]) -> tuple[Contestant, ...]:
    """Return the runs with their cases in one order.

    Raises:
        ValueError: when they were not tested on the same cases, naming what differs.
    """
    if len(runs) < 2:
        raise ValueError("A comparison needs two runs or more: runs=[outputs/runs/...,outputs/runs/...].")
    first = runs[0]
    for other in runs[1:]:
        _check_same_cases(first, other)
    ordered = [Contestant(run.name, run.cases.sort_values("case_id", ignore_index=True), run.fingerprint) for run in runs]
    for run in ordered[1:]:
        _check_same_truth(ordered[0], run)
    return tuple(ordered)


def compare(
    runs: Sequence[Contestant],
    wanted: Sequence[str] | None = None,
    positive: str | None = None,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> Comparison:
    """Compare every pair of runs.

    Holm's correction is over all pairs and figures of one kind of test: the permutations are one family, and so is each of the
    tests beside them.

    Args:
        runs: two or more, of unlike names.
        wanted: paths of the figures, as in metrics.json; None for those of `default_figures`.
        positive: class of sensitivity and specificity; None for `malignant`, or else the last.
        permutations: how many exchanges are drawn.
        seed: of bootstrap and permutations.

    Raises:
        ValueError: when the runs were not tested on the same cases, or one lacks a wanted figure.
    """
    runs = align(runs)
    names = runs[0].class_names
    positive = choose_positive(names, positive) if names else None
    wanted = list(wanted) if wanted else default_figures(runs, positive)
    figures = {run.name: _wanted_figures(run, wanted, positive) for run in runs}
    groups = runs[0].cases["group"].to_numpy(str)
    rows: list[dict[str, object]] = []
    for first, second in combinations(runs, 2):
        pair = (figures[first.name], figures[second.name])
        ends = difference_intervals(*pair, groups, seed=seed)
        primary = permutation_test(*pair, groups, permutations, seed)
        for path in wanted:
            for test in [primary[path], *_beside(first.cases, second.cases, path, positive)]:
                row: dict[str, object] = {
                    "first": first.name,
                    "second": second.name,
                    "figure": path,
                    "difference": primary[path].difference,
                }
                row |= {"low": ends[path].low, "high": ends[path].high}
                rows.append(row | {"test": test.test, "assumes": test.assumes, "p": test.p, "n": test.n})
    table = pd.DataFrame(rows)
    families, corrected = table["test"].str.removesuffix(ALL_EXCHANGES), dict[int, float | None]()
    for family in families.unique():
        corrected |= holm({row: table["p"][row] for row in table.index[families == family]})
    table["p_holm"] = [corrected[row] for row in table.index]
    return Comparison(runs, positive, _figure_table(figures, wanted, groups, seed), table)


def default_figures(runs: Sequence[Contestant], positive: str | None) -> list[str]:
    """Return the figures that all runs have, of: Dice and HD95 of lesion images; AUROC, accuracy, sensitivity, specificity.

    Raises:
        ValueError: when they share none.
    """
    shared = set.intersection(*(set(run.cases.columns) for run in runs))
    masks = {"dice": "lesion_images.dice", "hd95_px": "lesion_images.hd95_px"}
    shared_figures = [path for column, path in masks.items() if column in shared and (runs[0].cases["lesion_area_px"] > 0).any()]
    if positive is not None and "predicted_label" in shared:
        shared_figures += ["auroc", "accuracy", f"by_class.{positive}.sensitivity", f"by_class.{positive}.specificity"]
    if not shared_figures:
        raise ValueError(
            f"{' and '.join(run.name for run in runs)} have no figure in common: one is segmentation, one classification."
        )
    return shared_figures


def case_quality(cases: pd.DataFrame) -> tuple[str, np.ndarray]:
    """Return one number per case, (N,), higher where the run did better, and its name: Dice, else the true class's probability."""
    if "dice" in cases:
        return "Dice", cases["dice"].to_numpy(dtype=np.float64)
    given = [float(row[f"probability_{row['label']}"]) for _, row in cases.iterrows()]
    return "probability of the true class", np.array(given)


def furthest_apart(first: pd.DataFrame, second: pd.DataFrame) -> list[str]:
    """Return the ids of the cases on which one run was most ahead, up to three for the second run and then for the first."""
    difference = pd.Series(case_quality(second)[1] - case_quality(first)[1], index=first["case_id"]).dropna()
    ordered = difference.sort_values(kind="stable")
    ahead, behind = ordered[ordered > 0].index[::-1][:3], ordered[ordered < 0].index[:3]
    return [str(name) for name in [*ahead, *behind]]


def _check_same_cases(first: Contestant, other: Contestant) -> None:
    for run in (first, other):
        twice = run.cases["case_id"][run.cases["case_id"].duplicated()]
        if len(twice):
            raise ValueError(f"{run.name}: {len(twice)} cases stand there twice (first: {twice.iloc[0]}).")
    if first.fingerprint and other.fingerprint and first.fingerprint != other.fingerprint:
        raise ValueError(
            f"{first.name} and {other.name} were tested on different data: fingerprint {first.fingerprint} and "
            f"{other.fingerprint}. Evaluate one of them again on the data of the other."
        )
    ids = set(first.cases["case_id"]), set(other.cases["case_id"])
    lines = []
    for name, missing in ((first.name, ids[1] - ids[0]), (other.name, ids[0] - ids[1])):
        if missing:
            lines.append(f"{name} lacks {len(missing)} cases ({', '.join(sorted(map(str, missing))[:3])}, ...)")
    if lines:
        folds = [sorted(set(run.cases["fold"])) for run in (first, other) if "fold" in run.cases]
        tested = f" Folds: {' and '.join(map(str, folds))}." if len(folds) == 2 and folds[0] != folds[1] else ""
        raise ValueError(f"The runs were not tested on the same cases: {'; '.join(lines)}.{tested} Compare runs of the same folds.")
    if sorted(first.class_names) != sorted(other.class_names) and first.class_names and other.class_names:
        raise ValueError(
            f"{first.name} has the classes {', '.join(first.class_names)}, {other.name} {', '.join(other.class_names)}; the "
            "figures of different classes cannot be compared."
        )


def _check_same_truth(first: Contestant, other: Contestant) -> None:
    for column in _SHARED:
        if column not in first.cases or column not in other.cases:
            continue
        differs = (first.cases[column].astype(str) != other.cases[column].astype(str)).to_numpy()
        if differs.any():
            row = int(differs.argmax())
            raise ValueError(
                f"{int(differs.sum())} cases have another {column} in {other.name} than in {first.name} (first: "
                f"{first.cases['case_id'][row]}, {first.cases[column][row]} and {other.cases[column][row]}); results can only "
                "be paired where all but the model is the same."
            )


def _wanted_figures(run: Contestant, wanted: Sequence[str], positive: str | None) -> dict[str, Figure]:
    figures = headline_figures(run.cases, run.class_names, positive)
    if len(run.class_names) == 2 and positive is not None and f"by_class.{positive}.auroc" in figures:
        # Of two classes each has the AUROC of the other; one sort less.
        figures["auroc"] = figures[f"by_class.{positive}.auroc"]
    missing = [path for path in wanted if path not in figures]
    if missing:
        raise ValueError(f"{run.name} has no figure {missing[0]!r}; there are {', '.join(sorted(figures))}.")
    return with_parts(figures, wanted)


def _figure_table(
    figures: Mapping[str, Mapping[str, Figure]], wanted: Sequence[str], groups: np.ndarray, seed: int
) -> pd.DataFrame:
    rows = []
    for run, own in figures.items():
        values, ends = plain(own, len(groups)), intervals(own, groups, seed=seed)
        rows += [
            {"run": run, "figure": path, "value": values[path], "low": ends[path].low, "high": ends[path].high} for path in wanted
        ]
    return pd.DataFrame(rows)


def _beside(first: pd.DataFrame, second: pd.DataFrame, path: str, positive: str | None) -> list[PairedTest]:
    """Return the tests that readers know, where there is one for the figure."""
    tail = path.rpartition(".")[2]
    if path.startswith("lesion_images.") and tail in first:
        known = first[tail].notna().to_numpy() & second[tail].notna().to_numpy()
        return [wilcoxon_test(first[tail].to_numpy(float)[known], second[tail].to_numpy(float)[known])]
    if "predicted_label" not in first or positive is None:
        return []
    names = [name.removeprefix("probability_") for name in map(str, first) if name.startswith("probability_")]
    about = path.split(".")[1] if path.startswith("by_class.") else positive
    is_about = truth_of(first, names) == names.index(about)
    if tail == "auroc" and (len(names) == 2 or path.startswith("by_class.")):
        scores = [cases[f"probability_{about}"].to_numpy(float) for cases in (first, second)]
        return delong_tests(is_about, scores[0], scores[1], first["group"].to_numpy(str))
    if path == "accuracy" or (path.startswith("by_class.") and tail in ("sensitivity", "specificity")):
        counted = {"sensitivity": is_about, "specificity": ~is_about}.get(tail, np.ones(len(first), bool))
        if path == "accuracy":
            right = [(cases["predicted_label"] == cases["label"]).to_numpy() for cases in (first, second)]
        else:  # right is whether a case is of the one class
            right = [(cases["predicted_label"] == about).to_numpy() == is_about for cases in (first, second)]
        return [mcnemar_test(right[0][counted], right[1][counted])]
    return []
