"""Sets of critical points: the branches they have, and their dimension, by walking inside them.

A walk is a step that Levenberg-Marquardt and Newton's method bring back to the set, `Landing`. Two points belong to the
same branch where landing midpoints of midpoints makes a path between them inside the set; so the number of branches is
an upper bound. The dimension is the number of zero eigenvectors along which one can walk on, alone and together.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from landscape.critical.catalogue import Ends
from landscape.critical.classification import counts
from landscape.critical.exploration import explore
from landscape.critical.iteration import block_size, newton
from landscape.critical.local import dense_hessian, loss_tolerance, rounding, rows, stacked
from landscape.problem import Problem
from landscape.sweep import sweep

PyTree = Any

SAME_FLAT = 1e-4  # points nearer than this, in units of 1 + |x|, are one where the Hessian is singular
STRIDE = 1e-3  # length of a walk along a zero eigenvector, in units of 1 + |x|
MEMBERS = 32  # points that stand for a set
HALVINGS = 4  # times that midpoints are landed between the points of a path
LEAP = 4  # neighbours on the path may be this many times as far apart as they would be on the line
PROBED = 8  # of these, far apart, at which the dimension is measured
LANDING = 40  # steps of Newton's method back to a set, from nearby
ROUNDS = 24  # of trying to join each branch to its nearest neighbour not yet tried


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


Landing = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]  # points (k, n) -> where they land, whether inside


def classified(ends: Ends, curvature: float) -> Points:
    """The end points with their inertia; `curvature` is the typical size of the Hessian."""
    x = rows(ends.params)
    norm = np.max(np.abs(ends.eigenvalues), axis=1)
    tolerance = rounding(x.shape[1], x.dtype) * np.maximum(norm, curvature) + ends.uncertainty
    inertia = counts(ends.eigenvalues, tolerance)
    return Points(x, ends.loss, ends.gradient_norm, ends.distance, ends.eigenvalues, tolerance, inertia)


def branches(x: np.ndarray, land: Landing, size: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows that stand for all, the branch of each of these, and each row's nearest of them.

    They are far apart, but not farther out than `size` or twice the typical row: there branches come so close to each
    other that a path may jump. What they leave out is asked of others, evenly from all such rows: one that no path
    joins to its nearest of them stands for itself.
    """
    norm = np.linalg.norm(x, axis=1)
    inner = np.flatnonzero(norm <= max(size, 2 * float(np.median(norm))))
    chosen = inner[_spread(x[inner])]
    others = inner[:: max(1, len(inner) // MEMBERS)]
    near = chosen[_nearest(x[others], x[chosen])]
    apart = np.linalg.norm(x[others] - x[near], axis=1) > SAME_FLAT * (1 + norm[others])
    others, near = others[apart], near[apart]
    if len(others):
        chosen = np.concatenate([chosen, others[~_joined(x[others], x[near], land)]])
    return chosen, _components(x[chosen], land), _nearest(x, x[chosen])


def dimension(problem: Problem, x: np.ndarray, nullity: int, land: Landing) -> int:
    """Along how many zero eigenvectors one can walk on inside the set, at that of the first rows where most lead on.

    Only rows count where one can walk along all these at once: where planes of a set cross, each leads on by itself.
    Eigenvectors next to the axes are taken: where the whole Hessian vanishes no others may lie in the set.
    """

    def walk(base: np.ndarray, way: np.ndarray) -> np.ndarray:
        stride = STRIDE * (1 + np.linalg.norm(base, axis=1))
        ahead = base + stride[:, None] * way
        landed, inside = land(ahead)
        return inside & (np.linalg.norm(landed - ahead, axis=1) < stride / 2)

    x = x[:PROBED]
    matrices = sweep(dense_hessian, stacked(problem, x), problem, block=1)
    null = np.array([_null_vectors(matrix, nullity) for matrix in matrices])
    alone = walk(np.repeat(x, nullity, axis=0), null.reshape(-1, x.shape[1])).reshape(len(x), nullity)
    unequal = 1 + np.arange(nullity) / nullity  # parts, lest the set has their symmetry
    together = np.einsum("ki,kij->kj", alone * unequal, null)
    size = np.linalg.norm(together, axis=1)
    some = size > 0
    found = np.zeros(len(x), bool)
    if some.any():
        found[some] = walk(x[some], together[some] / size[some, None])
    return int(np.max(np.where(found, alone.sum(axis=1), 0)))


def landing(problem: Problem, points: Points, curvature: float, lanes: int) -> Landing:
    """Levenberg-Marquardt and Newton's method as a projection onto the set of these points."""

    block = block_size(problem, 1)
    piece = block * min(-(-lanes // block), jax.local_device_count())  # as wide as the starts: their program serves

    def land(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        padded = np.concatenate([x, np.repeat(points.x[:1], -len(x) % piece, axis=0)])  # these have arrived
        parts = [_landed(problem, stacked(problem, part)) for part in np.split(padded, len(padded) // piece)]
        ends = jax.tree.map(lambda *leaves: np.concatenate(leaves)[: len(x)], *parts)
        there = classified(ends, curvature)
        alike = np.all(there.inertia == points.inertia[0], axis=1)
        inside = np.abs(there.loss - points.loss[0]) <= 2 * loss_tolerance(points.loss[0])
        return there.x, ends.converged & alike & inside

    return land


def reach(problem: Problem) -> float:
    """How far from the origin the problem's box reaches; 0 where it has none."""
    if problem.box is None:
        return 0.0
    corners = zip(jax.tree.leaves(problem.box.lower), jax.tree.leaves(problem.box.upper), strict=True)
    return float(np.sqrt(sum(np.sum(np.maximum(np.abs(low), np.abs(high)) ** 2) for low, high in corners)))


def _landed(problem: Problem, starts: PyTree) -> Ends:
    """Levenberg-Marquardt goes to the nearest part of a set, where Newton's method may leap; then that polishes."""
    near = explore(problem, starts, "levenberg_marquardt", steps=LANDING)
    return newton(problem, near.params, came=near.came, steps=LANDING)


def _spread(x: np.ndarray) -> np.ndarray:
    """Rows far apart, at most MEMBERS of them, that leave no row far from all."""
    chosen = [int(np.argmin(np.linalg.norm(x, axis=1)))]
    distance = np.linalg.norm(x - x[chosen[0]], axis=1)
    size = 1 + np.linalg.norm(x, axis=1)
    while len(chosen) < MEMBERS and np.max(distance / size) > SAME_FLAT:
        chosen.append(int(np.argmax(distance / size)))
        distance = np.minimum(distance, np.linalg.norm(x - x[chosen[-1]], axis=1))
    return np.array(chosen)


def _nearest(x: np.ndarray, members: np.ndarray) -> np.ndarray:
    """For each row of x the nearest row of `members`."""
    return np.argmin([np.linalg.norm(x - member, axis=1) for member in members], axis=0)


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


def _null_vectors(matrix: np.ndarray, nullity: int) -> np.ndarray:
    """An orthonormal basis, in rows, of the eigenvectors of the smallest |λ|: the axes' projections, longest first."""
    values, vectors = np.linalg.eigh(matrix)
    null = vectors[:, np.argsort(np.abs(values))[:nullity]]
    rest, basis = null @ null.T, []
    for _ in range(nullity):
        column = rest[:, np.argmax(np.linalg.norm(rest, axis=0))]
        basis.append(column / np.linalg.norm(column))
        rest = rest - np.outer(basis[-1], basis[-1] @ rest)
    return np.array(basis)
