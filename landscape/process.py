"""Long runs: what a `Process` is, and how a round of blocks of them, one block a device, is driven to its end.

What is traced here is written for one device's block and placed by `on_devices`: a loop of variable length stays under
`shard_map`, where no device waits for another inside it.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from landscape.loops import tiled

PyTree = Any

CHECKS = 40  # times in a run that it is looked at, to see whether it is done
PATIENCE = 0.2  # seconds of computing between two looks at the clock: Ctrl-C and the progress bar wait no longer
NARROWEST = 64  # lanes below which a block is not worth shrinking

# LLVM's level 2 in place of 3: networks' programs compile in three quarters of the time, and on a CPU none was slower.
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 2})


class Process(NamedTuple):
    """A long computation on one lane, advanced step by step. Its functions are pure and module-level.

    Each takes the sweep's `*args` last and the keywords `static=` and, for `init` and `advance`, `key=` where the
    sweep has them. The state is a pair `(lane, shared)`: `shared` is what is the same for every lane (an optimizer's
    step count) and stays unbatched; everything else is `lane`. A finished lane is frozen. A block stops when all its
    lanes are done, and is narrowed when a quarter of it or less has all that are alive.
    """

    init: Callable[..., Any]  # (point, *args) -> state
    advance: Callable[..., Any]  # (state, start, stop, *args) -> state after the steps start, ..., stop - 1
    finish: Callable[..., Any]  # (state, *args) -> record
    steps: int  # length of the whole run
    check: Callable[..., Any] | None = None  # (state, step, *args) -> (lane, done), at the steps of `check_at`
    observe: Callable[..., Any] | None = None  # (state, *args) -> what is kept at each step of `observe_at`
    observe_at: tuple[int, ...] = ()  # steps; 0 is before the first one
    check_at: tuple[int, ...] = ()  # steps; none of them for `CHECKS` equal distances

    def unscheduled(self) -> "Process":
        """The functions alone, which is what is compiled."""
        return self._replace(steps=0, observe_at=(), check_at=())

    def only(self, *names: str) -> "Process":
        """These functions alone: what a program depends on, so that processes with some in common share those."""
        others: dict[str, Any] = dict.fromkeys({"init", "advance", "finish", "check", "observe"} - set(names))
        return self.unscheduled()._replace(**others)

    def checks(self) -> set[int]:
        """The steps at which runs are checked."""
        equal = {self.steps * i // CHECKS for i in range(1, CHECKS + 1)} - {0}
        return (set(self.check_at) or equal) if self.check else set()

    def stops(self) -> list[int]:
        """The steps at which a run pauses, to be checked or observed, and its end."""
        return sorted((self.checks() | set(self.observe_at) | {self.steps}) - {0})


class Pace:
    """What rounds learn from those before them: how many steps fit in `PATIENCE`, and which layout compiles.

    What a run computes does not depend on it.
    """

    def __init__(self) -> None:
        self.steps = 16
        self.layout: Layout | None = None
        self.brief = False  # whether a piece is known to be that short

    def learn(self, steps: int, seconds: float) -> None:
        """Hear how long so many steps took."""
        self.steps = max(1, min(8 * self.steps, int(steps * PATIENCE / max(seconds, 1e-6))))
        self.brief = seconds <= steps * PATIENCE


class Layout(NamedTuple):
    """What is fixed when a round is traced."""

    fn: Any  # the function of a point, or the Process
    static: Any  # the sweep's `static`
    mesh: Mesh
    size: int  # lanes a block
    one_key: bool  # all lanes share one key
    tiled: bool  # try to compile runs a tile of lanes at a time


class Mine(NamedTuple):
    """Input of a round that is split over the devices."""

    block: np.ndarray  # (devices,) which block each device works on
    stacked: PyTree  # the points of those blocks; None where they come from a lazy source
    seeds: np.ndarray | None  # their seeds; None for the lane's index


class Ours(NamedTuple):
    """Input of a round that every device sees whole."""

    source: PyTree  # a lazy source of points, or None
    key: Any
    lanes: int  # in all
    args: tuple


class Lanes(NamedTuple):
    """The runs of a round: every leaf has the leading axis devices * width, split over the devices."""

    state: PyTree
    key: Any  # None where lanes share one key or there is none
    done: jax.Array


def call(fn: Callable, static: Any, key: Any, *args: PyTree) -> PyTree:
    """`fn(*args)`, with `key=` and `static=` where the sweep has them."""
    named = ({} if key is None else {"key": key}) | ({} if static is None else {"static": static})
    return fn(*args, **named)


def on_devices(mesh: Mesh, body: Callable, mine: PyTree, ours: PyTree, out_specs: Any = P("lane")) -> PyTree:
    """`body(mine, ours)` on every device: its own part of `mine`, the whole of `ours`."""
    # check_vma is off: constants in a state (an optimizer's zeros) are equal on all devices until the first step.
    return jax.shard_map(body, mesh=mesh, in_specs=(P("lane"), P()), out_specs=out_specs, check_vma=False)(mine, ours)


def block_inputs(layout: Layout, mine: Mine, ours: Ours) -> tuple[PyTree, Any, int | None]:
    """On one device: the points of its block, their key or keys, and the keys' axis for `vmap`."""
    index = jnp.minimum(mine.block[0] * layout.size + jnp.arange(layout.size), ours.lanes - 1)
    # The barrier: a source's points are computed once, not once for each output of the function.
    lazily = lambda: jax.lax.optimization_barrier(jax.vmap(ours.source.point)(index))  # noqa: E731
    points = mine.stacked if ours.source is None else lazily()
    if ours.key is None or layout.one_key:
        return points, ours.key, None
    seeds = index if mine.seeds is None else mine.seeds
    return points, jax.vmap(jax.random.fold_in, (None, 0))(ours.key, seeds), 0


