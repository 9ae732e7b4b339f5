"""What is known at one point: loss, gradient, Hessian in its eigenbasis, and the rounding error of each slope."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from landscape import hessian, smallmatrix
from landscape.problem import Problem, parameter_count

PyTree = Any
Vector = tuple[jax.Array, ...]  # n scalars where n is small, else one array (n,)
Loss = Callable[[Vector], jax.Array]

UNROLLED = 4  # parameters up to which a point is scalars: faster to run, but beyond it far slower to compile
NOISE = 4  # a slope's floor, in units of the larger of two samples of its rounding error


class Local(NamedTuple):
    """What is known at a point."""

    loss: jax.Array
    gradient: Vector
    norm: jax.Array  # |H|_F
    values: Vector  # eigenvalues of the Hessian
    basis: Any  # its eigenvectors: n Vectors, or an array with one in each row


def coordinates(params: PyTree) -> tuple[Vector, Callable[[Vector], PyTree]]:
    """A point as a Vector, and the way back."""
    if parameter_count(params) <= UNROLLED:
        scalars, stack = hessian.unstacked(params)
        return tuple(scalars), stack
    array, unravel = ravel_pytree(params)
    return (array,), lambda vector: unravel(vector[0])


def vectorial(problem: Problem) -> tuple[Loss, Callable[[Vector], PyTree]]:
    """The problem's loss of a Vector, and what makes a point of one."""
    _, stack = coordinates(problem.reference)
    return lambda vector: problem.at(stack(vector)), stack


def look(loss: Loss, point: Vector) -> Local:
    """All of it at one point; n + 1 gradients and the eigenvectors of one n x n matrix."""
    if not point[0].ndim:
        value, gradient, rows = hessian.derivatives(loss, point)
        values, basis = smallmatrix.eigh(rows)
        return Local(value, gradient, optax.tree.norm(rows), values, basis)
    value, gradient = jax.value_and_grad(loss)(point)
    matrix = hessian_at(loss, point)
    norm = optax.tree.norm(matrix)
    known = jnp.where(jnp.isfinite(norm), matrix, 0)  # LAPACK promises nothing for NaN
    values, vectors = smallmatrix.eigh_array(known)
    return Local(value, gradient, norm, (values,), vectors.T)


def hessian_at(loss: Loss, point: Vector) -> Any:
    """The Hessian, as rows of scalars or an array.

    Of an array column by column: beside the other lanes' that is a fifth of the time of all columns at once.
    """
    if not point[0].ndim:
        return hessian.derivatives(loss, point)[2]
    _, times = jax.linearize(jax.grad(lambda array: loss((array,))), point[0])
    return jax.lax.map(times, jnp.eye(point[0].size, dtype=point[0].dtype))


def dense_hessian(params: PyTree, problem: Problem) -> jax.Array:
    """The problem's Hessian at one point, (n, n)."""
    array, unravel = ravel_pytree(params)
    return jax.hessian(lambda v: problem.at(unravel(v)))(array)


def project(basis: Any, vector: Vector) -> Vector:
    """The components v_i·vector."""
    if isinstance(basis, tuple):
        return tuple(sum(a * b for a, b in zip(v, vector, strict=True)) for v in basis)
    return (jnp.matmul(basis, vector[0], precision="highest"),)


def combine(basis: Any, coefficients: Vector) -> Vector:
    """sum_i c_i v_i."""
    if isinstance(basis, tuple):
        return tuple(sum(c * v[j] for c, v in zip(coefficients, basis, strict=True)) for j in range(len(basis)))
    return (jnp.matmul(coefficients[0], basis, precision="highest"),)


def remembered(basis: Any, vanished: Vector, step: Vector, before: Vector) -> Vector:
    """The step, and along eigenvectors whose slope has vanished what was remembered of steps before."""
    kept = jax.tree.map(lambda dead, c: jnp.where(dead, c, 0), vanished, project(basis, before))
    new = jax.tree.map(lambda dead, c: jnp.where(dead, 0, c), vanished, project(basis, step))
    return combine(basis, jax.tree.map(jnp.add, kept, new))


def floors_at(loss: Loss, point: Vector, here: Local) -> Vector:
    """The rounding error of each slope v_i·g: its change with the last bits of the point, and that of the product."""
    eps, size = jnp.finfo(here.norm.dtype).eps, flat(point).size
    signs = 1 - 2 * (np.arange(size) % 2)

    def change(signs: np.ndarray) -> Vector:
        factors = tuple(1 + 2 * eps * signs) if not point[0].ndim else (1 + 2 * eps * signs,)
        nudged = jax.tree.map(lambda x, factor: x * factor.astype(x.dtype), point, factors)
        return project(here.basis, optax.tree.sub(jax.grad(loss)(nudged), here.gradient))

    samples = change(signs), change(np.ones(size))  # all up, and up and down in turn: either may leave g as it is
    product = project(jax.tree.map(jnp.abs, here.basis), jax.tree.map(jnp.abs, here.gradient))
    larger = lambda a, b, p: NOISE * (jnp.maximum(jnp.abs(a), jnp.abs(b)) + size * eps * p)  # noqa: E731
    return jax.tree.map(larger, *samples, product)


def rounding(size: int, dtype: Any) -> float:
    """50 n eps: times |H| the error of a computed eigenvalue, generously (Weyl's bound for rounding in H itself)."""
    return 50 * size * float(jnp.finfo(dtype).eps)


def flat(tree: PyTree) -> jax.Array:
    """The leaves of a tree of arrays as one array."""
    return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def rows(params: PyTree) -> np.ndarray:
    """Points with a leading axis of lanes as the rows of a matrix, (m, n)."""
    return np.concatenate([np.reshape(leaf, (len(leaf), -1)) for leaf in jax.tree.leaves(params)], axis=1)


def stacked(problem: Problem, x: np.ndarray) -> PyTree:
    """Rows as points of the problem."""
    leaves, structure = jax.tree.flatten(problem.reference)
    ends = np.cumsum([np.size(leaf) for leaf in leaves])[:-1]
    parts = np.split(x, ends, axis=1)
    return structure.unflatten([part.reshape(-1, *np.shape(leaf)) for part, leaf in zip(parts, leaves, strict=True)])


def loss_tolerance(loss: Any) -> Any:
    """Losses nearer to each other than this count as one: √eps (1 + |L|) in float64."""
    return np.sqrt(np.finfo(np.float64).eps) * (1 + np.abs(loss))
