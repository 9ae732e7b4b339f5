"""Steps to a target against batch size: the law S = S_min (1 + B_crit / B), its fit, and the noise scale beside it.

S_min is the number of updates that no batch size goes below, B_crit the batch size at which twice as many are needed.
NumPy and SciPy alone; S is handled in logarithms, in which errors of runs are of one size.

Source: McCandlish, Kaplan, Amodei et al., An Empirical Model of Large-Batch Training, arXiv 1812.06162 (2018), sec. 2.
"""

import warnings
from typing import Any, NamedTuple

import numpy as np

from landscape.estimate import quantile
from landscape.studies.protocols import FINE

SHARES = np.linspace(0, 1, 41)  # of a run's updates, at which its noise scale is read
CHECKS_APART = np.log(FINE)  # a run's steps are known up to the distance of two checks


class Fit(NamedTuple):
    """The law that fits best; k batch sizes."""

    shortest: np.ndarray  # (3,) S_min, and the ends of its interval
    critical: np.ndarray  # (3,) B_crit
    residuals: np.ndarray  # (k,) log of measured over fitted steps
    scatter: float  # χ² over degrees of freedom: about 1 where residuals are the errors alone
    p_value: float  # of that χ²: the probability of as large a one, if the law holds


def law(batches: Any, shortest: Any, critical: Any) -> Any:
    """S = S_min (1 + B_crit / B)."""
    return shortest * (1 + critical / np.asarray(batches, np.float64))


def tuned(logs: np.ndarray) -> np.ndarray:
    """For each batch size the place of the rate with the least mean of `logs` (k, rates, seeds); -1 where none is fit.

    Runs that do not reach the target have inf: their rate is fit for choice no more, so that no mean leaves them out.
    """
    means = logs.mean(axis=2)
    return np.where(np.isfinite(means).any(axis=1), means.argmin(axis=1), -1)


