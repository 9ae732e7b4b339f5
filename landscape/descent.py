"""Optimizer runs: any optax optimizer on any problem, full batch or in minibatches.

A run is a pure function of its start and key: one lane of `landscape.sweep`. An epoch is an exact partition of the
samples: a fresh permutation, ⌊n/B⌋ batches of B and, where B does not divide n, one short batch, whose gradient is the
mean over its own samples. Batches may be drawn independently at each step instead.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from landscape.draws import drawn, shuffle
from landscape.hyperparameters import Optimizer, checked_hyper
from landscape.loops import by_reciprocals, repeat
from landscape.plane import Grid
from landscape.problem import Problem, checked_count, float_dtype
from landscape.process import Process
from landscape.starts import checked_starts
from landscape.sweep import sweep

PyTree = Any

OBSERVABLES = ("params", "loss", "gradient_norm")
DRAWS = ("reshuffled", "without replacement", "with replacement")
MOST = 2**31 - 1  # steps that an optimizer's count can hold


class Method(NamedTuple):
    """How runs move: static."""

    optimizer: Optimizer  # an optax factory, called inside the trace
    options: tuple[tuple[str, Any], ...]  # its static arguments: bools, None, callables
    batch_size: int | None  # None: all samples at every step
    observe: tuple[str, ...]  # what is kept of a run
    counts_shared: bool = True  # the optimizer's integers (step counts) are the same on all lanes
    noisy: bool = False  # the optimizer draws random numbers
    draw: str = DRAWS[0]  # how minibatches are drawn


class Start(NamedTuple):
    """Where one run begins."""

    params: PyTree
    hyper: dict[str, Any]  # the hyper-parameters of its own, where they are swept


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class GridStarts:
    """The starts of a grid: a lazy source for `sweep`."""

    grid: Grid
    hyper: dict[str, Any]

    @property
    def count(self) -> int:
        """Lanes."""
        return self.grid.count

    def point(self, index: Any) -> Start:
        """The start of one lane."""
        own = {name: jnp.asarray(values)[index] for name, values in self.hyper.items()}
        return Start(self.grid.embed(self.grid.point(index)), own)


class Lane(NamedTuple):
    """One run between two steps; the shared half of the state is the optimizer's integers, if equal on all lanes."""

    params: PyTree
    memory: PyTree  # the optimizer's state, None in place of what is shared
    hyper: dict[str, Any]


class Observation(NamedTuple):
    """What is known of a run at one step; what was not asked for is None."""

    params: PyTree
    loss: Any  # () on all samples
    gradient_norm: Any  # () Euclidean norm of the gradient on all samples


@dataclasses.dataclass(frozen=True)
class Run:
    """The ends of runs, and their traces. Leaves have lanes first; a single start gives them without that axis."""

    problem: Problem
    end: Observation  # after the last step
    steps: np.ndarray  # (T,) the steps at which the trace was kept
    trace: Observation | None  # leaves (lanes, T, ...)


