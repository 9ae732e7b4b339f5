"""Runs that are kept whole: where an optimizer is after each update."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from landscape.problem import Problem, checked_count, float_dtype
from landscape.starts import checked_starts
from landscape.sweep import sweep

PyTree = Any


class _Method(NamedTuple):
    optimizer: Callable[..., optax.GradientTransformation]
    hyper: tuple[tuple[str, Any], ...]
    steps: int


def path(
    problem: Problem, starts: PyTree, *, optimizer: Callable, hyper: dict[str, Any], steps: int, store: Any = None
) -> PyTree:
    """Full-batch runs, every point kept: leaves (lanes, steps + 1, ...), the start first.

    `descent.run` keeps chosen steps, in minibatches too, and sweeps hyper-parameters; here they are compiled in, and a
    run is one scan: for 10^5 steps of few runs. Memory: all points.

    Args:
      starts: points with a leading axis of lanes.
      optimizer, hyper: an optax factory and its arguments, numbers and functions alike.
      steps: updates, at least 1.
      store: as in `landscape.sweep.sweep`.

    Raises ValueError or TypeError for unsuitable starts and steps.
    """
    steps = checked_count("steps", steps)
    starts, _ = checked_starts(problem, starts)
    static = _Method(optimizer, tuple(sorted(hyper.items())), steps)
    after = sweep(_every_update, starts, problem.astype(float_dtype(starts)), static=static, store=store)
    return jax.tree.map(lambda start, rest: np.concatenate([start[:, None], rest], axis=1), starts, after)


def _every_update(start: PyTree, problem: Problem, *, static: _Method) -> PyTree:
    optimizer = static.optimizer(**dict(static.hyper))

    def update(moving: tuple, _: None) -> tuple:
        params, memory = moving
        direction, memory = optimizer.update(jax.grad(problem.at)(params), memory, params)
        params = optax.apply_updates(params, direction)
        return (params, memory), params

    memory = jax.tree.map(jnp.asarray, optimizer.init(start))
    return jax.lax.scan(update, (start, memory), length=static.steps)[1]