def lanes_last(fn: Callable, in_axes: Any) -> Callable:
    """`vmap(fn)` with the lane axis last in memory, below a leading axis of length 1 for the device."""
    mapped = jax.vmap(fn, in_axes=in_axes, out_axes=-1)
    return lambda *args: jax.tree.map(lambda leaf: leaf[None], mapped(*args))


def wait(arrays: PyTree) -> PyTree:
    """The arrays once they are computed; unlike a blocking read, Ctrl-C gets through meanwhile."""
    pause = 2e-5
    # Arrays of typed keys have no `is_ready`; what comes out with them does.
    pending = [leaf for leaf in jax.tree.leaves(arrays) if not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)]
    while not all(leaf.is_ready() for leaf in pending):
        time.sleep(pause)
        pause = min(1.1 * pause, 0.002)  # noticed at most a tenth of the time too late
    return arrays


def run(
    process: Process,
    layout: Layout,
    mine: Mine,
    ours: Ours,
    pace: Pace,
    tick: Callable[[float], Any],
    watch: Callable[[int, PyTree], Any],
) -> PyTree:
    """Drive one round to its end; return its records on the devices, as (device, ..., lane).

    `layout` holds the same process without its schedule, so that another number of steps is no other program. `tick`
    hears of each share of the run that is over, `watch` gets (index in `observe_at`, observation).
    """
    check, observe, finish = (_only(layout, name) for name in ("check", "observe", "finish"))
    lanes, shared = _enter(_only(layout, "init"), mine, ours)
    pace.layout = advance = pace.layout or _compiled(_only(layout, "advance", "check"), lanes, shared, ours)
    whole, places = lanes, None
    alive, step = layout.size, 0
    if 0 in process.observe_at:
        watch(process.observe_at.index(0), _read(observe, process.observe, lanes.state, shared, ours.args))
    for stop in process.stops():
        if alive:
            tick_step = lambda share: tick(share / process.steps)  # noqa: E731
            lanes, shared = _stepped(advance, lanes, shared, ours, step, stop, pace, tick_step)
        else:
            tick((stop - step) / process.steps)
        step = stop
        if stop in process.checks() and alive:
            lanes, counts = _check(check, lanes, shared, np.int32(stop), ours.args)
            alive = int(np.max(counts))
        if stop in process.observe_at:
            watch(process.observe_at.index(stop), _read(observe, process.observe, lanes.state, shared, ours.args))
        elif alive and not process.observe_at:
            lanes, whole, places = _shrunk(layout.mesh, lanes, whole, places, alive)
    state = _restored(layout.mesh, whole, places, lanes).state
    return _read(finish, process.finish, state, shared, ours.args)


def entered(layout: Layout, mine: Mine, ours: Ours) -> Callable[[int], PyTree]:
    """The runs of one round after so many steps from their start: compiled, and all they need on their devices."""
    lanes, shared = _enter(_only(layout, "init"), mine, ours)
    advance = _compiled(_only(layout, "advance", "check"), lanes, shared, ours)
    return lambda steps: _advance(advance, lanes, shared, ours.key, np.int32(0), np.int32(steps), ours.args)


def _only(layout: Layout, *names: str) -> Layout:
    return layout._replace(fn=layout.fn.only(*names))


def _compiled(layout: Layout, lanes: Lanes, shared: PyTree, ours: Ours) -> Layout:
    """The layout with which `_advance` compiles: tiles rest on internals of XLA, and must never be why a run fails."""
    none = np.int32(0)
    try:
        _advance(layout, lanes, shared, ours.key, none, none, ours.args)
    except jax.errors.JaxRuntimeError:
        layout = layout._replace(tiled=False)
        _advance(layout, lanes, shared, ours.key, none, none, ours.args)
    return layout


def _stepped(
    layout: Layout, lanes: Lanes, shared: PyTree, ours: Ours, step: int, stop: int, pace: Pace, tick: Callable
) -> tuple[Lanes, PyTree]:
    """The steps step, ..., stop - 1, in pieces of about `PATIENCE`."""
    while step < stop:
        ahead = min(stop, step + pace.steps)
        began = time.perf_counter()
        moved = _advance(layout, lanes, shared, ours.key, np.int32(step), np.int32(ahead), ours.args)
        # Looking again and again takes time from the devices, a tenth where a piece is a few milliseconds.
        lanes, shared = jax.block_until_ready(moved) if pace.brief else wait(moved)
        pace.learn(ahead - step, time.perf_counter() - began)
        tick(ahead - step)
        step = ahead
    return lanes, shared


