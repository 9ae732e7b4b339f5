"""Least squares on a line, y ≈ b + w x: convex, quadratic, and everything about gradient descent on it in closed form.

How hard it is depends on the inputs alone: far from 0 beside their spread, they make the valley a canyon
(`Facts.condition_number`); `standardised` rounds it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from landscape import problem
from landscape.problem import Problem, checked_real
from landscape.problems.surfaces import Line, Pairs
from landscape.problems.toy import Numbers


class Facts(NamedTuple):
    """What is known exactly about one data set; rows and columns in the order (b, w)."""

    optimum: Line  # the least-squares line
    loss: float  # there: the variance that the line leaves
    hessian: np.ndarray  # (2, 2) the same everywhere: 2 [[1, mean x], [mean x, mean x²]]
    eigenvalues: np.ndarray  # (2,) of it, in rising order
    condition_number: float  # larger over smaller eigenvalue
    largest_learning_rate: float  # 2/λ_max: gradient descent converges below, from every start, and diverges above
    best_learning_rate: float  # 2/(λ_min + λ_max): it multiplies the distance by (κ - 1)/(κ + 1) an update at worst


def line(x: Numbers, y: Numbers) -> Problem:
    """The line b + w x with loss mean_i (y_i - b - w x_i)²: a mean over the samples, no factor 1/2.

    Of the sum over n samples, as in `surfaces.canyon`, the curvature is n times this one's and every learning rate of
    gradient descent 1/n of that here; the condition number is the same. The reference is the line 0.

    Args:
      x, y: samples, of the same length n.

    Raises ValueError for samples that are empty, non-real, non-finite or unequally long, and for x all the same.
    """
    data = Pairs(_checked("x", x), _checked("y", y))
    if data.x.size != data.y.size:
        raise ValueError(f"x has {data.x.size} samples and y has {data.y.size}: they must be of the same length")
    if np.all(data.x == data.x[0]):
        raise ValueError(f"x is {data.x[0]:g} in every sample: a slope needs two inputs that differ")
    return problem.make(
        loss,
        reference=Line(np.float64(0.0), np.float64(0.0)),
        data=data,
        box=_box(facts(data)),
        name="line",
        take=take,
        size=data.x.size,
        facts=facts,
    )


def loss(params: Line, data: Pairs) -> jax.Array:
    """mean_i (y_i - b - w x_i)²."""
    return jnp.mean(jnp.square(data.y - (params.b + params.w * data.x)))


def facts(data: Pairs) -> Facts:
    """Exact values for one data set, in float64, without cancellation where the inputs lie far from 0."""
    x, y = (np.asarray(values, np.float64) for values in data)
    deviation = x - x.mean()
    variance = float(np.mean(deviation**2))
    slope = float(np.mean(deviation * (y - y.mean()))) / variance
    optimum = Line(float(y.mean()) - slope * float(x.mean()), slope)
    square = variance + float(x.mean()) ** 2
    # Eigenvalues λ of the Hessian: λ_min + λ_max = 2 (1 + mean x²), λ_min λ_max = 4 variance.
    larger = 1 + square + float(np.hypot(1 - square, 2 * x.mean()))
    smaller = 4 * variance / larger
    return Facts(
        optimum=optimum,
        loss=float(np.mean((y - y.mean() - slope * deviation) ** 2)),
        hessian=2 * np.array([[1, x.mean()], [x.mean(), square]]),
        eigenvalues=np.array([smaller, larger]),
        condition_number=larger / smaller,
        largest_learning_rate=2 / larger,
        best_learning_rate=2 / (smaller + larger),
    )


def standardised(x: Numbers) -> np.ndarray:
    """(x - mean) / standard deviation, with the population's variance (a mean over n, not n - 1), in float64.

    The Hessian of `line` becomes 2 I: circles for contours, and one update of learning rate 1/2 arrives.
    """
    x = np.asarray(x, np.float64)
    return (x - x.mean()) / x.std()


def descent(
    optimum: Numbers, hessian: np.ndarray, start: Numbers, learning_rate: ArrayLike, steps: ArrayLike
) -> np.ndarray:
    """(steps, 2): where gradient descent on a quadratic is after each of these numbers of updates, in closed form.

        (b, w)_t = optimum + Σ_i v_i (1 - eta λ_i)^t v_i·(start - optimum)

    with λ_i, v_i the eigenpairs of the Hessian. Points are pairs (b, w): a `Line`, or an array.
    """
    values, vectors = np.linalg.eigh(hessian)
    away = vectors.T @ (np.array(start, np.float64) - np.array(optimum, np.float64))
    factors = (1 - learning_rate * values) ** np.asarray(steps)[:, None]
    return np.array(optimum, np.float64) + (factors * away) @ vectors.T


def take(data: Pairs, indices: ArrayLike) -> Pairs:
    """These samples alone."""
    return Pairs(data.x[indices], data.y[indices])


def _checked(name: str, values: Numbers) -> np.ndarray:
    found = checked_real(name, values)
    if found.ndim != 1 or found.size == 0:
        raise ValueError(f"{name} has shape {found.shape}: give the samples as a list of numbers, at least two")
    if not np.all(np.isfinite(found)):
        raise ValueError(f"{name}[{int(np.argmin(np.isfinite(found)))}] is not finite: remove or mend that sample")
    return found


def _box(known: Facts) -> tuple[Line, Line]:
    """Around the optimum, as far as the line 0 and 1 more on either side: the reference lies inside."""
    reach = [abs(value) + 1 for value in known.optimum]
    corner = lambda sign: Line(*(value + sign * r for value, r in zip(known.optimum, reach, strict=True)))  # noqa: E731
    return corner(-1), corner(1)
