"""Newton's method towards critical points of any index, from one start.

The step is taken in the Hessian's eigenbasis, H v_i = λ_i v_i:

    x <- x - sum_i (v_i·g / λ_i) v_i

A component is left out only where v_i·g is below the rounding error of the gradient, measured at points two ulp away,
**never because |λ_i| is small**: leaving those out makes a critical point of every exponential tail.

Above 4 parameters the way there is taken with the same step by elimination, H d = -g, which costs a fifth; the
eigenbasis takes over where a step is at most √eps, or where the pivots say that H is singular.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from landscape import smallmatrix
from landscape.critical.catalogue import Ends, Status
from landscape.critical.local import (
    UNROLLED,
    Local,
    Loss,
    Vector,
    combine,
    coordinates,
    flat,
    floors_at,
    hessian_at,
    look,
    project,
    remembered,
    rounding,
    vectorial,
)
from landscape.plane import Grid
from landscape.problem import Problem, checked_count, float_dtype, parameter_count
from landscape.search import Search
from landscape.starts import checked_starts
from landscape.sweep import lanes_within, sweep

PyTree = Any

STEPS = 200  # where the loss is of fifth order it takes 136 to reach rounding, nearly everywhere else below 20
LARGEST = 512  # parameters up to which a dense Hessian, with its eigenvectors at every step, is reasonable
WIDTH, NARROW = 256, 64  # lanes side by side, of scalars and of arrays: XLA's operations are slower on more of these
# Bytes of their Hessians: lanes that have ended keep their place, and are stepped in vain, until all have.
ROOM = 1 << 20
DEEP = 32  # points a lane works through, one after the other, where there are plenty
NOISY = 30  # rounding errors up to which a slope may be one
# Of 1 + |x|: a longer step before its slope vanished was no convergence, nor is it one where rounding leaves so much.
WALKED = 0.01
NEARLY = 100  # rounding errors up to which a curvature may be that of a tail
BLURRED = 8  # last bits of the size that rounding may move a limit by, in each coordinate
RADIUS = 1e6  # a lane farther than this from the origin, in units of 1 + its start's distance, has diverged

_RUNNING = -1


class Came(NamedTuple):
    """How a search came to its last point."""

    step: PyTree  # the last step taken; along each eigenvector the last one that its slope decided
    curvature: Any  # |H|_F where the search began


def newton(
    problem: Problem,
    starts: PyTree,
    *,
    came: Came | None = None,
    steps: int = STEPS,
    block: int | None = None,
    store: Any = None,
    progress: bool | str = False,
) -> Ends:
    """Newton's method from every start, in the starts' own precision, with the step of the module's first lines.

    A lane ends where every slope v_i·g is below its rounding error, or one step after the steps became small: with
    ρ = ‖d_k‖/‖d_{k-1}‖, where ‖d_k‖ <= √eps (1 + ‖x‖), and ρ‖d_k‖/(1 - ρ) <= eps (1 + ‖x‖) or ρ > 0.9. It goes on
    where the next look finds a slope above 30 times its rounding error with ρ > 0.9, or with a step above
    100 eps (1 + ‖x‖) along it: that is no noise, but a tail of equal steps.
    Convergence is quadratic where the Hessian is regular, and across a valley; it is linear where the loss is of higher
    order, with ρ = (m-2)/(m-1) for order m.

    Args:
      problem: of up to 512 parameters: the Hessian is dense.
      starts: points with a leading axis of lanes, or a `plane.Grid`.
      came: how a search came to each start, leaves with lanes first: where the gradient has vanished after a long step
        along flat directions, that is a tail and no critical point.
      steps: the most of Newton's steps.
      block, store, progress: as in `landscape.sweep.sweep`.

    Raises ValueError or TypeError, before anything is compiled, for too many parameters and unsuitable arguments.
    Cost of a step: n + 1 gradients and an elimination; of the last few, n + 3 and the eigenvectors of an n x n matrix.
    """
    checked_size(problem)
    checked_count("steps", steps)
    starts, _ = checked_starts(problem, starts)
    grid = starts if isinstance(starts, Grid) else None
    problem = problem.astype(float_dtype(starts))
    search = Search(_enter, _far, _advance, _finish, width(problem))
    block = block or block_size(problem, grid.count if grid else len(jax.tree.leaves(starts)[0]))
    if grid is None and came is None:
        none = np.zeros(len(jax.tree.leaves(starts)[0]), float_dtype(starts))
        came = Came(jax.tree.map(np.zeros_like, starts), none)
    points = grid or (starts, came)
    return sweep(search, points, problem, np.int32(steps), grid, block=block, store=store, progress=progress)


def block_size(problem: Problem, lanes: int) -> int:
    """Lanes a block: one of two sizes, so that searches of different numbers of lanes share their programs."""
    few = max(NARROW, width(problem))
    return few * (DEEP if lanes >= 4 * DEEP * few else 1)


def width(problem: Problem) -> int:
    """Lanes that search side by side."""
    size = parameter_count(problem.reference)
    matrix = jax.ShapeDtypeStruct((size, size), np.float64)
    return min(WIDTH if size <= UNROLLED else NARROW, lanes_within(ROOM, matrix))


def checked_size(problem: Problem) -> None:
    """Raise where the problem's dense Hessian would be too large."""
    size = parameter_count(problem.reference)
    if size > LARGEST:
        raise ValueError(
            f"problem {problem.name!r} has {size} parameters: a dense Hessian is needed, and {LARGEST} is the limit"
        )


