"""A linear map, linearised once and applied many times, with its matrix products turned the way the CPU runs fast.

`jax.linearize` keeps what a product needs of the point (activations, slopes) as residuals. In the gradient of a weight
matrix those residuals are multiplied along their first axis, X^T D with the samples as rows, for which XLA's CPU
compiler has only a slow kernel (35 against 120 Gflop/s at 64 x 1797 x 32). Each factor of a linear map's product is a
residual or depends on the vector, never both; so every such residual is kept a second time, transposed.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from landscape.loops import evaluate, subequations

Dimensions = tuple[tuple[tuple[int, ...], tuple[int, ...]], tuple[tuple[int, ...], tuple[int, ...]]]


class Residuals(NamedTuple):
    """What of a linear map is arrays."""

    consts: list[jax.Array]
    plain: list[jax.Array]
    turned: list[jax.Array]  # transposed copies of those that `Program.turned` lists


@dataclasses.dataclass(frozen=True)
class Program:
    """What is static of a linear map: its equations, in residuals and the vector. Compared by identity."""

    jaxpr: Any
    turned: tuple[int, ...]  # which residuals are also kept with their last axis first

    def __call__(self, residuals: Residuals, vector: jax.Array) -> jax.Array:
        """The map's value at a flat vector."""
        consts, plain, turned = residuals
        swapped = {id(plain[index]): copy for index, copy in zip(self.turned, turned, strict=True)}

        def dot(equation: Any, left: jax.Array, right: jax.Array) -> list[jax.Array]:
            dimensions = equation.params["dimension_numbers"]
            if _is_slow(dimensions, left) and id(left) in swapped:
                return [_dot(equation, swapped[id(left)], right, ((1,), dimensions[0][1]))]
            if _is_slow(dimensions, right) and id(right) in swapped:
                # (n, ...) and (n, b) -> (..., b): the turned factor comes first, and its axis of the result moves last.
                # The barrier: XLA would take a product's transpose as that of the factors in turn, the slow way again.
                product = _dot(equation, swapped[id(right)], left, ((1,), dimensions[0][0]))
                return [jnp.moveaxis(jax.lax.optimization_barrier(product), 0, -1)]
            return [equation.primitive.bind(left, right, **equation.params)]

        (product,) = evaluate(self.jaxpr, consts, [*plain, vector], {"dot_general": dot})
        return product

    @property
    def intermediate(self) -> int:
        """Bytes of the largest array in one product."""
        return largest(self.jaxpr)

    @property
    def work(self) -> int:
        """Bytes of all arrays in one product: no more is ever held at once."""
        return total(self.jaxpr)


def linearised(function: Callable, point: jax.Array) -> tuple[jax.Array, Any, Program, Residuals]:
    """For `function(point) -> (value, auxiliary)`: both, and the derivative of the value at the point.

    That is a linear map of flat vectors: `program(residuals, vector)`.
    """
    value, tangent, auxiliary = jax.linearize(function, point, has_aux=True)
    residuals, structure = jax.tree.flatten(tangent)
    closed = jax.make_jaxpr(lambda *args: structure.unflatten(args[:-1])(args[-1]))(*residuals, point)
    slow: set[int] = set()
    if jax.default_backend() == "cpu":
        jax.make_jaxpr(lambda *args: _note(closed, args, slow))(*residuals, point)
    turned = tuple(sorted(slow))
    # The barrier: folded into the product, a transposition would undo what it is for.
    copies = [jax.lax.optimization_barrier(residuals[index].T) for index in turned]
    return value, auxiliary, Program(closed.jaxpr, turned), Residuals(closed.consts, residuals, copies)


def largest(jaxpr: Any) -> int:
    """Bytes of the largest result of its equations."""
    return max(map(_bytes, _results(jaxpr)))


def total(jaxpr: Any) -> int:
    """Bytes of all their results."""
    return sum(map(_bytes, _results(jaxpr)))


def _note(closed: Any, args: tuple, slow: set[int]) -> list[jax.Array]:
    """Evaluate a map, noting which of its residuals are multiplied along their first axis."""
    place = {id(arg): index for index, arg in enumerate(args[:-1])}

    def dot(equation: Any, *sides: jax.Array) -> list[jax.Array]:
        dimensions = equation.params["dimension_numbers"]
        slow.update(place[id(side)] for side in sides if _is_slow(dimensions, side) and id(side) in place)
        return [equation.primitive.bind(*sides, **equation.params)]

    return evaluate(closed.jaxpr, closed.consts, args, {"dot_general": dot})


def _is_slow(dimensions: Dimensions, side: jax.Array) -> bool:
    """Whether a product contracts matrices along their rows: X^T D."""
    return dimensions == (((0,), (0,)), ((), ())) and side.ndim == 2


def _dot(equation: Any, left: jax.Array, right: jax.Array, contracted: Any) -> jax.Array:
    kept = {name: value for name, value in equation.params.items() if name != "dimension_numbers"}
    return equation.primitive.bind(left, right, dimension_numbers=(contracted, ((), ())), **kept)


def _results(jaxpr: Any) -> list[Any]:
    """The abstract results of all equations."""
    inner = [variable.aval for equation in subequations(jaxpr) for variable in equation.outvars]
    return inner or [jaxpr.outvars[0].aval]


def _bytes(aval: Any) -> int:
    return math.prod(getattr(aval, "shape", ())) * jnp.dtype(getattr(aval, "dtype", jnp.float32)).itemsize
