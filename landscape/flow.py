"""Gradient flow w' = -∇L(w), what gradient descent follows as the learning rate goes to 0."""

from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from landscape.descent import GridStarts, Start
from landscape.plane import Grid
from landscape.problem import Problem, checked_count, float_dtype
from landscape.process import Process
from landscape.starts import checked_starts
from landscape.sweep import sweep

PyTree = Any


class Flow(NamedTuple):
    """Where the flow is after a time; leaves have lanes first, a single start gives them without that axis."""

    params: PyTree
    loss: Any
    gradient_norm: Any
    error: Any  # estimate of the distance of `params` from the exact flow; large or NaN where steps were too long


class Pair(NamedTuple):
    """Two integrations of one flow."""

    fine: PyTree  # two steps of half the length
    coarse: PyTree  # one step


def run(
    problem: Problem,
    starts: PyTree,
    *,
    time: Any,
    steps: int = 1000,
    block: int | None = None,
    store: Any = None,
    progress: bool | str = False,
) -> Flow:
    """The gradient flow on all the data from every start, for a time: one step of descent is a time of its eta.

    `steps` steps of length h = time/steps by the classical Runge-Kutta method of order 4, each as two of h/2 beside one
    of h. `error` is |fine - coarse|/15, Richardson's estimate for `fine`. Stable where h times the largest eigenvalue
    of the Hessian stays below 2.8: it is for losses of moderate stiffness.

    Raises ValueError in one sentence for a time that is not positive and finite, steps below 1, and starts unlike the
    problem's point. Cost: 12 gradients a step.
    Source: Hairer, Nørsett, Wanner, Solving Ordinary Differential Equations I (1993), sections II.1 and II.4.
    """
    checked_count("steps", steps)
    number = np.asarray(time)
    if number.dtype.kind not in "iuf" or number.ndim or not (np.isfinite(number) and number > 0):
        raise ValueError(f"time is {time!r:.60}: give one positive finite number; eta times the steps of descent")
    points, single = checked_starts(problem, starts)
    dtype = float_dtype(points)
    points = GridStarts(points, {}) if isinstance(points, Grid) else Start(points, {})
    process = Process(_init, _advance, _finish, int(steps))
    args = problem.astype(dtype), np.asarray(time / steps, dtype)
    record, _ = sweep(process, points, *args, block=block, store=store, progress=progress)
    return jax.tree.map(lambda leaf: leaf[0], record) if single else record


def _init(start: Start, problem: Problem, length: jax.Array) -> tuple[Pair, None]:
    del problem, length
    return Pair(start.params, start.params), None


def _advance(state: tuple[Pair, None], start: Any, stop: Any, problem: Problem, length: jax.Array) -> tuple[Pair, None]:
    def step(_: Any, pair: Pair) -> Pair:
        half = _runge_kutta(problem, pair.fine, length / 2)
        return Pair(_runge_kutta(problem, half, length / 2), _runge_kutta(problem, pair.coarse, length))

    return jax.lax.fori_loop(start, stop, step, state[0]), None


def _runge_kutta(problem: Problem, params: PyTree, length: jax.Array) -> PyTree:
    slope = lambda params: optax.tree.scale(-1, jax.grad(problem.at)(params))  # noqa: E731
    along = lambda share, k: optax.tree.add_scale(params, share * length, k)  # noqa: E731
    first = slope(params)
    second = slope(along(0.5, first))
    third = slope(along(0.5, second))
    fourth = slope(along(1, third))
    mean = jax.tree.map(lambda a, b, c, d: (a + 2 * b + 2 * c + d) / 6, first, second, third, fourth)
    return along(1, mean)


def _finish(state: tuple[Pair, None], problem: Problem, length: jax.Array) -> Flow:
    del length
    fine, coarse = state[0]
    loss, gradient = jax.value_and_grad(problem.at)(fine)
    return Flow(fine, loss, optax.tree.norm(gradient), optax.tree.norm(optax.tree.sub(fine, coarse)) / 15)
