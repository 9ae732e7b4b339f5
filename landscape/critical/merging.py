"""From end points to entries: each one's inertia by Weyl's bound, and the distinct ones among them.

An eigenvalue counts as zero within

    tolerance = 50 n eps max(|H(x)|, median |H(start)|) + 2 |H(x + d u) - H(x)|,

d being the estimated distance to the limit, u the last step. Relative to |H(x)| alone it would mislabel points where
H vanishes; a fixed number would mislabel x² + 1e-6 y².

Regular points are merged by distance. Of a set of critical points no start hits the same one twice: its points are
merged by loss and inertia, and told from points by walking: a step along a zero eigenvector that Newton's method
brings back to the set but not to where it began. Two points belong to the same branch where Newton's method, landing
midpoints of midpoints, makes a path between them inside the set; so the number of branches is an upper bound.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from landscape.critical.catalogue import Ends, Entry, Kind, Status
from landscape.critical.classification import counts, undecided
from landscape.critical.exploration import explore
from landscape.critical.iteration import newton, width
from landscape.critical.local import dense_hessian, loss_tolerance, rounding, rows, stacked
from landscape.critical.probing import probe
from landscape.critical.symmetry import orbit, same
from landscape.problem import Problem
from landscape.sweep import sweep

PyTree = Any

SAME_FLAT = 1e-4  # points nearer than this, in units of 1 + |x|, are one where the Hessian is singular
STRIDE = 1e-3  # length of a walk along a zero eigenvector, in units of 1 + |x|
MEMBERS = 32  # points that stand for a set
HALVINGS = 4  # times that midpoints are landed between the points of a path
LEAP = 4  # neighbours on the path may be this many times as far apart as they would be on the line
LANDING = 40  # steps of Newton's method back to a set, from nearby
PROBED = 4  # branches at whose centres the dimension is measured; the largest counts
STEEPER = 30  # times as large as elsewhere on its set: a Hessian whose small eigenvalues rounding hides
ROUNDS = 12  # of trying to join each branch to its nearest neighbour not yet tried


class Points(NamedTuple):
    """Accepted end points, flattened; one a row."""

    x: np.ndarray  # (m, n)
    loss: np.ndarray
    gradient_norm: np.ndarray
    distance: np.ndarray
    eigenvalues: np.ndarray  # (m, n)
    tolerance: np.ndarray
    inertia: np.ndarray  # (m, 3)

    def at(self, chosen: Any) -> "Points":
        """Some of them."""
        return Points(*(field[chosen] for field in self))


Landing = Callable[
    [np.ndarray], tuple[np.ndarray, np.ndarray]
]  # points (k, n) -> where Newton goes, and whether inside


def merged(problem: Problem, ends: Ends) -> tuple[Ends, tuple[Entry, ...]]:
    """The ends with the final verdict on what is degenerate, and the distinct points and sets, lowest loss first."""
    finite = np.isfinite(ends.curvature)
    curvature = float(np.median(ends.curvature[finite])) if finite.any() else 0.0
    accepted = ends.converged
    points = classified(ends, curvature).at(accepted)
    points = points._replace(inertia=_resolved(points))
    status = np.array(ends.status)
    status[accepted] = np.where(points.inertia[:, 1] > 0, Status.DEGENERATE, Status.CONVERGED)
    entries: list[Entry] = []
    for group in _groups(points):
        if group.inertia[0, 1] == 0:
            entries += _isolated(problem, group)
        else:
            entries += _sets(problem, group, curvature, len(status))
    order = sorted(entries, key=lambda entry: (round(entry.loss, 9), entry.inertia, -entry.hits))
    return ends._replace(status=status), tuple(order)


def classified(ends: Ends, curvature: float) -> Points:
    """The end points with their inertia; `curvature` is the typical size of the Hessian."""
    x = rows(ends.params)
    norm = np.max(np.abs(ends.eigenvalues), axis=1)
    tolerance = rounding(x.shape[1], x.dtype) * np.maximum(norm, curvature) + ends.uncertainty
    inertia = counts(ends.eigenvalues, tolerance)
    return Points(x, ends.loss, ends.gradient_norm, ends.distance, ends.eigenvalues, tolerance, inertia)


def _groups(points: Points) -> Iterator[Points]:
    """The points by inertia and, where the Hessian is singular, by loss."""
    for same_inertia in np.unique(points.inertia, axis=0):
        alike = points.at(np.all(points.inertia == same_inertia, axis=1))
        order = np.argsort(alike.loss)
        gaps = np.diff(alike.loss[order]) > loss_tolerance(alike.loss[order][1:])
        for together in np.split(order, np.flatnonzero(gaps) + 1) if same_inertia[1] else [order]:
            yield alike.at(together)


def _resolved(points: Points) -> np.ndarray:
    """The inertia of each point, or that of the set it lies on: far out, curvatures differ by more than the digits."""
    inertia, norm = points.inertia.copy(), np.max(np.abs(points.eigenvalues), axis=1)
    for row in np.argsort(norm)[::-1]:
        mine = points.inertia[row]
        finer = (points.inertia[:, [0, 2]] >= mine[[0, 2]]).all(axis=1) & (points.inertia[:, 1] < mine[1])
        level = np.abs(points.loss - points.loss[row]) <= loss_tolerance(points.loss[row])
        nearby = np.flatnonzero(finer & level & (points.inertia[:, 1] > 0) & (norm * STEEPER < norm[row]))
        if nearby.size:
            found, often = np.unique(points.inertia[nearby], axis=0, return_counts=True)
            inertia[row] = found[np.argmax(often)]
    return inertia


def _isolated(problem: Problem, points: Points) -> list[Entry]:
    """One entry for every cluster of regular points, and for all that the problem's symmetries make of it."""
    entries = []
    while points.loss.size:
        sharpest = int(np.argmin(points.gradient_norm))
        best = points.at(sharpest)
        copies = orbit(problem, best.x) if problem.symmetries else best.x[None]
        near = same(points.x, copies)
        near[sharpest] = True
        entry = _entry(problem, best, int(near.sum()), 0, copies[:MEMBERS], np.zeros(len(copies[:MEMBERS]), int))
        entries.append(dataclasses.replace(entry, multiplicity=len(copies)))
        points = points.at(~near)
    return entries


