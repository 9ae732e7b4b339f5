"""Towards critical points of every kind: three ways to step, one of them a lane, before Newton's method polishes.

All three step in the Hessian's eigenbasis, H v_i = λ_i v_i, along slopes s_i = v_i·g:

    Newton's method                 d = -sum_i s_i / λ_i v_i
    Levenberg-Marquardt on ‖g‖²     d = -sum_i s_i λ_i / (λ_i² + μ) v_i,  with μ = c ‖g‖
    following k eigenvectors        d = +sum_{i<k} s_i / |λ_i| v_i - sum_{i>=k} s_i / |λ_i| v_i

no farther than a part of the start's size. Each finds what the others miss: Levenberg-Marquardt goes to sets and to
points with zeros (and halts where the gradient is merely flat), following k eigenvectors goes uphill in k directions
to saddles of index k, and Newton's method does not care.

Sources: Fan and Yuan, Computing 74 (2005) 23, for μ proportional to ‖g‖; Cerjan and Miller, J. Chem. Phys. 75 (1981)
2800, for following eigenvectors.
"""

import enum
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from landscape.critical.iteration import Came, block_size, width
from landscape.critical.local import (
    Local,
    Loss,
    Vector,
    combine,
    coordinates,
    flat,
    floors_at,
    look,
    project,
    remembered,
    vectorial,
)
from landscape.problem import Problem, parameter_count
from landscape.search import Search
from landscape.sweep import sweep

PyTree = Any

STEPS = 60  # of exploring; what has not come near a critical point by then seldom does
STRIDE = 0.25  # the longest step, in units of 1 + the distance of the start from the origin
RADIUS = 1e3  # a lane farther than this from the origin, in the same units, is left to end as it will
DAMPING = 1e-2  # μ at the start, in units of |H|_F²
EASED, RAISED = 1 / 4, 4.0  # what c is multiplied by after a step that lowers ‖g‖, and after one that is taken back
FLAT = 1e-5  # the gradient is flat where ‖Hg‖ is below this part of |H|_F ‖g‖


class Method(enum.IntEnum):
    """How a lane explores."""

    NEWTON = 0
    LEVENBERG_MARQUARDT = 1
    EIGENVECTOR_FOLLOWING = 2


PORTFOLIO = (Method.NEWTON, Method.LEVENBERG_MARQUARDT, Method.NEWTON, Method.EIGENVECTOR_FOLLOWING)


class Explored(NamedTuple):
    """Where exploring ended; leaves have lanes first."""

    params: PyTree
    came: Came
    loss: Any
    gradient_norm: Any  # ‖g‖
    flat: Any  # bool: ‖Hg‖ is next to nothing though g is not


class _Lane(NamedTuple):
    point: Vector
    came: Vector
    method: jax.Array
    index: jax.Array  # eigenvectors to follow uphill
    curvature: jax.Array  # |H|_F at the start
    size: jax.Array  # 1 + distance of the start from the origin
    damping: jax.Array  # c
    done: jax.Array
    steps: jax.Array


def checked_method(choice: Any) -> str:
    """`choice`; raises ValueError unless it is "portfolio" or the name of a method."""
    names = ["portfolio", *(method.name.lower() for method in Method)]
    if choice not in names:
        raise ValueError(f"method is {choice!r}: give one of {', '.join(names)}")
    return choice


