"""The shape of basins from an array of labels: entropies, smooth or fractal, box dimension, tipping probabilities.

Arrays of labels are maps, one integer a pixel, of any number of dimensions. Negative labels mean that nothing was
decided: they are no basin, are left out of every measure, and their share is told. Where f(ε) far below a pixel is
wanted, see `landscape.uncertainty`.
"""

import itertools
import math
from typing import Any, NamedTuple

import numpy as np

from landscape.basins import BasinMap, Outcome
from landscape.estimate import Estimate, Proportion, from_samples, proportion
from landscape.problem import checked_count

TRIES = 100  # discs drawn for each that is wanted
TILE = 4  # radii: discs whose centres lie in one tile of this side are not independent
DIRECTIONS = 64  # steps through the directions of straight lines: an eighth of a turn is all there is on pixels


class Measured(NamedTuple):
    """A number measured on labels."""

    mean: float
    standard_error: float
    degrees: int | None  # of freedom of the standard error; None: many, the normal quantile
    undecided: float  # share of what was looked at that was left out, as a label was negative

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """(lower, upper) = mean -+ q standard_error, q Student's quantile."""
        return Estimate(self.mean, self.standard_error).interval(level, self.degrees)


class Entropy(NamedTuple):
    """Basin entropy, and that of the boundary alone."""

    all: Estimate  # S_b: over all boxes
    boundary: Estimate  # S_bb: over boxes of two labels or more
    boxes: int
    mixed: int  # boxes of two labels or more
    undecided: float  # share of the pixels


class Fractality(NamedTuple):
    """Whether discs on a boundary look as those on a smooth one do."""

    entropy: Measured  # S_bb over discs of two labels or more
    smooth: float  # what straight boundaries of all directions give on such discs
    directions: tuple[float, float]  # the least and the most that a straight boundary of one direction gives
    fractal: bool  # S_bb is below or above all of these, by more than its interval
    above: bool  # S_bb > ln 2, by more than its interval: fractal for certain, three labels or more
    discs: int


def entropy(labels: Any, side: int) -> Entropy:
    """S_b = mean over boxes of -Σ p ln p, p the shares of the labels in a box of `side` pixels, and S_bb.

    S_bb > ln 2 needs three labels in a box, and means a fractal boundary; below nothing follows. Boxes are disjoint,
    pixels beyond the last whole box are left out, and boxes of which more than half is not decided. The standard errors
    take boxes for independent.

    Raises ValueError for a side below 2 or beyond the map, and where fewer than two boxes are mixed.
    Source: Daza et al., Sci. Rep. 6 (2016) 31416.
    """
    boxes = _boxes(labels, side)
    found = _box_entropies(boxes)
    mixed = found[found > 0]
    if mixed.size < 2:
        raise ValueError(f"{mixed.size} boxes of {side} pixels have two labels: a boundary's entropy needs 2 or more")
    counted = found[~np.isnan(found)]
    return Entropy(from_samples(counted), from_samples(mixed), counted.size, mixed.size, float(np.mean(boxes < 0)))


