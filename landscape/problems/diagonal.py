"""A diagonal linear network, y = <u² - v², x>, on fewer samples than weights: where a run ends depends on how it went.

With u = v = α at the start, what is learned is the effective vector β = u² - v². Every β that fits the samples is a
minimum; which of them a run finds is its implicit bias, and `closest` computes it: the smaller α, the sparser.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from landscape import problem
from landscape.problem import Problem, checked_count, checked_real
from landscape.problems import datasets
from landscape.problems.datasets import Dataset

TURNS = 200  # of Newton's method in `closest`; it takes about 20


class Factors(NamedTuple):
    """A point."""

    u: ArrayLike  # (d,)
    v: ArrayLike  # (d,)


def diagonal_network(data: Dataset, scale: float = 0.1) -> Problem:
    """The network with loss (1/2) mean_i (y_i - <u² - v², x_i>)² and the reference u = v = `scale` in every entry.

    The factor 1/2 is that of the texts on these networks; where a text has none, or 1/4, its learning rate is half of
    the one here, or twice.

    Args:
      data: x (n, d) and y (n,).
      scale: α, above 0: at 0 nothing ever moves.

    Raises ValueError for samples that are empty, non-real, non-finite or of other shapes, and a scale that is not a
    finite number above 0. Source: Woodworth et al., COLT 2020 (arXiv 2002.09277), section 4.
    """
    x, y = checked_real("x", data.x), checked_real("y", data.y)
    if x.ndim != 2 or y.shape != x.shape[:1] or x.size == 0:
        raise ValueError(f"x has shape {x.shape} and y {y.shape}: give (n, d) and (n,), at least one sample")
    if not (np.all(np.isfinite(x)) and np.all(np.isfinite(y))):
        raise ValueError("x or y is not finite: remove or mend that sample")
    if not (np.isfinite(scale) and scale > 0):
        raise ValueError(f"scale is {scale}: give a finite number above 0, such as 0.1")
    start = np.full(x.shape[1], float(scale))
    return problem.make(
        loss,
        reference=Factors(start, start),
        data=Dataset(x, y),
        name=f"diagonal_{x.shape[1]}",
        take=datasets.take,
        size=len(x),
    )


def loss(params: Factors, data: Dataset) -> jax.Array:
    """(1/2) mean_i (y_i - <u² - v², x_i>)²."""
    return jnp.mean(jnp.square(data.y - jnp.sum(data.x * vector(params), axis=-1))) / 2


def vector(params: Factors) -> Any:
    """β = u² - v²."""
    return params.u * params.u - params.v * params.v


def sparse_samples(seed: int, samples: int = 40, features: int = 100, nonzero: int = 5) -> tuple[Dataset, np.ndarray]:
    """Samples without noise of a sparse β*: x normal, y = <β*, x>; and β*, 1 in `nonzero` random places, else 0."""
    checked_count("nonzero", nonzero, most=features, why=", the number of features")
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(samples, features))
    truth = np.zeros(features)
    truth[rng.choice(features, nonzero, replace=False)] = 1
    return Dataset(x, x @ truth), truth


def closest(data: Dataset, scale: Any) -> np.ndarray:
    """The β (d,) that fits all samples and is least in the hyperbolic entropy of `scale` α, one number or one a weight.

        β = 2 α² sinh(X' ν) with X β = y,   the minimum of  Σ_i β_i arcsinh(β_i / 2α_i²) - √(β_i² + 4α_i⁴)

    That is where gradient flow from u = v = α ends. Any run on this network keeps β_i = 2 a_i² sinh(z_i) with
    a_i² = u_i v_i and z_i = ln(u_i / v_i). A step of learning rate η multiplies u by 1 - 2η g and v by 1 + 2η g, g the
    batch's mean of (<β, x> - y) x: so u v shrinks by 1 - 4η² g² a step, and z moves in the span of the samples up to
    the order (2η g)³. A run ends, to that order, where the flow ends that starts at its own, smaller a.

    ν minimises the convex Σ_i 2α_i² cosh((X' ν)_i) - <y, ν>: by Newton's method with halved steps, in float64, to
    |Xβ - y| <= 1e-9 (1 + |y|). Raises ValueError where it does not get there: samples that no β fits.

    Source: Woodworth et al. (2020), theorem 1; Pesme, Pillaud-Vivien and Flammarion, NeurIPS 2021 (arXiv 2106.09524),
    theorem 1, for the effective scale of SGD.
    """
    x, y = np.asarray(data.x, np.float64), np.asarray(data.y, np.float64)
    weights = 2 * np.broadcast_to(np.square(np.asarray(scale, np.float64)), x.shape[1])
    at = np.zeros(len(x))
    for _ in range(TURNS):
        angle = x.T @ at
        slope = x @ (weights * np.sinh(angle)) - y
        if np.linalg.norm(slope) <= 1e-9 * (1 + np.linalg.norm(y)):
            return weights * np.sinh(angle)
        step = np.linalg.lstsq((x * (weights * np.cosh(angle))) @ x.T, -slope, rcond=None)[0]
        at = at + step * _length(x, y, weights, at, step, slope)
    raise ValueError(f"no vector was found that fits all samples, to {np.linalg.norm(slope):.2g} after {TURNS} steps")


def _length(x: Any, y: Any, weights: Any, at: Any, step: Any, slope: Any) -> float:
    """The largest of 1, 1/2, 1/4, ... at which the convex function falls by a tenth of what its slope promises."""
    with np.errstate(over="ignore"):  # of cosh, far beyond the minimum: that step is then halved
        height = lambda point: np.sum(weights * np.cosh(x.T @ point)) - y @ point  # noqa: E731
        here, promised, length = height(at), slope @ step, 1.0
        # A step so short that it changes nothing is as good as any: the slope decides above.
        while not height(at + length * step) <= here + 0.1 * length * promised + 1e-14 * abs(here) and length > 1e-12:
            length /= 2
    return length
