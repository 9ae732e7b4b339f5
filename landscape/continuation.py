"""Basins along a hyper-parameter: the same starts at many values, with outcomes that keep their names from one to the
next."""

import dataclasses
from pathlib import Path
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

MOST = 64  # isolated minima, or cycles, at one value; more are a valley
PERIOD = 64  # steps: the longest cycle that `basins.map` finds


@dataclasses.dataclass(frozen=True)
class Continuation:
    """The outcomes of the same starts at each value of a hyper-parameter."""

    along: str
    values: np.ndarray  # (m,)
    names: tuple[str, ...]  # of the labels: minima, cycles, then the outcomes that lead to neither
    labels: np.ndarray  # (m, *shape of the starts), indices into `names`; negative where nothing was decided
    places: np.ndarray  # (m, k, parameters) mean end point of the runs at each minimum; NaN where none ended

    def shares(self) -> Proportion:
        """The share of the decided starts of each label at each value, (m, names), with intervals; NaN without any."""
        flat = self.labels.reshape(len(self.values), -1)
        counts = np.stack([np.sum(flat == i, axis=1) for i in range(len(self.names))], axis=1)
        trials = counts.sum(1, keepdims=True)
        found = proportion(counts, np.maximum(trials, 1))
        return Proportion(*(np.where(trials > 0, part, np.nan) for part in found))

    def tipping(self, before: int, after: int) -> Proportion:
        """The tipping probabilities between the values of two indices: see `geometry.tipping`."""
        return geometry.tipping(self.labels[before], self.labels[after], len(self.names))

    def tipped(self, before: int, after: int, moves: list[tuple[str, str]]) -> Proportion:
        """The share that moves between the named basins, pooled over those it comes from: see `geometry.tipped`."""
        wrong = sorted({name for move in moves for name in move} - set(self.names))
        if wrong:
            raise ValueError(f"moves name {', '.join(wrong)}: the outcomes are {', '.join(self.names)}")
        pairs = [(self.names.index(i), self.names.index(j)) for i, j in moves]
        return geometry.tipped(self.labels[before], self.labels[after], pairs)


def continued(
    problem: Problem,
    starts: Any,
    *,
    optimizer: descent.Optimizer,
    hyper: Any,
    along: str,
    values: Any,
    steps: int = 2000,
    reach: float = 0.01,
    seeds: Any = None,
    block: int | None = None,
    store: Any = None,
    **options: Any,
) -> Continuation:
    """The outcomes of `starts` at each of the `values` of the hyper-parameter `along`.

    A minimum is a branch, where the problem has `branches`. Else end points within `reach` (1 + |w|) of each other are
    one minimum, and the minimum at the next value that is nearest, by pairs in order of distance, is the same one,
    however far; the rest are new. One that vanishes keeps its name, should it come back. Cycles are told apart in the
    same way, with or without branches, by the corners of the box about their orbit, whatever the phase; where one value
    has more than 64 of them they share the name "cycle".

    Args:
      along: an argument of the optimizer, or "batch_size".
      values: floats: all starts at all values are lanes of one sweep. Whole numbers, True and False, and batch sizes
        are static: a map each, stored in folders of their own.
      seeds, and the others: those of `basins.map`; a start has the same noise at every value.

    Raises as `basins.map`, ValueError for `values` that are no list of numbers, and for more than 64 minima at one
    value: then they are a valley, and only `branches` can tell its parts apart. Cost: the maps, and the runs that end
    on a cycle once more.
    """
    values = _checked_values(values, along)
    if not isinstance(hyper, dict):
        raise TypeError(f"hyper is {hyper!r:.60}: give a dict, without {along!r} an empty one")
    starts, _ = checked_starts(problem, starts)
    points = sweep(_embedded, starts, starts) if isinstance(starts, Grid) else starts
    count = jax.tree.leaves(points)[0].shape[0]
    seeds = _checked_seeds(seeds, count)
    engine = {"optimizer": optimizer, "steps": steps, "block": block}
    if along != "batch_size" and values.dtype.kind == "f":
        lanes = jax.tree.map(lambda leaf: np.tile(leaf, (len(values),) + (1,) * (leaf.ndim - 1)), points)
        own = hyper | {along: np.repeat(values, count)}
        parts = [_one(problem, lanes, own, np.tile(seeds, len(values)), engine | options | {"store": store})]
    else:
        parts = []
        for value in values.tolist():
            given = options | {"batch_size": value} if along == "batch_size" else options
            own = hyper if along == "batch_size" else hyper | {along: value}
            folder = None if store is None else Path(store) / f"{along} {value}"
            parts.append(_one(problem, points, own, seeds, engine | given | {"store": folder}))
    ends = jax.tree.map(
        lambda *leaves: np.concatenate([np.asarray(leaf) for leaf in leaves]), *[m.ends for m, _ in parts]
    )
    orbits = np.concatenate([orbit for _, orbit in parts])
    names, labels, places = _attractors(BasinMap(problem, None, ends), orbits, len(values), reach)
    shape = starts.shape if isinstance(starts, Grid) else (count,)
    return Continuation(along, values, names, labels.reshape(len(values), *shape), places)


