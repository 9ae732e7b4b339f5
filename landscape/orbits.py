"""Orbits: what a full-batch run does step by step, with a tangent beside it, for cycles and Lyapunov exponents."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from landscape import descent
from landscape.problem import Problem, float_dtype, is_float

PyTree = Any

LONGEST = 64  # steps of a window, and of the longest cycle that is looked for


class Orbit(NamedTuple):
    """What a full-batch run does after its last step, in windows of `LONGEST` steps."""

    state: Any
    tangent: list[Any]  # of unit length, carried along
    middle: PyTree  # where it is half-way
    first: Any  # farthest from the orbit's first point in the first half
    second: Any  # farthest from `middle` in the second half
    whole: Any  # farthest from the orbit's first point
    aside: Any  # farthest along the way out of a saddle
    period: Any  # least p in 2..64 after which it is back to rounding, having left; else 0
    total: Any  # sum of the windows' log growths of the tangent, but for the first window's
    squares: Any  # sum of their squares


def orbit(
    state: Any, problem: Problem, hyper: dict, static: descent.Method, outward: PyTree, windows: Any, wanted: Any = True
) -> Orbit:
    """The full-batch orbit from a state of `descent`, for 1 + `windows` windows; none where it is not `wanted`."""
    origin = state[0].params
    size = optax.tree.norm(origin)
    tolerance = 256 * jnp.finfo(float_dtype(origin)).eps * (1 + size)
    none = jnp.zeros_like(size)

    def step(i: jax.Array, carry: tuple) -> tuple:
        window, found, log = carry
        state, tangent, grown = _tangent_step(found.state, found.tangent, problem, hyper, static)
        params = state[0].params
        path = optax.tree.sub(params, origin)
        distance = optax.tree.norm(path)
        whole, late = jnp.maximum(found.whole, distance), 2 * window > windows
        back = (found.period == 0) & (distance <= tolerance) & (whole > 8 * tolerance) & (window == 0) & (i > 0)
        from_middle = optax.tree.norm(optax.tree.sub(params, found.middle))
        found = found._replace(
            state=state,
            tangent=tangent,
            middle=where(late, found.middle, params),
            first=jnp.where(late, found.first, whole),
            second=jnp.where(late, jnp.maximum(found.second, from_middle), 0),
            whole=whole,
            aside=jnp.maximum(found.aside, jnp.abs(optax.tree.vdot(outward, path))),
            period=jnp.where(back, i + 1, found.period),
        )
        return window, found, log + grown

    def window(carry: tuple) -> tuple:
        number, found = carry
        _, found, log = jax.lax.fori_loop(0, LONGEST, step, (number, found, none))
        log = jnp.where(number > 0, log, 0)  # in the first one the tangent finds its direction
        return number + 1, found._replace(total=found.total + log, squares=found.squares + log**2)

    begin = Orbit(state, _tangent(state), origin, none, none, none, none, jnp.int32(0), none, none)
    return jax.lax.while_loop(lambda carry: (carry[0] <= windows) & wanted, window, (jnp.int32(0), begin))[1]


def growth(found: Orbit, windows: Any) -> tuple[jax.Array, jax.Array]:
    """The largest Lyapunov exponent per step, mean log |J v| over the orbit, and its error from the windows' spread."""
    mean = found.total / windows
    spread = jnp.maximum(found.squares / windows - mean**2, 0) / (windows - 1)
    return mean / LONGEST, jnp.sqrt(spread) / LONGEST


def _tangent(state: Any) -> list[jax.Array]:
    """A generic direction of the parameters (no symmetry keeps it), and none of the optimizer's memory."""
    leaves, memory = (
        [leaf for leaf in jax.tree.leaves(part) if is_float(leaf)] for part in (state[0].params, state[0].memory)
    )
    mixed = [jnp.cos(1.0 + i + jnp.arange(leaf.size, dtype=leaf.dtype)) for i, leaf in enumerate(leaves)]
    shaped = [mix.reshape(leaf.shape) for mix, leaf in zip(mixed, leaves, strict=True)]
    return shaped + [jnp.zeros_like(leaf) for leaf in memory]


def _tangent_step(
    state: Any, tangent: list[jax.Array], problem: Problem, hyper: dict, static: descent.Method
) -> tuple[Any, list[jax.Array], jax.Array]:
    """One step of a run and of a tangent to it, in parameters and the optimizer's memory, with its log growth."""
    lane, counts = state
    leaves, structure = jax.tree.flatten((lane.params, lane.memory))

    def move(values: list[jax.Array]) -> tuple:
        moving = iter(values)
        params, memory = structure.unflatten([next(moving) if is_float(leaf) else leaf for leaf in leaves])
        mine = lane._replace(params=params, memory=memory), counts
        after = descent.advance(mine, 0, 1, problem, hyper, static=static)
        return [leaf for leaf in jax.tree.leaves((after[0].params, after[0].memory)) if is_float(leaf)], after

    values = [leaf for leaf in leaves if is_float(leaf)]
    _, pushed, after = jax.jvp(move, (values,), (tangent,), has_aux=True)
    length = optax.tree.norm(pushed)
    return after, [leaf / length for leaf in pushed], jnp.log(length)


def where(condition: jax.Array, ours: PyTree, theirs: PyTree) -> PyTree:
    """`ours` where the condition of one lane holds, else `theirs`, leaf by leaf."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), ours, theirs)
