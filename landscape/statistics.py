"""What a difference between paired runs is worth: an interval, a test, the size of the effect; many tests at once.

Runs are paired by seed: they share their data split, start and shuffles, so that only what is compared differs.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from landscape.estimate import Estimate, from_samples

RESOLUTION = 1e-6  # relative: what results in single precision can hardly tell apart counts as equal
EXACT = 50  # pairs, up to which the test's distribution is exact


class Paired(NamedTuple):
    """a - b over pairs."""

    difference: Estimate  # mean over pairs
    lower: float  # of Student's interval of the mean
    upper: float
    p_value: float  # two-sided, Wilcoxon's signed-rank test
    effect: float  # Cohen's d_z, the mean over the standard deviation of the differences
    pairs: int


class Ratio(NamedTuple):
    """a / b over pairs of positive numbers: the geometric mean, and what `paired` says of their logarithms."""

    ratio: float
    lower: float
    upper: float
    p_value: float
    effect: float  # d_z of the logarithms
    pairs: int


def paired(a: Any, b: Any, level: float = 0.95) -> Paired:
    """How far `a` (pairs,) lies above `b` (pairs,), pair by pair, d = a - b.

        mean(d) -+ t_{n-1} s / sqrt(n),   d_z = mean(d) / s,   s^2 = sum (d - mean(d))^2 / (n - 1)

    The p-value is that of Wilcoxon's signed-rank test without pairs that do not differ: of all 2^n patterns of signs,
    the share whose sum of ranks lies as far from the middle, exact, with ties too, up to `EXACT` pairs, else by its
    normal limit. The least that n pairs can give is 2^(1-n). Where all d are 0 it is 1; d_z is infinite where all d are
    equal and not 0. Equal, tied and 0 are what differs by at most `RESOLUTION` times the largest |a| or |b|: accuracies
    are fractions in single precision, whose differences must not be ranked by their rounding.

    Raises ValueError, in one sentence, for unequal lengths, fewer than 2 pairs, and what is not finite: leave out a
    run that diverged, with its partner, and say how many there were.

    Source: Wilcoxon, Biometrics Bulletin 1 (1945) 80-83; Cohen, Statistical Power Analysis (1988) eq. (2.3.5).
    """
    first, second = _sample(a, "a"), _sample(b, "b")
    _paired_off(first, second)
    return _compared(first - second, RESOLUTION * float(max(np.abs(first).max(), np.abs(second).max())), level)


def ratio(a: Any, b: Any, level: float = 0.95) -> Ratio:
    """a / b pair by pair: exp of the mean of log a - log b, and of its interval; see `paired`.

    Raises ValueError for what is not positive, besides what `paired` refuses.
    """
    for values, name in ((a, "a"), (b, "b")):
        if np.any(np.asarray(values) <= 0):
            raise ValueError(f"{name} holds {np.min(values)}: a ratio of geometric means needs numbers above 0")
    first, second = _sample(a, "a"), _sample(b, "b")
    _paired_off(first, second)
    found = _compared(np.log(first) - np.log(second), RESOLUTION, level)
    middle, lower, upper = (float(np.exp(value)) for value in (found.difference.mean, found.lower, found.upper))
    return Ratio(middle, lower, upper, found.p_value, found.effect, found.pairs)


def paired_where(a: Any, b: Any, usable: np.ndarray) -> Paired:
    """`paired` of the pairs that are `usable` (pairs,).

    Fewer than 2 say nothing, and are no reason to lose all else that was measured: the difference is NaN then, its
    interval all numbers, and p is 1.
    """
    count = int(np.sum(usable))
    if count < 2:
        return Paired(Estimate(np.nan, np.nan), -np.inf, np.inf, 1.0, np.nan, count)
    return paired(np.asarray(a)[usable], np.asarray(b)[usable])


def ratio_where(a: Any, b: Any, usable: np.ndarray) -> Ratio:
    """`ratio` of the pairs that are `usable` (pairs,); of fewer than 2 NaN, its interval all numbers from 0 on."""
    count = int(np.sum(usable))
    if count < 2:
        return Ratio(np.nan, 0.0, np.inf, 1.0, np.nan, count)
    return ratio(np.asarray(a)[usable], np.asarray(b)[usable])


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Holm's adjusted p-values of k tests: max over j <= i of min(1, (k - j + 1) p_(j)), p_(1) <= ... <= p_(k) sorted.

    Those below alpha are significant with a probability at most alpha of any false one among them, however the tests
    depend on each other. Raises ValueError for what is no probability.

    Source: Holm, Scandinavian Journal of Statistics 6 (1979) 65-70.
    """
    values = np.asarray(p_values, np.float64)
    if values.ndim != 1 or not np.all((values >= 0) & (values <= 1)):
        raise ValueError(f"p_values is {p_values}: give a list of probabilities, numbers from 0 to 1")
    order = np.argsort(values, kind="stable")
    steps = (len(values) - np.arange(len(values))) * values[order]
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(steps))
    return adjusted


