"""A loss with its parameters and all its data, as training has them: the batches, read once, and means over them.

Gradients are added up in float64 on the host, batch by batch.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from landscape.hessian.curvature import Task, curvature_task
from landscape.hessian.linear import total
from landscape.hessian.space import Space
from landscape.problem import leaf_names

PyTree = Any

ROOM = 1 << 28  # bytes of intermediate arrays of one gradient: as many batches go through a product at once


@dataclasses.dataclass(frozen=True, eq=False)
class Training:
    """A loss with its parameters, and all its data, on the host."""

    loss: Callable
    params: PyTree
    data: PyTree  # NumPy arrays, samples along the first axis
    sizes: tuple[int, ...]  # of the batches, in order
    task: Task
    fixed: list[Any]
    point: np.ndarray  # (n,) the parameters that move, flat, in their widest dtype
    tick: Callable[[], Any] = lambda: None  # called once a batch

    def slopes(self, point: np.ndarray) -> Iterator[tuple[np.ndarray, float, int]]:
        """Of each batch the gradient (n,) in float64, the loss, and the number of samples."""
        start = 0
        for size in self.sizes:
            batch = [leaf[start : start + size] for leaf in jax.tree.leaves(self.data)]
            gradient, value = _slope(self.task, point, self.fixed, batch)
            start += size
            self.tick()
            yield np.asarray(gradient, np.float64), float(value), size

    def mean(self, point: np.ndarray) -> tuple[np.ndarray, float]:
        """The gradient and the loss on all the data."""
        gradient, value = np.zeros(len(point)), 0.0
        for slope, loss, size in self.slopes(point):
            gradient += slope * (size / sum(self.sizes))
            value += loss * (size / sum(self.sizes))
        return gradient, value

    def rounded(self, point: np.ndarray) -> np.ndarray:
        """A point (n,) as the leaves' own dtypes can hold it."""
        space = self.task.space
        return np.asarray(space.joined(space.parts(jnp.asarray(point, space.dtype))))

    @property
    def chunk(self) -> int | None:
        """How many samples go through a product at once; None for all."""
        largest = max(self.sizes)
        batch = [leaf[:largest] for leaf in jax.tree.leaves(self.data)]
        work = total(jax.make_jaxpr(_slope, static_argnums=0)(self.task, self.point, self.fixed, batch).jaxpr)
        samples = largest * max(1, ROOM // work)
        return None if samples >= sum(self.sizes) else samples

    @property
    def eps(self) -> float:
        """Relative rounding error of the parameters' coarsest dtype."""
        return self.task.space.eps


def read(loss: Callable, params: PyTree, batches: Any) -> Training:
    """The batches, read once, as one array a leaf; checked, as is the loss on the first of them.

    Raises ValueError or TypeError, in one sentence, for batches that are none, or one, are empty, differ in structure
    or hold what is no array with samples along its first axis, for parameters without floats, and a loss that is no
    scalar.
    """
    _check_several(batches)
    try:
        parts = [jax.tree.map(np.asarray, batch) for batch in batches]
    except TypeError as error:
        raise TypeError(f"batches is {batches!r:.60}: give a list or an iterator of minibatches ({error})") from None
    if not parts:
        raise ValueError("batches is empty (or an iterator that was read already): give all the training data")
    sizes = tuple(_size(index, part, parts[0]) for index, part in enumerate(parts))
    task, (fixed, _) = curvature_task("hessian", (loss,), params, (parts[0],), None, None)
    point = np.asarray(task.space.flatten(params, "params"))
    jax.eval_shape(partial(_slope, task), point, fixed, jax.tree.leaves(parts[0]))
    data = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts) if len(parts) > 1 else parts[0]
    return Training(loss, params, data, sizes, task, fixed, point)


def not_finite(training: Training, gradient: np.ndarray, loss: float) -> str:
    """What is not finite, parameters before losses before gradients, by name; "" where all is, and so their means."""
    if _finite(training.point) and _finite(gradient) and np.isfinite(loss):
        return ""
    space = training.task.space
    if leaves := _broken(space, training.point):
        return f"the parameters{leaves}"
    for index, (own, value, _) in enumerate(training.slopes(training.point)):
        if not np.isfinite(value):
            return f"the loss of batch {index}"
        if not _finite(own):
            return f"the gradient of batch {index}{_broken(space, own)}"
    return ""


@partial(jax.jit, static_argnums=0)
def _slope(task: Task, point: jax.Array, fixed: list[Any], data: list[Any]) -> tuple[jax.Array, jax.Array]:
    gradient, _ = task.slope(fixed, data)
    return gradient(point)


def _broken(space: Space, vector: np.ndarray) -> str:
    """The leaves of a flat vector that are not finite, by name where they have one; "" where all is finite."""
    parts = zip(space.moved, space.parts(jnp.asarray(vector, space.dtype)), strict=True)
    names = [repr(name) if name else "(the only one)" for name, part in parts if not _finite(part)]
    return f" in leaf {', '.join(names)}" if names else ""


def _finite(array: Any) -> bool:
    return bool(np.all(np.isfinite(np.asarray(array, np.float64))))


def _check_several(batches: Any) -> None:
    """Raises TypeError for one batch in place of several: its parts, or its rows, would pass for batches."""
    one = hasattr(batches, "dtype") or isinstance(batches, Mapping)
    if one or (isinstance(batches, tuple) and any(hasattr(part, "dtype") for part in batches)):
        raise TypeError(
            f"batches is one {type(batches).__name__} of data: give a list or an iterator of minibatches; [batch] is "
            "one of all the data"
        )


def _size(index: int, batch: PyTree, first: PyTree) -> int:
    """How many samples a batch has: the length of the leading axis, the same for all its arrays."""
    names, leaves = leaf_names(batch), jax.tree.leaves(batch)
    if not leaves:
        raise ValueError(f"batch {index} has no arrays: give arrays with samples along their first axis")
    for name, leaf in zip(names, leaves, strict=True):
        if leaf.ndim == 0 or leaf.dtype.kind in "OUS":
            where = f" at {name!r}" if name else ""
            what = f"shape {leaf.shape} and dtype {leaf.dtype}{where}"
            raise ValueError(
                f"batch {index} has {what}: its leaves are arrays with samples along their first axis; "
                "what is no sample goes into the loss, as in jax.tree_util.Partial(loss, weights)"
            )
    lengths = {name: len(leaf) for name, leaf in zip(names, leaves, strict=True)}
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        found = ", ".join(f"{name or 'it'} has {length}" for name, length in lengths.items())
        raise ValueError(f"in batch {index} {found}: give arrays of the same number of samples, at least one")
    dtype = lambda leaf: jax.dtypes.canonicalize_dtype(leaf.dtype)  # noqa: E731
    form = lambda tree: [(leaf.shape[1:], dtype(leaf)) for leaf in jax.tree.leaves(tree)]  # noqa: E731
    if jax.tree.structure(batch) != jax.tree.structure(first) or form(batch) != form(first):
        raise ValueError(f"batch {index} is not made like batch 0: only the number of samples may differ")
    return len(leaves[0])
