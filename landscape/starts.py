"""Where runs begin: one point, many points with a leading axis of lanes, or a grid; checked before any work."""

from typing import Any

import jax
import numpy as np

from landscape.plane import Grid
from landscape.problem import Problem, checked_count, checked_point, float_dtype

PyTree = Any


def checked_starts(problem: Problem, starts: PyTree) -> tuple[PyTree, bool]:
    """The starts as a grid or with a leading axis of lanes, and whether they were one point without it.

    Raises ValueError or TypeError, in one sentence, where they are not made like the problem's point.
    """
    if isinstance(starts, Grid):
        return checked_grid(problem, starts), False
    checked_problem(problem)
    starts = checked_point(starts, "starts")
    found, wanted = jax.tree.structure(starts), jax.tree.structure(problem.reference)
    if found != wanted:
        raise ValueError(f"starts is a {found}: it must be like the problem's point, {wanted}")
    shapes, point = ([np.shape(leaf) for leaf in jax.tree.leaves(tree)] for tree in (starts, problem.reference))
    starts = jax.tree.map(lambda leaf: np.asarray(leaf, float_dtype(starts)), starts)
    if shapes == point:
        return jax.tree.map(lambda leaf: leaf[None], starts), True
    lanes = {shape[:1] for shape in shapes}
    if [shape[1:] for shape in shapes] != point or len(lanes) != 1 or lanes & {(), (0,)}:
        raise ValueError(f"starts has shapes {shapes}: give one point's, {point}, or those after an axis of lanes")
    return starts, False


def checked_grid(problem: Problem, grid: Any) -> Grid:
    """`grid`; raises ValueError or TypeError unless it is a Grid over this problem's parameters."""
    checked_problem(problem)
    if not isinstance(grid, Grid):
        raise TypeError(f"grid is {grid!r:.60}: give a Grid, made by plane.box, plane.span or plane.random")
    found, wanted = (jax.tree.map(np.shape, tree) for tree in (grid.origin, problem.reference))
    if found != wanted or jax.tree.structure(grid.origin) != jax.tree.structure(problem.reference):
        raise ValueError(f"grid is of points shaped {found}: make one for problem {problem.name!r}, with {wanted}")
    return grid


def checked_problem(problem: Any) -> Problem:
    """`problem`; raises TypeError unless it is a Problem."""
    if not isinstance(problem, Problem):
        raise TypeError(f"problem is {problem!r:.60}: give a Problem, of landscape.problems or from problem.make")
    return problem


def normal(problem: Problem, count: int, *, scale: float = 1.0, seed: int = 0) -> PyTree:
    """`count` points, every parameter normal with mean 0 and standard deviation `scale`, in float64."""
    checked_problem(problem)
    checked_count("count", count)
    if not (np.isfinite(scale) and scale > 0):
        raise ValueError(f"scale is {scale!r}: give a standard deviation, a finite number above 0")
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: scale * rng.normal(size=(count, *np.shape(leaf))), problem.reference)


def visited(trace: PyTree) -> PyTree:
    """The points of training runs, `descent.run(..., observe_at=..., observe=("params",)).trace.params`, as starts.

    Leaves are (lanes, steps, ...), and become (lanes * steps, ...); raises ValueError for others.
    """
    shapes = {np.shape(leaf)[:2] for leaf in jax.tree.leaves(trace)}
    if len(shapes) != 1 or len(next(iter(shapes))) != 2:
        raise ValueError(f"trace has leading axes {sorted(shapes)}: give leaves of shape (lanes, steps, ...)")
    return jax.tree.map(lambda leaf: np.reshape(leaf, (-1, *np.shape(leaf)[2:])), trace)
