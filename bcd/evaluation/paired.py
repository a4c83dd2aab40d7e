"""Is one run better than another on the same cases? Paired tests, each with what it assumes.

The primary test exchanges the two runs' results in whole groups: where the runs are equally good, the difference would be as likely
with the names of the runs swapped in any patient. It holds for every figure, and with several images of a patient. The others
assume more; they are reported beside it, because readers know them. Differences are the second run's figure minus the first's; p is
two-sided.

The variance of an AUROC without resampling: Obuchowski, Biometrics 53 (1997) 567, doi:10.2307/2533958, for cases in clusters, such
as the images of a patient; where each cluster is one case, it is that of DeLong et al., Biometrics 44 (1988) 837,
doi:10.2307/2531595. Computed by the ranks of Sun and Xu, IEEE Signal Processing Letters 21 (2014) 1389,
doi:10.1109/LSP.2014.2337313.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy.stats import binomtest, norm, rankdata, wilcoxon

from bcd.evaluation.intervals import Interval, bootstrap, group_numbers, percentile_interval
from bcd.evaluation.weighted import Figure, evaluate, stack

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
        difference: what was tested, the second run minus the first; None where it is undefined.
        p: two-sided; None where the test cannot be made.
        n: number of exchanges, cases, or pairs.
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
    drawn ones, b / m of all. Areas are of ranks within each run, see `stack`.

    Args:
        first: path -> figure of the first run, over N cases; no FROC average.
        second: of the second run, over the same cases in the same order.
        groups: name of each case's group, (N,).
        permutations: how many exchanges are drawn, where there are too many to make them all.
        seed: of the draw.
    """
    numbers = group_numbers(groups)
    stacked = {name: stack(first[name], second[name]) for name in first}
    observed = _differences(stacked, np.zeros((1, len(numbers))))
    n_groups = int(numbers.max()) + 1
    exact = n_groups <= _ENUMERATED and 2**n_groups <= permutations
    reached, n_exchanges = dict.fromkeys(first, 0), 0
    for swapped in _swaps(n_groups, len(numbers), None if exact else permutations, seed):
        n_exchanges += len(swapped)
        for name, values in _differences(stacked, swapped[:, numbers]).items():
            # An exchange that leaves a figure undefined counts against the difference; sums round in the last digits.
            reached[name] += int((~(np.abs(values) < abs(observed[name][0]) - 1e-12)).sum())
    results = {}
    for name in first:
        known = not np.isnan(observed[name][0])
        p = (reached[name] / n_exchanges if exact else (reached[name] + 1) / (n_exchanges + 1)) if known else None
        kind = "permutation by group" + (ALL_EXCHANGES if exact else "")
        results[name] = PairedTest(kind, BY_GROUP, float(observed[name][0]) if known else None, p, n_exchanges)
    return results


def difference_intervals(
    first: Mapping[str, Figure], second: Mapping[str, Figure], groups: Sequence[str] | np.ndarray, seed: int = 0
) -> dict[str, Interval]:
    """Return the 95 % interval of each difference by a paired bootstrap: both runs are seen on the same drawn groups."""
    drawn = [bootstrap(figures, groups, seed=seed) for figures in (first, second)]
    return {name: percentile_interval(drawn[1][name] - drawn[0][name]) for name in first}


def delong_tests(
    positive: np.ndarray, first: np.ndarray, second: np.ndarray, groups: Sequence[str] | np.ndarray
) -> list[PairedTest]:
    """Return the clustered and the plain DeLong test of the AUROCs of two runs' scores, (N,) each; none with too few cases."""
    scores, numbers = np.stack([first, second]), group_numbers(groups)
    if min(len(np.unique(numbers[positive])), len(np.unique(numbers[~positive]))) < 2:
        return []
    n = len(positive)
    clustered, plain = (difference_p(*delong(positive, scores, clusters)) for clusters in (numbers, np.arange(n)))
    return [
        PairedTest("DeLong, clustered by group", CLUSTERED, *clustered, n),
        PairedTest("DeLong", INDEPENDENT_NORMAL, *plain, n),
    ]


