"""Which curvature matrix of which loss: the scalar function whose Hessian it is, and its first derivatives.

All three matrices are the Hessian, at params, of a scalar function of params':

    hessian   loss(params', *args)
    ggn       loss(z + J (params' - params), y),   z = model(params, x), J its Jacobian at params
    fisher    E over labels y of the model's own prediction z of -log p(y | z + J (params' - params))

The second is J^T H_z J, with H_z the loss's Hessian in the outputs; the third J^T F_z J, with F_z the Fisher
information of the outputs (Martens, J. Mach. Learn. Res. 21 (2020) 146, sections 8 and 9: they agree where H_z does not
depend on the label).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from landscape.hessian.batches import Host, checked_batches, mean_over_batches, on_host
from landscape.hessian.space import Leaves, Rest, Space, space_of, split
from landscape.problem import check_scalar, is_float, leaf_names

PyTree = Any
Arrays = tuple[list[Any], list[Any]]  # of (functions, params), and of args


class Task(NamedTuple):
    """What of a curvature matrix is static. Its arrays are a pair of lists: of (functions, params), and of args."""

    kind: str
    fixed: Rest  # of (functions, params)
    data: Rest  # of args
    space: Space
    batch_size: int | None
    hosts: tuple[Host | None, ...]

    def potential(self, fixed: list[Any], data: list[Any]) -> tuple[Callable[[jax.Array], jax.Array], jax.Array]:
        """The scalar function of the flat parameters whose Hessian at the point is the matrix, and the point."""
        functions, params = self.fixed.join(fixed)
        args = self.data.join(data)
        at = lambda vector: self.space.point(vector, params)  # noqa: E731
        point = self.space.flatten(params, "params")
        if self.kind == "hessian":
            return lambda vector: _scalar(functions[0](at(vector), *args), functions[0]), point
        outer, model = functions
        outputs, jacobian = jax.linearize(lambda vector: model(at(vector), args[0]), point)
        moved = lambda z, change: z + change if is_float(z) else z  # noqa: E731  # masks and indices have no derivative
        linear = lambda vector: jax.tree.map(moved, outputs, jacobian(vector - point))  # noqa: E731
        if self.kind == "ggn":
            return lambda vector: _scalar(outer(linear(vector), args[1]), outer), point
        return lambda vector: _scalar(outer(outputs, linear(vector)), outer), point

    def slope(self, fixed: list[Any], data: list[Any]) -> tuple[Callable[[jax.Array], Any], jax.Array]:
        """Gradient and value, in this order, of the potential as a function of the flat parameters; and the point."""
        potential, point = self.potential(fixed, data)

        def gradient(vector: jax.Array) -> tuple[jax.Array, jax.Array]:
            value, slope = jax.value_and_grad(potential)(vector)
            return slope, value

        return gradient, point

    def mean(self, term: Callable, fixed: list[Any], data: list[Any]) -> Any:
        """`term(fixed, batch)` on all the data, or its mean over the batches."""
        if self.batch_size is None:
            return term(fixed, data)
        return mean_over_batches(lambda batch: term(fixed, batch), data, self.hosts, self.batch_size)

    def finite(self, value: jax.Array, gradient: jax.Array) -> jax.Array:
        """Whether the value is finite, and the gradient in each leaf that moves."""
        return jnp.stack([jnp.all(jnp.isfinite(part)) for part in (value, *self.space.parts(gradient))])


def curvature_task(
    kind: str, functions: tuple, params: PyTree, args: Sequence[PyTree], leaves: Leaves, batch_size: Any
) -> tuple[Task, Arrays]:
    """(task, arrays), after all checks that need no compilation."""
    for function in functions:
        if not callable(function):
            raise TypeError(f"{function!r:.60} is not callable: give a function of (params, ...)")
    space = space_of(params, leaves)
    fixed, fixed_rest = split((functions, params))
    data, data_rest = split(args)
    hosts: tuple[Host | None, ...] = ()
    if batch_size is not None:
        checked_batches(data, [f"argument {name}" for name in leaf_names(args)], batch_size)
        data, hosts = on_host(data)
    return Task(kind, fixed_rest, data_rest, space, batch_size, hosts), (fixed, data)


def term(task: Task, vector: jax.Array, fixed: list[Any], data: list[Any]) -> tuple[jax.Array, jax.Array, jax.Array]:
    """On one batch: the product with a vector, the gradient, and the value.

    H v = d/dt gradient(x + t v) at t = 0: forward over reverse.
    """
    gradient, point = task.slope(fixed, data)
    slope, product, value = jax.jvp(gradient, (point,), (vector,), has_aux=True)
    return product, slope, value


def gradient_term(task: Task, fixed: list[Any], data: list[Any]) -> tuple[jax.Array, jax.Array]:
    """On one batch: the gradient, and the value."""
    gradient, point = task.slope(fixed, data)
    return gradient(point)


def check_finite(space: Space, finite: jax.Array) -> None:
    """Raise FloatingPointError for what is not finite, by the leaf's path; nothing can be known inside `jit`."""
    if isinstance(finite, jax.core.Tracer) or (finite := np.asarray(finite)).all():
        return
    slopes = zip(space.moved, finite[1:], strict=True)
    leaves = [repr(name) if name else "(the only one)" for name, good in slopes if not good]
    where = f"its gradient is not finite in leaf {', '.join(leaves)}" if leaves else "its gradient is finite"
    what = "finite" if finite[0] else "not finite"
    raise FloatingPointError(f"the loss is {what} and {where}: look for a log or a division of 0, or a diverged run")


def _scalar(value: Any, function: Callable) -> jax.Array:
    check_scalar(value, getattr(function, "__name__", type(function).__name__))
    return value
