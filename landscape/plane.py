"""Grids of points: boxes over named parameters, and planes through a point of any network.

A grid is lazy: the engine asks for the coordinates of one lane inside the trace, so that a grid of 10^8 points takes no
memory. Coordinates are the grid's own (one scalar an axis); `embed` turns them into parameters.
"""

import dataclasses
import math
import numbers
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from landscape.problem import Problem, checked_key, checked_point, leaf_names

PyTree = Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Grid:
    """A regular grid of points: all combinations of its axes' values, the last axis varying fastest ("ij" order).

    Either each axis is a scalar leaf of the parameters (`leaves`), the rest standing at `origin`; or the point of
    coordinates c is origin + Σ_i c_i directions_i.
    """

    axes: tuple[Any, ...]  # one array (n_i,) an axis, in NumPy float64 as built
    origin: PyTree  # parameters
    directions: tuple[PyTree, ...]  # each shaped like the parameters; () for a box
    names: tuple[str, ...] = dataclasses.field(metadata={"static": True})
    leaves: tuple[int, ...] = dataclasses.field(metadata={"static": True})  # of a box: which leaf an axis is

    @property
    def shape(self) -> tuple[int, ...]:
        """Points along each axis."""
        return tuple(axis.shape[0] for axis in self.axes)

    @property
    def count(self) -> int:
        """Points in all."""
        return math.prod(self.shape)

    @property
    def rest(self) -> dict[str, Any]:
        """Name and value of each leaf that does not vary (of a box), or that passes through the centre (of a plane)."""
        named = zip(leaf_names(self.origin), jax.tree.leaves(self.origin), strict=True)
        return {name: leaf for i, (name, leaf) in enumerate(named) if i not in self.leaves}

    def point(self, index: Any) -> tuple[jax.Array, ...]:
        """The coordinates of one point, by its place in "ij" order."""
        rest = jnp.asarray(index, jnp.uint32)  # unsigned and within bounds: nothing to wrap or clamp for each point
        coordinates = []
        for axis in reversed(self.axes):
            rest, place = jnp.divmod(rest, jnp.uint32(axis.shape[0]))
            coordinates.append(jnp.asarray(axis).at[place].get(mode="promise_in_bounds"))
        return tuple(reversed(coordinates))

    def embed(self, coordinates: tuple[Any, ...]) -> PyTree:
        """The parameters at these coordinates."""
        if self.leaves:
            leaves, structure = jax.tree.flatten(self.origin)
            chosen = dict(zip(self.leaves, coordinates, strict=True))
            return structure.unflatten([chosen.get(i, leaf) for i, leaf in enumerate(leaves)])
        point = self.origin
        for step, direction in zip(coordinates, self.directions, strict=True):
            point = jax.tree.map(lambda leaf, along, step=step: leaf + step * along, point, direction)
        return point

    def mesh(self) -> tuple[np.ndarray, ...]:
        """The axes' values spread over the grid, each of the grid's shape."""
        return tuple(np.meshgrid(*self.axes, indexing="ij"))


def box(problem: Problem, *, at: PyTree = None, **axes: tuple[float, float, int]) -> Grid:
    """A grid over named scalar parameters: `box(toy, w1=(-3, 3, 601), w2=(-3, 3, 401))`.

    Args:
      problem: whose parameters vary.
      at: where the other parameters stand; default `problem.reference`.
      axes: for each parameter that varies (lower, upper, number of points), the ends included.

    Values are symmetric to the last bit where lower = -upper, so that the line w1 = -w2 lies on the grid.
    Raises ValueError for an unknown name, one that is not a scalar, what is no (lower, upper, count), lower >= upper,
    fewer than 2 points, and a step too small for the working precision (float32, unless x64 is on).
    """
    origin = problem.reference if at is None else checked_point(at, "at")
    names, leaves = leaf_names(origin), jax.tree.leaves(origin)
    if not axes:
        raise ValueError(f"box has no axis: name at least one of {', '.join(names)}, as in {names[0]}=(-1, 1, 101)")
    for name in axes:
        if name not in names:
            raise ValueError(f"box has no parameter {name!r}: the problem's are {', '.join(names)}")
        if np.ndim(leaves[names.index(name)]):
            shape = np.shape(leaves[names.index(name)])
            raise ValueError(
                f"parameter {name!r} has shape {shape}: a box varies scalars, so use plane.random or plane.span"
            )
    values = tuple(_axis(name, limits) for name, limits in axes.items())
    return Grid(values, origin, (), tuple(axes), tuple(names.index(name) for name in axes))