def delong(positive: np.ndarray, scores: np.ndarray, clusters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return K AUROCs, (K,), and their covariance, (K, K), of scores (K, N), for cases in clusters.

    `positive` is bool (N,); `clusters` are numbers, int (N,), from 0 on without gaps.

    Raises:
        ValueError: if positive or negative cases are in fewer than two clusters.
    """
    of_positives, of_negatives = placements(positive, scores)
    areas, n_clusters = of_positives.mean(1), int(clusters.max()) + 1
    excess = []  # of each kind: the sum over a cluster's cases of placement less AUROC, (K, clusters)
    n_with = []
    for inside, values in ((clusters[positive], of_positives), (clusters[~positive], of_negatives)):
        excess.append(np.stack([np.bincount(inside, row, n_clusters) for row in values - areas[:, None]]))
        n_with.append(len(np.unique(inside)))
    if min(n_with) < 2:
        raise ValueError("A clustered variance needs positive, and negative, cases in two clusters or more.")
    m, n = of_positives.shape[1], of_negatives.shape[1]
    first = excess[0] @ excess[0].T * n_with[0] / (n_with[0] - 1) / m**2
    second = excess[1] @ excess[1].T * n_with[1] / (n_with[1] - 1) / n**2
    across = excess[0] @ excess[1].T * n_clusters / (n_clusters - 1) / (m * n)
    return areas, first + second + across + across.T


def placements(positive: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of negatives below each positive, (K, M), and of positives above each negative, (K, N - M); ties half.

    Raises:
        ValueError: with fewer than two positive or negative cases.
    """
    m = int(positive.sum())
    n = len(positive) - m
    if min(m, n) < 2:
        raise ValueError(f"{m} positive and {n} negative cases: the variance of an AUROC needs two of each.")
    scores = np.asarray(scores, dtype=np.float64)
    ranks = rankdata(scores, axis=1)
    below = (ranks[:, positive] - rankdata(scores[:, positive], axis=1)) / n
    above = 1 - (ranks[:, ~positive] - rankdata(scores[:, ~positive], axis=1)) / m
    return below, above


def difference_p(areas: np.ndarray, covariance: np.ndarray) -> tuple[float, float | None]:
    """Return the second of two AUROCs minus the first, and the two-sided p of no difference; the covariance is (2, 2).

    p is None where the variance is 0 but they differ.
    """
    difference = float(areas[1] - areas[0])
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    if variance < 1e-15:
        return difference, 1.0 if abs(difference) < 1e-12 else None
    return difference, float(2 * norm.sf(abs(difference) / variance**0.5))


def mcnemar_test(first: np.ndarray, second: np.ndarray) -> PairedTest:
    """Return McNemar's exact test of two rates: among the pairs that differ, each run is as often the right one.

    McNemar, Psychometrika 12 (1947) 153, doi:10.1007/BF02295996; exact, by the binomial distribution. Both are bool (N,): whether
    the run was right.
    """
    gained, lost = int((second & ~first).sum()), int((first & ~second).sum())
    p = float(binomtest(gained, gained + lost, 0.5).pvalue) if gained + lost else 1.0
    difference = (gained - lost) / len(first) if len(first) else None
    return PairedTest("McNemar, exact", INDEPENDENT, difference, p if len(first) else None, gained + lost)


def wilcoxon_test(first: np.ndarray, second: np.ndarray) -> PairedTest:
    """Return Wilcoxon's signed-rank test of one number per case, (N,), cases without a difference left out.

    The difference is the median. Wilcoxon, Biometrics Bulletin 1 (1945) 80, doi:10.2307/3001968.
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


def _swaps(n_groups: int, n_cases: int, permutations: int | None, seed: int) -> Iterator[np.ndarray]:
    """Yield exchanges of groups, (M, G) in {0, 1}, in chunks: so many drawn ones, or for None all that there are."""
    if permutations is None:
        yield (np.arange(2**n_groups)[:, None] >> np.arange(n_groups) & 1).astype(np.float64)
        return
    rng, size = np.random.default_rng(seed), max(1, _CHUNK // (2 * n_cases))
    for start in range(0, permutations, size):
        yield rng.integers(2, size=(min(size, permutations - start), n_groups)).astype(np.float64)
