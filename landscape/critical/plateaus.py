"""Plateaus of rounding: where a tail's gradient has underflowed, a point looks as one on a valley does.

Nothing at the point itself tells them apart, nor how a start got there that began on the plateau. But other starts
walked out on the same tail, until their gradient vanished amid long steps. A point is taken for one of the tail's where
on the straight way to one of these starts' ends, that is not too near,

    the loss stays between its values at the two ends, but
    beyond the ends, thirty times as far, it does not stay there.

The first leaves all valleys that bend, the second those that do not. What is exactly flat, as losses in pieces are
where a ReLU is dead, cannot be told from what rounding made so, and is taken for a tail where starts jump into it.
Where tails fill most of the space, as those of exp(-|x|²) do in three dimensions and more, straight ways seldom meet
what is not the tail, and some of its points pass for a set.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from landscape.critical.catalogue import Ends, Status
from landscape.critical.local import loss_tolerance, rounding, rows, stacked
from landscape.problem import Problem
from landscape.sweep import sweep

PyTree = Any

WITNESSES = 256  # starts that vanished, evenly from all
ASKED = 4  # of these, the nearest
FAR = 0.03  # of 1 + |x|: a nearer one may have vanished at the point itself, where that is flat enough
BEYOND = 30  # times the way, added at each end
BETWEEN = 64  # points on a straight way
LINES = 256  # at once, with all their points
BLURRED, CLEAR = 64, 1e6  # last bits of the loss by which rounding may leave an interval, and by which it does not


def on_plateau(problem: Problem, ends: Ends, curvature: float) -> np.ndarray:
    """Which ends that were accepted lie on a tail that starts walked out on, until they vanished; (lanes,) bool.

    Ends that are found to lie there are witnesses to the others. Eigenvalues are zero relative to the Hessian at the
    lane's own start too, since `curvature`, the median of all, is 0 where most starts are on plateaus.
    """
    scale = np.maximum(np.max(np.abs(ends.eigenvalues), axis=1), np.fmax(ends.curvature, curvature))
    tolerance = rounding(ends.eigenvalues.shape[1], ends.loss.dtype) * scale + ends.uncertainty
    null = np.sum(np.abs(ends.eigenvalues) <= tolerance[:, None], axis=1)
    known, lanes = np.flatnonzero(ends.status == Status.VANISHED), np.flatnonzero(ends.converged & (null > 0))
    found = np.zeros(len(null), bool)
    if not (len(known) and len(lanes)):
        return found
    x, loss = rows(ends.params), np.asarray(ends.loss)
    while len(lanes) and len(known):
        joined = _joined(problem, x, loss, lanes, known[:: -(-len(known) // WITNESSES)])
        known, lanes = lanes[joined], lanes[~joined]
        found[known] = True
    return found


def _joined(problem: Problem, x: np.ndarray, loss: np.ndarray, lanes: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Whether a way of a tail leads from each lane to one of the nearest known ones of the same loss, not too near."""
    apart = np.array([np.linalg.norm(x[known] - row, axis=1) for row in x[lanes]])
    alike = np.abs(loss[known] - loss[lanes, None]) <= loss_tolerance(loss[lanes, None])
    alike &= apart > FAR * (1 + np.linalg.norm(x[lanes], axis=1, keepdims=True))
    nearest = np.argsort(np.where(alike, apart, np.inf), axis=1)[:, :ASKED]
    lane, place = np.nonzero(np.take_along_axis(alike, nearest, axis=1))
    joined = np.zeros(len(lanes), bool)
    if len(lane):
        a, b = lanes[lane], known[nearest[lane, place]]
        interval, way = np.sort([loss[a], loss[b]], axis=0), x[b] - x[a]
        level = _within(problem, x[a], x[b], interval, BLURRED)
        further = _within(problem, x[a] - BEYOND * way, x[b] + BEYOND * way, interval, CLEAR)
        joined[lane[level & ~further]] = True
    return joined


def _within(problem: Problem, a: np.ndarray, b: np.ndarray, interval: np.ndarray, bits: float) -> np.ndarray:
    """Whether the loss stays within the interval, to so many bits, on the straight ways from a to b, row by row."""
    least, most = sweep(_extremes, (stacked(problem, a), stacked(problem, b - a)), problem, block=LINES)
    blur = bits * np.finfo(least.dtype).eps * np.max(np.abs(interval), axis=0)
    return (least >= interval[0] - blur) & (most <= interval[1] + blur)


def _extremes(line: tuple[PyTree, PyTree], problem: Problem) -> tuple[jax.Array, jax.Array]:
    """The least and the largest loss between the ends of a line (beginning, way); a NaN is both."""
    at = lambda t: problem.at(jax.tree.map(lambda x, way: x + t * way, *line))  # noqa: E731
    loss = jax.vmap(at)(jnp.arange(1, BETWEEN + 1) / (BETWEEN + 1))
    return jnp.min(loss), jnp.max(loss)
