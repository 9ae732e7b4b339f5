"""Data taken a microbatch at a time: a sum over samples without ever holding more than one batch's activations.

JAX arrays are sliced on the device. NumPy arrays, memory-mapped ones too, stay where they are: each batch is fetched
from the host when it is needed, so the data may be larger than the device's memory, or than any.
"""

import itertools
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

PyTree = Any


class Host(NamedTuple):
    """What is static of an array that stays on the host; what is traced is its number among those alive."""

    shape: tuple[int, ...]
    dtype: np.dtype


# Weakly, so that no compiled program keeps data alive; and one program serves every array of a shape.
_ALIVE: "weakref.WeakValueDictionary[int, np.ndarray]" = weakref.WeakValueDictionary()
_NUMBERS = itertools.count()


def on_host(leaves: Sequence[Any]) -> tuple[list[Any], tuple[Host | None, ...]]:
    """The leaves, with a number in place of each NumPy array, and what is static of those."""
    stays = [isinstance(leaf, np.ndarray) and leaf.ndim > 0 for leaf in leaves]
    hosts = tuple(
        Host(leaf.shape, np.dtype(jax.dtypes.canonicalize_dtype(leaf.dtype))) if stay else None
        for leaf, stay in zip(leaves, stays, strict=True)
    )
    return [np.int32(_number(leaf)) if stay else leaf for leaf, stay in zip(leaves, stays, strict=True)], hosts


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
    shapes = [host.shape if host else np.shape(leaf) for host, leaf in zip(hosts, leaves, strict=True)]
    samples = max(shape[0] for shape in shapes if shape)
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


def _number(array: np.ndarray) -> int:
    """The number of an array: the same for the same object."""
    for number, known in _ALIVE.items():
        if known is array:
            return number
    number = next(_NUMBERS)
    _ALIVE[number] = array
    return number


def _batch(leaves: Sequence[Any], hosts: Sequence[Host | None], start: Any, size: int) -> list[Any]:
    """`size` samples from `start` on, of every array."""

    def part(leaf: Any, host: Host | None) -> Any:
        if host:
            return _fetched(leaf, host, start, size)
        return jax.lax.dynamic_slice_in_dim(leaf, start, size) if np.ndim(leaf) else leaf

    return [part(leaf, host) for leaf, host in zip(leaves, hosts, strict=True)]


def _fetched(number: Any, host: Host, start: Any, size: int) -> jax.Array:
    """Rows of an array of the host."""
    # As bytes: JAX's x64 switch may be this thread's alone, and the callback's thread would round 64 bits to 32.
    shape = (size, *host.shape[1:], host.dtype.itemsize)

    def read(number: Any, start: Any) -> np.ndarray:
        array = _ALIVE.get(int(number))
        if array is None:
            raise RuntimeError("a NumPy array given with batch_size was deleted: keep it as long as the operator")
        rows = np.asarray(array[int(start) : int(start) + size], host.dtype, order="C")
        return rows.view(np.uint8).reshape(shape)

    raw = jax.pure_callback(read, jax.ShapeDtypeStruct(shape, np.uint8), number, start, vmap_method="sequential")
    if host.dtype == bool:
        return raw[..., 0].astype(bool)
    if host.dtype.kind == "c":
        real = np.dtype(f"f{host.dtype.itemsize // 2}")
        parts = jax.lax.bitcast_convert_type(raw.reshape(*shape[:-1], 2, real.itemsize), real)
        return jax.lax.complex(parts[..., 0], parts[..., 1])
    return jax.lax.bitcast_convert_type(raw[..., 0] if host.dtype.itemsize == 1 else raw, host.dtype)