def run(
    problem: Problem,
    starts: PyTree,
    *,
    optimizer: Optimizer,
    hyper: dict[str, Any],
    steps: int,
    batch_size: int | None = None,
    draw: str = DRAWS[0],
    observe_at: Any = (),
    observe: tuple[str, ...] = OBSERVABLES,
    key: Any = 0,
    seeds: Any = None,
    block: int | None = None,
    store: Any = None,
    progress: bool | str = False,
) -> Run:
    """Run an optimizer from every start.

    Args:
      problem: the loss; with `batch_size` it must have samples.
      starts: one point, a pytree of points with a leading axis of lanes, or a `plane.Grid`.
      optimizer: an optax factory, such as `optax.adam`.
      hyper: its arguments by name. Floats are traced and can change without a new compilation; an array of one
        number a lane sweeps them. Whole numbers (but a learning rate), bools, None and functions are static.
      steps: updates, at least 1. With minibatches an epoch is ⌈n/B⌉ of them.
      batch_size: samples a step; None or n takes all of them at every step.
      draw: "reshuffled", a new permutation each epoch, taken batch by batch; or independently at each step, "without
        replacement" (different samples in a batch) or "with replacement". Runs of equal seed share their permutations
        whatever their batch size: a step's smaller batch without replacement is part of the larger. That costs B²
        comparisons a step; up to 64 samples a whole permutation, which is less.
      observe_at: the steps at which a trace is kept; 0 is the start.
      observe: what the trace and the end hold, of "params", "loss", "gradient_norm".
      key, seeds: the randomness of the shuffles, as in `landscape.sweep.sweep`.
      block, store, progress: as there.

    A run that diverges is data: its numbers become inf or NaN, nothing is raised.
    Raises ValueError or TypeError in one sentence, before anything is compiled, for a batch size below 1 or above n, an
    unknown draw, hyper-parameters that are unknown, missing, non-finite or outside `RANGES`, steps below 1, and starts
    unlike the problem's point. What only diverges is allowed: any learning rate, any momentum, 1 and more and negative
    ones too.
    """
    if isinstance(observe, str) or not np.iterable(observe):
        raise ValueError(f"observe is {observe!r:.60}: give a tuple of names, such as ('params', 'loss')")
    unknown = [name for name in observe if name not in OBSERVABLES]
    if unknown:
        raise ValueError(f"observe has {unknown}: choose from {', '.join(OBSERVABLES)}")
    watched = checked_steps(steps, observe_at)
    points, single = checked_starts(problem, starts)
    points, method, hyper = prepared(problem, points, optimizer, hyper, batch_size, tuple(observe), draw)
    process = Process(init, advance, finish, int(steps), observe=finish if watched else None, observe_at=watched)
    problem = problem.astype(float_dtype(points))
    randomness = {"key": key, "seeds": seeds} if method.batch_size or method.noisy else {}
    engine = {"static": method, "block": block, "store": store, "progress": progress}
    end, trace = sweep(process, points, problem, hyper, **randomness, **engine)
    if single:
        end, trace = jax.tree.map(lambda leaf: leaf[0], (end, trace))
    return Run(problem, end, np.array(watched), trace)


def prepared(
    problem: Problem,
    points: PyTree,
    optimizer: Optimizer,
    hyper: dict,
    batch_size: int | None,
    observe: tuple[str, ...],
    draw: str = DRAWS[0],
) -> tuple[Any, Method, dict[str, Any]]:
    """The sweep's points, its static method and the hyper-parameters that all lanes share, all checked."""
    lanes = points.count if isinstance(points, Grid) else jax.tree.leaves(points)[0].shape[0]
    dtype = float_dtype(points)
    shared, own, options = checked_hyper(optimizer, hyper, lanes, dtype)
    if draw not in DRAWS:
        raise ValueError(f"draw is {draw!r}: give one of {', '.join(map(repr, DRAWS))}")
    batch = checked_batch_size(problem, batch_size)
    if batch is None and draw != DRAWS[0]:
        raise ValueError(f"draw is {draw!r} without a batch_size: give one, from 1 to {problem.size}")
    batch = None if batch == problem.size and draw != "with replacement" else batch
    method = Method(optimizer, options, batch, observe, draw=draw)
    method = _inspected(method, problem, shared | {name: values[0] for name, values in own.items()})
    return (GridStarts(points, own) if isinstance(points, Grid) else Start(points, own)), method, shared


def init(start: Start, problem: Problem, hyper: dict, *, static: Method, key: Any = None) -> tuple[Lane, PyTree]:
    """The state before the first step."""
    del problem
    memory = jax.tree.map(jnp.asarray, _optimizer(static, hyper | start.hyper).init(start.params))
    if static.noisy:
        memory = jax.tree.map(lambda leaf: _own_key(leaf, key) if _is_key(leaf) else leaf, memory)
    own, counts = _halves(memory, static)
    return Lane(start.params, own, start.hyper), counts


