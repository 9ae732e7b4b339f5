"""Chains of weights y = w_k*...*w1*x: the toy made deeper, with its degenerate saddles and its bad minimum.

The critical points are known in closed form for every data set. With p* = mean(xy)/mean(x²), c = mean(x²), d weights
and P = w1...wd the loss is c (p* - P)² + offset + l2 sum w_i².

* l2 = 0: the minima are the manifold P = p*, where all but one eigenvalue vanish (`valley_eigenvalue`); a point with
  two or more zero weights is critical too, with the eigenvalues ±`two_zeros_eigenvalue` and zeros.
* l2 > 0: the origin, and the points with all |w_i| = s, sign(P) = sign(p*) and l2/c = s^(d-2) (|p*| - s^d).
"""

import dataclasses
import functools
import itertools
import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from landscape import problem
from landscape.problem import Problem
from landscape.problems import toy
from landscape.problems.toy import Numbers, Samples

Weights = dict[str, ArrayLike]  # w1, w2, ...: one scalar leaf each


@dataclasses.dataclass(frozen=True, eq=False)
class Facts:
    """What is known exactly about a chain on one data set: all its isolated critical points, and its valley."""

    product: float  # p* = mean(xy)/mean(x²): the product of the weights on the valley (with l2 = 0)
    curvature: float  # mean(x²)
    offset: float  # the loss on the valley with l2 = 0
    nullity: int  # zero eigenvalues at every point of the valley: depth - 1 with l2 = 0; 0 where there is no valley
    points: np.ndarray  # (k, depth) isolated critical points, the origin first, then by rising size
    index: np.ndarray  # (k,) negative eigenvalues of each
    eigenvalues: np.ndarray  # (k, depth) in rising order
    loss: np.ndarray  # (k,)


def chain(depth: int, x: Numbers = 1.0, y: Numbers = 1.0, l2: ArrayLike = 0.0) -> Problem:
    """The chain y = w_k*...*w1*x with loss mean_i (y_i - w1...wk x_i)² + l2 sum_j w_j²; no factor 1/2.

    Args:
      depth: number of weights, 2 to 9.
      x, y: samples, of the same length n (one number for one sample).
      l2: the weight of the penalty, 0 or more.

    The reference is the point of ones: a plane of two weights then shows the toy. Raises ValueError as `two_weight`
    does, and for another depth.
    """
    if not isinstance(depth, int | np.integer) or isinstance(depth, bool) or not 2 <= depth <= 9:
        raise ValueError(f"depth is {depth!r}: a chain has 2 to 9 weights")
    data = toy.samples(x, y, l2)
    return problem.make(
        loss,
        reference={f"w{i + 1}": np.float64(1.0) for i in range(depth)},
        data=data,
        box=(-3.0, 3.0),
        name=f"chain_{depth}",
        coercive=toy.coercive,
        take=toy.take,
        size=data.x.size,
        facts=ChainFacts(int(depth)),
        branch=branch,
        branches=_branches(depth),
    )


def loss(params: Weights, data: Samples) -> jax.Array:
    """mean_i (y_i - w1...wk x_i)² + l2 sum_j w_j²."""
    weights = list(params.values())
    penalty = sum(w**2 for w in weights)
    return jnp.mean(jnp.square(data.y - _product(weights) * data.x)) + data.l2 * penalty


def branch(params: Weights, data: Samples) -> jax.Array:
    """Which minimum an end point belongs to: its signs but the last, which the others fix, as a binary number.

    At depth 3 and more a further number stands for the origin, a minimum too with l2 > 0. It is given where the mean
    |w_i| is below half of (|p*| (d-2)/(2d-2))^(1/d): every other minimum has larger weights than that bound.
    """
    weights = list(params.values())
    depth = len(weights)
    signs = weights[:-1]
    pattern = sum(jnp.where(w < 0, 1 << (depth - 2 - i), 0) for i, w in enumerate(signs))
    if depth == 2:
        return jnp.asarray(pattern)
    product = jnp.mean(data.x * data.y) / jnp.mean(jnp.square(data.x))
    least = (jnp.abs(product) * (depth - 2) / (2 * depth - 2)) ** (1 / depth)
    mean = sum(jnp.abs(w) for w in weights) / depth
    return jnp.where(mean < least / 2, 1 << (depth - 1), pattern)


