"""Is one run better than another on the same cases? Paired tests, each with what it assumes.

The primary test exchanges the two runs' results in whole groups: where the runs are equally good, the difference would be as likely
with the names of the runs swapped in any patient. It holds for every figure, and with several images of a patient. The others
assume more; they stand beside it, because readers know them. Differences are the second run's figure less the first's; p is
two-sided.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy.stats import binomtest, wilcoxon

from bcd.evaluation.delong import delong, delong_clustered, difference_p
from bcd.evaluation.intervals import RESAMPLES, Interval, bootstrap, group_numbers, percentile_interval
from bcd.evaluation.weighted import Figure, evaluate

PERMUTATIONS = 10_000
ALL_EXCHANGES = ", all exchanges"
# Up to so many groups, every one of the exchanges is made: 2 to the power of 13 is 8192.
_ENUMERATED = 13
_CHUNK = 400_000
_Key = TypeVar("_Key", bound=Hashable)

BY_GROUP = "independent groups, in each of which, were the runs equally good, their results could be exchanged"
CLUSTERED = "independent groups, and enough of them for a normal distribution (Obuchowski 1997)"
INDEPENDENT_NORMAL = "independent cases, which images of one patient are not, and enough of them for a normal distribution"
INDEPENDENT = "independent cases, which images of one patient are not"
INDEPENDENT_SYMMETRIC = "independent cases, which images of one patient are not, and a symmetric distribution of the differences"


@dataclass(frozen=True)
class PairedTest:
    """The result of a test.

    Args:
        test: its name.
        assumes: what must hold for the p to be one.
        difference: what was tested, the second run less the first; None where it is undefined.
        p: two-sided; None where the test cannot be made.
        n: exchanges, cases, or pairs that it rests on.
    """

    test: str
    assumes: str
    difference: float | None
    p: float | None
    n: int


def permutation_test(
    first: Mapping[str, Figure],
    second: Mapping[str, Figure],
    groups: Sequence[str] | np.ndarray,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> dict[str, PairedTest]:
    """Test the difference of each figure by exchanging the runs' results in whole groups.

    p is the share of the exchanges, the one that was observed included, with a difference at least as large: (b + 1) / (m + 1) of m
    drawn ones, b / m of all. Areas are of ranks within each run, see `Area.stack`.

    Args:
        first: path -> figure of the first run, over N cases; no FROC average.
        second: of the second run, over the same cases in the same order.
        groups: name of each case's group, (N,).
        permutations: how many exchanges are drawn, where there are too many to make them all.
        seed: of the draw.
    """
    numbers = group_numbers(groups)
    stacked = {name: first[name].stack(second[name]) for name in first}  # type: ignore[arg-type, union-attr]
    observed = _differences(stacked, np.zeros((1, len(numbers))))
    n_groups = int(numbers.max()) + 1
    exact = n_groups <= _ENUMERATED and 2**n_groups <= permutations
    reached, made = dict.fromkeys(first, 0), 0
    for swapped in _all_swaps(n_groups) if exact else _drawn_swaps(n_groups, len(numbers), permutations, seed):
        made += len(swapped)
        for name, values in _differences(stacked, swapped[:, numbers]).items():
            # An exchange that leaves a figure undefined counts against the difference; sums round in the last digits.
            reached[name] += int((~(np.abs(values) < abs(observed[name][0]) - 1e-12)).sum())
    results = {}
    for name in first:
        known = not np.isnan(observed[name][0])
        p = (reached[name] / made if exact else (reached[name] + 1) / (made + 1)) if known else None
        kind = "permutation by group" + (ALL_EXCHANGES if exact else "")
        results[name] = PairedTest(kind, BY_GROUP, float(observed[name][0]) if known else None, p, made)
    return results


def difference_intervals(
    first: Mapping[str, Figure],
    second: Mapping[str, Figure],
    groups: Sequence[str] | np.ndarray,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Interval]:
    """Return the 95 % interval of each difference by a paired bootstrap: both runs are seen on the same drawn groups.

    Args:
        first: path -> figure of the first run, over N cases.
        second: of the second run, over the same cases in the same order.
        groups: name of each case's group, (N,).
        resamples: how many.
        seed: of the draw.
    """
    drawn = [bootstrap(figures, groups, resamples, seed) for figures in (first, second)]
    return {name: percentile_interval(drawn[1][name] - drawn[0][name]) for name in first}


def delong_tests(
    positive: np.ndarray, first: np.ndarray, second: np.ndarray, groups: Sequence[str] | np.ndarray
) -> list[PairedTest]:
    """Return the clustered and the plain DeLong test of two AUROCs; none with too few cases.

    Args:
        positive: bool (N,).
        first: the first run's scores, (N,).
        second: the second run's.
        groups: name of each case's group, (N,).
    """
    scores, numbers = np.stack([first, second]), group_numbers(groups)
    if min(len(np.unique(numbers[positive])), len(np.unique(numbers[~positive]))) < 2:
        return []
    clustered = difference_p(*delong_clustered(positive, scores, numbers))
    plain = difference_p(*delong(positive, scores))
    n = len(positive)
    return [
        PairedTest("DeLong, clustered by group", CLUSTERED, *clustered, n),
        PairedTest("DeLong", INDEPENDENT_NORMAL, *plain, n),
    ]


def mcnemar_test(first: np.ndarray, second: np.ndarray) -> PairedTest:
    """Return McNemar's exact test of two rates: among the pairs that differ, each run is as often the right one.

    McNemar, Psychometrika 12 (1947) 153, doi:10.1007/BF02295996; exact, by the binomial distribution.

    Args:
        first: whether the first run was right, bool (N,).
        second: whether the second was.
    """
    gained, lost = int((second & ~first).sum()), int((first & ~second).sum())
    p = float(binomtest(gained, gained + lost, 0.5).pvalue) if gained + lost else 1.0
    difference = (gained - lost) / len(first) if len(first) else None
    return PairedTest("McNemar, exact", INDEPENDENT, difference, p if len(first) else None, gained + lost)


def wilcoxon_test(first: np.ndarray, second: np.ndarray) -> PairedTest:
    """Return Wilcoxon's signed-rank test of one number a case, cases without a difference left out; the difference is the median.

    Wilcoxon, Biometrics Bulletin 1 (1945) 80, doi:10.2307/3001968.

    Args:
        first: (N,), without NaN.
        second: (N,).
    """
    differences = second - first
    some = int((differences != 0).sum())
    p = float(wilcoxon(differences[differences != 0]).pvalue) if some else 1.0
    median = float(np.median(differences)) if len(first) else None
    return PairedTest("Wilcoxon signed rank", INDEPENDENT_SYMMETRIC, median, p if len(first) else None, some)


def holm(values: Mapping[_Key, float | None]) -> dict[_Key, float | None]:
    """Return the p-values of a family corrected by Holm's method; an unknown one, None or NaN, becomes None and does not count.

    Holm, Scandinavian Journal of Statistics 6 (1979) 65.
    """
    known = sorted(((p, key) for key, p in values.items() if p is not None and not np.isnan(p)), key=lambda pair: pair[0])
    result: dict[_Key, float | None] = dict.fromkeys(values)
    highest = 0.0
    for rank, (p, key) in enumerate(known):
        highest = max(highest, min(1.0, p * (len(known) - rank)))
        result[key] = highest
    return result


def _differences(stacked: Mapping[str, Figure], swapped: np.ndarray) -> dict[str, np.ndarray]:
    """Return second less first, (M,), after exchanges of cases, (M, N) in {0, 1}."""
    kept = 1 - swapped
    first, second = (evaluate(stacked, np.concatenate(pair, axis=1)) for pair in ((kept, swapped), (swapped, kept)))
    return {name: second[name] - first[name] for name in stacked}


def _all_swaps(n_groups: int) -> Iterator[np.ndarray]:
    yield (np.arange(2**n_groups)[:, None] >> np.arange(n_groups) & 1).astype(np.float64)


def _drawn_swaps(n_groups: int, n_cases: int, permutations: int, seed: int) -> Iterator[np.ndarray]:
    rng, size = np.random.default_rng(seed), max(1, _CHUNK // (2 * n_cases))
    for start in range(0, permutations, size):
        yield rng.integers(2, size=(min(size, permutations - start), n_groups)).astype(np.float64)
