"""Labelling functions: points in, one integer each out. What the geometry of basins is measured on.

A labelling takes an array (n, d) of points in float64 and returns (n,) integers; negative ones mean that nothing was
decided. `runs` labels the starts of optimizer runs; the others are reference systems with published or derived values.
All of them compute in float64 whatever JAX's switch says: pairs of points 1e-8 apart are one point in float32.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from landscape import basins, descent
from landscape.basins import BasinMap, Outcome
from landscape.critical.local import stacked
from landscape.problem import Problem, parameter_count
from landscape.search import Search
from landscape.sweep import sweep

PyTree = Any
Labelling: TypeAlias = Callable[[np.ndarray], np.ndarray]

UNKNOWN = -1  # the label of what was not decided
LONGEST = 20_000  # steps after which an orbit of a reference system is not decided
WIDTH = 1024  # its orbits side by side
TRAP = 0.1  # both fixed points of Grebogi's map, and the roots of z³ = 1, attract all that is so near


def runs(
    problem: Problem,
    *,
    optimizer: descent.Optimizer,
    hyper: dict[str, Any],
    steps: int = 2000,
    kind: Callable[[BasinMap], np.ndarray] | None = None,
    **options: Any,
) -> Labelling:
    """The labelling of starts by what their runs come to.

    Args:
      kind: labels from a `BasinMap`; default `by_name`.
      The others, `options` too, are those of `basins.map`. A column of the points is a parameter, in order of leaves.
    """

    def label(points: np.ndarray) -> np.ndarray:
        with jax.enable_x64(True):
            starts = embedded(problem, points)
            found = basins.map(problem, starts, optimizer=optimizer, hyper=hyper, steps=steps, **options)
            return (kind or by_name)(found)

    return label


def by_name(found: BasinMap) -> np.ndarray:
    """The map's own labels, indices into its `names`; `UNKNOWN` where it is not decided, or rounding held the run."""
    undecided = np.isin(found.outcome, (Outcome.UNDECIDED, Outcome.ABSORBED))
    return np.where(undecided, UNKNOWN, found.labels)


def by_convergence(found: BasinMap) -> np.ndarray:
    """0 at a minimum, 1 diverged, 2 bounded elsewhere (a saddle, a cycle, chaos); `UNKNOWN` as in `by_name`."""
    minimum = np.isin(found.outcome, (Outcome.SETTLED, Outcome.HOVERING))
    label = np.select([minimum, found.outcome == Outcome.DIVERGED], [0, 1], 2)
    return np.where(by_name(found) == UNKNOWN, UNKNOWN, label)


def embedded(problem: Problem, points: np.ndarray) -> PyTree:
    """Points (n, d) as the problem's parameters with a leading axis; ValueError unless d is their number."""
    points, size = np.asarray(points, np.float64), parameter_count(problem.reference)
    if points.ndim != 2 or points.shape[1] != size:
        raise ValueError(f"points has shape {points.shape}: give (n, {size}), a column for each parameter")
    return stacked(problem, points)


# Reference systems ----------------------------------------------------------------------------------------------------


class Orbit(NamedTuple):
    """An orbit of a map of the plane on its way to its end."""

    place: Any  # (x, y)
    label: Any  # UNKNOWN until it is decided
    step: Any


def grebogi(points: np.ndarray) -> np.ndarray:
    """0 or 1: whether (θ, x) ends at (0, -0.3) or at (π, 0.3) under θ' = θ + 1.32 sin 2θ - 0.9 sin 4θ - x sin θ,
    x' = -0.3 cos θ. Uncertainty exponent about 0.2 (Grebogi, McDonald, Ott, Yorke, Phys. Lett. A 99 (1983) 415).
    """
    return _ends(_GREBOGI, points)


def newton_cubic(points: np.ndarray) -> np.ndarray:
    """0, 1 or 2: the root exp(2πi k/3) to which Newton's method for z³ = 1 leads from z = x + iy.

    The boundary's dimension is about 1.42.
    """
    return _ends(_NEWTON, points)


def ellipse(points: np.ndarray, learning_rate: float) -> np.ndarray:
    """0 inside the ellipse of convergence of gradient descent on the toy, 1 outside: a smooth boundary, exponent 1."""
    w1, w2 = _in_plane(points)
    margin = w1**2 + w2**2 + 2 * learning_rate * (1 - w1 * w2) - 2 / learning_rate
    return (margin > 0).astype(int)


def reduced_branch(points: np.ndarray, learning_rate: float) -> np.ndarray:
    """0 or 1, the branch of the toy's minima, for points (θ, q) just inside the ellipse, for small q; 2 outside.

    Along the ellipse θ' = π - 3θ, and q = -Q > 0 grows by `depth_growth`; the branch is the sign of w1 + w2, that of
    sin θ, when q has reached 1. The branches' boundary has the exponent `branch_exponent`.
    """
    return _ends(_REDUCED, points, np.float64(learning_rate))