def methods(choice: str, lanes: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Each lane's method, and how many eigenvectors it would follow uphill: 0 to `size` in turn; both int32."""
    lane = np.arange(lanes)
    if choice == "portfolio":
        follow = lane // len(PORTFOLIO) % (size + 1)
        return np.array(PORTFOLIO, np.int32)[lane % len(PORTFOLIO)], follow.astype(np.int32)
    return np.full(lanes, Method[choice.upper()], np.int32), (lane % (size + 1)).astype(np.int32)


def explore(problem: Problem, starts: PyTree, choice: str, *, steps: int, progress: bool | str = False) -> Explored:
    """Up to `steps` steps from every start, each by the method that `choice` and its lane give."""
    lanes = np.shape(jax.tree.leaves(starts)[0])[0]
    points = starts, *methods(choice, lanes, parameter_count(problem.reference))
    search = Search(_enter, _going, _step, _finish, width(problem))
    return sweep(search, points, problem, np.int32(steps), block=block_size(problem, lanes), progress=progress)


def _enter(point: tuple[PyTree, jax.Array, jax.Array], problem: Problem, limit: jax.Array) -> _Lane:
    del problem, limit
    start, method, index = point
    place, _ = coordinates(start)
    size = 1 + optax.tree.norm(place)
    nothing, zero = optax.tree.zeros_like(place), jnp.zeros_like(size)
    return _Lane(place, nothing, method, index, zero, size, jnp.full_like(size, -1), jnp.asarray(False), jnp.int32(0))


def _going(lane: _Lane, *_: Any) -> jax.Array:
    return ~lane.done


def _finish(lane: _Lane, problem: Problem, limit: jax.Array) -> Explored:
    del limit
    loss, stack = vectorial(problem)
    here = look(loss, lane.point)
    norm = optax.tree.norm(here.gradient)
    flat = gradient_is_flat(loss, lane.point, here)
    came = Came(stack(lane.came), lane.curvature)
    return Explored(stack(lane.point), came, here.loss, norm, flat)


def gradient_is_flat(loss: Loss, point: Vector, here: Local) -> jax.Array:
    """Whether ‖Hg‖ <= 1e-5 |H|_F ‖g‖ with g above its rounding error, and no critical point is within a step of it."""
    slopes, norm = project(here.basis, here.gradient), optax.tree.norm(here.gradient)
    turned = optax.tree.norm(jax.tree.map(jnp.multiply, here.values, slopes))  # ‖Hg‖
    live = jnp.any(flat(jax.tree.map(lambda s, f: jnp.abs(s) > f, slopes, floors_at(loss, point, here))))
    far = norm * norm > turned * (1 + optax.tree.norm(point))  # Newton's step along g, ‖g‖²/‖Hg‖, is long
    return live & (turned <= FLAT * here.norm * norm) & far


def _step(lane: _Lane, problem: Problem, limit: jax.Array) -> _Lane:
    """One step of the lane's method, or none more."""
    loss, _ = vectorial(problem)
    here = look(loss, lane.point)
    norm, eps = optax.tree.norm(here.gradient), jnp.finfo(lane.size.dtype).eps
    damping = jnp.where(lane.damping < 0, DAMPING * here.norm**2 / jnp.maximum(norm, eps), lane.damping)
    weights = _weights(here.values, lane.method, lane.index, damping * norm)
    slopes = project(here.basis, here.gradient)
    way = combine(here.basis, jax.tree.map(lambda w, s: -w * s, weights, slopes))
    length = optax.tree.norm(way)
    step = optax.tree.scale(jnp.minimum(1, STRIDE * lane.size / length), way)
    moved = optax.tree.add(lane.point, step)
    after = optax.tree.norm(jax.grad(loss)(moved))
    better = (after < norm) | (lane.method != Method.LEVENBERG_MARQUARDT)
    # Levenberg-Marquardt goes on while it lowers ‖g‖: near a set, from where the gradient is not yet zero, Newton's
    # method may leap along it (near ∏w = 0 it steps towards the origin, however near it is).
    lower = (lane.method == Method.LEVENBERG_MARQUARDT) & (after < norm)
    arrived = (length <= jnp.sqrt(eps) * (1 + optax.tree.norm(lane.point))) & ~lower
    lost = ~jnp.isfinite(after) | ~(optax.tree.norm(moved) <= RADIUS * lane.size)  # a NaN is lost too
    onward = ~(arrived | lost)
    choose = partial(jax.tree.map, lambda new, old: jnp.where(onward & better, new, old))
    vanished = jax.tree.map(lambda s: jnp.abs(s) <= eps * here.norm * (1 + optax.tree.norm(lane.point)), slopes)
    return lane._replace(
        point=choose(moved, lane.point),
        came=choose(remembered(here.basis, vanished, step, lane.came), lane.came),
        curvature=jnp.where(lane.steps == 0, here.norm, lane.curvature),
        damping=damping * jnp.where(better, EASED, RAISED),
        done=~onward | (lane.steps + 1 >= limit),
        steps=lane.steps + onward,
    )


def _weights(values: Vector, method: jax.Array, index: jax.Array, mu: jax.Array) -> Vector:
    """What each slope is multiplied by in -d."""

    def weight(value: jax.Array, place: Any) -> jax.Array:
        tiny = jnp.finfo(value.dtype).tiny
        steep = jnp.where(jnp.abs(value) < tiny, tiny, value)
        damped = value / jnp.maximum(value * value + mu, tiny)
        followed = jnp.where(place < index, -1, 1) / jnp.abs(steep)
        return jnp.select(
            [method == Method.NEWTON, method == Method.LEVENBERG_MARQUARDT], [1 / steep, damped], followed
        )

    if not values[0].ndim:
        return tuple(weight(value, place) for place, value in enumerate(values))
    return (weight(values[0], np.arange(values[0].size)),)