class _Lane(NamedTuple):
    point: Vector
    radius: jax.Array  # a point farther out than this has diverged
    step: Vector  # the last one taken
    came: Vector  # the same, but along eigenvectors whose slope has vanished the last one that it decided
    distance: jax.Array
    curvature: jax.Array  # |H|_F at the start
    near: jax.Array  # the eigenbasis is needed from here on
    steady: jax.Array  # the last step was hardly shorter than the one before
    settled: jax.Array  # the last step was the last one needed, if the next look agrees
    steps: jax.Array
    status: jax.Array
    loss: jax.Array  # this and the next two: where the status was decided
    gradient_norm: jax.Array
    values: Vector


def _enter(start: PyTree, problem: Problem, limit: jax.Array, grid: Grid | None) -> _Lane:
    del problem, limit
    place, came = start if grid is None else (grid.embed(start), None)
    point, _ = coordinates(place)
    radius = RADIUS * (1 + optax.tree.norm(point))
    nothing, zero, no = optax.tree.zeros_like(point), jnp.zeros_like(radius), jnp.asarray(False)
    step, curvature = (nothing, zero) if came is None else (coordinates(came.step)[0], came.curvature)
    scalars = jnp.asarray(not point[0].ndim)  # of these few the eigenbasis costs next to nothing
    state = (scalars, no, no, jnp.int32(0), jnp.int32(_RUNNING), zero, zero, nothing)
    return _Lane(point, radius, nothing, step, optax.tree.norm(step), curvature, *state)


def _far(lane: _Lane, *_: Any) -> jax.Array:
    return (lane.status == _RUNNING) & (~lane.near | (not lane.point[0].ndim))


def _advance(lane: _Lane, problem: Problem, limit: jax.Array, grid: Grid | None) -> _Lane:
    del grid
    loss, _ = vectorial(problem)
    return (_approach if lane.point[0].ndim else _step)(loss, limit, lane)


def _finish(lane: _Lane, problem: Problem, limit: jax.Array, grid: Grid | None) -> Ends:
    """What became of the lane, once it has taken the last steps in the eigenbasis."""
    del grid
    loss, stack = vectorial(problem)
    if lane.point[0].ndim:  # of scalars all steps were such
        lane = jax.lax.while_loop(lambda lane: lane.status == _RUNNING, partial(_step, loss, limit), lane)
    matrix = hessian_at(loss, lane.point)
    eps, (array, back) = jnp.finfo(lane.loss.dtype).eps, ravel_pytree(lane.point)
    change = lambda way: optax.tree.norm(  # noqa: E731
        jax.tree.map(jnp.subtract, hessian_at(loss, optax.tree.add(lane.point, way)), matrix)
    )
    # Where nothing is left to be decided the limit is that near, in whatever direction; and no nearer than last bits.
    near = jnp.maximum(lane.distance / array.size**0.5, BLURRED * eps * (1 + optax.tree.norm(lane.point)))
    blur = back(near * (1 - 2 * (np.arange(array.size) % 2)))
    left = optax.tree.scale(lane.distance, _direction(lane.step))
    uncertainty = 2 * jnp.maximum(change(left), change(blur))
    least = jnp.min(jnp.abs(flat(lane.values)))
    scale = jnp.maximum(lane.curvature, optax.tree.norm(lane.values))
    singular = least <= rounding(flat(lane.values).size, lane.loss.dtype) * scale + uncertainty
    status = jnp.where((lane.status == Status.CONVERGED) & singular, Status.DEGENERATE, lane.status).astype(jnp.int8)
    where = lane.loss, lane.gradient_norm, lane.distance, flat(lane.values)
    return Ends(stack(lane.point), *where, uncertainty, lane.curvature, lane.steps, status)


def _direction(step: Vector) -> Vector:
    """The step over its norm, though its squares may underflow; 0 for none."""
    tiny = jnp.finfo(flat(step).dtype).tiny
    scaled = optax.tree.scale(1 / jnp.maximum(jnp.max(jnp.abs(flat(step))), tiny), step)
    return optax.tree.scale(1 / jnp.maximum(optax.tree.norm(scaled), tiny), scaled)


