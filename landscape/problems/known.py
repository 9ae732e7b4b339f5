"""What the surfaces share: their data, the description of their critical points, and the nearest minimum."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from numpy.polynomial import Polynomial

from landscape.problem import PyTree


class Surface(NamedTuple):
    """The data of a surface."""

    coefficients: Any
    minima: tuple[PyTree, ...]  # where its minima lie, to four digits: only `branch` reads them


@dataclasses.dataclass(frozen=True, eq=False)
class Facts:
    """All critical points known, minima first, then in the order of their first coordinate, second, ..."""

    points: np.ndarray  # (k, n)
    index: np.ndarray  # (k,) number of negative eigenvalues: 0 a minimum, n a maximum, else a saddle
    eigenvalues: np.ndarray  # (k, n) of the Hessian, in rising order
    loss: np.ndarray  # (k,)
    residual: np.ndarray  # (k,) norm of the gradient left by rounding

    @property
    def condition_number(self) -> float:
        """Largest over smallest eigenvalue at the lowest point."""
        return float(self._lowest[-1] / self._lowest[0])

    @property
    def largest_learning_rate(self) -> float:
        """2/lambda_max at the lowest point: gradient descent near it is stable below."""
        return float(2 / self._lowest[-1])

    @property
    def _lowest(self) -> np.ndarray:
        return self.eigenvalues[np.argmin(self.loss)]


def nearest(params: PyTree, data: Surface) -> jax.Array:
    """The index of the nearest minimum among `data.minima`, by Euclidean distance."""

    def distance(minimum: PyTree) -> ArrayLike:
        return sum(jnp.square(p - m) for p, m in zip(jax.tree.leaves(params), jax.tree.leaves(minimum), strict=True))

    least, index = distance(data.minima[0]), jnp.asarray(0)
    for i, minimum in enumerate(data.minima[1:], start=1):
        here = distance(minimum)
        index, least = jnp.where(here < least, i, index), jnp.minimum(here, least)
    return index


def examine(loss: Callable[[PyTree, Surface], ArrayLike], data: Surface, points: Sequence[Sequence[float]]) -> Facts:
    """Polish approximate regular critical points by Newton's method in float64, and describe them."""
    structure = jax.tree.structure(data.minima[0])
    x = np.array(points, np.float64)
    with jax.enable_x64(True):
        exact = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), data)
        for _ in range(5):  # quadratic convergence: four digits become sixteen in two
            _, gradient, hessian = (np.asarray(v) for v in _derivatives(loss, structure, x, exact))
            x = x - np.linalg.solve(hessian, gradient[..., None])[..., 0]
        value, gradient, hessian = (np.asarray(v) for v in _derivatives(loss, structure, x, exact))
    eigenvalues = np.linalg.eigvalsh(hessian)
    index = np.sum(eigenvalues < 0, axis=1)
    order = np.lexsort((*np.round(x, 6).T[::-1], index))  # rounded, so that the last bits of a tie do not decide
    residual = np.linalg.norm(gradient, axis=1)
    return Facts(x[order], index[order], eigenvalues[order], value[order], residual[order])


def real_roots(polynomial: Polynomial) -> list[float]:
    """The real roots, in rising order, of a polynomial whose roots are simple."""
    roots: Any = polynomial.roots()
    return sorted(float(root.real) for root in roots if abs(root.imag) < 1e-6 * (1.0 + abs(root)))


def branch_names(minima: Iterable[Sequence[float]]) -> tuple[str, ...]:
    """The minima's coordinates to four digits: `(3.584, -1.848)`."""
    return tuple(f"({', '.join(f'{value:.4g}' for value in minimum)})" for minimum in minima)


@jax.jit(static_argnums=(0, 1))
def _derivatives(loss: Any, structure: Any, points: jax.Array, data: Surface) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Loss, gradient and Hessian at each row of `points`."""

    def value(x: jax.Array) -> ArrayLike:
        return loss(structure.unflatten(list(x)), data)

    return jax.vmap(lambda x: (value(x), jax.grad(value)(x), jax.hessian(value)(x)))(points)
