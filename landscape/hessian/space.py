"""Which leaves of a pytree move, and the flat vectors that stand for them.

A leaf moves if it is an array of floats and, where `leaves` names some, if it is one of those. All others (integer and
bool arrays, functions, strings) are held constant and named. Dense algebra needs one flat vector: the leaves that move,
each raveled, in flattening order.
"""

import dataclasses
import difflib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from landscape.problem import is_float, leaf_names

PyTree = Any
Leaves = str | Sequence[str] | None


@dataclasses.dataclass(frozen=True)
class Space:
    """The leaves of a pytree that move, as coordinates of one flat vector. Static: it holds shapes, no arrays."""

    structure: Any  # of the whole pytree
    names: tuple[str, ...]  # dotted paths of all leaves, in flattening order
    moving: tuple[bool, ...]
    shapes: tuple[tuple[int, ...], ...]  # of the leaves that move
    dtypes: tuple[Any, ...]

    @property
    def dimension(self) -> int:
        """How many scalars move: the length n of the flat vector."""
        return sum(math.prod(shape) for shape in self.shapes)

    @property
    def dtype(self) -> Any:
        """The flat vector's: the widest of the leaves that move, at least single precision."""
        return jnp.result_type(jnp.float32, *self.dtypes)

    @property
    def eps(self) -> float:
        """The relative rounding error of the coarsest of the leaves that move."""
        return max(float(jnp.finfo(dtype).eps) for dtype in self.dtypes)

    @property
    def held(self) -> tuple[str, ...]:
        """Names of the leaves that are held constant."""
        return tuple(name for name, moves in zip(self.names, self.moving, strict=True) if not moves)

    @property
    def moved(self) -> tuple[str, ...]:
        """Names of the leaves that move."""
        return tuple(name for name, moves in zip(self.names, self.moving, strict=True) if moves)

    def flatten(self, tree: PyTree, argument: str = "vector") -> jax.Array:
        """The flat vector of a pytree like the parameters; what stands at leaves held constant is not read."""
        return self.joined(self.chosen(tree, argument))

    def chosen(self, tree: PyTree, argument: str = "vector", *, stacked: bool = False) -> list[Any]:
        """The leaves that move, of a pytree like the parameters; raises where it is not like them.

        `stacked`: all have a leading axis more, not looked at.
        """
        try:
            leaves = self.structure.flatten_up_to(tree)
        except ValueError as error:
            raise ValueError(f"{argument} must be like the parameters, {self.structure}: {error}") from None
        chosen = [leaf for leaf, moves in zip(leaves, self.moving, strict=True) if moves]
        if not all(is_array(leaf) for leaf in chosen):
            kinds = ", ".join(sorted({type(leaf).__name__ for leaf in chosen if not is_array(leaf)}))
            raise TypeError(f"{argument} has {kinds} among the leaves that move ({', '.join(self.moved)}): give arrays")
        if any(jnp.issubdtype(jnp.result_type(leaf), jnp.complexfloating) for leaf in chosen):
            raise TypeError(f"{argument} is complex: a product is linear, so give its real and imaginary parts in turn")
        shapes = tuple(np.shape(leaf)[stacked:] for leaf in chosen)
        if shapes != self.shapes:
            raise ValueError(f"{argument} has leaves of shapes {shapes}: those of the parameters are {self.shapes}")
        return chosen

    def joined(self, chosen: Sequence[Any]) -> jax.Array:
        """The flat vector of the leaves that move."""
        return jnp.concatenate([jnp.ravel(jnp.asarray(leaf)).astype(self.dtype) for leaf in chosen])

    def parts(self, vector: jax.Array) -> list[jax.Array]:
        """The leaves that move, from a flat vector, each in its own shape and dtype."""
        ends = np.cumsum([math.prod(shape) for shape in self.shapes]).tolist()
        pieces = [vector[start:end] for start, end in zip([0, *ends], ends, strict=False)]
        return [
            piece.reshape(shape).astype(dtype)
            for piece, shape, dtype in zip(pieces, self.shapes, self.dtypes, strict=True)
        ]

    def direction(self, vector: jax.Array) -> PyTree:
        """A pytree like the parameters from a flat vector, with None at the leaves held constant."""
        parts = iter(self.parts(vector))
        return self.structure.unflatten([next(parts) if moves else None for moves in self.moving])

    def point(self, vector: jax.Array, params: PyTree) -> PyTree:
        """The parameters with the leaves that move replaced by those of a flat vector."""
        parts = iter(self.parts(vector))
        leaves = zip(jax.tree.leaves(params), self.moving, strict=True)
        return self.structure.unflatten([next(parts) if moves else leaf for leaf, moves in leaves])


