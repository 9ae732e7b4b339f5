"""The shape of basins from an array of labels: entropies, smooth or fractal, box dimension, tipping probabilities.

Arrays of labels are maps, one integer a pixel, of any number of dimensions. Where f(ε) far below a pixel is wanted, see
`landscape.uncertainty`.
"""

import itertools
import math
from typing import NamedTuple

import numpy as np

from landscape.basins import BasinMap, Outcome
from landscape.estimate import Estimate, Proportion, from_samples, proportion
from landscape.problem import checked_count

TRIES = 100  # discs drawn for each that is wanted


class Entropy(NamedTuple):
    """Basin entropy, and that of the boundary alone."""

    all: Estimate  # S_b: over all boxes
    boundary: Estimate  # S_bb: over boxes of two labels or more
    boxes: int
    mixed: int  # boxes of two labels or more


class Fractality(NamedTuple):
    """Whether discs on a boundary look as those on a smooth one do."""

    entropy: Estimate  # S_bb over discs of two labels or more
    smooth: float  # what a straight boundary gives on such discs
    fractal: bool  # S_bb is not the smooth one, by more than its interval
    above: bool  # S_bb > ln 2, by more than its interval: fractal for certain, three labels or more
    discs: int


def entropy(labels: np.ndarray, side: int) -> Entropy:
    """S_b = mean over boxes of -Σ p ln p, p the shares of the labels in a box of `side` pixels, and S_bb.

    S_bb > ln 2 needs three labels in a box, and means a fractal boundary; below nothing follows. Boxes are disjoint,
    pixels beyond the last whole box are left out. The standard errors take boxes for independent.

    Raises ValueError for a side below 2 or beyond the map, and where fewer than two boxes are mixed.
    Source: Daza et al., Sci. Rep. 6 (2016) 31416.
    """
    found = _box_entropies(_boxes(labels, side))
    mixed = found[found > 0]
    if mixed.size < 2:
        raise ValueError(f"{mixed.size} boxes of {side} pixels have two labels: a boundary's entropy needs 2 or more")
    return Entropy(from_samples(found), from_samples(mixed), found.size, mixed.size)


def fractality(
    labels: np.ndarray, *, radius: int = 10, count: int = 1000, level: float = 0.99, seed: int = 0
) -> Fractality:
    """The smooth-or-fractal test of S_bb on `count` random discs of `radius` pixels in a plane of labels.

    A straight boundary, seen through discs at random, has S_bb = 0.4395 as the radius grows; for this radius `smooth`
    averages the same discs of pixels over straight lines. The boundary counts as fractal at this scale if S_bb differs
    from that by more than the interval of `level`; corners and curves of the disc's size look fractal too. Discs are
    drawn until `count` have two labels, in at most 100 times as many tries.

    Raises ValueError for a map that is no plane, is smaller than a disc, or shows too few mixed discs.
    Source: Puy, Daza, Wagemakers, Sanjuán, Commun. Nonlinear Sci. Numer. Simulat. 95 (2021) 105588.
    """
    labels = np.asarray(labels)
    checked_count("count", count, 2, why=": a standard error needs them")
    checked_count("radius", radius, 2)
    if labels.ndim != 2 or min(labels.shape) <= 2 * radius:
        raise ValueError(f"labels has shape {labels.shape}: give a plane of more than {2 * radius} pixels a side")
    disc = _disc(radius)
    rng = np.random.default_rng(seed)
    found: list[np.ndarray] = []
    for _ in range(TRIES):
        centre = np.stack([rng.integers(radius, size - radius, count) for size in labels.shape], axis=1)
        place = centre[:, None, :] + disc
        found.append(_box_entropies(labels[place[..., 0], place[..., 1]]))
        if sum(np.count_nonzero(part) for part in found) >= count:
            break
    mixed = np.concatenate(found)
    mixed = mixed[mixed > 0][:count]
    if mixed.size < count:
        raise ValueError(f"{mixed.size} of {TRIES * count} discs show two labels: enlarge the boundary, or the radius")
    measured, smooth = from_samples(mixed), smooth_entropy(radius)
    low, high = measured.interval(level)
    return Fractality(measured, smooth, bool(not low <= smooth <= high), bool(low > math.log(2)), count)


def smooth_entropy(radius: int) -> float:
    """S_bb of a straight boundary on discs of so many pixels: the mean over lines in all directions and offsets.

    For large discs 2/π ∫ ... = 0.4395093: with p(t) = (arccos t - t √(1 - t²))/π beyond the distance t from the
    centre, the mean of -p ln p - (1 - p) ln(1 - p) over t in (-1, 1).
    """
    disc = _disc(radius)
    angle = (np.arange(64) + 0.5) * np.pi / 128  # a disc of pixels has the square's symmetries: a quarter turn is all
    total = weight = 0.0
    for a in angle:
        height = np.sort(disc @ np.array([np.cos(a), np.sin(a)]))
        gap, below = np.diff(height), np.arange(1, len(disc)) / len(disc)
        total += np.sum(gap * _binary_entropy(below))
        weight += np.sum(gap)
    return total / weight


