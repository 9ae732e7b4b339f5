"""What a full-batch run does step by step: cycles, Lyapunov exponents, and whether it stays where it rests for ever."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from landscape import descent
from landscape.problem import Problem, float_dtype, is_float

PyTree = Any

LONGEST = 64  # steps of a window, of the longest cycle that is looked for, and of a nudge's trial
FOREVER = 1 << 30  # steps after which every schedule is at its end


class Orbit(NamedTuple):
    """What a full-batch run does after its last step, in windows of `LONGEST` steps."""

    state: Any
    tangent: list[Any]  # of unit length, carried along
    middle: PyTree  # where it is half-way
    first: Any  # farthest from the orbit's first point in the first half
    second: Any  # farthest from `middle` in the second half
    whole: Any  # farthest from the orbit's first point
    early: Any  # farthest from `centre` in the first window
    late: Any  # and in the last one
    aside: Any  # farthest along the way out of a saddle
    period: Any  # least p in 2..64 after which it is back, to rounding as its steps amplify it, having left; else 0
    total: Any  # sum of the windows' log growths of the tangent, but for the first window's
    squares: Any  # sum of their squares


def orbit(
    state: Any,
    problem: Problem,
    hyper: dict,
    static: descent.Method,
    centre: PyTree,
    outward: PyTree,
    windows: Any,
    wanted: Any = True,
) -> Orbit:
    """The full-batch orbit from a state of `descent`, for 1 + `windows` windows; none where it is not `wanted`."""
    origin = state[0].params
    size = optax.tree.norm(origin)
    eps = jnp.finfo(float_dtype(origin)).eps
    none = jnp.zeros_like(size)

    def step(i: jax.Array, carry: tuple) -> tuple:
        window, found, log, noise = carry
        state, tangent, grown = tangent_step(found.state, found.tangent, 0, problem, hyper, static)
        noise = 1 + jnp.exp(grown) * noise  # each step's rounding and, as the tangent grows, that of those before it
        # At most √eps: in chaos the noise grows without bound. A tangent that is NaN (that of √ν at 0) tells nothing.
        tolerance = jnp.minimum(jnp.fmax(8 * noise, 256), eps**-0.5) * eps * (1 + size)
        params = state[0].params
        path = optax.tree.sub(params, origin)
        distance = optax.tree.norm(path)
        whole, late = jnp.maximum(found.whole, distance), 2 * window > windows
        back = (found.period == 0) & (distance <= tolerance) & (whole > 8 * tolerance) & (window == 0) & (i > 0)
        offset = optax.tree.norm(optax.tree.sub(params, centre))
        from_middle = optax.tree.norm(optax.tree.sub(params, found.middle))
        found = found._replace(
            state=state,
            tangent=tangent,
            middle=where(late, found.middle, params),
            first=jnp.where(late, found.first, whole),
            second=jnp.where(late, jnp.maximum(found.second, from_middle), 0),
            whole=whole,
            early=jnp.where(window == 0, jnp.maximum(found.early, offset), found.early),
            late=jnp.where(window == windows, jnp.maximum(found.late, offset), 0),
            aside=jnp.maximum(found.aside, jnp.abs(optax.tree.vdot(outward, path))),
            period=jnp.where(back, i + 1, found.period),
        )
        return window, found, log + grown, noise

    def window(carry: tuple) -> tuple:
        number, found = carry
        _, found, log, _ = jax.lax.fori_loop(0, LONGEST, step, (number, found, none, none))
        log = jnp.where(number > 0, log, 0)  # in the first one the tangent finds its direction
        return number + 1, found._replace(total=found.total + log, squares=found.squares + log**2)

    begin = Orbit(state, tangent_of(state), origin, none, none, none, none, none, none, jnp.int32(0), none, none)
    return jax.lax.while_loop(lambda carry: (carry[0] <= windows) & wanted, window, (jnp.int32(0), begin))[1]


def growth(total: jax.Array, squares: jax.Array, windows: Any) -> tuple[jax.Array, jax.Array]:
    """The largest Lyapunov exponent per step, mean log |J v| over the windows, and its error from their spread."""
    mean = total / windows
    spread = jnp.maximum(squares / windows - mean**2, 0) / (windows - 1)
    return mean / LONGEST, jnp.sqrt(spread) / LONGEST


def ages(state: Any) -> bool:
    """Whether the method changes while a run rests: it counts its steps, or it remembers more than momentum.

    Momentum is linear in the gradients: a nudge's run with what is left of it tells all.
    """
    nodes = jax.tree.leaves((state[0].memory, state[1]), is_leaf=lambda node: isinstance(node, optax.TraceState))
    return not all(isinstance(node, optax.TraceState) for node in nodes)


def alone(state: Any, number: Any, problem: Problem, hyper: dict, static: descent.Method) -> jax.Array:
    """How far one more step of the full batch leads: checks are an even number of steps apart, as cycles of two are."""
    after, _ = descent.advance(state, number, number + 1, problem, hyper, static=static._replace(batch_size=None))
    return optax.tree.norm(optax.tree.sub(after.params, state[0].params))


def stays(
    state: Any,
    place: PyTree,
    pushed: PyTree,
    allowed: Any,
    at: Any,
    problem: Problem,
    hyper: dict,
    static: Any,
    wanted: Any,
) -> jax.Array:
    """Whether the method as it is in the end stays at `place`, where `at` is the loss's curvature.

    From `pushed` it must be within `allowed` of `place` after 63 and 64 steps: cycles of two steps would pass at even
    ones. And the minimum must be stable to first order: a nudge of eps², far below any eps that an optimizer adds to
    its gradients' squares, must not grow on the quadratic loss that `at` is, in coordinates that begin at `place`.
    Methods that move at 0 by a memory of places, such as an average of the parameters, have no such coordinates.

    Only where it is `wanted`, else True. With minibatches it is the full batch that decides.
    """
    static = static._replace(batch_size=None)
    lane, counts = _aged((state[0]._replace(params=place), state[1]), problem, hyper, static)

    def later(begin: tuple, of: Problem, steps: int) -> tuple[tuple, list[PyTree]]:
        """The state after so many steps, and the parameters at the last two."""

        def step(carry: tuple) -> tuple:
            number, state, _ = carry
            return number + 1, descent.advance(state, 0, 1, of, hyper, static=static), state[0].params

        carry = jnp.int32(0), begin, begin[0].params
        _, end, before = jax.lax.while_loop(lambda carry: (carry[0] < steps) & wanted, step, carry)
        return end, [before, end[0].params]

    _, ends = later((lane._replace(params=pushed), counts), problem, LONGEST)
    back = _farthest([optax.tree.sub(end, place) for end in ends]) <= allowed

    zero = optax.tree.zeros_like(place)
    still = dataclasses.replace(problem, loss=_still)
    moved = descent.advance((lane._replace(params=zero), counts), 0, 1, still, hyper, static=static)[0].params
    flat = jnp.abs(at.eigenvalues) <= jnp.sqrt(jnp.finfo(allowed.dtype).eps) * jnp.max(jnp.abs(at.eigenvalues))
    eigenvalues = jnp.where(flat, 0, at.eigenvalues)

    def quadratic(params: PyTree, data: Any) -> jax.Array:
        del data
        along = [optax.tree.vdot(direction, params) for direction in at.directions]
        return sum(e * a**2 for e, a in zip(eigenvalues, along, strict=True)) / 2

    of = dataclasses.replace(problem, loss=quadratic)
    begin = optax.tree.scale(jnp.finfo(allowed.dtype).eps ** 2, at.generic)
    half, early = later((lane._replace(params=begin), counts), of, LONGEST // 2)
    _, late = later(half, of, LONGEST // 2)
    first, middle, last = _farthest([begin]), _farthest(early), _farthest(late)
    # Momentum may grow a hundredfold before it falls; what grew more and falls is no longer small.
    before = jnp.where(middle <= 100 * first, jnp.maximum(first, middle), first)
    stable = last <= (1 + 1e-5) * before
    return ~wanted | (back & (stable | (optax.tree.norm(moved) > 0)))


def _farthest(points: list[PyTree]) -> jax.Array:
    return jnp.max(jnp.stack([jnp.max(jnp.stack([jnp.max(jnp.abs(x)) for x in jax.tree.leaves(p)])) for p in points]))


def _aged(state: Any, problem: Problem, hyper: dict, static: descent.Method) -> Any:
    """The state that a run at rest comes to: optax's `count`s are `FOREVER`, memory that fades as ρ^t has faded."""
    old = jax.tree_util.tree_map_with_path(_counted, state)
    still = dataclasses.replace(problem, loss=_still)
    once = descent.advance(old, 0, 1, still, hyper, static=static)
    twice = descent.advance(once, 0, 1, still, hyper, static=static)
    memory = jax.tree.map(_faded, *(lane.memory for lane, _ in (old, once, twice)))
    return old[0]._replace(memory=memory), old[1]


