"""The points that a problem's symmetries make of one: its orbit, by applying the generators until nothing is new."""

import jax
import numpy as np

from landscape.critical.local import rows, stacked
from landscape.problem import Problem, check_unchanged
from landscape.sweep import sweep

MOST = 5000  # an orbit of as many points is cut off: it may have more, and what lies beyond is not merged
SAME = 1e-6  # points nearer than this, in units of 1 + |x|, are one


def orbit(problem: Problem, x: np.ndarray) -> np.ndarray:
    """(m, n): `x`, first, and every other point that the problem's `symmetries` make of it: all if m < MOST, else some.

    Raises ValueError where a symmetry changes the loss.
    """
    found = fresh = x[None]
    while fresh.size and len(found) < MOST:
        points = stacked(problem, fresh)
        images = np.concatenate([rows(sweep(generator, points, block=64)) for generator in problem.symmetries])
        _check(problem, x, images)
        new = _distinct(np.concatenate([found, images]))[len(found) :]
        found, fresh = np.concatenate([found, new]), new
    return found[:MOST]


def same(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(len(a),): whether each row of `a` is, to `SAME`, one of the rows of `b`."""
    size = SAME * (1 + np.linalg.norm(a, axis=1))
    return np.array([np.min(np.linalg.norm(b - row, axis=1)) <= near for row, near in zip(a, size, strict=True)])


def _distinct(x: np.ndarray) -> np.ndarray:
    """The rows without repetitions, in order.

    Rows that are one have projections as near as they: only neighbours in the order of a projection are compared.
    """
    direction = np.random.default_rng(0).normal(size=x.shape[1])
    projection, near = x @ (direction / np.linalg.norm(direction)), SAME * (1 + np.linalg.norm(x, axis=1))
    order, repeated = np.argsort(projection, kind="stable"), np.zeros(len(x), bool)
    for step in range(1, len(x)):
        first, second = order[:-step], order[step:]
        beside = projection[second] - projection[first] <= near[second]
        if not beside.any():
            break
        first, second = first[beside], second[beside]
        one = np.linalg.norm(x[second] - x[first], axis=1) <= near[second]
        repeated[np.maximum(first, second)[one]] = True
    return x[~repeated]


def _check(problem: Problem, x: np.ndarray, images: np.ndarray) -> None:
    loss, *others = np.asarray(sweep(_loss, stacked(problem, np.concatenate([x[None], images])), problem, block=64))
    worst = int(np.argmax(np.abs(np.array(others) - loss)))
    check_unchanged(problem.name, loss, others[worst], float(np.finfo(np.float64).eps))


def _loss(params, problem: Problem) -> jax.Array:
    return problem.at(params)
