"""The toy network y = w2*w1*x: the smallest loss with a saddle, and a valley of minima.

Everything exact about it is in `facts` and in the closed forms below. They are stated for the normalised toy
L(w1, w2) = (1 - w1 w2)²: any data set with p* = mean(xy)/mean(x²) != 0 is that toy in the weights w / √|p*|, with
the learning rate multiplied by mean(x²)|p*| (`Facts.rate_scale`) and, for p* < 0, one sign flipped.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from landscape import problem
from landscape.problem import Problem, checked_real

Numbers: TypeAlias = ArrayLike | Sequence[Any]  # an array, one number, or a list of them


class Weights(NamedTuple):
    """A point: two scalar leaves, never one array of length 2 (each becomes one contiguous array under `vmap`)."""

    w1: ArrayLike
    w2: ArrayLike


class Samples(NamedTuple):
    """The data of the toy."""

    x: ArrayLike  # (n,) inputs
    y: ArrayLike  # (n,) targets
    l2: ArrayLike  # () weight of the term w1² + w2²


class Facts(NamedTuple):
    """What is known exactly about the toy on one data set (loss = curvature (p* - w1 w2)² + offset + l2 S)."""

    product: float  # p* = mean(xy)/mean(x²): w1 w2 on the valley (with l2 = 0)
    curvature: float  # mean(x²)
    offset: float  # the loss on the valley with l2 = 0: mean(y²) - mean(x²) p*²
    rate_scale: float  # curvature |p*|: learning rate here x rate_scale = learning rate of the normalised toy
    saddle_eigenvalues: tuple[float, float]  # at the origin: 2 l2 -+ 2 rate_scale
    minima: np.ndarray  # (2, 2) the isolated minima (w1, w2) with 0 < l2 < rate_scale, else (0, 2)
    minimum_loss: float  # the least loss


def two_weight(x: Numbers = 1.0, y: Numbers = 1.0, l2: ArrayLike = 0.0) -> Problem:
    """The toy network y = w2*w1*x with loss mean_i (y_i - w2 w1 x_i)² + l2 (w1² + w2²); no factor 1/2.

    Args:
      x, y: samples, of the same length n (one number for one sample).
      l2: the weight of the penalty, 0 or more.

    Raises ValueError for empty, non-real, non-finite or unequally long samples, x all zero, and an l2 that is negative,
    non-real or non-finite.
    """
    data = samples(x, y, l2)
    return problem.make(
        loss,
        reference=Weights(np.float64(0.0), np.float64(0.0)),
        data=data,
        box=(-3.0, 3.0),
        name="two_weight",
        coercive=coercive,
        take=take,
        size=data.x.size,
        facts=facts,
        branch=branch,
        branches=("branch +", "branch -", "origin"),
    )


def coercive(data: Samples) -> bool:
    """Whether the loss grows in every direction: with a penalty it does, without one the valley is level."""
    return bool(data.l2 > 0)


def loss(params: Weights, data: Samples) -> jax.Array:
    """mean_i (y_i - w2 w1 x_i)² + l2 (w1² + w2²)."""
    w1, w2 = params
    return jnp.mean(jnp.square(data.y - w2 * w1 * data.x)) + data.l2 * (w1**2 + w2**2)


def branch(params: Weights, data: Samples) -> jax.Array:
    """0 or 1: which branch of w1 w2 = p* gradient flow reaches from here, by the sign of w1 + sign(p*) w2.

    Or 2, the origin, from everywhere: a penalty l2 >= `Facts.rate_scale` leaves no other minimum. Exact for full-batch
    gradient flow with any l2 and any data with p* != 0 (the line w1 = -sign(p*) w2 is invariant).
    """
    correlation = jnp.mean(data.x * data.y)
    side = params.w1 + jnp.sign(correlation) * params.w2
    shrunk = (data.l2 > 0) & (data.l2 >= jnp.abs(correlation))
    return jnp.where(shrunk, 2, jnp.where(side > 0, 0, 1))


def facts(data: Samples) -> Facts:
    """Exact values for one data set, in float64."""
    x, y = (np.asarray(v, np.float64) for v in data[:2])
    l2 = float(data.l2)
    curvature = float(np.mean(x**2))
    product = float(np.mean(x * y)) / curvature
    scale = curvature * abs(product)
    offset = float(np.mean(y**2)) - curvature * product**2
    size = float(np.sqrt(max(abs(product) - l2 / curvature, 0.0)))
    corner = np.array([[1.0, np.sign(product)], [-1.0, -np.sign(product)]]) * size
    if l2 < scale:
        least = offset + l2**2 / curvature + 2 * l2 * size**2
    else:
        least = offset + curvature * product**2
    return Facts(
        product=product,
        curvature=curvature,
        offset=offset,
        rate_scale=scale,
        saddle_eigenvalues=(2 * l2 - 2 * scale, 2 * l2 + 2 * scale),
        minima=corner if 0 < l2 < scale else np.zeros((0, 2)),
        minimum_loss=float(least),
    )


def normalised(params: Weights, data: Samples) -> Weights:
    """The same point in the weights of the normalised toy: w1/√|p*| and sign(p*) w2/√|p*|; ValueError if p* = 0."""
    product = facts(data).product
    if product == 0:
        raise ValueError("data has p* = mean(xy)/mean(x²) = 0: only samples with mean(xy) != 0 are a normalised toy")
    root = np.sqrt(abs(product))
    return Weights(params.w1 / root, np.sign(product) * params.w2 / root)


def ellipse_margin(params: Weights, learning_rate: ArrayLike) -> ArrayLike:
    """S + 2 eta (1 - w1 w2) - 2/eta on the normalised toy: gradient descent of learning rate eta < 1/2 converges
    from almost every start where it is negative and diverges where it is positive (Liang & Montúfar 2025,
    arXiv 2509.25351, Theorem 1, converted to the loss without the factor 1/2)."""
    w1, w2 = params
    return w1**2 + w2**2 + 2 * learning_rate * (1 - w1 * w2) - 2 / learning_rate


def ellipse(learning_rate: float, count: int = 400) -> Weights:
    """`count` points of the curve `ellipse_margin` = 0, with w1 ± w2 = 2 √((1 ± eta)/eta) (sin, cos)."""
    angle = np.linspace(0, 2 * np.pi, count)
    total = 2 * np.sqrt((1 + learning_rate) / learning_rate) * np.sin(angle)
    difference = 2 * np.sqrt((1 - learning_rate) / learning_rate) * np.cos(angle)
    return Weights((total + difference) / 2, (total - difference) / 2)


def converged_share(learning_rate: float) -> float:
    """(π/4) √(1 - eta²): the share of the box |w_i| < √(2/eta) from which gradient descent converges, eta < 1/2."""
    return float(np.pi / 4 * np.sqrt(1 - learning_rate**2))


def critical_learning_rate(params: Weights) -> ArrayLike:
    """min(1/2, 4/(S + √(S² + 16 (1 - w1 w2)))): the learning rate above which this start diverges."""
    w1, w2 = (np.asarray(w, np.float64) for w in params)
    square = w1**2 + w2**2
    # The radicand is at least (S - 4)², but rounding can take it below 0 where w1 = w2 and S = 4.
    return np.minimum(0.5, 4 / (square + np.sqrt(np.maximum(square**2 + 16 * (1 - w1 * w2), 0.0))))


def first_preimage(learning_rate: float) -> float:
    """The product w1 w2 = 1 + 1/(2 eta) that one step of gradient descent throws onto the line w1 = -w2."""
    return 1 + 1 / (2 * learning_rate)


def escape_factor(learning_rate: float, momentum: float = 0.0) -> float:
    """Growth per step along the saddle's way out: the larger root of z² - (1 + momentum + 2 eta) z + momentum."""
    trace = 1 + momentum + 2 * learning_rate
    return float((trace + np.sqrt(trace**2 - 4 * momentum)) / 2)


