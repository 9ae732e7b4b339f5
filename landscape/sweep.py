"""The engine: maps a pure function of one point, or a long run or search that starts there, over many points.

Nobody else in this package writes `vmap` over points, splits into blocks, places on devices, or resumes.

The unit of work is a **block**: a fixed number of lanes, the same whatever the number of devices and whatever remains
(the last block repeats its last point). Each device works on one block at a time, so that element-wise problems give
the same bits on any number of devices, and a sweep that was killed and resumed gives the same bits as one that ran
through. In memory a record's lanes come last, so that each scalar of a point's result is one contiguous run; the
arrays handed back are views with lanes first.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from tqdm import tqdm

from landscape import process as runs
from landscape import search as searches
from landscape import store as stores
from landscape.problem import checked_key
from landscape.process import Layout, Mine, Ours, Process, call
from landscape.search import Search

__all__ = ["Interrupted", "Process", "Search", "sweep"]

PyTree = Any

FUNCTION_BLOCK = 1 << 24  # bytes of what a block's lanes read: one pass, so few dispatches matter most
# Bytes of points in a block of runs or searches: many tiles, and still a block for each core of a small sweep.
PROCESS_BLOCK = 1 << 18


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a sweep: `record` holds what is done, `finished` (lanes,) tells which lanes that is."""

    def __init__(self, record: PyTree, finished: np.ndarray, store: Any):
        self.record, self.finished = record, finished
        rest = (
            f"run it again to resume from {store}" if store else "`record` and `finished` of this exception have them"
        )
        super().__init__(f"interrupted with {finished.sum()} of {finished.size} lanes done; {rest}")


def sweep(
    fn: Callable[..., PyTree] | Process | Search,
    points: PyTree,
    *args: PyTree,
    key: Any = None,
    seeds: Any = None,
    static: Any = None,
    block: int | None = None,
    store: Any = None,
    progress: bool | str | Callable[..., Any] = False,
) -> PyTree:
    """Apply `fn` to every point; return the records it gives, stacked along a leading lane axis.

    A host function: it cannot be jitted, differentiated or vmapped.

    Args:
      fn: `fn(point, *args, [key=], [static=]) -> record of arrays`, a `Process`, or a `Search` (which has neither key
        nor static). Module-level: a fresh lambda or `partial` is compiled again at each call.
      points: a pytree of arrays with one common leading axis (lanes), or a lazy source: a pytree with `count` lanes
        and a traceable `point(index)`, such as a `plane.Grid`.
      args: shared by all lanes, traced.
      key: a JAX key or an integer. A lane's key is `fold_in(key, seed)`.
      seeds: the lanes' seeds: None for the lane's index, an array of integers (one a lane; equal seeds share their
        randomness), or one integer for all lanes.
      static: a hashable value that `fn` needs while it is traced (a frozen dataclass).
      block: lanes a block: a multiple of 64, or a power of two below it. Default: by the size of a point.
      store: a folder. Blocks are written there as they are done; the same call resumes from it, another
        specification is refused with the difference named.
      progress: show a bar with an estimate of the time left; a string labels it. Or what makes one: called as tqdm
        is, with `total=` and `initial=`, it gives a context whose `update` hears of lanes as they are done.

    Returns:
      the record with NumPy leaves `(lanes, ...)`, or with zarr arrays, read on access, where `store` is given.
      For a `Process` the pair `(record, trace)`; `trace` has leaves `(lanes, len(observe_at), ...)`, or is None.

    Raises:
      TypeError for tracers; ValueError for points of unequal length, a bad key, bad seeds, a bad block, a store of
      another specification; `Interrupted` on Ctrl-C.
    """
    plan = _plan(fn, points, args, key, seeds, static, block)
    if store is None:
        output: Any = stores.Memory(plan.template, plan.lanes, plan.size)
    else:
        output = stores.Folder(store, _specification(plan), plan.template, plan.lanes, plan.size)
    label = progress if isinstance(progress, str) else getattr(fn, "__name__", "runs")
    shown = partial(tqdm, desc=label, unit=" lanes", unit_scale=True, disable=not progress)
    try:
        pending = output.pending()
        done = plan.lanes - sum(output.width(block) for block in pending)  # by an earlier call: not part of the rate
        with (progress if callable(progress) else shown)(total=plan.lanes, initial=done) as bar:
            _work(plan, output, pending, bar.update)
    except KeyboardInterrupt:
        raise Interrupted(output.record(), output.finished(), store) from None
    return output.record()