def fractality(labels: Any, *, radius: int = 10, count: int = 1000, level: float = 0.99, seed: int = 0) -> Fractality:
    """The smooth-or-fractal test of S_bb on `count` random discs of `radius` pixels in a plane of labels.

    A straight boundary, seen through discs at random, has S_bb = 0.4395 as the radius grows. On pixels it depends on
    the line's direction: the boundary counts as fractal at this scale if the interval of `level` misses all that
    straight lines give (`directions`). Corners and curves of the disc's size look fractal too. Discs overlap: what is
    independent are tiles of 4 radii, placed at random; the error is that of their mean, the interval Student's t of
    their number. Discs are drawn until `count` have two labels, in at most 100 times as many tries; those of which more
    than half is not decided are left out.

    Raises ValueError for a map that is no plane, is smaller than a disc, or shows too few mixed discs, or one tile.
    Source: Puy, Daza, Wagemakers, Sanjuán, Commun. Nonlinear Sci. Numer. Simulat. 95 (2021) 105588.
    """
    labels = checked_labels(labels)
    checked_count("count", count, 2, why=": a standard error needs them")
    checked_count("radius", radius, 2)
    if labels.ndim != 2 or min(labels.shape) <= 2 * radius:
        raise ValueError(f"labels has shape {labels.shape}: give a plane of more than {2 * radius} pixels a side")
    rng = np.random.default_rng(seed)
    entropies, centres, lost = _mixed_discs(labels, radius, count, rng)
    if entropies.size < count:
        raise ValueError(
            f"{entropies.size} of {TRIES * count} discs show two labels: enlarge the boundary, or the radius"
        )
    tile = (centres + rng.integers(TILE * radius, size=2)) // (TILE * radius)
    measured = _tile_mean(entropies, tile[:, 0] * (labels.shape[1] + 1) + tile[:, 1], lost)
    straight = _straight(radius)[0]
    least, most = float(straight.min()), float(straight.max())
    low, high = measured.interval(level)
    return Fractality(
        measured,
        smooth_entropy(radius),
        (least, most),
        bool(high < least or low > most),
        bool(low > math.log(2)),
        count,
    )


def smooth_entropy(radius: int) -> float:
    """S_bb of a straight boundary on discs of so many pixels: the mean over lines in all directions and offsets.

    For large discs 2/π ∫ ... = 0.4395093: with p(t) = (arccos t - t √(1 - t²))/π beyond the distance t from the
    centre, the mean of -p ln p - (1 - p) ln(1 - p) over t in (-1, 1).
    """
    entropies, widths = _straight(radius)
    weights = widths * np.r_[0.5, np.ones(DIRECTIONS - 1), 0.5]  # trapezoids
    return float(np.average(entropies, weights=weights))


def box_dimension(labels: Any, sides: Any = None) -> Measured:
    """Minus the slope of ln N against ln s, N boxes of s cells that hold boundary: least squares over the `sides`.

    A cell lies between neighbouring pixels and holds boundary if they differ; cells with a pixel that is not decided
    hold none. N is the mean over all places of the grid of boxes, counting boxes whose centre is half the largest side
    inside the map: for every s the same region, so that what crosses the map's edge does not bend the line. Default
    sides: powers of 2 up to an eighth of the map.

    The error is no sampling error: N has none, but departs from a power on pixels and where the set has scales of its
    own. It is the scatter about the line and half the difference between the slopes of the finer and the coarser
    sides, in quadrature, with Student's t. Measured coverage of the 95 % interval: 98 to 100 % on lines, circles and
    Cantor sets at random on 257² pixels. On the Cantor sets (1.63) the value is 0.1 too low, as pixels hide the
    smallest gaps, and the interval that wide. A map's dimension is that of its scales, not the limit.

    Raises ValueError for fewer than 3 different sides, sides that leave no region, and where a side finds no boundary.
    Cost: one pass over the map a side.
    """
    labels = checked_labels(labels)
    known = labels >= 0
    cells = _mixed_cells(labels) & ~_mixed_cells(known) & known[(slice(-1),) * labels.ndim]
    chosen = _checked_sides(sides, min(cells.shape))
    shares = np.array([np.mean(_hit(cells, side, chosen[-1])) for side in chosen])
    if not np.all(shares):
        raise ValueError("labels has no boundary: all pixels are alike, but for half the largest side at the edge")
    x = np.log(chosen)
    y = np.log(shares) - labels.ndim * x
    slope, start = np.polyfit(x, y, 1)
    scatter = np.sum((y - start - slope * x) ** 2) / (len(x) - 2) / np.sum((x - x.mean()) ** 2)
    half = (len(x) + 1) // 2
    drift = (np.polyfit(x[:half], y[:half], 1)[0] - np.polyfit(x[-half:], y[-half:], 1)[0]) / 2
    return Measured(float(-slope), float(np.hypot(np.sqrt(scatter), drift)), len(x) - 2, float(np.mean(~known)))


