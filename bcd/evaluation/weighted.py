"""Figures as functions of case weights: the one form that tests, bootstrap and permutations evaluate alike.

A weighting says how often each case counts. All ones give the figure of the table; the multiplicities of a bootstrap give that of
a resample. `stack` sets the figures of two runs on the same cases below each other, so that a weighting can pick from either run;
the FROC average has none, for scores of two runs are not on one scale.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from bcd.metrics.detection import froc_sensitivities
from bcd.metrics.ranking import Kind, Ranking
from bcd.metrics.tables import ratio


@dataclass(frozen=True)
class Sums:
    """A figure made of weighted sums over the cases: a mean, a rate, anything of a table of counts.

    Args:
        columns: float (N, K), what is summed.
        finish: the K sums, (..., K), -> the figure, (...).
        is_rate: whether it is a share of cases, each 0 or 1.
    """

    columns: np.ndarray
    finish: Callable[[np.ndarray], np.ndarray]
    is_rate: bool = False


@dataclass(frozen=True)
class Area:
    """AUROC or AUPRC.

    Args:
        positive: bool (N,).
        score: float (N,).
        kind: which of the two.
    """

    positive: np.ndarray
    score: np.ndarray
    kind: Kind


@dataclass(frozen=True)
class Median:
    """The median of values, float (N,); NaN for cases that do not count."""

    values: np.ndarray


@dataclass(frozen=True)
class MeanOf:
    """The mean of other figures of the same mapping, by their names; unknown where one of them is."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class Froc:
    """The mean sensitivity at the false positives per image of FROC_POINTS.

    Args:
        score: of D detections, (D,).
        hit: whether each hits a lesion, bool (D,).
        row: case of each detection, int (D,) in [0, N).
        n_lesions: of each case, float (N,).
    """

    score: np.ndarray
    hit: np.ndarray
    row: np.ndarray
    n_lesions: np.ndarray


Figure = Sums | Area | Median | MeanOf | Froc


def stack(first: Figure, second: Figure) -> Figure:
    """Return a figure over the N cases of one run and then those of another; a FROC average has none.

    Of an area each run's scores are replaced by their ranks: two runs need not use the same scale; ranks within a run leave its own
    areas as they are and can be exchanged (Bandos et al., Statistics in Medicine 24 (2005) 2873, doi:10.1002/sim.2149).
    """
    if isinstance(first, Sums) and isinstance(second, Sums):
        return Sums(np.concatenate([first.columns, second.columns]), first.finish, first.is_rate)
    if isinstance(first, Area) and isinstance(second, Area):
        ranks = np.concatenate([rankdata(first.score), rankdata(second.score)])
        return Area(np.concatenate([first.positive, second.positive]), ranks, first.kind)
    if isinstance(first, Median) and isinstance(second, Median):
        return Median(np.concatenate([first.values, second.values]))
    if isinstance(first, MeanOf) and isinstance(second, MeanOf):
        return first
    raise TypeError("These figures cannot be stacked.")


def mean(values: np.ndarray, counted: np.ndarray, *, is_rate: bool = False) -> Sums:
    """Return the mean of values (N,) over the cases that count, bool (N,)."""
    columns = np.stack([np.where(counted, values, 0.0), counted], axis=1).astype(np.float64)
    return Sums(columns, first_by_second, is_rate)


def first_by_second(sums: np.ndarray) -> np.ndarray:
    """Return sums[..., 0] / sums[..., 1], NaN where that is 0."""
    return ratio(sums[..., 0], sums[..., 1])


def with_parts(figures: Mapping[str, Figure], wanted: Collection[str]) -> dict[str, Figure]:
    """Return the wanted figures, in the order of the mapping, and those that they are the means of, such as each class's."""
    parts = {part for name in wanted if isinstance(figure := figures[name], MeanOf) for part in figure.names}
    return {name: figure for name, figure in figures.items() if name in wanted or name in parts}