def advance(
    state: tuple[Lane, PyTree], start: Any, stop: Any, problem: Problem, hyper: dict, *, static: Method, key: Any = None
) -> tuple[Lane, PyTree]:
    """The state after the steps start, ..., stop - 1."""
    lane, counts = state
    optimizer = _optimizer(static, hyper | lane.hyper)

    def update(moving: tuple, data: PyTree) -> tuple:
        params, own, counts = moving
        loss = lambda params: problem.loss(params, data)  # noqa: E731
        value, gradient = jax.value_and_grad(loss)(params)
        direction = lambda *args: optimizer.update(*args, value=value, grad=gradient, value_fn=loss)  # noqa: E731
        steps, memory = by_reciprocals(direction)(gradient, _merged(own, counts), params)
        return optax.apply_updates(params, steps), *_halves(memory, static)

    moving = (lane.params, lane.memory, counts)
    if static.batch_size is None:
        moving = repeat(lambda moving: update(moving, problem.data), moving, start, stop)
    elif static.draw == "reshuffled":
        moving = _epochs(update, moving, start, stop, problem, static.batch_size, key)
    else:
        moving = _draws(update, moving, start, stop, problem, static, key)
    params, own, counts = moving
    return Lane(params, own, lane.hyper), counts


def finish(state: tuple[Lane, PyTree], problem: Problem, hyper: dict, *, static: Method) -> Observation:
    """What is kept of a run at one step."""
    del hyper
    params = state[0].params
    loss, gradient = jax.value_and_grad(problem.at)(params)
    known = {"params": params, "loss": loss, "gradient_norm": optax.tree.norm(gradient)}
    return Observation(**{name: value if name in static.observe else None for name, value in known.items()})


def _epochs(update: Callable, moving: tuple, start: Any, stop: Any, problem: Problem, batch: int, key: Any) -> tuple:
    """The minibatch steps start, ..., stop - 1: an epoch's permutation depends on the key and its number alone."""
    full, short = divmod(problem.size, batch)
    length = full + bool(short)

    take: Any = problem.take

    def on(moving: tuple, indices: jax.Array) -> tuple:
        return update(moving, take(problem.data, indices))

    def epoch(carry: tuple) -> tuple:
        step, moving = carry
        number = step // length
        first = number * length
        order = shuffle(jax.random.fold_in(key, number), problem.size)
        batches = lambda i, moving: on(moving, jax.lax.dynamic_slice_in_dim(order, i * batch, batch))  # noqa: E731
        moving = jax.lax.fori_loop(step - first, jnp.minimum(stop - first, full), batches, moving)
        if short:
            # The predicate is the same on all lanes, so it stays a branch under vmap.
            rest = lambda moving: on(moving, order[full * batch :])  # noqa: E731
            moving = jax.lax.cond(stop > first + full, rest, lambda moving: moving, moving)
        return jnp.minimum(stop, first + length), moving

    return jax.lax.while_loop(lambda carry: carry[0] < stop, epoch, (start, moving))[1]


def _draws(update: Callable, moving: tuple, start: Any, stop: Any, problem: Problem, method: Method, key: Any) -> tuple:
    """The minibatch steps start, ..., stop - 1: a step's batch depends on the key and its number alone."""
    take: Any = problem.take
    count: Any = method.batch_size

    def step(number: jax.Array, moving: tuple) -> tuple:
        own = jax.random.fold_in(key, number)
        replaced = method.draw == "with replacement"
        indices = (
            jax.random.randint(own, (count,), 0, problem.size, jnp.int32)
            if replaced
            else drawn(own, count, problem.size)
        )
        return update(moving, take(problem.data, indices))

    return jax.lax.fori_loop(start, stop, step, moving)


def _optimizer(method: Method, hyper: dict[str, Any]) -> optax.GradientTransformationExtraArgs:
    made: Any = method.optimizer(**hyper, **dict(method.options))
    if not hasattr(made, "init") or not hasattr(made, "update"):
        raise TypeError(f"optimizer makes {made!r:.60}: give a factory of optax's transformations, such as optax.sgd")
    return optax.with_extra_args_support(made)