def mean_interval(samples: Any, level: float = 0.95) -> tuple[float, float, float]:
    """(mean, lower, upper) of independent samples (n,), by Student's t; refuses what `paired` refuses."""
    values = _sample(samples, "samples")
    mean = from_samples(values)
    lower, upper = mean.interval(level, len(values) - 1)
    return float(mean.mean), float(lower), float(upper)


def _sample(values: Any, argument: str) -> np.ndarray:
    found = np.asarray(values, np.float64)
    if found.ndim != 1 or len(found) < 2:
        raise ValueError(f"{argument} has shape {found.shape}: give one number a run, of two runs or more")
    if not np.all(np.isfinite(found)):
        places = ", ".join(map(str, np.flatnonzero(~np.isfinite(found))))
        raise ValueError(f"{argument} is not finite in runs {places}: leave those out, with their partners, and say so")
    return found


def _paired_off(first: np.ndarray, second: np.ndarray) -> None:
    if len(first) != len(second):
        raise ValueError(f"a has {len(first)} runs and b {len(second)}: a pair is one of each, so give equally many")


def _compared(differences: np.ndarray, resolution: float, level: float) -> Paired:
    differences = np.where(np.abs(differences) <= resolution, 0, differences)
    mean = from_samples(differences)
    lower, upper = mean.interval(level, len(differences) - 1)
    spread = float(np.std(differences, ddof=1)) if np.ptp(differences) > resolution else 0.0
    effect = float(mean.mean / spread) if spread else float(np.sign(mean.mean) * np.inf) if mean.mean else 0.0
    return Paired(
        Estimate(float(mean.mean), float(mean.standard_error)),
        float(lower),
        float(upper),
        _signed_rank(differences[differences != 0], resolution),
        effect,
        len(differences),
    )


def _signed_rank(differences: np.ndarray, resolution: float) -> float:
    """Wilcoxon's two-sided p-value of differences (n,) that are not 0."""
    if len(differences) > EXACT:
        from scipy import stats  # takes a third of a second, which a command that only asks for help has not

        return float(stats.wilcoxon(differences).pvalue)
    size = np.abs(differences)
    order = np.argsort(size)
    group = np.concatenate([[0], np.cumsum(np.diff(size[order]) > resolution)])[: len(size)]
    # Twice the mean rank of each group of ties: a whole number, so that sums are too.
    ranks = np.searchsorted(group, group) + np.searchsorted(group, group, side="right") + 1
    total = int(ranks.sum())
    chances = np.zeros(total + 1)  # of every sum of the ranks of positive differences, all patterns being alike
    chances[0] = 1
    for rank in ranks:
        chances[rank:] = chances[rank:] / 2 + chances[: total + 1 - rank] / 2
        chances[:rank] /= 2
    far = np.abs(2 * np.arange(total + 1) - total)
    return float(min(1.0, np.sum(chances[far >= far[ranks[differences[order] > 0].sum()]])))