def evaluate(figures: Mapping[str, Figure], weights: np.ndarray) -> dict[str, np.ndarray]:
    """Return each figure of a table with N cases under weightings (R, N), not negative: float64 (R,), NaN where it is undefined."""
    weights = weights.astype(np.float64, copy=False)
    sums = {name: figure for name, figure in figures.items() if isinstance(figure, Sums)}
    result = _all_sums(sums, weights) | _all_areas(figures, weights)
    result |= {name: _median(figure.values, weights) for name, figure in figures.items() if isinstance(figure, Median)}
    result |= {name: _froc_average(figure, weights) for name, figure in figures.items() if isinstance(figure, Froc)}
    for name, figure in figures.items():
        if isinstance(figure, MeanOf):
            result[name] = np.mean([result[part] for part in figure.names], axis=0)
    return {name: result[name] for name in figures}


def plain(figures: Mapping[str, Figure], n: int) -> dict[str, float | None]:
    """Return each figure of the table itself, every one of its n cases counted once; None where it is undefined."""
    values = evaluate(figures, np.ones((1, n)))
    return {name: None if np.isnan(value[0]) else float(value[0]) for name, value in values.items()}


def _all_sums(figures: Mapping[str, Sums], weights: np.ndarray) -> dict[str, np.ndarray]:
    if not figures:
        return {}
    together = weights @ np.concatenate([figure.columns for figure in figures.values()], axis=1)
    ends = np.cumsum([figure.columns.shape[1] for figure in figures.values()])
    parts = np.split(together, ends[:-1], axis=1)
    return {name: figure.finish(part) for (name, figure), part in zip(figures.items(), parts, strict=True)}


def _all_areas(figures: Mapping[str, Figure], weights: np.ndarray) -> dict[str, np.ndarray]:
    """Evaluate the areas; those of the same scores in one pass."""
    by_score: dict[tuple[int, int], dict[str, Area]] = {}
    for name, figure in figures.items():
        if isinstance(figure, Area):
            by_score.setdefault((id(figure.positive), id(figure.score)), {})[name] = figure
    result: dict[str, np.ndarray] = {}
    for same in by_score.values():
        any_one = next(iter(same.values()))
        if weights.shape[1]:
            areas = Ranking(any_one.positive, any_one.score).areas(weights, {figure.kind for figure in same.values()})
            result |= {name: areas[figure.kind] for name, figure in same.items()}
        else:
            result |= dict.fromkeys(same, np.full(len(weights), np.nan))
    return result


def _median(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the medians, whole-number weights taken as multiplicities."""
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    if not len(order):
        return np.full(len(weights), np.nan)
    below = np.cumsum(weights[:, order], axis=1)
    half = below[:, -1:] / 2
    # Of an even number the two in the middle: the first that reaches half of the weight, and the first that passes it.
    reaches = (below < half).sum(1)
    passes = np.minimum((below <= half).sum(1), len(order) - 1)
    middle = (values[order][np.minimum(reaches, len(order) - 1)] + values[order][passes]) / 2
    return np.where(half[:, 0] > 0, middle, np.nan)


def _froc_average(figure: Froc, weights: np.ndarray) -> np.ndarray:
    """Return the average of each weighting; the curve is that of `bcd.metrics.detection.froc_curve`."""
    images, lesions = weights.sum(1), weights @ figure.n_lesions
    order = np.argsort(-figure.score, kind="stable")
    order = order[figure.score[order] > 0]
    ordered = figure.score[order]
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True)) if len(order) else np.zeros(0, np.intp)
    counts = weights[:, figure.row[order]]
    false = np.pad(np.cumsum(counts * ~figure.hit[order], axis=1)[:, ends], ((0, 0), (1, 0)))
    true = np.pad(np.cumsum(counts * figure.hit[order], axis=1)[:, ends], ((0, 0), (1, 0)))
    result = np.full(len(weights), np.nan)
    for number in np.flatnonzero(lesions > 0):
        result[number] = froc_sensitivities(false[number] / images[number], true[number] / lesions[number]).mean()
    return result