def _checked_values(values: Any, along: str) -> np.ndarray:
    try:
        found = np.asarray(values)
    except ValueError:  # rows of unequal length
        found = np.zeros(0)
    if found.ndim != 1 or not found.size or found.dtype.kind not in "biuf" or not np.all(np.isfinite(found)):
        raise ValueError(f"values is {values!r:.60}: give a list of finite numbers, the values of {along}")
    return found


def _checked_seeds(seeds: Any, count: int) -> np.ndarray:
    found = np.arange(count) if seeds is None else np.asarray(seeds)
    if found.dtype.kind not in "iu" or found.shape not in ((), (count,)):
        raise ValueError(f"seeds is {seeds!r:.60}: give one whole number, or one for each of {count} starts")
    return np.broadcast_to(found, (count,))


def _embedded(coordinates: tuple, grid: Grid) -> PyTree:
    return grid.embed(coordinates)


def _one(problem: Problem, lanes: PyTree, hyper: dict, seeds: np.ndarray, options: dict) -> tuple[BasinMap, np.ndarray]:
    """The map of these lanes, and the least and the largest of each parameter on the cycles; NaN on no cycle."""
    found = basins.map(problem, lanes, hyper=hyper, seeds=seeds, **options)
    on = np.flatnonzero(np.asarray(found.ends.outcome) == Outcome.CYCLE)
    boxes = np.full((len(seeds), 2, _rows(found.ends.params).shape[1]), np.nan)
    if on.size:
        starts = jax.tree.map(lambda leaf: np.asarray(leaf)[on], lanes)
        own = {k: v[on] if np.shape(v) == (len(seeds),) else v for k, v in hyper.items()}
        last, watched = options["steps"] + PERIOD - 1, range(options["steps"], options["steps"] + PERIOD)
        engine = {"optimizer": options["optimizer"], "block": options["block"]}
        run = descent.run(problem, starts, hyper=own, steps=last, observe_at=watched, observe=("params",), **engine)
        assert run.trace is not None
        leaves = [np.reshape(leaf, (on.size, PERIOD, -1)) for leaf in jax.tree.leaves(run.trace.params)]
        orbit = np.concatenate(leaves, axis=2)
        boxes[on] = np.stack([orbit.min(axis=1), orbit.max(axis=1)], axis=1)
    return found, boxes.reshape(len(seeds), -1)


def _rows(params: PyTree) -> np.ndarray:
    """Points as rows (lanes, parameters) in float64."""
    leaves = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(params)]
    return np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)


def _attractors(
    found: BasinMap, orbits: np.ndarray, times: int, reach: float
) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """The names, the labels (values, lanes) and the minima's places (values, minima, parameters)."""
    ends = _rows(found.ends.params).reshape(times, -1, orbits.shape[1] // 2)
    labels, outcome = by_name(found).reshape(times, -1), found.outcome.reshape(times, -1)
    at_minimum = np.isin(outcome, (Outcome.SETTLED, Outcome.HOVERING))
    own = found.problem.branches
    kinds = labels if own else _clusters(ends, at_minimum, reach)
    if kinds is None:
        raise ValueError(
            f"runs end at more than {MOST} places, a valley and no isolated minima: give the problem `branches`"
        )
    kinds = np.where(at_minimum, kinds, UNKNOWN)
    minima = own or tuple(f"minimum {k}" for k in range(kinds.max() + 1))
    cycles = _clusters(orbits.reshape(times, -1, orbits.shape[1]), outcome == Outcome.CYCLE, reach)
    cycles = np.full(kinds.shape, UNKNOWN) if cycles is None else cycles
    names = (*minima, *(f"cycle {k}" for k in range(cycles.max() + 1)), *OTHERS)
    others = labels - len(found.names) + len(names)  # both end with the same names
    labels = np.where(labels == UNKNOWN, UNKNOWN, np.where(cycles >= 0, len(minima) + cycles, others))
    labels = np.where(at_minimum, kinds, labels)
    places = np.full((times, len(minima), ends.shape[-1]), np.nan)
    for i, kind in zip(*np.nonzero([[np.any(row == k) for k in range(len(minima))] for row in kinds]), strict=True):
        places[i, kind] = ends[i][kinds[i] == kind].mean(axis=0)
    return names, labels, places


def _clusters(points: np.ndarray, chosen: np.ndarray, reach: float) -> np.ndarray | None:
    """Which group each chosen run's point is of, matched along the values; None for more than MOST at one value."""
    kinds = np.full(chosen.shape, UNKNOWN)
    known = np.zeros((0, points.shape[-1]))  # where each group was last seen
    for row, (places, here) in enumerate(zip(points, chosen, strict=True)):
        number, centres = _leaders(places[here], reach)
        if np.any(number == UNKNOWN):
            return None
        match = _matched(known, centres)
        new = match == UNKNOWN
        match[new] = len(known) + np.arange(new.sum())
        known = np.concatenate([known, np.zeros((new.sum(), known.shape[1]))])
        known[match] = centres
        kinds[row, here] = match[number]
    return kinds


def _leaders(points: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """The group of each point, UNKNOWN for those beyond MOST groups, and the groups' first points.

    No first point is within `reach` (1 + |w|) of another.
    """
    number = np.full(len(points), UNKNOWN)
    leaders: list[np.ndarray] = []
    while np.any(number == UNKNOWN) and len(leaders) < MOST:
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
