"""Critical points of every index: found from many starts, classified, merged, audited.

`find` makes the catalogue of a problem; `classify` says what one point is, or that it is not critical; `newton` is the
iteration alone, in either precision.
"""

from typing import Any

import jax
import numpy as np

from landscape.critical.catalogue import Catalogue, Ends, Entry, Kind, Status
from landscape.critical.classification import Classification, classify
from landscape.critical.exploration import STEPS as EXPLORING
from landscape.critical.exploration import Explored, checked_method, explore
from landscape.critical.iteration import STEPS, block_size, checked_size, newton
from landscape.critical.merging import merged
from landscape.hessian.space import is_number
from landscape.plane import Grid
from landscape.problem import Problem, checked_count
from landscape.starts import checked_grid, checked_problem, checked_starts
from landscape.sweep import sweep

__all__ = ["Catalogue", "Classification", "Ends", "Entry", "Kind", "Status", "classify", "find", "newton"]

PyTree = Any


def find(
    problem: Problem,
    starts: PyTree = None,
    *,
    count: int = 1024,
    seed: int = 0,
    method: str = "portfolio",
    steps: int = STEPS,
    progress: bool | str = False,
) -> Catalogue:
    """The distinct critical points that many starts reach, in float64: classified, merged and audited.

    Every start explores by one of three methods (see `landscape.critical.exploration`), up to 60 steps; then Newton's
    method polishes, and accepts only what it has a small distance to (see `newton`).

    Args:
      problem: of up to 512 parameters: the Hessian is dense. The symmetries that it declares merge points.
      starts: points with a leading axis of lanes, or a `plane.Grid`; `starts.normal` and `starts.visited` make such, of
        scaled normals and of training runs. None draws `count` of them with `problem.sample`, the lanes' keys being
        `fold_in(key(seed), lane)`.
      method: "portfolio" gives half of the starts to Newton's method, a quarter each to the other two; "newton",
        "levenberg_marquardt" or "eigenvector_following" gives all to one. Following goes uphill in 0 to n directions,
        start by start.
      steps: the most of Newton's steps when polishing.
      progress: show a bar.

    The caller's precision stays as it is. Raises ValueError or TypeError, before anything is compiled, for too many
    parameters, unsuitable starts, an unknown method, count or steps below 1, and a problem that has nothing to draw
    starts from. A catalogue never claims to be complete: see its `audit`. A start where the gradient has already
    underflowed to zero, or below its rounding error (far out on an exponential tail), looks as one on a valley does: it
    is refused only where other starts walk out on the same tail (see `landscape.critical.plateaus`). That takes points
    of a valley too, far out, where it is as straight and level as a tail, and pieces that are exactly flat, as where a
    ReLU is dead; and where tails fill nearly all of a box of three dimensions or more, some of their points pass for a
    set. Where the loss depends on directions alone,
    Newton's step only scales the point: most starts diverge there.
    """
    checked_size(checked_problem(problem))
    checked_method(method)
    checked_count("seed", seed, 0)
    checked_count("steps", steps)
    checked_count("count", count)
    if is_number(starts):
        raise TypeError(f"starts is {starts!r}: give points, or their number as count={starts!r}")
    with jax.enable_x64(True):
        exact = problem.astype(np.float64)
        if starts is None:
            starts = sweep(_draw, np.arange(count), exact, key=seed, block=block_size(problem, 1))
        elif isinstance(starts, Grid):
            starts = sweep(_same, checked_grid(problem, starts), block=block_size(problem, 1))
        starts, _ = checked_starts(problem, jax.tree.map(_wide, starts))
        explored = explore(exact, starts, method, steps=EXPLORING, progress=progress)
        ends = newton(exact, explored.params, came=explored.came, steps=steps, progress=progress)
        ends, entries = merged(exact, _halted(ends, explored))
    return Catalogue(problem, entries, ends)


def _halted(ends: Ends, explored: Explored) -> Ends:
    """The ends, but where exploring halted at a flat gradient: there polishing would only move the point off."""
    flat = explored.flat
    keep = lambda new, old: np.where(flat.reshape(-1, *[1] * (np.ndim(new) - 1)), old, new)  # noqa: E731
    return ends._replace(
        params=jax.tree.map(keep, ends.params, explored.params),
        loss=keep(ends.loss, explored.loss),
        gradient_norm=keep(ends.gradient_norm, explored.gradient_norm),
        status=np.where(flat, Status.GRADIENT_FLAT, ends.status).astype(np.int8),
    )


def _same(point: PyTree) -> PyTree:
    return point


def _draw(lane: jax.Array, problem: Problem, *, key: jax.Array) -> PyTree:
    del lane
    return problem.sample(key)


def _wide(leaf: Any) -> Any:
    """A float array in float64; anything else as it is, for `newton` to refuse."""
    dtype = getattr(leaf, "dtype", None)
    return np.asarray(leaf, np.float64) if dtype is not None and np.issubdtype(dtype, np.floating) else leaf
