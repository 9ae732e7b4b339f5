"""Gradient and Hessian of a function of a few scalars, entry by entry, so that everything fuses under `vmap`."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

PyTree = Any
Scalars = tuple[jax.Array, ...]


def derivatives(
    f: Callable[[Scalars], jax.Array], coordinates: Sequence[Any]
) -> tuple[jax.Array, Scalars, tuple[Scalars, ...]]:
    """Value, gradient and Hessian of a function of a few scalars, each entry a scalar of its own.

    Returns (f, (∂_i f), ((∂_i ∂_j f))), the Hessian symmetric to the last bit: its lower triangle repeats the upper.
    Scalars, not arrays of length n: under `vmap` each entry is then one contiguous array and everything fuses.
    Cost: n Hessian-vector products.
    """
    coordinates = tuple(coordinates)
    value, gradient = jax.value_and_grad(f)(coordinates)
    one, zero = (jnp.full_like(coordinates[0], v) for v in (1, 0))
    units = [tuple(one if j == i else zero for j in range(len(coordinates))) for i in range(len(coordinates))]
    rows = [jax.jvp(jax.grad(f), (coordinates,), (unit,))[1] for unit in units]
    size = range(len(coordinates))
    return value, gradient, tuple(tuple(rows[min(i, j)][max(i, j)] for j in size) for i in size)


def unstacked(params: PyTree) -> tuple[list[jax.Array], Callable[[Sequence[Any]], PyTree]]:
    """Every scalar of `params` in flattening order, and the function that puts such a list together again."""
    leaves, structure = jax.tree.flatten(params)
    shapes = [jnp.shape(leaf) for leaf in leaves]
    scalars = [entry for leaf in leaves for entry in (jnp.ravel(leaf) if jnp.ndim(leaf) else [leaf])]

    def stack(entries: Sequence[Any]) -> PyTree:
        queue = iter(entries)
        parts = [[next(queue) for _ in range(math.prod(shape))] for shape in shapes]
        return structure.unflatten(
            [jnp.stack(part).reshape(shape) if shape else part[0] for part, shape in zip(parts, shapes, strict=True)]
        )

    return scalars, stack