def tipping(before: Any, after: Any, kinds: int) -> Proportion:
    """P[i, j] = |B_j(after) ∩ B_i(before)| / |B_i(before)|, with Wilson intervals; (kinds, kinds).

    The probability that a start of basin i belongs to basin j at the other value of a parameter, for starts drawn at
    random and labels that mean the same (`landscape.continuation`). Rows of empty basins are NaN. Negative labels, and
    their partners, are left out. Raises ValueError for shapes that differ, and labels of `kinds` or more.
    Source: Kaszás, Feudel, Tél, Sci. Rep. 9 (2019) 8654.
    """
    counts = _overlaps(before, after, kinds)
    return _shares(counts, counts.sum(1, keepdims=True))


def tipped(before: Any, after: Any, moves: Any) -> Proportion:
    """Σ |B_j(after) ∩ B_i(before)| / Σ |B_i(before)|: of the starts of the basins i, those that move as `moves` say.

    Pairs (i, j) are moves from basin i to j; each i counts once below. One share of all these starts with one Wilson
    interval, where the mean of the rows of `tipping` has none. NaN where the basins i are empty. Raises as `tipping`.
    """
    if not len(moves) or np.shape(moves)[1:] != (2,) or np.min(moves) < 0:
        raise ValueError(f"moves is {moves!r:.60}: give pairs of labels, (before, after)")
    counts = _overlaps(before, after, int(max(np.max(moves), np.max(before), np.max(after))) + 1)
    origins = sorted({i for i, _ in moves})
    return _shares(sum(counts[i, j] for i, j in set(map(tuple, moves))), counts[origins].sum())


def convergence_times(found: BasinMap) -> np.ndarray:
    """Steps until each run was seen at rest, of the map's shape, NaN where it came to rest at no minimum.

    Runs are checked 40 times, so a time is above the true one by up to a 40th of the run.
    """
    steps = np.reshape(np.asarray(found.ends.steps, np.float64), found.shape)
    return np.where(found.outcome == Outcome.SETTLED, steps, np.nan)


def checked_labels(labels: Any) -> np.ndarray:
    """A map of labels as an array; raises ValueError for what is none."""
    found = np.asarray(labels)
    if found.dtype.kind not in "iub" or not found.ndim or not found.size:
        raise ValueError(f"labels is {labels!r:.60}: give an array of integers, one a pixel, of one axis or more")
    return found.astype(np.int64)


