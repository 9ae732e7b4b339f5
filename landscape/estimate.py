"""Numbers with their uncertainty: a mean and its standard error, a share and its Wilson interval."""

import math
from statistics import NormalDist
from typing import Any, NamedTuple

import jax
import numpy as np


class Estimate(NamedTuple):
    """A random estimate: scalars, arrays of one shape, or pytrees of them."""

    mean: Any
    standard_error: Any  # standard deviation of `mean`, not of one sample

    def interval(self, level: float = 0.95, degrees: int | None = None) -> tuple[Any, Any]:
        """(lower, upper) = mean -+ q standard_error, which covers the true mean with probability `level`.

        q is the normal quantile; with `degrees`, those of freedom of the standard error (samples - 1), Student's.
        For few samples (below about 30) of an unknown spread the normal one covers a little less.
        """
        q = quantile(level, degrees)
        ends = (jax.tree.map(lambda m, e, s=sign: m + s * q * e, self.mean, self.standard_error) for sign in (-1, 1))
        return next(ends), next(ends)


class Proportion(NamedTuple):
    """Shares estimated from counts, with a Wilson interval: arrays of the counts' shape."""

    share: Any  # successes / trials
    lower: Any
    upper: Any
    standard_error: Any  # sqrt(share (1 - share) / trials): 0 at shares 0 and 1, where only the interval is honest


def from_samples(samples: Any, axis: int = 0) -> Estimate:
    """Mean of independent samples along `axis`, with standard error s / sqrt(n), s^2 = sum (x - mean)^2 / (n - 1).

    NumPy arrays and lists are summed in float64; a JAX array keeps its dtype and may be traced.
    """
    host = not isinstance(samples, jax.Array)
    values = np.asarray(samples, np.float64) if host else samples
    count = values.shape[axis] if values.ndim else 1
    if count < 2:
        raise ValueError(f"samples has {count} entries along axis {axis}: a standard error needs at least 2")
    return Estimate(values.mean(axis), values.std(axis, ddof=1) / count**0.5)


def proportion(successes: Any, trials: Any, level: float = 0.95) -> Proportion:
    """Shares k/n of `successes` k among `trials` n with Wilson's interval, elementwise on broadcast arrays.

        (k + z^2/2 -+ z sqrt(k (n - k) / n + z^2/4)) / (n + z^2),   z the two-sided normal quantile of `level`

    These are the shares whose own standard error reaches the observed one, so the interval stays inside [0, 1] and
    has a width at k = 0 and k = n. Coverage is `level` on average over shares, and lower for some shares near 0 or 1.

    Source: Wilson, J. Amer. Statist. Assoc. 22 (1927) 209-212; Brown, Cai, DasGupta, Statist. Sci. 16 (2001) eq. (4).
    """
    z = quantile(level)
    k, n = np.broadcast_arrays(_counts(successes, "successes"), _counts(trials, "trials"))
    if np.any(n == 0):
        raise ValueError(f"trials is 0 in {np.sum(n == 0)} places: a share needs a trial, so leave those out")
    if np.any(k > n):
        raise ValueError(f"successes exceed trials in {np.sum(k > n)} places: give counts with successes <= trials")
    share, centre = k / n, k + z**2 / 2
    half = z * np.sqrt(k * (n - k) / n + z**2 / 4)
    lower = np.where(k == 0, 0.0, (centre - half) / (n + z**2))  # the ends are exact; rounding would miss them
    upper = np.where(k == n, 1.0, (centre + half) / (n + z**2))
    return Proportion(share, lower[()], upper[()], np.sqrt(share * (1 - share) / n))


def quantile(level: float, degrees: int | None = None) -> float:
    """q with P(|x| < q) = level, for a normal x, or for Student's t with `degrees` of freedom.

    Student's is found by bisection from the distribution's finite sum; above 100 degrees from its expansion about the
    normal z, q = z + (z^3 + z) / 4 degrees + (5 z^5 + 16 z^3 + 3 z) / 96 degrees^2, to 2e-5 q for levels up to 0.999.
    Raises ValueError for a level outside (0, 1), or degrees that are no whole number from 1 on.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions (1964), eqs. 26.7.3, 26.7.4 and 26.7.5.
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level}: give the coverage as a number between 0 and 1, such as 0.95")
    z = NormalDist().inv_cdf((1 + level) / 2)
    if degrees is None:
        return z
    if not isinstance(degrees, int | np.integer) or isinstance(degrees, bool) or degrees < 1:
        raise ValueError(f"degrees is {degrees!r}: give a whole number of degrees of freedom, such as samples - 1")
    if degrees > 100:
        return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _student(middle, degrees) < level else (low, middle)
    return degrees**0.5 * math.tan(low)


def _student(angle: float, degrees: int) -> float:
    """P(|t| < degrees^(1/2) tan angle), for t of Student's distribution."""
    cosine, odd = math.cos(angle), degrees % 2
    term, total = (cosine, 0.0) if odd else (1.0, 0.0)
    for j in range(odd, degrees - 1, 2):
        total += term
        term *= (j + 1) / (j + 2) * cosine**2
    total *= math.sin(angle)
    return (angle + total) * 2 / math.pi if odd else total


def _counts(values: Any, argument: str) -> np.ndarray:
    counts = np.asarray(values, np.float64)  # integers up to 2^53 are exact, and k (n - k) cannot wrap around
    wrong = ~((counts >= 0) & (counts == np.floor(counts)) & np.isfinite(counts))
    if np.any(wrong):
        raise ValueError(f"{argument} holds {counts[wrong].ravel()[0]}: give counts, whole numbers of at least 0")
    return counts
