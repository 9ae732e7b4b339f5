"""Data taken a microbatch at a time: a sum over samples without ever holding more than one batch's activations.

JAX arrays are sliced on the device. NumPy arrays, memory-mapped ones too, stay where they are: each batch is fetched
from the host when it is needed, so the data may be larger than the device's memory, or than any.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

PyTree = Any


@dataclasses.dataclass(frozen=True, eq=False)
class Host:
    """An array that stays on the host. Static: two are equal where they hold the same object."""

    array: np.ndarray

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Host) and self.array is other.array

    def __hash__(self) -> int:
        return id(self.array)


def on_host(leaves: Sequence[Any]) -> tuple[list[Any], tuple[Host | None, ...]]:
    """The leaves with None in place of NumPy arrays, and those arrays."""
    hosts = tuple(Host(leaf) if isinstance(leaf, np.ndarray) and leaf.ndim else None for leaf in leaves)
    return [None if host else leaf for leaf, host in zip(leaves, hosts, strict=True)], hosts


def checked_batches(leaves: Sequence[Any], names: Sequence[str], batch_size: Any) -> int:
    """How many samples the arrays have; raises ValueError where they do not agree, or for an unsuitable batch size."""
    if not isinstance(batch_size, int | np.integer) or isinstance(batch_size, bool) or batch_size < 1:
        raise ValueError(f"batch_size is {batch_size!r}: give a whole number of samples, 1 or more, or None")
    lengths = {name: np.shape(leaf)[0] for name, leaf in zip(names, leaves, strict=True) if np.ndim(leaf)}
    if not lengths:
        raise ValueError(f"batch_size is {batch_size}, but the loss has no array argument to take samples from")
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        found = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise ValueError(
            f"with batch_size, every array after params has its samples along its first axis, and here {found}: "
            "what is no sample goes into the loss, as in jax.tree_util.Partial(loss, weights)"
        )
    return next(iter(lengths.values()))


def mean_over_batches(
    term: Callable[[Sequence[Any]], PyTree], leaves: Sequence[Any], hosts: Sequence[Host | None], batch_size: int
) -> PyTree:
    """The mean over samples of what `term` gives as a mean over the samples of one batch.

    sum_b (n_b / n) term(batch b): exact also where the last batch is short.
    """
    samples = next(len(a) for a in (*(h.array for h in hosts if h), *leaves) if np.ndim(a))
    whole, last = divmod(samples, batch_size)
    if whole == 0:
        return term(_batch(leaves, hosts, 0, samples))

    def add(index: jax.Array, total: PyTree) -> PyTree:
        part = term(_batch(leaves, hosts, index * batch_size, batch_size))
        return jax.tree.map(lambda a, b: a + b * (batch_size / samples), total, part)

    abstract = jax.eval_shape(lambda: term(_batch(leaves, hosts, 0, batch_size)))
    total = jax.lax.fori_loop(0, whole, add, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), abstract))
    if last == 0:
        return total
    part = term(_batch(leaves, hosts, whole * batch_size, last))
    return jax.tree.map(lambda a, b: a + b * (last / samples), total, part)


def _batch(leaves: Sequence[Any], hosts: Sequence[Host | None], start: Any, size: int) -> list[Any]:
    """`size` samples from `start` on, of every array."""
    arrays = tuple(host.array for host in hosts if host)
    fetched = iter(_fetched(arrays, start, size) if arrays else ())

    def part(leaf: Any, host: Host | None) -> Any:
        if host:
            return next(fetched)
        return jax.lax.dynamic_slice_in_dim(leaf, start, size) if np.ndim(leaf) else leaf

    return [part(leaf, host) for leaf, host in zip(leaves, hosts, strict=True)]


def _fetched(arrays: tuple[np.ndarray, ...], start: Any, size: int) -> list[jax.Array]:
    dtypes = [np.dtype(jax.dtypes.canonicalize_dtype(array.dtype)) for array in arrays]
    # JAX's x64 switch may be this thread's alone, and the callback's thread would round 64 bits: they go as 32 twice.
    words = [np.dtype(np.uint32) if dtype.itemsize == 8 else dtype for dtype in dtypes]

    def read(start: Any) -> list[np.ndarray]:
        rows = slice(int(start), int(start) + size)
        parts = [np.ascontiguousarray(array[rows], dtype) for array, dtype in zip(arrays, dtypes, strict=True)]
        return [part.view(word).reshape(*part.shape, -1) for part, word in zip(parts, words, strict=True)]

    shapes = [
        jax.ShapeDtypeStruct((size, *array.shape[1:], dtype.itemsize // word.itemsize), word)
        for array, dtype, word in zip(arrays, dtypes, words, strict=True)
    ]
    fetched = jax.pure_callback(read, shapes, start, vmap_method="sequential")
    return [
        part[..., 0] if word == dtype else jax.lax.bitcast_convert_type(part, dtype)
        for part, word, dtype in zip(fetched, words, dtypes, strict=True)
    ]
