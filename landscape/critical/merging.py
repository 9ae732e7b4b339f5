"""From end points to entries: each one's inertia by Weyl's bound, and the distinct ones among them.

An eigenvalue counts as zero within

    tolerance = 50 n eps max(|H(x)|, median |H(start)|) + 2 max |H(x + v) - H(x)|,

v being what is left of the way to the limit along the last step; or, in a fixed direction, as far as the limit may be,
at least 8 eps (1 + |x|) in each coordinate. Relative to |H(x)| alone it would mislabel points where H vanishes; a fixed
number would mislabel x² + 1e-6 y².

Regular points are merged by distance. Of a set of critical points no start hits the same one twice: its points are
merged by loss and inertia, and told from points by walking, as `sets` does.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from landscape.critical import sets
from landscape.critical.catalogue import Ends, Entry, Kind, Status
from landscape.critical.classification import undecided
from landscape.critical.local import dense_hessian, loss_tolerance, stacked
from landscape.critical.plateaus import on_plateau
from landscape.critical.probing import probe
from landscape.critical.sets import MEMBERS, SAME_FLAT, Points, classified
from landscape.critical.symmetry import orbit, same
from landscape.problem import Problem
from landscape.sweep import sweep

PyTree = Any

LAST = 100  # last bits of the loss's terms: branches of a set whose losses differ by more are two sets
STEEPER = 30  # times as large as elsewhere on its set: a Hessian whose small eigenvalues rounding hides


def merged(problem: Problem, ends: Ends) -> tuple[Ends, tuple[Entry, ...]]:
    """The ends with the final verdict on what is degenerate, and the distinct points and sets, lowest loss first."""
    finite = np.isfinite(ends.curvature)
    curvature = float(np.median(ends.curvature[finite])) if finite.any() else 0.0
    vanished = on_plateau(problem, ends, curvature)
    ends = ends._replace(status=np.where(vanished, Status.VANISHED, ends.status).astype(np.int8))
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
    inside = sets.landing(problem, points, curvature, lanes)
    chosen, branch, nearest = sets.branches(points.x, inside, sets.reach(problem))
    x = points.x[chosen]
    centres = [min(np.flatnonzero(branch == b), key=lambda i: np.linalg.norm(x[i])) for b in range(branch.max() + 1)]
    sizes, hits = np.bincount(branch), np.bincount(branch[nearest], minlength=len(centres))
    dimension = sets.dimension(problem, x, int(points.inertia[0, 1]), inside)
    dimension = max(dimension, int(sizes.max() > 1))
    together = _level(points.at(chosen[centres])) if dimension else [[b] for b in range(len(centres))]
    entries = []
    for branches in together:
        centre = min((centres[b] for b in branches), key=lambda i: np.linalg.norm(x[i]))
        mine = np.isin(branch, branches)
        numbers = np.searchsorted(branches, branch[mine])
        found = points.at(chosen[centre])
        entries.append(_entry(problem, found, int(hits[branches].sum()), dimension, x[mine], numbers))
    return entries if dimension or not problem.symmetries else _equivalent(problem, entries)


def _level(centres: Points) -> list[list[int]]:
    """Branches of a set, by their centres, in lists of those whose losses rounding does not tell apart.

    The loss comes of terms as large as |H| |x|² may be, whose rounding errors it has.
    """
    terms = 1 + np.abs(centres.loss) + np.max(np.abs(centres.eigenvalues), axis=1) * np.sum(centres.x**2, axis=1)
    order, error = np.argsort(centres.loss), LAST * np.finfo(np.float64).eps * terms
    apart = np.diff(centres.loss[order]) > error[order][1:] + error[order][:-1]
    return [sorted(map(int, group)) for group in np.split(order, np.flatnonzero(apart) + 1)]


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