def _halves(memory: PyTree, method: Method) -> tuple[PyTree, PyTree]:
    """The optimizer's state: a lane's own, and what all lanes share; None in each where the other has a leaf."""

    def shared(leaf: jax.Array) -> bool:
        return method.counts_shared and jnp.issubdtype(leaf.dtype, jnp.integer) and not _is_key(leaf)

    own = jax.tree.map(lambda leaf: None if shared(leaf) else leaf, memory)
    return own, jax.tree.map(lambda leaf: leaf if shared(leaf) else None, memory)


def _merged(own: PyTree, counts: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: b if a is None else a, own, counts, is_leaf=lambda leaf: leaf is None)


def _is_key(leaf: Any) -> bool:
    """Whether a leaf of an optimizer's state is a random key: typed, or the two words of a raw one."""
    raw = leaf.dtype == jnp.uint32 and leaf.shape == (2,)
    return raw or jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _own_key(leaf: jax.Array, key: jax.Array) -> jax.Array:
    """The optimizer's key with the lane's folded in."""
    word = jax.random.bits(key, dtype=jnp.uint32)
    return jax.random.fold_in(leaf, word)


def _inspected(method: Method, problem: Problem, hyper: dict[str, Any]) -> Method:
    """The method, knowing whether the optimizer draws random numbers, and whether its integers differ by lane.

    They do where a step depends on the loss (line searches, plateaus); then sharing them does not trace under `vmap`.
    """
    memory = _memory.eval_shape(method, problem.reference, hyper)
    method = method._replace(noisy=any(_is_key(leaf) for leaf in jax.tree.leaves(memory)))
    try:
        _two_lanes.eval_shape(method._replace(batch_size=None), problem, hyper)
    except ValueError:
        return method._replace(counts_shared=False)
    return method


# Jitted, though they are never run: what they return is traced once for each method and kind of problem.
@partial(jax.jit, static_argnums=0)
def _memory(method: Method, params: PyTree, hyper: dict[str, Any]) -> PyTree:
    """The optimizer's first state."""
    return jax.tree.map(jnp.asarray, _optimizer(method, hyper).init(jax.tree.map(jnp.asarray, params)))


@partial(jax.jit, static_argnums=0)
def _two_lanes(method: Method, problem: Problem, hyper: dict[str, Any]) -> PyTree:
    """Two lanes after one step, their integers shared."""

    def step(params: PyTree) -> PyTree:
        state = init(Start(params, {}), problem, hyper, static=method, key=jax.random.key(0))
        return advance(state, 0, 1, problem, hyper, static=method)

    return jax.vmap(step, out_axes=(0, None))(jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), problem.reference))


def checked_steps(steps: int, observe_at: Any) -> tuple[int, ...]:
    """The steps to observe, increasing; raises unless they and `steps` make sense."""
    checked_count("steps", steps, most=MOST)
    whole = lambda step: isinstance(step, int | np.integer) and not isinstance(step, bool)  # noqa: E731
    if not np.iterable(observe_at) or not all(map(whole, observe_at)):
        raise ValueError(f"observe_at is {observe_at!r:.60}: give whole numbers, the steps to look at")
    watched = tuple(sorted({int(step) for step in observe_at}))
    if watched and not 0 <= watched[0] <= watched[-1] <= steps:
        raise ValueError(f"observe_at has {watched[0]} to {watched[-1]}: steps lie from 0 to {steps}")
    return watched


def checked_batch_size(problem: Problem, batch_size: int | None) -> int | None:
    """`batch_size`, or None where none was given; raises unless it can be drawn."""
    if batch_size is None:
        return None
    if problem.size == 0 or problem.take is None:
        raise ValueError(
            f"batch_size is {batch_size}, but problem {problem.name!r} has no samples to draw from: leave it out"
        )
    whole = isinstance(batch_size, int | np.integer) and not isinstance(batch_size, bool)
    if not whole or not 1 <= batch_size <= problem.size:
        samples = f"{problem.size} sample{'s' * (problem.size > 1)}"
        raise ValueError(
            f"batch_size is {batch_size!r}, but the problem has {samples}: give a whole number from 1 to {problem.size}"
        )
    return int(batch_size)