@partial(jit, static_argnums=0)
def _enter(layout: Layout, mine: Mine, ours: Ours) -> tuple[Lanes, PyTree]:
    def body(mine: Mine, ours: Ours):
        points, key, axis = block_inputs(layout, mine, ours)
        one = partial(call, layout.fn.init, layout.static)
        mapped = jax.vmap(lambda k, point: one(k, point, *ours.args), (axis, 0), (0, None))
        lane, shared = mapped(key, points)
        done = jnp.zeros(layout.size, bool)
        return Lanes(lane, key if axis == 0 else None, done), shared

    return on_devices(layout.mesh, body, mine, ours, (P("lane"), P()))


@partial(jit, static_argnums=0)
def _advance(layout: Layout, lanes: Lanes, shared: PyTree, key: Any, start: Any, stop: Any, args: tuple) -> Any:
    def one(key: Any, lane: PyTree, shared: PyTree, start: Any, stop: Any, args: tuple) -> tuple[PyTree, PyTree]:
        return call(layout.fn.advance, layout.static, key, (lane, shared), start, stop, *args)

    def body(lanes: Lanes, ours: Any) -> tuple[Lanes, PyTree]:
        shared, key, *rest = ours
        key, axis = (key, None) if lanes.key is None else (lanes.key, 0)
        mapped = jax.vmap(one, (axis, 0, None, None, None, None), (0, None))
        mapped = tiled(mapped, lanes.done.size, axis) if layout.tiled else mapped
        state, after = mapped(key, lanes.state, shared, *rest)
        if layout.fn.check is not None:
            state = jax.tree.map(partial(_where, lanes.done), lanes.state, state)
        return lanes._replace(state=state), after

    return on_devices(layout.mesh, body, lanes, (shared, key, start, stop, args), (P("lane"), P()))


@partial(jit, static_argnums=0)
def _check(layout: Layout, lanes: Lanes, shared: PyTree, step: Any, args: tuple) -> tuple[Lanes, jax.Array]:
    """The lanes after a check, and how many are alive on each device."""

    def body(lanes: Lanes, ours: Any) -> tuple[Lanes, jax.Array]:
        shared, step, args = ours
        one = lambda lane: call(layout.fn.check, layout.static, None, (lane, shared), step, *args)  # noqa: E731
        state, finished = jax.vmap(one)(lanes.state)
        state = jax.tree.map(partial(_where, lanes.done), lanes.state, state)
        done = lanes.done | finished
        return lanes._replace(state=state, done=done), jnp.sum(~done, keepdims=True)

    return on_devices(layout.mesh, body, lanes, (shared, step, args))


@partial(jit, static_argnums=(0, 1))
def _read(layout: Layout, fn: Callable, state: PyTree, shared: PyTree, args: tuple) -> PyTree:
    """`fn` of every state, `finish` or `observe`."""

    def body(state: PyTree, ours: Any) -> PyTree:
        shared, args = ours
        return lanes_last(lambda lane: call(fn, layout.static, None, (lane, shared), *args), 0)(state)

    return on_devices(layout.mesh, body, state, (shared, args))


def _shrunk(mesh: Mesh, lanes: Lanes, whole: Lanes, places: Any, alive: int) -> tuple[Lanes, Lanes, Any]:
    """The lanes alive, in the narrowest block they fit by halving; `whole` has the rest, `places` where they stand."""
    width = lanes.done.size // mesh.size
    narrow = width
    while narrow % 2 == 0 and narrow // 2 >= max(alive, NARROWEST):
        narrow //= 2
    if 4 * narrow > width:  # each width is a program of its own, and compiling it takes longer than a few idle lanes
        return lanes, whole, places
    whole = _restored(mesh, whole, places, lanes)
    narrowed, places = _gather(mesh, narrow, lanes, places)
    return narrowed, whole, places


@partial(jit, static_argnums=(0, 1))
def _gather(mesh: Mesh, width: int, lanes: Lanes, places: Any) -> tuple[Lanes, Any]:
    def body(mine, _):
        lanes, places = mine
        order = jnp.argsort(lanes.done, stable=True)[:width]
        return jax.tree.map(lambda leaf: leaf[order], lanes), order if places is None else places[order]

    return on_devices(mesh, body, (lanes, places), ())


def _restored(mesh: Mesh, whole: Lanes, places: Any, lanes: Lanes) -> Lanes:
    return lanes if places is None else _scatter(mesh, whole, places, lanes)


@partial(jit, static_argnums=0)
def _scatter(mesh: Mesh, whole: Lanes, places: Any, lanes: Lanes) -> Lanes:
    def body(mine, _):
        whole, places, lanes = mine
        return jax.tree.map(lambda all_, some: all_.at[places].set(some), whole, lanes)

    return on_devices(mesh, body, (whole, places, lanes), ())


def _where(mask: jax.Array, old: jax.Array, new: jax.Array) -> jax.Array:
    return jnp.where(mask.reshape(mask.shape + (1,) * (old.ndim - 1)), old, new)