def _sets(problem: Problem, points: Points, curvature: float, lanes: int) -> list[Entry]:
    """One entry for a set of one loss and inertia; where there is no way to walk on, one for each degenerate point."""
    chosen, nearest = _spread(points.x)
    x, inside = points.x[chosen], _landing(problem, points, curvature, lanes)
    branch = _components(x, inside)
    centres = [min(np.flatnonzero(branch == b), key=lambda i: np.linalg.norm(x[i])) for b in range(branch.max() + 1)]
    sizes, hits = np.bincount(branch), np.bincount(branch[nearest], minlength=len(centres))
    first = sorted(centres, key=lambda i: np.linalg.norm(x[i]))[:PROBED]
    dimension = max(_dimension(problem, x[i], int(points.inertia[0, 1]), inside) for i in first)
    dimension = max(dimension, int(sizes.max() > 1))
    together = [list(range(len(centres)))] if dimension else [[b] for b in range(len(centres))]
    entries = []
    for branches in together:
        centre = min((centres[b] for b in branches), key=lambda i: np.linalg.norm(x[i]))
        mine = np.isin(branch, branches)
        numbers = np.searchsorted(branches, branch[mine])
        found = points.at(chosen[centre])
        entries.append(_entry(problem, found, int(hits[branches].sum()), dimension, x[mine], numbers))
    return entries if dimension or not problem.symmetries else _equivalent(problem, entries)


def _equivalent(problem: Problem, entries: list[Entry]) -> list[Entry]:
    """Of degenerate points that the problem's symmetries carry into each other, one, with its multiplicity."""
    chosen: list[Entry] = []
    orbits: list[np.ndarray] = []
    for entry in entries:
        x = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(entry.params)])
        near = SAME_FLAT * (1 + np.linalg.norm(x))
        known = [i for i, copies in enumerate(orbits) if np.min(np.linalg.norm(copies - x, axis=1)) <= near]
        if known:
            chosen[known[0]] = dataclasses.replace(chosen[known[0]], hits=chosen[known[0]].hits + entry.hits)
        else:
            orbits.append(orbit(problem, x))
            chosen.append(dataclasses.replace(entry, multiplicity=len(orbits[-1])))
    return chosen


def _entry(
    problem: Problem, point: Points, hits: int, dimension: int, members: np.ndarray, branch: np.ndarray
) -> Entry:
    inertia = tuple(int(count) for count in point.inertia)
    params = jax.tree.map(lambda leaf: leaf[0], stacked(problem, point.x[None]))
    found = None
    if undecided(inertia):
        matrix = sweep(dense_hessian, stacked(problem, point.x[None]), problem, block=1)[0]
        found = probe(problem, params, matrix, float(point.tolerance))
    kind = Kind.of(inertia, dimension, found)
    return Entry(
        kind=kind,
        params=params,
        loss=float(point.loss),
        gradient_norm=float(point.gradient_norm),
        distance=float(point.distance),
        eigenvalues=point.eigenvalues,
        inertia=inertia,
        tolerance=float(point.tolerance),
        hits=hits,
        multiplicity=1,
        dimension=max(dimension, int(kind in (Kind.VALLEY, Kind.CREST))),
        branches=int(branch.max()) + 1,
        members=stacked(problem, members),
        branch=branch,
    )


