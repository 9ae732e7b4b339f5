"""Critical points of every index: found by Newton's method from many starts, classified, merged.

`find` makes the catalogue of a problem; `newton` is the iteration alone, in either precision.
"""

from typing import Any

import jax
import numpy as np

from landscape.critical.catalogue import Catalogue, Ends, Entry, Kind, Status
from landscape.critical.iteration import STEPS, block_size, checked_size, newton
from landscape.critical.merging import merged
from landscape.problem import Problem, checked_count
from landscape.sweep import sweep

__all__ = ["Catalogue", "Ends", "Entry", "Kind", "Status", "find", "newton"]

PyTree = Any


def find(
    problem: Problem,
    starts: PyTree = None,
    *,
    count: int = 256,
    seed: int = 0,
    steps: int = STEPS,
    progress: bool | str = False,
) -> Catalogue:
    """Newton's method in float64 from many starts; the distinct critical points it reaches, classified.

    Args:
      problem: of up to 512 parameters: the Hessian is dense.
      starts: points with a leading axis of lanes, or a `plane.Grid`. None draws `count` of them with `problem.sample`,
        the lanes' keys being `fold_in(key(seed), lane)`.
      steps: the most of Newton's steps.
      progress: show a bar.

    The caller's precision stays as it is. Raises ValueError or TypeError, before anything is compiled, for too many
    parameters, unsuitable starts, count or steps below 1, and a problem that has nothing to draw starts from.
    What Newton's method seldom reaches is missed: a catalogue never claims to be complete. A start where the gradient
    has already underflowed to zero (far out on an exponential tail) cannot be told from one on a valley.
    """
    checked_size(problem)
    checked_count("steps", steps)
    checked_count("count", count)
    with jax.enable_x64(True):
        exact = problem.astype(np.float64)
        if starts is None:
            starts = sweep(_draw, np.arange(count), exact, key=seed, block=block_size(problem))
        if not hasattr(starts, "point"):
            starts = jax.tree.map(_wide, starts)
        ends = newton(exact, starts, steps=steps, progress=progress)
        ends, entries = merged(exact, ends)
    return Catalogue(problem, entries, ends)


def _draw(lane: jax.Array, problem: Problem, *, key: jax.Array) -> PyTree:
    del lane
    return problem.sample(key)


def _wide(leaf: Any) -> Any:
    """A float array in float64; anything else as it is, for `newton` to refuse."""
    dtype = getattr(leaf, "dtype", None)
    return np.asarray(leaf, np.float64) if dtype is not None and np.issubdtype(dtype, np.floating) else leaf
