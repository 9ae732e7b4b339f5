"""The uncertainty exponent of a basin boundary, by random pairs of points, at any distance and without a grid.

f(ε) is the probability that two points ε apart have different labels. Near a boundary of box dimension D - α in D
dimensions f(ε) ~ ε^α: α = 1 for a smooth one, less for a fractal.

Source: Grebogi, McDonald, Ott, Yorke, Phys. Lett. A 99 (1983) 415-418; errors of clustered counts: Liang, Zeger,
Biometrika 73 (1986) 13-22.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from landscape.estimate import Proportion, proportion
from landscape.geometry import Measured
from landscape.labelling import Labelling
from landscape.problem import checked_count

# That many points, (n, d); or these and the number of the centre (n,) that each was drawn about.
Draw: TypeAlias = Callable[[np.random.Generator, int], np.ndarray | tuple[np.ndarray, np.ndarray]]

SATURATED = 0.2  # a larger share of different pairs is no longer a power of the distance
PARTS = 64  # of a segment at each round of the search for the boundary


class Pairs(NamedTuple):
    """Random pairs at a few distances; arrays (m,), one entry a distance."""

    distance: np.ndarray
    decided: np.ndarray  # pairs of which both labels are known
    different: np.ndarray  # of these, pairs whose labels differ
    undecided: np.ndarray  # pairs left out, as a label was negative
    by_centre: np.ndarray | None = None  # (2, centres, m) decided and different about each; None: pairs are independent

    def share(self, level: float = 0.95) -> Proportion:
        """f(ε), with its Wilson interval at each distance: about the centres that there are, not about others."""
        return proportion(self.different, self.decided, level)

    def exponent(self, largest: float = SATURATED) -> Measured:
        """α of f = C ε^α by maximum likelihood over the distances where f <= `largest`, and its standard error.

        Counts are binomial, so that distances where no pair differs count as well. The error is the Fisher
        information's. Pairs about one centre are no independent ones: with centres it is the larger of that and of
        I⁻¹ Σ_c u_c u_cᵀ I⁻¹ G/(G - 1), u_c the score of the pairs about centre c of G. Either is widened by
        √(χ²/(m - 2)) where the shares scatter about the power by more than their noise, for then f is no exact power
        on these distances. Student's t of the interval has the degrees of freedom of what set the error: m - 2 of the
        scatter, else G - 1; the normal quantile for independent pairs.

        Raises ValueError where fewer than 3 distances, 10 pairs that differ, or 2 centres are left.
        """
        used = (self.decided > 0) & (self.different <= largest * self.decided)
        distances, different = np.unique(self.distance[used]).size, self.different[used].sum()
        if distances < 3 or different < 10:
            raise ValueError(
                f"{distances} distances have a share of different pairs up to {largest}, {different} pairs in all: an "
                "exponent needs 3 distances and 10 pairs, so take smaller distances, more pairs, or starts nearer to "
                "the boundary"
            )
        if self.by_centre is not None and self.by_centre.shape[1] < 2:
            raise ValueError("all pairs lie about 1 centre: an error needs 2 or more, so search for more boundary")
        by_centre = None if self.by_centre is None else self.by_centre[:, :, used]
        lost = self.undecided.sum() / (self.undecided + self.decided).sum()
        return _power(np.log(self.distance[used]), self.decided[used], self.different[used], by_centre, float(lost))


def pairs(label: Labelling, draw: Draw, distances: Sequence[float] | np.ndarray, *, count: int, seed: int = 0) -> Pairs:
    """The labels of `count` random pairs x ∓ ε u/2 at each distance ε, u uniform among unit vectors.

    Args:
      draw: where x comes from: `uniform` over a box, `near` points of the boundary, or any other.

    The pairs of different distances are independent. Raises ValueError for distances that are not positive, or that
    float64 does not resolve at these points. Cost: 2 `count` labels a distance, all in one call.
    """
    checked_count("count", count)
    try:
        apart = np.asarray(distances, np.float64)
    except (TypeError, ValueError):
        apart = np.zeros(0)
    if apart.ndim != 1 or not apart.size or not np.all((apart > 0) & np.isfinite(apart)):
        raise ValueError(f"distances is {distances!r:.60}: give a list of positive numbers")
    rng = np.random.default_rng(seed)
    middle, centre = _drawn(draw, rng, count * apart.size)
    half = np.repeat(apart, count)[:, None] / 2 * _directions(rng, middle.shape)
    rounding = np.spacing(np.abs(middle).max())
    if apart.min() < 16 * rounding:
        raise ValueError(
            f"distances go down to {apart.min():.2g}, but these points are rounded to {rounding:.2g}: take "
            "distances of at least 16 times that"
        )
    first, second = np.split(_labels(label, np.concatenate([middle - half, middle + half])), 2)
    known = (first >= 0) & (second >= 0)
    seen = np.stack([known, known & (first != second)])  # (2, pairs)
    decided, different = seen.reshape(2, apart.size, count).sum(2)
    return Pairs(apart, decided, different, count - decided, None if centre is None else _tally(seen, centre, count))


def uniform(lower: Sequence[float], upper: Sequence[float]) -> Draw:
    """Points uniform in the box between two corners; raises ValueError unless lower < upper along each axis."""
    low, high = np.asarray(lower, np.float64), np.asarray(upper, np.float64)
    if low.ndim != 1 or low.shape != high.shape or not np.all((low < high) & np.isfinite(low) & np.isfinite(high)):
        raise ValueError(f"the corners are {lower!r:.60} and {upper!r:.60}: give two of one length, lower < upper")
    return lambda rng, count: rng.uniform(low, high, (count, low.size))


def near(centres: np.ndarray, radius: float) -> Draw:
    """Points uniform in the ball of this radius about each of the `centres` (m, d) in turn.

    On a smooth boundary through the centres f(ε) is then ε/radius times a constant, up to terms (ε/radius)². The draw
    tells the centre of each point, so that errors allow for the choice of centres.
    """
    centres = np.asarray(centres, np.float64)
    if centres.ndim != 2 or not centres.size or not (np.isfinite(radius) and radius > 0):
        raise ValueError(
            f"centres has shape {centres.shape}, radius is {radius!r}: give at least one centre, a row each, and a "
            "positive finite radius"
        )

    def draw(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = rng.permutation(len(centres))[np.arange(count) % len(centres)]
        size = rng.uniform(size=(count, 1)) ** (1 / centres.shape[1])
        return centres[chosen] + radius * size * _directions(rng, (count, centres.shape[1])), chosen

    return draw


def boundary(label: Labelling, draw: Draw, *, count: int, width: float, seed: int = 0) -> np.ndarray:
    """Points (m, d) within `width` of a change of label, at most `count`: one on each segment that was seen to change.

    The segments join points from `draw`; `PARTS` points on each are labelled, one of the parts whose ends differ is
    chosen at random, and so on until it is that short. Points not decided end a segment's search.
    Raises ValueError where no segment shows a change, and for a width that float64 does not resolve at these points or
    that is not below the segments' lengths. Cost: about 64 ln(distance/width)/ln 64 labels a point.
    """
    checked_count("count", count)
    rng = np.random.default_rng(seed)
    ends = _drawn(draw, rng, 2 * count)[0].reshape(2, count, -1)
    least = 4 * np.spacing(np.abs(ends).max())
    most = np.min(np.linalg.norm(ends[1] - ends[0], axis=-1))
    if not least <= width < most:
        raise ValueError(f"width is {width!r}: give one from {least:.2g} to {most:.2g}, the shortest segment")
    while ends.shape[1] and np.max(np.linalg.norm(ends[1] - ends[0], axis=-1)) > width:
        part = np.linspace(0, 1, PARTS + 1)[:, None, None]
        path = ends[0] + part * (ends[1] - ends[0])  # (PARTS + 1, segments, d)
        labels = _labels(label, path.reshape(-1, path.shape[-1])).reshape(path.shape[:2])
        differ = (labels[1:] != labels[:-1]) & (labels[1:] >= 0) & (labels[:-1] >= 0)
        row = np.argmax(differ * rng.uniform(size=differ.shape), axis=0)
        kept = np.flatnonzero(differ.any(axis=0))
        ends = np.stack([path[row[kept], kept], path[row[kept] + 1, kept]])
    if not ends.shape[1]:
        raise ValueError(f"none of {count} random segments crosses a boundary: draw from where labels differ")
    return ends.mean(axis=0)


def _drawn(draw: Draw, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray | None]:
    """The points, and the centre of each where the draw tells it."""
    found = draw(rng, count)
    points, centre = found if isinstance(found, tuple) else (found, None)
    points = np.asarray(points, np.float64)
    if points.ndim != 2 or len(points) != count:
        raise ValueError(
            f"the draw of {count} points gave an array of shape {points.shape}: it must have a row for each"
        )
    return points, centre


def _labels(label: Labelling, points: np.ndarray) -> np.ndarray:
    labels = np.asarray(label(points))
    if labels.shape != points.shape[:1]:
        raise ValueError(f"{len(points)} points got labels of shape {labels.shape}: a labelling gives one integer each")
    return labels


def _directions(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    normal = rng.normal(size=shape)
    return normal / np.linalg.norm(normal, axis=-1, keepdims=True)


def _tally(seen: np.ndarray, centre: np.ndarray, count: int) -> np.ndarray:
    """(2, centres, distances) from (2, pairs), `count` of them at each distance."""
    distances = len(centre) // count
    cell = centre * distances + np.repeat(np.arange(distances), count)
    size = (centre.max() + 1) * distances
    return np.stack([np.bincount(cell, part, size).reshape(-1, distances) for part in seen])


def _power(x: np.ndarray, n: np.ndarray, k: np.ndarray, by_centre: np.ndarray | None, lost: float) -> Measured:
    """The slope of log p = a + α x for counts k of n, by Fisher scoring, with the error that `exponent` describes."""
    design = np.stack([np.ones_like(x), x], axis=1)
    coefficients = np.array([np.log(k.sum() / np.sum(n * np.exp(x - x.max()))) - x.max(), 1.0])
    for _ in range(100):
        share = np.minimum(np.exp(design @ coefficients), 0.9)
        information = design.T @ (design * (n * share / (1 - share))[:, None])
        step = np.linalg.solve(information, design.T @ ((k - n * share) / (1 - share)))
        coefficients = coefficients + np.clip(step, -1, 1)
        if np.max(np.abs(step)) < 1e-10:
            break
    inverse = np.linalg.inv(information)
    variance, noise, degrees = inverse[1, 1], (1 - share) / (n * share), None
    if by_centre is not None:
        excess = by_centre[1] - by_centre[0] * share  # (centres, m)
        degrees = len(excess) - 1
        slopes = excess / (1 - share) @ design @ inverse[1]  # what each centre adds to the slope
        logs = excess / (n * share)  # and to the logarithm of each share
        variance = max(variance, np.sum(slopes**2) * (1 + 1 / degrees))
        noise = np.maximum(noise, np.sum((logs - logs.mean(axis=0)) ** 2, axis=0) * (1 + 1 / degrees))
    scatter = np.sum((k / (n * share) - 1) ** 2 / noise) / (len(x) - 2)
    if scatter > 1:
        variance, degrees = variance * scatter, len(x) - 2
    return Measured(float(coefficients[1]), float(np.sqrt(variance)), degrees, lost)