def _spread(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows far apart, at most MEMBERS of them, that leave no row far from all; and each row's nearest of them."""
    chosen, nearest = [int(np.argmin(np.linalg.norm(x, axis=1)))], np.zeros(len(x), int)
    distance = np.linalg.norm(x - x[chosen[0]], axis=1)
    size = 1 + np.linalg.norm(x, axis=1)
    while len(chosen) < MEMBERS and np.max(distance / size) > SAME_FLAT:
        chosen.append(int(np.argmax(distance / size)))
        new = np.linalg.norm(x - x[chosen[-1]], axis=1)
        nearest = np.where(new < distance, len(chosen) - 1, nearest)
        distance = np.minimum(distance, new)
    return np.array(chosen), nearest


def _landing(problem: Problem, points: Points, curvature: float, lanes: int) -> Landing:
    """Levenberg-Marquardt and Newton's method as a projection onto the set of these points."""

    block = width(problem)
    piece = block * min(-(-lanes // block), jax.local_device_count())  # as wide as the starts: their program serves

    def land(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        padded = np.concatenate([x, np.repeat(x[-1:], -len(x) % piece, axis=0)])
        parts = [_landed(problem, stacked(problem, part)) for part in np.split(padded, len(padded) // piece)]
        ends = jax.tree.map(lambda *leaves: np.concatenate(leaves)[: len(x)], *parts)
        there = classified(ends, curvature)
        alike = np.all(there.inertia == points.inertia[0], axis=1)
        inside = np.abs(there.loss - points.loss[0]) <= 2 * loss_tolerance(points.loss[0])
        return there.x, ends.converged & alike & inside

    return land


def _landed(problem: Problem, starts: PyTree) -> Ends:
    """Levenberg-Marquardt goes to the nearest part of a set, where Newton's method may leap; then that polishes."""
    near = explore(problem, starts, "levenberg_marquardt", steps=LANDING)
    return newton(problem, near.params, steps=LANDING)


def _components(x: np.ndarray, land: Landing) -> np.ndarray:
    """The branch of each row, counted from 0: shortest possible links first, as in Borůvka's spanning tree."""
    branch = np.arange(len(x))
    length = np.linalg.norm(x[:, None] - x[None], axis=2)
    for _ in range(ROUNDS):
        length[branch[:, None] == branch[None]] = np.inf
        found = [_shortest(length, np.flatnonzero(branch == b)) for b in np.unique(branch)]
        links = {link for link in found if link is not None}
        if not links:
            break
        first, second = np.array(sorted(links)).T
        length[first, second] = length[second, first] = np.inf
        joined = _joined(x[first], x[second], land)
        for i, j in zip(first[joined], second[joined], strict=True):
            branch[branch == branch[j]] = branch[i]
    return np.unique(branch, return_inverse=True)[1]


def _shortest(length: np.ndarray, own: np.ndarray) -> tuple[int, int] | None:
    """The shortest untried link from one of these rows."""
    place, other = np.unravel_index(np.argmin(length[own]), (len(own), length.shape[1]))
    row = own[place]
    return (int(min(row, other)), int(max(row, other))) if np.isfinite(length[row, other]) else None


def _joined(a: np.ndarray, b: np.ndarray, land: Landing) -> np.ndarray:
    """Whether Newton's method makes a path inside the set from a to b, by landing midpoints between its points."""
    path, joined = np.stack([a, b], axis=1), np.ones(len(a), bool)
    for _ in range(HALVINGS):
        middle = (path[:, :-1] + path[:, 1:]) / 2
        landed, inside = land(middle[joined].reshape(-1, a.shape[1]))
        between = np.array(middle)
        between[joined] = landed.reshape(middle[joined].shape)
        joined[joined] = inside.reshape(middle[joined].shape[:2]).all(axis=1)
        finer = np.empty((len(a), path.shape[1] + middle.shape[1], a.shape[1]))
        finer[:, ::2], finer[:, 1::2] = path, between
        path = finer
        if not joined.any():
            break
    gaps = np.linalg.norm(np.diff(path, axis=1), axis=2)
    return joined & (gaps.max(axis=1) <= LEAP * np.linalg.norm(b - a, axis=1) / gaps.shape[1])


def _dimension(problem: Problem, x: np.ndarray, nullity: int, land: Landing) -> int:
    """Along how many of the zero eigenvectors at x one can walk on inside the set."""
    matrix = sweep(dense_hessian, stacked(problem, x[None]), problem, block=1)[0]
    values, vectors = np.linalg.eigh(matrix)
    null = vectors[:, np.argsort(np.abs(values))[:nullity]].T
    stride = STRIDE * (1 + np.linalg.norm(x))
    landed, inside = land(x + stride * null)
    return int(np.sum(inside & (np.linalg.norm(landed - x, axis=1) > stride / 2)))
