"""Searches: computations that end by themselves, each after a number of steps that nobody knows before.

Lanes advance side by side, `width` of them. One that has ended makes room for the next point of the block, so that no
lane waits for the slowest, as it would in a vmapped `while_loop`.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

PyTree = Any


class Search(NamedTuple):
    """A computation of unknown length on one lane. Its functions are pure and module-level.

    Each takes the sweep's `*args` last. What a lane gives does not depend on the lanes beside it.
    """

    init: Callable[..., PyTree]  # (point, *args) -> state
    going: Callable[..., jax.Array]  # (state, *args) -> bool: whether it takes another step
    step: Callable[..., PyTree]  # (state, *args) -> state
    finish: Callable[..., PyTree]  # (state, *args) -> record
    width: int  # lanes side by side

    def alone(self, point: PyTree, *args: PyTree) -> PyTree:
        """The record of one point."""
        state = self.init(point, *args)
        state = jax.lax.while_loop(lambda state: self.going(state, *args), lambda state: self.step(state, *args), state)
        return self.finish(state, *args)


class _Queue(NamedTuple):
    states: PyTree  # of the lanes that move
    place: jax.Array  # (width,) which of the block's points each works on; from the block's size on: none
    entered: jax.Array  # points that have had a lane
    ended: PyTree  # the last state of each point


def records(search: Search, points: PyTree, *args: PyTree) -> PyTree:
    """The records of all points of a block, lanes first. Not to be vmapped: the lanes would wait for each other."""
    count = jax.tree.leaves(points)[0].shape[0]
    width = math.gcd(search.width, count)
    enter, step, going, finish = (
        jax.vmap(lambda leaf, fn=fn: fn(leaf, *args)) for fn in (search.init, search.step, search.going, search.finish)
    )

    def advance(queue: _Queue) -> _Queue:
        states = jax.tree.map(partial(_where, going(queue.states)), step(queue.states), queue.states)
        queue = queue._replace(states=states)
        over = ~going(states) & (queue.place < count)
        return jax.lax.cond(jnp.any(over), exchange, lambda queue, over: queue, queue, over)

    def exchange(queue: _Queue, over: jax.Array) -> _Queue:
        written = jnp.where(over, queue.place, count)  # beyond the end: dropped
        ended = jax.tree.map(lambda all_, new: all_.at[written].set(new, mode="drop"), queue.ended, queue.states)
        place = jnp.where(over, queue.entered + jnp.cumsum(over, dtype=jnp.int32) - 1, queue.place)
        fresh = enter(jax.tree.map(lambda leaf: leaf[jnp.minimum(place, count - 1)], points))
        states = jax.tree.map(partial(_where, over), fresh, queue.states)
        return _Queue(states, place, queue.entered + jnp.sum(over, dtype=jnp.int32), ended)

    states = enter(jax.tree.map(lambda leaf: leaf[:width], points))
    ended = jax.tree.map(lambda leaf: jnp.zeros((count, *leaf.shape[1:]), leaf.dtype), states)
    queue = _Queue(states, jnp.arange(width, dtype=jnp.int32), jnp.int32(width), ended)
    ended = jax.lax.while_loop(lambda queue: jnp.any(queue.place < count), advance, queue).ended
    tiles = jax.tree.map(lambda leaf: leaf.reshape(-1, width, *leaf.shape[1:]), ended)
    return jax.tree.map(lambda leaf: leaf.reshape(count, *leaf.shape[2:]), jax.lax.map(finish, tiles))


def _where(mask: jax.Array, new: jax.Array, old: jax.Array) -> jax.Array:
    return jnp.where(mask.reshape(mask.shape + (1,) * (old.ndim - 1)), new, old)
