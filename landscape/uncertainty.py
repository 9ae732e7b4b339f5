"""The uncertainty exponent of a basin boundary, by random pairs of points, at any distance and without a grid.

f(ε) is the probability that two points ε apart have different labels. Near a boundary of box dimension D - α in D
dimensions f(ε) ~ ε^α: α = 1 for a smooth one, less for a fractal.

Source: Grebogi, McDonald, Ott, Yorke, Phys. Lett. A 99 (1983) 415-418.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from landscape.estimate import Estimate, Proportion, proportion
from landscape.labelling import Labelling
from landscape.problem import checked_count

Draw: TypeAlias = Callable[[np.random.Generator, int], np.ndarray]  # that many points, (n, d)

SATURATED = 0.2  # a larger share of different pairs is no longer a power of the distance
PARTS = 64  # of a segment at each round of the search for the boundary


class Pairs(NamedTuple):
    """Random pairs at a few distances; arrays (m,), one entry a distance."""

    distance: np.ndarray
    decided: np.ndarray  # pairs of which both labels are known
    different: np.ndarray  # of these, pairs whose labels differ
    undecided: np.ndarray  # pairs left out, as a label was negative

    def share(self, level: float = 0.95) -> Proportion:
        """f(ε), with its Wilson interval at each distance."""
        return proportion(self.different, self.decided, level)

    def exponent(self, largest: float = SATURATED) -> Estimate:
        """α of f = C ε^α, with its standard error, by maximum likelihood over the distances where f <= `largest`.

        Counts are binomial, so that distances where no pair differs count as well. The error is the Fisher
        information's, times √(χ²/(m - 2)) where the counts scatter by more than their own noise: then f is no exact
        power on these distances. Raises ValueError where fewer than 3 distances, or fewer than 10 pairs, are left.
        """
        used = (self.decided > 0) & (self.different <= largest * self.decided)
        x, n, k = np.log(self.distance[used]), self.decided[used], self.different[used]
        if used.sum() < 3 or k.sum() < 10:
            raise ValueError(
                f"{used.sum()} distances have a share of different pairs up to {largest}, {k.sum()} pairs in all: an "
                "exponent needs 3 distances and 10 pairs, so take smaller distances, more pairs, or starts nearer to "
                "the boundary"
            )
        return _power(x, n, k)


def pairs(label: Labelling, draw: Draw, distances: Sequence[float] | np.ndarray, *, count: int, seed: int = 0) -> Pairs:
    """The labels of `count` random pairs x ∓ ε u/2 at each distance ε, u uniform among unit vectors.

    Args:
      draw: where x comes from: `uniform` over a box, `near` points of the boundary, or any other.

    The pairs of different distances are independent. Raises ValueError for distances that are not positive, or that
    float64 does not resolve at these points. Cost: 2 `count` labels a distance, all in one call.
    """
    checked_count("count", count)
    apart = np.asarray(distances, np.float64)
    if apart.ndim != 1 or not apart.size or not np.all((apart > 0) & np.isfinite(apart)):
        raise ValueError(f"distances is {distances!r:.60}: give a list of positive numbers")
    rng = np.random.default_rng(seed)
    middle = draw(rng, count * apart.size)
    half = np.repeat(apart, count)[:, None] / 2 * _directions(rng, middle.shape)
    rounding = np.spacing(np.abs(middle).max())
    if apart.min() < 16 * rounding:
        raise ValueError(
            f"distances go down to {apart.min():.2g}, but these points are rounded to {rounding:.2g}: take "
            "distances of at least 16 times that"
        )
    first, second = np.split(label(np.concatenate([middle - half, middle + half])), 2)
    known = ((first >= 0) & (second >= 0)).reshape(apart.size, count)
    differ = (first != second).reshape(known.shape) & known
    return Pairs(apart, known.sum(1), differ.sum(1), (~known).sum(1))


def uniform(lower: Sequence[float], upper: Sequence[float]) -> Draw:
    """Points uniform in the box between two corners."""
    return lambda rng, count: rng.uniform(lower, upper, (count, len(lower)))


def near(centres: np.ndarray, radius: float) -> Draw:
    """Points uniform in the ball of this radius about one of the `centres` (m, d), drawn anew for each.

    On a smooth boundary through the centres f(ε) is then ε/radius times a constant, up to terms (ε/radius)².
    """

    if not (len(centres) and np.isfinite(radius) and radius > 0):
        raise ValueError(f"{len(centres)} centres, radius {radius!r}: give at least one, and a positive finite radius")

    def draw(rng: np.random.Generator, count: int) -> np.ndarray:
        chosen = centres[rng.integers(len(centres), size=count)]
        size = rng.uniform(size=(count, 1)) ** (1 / chosen.shape[1])
        return chosen + radius * size * _directions(rng, chosen.shape)

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
    ends = draw(rng, 2 * count).reshape(2, count, -1)
    least = 4 * np.spacing(np.abs(ends).max())
    most = np.min(np.linalg.norm(ends[1] - ends[0], axis=-1))
    if not least <= width < most:
        raise ValueError(f"width is {width!r}: give one from {least:.2g} to {most:.2g}, the shortest segment")
    while ends.shape[1] and np.max(np.linalg.norm(ends[1] - ends[0], axis=-1)) > width:
        part = np.linspace(0, 1, PARTS + 1)[:, None, None]
        path = ends[0] + part * (ends[1] - ends[0])  # (PARTS + 1, segments, d)
        labels = label(path.reshape(-1, path.shape[-1])).reshape(path.shape[:2])
        differ = (labels[1:] != labels[:-1]) & (labels[1:] >= 0) & (labels[:-1] >= 0)
        row = np.argmax(differ * rng.uniform(size=differ.shape), axis=0)
        kept = np.flatnonzero(differ.any(axis=0))
        ends = np.stack([path[row[kept], kept], path[row[kept] + 1, kept]])
    if not ends.shape[1]:
        raise ValueError(f"none of {count} random segments crosses a boundary: draw from where labels differ")
    return ends.mean(axis=0)


def _directions(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    normal = rng.normal(size=shape)
    return normal / np.linalg.norm(normal, axis=-1, keepdims=True)


def _power(x: np.ndarray, n: Any, k: Any) -> Estimate:
    """The slope of log p = a + α x for counts k of n, by Fisher scoring, and its standard error."""
    design = np.stack([np.ones_like(x), x], axis=1)
    coefficients = np.array([np.log(k.sum() / np.sum(n * np.exp(x - x.max()))) - x.max(), 1.0])
    for _ in range(100):
        share = np.minimum(np.exp(design @ coefficients), 0.9)
        information = design.T @ (design * (n * share / (1 - share))[:, None])
        step = np.linalg.solve(information, design.T @ ((k - n * share) / (1 - share)))
        coefficients = coefficients + np.clip(step, -1, 1)
        if np.max(np.abs(step)) < 1e-10:
            break
    scatter = np.sum((k - n * share) ** 2 / (n * share * (1 - share))) / (len(x) - 2)
    error = np.sqrt(np.linalg.inv(information)[1, 1] * max(1.0, scatter))
    return Estimate(float(coefficients[1]), float(error))
