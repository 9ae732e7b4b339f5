"""The loss along directions through a point, beside what gradient and Hessian there predict of it."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from landscape.hessian.compiled import compiled
from landscape.hessian.curvature import Task, check_finite, curvature_task
from landscape.hessian.space import Leaves

PyTree = Any


class Profile(NamedTuple):
    """The loss on lines x + s v through a point x."""

    distances: Any  # (d,) s
    loss: Any  # (k, d) on each line
    centre: Any  # the loss at x
    slope: Any  # (k,) v·g
    curvature: Any  # (k,) v·H v

    @property
    def quadratic(self) -> Any:
        """(k, d) what second order predicts: L + s v·g + s² v·H v / 2."""
        s = self.distances[None, :]
        return self.centre + s * self.slope[:, None] + s**2 * self.curvature[:, None] / 2


def profile(
    loss: Callable,
    params: PyTree,
    directions: PyTree,
    distances: Any,
    *args: PyTree,
    leaves: Leaves = None,
    batch_size: int | None = None,
) -> Profile:
    """`loss(params + s v, *args)` for each of k directions v and d distances s.

    Args:
      directions: like the parameters with a leading axis k, such as the vectors of `eigenpairs` (of the same
        `leaves`). They are used as they are: s counts in units of their length.
      distances: (d,) numbers.
      The others are those of `linear_operator`.

    Cost: k d losses, a gradient, and k products. Raises as `linear_operator` does, and ValueError where `directions`
    or `distances` have another shape.
    """
    task, arrays = curvature_task("hessian", (loss,), params, args, leaves, batch_size)
    distances = np.asarray(distances) if not isinstance(distances, jax.Array) else distances
    if distances.ndim != 1 or distances.size == 0:
        raise ValueError(f"distances has shape {distances.shape}: give one row of numbers")
    counts = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(directions)}
    if len(counts) != 1 or counts & {(), (0,)}:
        raise ValueError(f"directions has leading axes {sorted(counts)}: give k directions, along a first axis")
    chosen = task.space.chosen(directions, "directions", stacked=True)
    found, finite = _profile(task, chosen, distances, *arrays)
    check_finite(task.space, finite)
    return found


@partial(compiled, static_argnums=0)
def _profile(
    task: Task, chosen: list[Any], distances: jax.Array, fixed: list[Any], data: list[Any]
) -> tuple[Profile, jax.Array]:
    vectors = jax.vmap(task.space.joined)(chosen)
    distances = jnp.asarray(distances, vectors.dtype)

    def on_one_batch(fixed: list[Any], data: list[Any]) -> tuple[jax.Array, ...]:
        potential, point = task.potential(fixed, data)
        value, gradient = jax.value_and_grad(potential)(point)
        line = lambda v: jax.lax.map(lambda s: potential(point + s * v), distances)  # noqa: E731
        bend = lambda v: v @ jax.jvp(jax.grad(potential), (point,), (v,))[1]  # noqa: E731
        losses, curvature = jax.lax.map(lambda v: (line(v), bend(v)), vectors)
        return losses, value, gradient, curvature

    losses, value, gradient, curvature = task.mean(on_one_batch, fixed, data)
    return Profile(distances, losses, value, vectors @ gradient, curvature), task.finite(value, gradient)