def entered(
    process: Process, points: PyTree, *args: PyTree, key: Any = None, seeds: Any = None, static: Any = None, block: int
) -> tuple[Callable[[int], PyTree], int]:
    """What of a sweep there is to time: one round, `steps -> its runs after so many`, and how many rounds there are.

    The round is compiled and has all it needs on its devices; calls return before it is computed.
    """
    plan = _plan(process, points, args, key, seeds, static, block)
    layout, ours = _placed(plan)
    blocks = -(-plan.lanes // plan.size)
    first = list(range(layout.mesh.size))
    return runs.entered(layout, _inputs(plan, layout.mesh, first), ours), -(-blocks // layout.mesh.size)


class _Plan(NamedTuple):
    fn: Any
    static: Any
    stacked: PyTree  # host arrays with lanes first; None where the source is lazy
    seeds: np.ndarray | None
    ours: Ours
    one_key: bool
    lanes: int
    size: int  # lanes a block
    template: PyTree  # abstract record of one lane


def _plan(fn: Any, points: PyTree, args: tuple, key: Any, seeds: Any, static: Any, block: int | None) -> _Plan:
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((points, args, key, seeds))):
        raise TypeError("sweep is a host function: call it outside jit, grad and vmap")
    lazy = hasattr(points, "point")
    stacked = None if lazy else jax.tree.map(np.asarray, points)
    count = points.count if lazy else _common_length(stacked)
    if not 0 < count < 2**31:
        raise ValueError(f"points has {count} lanes: from 1 to 2^31 - 1 can be counted, so split the sweep")
    if isinstance(fn, Process):
        _check_schedule(fn)
    if isinstance(fn, Search) and not (key is None and static is None):
        raise ValueError("a Search takes neither key nor static: leave them out")
    key, seeds, one_key = _keys(key, seeds, count)
    point = (_first if lazy else _row).eval_shape(points if lazy else stacked)
    template = _template(fn, static, key, point, args)
    size = _block_size(block, point, PROCESS_BLOCK if isinstance(fn, Process | Search) else FUNCTION_BLOCK, count)
    ours = Ours(points if lazy else None, key, count, args)
    return _Plan(fn, static, stacked, seeds, ours, one_key, count, size, template)


@jax.jit
def _first(source: Any) -> PyTree:
    """The first point of a lazy source."""
    return source.point(0)


@jax.jit
def _row(stacked: PyTree) -> PyTree:
    """The first of stacked points."""
    return jax.tree.map(lambda leaf: leaf[0], stacked)


@partial(jax.jit, static_argnums=(0, 1))
def _one_lane(fn: Any, static: Any, key: Any, point: PyTree, steps: Any, args: tuple) -> PyTree:
    """One lane from point to record, without the batching: the record's shape, and what a store is checked against."""
    if isinstance(fn, Search):
        return fn.alone(point, *args)
    if not isinstance(fn, Process):
        return call(fn, static, key, point, *args)
    state = call(fn.init, static, key, point, *args)
    state = call(fn.advance, static, key, state, jnp.zeros_like(steps), steps, *args)
    if fn.check is not None:
        lane, done = call(fn.check, static, None, state, steps, *args)
        state = jax.tree.map(lambda old, new: jnp.where(done, old, new), state[0], lane), state[1]
    record = call(fn.finish, static, None, state, *args)
    return record, None if fn.observe is None else call(fn.observe, static, None, state, *args)


@partial(jax.jit, static_argnums=(0, 1))
def _call(fn: Callable, static: Any, key: Any, args: tuple) -> PyTree:
    """Never run: what it returns is traced once for each function and kind of arguments."""
    return call(fn, static, key, *args)


def _template(fn: Any, static: Any, key: Any, point: PyTree, args: tuple) -> PyTree:
    """The abstract record of one lane. Steps and checks keep the kind of a state, so they are not traced."""
    if not isinstance(fn, Process):
        return _one_lane.eval_shape(fn, static, key, point, np.int32(0), args)
    state = _call.eval_shape(fn.init, static, key, (point, *args))
    record = _call.eval_shape(fn.finish, static, None, (state, *args))
    seen = None if fn.observe is None else _call.eval_shape(fn.observe, static, None, (state, *args))
    kept = len(fn.observe_at)
    return record, jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((kept, *leaf.shape), leaf.dtype), seen)


