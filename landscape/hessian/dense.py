"""The whole Hessian, column by column, and how many of its eigenvalues are negative, zero and positive."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from landscape import smallmatrix
from landscape.hessian.compiled import compiled
from landscape.hessian.operator import LinearOperator, in_blocks
from landscape.hessian.products import as_operator
from landscape.hessian.space import Leaves, is_array, is_number
from landscape.problem import is_float

PyTree = Any

MEMORY = 1 << 29  # bytes


class Inertia(NamedTuple):
    """Counts of eigenvalues by sign, and what decided them; -1 each where the Hessian is not finite."""

    negative: Any  # int32, eigenvalues below -tolerance
    zero: Any  # int32, those within it: they cannot be told from zero in this precision
    positive: Any  # int32
    tolerance: Any
    eigenvalues: Any  # (n,) ascending

    @property
    def precision(self) -> str:
        """The dtype in which the Hessian was computed and decided: "float32" or "float64"."""
        return str(np.dtype(self.eigenvalues.dtype))


def dense(
    loss: Callable | LinearOperator,
    params: PyTree = None,
    *args: PyTree,
    memory: int = MEMORY,
    leaves: Leaves = None,
    batch_size: int | None = None,
) -> jax.Array:
    """The Hessian of `loss(params, *args)`, or the matrix of an operator, as an array (n, n).

    Rows and columns are the scalars that move: the leaves in flattening order, each raveled. Columns are computed in
    blocks whose intermediate arrays all fit into `memory` bytes (one column, where that is more); beside that the
    matrix takes memory three times, for its columns, their transpose and their mean. (H + H^T)/2 is returned: exactly
    symmetric.

    The other arguments are those of `linear_operator`. Cost: n products. Raises ValueError where `memory` is no
    positive number of bytes, and as `linear_operator`.
    """
    operator = as_operator(loss, params, args, leaves, batch_size)
    return _dense(_checked_memory(memory), operator)


def inertia(
    loss: Callable | LinearOperator,
    params: PyTree = None,
    *args: PyTree,
    tolerance: float | None = None,
    precision: str | None = None,
    memory: int = MEMORY,
    leaves: Leaves = None,
    batch_size: int | None = None,
) -> Inertia:
    """How many eigenvalues of the Hessian of `loss(params, *args)` are negative, zero and positive.

    An eigenvalue counts as zero where rounding may have made it: within

        tolerance = n eps |H|_2 + |H - H^T|_F     (eps of the parameters' coarsest dtype),

    the error of the eigenvalue solver, and of the products, whose asymmetry shows it (Weyl: an eigenvalue moves by no
    more than the error's norm). So the same point may have fewer zeros in float64 than in float32.

    Args:
      tolerance: another one, in the units of the eigenvalues.
      precision: None for that of the parameters; "float64" rounds nothing before: every float of the loss, the
        parameters and the data is cast to float64, whatever JAX is set to, and NumPy arrays come back; with
        `batch_size` data on the host stay as they are. It cannot be used inside `jit`, or with an operator.
      The others are those of `dense`.

    Counts have no derivatives, and `grad` through this function is refused by JAX. Cost: n products and the eigenvalues
    of a dense matrix, about 4 n³/3 operations. Raises as `dense` does,
    ValueError for another precision or a negative tolerance, and, outside `jit`, FloatingPointError where the Hessian
    is not finite.
    """
    if precision not in (None, "float64"):
        raise ValueError(f'precision is {precision!r}: give "float64", or None for that of the parameters')
    if tolerance is not None and not (is_number(tolerance) and tolerance >= 0):
        raise ValueError(f"tolerance is {tolerance!r}: give a number, 0 or more, in the units of the eigenvalues")
    how: dict[str, Any] = {"leaves": leaves, "batch_size": batch_size}
    memory = _checked_memory(memory)
    if precision is None:
        return _checked_finite(_inertia(memory, as_operator(loss, params, args, **how), tolerance))
    if isinstance(loss, LinearOperator):
        raise ValueError('precision="float64" needs the loss and its parameters: an operator is linearised already')
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((params, args))):
        raise TypeError('precision="float64" switches JAX\'s precision, which cannot be done inside jit, grad or vmap')
    with jax.enable_x64(True):
        loss, params = jax.tree.map(_wide, (loss, params))
        args = args if batch_size else jax.tree.map(_wide, args)
        found = _checked_finite(_inertia(memory, as_operator(loss, params, args, **how), tolerance))
        return jax.tree.map(np.asarray, found)


@partial(compiled, static_argnums=0)
def _dense(memory: int, operator: LinearOperator) -> jax.Array:
    columns = _columns(memory, operator)
    return (columns + columns.T) / 2


@partial(compiled, static_argnums=0)
def _inertia(memory: int, operator: LinearOperator, tolerance: Any) -> Inertia:
    columns = _columns(memory, operator)
    eigenvalues = smallmatrix.eigvalsh_array((columns + columns.T) / 2)
    if tolerance is None:
        rounding = len(columns) * operator.space.eps * jnp.max(jnp.abs(eigenvalues))
        tolerance = rounding + jnp.linalg.norm(columns - columns.T)
    tolerance = jnp.asarray(tolerance, eigenvalues.dtype)
    finite = jnp.all(jnp.isfinite(columns))
    count = lambda which: jnp.where(finite, jnp.sum(which, dtype=jnp.int32), -1)  # noqa: E731
    negative, positive = count(eigenvalues < -tolerance), count(eigenvalues > tolerance)
    zero = count(jnp.abs(eigenvalues) <= tolerance)
    return Inertia(negative, zero, positive, tolerance, eigenvalues)


def _columns(memory: int, operator: LinearOperator) -> jax.Array:
    """A e_j in row j, (n, n), as computed: symmetric to rounding."""
    n = operator.dimension
    images = lambda index: operator.rows(jax.nn.one_hot(index, n, dtype=operator.space.dtype))  # noqa: E731
    return in_blocks(images, jnp.arange(n), operator.block(memory))


def _checked_finite(found: Inertia) -> Inertia:
    if not isinstance(found.negative, jax.core.Tracer) and np.any(np.asarray(found.negative) < 0):
        raise FloatingPointError("the Hessian is not finite, so it has no inertia: is the loss smooth here?")
    return found


def _wide(leaf: Any) -> Any:
    return np.asarray(leaf, np.float64) if is_array(leaf) and is_float(leaf) else leaf


def _checked_memory(memory: Any) -> int:
    if not isinstance(memory, int | float | np.number) or isinstance(memory, bool) or not memory >= 1:
        raise ValueError(f"memory is {memory!r}: give a number of bytes, such as 2**30")
    return int(memory)
