"""Runs on diagonal linear networks, each on samples of its own: which minimum SGD finds, by batch size.

The runs of one seed share samples and shuffles at all batch sizes and learning rates: they are paired.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from landscape import descent
from landscape.problem import Problem
from landscape.problems.datasets import Dataset
from landscape.problems.diagonal import Factors, closest, diagonal_network, sparse_samples, vector
from landscape.studies.presets.outlook import Bar
from landscape.sweep import Process, sweep

PyTree = Any

MATCHED = 1e-10  # training loss at which a run ends: all of them, whatever the batch size
UPDATES, CHECKED = 60000, 500  # of the longest run, and from one look at the loss to the next


class Point(NamedTuple):
    """Where a run begins."""

    start: descent.Start
    data: Dataset  # its own


class Lane(NamedTuple):
    """A run between two updates."""

    run: descent.Lane
    data: Dataset
    steps: Any  # int32, the last check


class Ends(NamedTuple):
    """Where runs ended, leaves (rates, batch sizes, seeds, ...)."""

    loss: np.ndarray
    steps: np.ndarray  # updates, to a multiple of `CHECKED`
    error: np.ndarray  # |β - β*|² / |β*|²
    predicted: np.ndarray  # that of the flow's end from the run's own effective scale
    shrunk: np.ndarray  # mean over the weights off the support of ln(α / a), a² = u v


def errors(
    seeds: int,
    rates: Sequence[float],
    batch_sizes: Sequence[int],
    scale: float,
    *,
    store: Path | None = None,
    progress: Bar = False,
) -> tuple[Ends, np.ndarray]:
    """The ends of all runs, and (seeds,) the error where the gradient flow ends; in float64.

    A run that diverged has NaN or inf. A prediction is NaN where the run did not reach `MATCHED`, or `closest` finds no
    vector of so small a scale.
    """
    cases = [sparse_samples(seed) for seed in range(seeds)]
    flow = np.array([_error(closest(data, scale), truth) for data, truth in cases])
    with jax.enable_x64(True):
        problem = diagonal_network(cases[0][0], scale)
        found = [_runs(problem, cases, rates, size, store, progress) for size in batch_sizes]
    shape = (len(batch_sizes), len(rates), seeds)
    ends = [_end(cases[lane % seeds], scale, *run) for runs in found for lane, run in enumerate(runs)]
    return Ends(*(np.swapaxes(np.reshape(values, shape), 0, 1) for values in zip(*ends, strict=True))), flow


def _runs(
    problem: Problem, cases: list, rates: Sequence[float], size: int, store: Path | None, progress: Bar
) -> list[tuple]:
    """(u, v, loss, steps) of every rate's seeds, one batch size."""
    seeds = len(cases)
    x, y = (np.stack([getattr(data, name) for data, _ in cases] * len(rates)) for name in ("x", "y"))
    data = Dataset(x, y)
    lanes = jax.tree.map(lambda leaf: np.broadcast_to(leaf, (len(data.x), *leaf.shape)), problem.reference)
    hyper = {"learning_rate": np.repeat(rates, seeds)}
    start, method, shared = descent.prepared(problem, lanes, optax.sgd, hyper, size, ())
    process = Process(init, advance, finish, UPDATES, check=check, check_at=tuple(range(CHECKED, UPDATES + 1, CHECKED)))
    place = store and store / f"diagonal_{size}"
    how: Any = {"static": method, "key": 0, "seeds": np.tile(np.arange(seeds), len(rates)), "store": place}
    how["progress"] = progress and partial(progress, f"B = {size}")
    # A block for each of two cores; the lanes of a seed need not be in one.
    (params, *seen), _ = sweep(process, Point(start, data), problem, shared, block=32, **how)
    return list(zip(*(np.asarray(leaf[...]) for leaf in (*params, *seen)), strict=True))


def init(point: Point, problem: Problem, hyper: dict, *, static: descent.Method, key: Any) -> tuple[Lane, PyTree]:
    """The state before the first update."""
    run, counts = descent.init(point.start, problem, hyper, static=static, key=key)
    return Lane(run, point.data, jnp.int32(0)), counts


def advance(
    state: Any, start: Any, stop: Any, problem: Problem, hyper: dict, *, static: descent.Method, key: Any
) -> tuple[Lane, PyTree]:
    """The state after the updates start, ..., stop - 1."""
    lane, counts = state
    own = dataclasses.replace(problem, data=lane.data)
    run, counts = descent.advance((lane.run, counts), start, stop, own, hyper, static=static, key=key)
    return lane._replace(run=run), counts


def check(state: Any, step: Any, problem: Problem, hyper: dict, *, static: descent.Method) -> tuple[Lane, Any]:
    """The run, and whether it is at its end: its loss is `MATCHED` or not finite."""
    loss = finish(state, problem, hyper, static=static)[1]
    return state[0]._replace(steps=jnp.int32(step)), (loss <= MATCHED) | ~jnp.isfinite(loss)


def finish(state: Any, problem: Problem, hyper: dict, *, static: descent.Method) -> tuple[Factors, Any, Any]:
    """The point, the loss on the run's own samples, and the updates taken."""
    del hyper, static
    lane = state[0]
    return lane.run.params, problem.loss(lane.run.params, lane.data), lane.steps


def _end(case: tuple[Dataset, np.ndarray], scale: float, u: np.ndarray, v: np.ndarray, loss: Any, steps: Any) -> tuple:
    """What `Ends` has of one run."""
    data, truth = case
    error = _error(vector(Factors(u, v)), truth)
    if not loss <= MATCHED:
        return loss, steps, error, np.nan, np.nan
    effective = np.sqrt(np.abs(u * v))  # β = 2 a² sinh ln|u/v| where a sign has turned too
    shrunk = np.mean(np.log(scale / effective)[truth == 0])
    try:
        return loss, steps, error, _error(closest(data, effective), truth), shrunk
    except ValueError:
        return loss, steps, error, np.nan, shrunk


def _error(found: np.ndarray, truth: np.ndarray) -> float:
    return float(np.sum(np.square(found - truth)) / np.sum(np.square(truth)))
