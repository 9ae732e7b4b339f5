"""What second order leaves open: whether the loss falls, rises or stays along the directions of zero curvature.

At a critical point x with null space N (eigenvalues within the tolerance) and the other eigenvectors P, Lyapunov and
Schmidt's reduction takes the loss along the null space, everything else at rest:

    φ(c) = L(x + N c + P z(c)) - L(x),   P'∇L = 0 at that point,   ∇φ = N'∇L there

so that a curved valley is flat in φ though no straight line in it is. The probe finds the lowest and the highest φ on
spheres ‖c‖ = t of four radii, from several directions each. The smallest radius where φ is more than rounding decides.

Source: Golubitsky and Schaeffer, Singularities and Groups in Bifurcation Theory I (1985), chapter VII.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from landscape.problem import Problem
from landscape.sweep import sweep

PyTree = Any

RADII = (1e-3, 1e-2, 3e-2, 1e-1)  # of the spheres, in units of 1 + ‖x‖
DIRECTIONS = 8  # starts of the search on each sphere, beside the first axes of the null space and their opposites
SEARCH = 60  # steps of the search
NARROW = 1e-9  # of the larger change: a smaller one is what the search left of a direction in which nothing changes
REST = 12  # steps that bring P'∇L to rest


class Probe(NamedTuple):
    """The lowest and the highest change of the loss along the null space: -1 it falls, 0 it stays, 1 it rises."""

    lowest: int
    highest: int
    order: float  # the power of t by which the change grows; inf where it stays


class _Frame(NamedTuple):
    """A critical point and its Hessian's eigenbasis."""

    point: PyTree
    null: jax.Array  # (n, n) eigenvectors in rows, zero but for the null space
    rest: jax.Array  # (n, n) likewise for the others
    inverse: jax.Array  # (n,) 1/λ there, 0 in the null space


def probe(problem: Problem, point: PyTree, hessian: np.ndarray, tolerance: float) -> Probe:
    """What the loss does along the null space of `hessian`, its Hessian at the critical point `point`.

    Eigenvalues within `tolerance` are of the null space. Cost: 8 or so directions x 4 radii x 2 senses x 60 x 13
    gradients. A search on a sphere may miss a narrow way down, so that "rises" is what was seen, not a proof.
    """
    values, vectors = np.linalg.eigh(hessian)
    level = np.abs(values) <= tolerance
    dtype = hessian.dtype
    rest = np.where(level, 0, vectors).T.astype(dtype)
    frame = _Frame(point, np.where(level, vectors, 0).T.astype(dtype), rest, _inverse(values, level).astype(dtype))
    ways = _ways(level)
    length = 1 + float(np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(point))))
    radius, sense, way = np.meshgrid(np.array(RADII) * length, [1.0, -1.0], np.arange(len(ways)), indexing="ij")
    lanes = (ways[way.ravel()].astype(dtype), radius.ravel().astype(dtype), sense.ravel().astype(dtype))
    change, noise = sweep(_extreme, lanes, frame, problem, block=64)
    change = np.where(np.isfinite(change), change, 0).reshape(radius.shape)
    noise = np.max(np.reshape(noise, radius.shape), axis=(1, 2))
    lowest, highest = np.min(change[:, 0], axis=1), np.max(change[:, 1], axis=1)
    noise = np.maximum(noise, NARROW * np.maximum(np.abs(lowest), np.abs(highest)))
    orders = [_order(np.array(RADII), side, noise) for side in (lowest, highest)]
    return Probe(_first(lowest, noise), _first(highest, noise), float(np.nanmin([*orders, np.inf])))


def _inverse(values: np.ndarray, level: np.ndarray) -> np.ndarray:
    return np.where(level, 0, 1 / np.where(level, 1, values))


def _ways(level: np.ndarray) -> np.ndarray:
    """Unit vectors of coefficients in the null space: random ones, and the first axes, both ways."""
    flat = np.flatnonzero(level)
    random = np.random.default_rng(0).normal(size=(DIRECTIONS, level.size)) * level
    axes = np.eye(level.size)[flat[: DIRECTIONS // 2]]
    ways = np.concatenate([random, axes, -axes])
    return ways / np.linalg.norm(ways, axis=1, keepdims=True)


def _first(change: np.ndarray, noise: np.ndarray) -> int:
    """The sign of the change at the smallest radius where it is more than noise."""
    seen = np.flatnonzero(np.abs(change) > noise)
    return int(np.sign(change[seen[0]])) if seen.size else 0


def _order(radii: np.ndarray, change: np.ndarray, noise: np.ndarray) -> float:
    """The power by which the change grows over the two smallest radii where it is more than noise."""
    seen = np.flatnonzero(np.abs(change) > noise)[:2]
    if seen.size < 2:
        return float("nan")
    return float(np.diff(np.log(np.abs(change[seen])))[0] / np.diff(np.log(radii[seen]))[0])


def _extreme(lane: tuple[jax.Array, jax.Array, jax.Array], frame: _Frame, problem: Problem) -> Any:
    """The lowest (sense 1) or highest (-1) φ found on one sphere from one direction, and its rounding error."""
    way, radius, sense = lane
    x, unravel = ravel_pytree(frame.point)
    loss = lambda array: problem.at(unravel(array))  # noqa: E731
    here = loss(x)

    def settled(c: jax.Array) -> jax.Array:
        settle = lambda _, y: y - (frame.inverse * (frame.rest @ jax.grad(loss)(y))) @ frame.rest  # noqa: E731
        return jax.lax.fori_loop(0, REST, settle, x + c @ frame.null)

    def reduced(c: jax.Array) -> tuple[jax.Array, jax.Array]:
        y = settled(c)
        return sense * (loss(y) - here), sense * (frame.null @ jax.grad(loss)(y))

    def search(_: Any, state: Any) -> Any:
        c, value, slope, pace = state
        along = slope - c * (c @ slope) / radius**2
        moved = c - pace * radius * along / jnp.maximum(jnp.linalg.norm(along), jnp.finfo(x.dtype).tiny)
        moved = radius * moved / jnp.linalg.norm(moved)
        new, new_slope = reduced(moved)
        better = new < value
        choose = partial(jnp.where, better)
        return choose(moved, c), choose(new, value), choose(new_slope, slope), pace * jnp.where(better, 1.5, 0.4)

    c = radius * way
    c, value, _, _ = jax.lax.fori_loop(0, SEARCH, search, (c, *reduced(c), jnp.asarray(0.5, x.dtype)))
    y = settled(c)
    rounding = jnp.maximum(_rounding(loss, x), _rounding(loss, y)) + 4 * radius * jnp.linalg.norm(jax.grad(loss)(x))
    unrest = jnp.sum(jnp.abs(frame.inverse) * jnp.square(frame.rest @ jax.grad(loss)(y)))  # left between y and rest
    return sense * value, rounding + 4 * unrest


def _rounding(loss: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
    """The rounding error of the loss: its change with the last bits of the point, all up, and up and down in turn."""
    eps, here = jnp.finfo(x.dtype).eps, loss(x)
    turns = 1 - 2 * (np.arange(x.size) % 2)
    nudged = [jnp.abs(loss(x * (1 + 2 * eps * signs.astype(x.dtype))) - here) for signs in (turns, turns**2)]
    return 8 * (jnp.maximum(*nudged) + eps * jnp.abs(here))