def samples(x: Numbers, y: Numbers, l2: ArrayLike) -> Samples:
    """The samples as float64 arrays, checked; the errors are those of `two_weight`."""
    x, y, l2 = (checked_real(name, values) for name, values in (("x", x), ("y", y), ("l2", l2)))
    x, y = np.atleast_1d(x), np.atleast_1d(y)
    for name, values in (("x", x), ("y", y)):
        if values.ndim != 1 or values.size == 0:
            raise ValueError(f"{name} has shape {values.shape}: give at least one sample, as a list of numbers")
        if not np.all(np.isfinite(values)):
            raise ValueError(f"{name}[{int(np.argmin(np.isfinite(values)))}] is not finite: remove or mend that sample")
    if x.shape != y.shape:
        raise ValueError(f"x has {x.size} samples and y has {y.size}: they must be of the same length")
    if not np.any(x):
        raise ValueError("x is all zero: the loss would not depend on the weights, so give a sample with x != 0")
    if np.ndim(l2) != 0 or not np.isfinite(l2) or l2 < 0:
        raise ValueError(f"l2 is {l2}: it must be a finite number, 0 or more")
    return Samples(x, y, np.float64(l2))


def take(data: Samples, indices: ArrayLike) -> Samples:
    """These samples alone, with the same penalty."""
    return data._replace(x=data.x[indices], y=data.y[indices])