def _compiled(fn: Any) -> Any:
    """What of `fn` a program depends on."""
    return fn.unscheduled() if isinstance(fn, Process) else fn


def _check_schedule(process: Process) -> None:
    steps, watched = process.steps, process.observe_at
    if not isinstance(steps, int | np.integer) or steps < 1:
        raise ValueError(f"steps is {steps!r}: a process takes a whole number of steps, 1 or more")
    if list(watched) != sorted(set(watched)) or (watched and not 0 <= watched[0] <= watched[-1] <= steps):
        raise ValueError(f"observe_at is {watched}: give different steps from 0 to {steps}, in increasing order")
    if watched and process.observe is None:
        raise ValueError(
            f"observe_at is {watched}, but the process has no `observe` to call there: give both or neither"
        )


def _common_length(stacked: PyTree) -> int:
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(stacked)]
    lengths = {shape[0] if shape else 0 for shape in shapes}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(f"points has leaves of shapes {shapes}: all need the same, non-empty leading axis of lanes")
    return lengths.pop()


def _keys(key: Any, seeds: Any, count: int) -> tuple[Any, np.ndarray | None, bool]:
    """The root key, the seeds of the lanes, and whether all lanes share one key (already folded in)."""
    if key is None:
        if seeds is not None:
            raise ValueError("seeds are given without a key to fold them into: pass key=0, say")
        return None, None, False
    key = checked_key(key)
    if seeds is None:
        return key, None, False
    seeds = np.asarray(seeds)
    if seeds.dtype.kind not in "iu" or seeds.shape not in ((), (count,)):
        raise ValueError(f"seeds has shape {seeds.shape} and dtype {seeds.dtype}: give one integer, or {count} of them")
    if seeds.min() < 0 or seeds.max() >= 2**32:
        raise ValueError(f"seeds run from {seeds.min()} to {seeds.max()}: they must lie from 0 to 2^32 - 1")
    if seeds.ndim == 0:
        return jax.random.fold_in(key, seeds), None, True
    return key, seeds.astype(np.uint32), False


def _block_size(block: int | None, point: PyTree, room: int, lanes: int) -> int:
    if block is None:
        # A quarter of all lanes leaves a few devices some blocks (an eighth made short runs a third longer: a round
        # costs milliseconds); 64 scalar lanes are one for a processor's vectors.
        scalars = all(leaf.ndim == 0 for leaf in jax.tree.leaves(point))
        return min(lanes_within(room, point), max(64 if scalars else 1, _power_of_two(lanes / 4)))
    whole = isinstance(block, int | np.integer) and not isinstance(block, bool)
    if not whole or block < 1 or (block % 64 and block & (block - 1)):
        raise ValueError(f"block is {block}: it must be a multiple of 64, or a power of two below that")
    return int(block)


def _power_of_two(number: float) -> int:
    """The least power of two that is no smaller."""
    return 1 << max(0, math.ceil(number) - 1).bit_length()