def depth_growth(angle: Any, learning_rate: Any) -> Any:
    """Q'/Q = 1 - 4 eta² r (1 - r) on the ellipse, where eta r = cos 2θ: 1 - 4 eta cos 2θ + 4 cos² 2θ."""
    cosine = jnp.cos(2 * angle)
    return 1 - 4 * learning_rate * cosine + 4 * cosine**2


def branch_exponent(learning_rate: float, modes: int = 30) -> float:
    """-ln λ / ln 3: the uncertainty exponent of the boundary between the toy's branches under gradient descent.

    λ is the largest eigenvalue of (T g)(φ) = 1/3 Σ g(φ')/c(φ') over the three φ' with -3 φ' = φ mod 2π, φ = 2θ, c the
    `depth_growth`. After n steps the ellipse is covered 3^n-fold, with structures of width 3^-n, and the share of a
    strip beside it that is not decided yet is the mean of 1/(c c' ...), which falls as λ^n. In Fourier modes
    T_kj = (1/c)^(-3k - j), the transform of 1/c; `modes` of them on either side.
    """
    count = 64 * modes
    angle = np.pi * np.arange(count) / count
    with jax.enable_x64(True):
        inverse = np.fft.fft(1 / np.asarray(depth_growth(angle, learning_rate))) / count
    k = np.arange(-modes, modes + 1)
    transfer = inverse[(-3 * k[:, None] - k) % count]
    return float(-np.log(np.max(np.abs(np.linalg.eigvals(transfer)))) / np.log(3))


def _ends(search: Search, points: np.ndarray, *args: Any) -> np.ndarray:
    with jax.enable_x64(True):
        return sweep(search, _in_plane(points), *args).astype(int)


def _in_plane(points: np.ndarray) -> tuple[np.ndarray, ...]:
    """The two columns of points of the plane."""
    points = np.asarray(points, np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or not len(points):
        raise ValueError(f"points has shape {points.shape}: give (n, 2), the map's two coordinates of each point")
    return tuple(points.T)


def _begin(place: tuple, *args: Any) -> Orbit:
    del args
    return Orbit(place, jnp.int32(UNKNOWN), jnp.int32(0))


def _going(orbit: Orbit, *args: Any) -> jax.Array:
    del args
    return (orbit.label == UNKNOWN) & (orbit.step < LONGEST)


def _step(move: Callable, decide: Callable, orbit: Orbit, *args: Any) -> Orbit:
    label = decide(orbit.place)
    moved = move(orbit.place, *args)
    place = jax.tree.map(lambda old, new: jnp.where(label == UNKNOWN, new, old), orbit.place, moved)
    return Orbit(place, jnp.int32(label), orbit.step + 1)


def _label(orbit: Orbit, *args: Any) -> jax.Array:
    del args
    return orbit.label


def _grebogi_move(place: tuple) -> tuple:
    theta, x = place
    return theta + 1.32 * jnp.sin(2 * theta) - 0.9 * jnp.sin(4 * theta) - x * jnp.sin(theta), -0.3 * jnp.cos(theta)


def _grebogi_decide(place: tuple) -> jax.Array:
    theta, x = place
    near = (jnp.abs(jnp.sin(theta)) < TRAP) & (jnp.abs(x) <= 0.5)  # |θ'| <= (0.04 + 0.5)|θ| + 8|θ|³ about either
    return jnp.where(near, jnp.where(jnp.cos(theta) > 0, 0, 1), UNKNOWN)


def _newton_move(place: tuple) -> tuple:
    """z - (z³ - 1)/(3z²) = (2z + 1/z²)/3, with 1/z² = conj(z)²/|z|⁴."""
    x, y = place
    size = (x**2 + y**2) ** 2
    return (2 * x + (x**2 - y**2) / size) / 3, (2 * y - 2 * x * y / size) / 3


def _newton_decide(place: tuple) -> jax.Array:
    x, y = place
    height = jnp.sqrt(0.75)
    near = [jnp.hypot(x - a, y - b) < TRAP for a, b in ((1, 0), (-0.5, height), (-0.5, -height))]
    return jnp.select(near, [0, 1, 2], UNKNOWN)


def _reduced_move(place: tuple, learning_rate: Any) -> tuple:
    theta, depth = place
    return jnp.pi - 3 * theta, depth * depth_growth(theta, learning_rate)


def _reduced_decide(place: tuple) -> jax.Array:
    theta, depth = place
    return jnp.select([depth <= 0, (depth > 1) & (jnp.sin(theta) > 0), depth > 1], [2, 0, 1], UNKNOWN)


_GREBOGI, _NEWTON, _REDUCED = (
    Search(_begin, _going, partial(_step, move, decide), _label, WIDTH)
    for move, decide in (
        (_grebogi_move, _grebogi_decide),
        (_newton_move, _newton_decide),
        (_reduced_move, _reduced_decide),
    )
)
