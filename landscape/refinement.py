"""Maps of labels at a fraction of the runs: pixels are computed only where labels differ, and the rest is filled in."""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from landscape.labelling import Labelling
from landscape.plane import axis
from landscape.problem import checked_count


class Refined(NamedTuple):
    """A map of labels of which most pixels were filled in."""

    axes: tuple[np.ndarray, ...]
    labels: np.ndarray  # of the grid's shape
    computed: np.ndarray  # whether a pixel was labelled itself

    @property
    def runs(self) -> int:
        """Points that were labelled."""
        return int(self.computed.sum())

    @property
    def saved(self) -> float:
        """Pixels of the map for each point that was labelled."""
        return self.computed.size / self.runs


def refined(
    label: Labelling,
    *limits: tuple[float, float],
    cells: int = 32,
    levels: int = 5,
    progress: Callable[[str], object] | None = None,
) -> Refined:
    """The map of cells 2^levels + 1 pixels an axis, by halving cells and computing only where corners differ.

    From a grid of `cells` cells an axis on, each level halves all cells, gives the new points their lower corner's
    label, and then labels the corners of every cell whose corners differ, and of the cells that touch it, until no new
    such cell appears. What every cell of the first grid misses is not found: an island inside one cell, a whisker that
    enters it between two corners and is not joined, cell by cell, to boundary that was seen.

    Args:
      label: the labels of points (n, d), d the number of `limits`.
      progress: called with a sentence after each level.

    Raises ValueError for no limits, or limits that are no interval, and for cells or levels below 1.
    """
    if not limits or not all(np.shape(limit) == (2,) for limit in limits):
        raise ValueError(f"limits are {limits!r:.60}: give (lower, upper) for each axis, one or more")
    checked_count("cells", cells)
    checked_count("levels", levels)
    size = cells * 2**levels + 1
    axes = tuple(axis(f"axis {i}", *limit, size) for i, limit in enumerate(limits))
    labels, computed = np.zeros((size,) * len(axes), np.int32), np.zeros((size,) * len(axes), bool)
    for level in range(levels + 1):
        stride = 2 ** (levels - level)
        coarse = (slice(None, None, stride),) * len(axes)
        here = [values[::stride] for values in axes], labels[coarse], computed[coarse]  # views
        if not level:
            _compute(label, *here, np.ones_like(computed[coarse]))
        else:
            _fill(labels[coarse])
        while level and np.any(wanted := _around(_differing(labels[coarse])) & ~computed[coarse]):
            _compute(label, *here, wanted)
        if progress:
            progress(f"{computed.sum()} points labelled at {labels[coarse].shape[0] - 1} cells an axis")
    return Refined(axes, labels, computed)


def _compute(
    label: Labelling, axes: Sequence[np.ndarray], labels: np.ndarray, computed: np.ndarray, wanted: np.ndarray
) -> None:
    """Label the wanted points; both arrays are written in place."""
    place = np.nonzero(wanted)
    labels[place] = label(np.stack([values[i] for values, i in zip(axes, place, strict=True)], axis=1))
    computed[place] = True


def _fill(labels: np.ndarray) -> None:
    """Give the points between those of the coarser grid, of even indices, the label of their lower corner."""
    for shift in itertools.product((0, 1), repeat=labels.ndim):
        if any(shift):
            target = labels[tuple(slice(s, None, 2) for s in shift)]
            even = labels[(slice(None, None, 2),) * labels.ndim]
            target[...] = even[tuple(slice(0, n) for n in target.shape)]


def _differing(labels: np.ndarray) -> np.ndarray:
    """Whether the corners of each cell differ: one cell fewer than points along each axis."""
    low = high = labels
    for i in range(labels.ndim):
        first, second = (slice(None),) * i + (slice(None, -1),), (slice(None),) * i + (slice(1, None),)
        low, high = np.minimum(low[first], low[second]), np.maximum(high[first], high[second])
    return low != high


def _around(cells: np.ndarray) -> np.ndarray:
    """The points of these cells and of the cells that share a corner with them."""
    points = np.pad(cells, 2)
    for i in range(cells.ndim):
        count = points.shape[i] - 3
        along = [(slice(None),) * i + (slice(k, k + count),) for k in range(4)]
        points = np.any([points[part] for part in along], axis=0)
    return points