def box_dimension(labels: np.ndarray, sides: tuple[int, ...] | None = None) -> Estimate:
    """Minus the slope of ln N against ln s, N boxes of s cells that hold boundary: least squares, error by scatter.

    A cell lies between neighbouring pixels and holds boundary if they differ. Default sides: powers of 2 up to an
    eighth of the map. Boxes that the map's end cuts are left out. A map's dimension is that of its scales: finite, so
    not the limit. Raises ValueError for fewer than 3 sides, and where a side finds no boundary.
    """
    cells = _mixed_cells(np.asarray(labels))
    sides = sides or tuple(2**k for k in range(int(np.log2(max(1, min(cells.shape) // 8))) + 1))
    if len(sides) < 3:
        raise ValueError(f"sides is {sides}: a dimension needs 3 of them, so give a larger map, or more sides")
    counts = np.array([np.sum(_boxes(cells, side).any(axis=1)) if side > 1 else cells.sum() for side in sides])
    if not np.all(counts):
        raise ValueError("labels has no boundary: all pixels are alike")
    x, y = np.log(sides), np.log(counts)
    slope, start = np.polyfit(x, y, 1)
    scatter = np.sum((y - start - slope * x) ** 2) / (len(sides) - 2)
    return Estimate(float(-slope), float(np.sqrt(scatter / np.sum((x - x.mean()) ** 2))))


def tipping(before: np.ndarray, after: np.ndarray, kinds: int) -> Proportion:
    """P[i, j] = |B_j(after) ∩ B_i(before)| / |B_i(before)|, with Wilson intervals; (kinds, kinds).

    The probability that a start of basin i belongs to basin j at the other value of a parameter, for starts drawn at
    random and labels that mean the same (`landscape.continuation`). Rows of empty basins are NaN. Negative labels, and
    their partners, are left out. Raises ValueError for shapes that differ.
    Source: Kaszás, Feudel, Tél, Sci. Rep. 9 (2019) 8654.
    """
    if np.shape(before) != np.shape(after):
        raise ValueError(f"before has shape {np.shape(before)} and after {np.shape(after)}: give labels of one set")
    known = (np.asarray(before) >= 0) & (np.asarray(after) >= 0)
    counts = np.zeros((kinds, kinds), int)
    np.add.at(counts, (np.asarray(before)[known], np.asarray(after)[known]), 1)
    trials = counts.sum(1, keepdims=True)
    found = proportion(counts, np.maximum(trials, 1))
    return Proportion(*(np.where(trials > 0, values, np.nan) for values in found))


def convergence_times(found: BasinMap) -> np.ndarray:
    """Steps until each run was seen at rest, of the map's shape, NaN where it came to rest at no minimum.

    Runs are checked 40 times, so a time is above the true one by up to a 40th of the run.
    """
    steps = np.reshape(np.asarray(found.ends.steps, np.float64), found.shape)
    return np.where(found.outcome == Outcome.SETTLED, steps, np.nan)


def _boxes(labels: np.ndarray, side: int) -> np.ndarray:
    """The whole boxes of a map, (boxes, pixels)."""
    labels = np.asarray(labels)
    checked_count("side", side, 2)
    if min(labels.shape) < side:
        raise ValueError(f"side is {side}, the map has shape {labels.shape}: a box must fit in it")
    whole = tuple(size // side for size in labels.shape)
    cut = labels[tuple(slice(0, side * number) for number in whole)]
    split = cut.reshape([size for number in whole for size in (number, side)])
    order = [*range(0, split.ndim, 2), *range(1, split.ndim, 2)]
    return split.transpose(order).reshape(math.prod(whole), -1)


def _box_entropies(boxes: np.ndarray) -> np.ndarray:
    total = np.zeros(len(boxes))
    for kind in np.unique(boxes):
        share = np.mean(boxes == kind, axis=1)
        total -= share * np.log(np.where(share > 0, share, 1))
    return np.where(np.all(boxes == boxes[:, :1], axis=1), 0.0, total)


def _binary_entropy(share: np.ndarray) -> np.ndarray:
    return -share * np.log(share) - (1 - share) * np.log1p(-share)


def _disc(radius: int) -> np.ndarray:
    """The offsets (pixels, 2) within `radius`."""
    axis = np.arange(-radius, radius + 1)
    offsets = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    return offsets[np.sum(offsets**2, axis=1) <= radius**2]


def _mixed_cells(labels: np.ndarray) -> np.ndarray:
    """Whether the corners of each cell between pixels differ; one less than the map along each axis."""
    corners = [
        labels[tuple(slice(c, c + size - 1) for c, size in zip(corner, labels.shape, strict=True))]
        for corner in itertools.product((0, 1), repeat=labels.ndim)
    ]
    return np.any([corner != corners[0] for corner in corners[1:]], axis=0)