def span(at: PyTree, directions: tuple[PyTree, ...], *limits: tuple[float, float, int]) -> Grid:
    """The grid of points at + Σ_i c_i directions_i, with c_i in `limits[i]` = (lower, upper, number of points).

    Raises ValueError where limits and directions differ in number, a direction is not shaped like the point, or limits
    are refused by `box` too; TypeError or ValueError for a leaf of a direction that is no array of finite floats.
    """
    at = checked_point(at, "at")
    if len(limits) != len(directions) or not directions:
        raise ValueError(
            f"span has {len(directions)} directions and {len(limits)} limits: give one (lo, hi, count) for each"
        )
    directions = tuple(checked_point(direction, f"direction {i}") for i, direction in enumerate(directions))
    for i, direction in enumerate(directions):
        found, wanted = (jax.tree.map(np.shape, tree) for tree in (direction, at))
        if found != wanted:
            raise ValueError(f"direction {i} has shapes {found}: they must be those of the point, {wanted}")
    names = tuple(f"direction {i + 1}" for i in range(len(directions)))
    return Grid(tuple(_axis(name, limit) for name, limit in zip(names, limits, strict=True)), at, directions, names, ())


def random(at: PyTree, *limits: tuple[float, float, int], key: Any = 0) -> Grid:
    """A grid along random Gaussian directions, filter-normalised, through the point `at`; see `filter_normalised`."""
    at = checked_point(at, "at")
    keys = jax.random.split(checked_key(key), len(limits))
    return span(at, tuple(filter_normalised(_gaussian(k, at), at) for k in keys), *limits)


def filter_normalised(direction: PyTree, at: PyTree) -> PyTree:
    """`direction` with each filter rescaled to the norm of the same filter of `at`: d_f ‖θ_f‖ / ‖d_f‖.

    A filter is what feeds one output unit: a slice of the last axis of a leaf of 2 or more axes, the whole of any other
    leaf (Li et al. 2018, arXiv 1712.09913, section 4; there biases are left out, here they are one filter a leaf).
    """

    def rescale(leaf: Any, weight: Any) -> jax.Array:
        along = tuple(range(np.ndim(leaf) - 1)) if np.ndim(leaf) > 1 else None
        norm = lambda a: jnp.sqrt(jnp.sum(jnp.square(jnp.asarray(a)), axis=along, keepdims=True))  # noqa: E731
        length = norm(leaf)
        scale = jnp.where(length > 0, norm(weight) / jnp.where(length > 0, length, 1), 0)
        return jnp.reshape(leaf * scale, np.shape(leaf))

    return jax.tree.map(rescale, direction, at)


def axis(name: str, lower: float, upper: float, count: int) -> np.ndarray:
    """`count` equal steps from `lower` to `upper`: ((n-1-i) lower + i upper) / (n-1), antisymmetric bit for bit."""
    if not (np.isfinite(lower) and np.isfinite(upper) and lower < upper):
        raise ValueError(f"axis {name!r} runs from {lower} to {upper}: finite limits with lower < upper are needed")
    if not isinstance(count, int | np.integer) or count < 2:
        raise ValueError(f"axis {name!r} has {count} points: give a whole number, 2 or more")
    step, working = (upper - lower) / (count - 1), jax.dtypes.canonicalize_dtype(np.float64)
    if step < jnp.finfo(working).eps * max(abs(lower), abs(upper)):
        raise ValueError(
            f"axis {name!r} runs from {lower} to {upper} in steps of {step:.2g}: {working} does not tell its points "
            "apart, so widen it, take fewer points, or turn x64 on"
        )
    place = np.arange(count, dtype=np.float64)
    values = ((count - 1 - place) * lower + place * upper) / (count - 1)
    values[[0, -1]] = lower, upper  # which (n-1) lower / (n-1) may miss by a bit
    return values


def _axis(name: str, limits: Any) -> np.ndarray:
    scalar = lambda value: isinstance(value, numbers.Real) or isinstance(value, jax.Array) and value.ndim == 0  # noqa: E731
    if not isinstance(limits, tuple | list) or len(limits) != 3 or not all(map(scalar, limits)):
        raise ValueError(f"{name} is {limits!r:.60}: give (lower, upper, count)")
    return axis(name, *limits)


def _gaussian(key: jax.Array, like: PyTree) -> PyTree:
    leaves, structure = jax.tree.flatten(like)
    keys = jax.random.split(key, len(leaves))
    drawn = [jax.random.normal(k, np.shape(x), jnp.result_type(x)) for k, x in zip(keys, leaves, strict=True)]
    return structure.unflatten(drawn)
