"""A curvature matrix as an operator: a pytree that passes through `jit` and is applied to many vectors."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from landscape.hessian.compiled import compiled
from landscape.hessian.curvature import Arrays, Task, check_finite, gradient_term, term
from landscape.hessian.linear import largest, linearised, total
from landscape.hessian.space import Space

PyTree = Any

CACHE = 1 << 18  # bytes of one intermediate of a block of vectors: with more, a CPU core is slower than one by one
DEVICE = 1 << 28  # the same for other devices, whose memory is the limit
APART = 4  # products written side by side, that XLA may run on several cores
# Bytes of one intermediate from which products side by side push each other out of the cache: on 20000 samples of a
# 64-32-32-10 network (2.4 MiB) four take 7.7 ms each, one by one 4.4; on 10000 there is no difference.
LARGE = 1 << 21


def in_blocks(function: Callable[[jax.Array], jax.Array], items: jax.Array, width: int) -> jax.Array:
    """`function` of blocks of at most so many items, one block after the other: a result an item, in one array.

    Blocks are of one size, so that the function is compiled once; the last item fills the last block up.
    """
    count = len(items)
    blocks = -(-count // width)
    width = -(-count // blocks)
    filled = items[np.minimum(np.arange(blocks * width), count - 1)]
    results = jax.lax.map(function, filled.reshape(blocks, width, *items.shape[1:]))
    return results.reshape(blocks * width, *results.shape[2:])[:count]


@dataclasses.dataclass(frozen=True, eq=False)
class Kept:
    """Arrays of the host that must live as long as an operator. No part of what it is: any two are equal."""

    arrays: tuple[Any, ...] = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Kept)

    def __hash__(self) -> int:
        return 0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LinearOperator:
    """A symmetric linear map v -> A v on the leaves that move. Made by `linear_operator` and its like; a pytree.

    `operator(vector)` takes and returns pytrees like the parameters; `operator.flat` does so for flat vectors of
    length `dimension`, made by `operator.space`. It works inside `jit`, `vmap` and `grad`, and passes through `jit` as
    an argument: operators of one loss and equal shapes share their compilations.
    """

    arrays: Any  # what the map needs of the point and the data
    program: Any = dataclasses.field(metadata={"static": True})  # (arrays, flat vector) -> flat vector
    space: Space = dataclasses.field(metadata={"static": True})
    kept: Kept = dataclasses.field(default=Kept(), metadata={"static": True}, repr=False)

    def __call__(self, vector: PyTree) -> PyTree:
        """A v, for a pytree like the parameters."""
        return _apply(self, self.space.chosen(vector))

    def flat(self, vector: jax.Array) -> jax.Array:
        """A v, for a flat vector (n,)."""
        return self.program(self.arrays, vector)

    def rows(self, vectors: jax.Array) -> jax.Array:
        """A v for each row of (k, n), some `block()` at a time."""
        width, count = self.block(), len(vectors)
        side_by_side = lambda group: jnp.stack([self.flat(vector) for vector in group])  # noqa: E731
        several = side_by_side if self._apart else jax.vmap(self.flat)
        return several(vectors) if count < 2 * width else in_blocks(several, vectors, width)

    def block(self, memory: int | None = None) -> int:
        """How many products at once are fastest; with all their arrays in `memory` bytes, where that is given."""
        most = CACHE if jax.default_backend() == "cpu" else DEVICE
        apart = APART if self.program.intermediate < LARGE else 1
        width = apart if self._apart else max(1, most // self.program.intermediate)
        return width if memory is None else max(1, min(width, memory // self.program.work))

    @property
    def _apart(self) -> bool:
        """Whether products are too large to gain from a batch; XLA may run independent ones on several cores."""
        return jax.default_backend() == "cpu" and self.program.intermediate > CACHE // 2

    @property
    def dimension(self) -> int:
        """The number n of scalars that move."""
        return self.space.dimension

    @property
    def names(self) -> tuple[str, ...]:
        """The leaves that move, as dotted paths in the order of the flat vector."""
        return self.space.moved

    @property
    def held(self) -> tuple[str, ...]:
        """The leaves that are held constant."""
        return self.space.held


@dataclasses.dataclass(frozen=True)
class Accumulated:
    """The static part of an operator whose products go through the data batch by batch."""

    task: Task
    intermediate: int  # bytes of the largest array in one product on one batch
    work: int  # bytes of all of them

    def __call__(self, arrays: Arrays, vector: jax.Array) -> jax.Array:
        """The product with a flat vector: the mean of the batches' products."""
        return self.task.mean(lambda fixed, data: term(self.task, vector, fixed, data)[0], *arrays)


def prepared(task: Task, arrays: Arrays, args: Any) -> LinearOperator:
    """The operator of a curvature task on `args`; raises FloatingPointError where value or gradient are not finite."""
    operator, finite = _prepared(task, *arrays)
    check_finite(task.space, finite)
    hosts = zip(task.hosts, jax.tree.leaves(args), strict=False)
    return dataclasses.replace(operator, kept=Kept(tuple(leaf for host, leaf in hosts if host)))


@partial(compiled, static_argnums=0)
def _prepared(task: Task, fixed: list[Any], data: list[Any]) -> tuple[LinearOperator, jax.Array]:
    """The operator, and whether the value and each leaf's gradient are finite."""
    if task.batch_size is None:
        slope, value, map_, residuals = linearised(*task.slope(fixed, data))
        return LinearOperator(residuals, map_, task.space), task.finite(value, slope)
    zeros = jnp.zeros(task.space.dimension, task.space.dtype)
    jaxpr = jax.make_jaxpr(lambda v: task.mean(partial(term, task, v), fixed, data)[0])(zeros).jaxpr
    program = Accumulated(task, largest(jaxpr), total(jaxpr))
    gradient, value = task.mean(lambda fixed, data: gradient_term(task, fixed, data), fixed, data)
    return LinearOperator((fixed, data), program, task.space), task.finite(value, gradient)


@compiled
def _apply(operator: LinearOperator, chosen: list[Any]) -> PyTree:
    return operator.space.direction(operator.flat(operator.space.joined(chosen)))