def lanes_within(room: int, lane: PyTree) -> int:
    """The largest power of two of lanes of which `room` bytes hold this pytree of arrays for each; at least 1."""
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(lane))
    return 1 << max(0, (room // max(1, size)).bit_length() - 1)


def _specification(plan: _Plan) -> dict[str, Any]:
    """What a stored sweep is identified by."""
    point = plan.ours.source.point(0) if plan.stacked is None else jax.tree.map(lambda leaf: leaf[0], plan.stacked)
    one_lane = _one_lane.lower(_compiled(plan.fn), plan.static, plan.ours.key, point, np.int32(0), plan.ours.args)
    process = plan.fn if isinstance(plan.fn, Process) else None
    return {
        "program": stores.digest(one_lane.as_text()),
        "steps": [int(process.steps), *map(int, process.observe_at + process.check_at)] if process else None,
        "arguments": stores.digest(plan.ours.args),
        "points": stores.digest((plan.ours.source, plan.stacked)),
        "key": stores.digest((plan.ours.key, plan.seeds)),
        "lanes": plan.lanes,
        "block": plan.size,
        "dtypes": sorted({str(leaf.dtype) for leaf in jax.tree.leaves(plan.template)}),
        "versions": stores.versions(),
    }


def _work(plan: _Plan, output: Any, pending: list[int], tick: Callable[[float], Any]) -> None:
    """Compute the pending blocks, one a device at a time; write each round while the next one runs."""
    layout, ours = _placed(plan)
    mesh, process = layout.mesh, plan.fn if isinstance(plan.fn, Process) else None
    pace = runs.Pace()
    ready: tuple[list[int], PyTree] | None = None
    for first in range(0, len(pending), mesh.size):
        blocks = pending[first : first + mesh.size]
        mine = _inputs(plan, mesh, blocks)
        if process:
            width = sum(output.width(block) for block in blocks)
            over, seen = partial(_advanced, tick, width), partial(_watch, output, blocks)
            record = runs.run(process, layout, mine, ours, pace, over, seen)
        else:
            record = _map(layout, mine, ours)
        _write(plan, output, ready, tick)
        ready = blocks, record
    _write(plan, output, ready, tick)


def _placed(plan: _Plan) -> tuple[Layout, Ours]:
    """The layout of every round, and what all devices see, put there."""
    # As many as the whole sweep has blocks, not as are pending: XLA compiles for one device otherwise than for two, and
    # a block that is resumed alone must come out the same.
    devices = jax.local_devices()[: -(-plan.lanes // plan.size)]
    mesh = Mesh(np.array(devices), ("lane",), axis_types=(AxisType.Auto,))
    ours = jax.device_put(plan.ours, NamedSharding(mesh, P()))  # once, wherever the caller's arrays are
    cpu = jax.default_backend() == "cpu"
    return Layout(_compiled(plan.fn), plan.static, mesh, plan.size, plan.one_key, cpu), ours


@partial(jax.jit, static_argnums=0)
def _map(layout: Layout, mine: Mine, ours: Ours) -> PyTree:
    def body(mine: Mine, ours: Ours):
        points, key, axis = runs.block_inputs(layout, mine, ours)
        if isinstance(layout.fn, Search):
            found = searches.records(layout.fn, points, *ours.args)
            return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, -1)[None], found)
        one = partial(call, layout.fn, layout.static)
        return runs.lanes_last(lambda k, point: one(k, point, *ours.args), (axis, 0))(key, points)

    return runs.on_devices(layout.mesh, body, mine, ours)


def _inputs(plan: _Plan, mesh: Mesh, blocks: list[int]) -> Mine:
    """The round's input on its devices; a device without a block repeats the last one, and nobody reads it."""
    blocks = blocks + [blocks[-1]] * (mesh.size - len(blocks))

    def part(leaf: np.ndarray, block: int) -> np.ndarray:
        rows = leaf[block * plan.size : (block + 1) * plan.size]
        return np.concatenate([rows, np.repeat(rows[-1:], plan.size - len(rows), axis=0)])

    parts = lambda leaf: np.concatenate([part(leaf, block) for block in blocks])  # noqa: E731
    stacked, seeds = jax.tree.map(parts, (plan.stacked, plan.seeds))
    return jax.device_put(Mine(np.array(blocks, np.int32), stacked, seeds), NamedSharding(mesh, P("lane")))


def _advanced(tick: Callable[[float], Any], width: int, share: float) -> None:
    tick(width * share)


def _watch(output: Any, blocks: list[int], index: int, observation: PyTree) -> None:
    for device, block in enumerate(blocks):
        output.put(block, (None, _on_device(observation, device)), index)


def _write(plan: _Plan, output: Any, ready: tuple[list[int], PyTree] | None, tick: Callable[[float], Any]) -> None:
    if ready is None:
        return
    blocks, record = ready
    runs.wait(record)
    for device, block in enumerate(blocks):
        part = _on_device(record, device)
        output.put(block, (part, None) if isinstance(plan.fn, Process) else part)
        output.finish(block)
        if not isinstance(plan.fn, Process):
            tick(output.width(block))


def _on_device(record: PyTree, device: int) -> PyTree:
    """One device's part of a record as NumPy arrays, without a copy where the device is the host."""

    def part(leaf: jax.Array) -> np.ndarray:
        shards = sorted(leaf.addressable_shards, key=lambda shard: shard.index[0].start or 0)
        return np.asarray(shards[device].data)[0]

    return jax.tree.map(part, record)
