"""Loss, gradient, Hessian and its eigenvalues over a grid of points."""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from landscape import hessian, smallmatrix
from landscape.plane import Grid
from landscape.problem import Problem, parameter_count
from landscape.starts import checked_grid
from landscape.sweep import FUNCTION_BLOCK, lanes_within, sweep

FIELDS = ("loss", "gradient", "hessian", "eigenvalues")
LARGEST = 16  # parameters up to which the full Hessian of every grid point is worth its n² numbers


class Fields(NamedTuple):
    """What is known at one point; a field that was not asked for is None."""

    loss: Any  # ()
    gradient: Any  # (n,)
    hessian: Any  # (n(n+1)/2,), its upper triangle row by row: no entry is computed, moved and kept twice
    eigenvalues: Any  # (n,) of the Hessian, ascending


class Request(NamedTuple):
    """What to compute at each point: static."""

    fields: tuple[str, ...]
    full: bool


@dataclasses.dataclass(frozen=True)
class Surface:
    """A problem's loss and its derivatives on a grid. Fields have the grid's shape first; None if not asked for.

    Derivatives are with respect to the grid's coordinates, or to all parameters in flattening order where `full`.
    """

    grid: Grid
    problem: Problem
    full: bool
    record: Fields  # flat: one lane a grid point; zarr arrays where a store was given

    @property
    def loss(self) -> np.ndarray:
        """The loss, of the grid's shape; NaN or inf where the loss is."""
        return self._shaped("loss")

    @property
    def gradient(self) -> np.ndarray:
        """∂L/∂c_i, (*shape, n)."""
        return self._shaped("gradient")

    @property
    def hessian(self) -> np.ndarray:
        """∂²L/∂c_i∂c_j, (*shape, n, n), symmetric to the last bit; for n = 2 a read-only view."""
        upper = self._shaped("hessian")
        n = (math.isqrt(8 * upper.shape[-1] + 1) - 1) // 2
        if n <= 2:  # its rows are (h11, h12) and (h12, h22): windows over the triangle
            return np.lib.stride_tricks.sliding_window_view(upper, n, axis=-1)
        place = np.zeros((n, n), int)
        place[np.triu_indices(n)] = np.arange(upper.shape[-1])
        return upper[..., np.maximum(place, place.T)]

    @property
    def eigenvalues(self) -> np.ndarray:
        """The Hessian's eigenvalues, ascending, (*shape, n)."""
        return self._shaped("eigenvalues")

    def _shaped(self, name: str) -> np.ndarray:
        values = getattr(self.record, name)
        if values is None:
            raise ValueError(f"this surface has no {name}: evaluate it with fields that include {name!r}")
        lanes_last = np.moveaxis(np.asarray(values), 0, -1)
        shaped = lanes_last.reshape(*lanes_last.shape[:-1], *self.grid.shape)
        inner = values.ndim - 1
        return np.moveaxis(shaped, range(inner), range(-inner, 0)) if inner else shaped


def evaluate(
    problem: Problem,
    grid: Grid,
    fields: tuple[str, ...] | str = FIELDS,
    *,
    full: bool = False,
    block: int | None = None,
    store: Any = None,
    progress: bool | str = False,
) -> Surface:
    """Loss, gradient, exact Hessian and eigenvalues at every point of a grid.

    Args:
      problem: the loss, on all its data, as it stands: a mean over samples if the problem's loss is one.
      grid: from `landscape.plane`.
      fields: which of "loss", "gradient", "hessian", "eigenvalues" to compute and keep.
      full: derivatives with respect to all parameters rather than to the grid's coordinates.
      block, store, progress: as in `landscape.sweep.sweep`.

    Raises TypeError for no Problem or no Grid; ValueError for a grid of another problem, an unknown field, and for
    `full` above 16 parameters.
    Cost: about 2 + 2n losses a point for n coordinates; memory: the fields, in the working precision.
    """
    checked_grid(problem, grid)
    fields = tuple(fields) if isinstance(fields, Iterable) and not isinstance(fields, str) else (fields,)
    unknown = [name for name in fields if name not in FIELDS]
    if unknown or not fields:
        raise ValueError(f"fields has {unknown or 'nothing'}: choose from {', '.join(FIELDS)}")
    size = parameter_count(grid.origin)
    if full and size > LARGEST:
        raise ValueError(
            f"full is asked of {size} parameters, {size}² entries a point, where {LARGEST} is the limit: leave it out "
            f"for the {len(grid.axes)}x{len(grid.axes)} Hessian of the grid's own coordinates"
        )
    if block is None:
        block = lanes_within(FUNCTION_BLOCK, (grid.origin, problem.data))
    request = Request(fields, full)
    record = sweep(_point, grid, grid, problem, static=request, block=block, store=store, progress=progress)
    return Surface(grid, problem, full, record)


def _point(coordinates: tuple[jax.Array, ...], grid: Grid, problem: Problem, *, static: Request) -> Fields:
    """The fields at one point of the grid."""
    variables: Sequence[Any]
    if static.full:
        variables, stack = hessian.unstacked(grid.embed(coordinates))
        loss = lambda scalars: problem.at(stack(scalars))  # noqa: E731
    else:
        variables, loss = coordinates, lambda scalars: problem.at(grid.embed(scalars))
    if static.fields == ("loss",):
        return Fields(loss(variables), None, None, None)
    value, gradient, rows = hessian.derivatives(loss, variables)
    found = {
        "loss": lambda: value,
        "gradient": lambda: jnp.stack(gradient),
        "hessian": lambda: jnp.stack([entry for i, row in enumerate(rows) for entry in row[i:]]),
        "eigenvalues": lambda: jnp.stack(smallmatrix.eigenvalues(rows)),
    }
    return Fields(**{name: compute() if name in static.fields else None for name, compute in found.items()})
