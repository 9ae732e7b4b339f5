"""Products of curvature matrices with vectors, for any loss on any pytree, exact to rounding.

A leaf that is no float array, or not chosen by `leaves`, is held constant; directions have None there.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from landscape.hessian.compiled import compiled
from landscape.hessian.curvature import Task, check_finite, curvature_task, term
from landscape.hessian.likelihoods import expected_loss
from landscape.hessian.operator import LinearOperator, prepared
from landscape.hessian.space import Leaves

PyTree = Any


def linear_operator(
    loss: Callable, params: PyTree, *args: PyTree, leaves: Leaves = None, batch_size: int | None = None
) -> LinearOperator:
    """The Hessian of `loss(params, *args)` as an operator: linearised here, once, and then applied.

    Args:
      loss: returns a float scalar. A function, or a pytree that is callable (a `jax.tree_util.Partial`, an Equinox
        module), whose arrays are traced. Written once at module level it is compiled once.
      params: any pytree; what moves are its float arrays. Never changed.
      args: whatever else `loss` takes. Arrays and Python floats are traced; Python integers, bools, strings and
        functions are static, so that they may choose sizes and branches.
      leaves: which leaves move: a dotted path such as "layers.0.weight", one of a subtree such as "layers.0", or
        several. None: all. The operator is then the diagonal block of the Hessian that belongs to them.
      batch_size: None for all data at once. Else the loss must be a mean over samples, which are the first axis of
        every array in `args`, and products are accumulated over batches of so many samples; the last may be short,
        the mean stays exact. NumPy arrays, memory-mapped ones too, then stay on the host and are read batch by batch,
        at each product: leave them as they are while the operator is in use.

    Cost: about two gradients here; one product costs about as much as a gradient, and with `batch_size` as two or
    three, since nothing of the point is kept between products. Memory: with all data at once the activations of every
    sample, some of them twice; with `batch_size` those of one batch.

    Raises ValueError or TypeError, before anything is compiled, where nothing moves, a name in `leaves` is unknown, a
    batch size does not fit the data or the loss is no float scalar; FloatingPointError, with the leaf's path, where
    the loss or its gradient is not finite (outside `jit` only; inside, products are NaN).
    """
    return _operator("hessian", (loss,), params, args, leaves, batch_size)


def ggn_operator(
    loss: Callable,
    model: Callable,
    params: PyTree,
    x: PyTree,
    y: PyTree,
    *,
    leaves: Leaves = None,
    batch_size: int | None = None,
) -> LinearOperator:
    """The generalised Gauss-Newton matrix J^T H_z J of `loss(model(params, x), y)`, as an operator.

    J is the Jacobian of the outputs z = model(params, x), H_z the Hessian of `loss(z, y)` in z. It is positive
    semidefinite where the loss is convex in the outputs. The rest is as for `linear_operator`.
    """
    return _operator("ggn", (loss, model), params, (x, y), leaves, batch_size)


def fisher_operator(
    likelihood: str | Callable,
    model: Callable,
    params: PyTree,
    x: PyTree,
    *,
    leaves: Leaves = None,
    batch_size: int | None = None,
) -> LinearOperator:
    """The Fisher information of the model's predictions, a mean over samples, as an operator.

        F = mean_i E_{y ~ p(y | z_i)} [g_i g_i^T],   g_i = d/dparams of -log p(y | z_i),   z_i = model(params, x)_i

    The expectation is exact, over the model's own predictions: no labels are needed (and "empirical Fisher" matrices,
    made with the data's labels, are something else: Kunstner et al., NeurIPS 2019).

    Args:
      likelihood: "categorical" (z are logits along the last axis), "bernoulli" (z is a logit), "gaussian" (z is the
        mean, unit variance: -log p = |y - z|²/2) or "poisson" (z is the logarithm of the rate). Or a function
        `expected(z, z') -> scalar`, the mean over samples of E_{y ~ p(y | z)} [-log p(y | z')], up to a constant.
      The others are those of `linear_operator`.
    """
    functions = expected_loss(likelihood), model
    return _operator("fisher", functions, params, (x,), leaves, batch_size)


def hvp(
    loss: Callable,
    params: PyTree,
    vector: PyTree,
    *args: PyTree,
    leaves: Leaves = None,
    batch_size: int | None = None,
) -> PyTree:
    """H v: the Hessian of `loss(params, *args)` times a pytree like `params`, at the cost of about three gradients.

    For many vectors use `linear_operator`, whose arguments these are. `vector` is not read, and the result is None, at
    leaves held constant.
    """
    return _product("hessian", (loss,), params, vector, args, leaves, batch_size)


def ggn_vp(
    loss: Callable,
    model: Callable,
    params: PyTree,
    vector: PyTree,
    x: PyTree,
    y: PyTree,
    *,
    leaves: Leaves = None,
    batch_size: int | None = None,
) -> PyTree:
    """J^T H_z J v: the generalised Gauss-Newton matrix times a vector. The arguments are those of `ggn_operator`."""
    return _product("ggn", (loss, model), params, vector, (x, y), leaves, batch_size)


def fisher_vp(
    likelihood: str | Callable,
    model: Callable,
    params: PyTree,
    vector: PyTree,
    x: PyTree,
    *,
    leaves: Leaves = None,
    batch_size: int | None = None,
) -> PyTree:
    """F v: the Fisher information times a vector. The arguments are those of `fisher_operator`."""
    functions = expected_loss(likelihood), model
    return _product("fisher", functions, params, vector, (x,), leaves, batch_size)


def as_operator(loss: Any, params: PyTree, args: Sequence[PyTree], leaves: Leaves, batch_size: Any) -> LinearOperator:
    """`loss` where it is an operator already (then nothing else may be given), else the Hessian's."""
    if not isinstance(loss, LinearOperator):
        return linear_operator(loss, params, *args, leaves=leaves, batch_size=batch_size)
    if params is not None or args or leaves is not None or batch_size is not None:
        raise TypeError("an operator has its parameters, data, leaves and batch size already: give it alone")
    return loss


def along(params: PyTree, direction: PyTree, distance: Any) -> PyTree:
    """params + distance * direction; leaves where the direction is None stay as they are."""
    leaves, structure = jax.tree.flatten(params)
    steps = structure.flatten_up_to(direction)
    step = lambda p, d: p if d is None else (p + distance * d).astype(jnp.result_type(p))  # noqa: E731
    return structure.unflatten(map(step, leaves, steps))


def _operator(
    kind: str, functions: tuple, params: PyTree, args: tuple, leaves: Leaves, batch_size: int | None
) -> LinearOperator:
    return prepared(*curvature_task(kind, functions, params, args, leaves, batch_size), args)


def _product(kind: str, functions: tuple, params: PyTree, vector: PyTree, *request: Any) -> PyTree:
    task, arrays = curvature_task(kind, functions, params, *request)
    product, finite = _once(task, task.space.chosen(vector), *arrays)
    check_finite(task.space, finite)
    return product


@partial(compiled, static_argnums=0)
def _once(task: Task, chosen: list[Any], fixed: list[Any], data: list[Any]) -> tuple[PyTree, jax.Array]:
    product, slope, value = task.mean(partial(term, task, task.space.joined(chosen)), fixed, data)
    return task.space.direction(product), task.finite(value, slope)