def space_of(params: PyTree, leaves: Leaves = None) -> Space:
    """The space of the leaves of `params` that move; `leaves` names those to choose, as in `linear_operator`.

    Raises ValueError where nothing moves or a name is unknown, TypeError for complex leaves.
    """
    values, structure = jax.tree.flatten(params)
    names = tuple(leaf_names(params))
    floats = [is_array(value) and is_float(value) for value in values]
    chosen = [True] * len(names) if leaves is None else _chosen(names, leaves)
    moving = tuple(a and b for a, b in zip(floats, chosen, strict=True))
    moved = [value for value, moves in zip(values, moving, strict=True) if moves]
    if not any(np.size(value) for value in moved):
        found = ", ".join(name or f"{value!r:.40}" for name, value in zip(names, values, strict=True))
        found = f"none of the leaves {found or '(there are none)'}" + f" chosen by {leaves!r}" * bool(leaves)
        raise ValueError(f"params has no float array to move: {found} is one")
    for name, value, moves in zip(names, values, moving, strict=True):
        if moves and jnp.issubdtype(jnp.result_type(value), jnp.complexfloating):
            raise TypeError(f"params leaf {name!r} is complex: give its real and imaginary parts as two leaves")
    return Space(
        structure,
        names,
        moving,
        tuple(np.shape(value) for value in moved),
        tuple(jax.dtypes.canonicalize_dtype(jnp.result_type(value)) for value in moved),
    )


def is_array(leaf: Any) -> bool:
    """Whether a leaf is traced: an array or a float, but no Python int or bool, which choose sizes and branches."""
    return isinstance(leaf, jax.Array | np.ndarray | np.generic | float | complex)


def is_number(value: Any) -> bool:
    """Whether a value is one concrete real number, of Python, NumPy or JAX; a bool is none."""
    if isinstance(value, jax.core.Tracer) or isinstance(value, bool | np.bool_):
        return False
    return isinstance(value, float | int | np.number) or (isinstance(value, jax.Array) and value.shape == ())


@dataclasses.dataclass(frozen=True)
class Rest:
    """What of a pytree is not an array: static, compared by value."""

    structure: Any
    leaves: tuple[Any, ...]  # None in place of an array

    def join(self, arrays: Sequence[Any]) -> PyTree:
        """The pytree again, with these arrays."""
        return self.structure.unflatten(
            [array if other is None else other for array, other in zip(arrays, self.leaves, strict=True)]
        )


def split(tree: PyTree) -> tuple[list[Any], Rest]:
    """The arrays of a pytree (None in place of anything else), and the rest, hashable.

    Functions, strings, integers and bools are the rest; so a loss may itself be a pytree that holds arrays, such as a
    `jax.tree_util.Partial` or an Equinox module.
    """
    leaves, structure = jax.tree.flatten(tree)
    others = tuple(None if is_array(leaf) else leaf for leaf in leaves)
    for name, leaf, other in zip(leaf_names(tree), leaves, others, strict=True):
        if isinstance(leaf, np.ndarray) and not (leaf.dtype == bool or jnp.issubdtype(leaf.dtype, jnp.number)):
            raise TypeError(f"argument {name!r} is an array of dtype {leaf.dtype}: give numbers")
        if isinstance(other, Iterator):  # read once, by the first trace: it would be empty in the next
            raise TypeError(f"argument {name!r} is a {type(other).__name__}, which can be read once: give arrays")
        try:
            hash(other)
        except TypeError:
            kind = type(other).__name__
            raise TypeError(f"argument {name!r} is a {kind}, neither an array nor hashable: give arrays") from None
    arrays = [leaf if other is None else None for leaf, other in zip(leaves, others, strict=True)]
    return arrays, Rest(structure, others)


def _chosen(names: tuple[str, ...], leaves: Any) -> list[bool]:
    """Which leaves are named, each by its own path or by that of a subtree above it."""
    wanted = (leaves,) if isinstance(leaves, str) else tuple(leaves) if isinstance(leaves, Sequence) else ()
    if not wanted:
        raise ValueError(f"leaves is {leaves!r}: give a dotted path of a leaf or a subtree, several in a list, or None")
    below: Callable[[str, str], bool] = lambda name, path: name == path or name.startswith(path + ".")  # noqa: E731
    for path in wanted:
        if not isinstance(path, str) or not any(below(name, path) for name in names):
            near = difflib.get_close_matches(str(path), names, 3, cutoff=0.0)
            raise ValueError(f"leaves names {path!r}, which is no leaf or subtree: the nearest are {', '.join(near)}")
    return [any(below(name, path) for path in wanted) for name in names]