def _checked_sides(sides: Any, size: int) -> list[int]:
    given: Any = [2**k for k in range(int(np.log2(max(1, size // 8))) + 1)] if sides is None else sides
    if np.ndim(given) != 1 or not all(isinstance(side, int | np.integer) and 1 <= side < size for side in given):
        raise ValueError(f"sides is {given!r:.60}: give whole numbers from 1 to {size - 1}, of the map's {size} cells")
    chosen = sorted({int(side) for side in given})
    if len(chosen) < 3:
        raise ValueError(f"sides is {given!r:.60}: a dimension needs 3 of them, so give a larger map, or more sides")
    return chosen


def _overlaps(before: Any, after: Any, kinds: int) -> np.ndarray:
    """How many starts of each basin before are in each one after; (kinds, kinds)."""
    if np.shape(before) != np.shape(after):
        raise ValueError(f"before has shape {np.shape(before)} and after {np.shape(after)}: give labels of one set")
    checked_count("kinds", kinds)
    first, second = checked_labels(before), checked_labels(after)
    most = max(first.max(), second.max())
    if most >= kinds:
        raise ValueError(f"labels go up to {most}, but kinds is {kinds}: it must be the number of labels, {most + 1}")
    known = (first >= 0) & (second >= 0)
    cells = kinds * first[known] + second[known]
    return np.bincount(cells, minlength=kinds**2).reshape(kinds, kinds)


def _shares(counts: Any, trials: Any) -> Proportion:
    """Proportions, NaN where nothing was tried."""
    found = proportion(counts, np.maximum(trials, 1))
    return Proportion(*(np.where(np.asarray(trials) > 0, values, np.nan)[()] for values in found))


def _boxes(labels: Any, side: int) -> np.ndarray:
    """The whole boxes of a map, (boxes, pixels)."""
    labels = checked_labels(labels)
    checked_count("side", side, 2)
    if min(labels.shape) < side:
        raise ValueError(f"side is {side}, the map has shape {labels.shape}: a box must fit in it")
    whole = tuple(size // side for size in labels.shape)
    cut = labels[tuple(slice(0, side * number) for number in whole)]
    split = cut.reshape([size for number in whole for size in (number, side)])
    order = [*range(0, split.ndim, 2), *range(1, split.ndim, 2)]
    return split.transpose(order).reshape(math.prod(whole), -1)


def _box_entropies(boxes: np.ndarray) -> np.ndarray:
    """-Σ p ln p of each box over its decided pixels; NaN where these are less than half."""
    total = np.zeros(len(boxes))
    alike = np.all(boxes == boxes[:, :1], axis=1)
    total[alike & (boxes[:, 0] < 0)] = np.nan
    mixed = boxes[~alike]
    decided = np.sum(mixed >= 0, axis=1)
    part = np.zeros(len(mixed))
    for kind in np.unique(mixed[mixed >= 0]):
        share = np.sum(mixed == kind, axis=1) / np.maximum(decided, 1)
        part -= share * np.log(np.where(share > 0, share, 1))
    total[~alike] = np.where(2 * decided >= boxes.shape[1], part, np.nan)
    return total


def _mixed_discs(
    labels: np.ndarray, radius: int, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, float]:
    """Entropies and centres of the first `count` random discs of two labels, and the undecided share of the pixels."""
    disc = _disc(radius)
    entropies, centres, lost = np.zeros(0), np.zeros((0, 2), int), []
    for _ in range(TRIES):
        centre = np.stack([rng.integers(radius, size - radius, count) for size in labels.shape], axis=1)
        place = centre[:, None, :] + disc
        seen = labels[place[..., 0], place[..., 1]]
        found = _box_entropies(seen)
        mixed = found > 0  # NaN is not
        entropies, centres = np.append(entropies, found[mixed]), np.concatenate([centres, centre[mixed]])
        lost.append(np.mean(seen < 0))
        if entropies.size >= count:
            break
    return entropies[:count], centres[:count], float(np.mean(lost))


def _tile_mean(values: np.ndarray, tile: np.ndarray, lost: float) -> Measured:
    """The mean, with the error of a ratio of sums over tiles: values of one tile are not independent."""
    tiles, place = np.unique(tile, return_inverse=True)
    if tiles.size < 2:
        raise ValueError(
            "all discs on the boundary lie in one tile of 4 radii: enlarge the map, or take a smaller radius"
        )
    excess = np.bincount(place, values - values.mean())
    variance = np.sum(excess**2) * tiles.size / (tiles.size - 1) / values.size**2
    return Measured(float(values.mean()), float(np.sqrt(variance)), tiles.size - 1, lost)


def _straight(radius: int) -> tuple[np.ndarray, np.ndarray]:
    """S_bb of straight lines on discs of pixels, by direction, 0 to π/4, and over what width lines meet them."""
    disc = _disc(radius)
    below = _binary_entropy(np.arange(1, len(disc)) / len(disc))
    entropies, widths = [], []
    for angle in np.linspace(0, np.pi / 4, DIRECTIONS + 1):
        height = np.sort(disc @ np.array([np.cos(angle), np.sin(angle)]))
        widths.append(height[-1] - height[0])
        entropies.append(np.sum(np.diff(height) * below) / widths[-1])
    return np.array(entropies), np.array(widths)


def _hit(cells: np.ndarray, side: int, largest: int) -> np.ndarray:
    """Whether a box of `side` cells holds boundary, for all places with its centre in the region of the largest box."""
    held = cells.astype(np.int64)
    for axis in range(cells.ndim):
        total = np.cumsum(np.insert(held, 0, 0, axis=axis), axis=axis)
        size = total.shape[axis]
        held = np.take(total, range(side, size), axis) - np.take(total, range(size - side), axis)
    cut = (largest - side) // 2
    return held[tuple(slice(cut, size - cut) for size in held.shape)] > 0


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