def mean_and_error(logs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over seeds of `logs` (k, seeds), and its standard error, the distance of checks counted in."""
    seeds = logs.shape[1]
    return logs.mean(axis=1), np.sqrt((logs.var(axis=1, ddof=1) + CHECKS_APART**2 / 12) / seeds)


def fit(batches: Any, logs: np.ndarray, errors: np.ndarray, level: float = 0.95) -> Fit:
    """The law by least squares of (log S - log law) / errors, k batch sizes.

    Intervals are Student's, of k - 2 degrees of freedom, in log S_min and log B_crit. Errors are scaled up by √scatter
    where it is above 1: then residuals are larger than the seeds' noise, the law is not exact, and its constants are
    known the worse. Raises ValueError for fewer than 4 batch sizes, and what is not finite.
    """
    from scipy import optimize, stats  # a third of a second, that who only asks for help need not wait

    sizes, logs, errors = (np.asarray(values, np.float64) for values in (batches, logs, errors))
    if len(sizes) < 4 or not np.all(np.isfinite([sizes, logs, errors])) or np.any(errors <= 0):
        listed = ", ".join(f"{log:.4g} ± {error:.2g}" for log, error in zip(logs, errors, strict=True))
        raise ValueError(
            f"{len(sizes)} batch sizes with log steps {listed}: a fit needs 4 or more, finite, errors above 0"
        )
    curve = lambda sizes, shortest, critical: shortest + np.logaddexp(0, critical - np.log(sizes))  # noqa: E731
    # From the middle of those that the two ends allow: most steps are S_min B_crit / B at the least B.
    most = np.exp(logs[sizes.argmin()] - logs.min()) * sizes.min()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optimize.OptimizeWarning)  # no covariance: the interval is infinite then
        best, covariance = optimize.curve_fit(curve, sizes, logs, (logs.min(), np.log(most)), errors, True)
    residuals = logs - curve(sizes, *best)
    degrees = len(sizes) - 2
    square = float(np.sum((residuals / errors) ** 2))
    half = quantile(level, degrees) * np.sqrt(np.diag(covariance) * max(1.0, square / degrees))
    with np.errstate(over="ignore"):
        shortest, critical = np.exp([best, best - half, best + half]).T
    return Fit(shortest, critical, residuals, square / degrees, float(stats.chi2.sf(square, degrees)))


def power_scatter(batches: Any, logs: np.ndarray, errors: np.ndarray) -> float:
    """χ² over degrees of freedom of the other law with two constants, S = c B^-a: beside `Fit.scatter`."""
    design = np.stack([np.ones(len(logs)), np.log(batches)], axis=1) / errors[:, None]
    rest = np.linalg.lstsq(design, logs / errors)[1]
    return float(rest[0] / (len(logs) - 2))


def resampled(batches: Any, logs: np.ndarray, count: int = 400, seed: int = 0) -> np.ndarray:
    """S_min and B_crit (count, 2) of as many fits to seeds drawn with replacement, the rate tuned anew in each.

    `logs` (k, rates, seeds) as for `tuned`, with a rate fit for choice at each batch size. Seeds are drawn for all
    batch sizes alike: runs of a seed are paired. This has the seeds' noise and that of tuning, not the law's misfit.
    """
    rng = np.random.default_rng(seed)
    able = np.where(np.isfinite(logs).all(axis=2, keepdims=True), logs, np.inf)
    rows, seeds = np.arange(len(logs)), logs.shape[2]
    found = np.empty((count, 2))
    for i in range(count):
        some = able[:, :, rng.integers(seeds, size=seeds)]
        best = fit(batches, *mean_and_error(some[rows, tuned(some)]))
        found[i] = best.shortest[0], best.critical[0]
    return found


def halves(errors: np.ndarray, seeds: int, level: float = 0.95) -> np.ndarray:
    """Half widths of Student's intervals of k means over seeds, at the level that all k together need (Bonferroni)."""
    return quantile(1 - (1 - level) / len(errors), seeds - 1) * errors


def worst(residuals: np.ndarray, half: np.ndarray) -> tuple[float, float]:
    """An interval of the largest |residual|, from the half widths of all of them together."""
    size = np.abs(residuals)
    return float(np.max(np.maximum(0, size - half))), float(np.max(size + half))


def along(moments: np.ndarray, steps: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Logarithms of positive `values` (seeds, T) of runs, seen at `moments` (T,), at `SHARES` of their steps (seeds,).

    A run stands still after its last step, so that its last value is that of its end. Between moments: linear.
    """
    rows = []
    for last, own in zip(steps, values, strict=True):
        before = moments < last
        times = np.append(moments[before], last)
        rows.append(np.interp(SHARES * last, times, np.log(np.append(own[before], own[-1]))))
    return np.array(rows)


def noise_scale(
    traces: np.ndarray, squares: np.ndarray, batch: float, level: float = 0.95, count: int = 1000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """B_simple = tr Σ / |G|² along runs of one batch size (shares, 3), and the B_crit it predicts (3,): with intervals.

    `traces` and `squares` (seeds, shares) are tr Σ and |G|². Both are averaged over seeds before they are divided: the
    ratio of one run is a biased and wild one. Intervals: percentiles over seeds drawn with replacement.

    An update does what w = 1 / (1 + B_simple / B) updates without noise would do. So a way of S_min such updates takes
    S_min (1 + B_crit / B), with B_crit the mean of B_simple over it: over the run's updates, with the weights w.
    """
    rng = np.random.default_rng(seed)
    draws = rng.integers(len(traces), size=(count, len(traces)))
    draws = np.concatenate([np.arange(len(traces))[None], draws])  # the first is what was measured
    scale = traces[draws].mean(axis=1) / squares[draws].mean(axis=1)  # (1 + count, shares)
    weights = 1 / (1 + scale / batch)
    means = np.trapezoid(weights * scale, SHARES, axis=1) / np.trapezoid(weights, SHARES, axis=1)
    return _with_interval(scale, level), _with_interval(means, level)


def _with_interval(values: np.ndarray, level: float) -> np.ndarray:
    """The first of `values` (1 + draws, ...), and percentiles of the rest: (..., 3)."""
    tail = 50 * (1 - level)
    return np.stack([values[0], *np.percentile(values[1:], (tail, 100 - tail), axis=0)], axis=-1)
