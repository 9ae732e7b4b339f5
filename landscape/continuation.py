"""Basins along a hyper-parameter: the same starts at many values, with outcomes that keep their names from one to the
next."""

import dataclasses
from typing import Any

import jax
import numpy as np

from landscape import basins, descent, geometry
from landscape.basins import OTHERS, BasinMap, Outcome
from landscape.estimate import Proportion, proportion
from landscape.labelling import UNKNOWN, by_name
from landscape.plane import Grid
from landscape.problem import Problem
from landscape.starts import checked_starts
from landscape.sweep import sweep

PyTree = Any

MOST = 64  # isolated minima at one value; more are a valley


@dataclasses.dataclass(frozen=True)
class Continuation:
    """The outcomes of the same starts at each value of a hyper-parameter."""

    along: str
    values: np.ndarray  # (m,)
    names: tuple[str, ...]  # of the labels: minima, then the outcomes that lead to none
    labels: np.ndarray  # (m, *shape of the starts), indices into `names`; negative where nothing was decided
    places: np.ndarray  # (m, k, parameters) mean end point of the runs at each minimum; NaN where none ended

    def shares(self) -> Proportion:
        """The share of the decided starts of each label at each value, (m, names), with intervals."""
        flat = self.labels.reshape(len(self.values), -1)
        counts = np.stack([np.sum(flat == i, axis=1) for i in range(len(self.names))], axis=1)
        return proportion(counts, np.maximum(counts.sum(1, keepdims=True), 1))

    def tipping(self, before: int, after: int) -> Proportion:
        """The tipping probabilities between the values of two indices: see `geometry.tipping`."""
        return geometry.tipping(self.labels[before], self.labels[after], len(self.names))


def continued(
    problem: Problem,
    starts: Any,
    *,
    optimizer: descent.Optimizer,
    hyper: dict[str, Any],
    along: str,
    values: Any,
    steps: int = 2000,
    reach: float = 0.01,
    **options: Any,
) -> Continuation:
    """The outcomes of `starts` at each of the `values` of the hyper-parameter `along`.

    A minimum is a branch, where the problem has `branches`. Else end points within `reach` (1 + |w|) of each other are
    one minimum, and the minimum at the next value that is nearest, by pairs in order of distance, is the same one,
    however far; the rest are new. One that vanishes keeps its name, should it come back. All starts at all values
    are lanes of one sweep; a start has the same noise at every value.

    Raises as `basins.map`, ValueError for `values` that are no list of numbers, and for more than 64 minima at one
    value: then they are a valley, and only `branches` can tell its parts apart.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not values.size or not np.all(np.isfinite(values)):
        raise ValueError(f"values is {values!r:.60}: give a list of finite numbers, the values of {along}")
    starts, _ = checked_starts(problem, starts)
    points = sweep(_embedded, starts, starts) if isinstance(starts, Grid) else starts
    count, times = jax.tree.leaves(points)[0].shape[0], len(values)
    lanes = jax.tree.map(lambda leaf: np.tile(leaf, (times,) + (1,) * (leaf.ndim - 1)), points)
    hyper = hyper | {along: np.repeat(values, count)}
    seeds = np.tile(np.arange(count), times)
    found = basins.map(problem, lanes, optimizer=optimizer, hyper=hyper, steps=steps, seeds=seeds, **options)
    minima, labels, places = _minima(found, times, reach)
    shape = starts.shape if isinstance(starts, Grid) else (count,)
    return Continuation(along, values, minima + tuple(OTHERS), labels.reshape(times, *shape), places)


def _embedded(coordinates: tuple, grid: Grid) -> PyTree:
    return grid.embed(coordinates)


def _minima(found: BasinMap, times: int, reach: float) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """The minima's names, the labels (values, lanes) and the minima's places (values, minima, parameters)."""
    ends = np.concatenate([np.reshape(leaf, (found.labels.size, -1)) for leaf in jax.tree.leaves(found.ends.params)], 1)
    ends = np.asarray(ends, np.float64).reshape(times, -1, ends.shape[-1])
    labels, outcome = by_name(found).reshape(times, -1), found.outcome.reshape(times, -1)
    at_minimum = np.isin(outcome, (Outcome.SETTLED, Outcome.HOVERING))
    own = found.problem.branches
    kinds = labels if own else _clusters(ends, at_minimum, reach)
    kinds = np.where(at_minimum, kinds, UNKNOWN)
    total = len(own) if own else kinds.max() + 1
    others = labels - (len(found.names) - len(OTHERS)) + total  # where the names of the others begin
    labels = np.where(at_minimum, kinds, np.where(labels == UNKNOWN, UNKNOWN, others))
    places = np.full((times, total, ends.shape[-1]), np.nan)
    for i, kind in zip(*np.nonzero([[np.any(row == k) for k in range(total)] for row in kinds]), strict=True):
        places[i, kind] = ends[i][kinds[i] == kind].mean(axis=0)
    return own or tuple(f"minimum {k}" for k in range(total)), labels, places


def _clusters(ends: np.ndarray, at_minimum: np.ndarray, reach: float) -> np.ndarray:
    """Which minimum each run ended at, matched along the values."""
    kinds = np.full(at_minimum.shape, UNKNOWN)
    known = np.zeros((0, ends.shape[-1]))  # where each minimum was last seen
    for row, (points, here) in enumerate(zip(ends, at_minimum, strict=True)):
        leader, centres = _leaders(points[here], reach)
        match = _matched(known, centres)
        new = match == UNKNOWN
        match[new] = len(known) + np.arange(new.sum())
        known = np.concatenate([known, np.zeros((new.sum(), known.shape[1]))])
        known[match] = centres
        kinds[row, here] = match[leader]
    return kinds


def _leaders(points: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """The group of each point, and the groups' first points, none of which is within `reach` (1 + |w|) of another."""
    number = np.full(len(points), UNKNOWN)
    leaders: list[np.ndarray] = []
    while np.any(number == UNKNOWN):
        if len(leaders) == MOST:
            raise ValueError(
                f"runs end at more than {MOST} places, a valley and no isolated minima: give the problem `branches`"
            )
        first = points[np.argmax(number == UNKNOWN)]
        close = np.linalg.norm(points - first, axis=1) <= reach * (1 + np.linalg.norm(first))
        number[close & (number == UNKNOWN)] = len(leaders)
        leaders.append(first)
    return number, np.array(leaders).reshape(-1, points.shape[1])


def _matched(known: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """For each centre the known place it is paired with, nearest pairs first; UNKNOWN for those left over."""
    match = np.full(len(centres), UNKNOWN)
    distance = np.linalg.norm(centres[:, None] - known[None], axis=-1)
    for _ in range(min(distance.shape)):
        i, j = np.unravel_index(np.argmin(distance), distance.shape)
        match[i] = j
        distance[i], distance[:, j] = np.inf, np.inf
    return match
