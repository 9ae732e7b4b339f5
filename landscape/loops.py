"""How the inner loop of runs is compiled: fast on the CPU, plain elsewhere.

XLA's CPU compiler makes a pass over memory for each output of each step. Two things help, and neither changes a result:
a step that stays a function of its own, and tiles of lanes that take all their steps while they are in cache. Both rest
on attributes that XLA reads (`inlineable`, `xla_cpu_small_call`); an XLA that does not know them ignores them. A third,
`by_reciprocals`, decides a rounding that XLA would decide by accident.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.xla_metadata import set_xla_metadata
from jax.extend import core as jaxprs

PyTree = Any

UNROLLED = 4  # steps a turn of a run's inner loop
TILE = 1024  # floats of a tile in one array, at most: with 2048 momentum falls out of the first-level cache
FEWEST = 16  # lanes of a tile, unless the block has fewer: these fill a register
MOST_OPERATIONS = 1500  # in one function: compiling 1300 takes 3 s, 3200 takes 50
# Operations that become part of one function, on a lane's few numbers; matrix products, sorts and scatters do not.
TILEABLE = frozenset(
    "abs add add_any and broadcast_in_dim clamp cond convert_element_type copy cos custom_jvp_call custom_vjp_call "
    "div eq exp exp2 expm1 gather ge gt integer_pow iota is_finite jit le log log1p logistic lt max min mul ne neg not "
    "or pjit pow random_bits random_fold_in random_split reduce_and reduce_max reduce_min reduce_or reduce_sum rem "
    "reshape rsqrt select_n sign sin slice sqrt square squeeze stop_gradient sub tan tanh unstack while xor".split()
)


def repeat(step: Callable[[PyTree], PyTree], state: PyTree, start: Any, stop: Any) -> PyTree:
    """`step` applied stop - start times.

    On the CPU each step stays a function of its own: inlined, XLA would compute what two outputs share once for each of
    them, again at every unrolled step. `UNROLLED` calls a turn let the buffers alternate instead of being copied.
    """
    one = outlined(step, state)

    def several(_: Any, state: PyTree) -> PyTree:
        for _ in range(UNROLLED):
            state = one(state)
        return state

    count = jnp.asarray(stop - start)
    turns = jax.lax.div(count, jnp.full_like(count, UNROLLED))
    state = jax.lax.fori_loop(0, turns, several, state)
    return jax.lax.fori_loop(turns * UNROLLED, count, lambda _, state: one(state), state)


def tiled(mapped: Callable, width: int, key_axis: int | None) -> Callable:
    """`mapped(key, lanes, shared, *rest) -> (lanes, shared)`, a tile of lanes after the other where that is faster.

    On the CPU, a tile's run in steps of few numbers a lane is compiled to one function, whose state stays in cache;
    without it every operation of every step is a pass over the block, dispatched by itself. Full-batch steps on 16
    samples are ten times as fast, minibatches of 4 of them twice as fast.
    """

    def run(key: Any, lanes: PyTree, shared: PyTree, *rest: PyTree) -> tuple[PyTree, PyTree]:
        # Large arrays on a lane tell it at once; only for small ones is it worth a trace of all steps.
        side = _side(width, jax.tree.leaves(lanes)) and side_of_tiles(mapped, width, key, lanes, shared, *rest)
        if not side:
            return mapped(key, lanes, shared, *rest)
        split = lambda leaf: leaf.reshape(width // side, side, *leaf.shape[1:])  # noqa: E731
        tiles = jax.tree.map(split, (key if key_axis == 0 else (), lanes))
        own, first = jax.tree.map(lambda leaf: leaf[0], tiles)
        kernel = outlined(mapped, own if key_axis == 0 else key, first, shared, *rest, xla_cpu_small_call="true")

        def tile(_: PyTree, part: tuple) -> tuple[PyTree, PyTree]:
            own, lanes = part
            lanes, after = kernel(own if key_axis == 0 else key, lanes, shared, *rest)
            return after, lanes

        after, moved = jax.lax.scan(tile, shared, tiles)
        return jax.tree.map(lambda leaf, like: leaf.reshape(like.shape), moved, lanes), after

    return run


def side_of_tiles(fn: Callable, width: int, *args: PyTree) -> int:
    """How many of `width` lanes make a tile; 0 where XLA's CPU compiler would not make `fn` one function, or not soon.

    It does where the operations are few, of the kinds in `TILEABLE`, and each on few numbers of a lane: a tile has at
    most `TILE` floats in one array. What all lanes share has no more either, since every tile would compute it again.
    Whole numbers do not count: a shuffle's n² comparisons are never kept, and its n numbers are few.
    """
    equations = list(subequations(jax.make_jaxpr(fn)(*args).jaxpr))
    if len(equations) > MOST_OPERATIONS or any(equation.primitive.name not in TILEABLE for equation in equations):
        return 0
    results = [out.aval for equation in equations for out in equation.outvars]
    if any(_floats(result) > TILE and _floats(result) % width for result in results):
        return 0
    return _side(width, results)


def _side(width: int, arrays: list[Any]) -> int:
    """How many of `width` lanes have at most `TILE` floats in each of these arrays of all lanes; 0 for too few."""
    fitting = TILE * width // max([width, *map(_floats, arrays)])
    side = math.gcd(width, 1 << fitting.bit_length() - 1) if fitting else 0
    return side if side >= min(width, FEWEST) else 0


def _floats(array: Any) -> int:
    """How many floats an array, or an abstract one, has."""
    return math.prod(array.shape) if jnp.issubdtype(array.dtype, jnp.inexact) else 0


def by_reciprocals(fn: Callable) -> Callable:
    """`fn` of one lane, where a division by what all lanes share (Adam's bias corrections) is times the reciprocal.

    XLA makes that change to some of such divisions and not to others, by how many users the divisor has after the
    passes that depend on the number of devices: Adam would then treat w1 and w2 differently in the last bit, and one
    device differently from two. Doing it to all keeps the symmetries, and is faster. It costs half an ulp.
    """

    def call(*args: PyTree) -> PyTree:
        traced, result = jax.make_jaxpr(fn, return_shape=True)(*args)
        division = lambda _, a, b: [_quotient(a, b)]  # noqa: E731
        leaves = evaluate(traced.jaxpr, traced.consts, jax.tree.leaves(args), {"div": division})
        return jax.tree.structure(result).unflatten(leaves)

    return call


def evaluate(jaxpr: Any, consts: Any, args: Any, rules: dict[str, Callable]) -> list[jax.Array]:
    """The outputs of a jaxpr; a primitive with a rule is done by `rule(equation, *values) -> results`.

    Rules reach into jitted functions, whose arguments stay the objects they are outside.
    """
    known = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))
    read = lambda atom: atom.val if isinstance(atom, jaxprs.Literal) else known[atom]  # noqa: E731
    for equation in jaxpr.eqns:
        values = [read(atom) for atom in equation.invars]
        name = equation.primitive.name
        if name in rules:
            results = rules[name](equation, *values)
        elif name in ("jit", "pjit"):
            inner = equation.params["jaxpr"]
            results = evaluate(inner.jaxpr, inner.consts, values, rules)
        else:
            found = equation.primitive.bind(*values, **equation.primitive.get_bind_params(equation.params))
            results = found if equation.primitive.multiple_results else [found]
        known.update(zip(equation.outvars, results, strict=True))
    return [jnp.asarray(read(atom)) for atom in jaxpr.outvars]


def outlined(fn: Callable, *args: PyTree, **attributes: str) -> Callable:
    """`fn`, for arguments like these, as a call that XLA's CPU compiler does not inline; elsewhere `fn`."""
    if jax.default_backend() != "cpu":
        return fn
    # Traced before the attributes are set, or every jitted function inside would become a call of its own.
    traced, result = jax.make_jaxpr(fn, return_shape=True)(*args)
    inner = jax.jit(jaxprs.jaxpr_as_fun(traced))

    def call(*args: PyTree) -> PyTree:
        with set_xla_metadata(inlineable="false", **attributes):
            leaves = inner(*jax.tree.leaves(args))
        return jax.tree.structure(result).unflatten(leaves)

    return call


def subequations(jaxpr: Any) -> Iterator[Any]:
    """All equations of a jaxpr and of those inside it."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jaxprs.jaxprs_in_params(equation.params):
            yield from subequations(inner)


@jax.custom_jvp
def _quotient(a: Any, b: Any) -> jax.Array:
    return _divide(a, b)


@_quotient.defjvp
def _quotient_tangent(values: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    """Written out: JAX's derivative of a `custom_vmap` takes lanes twice where a value has them and its tangent not."""
    (a, b), (da, db) = values, tangents
    ratio = _divide(a, b)
    return ratio, (da - ratio * db) / b


@jax.custom_batching.custom_vmap
def _divide(a: Any, b: Any) -> jax.Array:
    return jax.lax.div(a, b)


@_divide.def_vmap
def _divide_lanes(lanes: int, batched: list[bool], a: Any, b: Any) -> tuple[jax.Array, bool]:
    del lanes
    shared = batched[0] and not batched[1] and jnp.issubdtype(b.dtype, jnp.floating)
    return (a * jax.lax.reciprocal(b) if shared else a / b), True