def _counted(path: tuple, leaf: Any) -> Any:
    return jnp.full_like(leaf, FOREVER) if path and getattr(path[-1], "name", "") == "count" else leaf


def _still(params: PyTree, data: Any) -> jax.Array:
    """A loss without a slope."""
    del data
    return optax.tree.sum(optax.tree.zeros_like(params))


def _faded(now: jax.Array, after: jax.Array, later: jax.Array) -> jax.Array:
    """The limit, 0, of a leaf that falls from step to step by the same factor; else what it is.

    An average of the parameters next to its limit barely changes, and by another factor than that of its size.
    """
    if not is_float(now):
        return now
    eps, change = jnp.finfo(now.dtype).eps, now - after
    ratio = after / jnp.where(now == 0, 1, now)
    falls = jnp.abs(ratio) < 1 - max(1e-6, 256 * float(eps))
    same = jnp.abs(later - ratio * after) <= 1e-3 * jnp.abs(change) + 2 * eps * jnp.abs(now)
    return jnp.where(falls & same, 0, now)


def tangent_of(state: Any) -> list[jax.Array]:
    """A generic direction of the parameters (no symmetry keeps it), and none of the optimizer's memory."""
    leaves, memory = (
        [leaf for leaf in jax.tree.leaves(part) if is_float(leaf)] for part in (state[0].params, state[0].memory)
    )
    mixed = [jnp.cos(1.0 + i + jnp.arange(leaf.size, dtype=leaf.dtype)) for i, leaf in enumerate(leaves)]
    shaped = [mix.reshape(leaf.shape) for mix, leaf in zip(mixed, leaves, strict=True)]
    return shaped + [jnp.zeros_like(leaf) for leaf in memory]