@dataclasses.dataclass(frozen=True)
class ChainFacts:
    """The exact values at one depth: `ChainFacts(depth)(data)`."""

    depth: int

    def __call__(self, data: Samples) -> Facts:
        """Exact values for one data set, in float64."""
        known = toy.facts(data)
        l2, size = float(data.l2), sizes(self.depth, known.curvature, abs(known.product), float(data.l2))
        origin = (np.zeros(self.depth), _origin_eigenvalues(self.depth, known.rate_scale, l2))
        others = [
            (s * signs, _eigenvalues(self.depth, known.curvature, l2, s))
            for s in size
            for signs in _sign_patterns(self.depth, known.product)
        ]
        # Without the penalty the origin is isolated at depth 2 only: beyond, it lies on a continuum of saddles.
        isolated = [origin] if l2 > 0 or (self.depth == 2 and known.product) else []
        found = isolated + others
        points = np.array([point for point, _ in found]).reshape(-1, self.depth)
        eigenvalues = np.array([values for _, values in found]).reshape(-1, self.depth)
        residual = known.product - np.prod(points, axis=1)
        return Facts(
            product=known.product,
            curvature=known.curvature,
            offset=known.offset,
            nullity=self.depth - 1 if l2 == 0 else 0,
            points=points,
            index=np.sum(eigenvalues < 0, axis=1),
            eigenvalues=eigenvalues,
            loss=known.curvature * residual**2 + known.offset + l2 * np.sum(points**2, axis=1),
        )


def sizes(depth: int, curvature: float, product: float, l2: float) -> list[float]:
    """The sizes s of the critical points with all |w_i| = s > 0: solutions of l2/c = s^(d-2) (product - s^d).

    For 0 < l2, in rising order: none or two at depth 3 and more (the smaller one a saddle), none or one at depth 2.
    None without a penalty, where the critical points are no longer isolated. `product` is |p*|.
    """
    if l2 <= 0 or product <= 0:
        return []

    def excess(s: float) -> float:
        return s ** (depth - 2) * (product - s**depth) - l2 / curvature

    peak = (product * (depth - 2) / (2 * depth - 2)) ** (1 / depth)
    if excess(peak) <= 0:
        return []
    rising = [_bisect(excess, 0.0, peak)] if depth > 2 else []
    return [*rising, _bisect(lambda s: -excess(s), peak, product ** (1 / depth))]


def valley_eigenvalue(params: Weights, data: Samples) -> jax.Array:
    """2 c p*² sum 1/w_i²: the one eigenvalue that is not zero at a point of the valley (l2 = 0)."""
    x, y = jnp.asarray(data.x), jnp.asarray(data.y)
    squares = sum(1 / jnp.square(w) for w in params.values())
    return 2 * jnp.square(jnp.mean(x * y)) / jnp.mean(x**2) * squares


def two_zeros_eigenvalue(params: Weights, data: Samples) -> jax.Array:
    """2 |mean(xy)| prod |others|: with its negative, the eigenvalues at a point with exactly two zero weights (l2 = 0).

    With three or more zeros the Hessian vanishes.
    """
    others = _product([jnp.where(w == 0, 1.0, jnp.abs(w)) for w in params.values()])
    zeros = sum(jnp.where(w == 0, 1, 0) for w in params.values())
    return jnp.where(zeros == 2, 2 * jnp.abs(jnp.mean(jnp.asarray(data.x) * data.y)) * others, 0.0)


def _product(weights: list[Any]) -> Any:
    return functools.reduce(operator.mul, weights)


def _branches(depth: int) -> tuple[str, ...]:
    patterns = tuple(" ".join(signs) for signs in itertools.product("+-", repeat=depth - 1))
    return tuple(f"signs {pattern}" for pattern in patterns) + (("origin",) if depth > 2 else ())


def _sign_patterns(depth: int, product: float) -> list[np.ndarray]:
    """The signs whose product is that of p*, in the order that `branch` counts."""
    patterns = [np.array(signs) for signs in itertools.product((1.0, -1.0), repeat=depth - 1)]
    return [np.append(signs, np.prod(signs) * np.sign(product)) for signs in patterns]


def _origin_eigenvalues(depth: int, rate_scale: float, l2: float) -> np.ndarray:
    swing = 2 * rate_scale if depth == 2 else 0.0
    return np.sort(2 * l2 + np.array([-swing, swing] + [0.0] * (depth - 2)))


def _eigenvalues(depth: int, curvature: float, l2: float, size: float) -> np.ndarray:
    """4 l2, d - 1 times, and 2 c d s^(2d-2) - 2 (d-2) l2 along the signs."""
    along = 2 * curvature * depth * size ** (2 * depth - 2) - 2 * (depth - 2) * l2
    return np.sort([along] + [4 * l2] * (depth - 1))


def _bisect(function: Any, below: float, above: float) -> float:
    """The zero of a function that is negative at `below` and positive at `above`, to the last bit."""
    while below < (middle := (below + above) / 2) < above:
        below, above = (middle, above) if function(middle) < 0 else (below, middle)
    return above