def _approach(loss: Loss, limit: jax.Array, lane: _Lane) -> _Lane:
    """Newton's step by elimination; where that is not to be trusted, none, and the eigenbasis decides."""
    matrix, (gradient,) = hessian_at(loss, lane.point), jax.grad(loss)(lane.point)
    step, pivots = smallmatrix.solve(matrix, -gradient)
    moved, length = lane.point[0] + step, optax.tree.norm(step)
    eps, size = jnp.finfo(lane.loss.dtype).eps, 1 + optax.tree.norm(lane.point)
    regular = jnp.min(pivots) > eps**0.75 * jnp.max(pivots)  # a NaN is not
    onward = regular & (optax.tree.norm(moved) <= lane.radius) & (lane.steps < limit)
    return lane._replace(
        point=(jnp.where(onward, moved, lane.point[0]),),
        step=(jnp.where(onward, step, lane.step[0]),),
        came=(jnp.where(onward, step, lane.came[0]),),
        curvature=jnp.where(lane.curvature == 0, optax.tree.norm(matrix), lane.curvature),
        near=~onward | (length <= jnp.sqrt(eps) * size),
        steps=lane.steps + onward,
    )


def _step(loss: Loss, limit: jax.Array, lane: _Lane) -> _Lane:
    """Look at the point; decide that the lane is over, or move."""
    here = look(loss, lane.point)
    eps, size = jnp.finfo(lane.loss.dtype).eps, 1 + optax.tree.norm(lane.point)
    curvature = jnp.where(lane.curvature == 0, here.norm, lane.curvature)
    slopes, floors = project(here.basis, here.gradient), floors_at(loss, lane.point, here)
    live = jax.tree.map(lambda slope, floor: jnp.abs(slope) > floor, slopes, floors)
    step = combine(here.basis, jax.tree.map(lambda on, s, v: jnp.where(on, -s / v, 0), live, slopes, here.values))
    moved = optax.tree.add(lane.point, step)

    off, sideways, earlier = _unresolved(lane, here, floors, curvature)
    exhausted = ~jnp.any(flat(live))

    length, before = optax.tree.norm(step), optax.tree.norm(lane.step)
    left, steady = _remaining(length, before)
    # On a tail, or towards a pole, steps may be small too, after a long one even as if they converged; but they stay
    # equal or grow, and the slopes are no rounding errors.
    long = jax.tree.map(lambda s, v: steady | (jnp.abs(s) > 100 * eps * size * jnp.abs(v)), slopes, here.values)
    steep = jax.tree.map(lambda s, floor: jnp.abs(s) > NOISY * floor, slopes, floors)
    calm = earlier <= WALKED * size
    settled = lane.settled & calm & ~jnp.any(flat(jax.tree.map(jnp.logical_and, long, steep)))
    close = (off <= WALKED * size) & (sideways <= jnp.where(lane.steady, eps**0.5, eps**0.25 / 4) * size)
    missing = jnp.where(exhausted, off + jnp.minimum(sideways, lane.distance), left)
    ends = [
        (~jnp.isfinite(here.loss + optax.tree.norm(here.gradient) + here.norm), Status.NON_FINITE),
        (settled | (exhausted & calm & close), Status.CONVERGED),
        (exhausted, Status.VANISHED),
        (~(optax.tree.norm(moved) <= lane.radius), Status.DIVERGED),  # a NaN too: a slope over a zero eigenvalue
        (lane.steps >= limit, Status.OUT_OF_STEPS),
    ]
    status = jnp.select([condition for condition, _ in ends], [jnp.int32(code) for _, code in ends], _RUNNING)
    onward = status == _RUNNING
    choose = partial(jax.tree.map, lambda new, old: jnp.where(onward, new, old))
    return lane._replace(
        point=choose(moved, lane.point),
        step=choose(step, lane.step),
        came=choose(remembered(here.basis, jax.tree.map(jnp.logical_not, live), step, lane.came), lane.came),
        distance=jnp.where(settled, lane.distance, missing),
        curvature=curvature,
        steady=steady,
        settled=(length <= jnp.sqrt(eps) * size) & ((left <= eps * size) | steady),
        steps=lane.steps + onward,
        status=status,
        loss=here.loss,
        gradient_norm=optax.tree.norm(here.gradient),
        values=here.values,
    )


def _unresolved(lane: _Lane, here: Local, floors: Vector, curvature: jax.Array) -> tuple[jax.Array, ...]:
    """How far off rounding may leave the point; how far the last step went along what is flat here, and earlier ones.

    Of earlier steps those that the slopes decided before they vanished, along what is flat or nearly so: on a tail
    slopes vanish in rounding errors a little before the curvature does.
    """
    threshold = rounding(flat(here.values).size, here.norm.dtype) * jnp.maximum(curvature, here.norm)
    within = lambda limit, vector: jax.tree.map(  # noqa: E731
        lambda v, c: jnp.where(jnp.abs(v) <= limit, c, 0), here.values, project(here.basis, vector)
    )
    steep = jax.tree.map(lambda v, floor: jnp.where(jnp.abs(v) <= threshold, 0, floor / v), here.values, floors)
    along, before = within(threshold, lane.step), within(NEARLY * threshold, lane.came)
    return optax.tree.norm(steep), optax.tree.norm(along), optax.tree.norm(before)


def _remaining(length: jax.Array, before: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What is left to go after a step of this length, and whether shorter steps no longer come."""
    ratio = jnp.where(before > 0, length / before, 0)
    first = before == 0  # of one step alone nothing is known but its length
    steady = ratio > 0.9
    return jnp.where(first | steady, length, ratio * length / (1 - ratio)), steady