def tangent_step(
    state: Any, tangent: list[jax.Array], number: Any, problem: Problem, hyper: dict, static: Any, key: Any = None
) -> tuple[Any, list[jax.Array], jax.Array]:
    """Step `number` of a run and of a tangent to it, in parameters and the optimizer's memory, and its log growth."""
    lane, counts = state
    leaves, structure = jax.tree.flatten((lane.params, lane.memory))

    def move(values: list[jax.Array]) -> tuple:
        moving = iter(values)
        params, memory = structure.unflatten([next(moving) if is_float(leaf) else leaf for leaf in leaves])
        mine = lane._replace(params=params, memory=memory), counts
        after = descent.advance(mine, number, number + 1, problem, hyper, static=static, key=key)
        return [leaf for leaf in jax.tree.leaves((after[0].params, after[0].memory)) if is_float(leaf)], after

    values = [leaf for leaf in leaves if is_float(leaf)]
    _, pushed, after = jax.jvp(move, (values,), (tangent,), has_aux=True)
    length = optax.tree.norm(pushed)
    # A step that takes the tangent to 0 has an exponent of -inf, and any direction will do from there on.
    kept = [jnp.where(length > 0, leaf / length, old) for leaf, old in zip(pushed, tangent, strict=True)]
    return after, kept, jnp.log(length)


def where(condition: jax.Array, ours: PyTree, theirs: PyTree) -> PyTree:
    """`ours` where the condition of one lane holds, else `theirs`, leaf by leaf."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), ours, theirs)
