"""A problem: a loss over a space of parameters, its data, and what is known about it exactly."""

import dataclasses
import difflib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

PyTree = Any


def _static(**kwargs) -> Any:
    return dataclasses.field(metadata={"static": True}, **kwargs)


class Box(NamedTuple):
    """An axis-parallel box of parameters: where to look for starts and critical points."""

    lower: PyTree  # shaped like the parameters
    upper: PyTree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Problem:
    """A loss over a space of parameters. Build it with `make` or with a builder of `landscape.problems`.

    Numbers are traced (`data`, `reference`, `box`), functions and sizes are static: one compilation serves every
    data set of a shape. Builders keep their numbers in NumPy float64; `astype` rounds them to the working precision.
    The builders validate, this class does not: it is also built from tracers.
    """

    data: PyTree  # what the loss needs besides the parameters
    reference: PyTree  # a point: it fixes the structure, and where a plane leaves the other parameters
    box: Box | None  # the part of the space worth exploring
    loss: Callable[[PyTree, PyTree], jax.Array] = _static()
    name: str = _static(default="")
    take: Callable[[PyTree, jax.Array], PyTree] | None = _static(default=None)  # (data, indices) -> these samples
    size: int = _static(default=0)  # how many samples `take` chooses from; 0: the loss is no mean over samples
    init: Callable[[jax.Array, PyTree], PyTree] | None = _static(default=None)  # (key, data) -> a random start
    facts: Callable[[PyTree], Any] | None = _static(default=None)  # data -> what is known exactly
    branch: Callable[[PyTree, PyTree], jax.Array] | None = _static(default=None)  # (params, data) -> which minimum
    branches: tuple[str, ...] = _static(default=())  # names of the minima, in the order that `branch` counts
    coercive: bool | Callable[[PyTree], bool] = _static(default=False)  # (of data): the loss grows in every direction
    symmetries: tuple[Callable[[PyTree], PyTree], ...] = _static(default=())  # params -> params of equal loss

    def at(self, params: PyTree) -> jax.Array:
        """The loss at `params` on all the data."""
        return jnp.asarray(self.loss(params, self.data))

    def astype(self, dtype: Any) -> "Problem":
        """The same problem with every float of its data, reference and box rounded to `dtype`."""
        return jax.tree.map(lambda leaf: leaf.astype(dtype) if is_float(leaf) else leaf, self)

    def sample(self, key: jax.Array) -> PyTree:
        """A random start: from `init` where the problem has one, else uniform in its box."""
        if self.init is not None:
            return self.init(key, self.data)
        if self.box is None:
            raise ValueError(f"problem {self.name!r} has neither `init` nor `box`: give starts, or make it with one")
        return uniform(key, self.box)


def make(
    loss: Callable[[PyTree, PyTree], jax.Array],
    reference: PyTree,
    data: PyTree = None,
    *,
    box: Any = None,
    **known: Any,
) -> Problem:
    """A problem from a loss `(params, data) -> scalar`, checked before anything is compiled.

    Args:
      loss: a pure function; write it at module level and pass every number through `data` (what a closure holds is
        compiled in, and a fresh lambda is compiled again at each call).
      reference: one point: a pytree of float arrays.
      data: anything `loss` needs. With `take` and `size` among `known`, its minibatches can be drawn.
      box: `(lower, upper)`, each shaped like `reference` or one number for all.
      known: the other fields of `Problem`.

    Raises ValueError or TypeError, in one sentence, for string leaves, Python integers, integer arrays, no float
    leaf, a box that is not one, an unknown field, `take` without `size`, a loss that does not return a float scalar,
    a symmetry that changes the shape of the parameters, or the loss at the reference or at a random point near it.
    """
    _check_known(loss, known)
    reference = checked_point(reference, "reference")
    problem = Problem(
        data=jax.tree.map(_as_array, data),
        reference=reference,
        box=None if box is None else _checked_box(box, reference),
        loss=loss,
        **{"name": getattr(loss, "__name__", type(loss).__name__), **known},
    )
    check_scalar(jax.eval_shape(problem.loss, problem.reference, problem.data), problem.name)
    if problem.symmetries:
        _check_symmetries(problem)
    return problem


def leaf_names(tree: PyTree) -> list[str]:
    """The leaves' paths as dotted names, in flattening order: `w1`, `layers.0.bias`."""
    return [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in jax.tree.leaves_with_path(tree)]


def parameter_count(params: PyTree) -> int:
    """Number of scalars in `params`."""
    return sum(int(np.size(leaf)) for leaf in jax.tree.leaves(params))


def uniform(key: jax.Array, box: Box) -> PyTree:
    """A point drawn uniformly from `box`: one key a leaf, in flattening order."""
    lower, structure = jax.tree.flatten(box.lower)
    upper = jax.tree.leaves(box.upper)
    keys = jax.random.split(key, len(lower))
    return structure.unflatten(
        [
            jax.random.uniform(k, jnp.shape(lo), jnp.result_type(lo), lo, hi)
            for k, lo, hi in zip(keys, lower, upper, strict=True)
        ]
    )


def is_float(leaf: Any) -> bool:
    """Whether a leaf can move: real or complex floating point."""
    return jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)


def float_dtype(tree: PyTree) -> Any:
    """The working precision of a point: the widest float among its leaves that JAX's x64 switch lets through."""
    floats = [leaf for leaf in jax.tree.leaves(tree) if is_float(leaf)]
    return jax.dtypes.canonicalize_dtype(jnp.result_type(*floats))


def checked_point(point: PyTree, argument: str) -> PyTree:
    """`point` with its leaves as arrays, or an error that names `argument` and the leaf at fault."""
    for name, leaf in zip(leaf_names(point), jax.tree.leaves(point), strict=True):
        where = f"{argument} leaf {name!r}" if name else argument
        if isinstance(leaf, bool | int) and not isinstance(leaf, np.generic):
            raise TypeError(f"{where} is the Python {type(leaf).__name__} {leaf!r}: write {float(leaf)!r}")
        if not isinstance(leaf, float | np.ndarray | np.generic | jax.Array):
            raise TypeError(f"{where} is a {type(leaf).__name__} ({leaf!r:.40}): parameters are float arrays")
        if not is_float(leaf):
            dtype = np.asarray(leaf).dtype
            raise TypeError(f"{where} has dtype {dtype}: parameters are float arrays, so move it into `data`")
        if not np.all(np.isfinite(leaf)):
            raise ValueError(f"{where} is not finite ({np.asarray(leaf).ravel()[:3]}): give finite numbers")
    if not jax.tree.leaves(point):
        raise ValueError(f"{argument} has no float leaf: there is nothing to explore, so give at least one parameter")
    return jax.tree.map(_as_array, point)


def checked_key(key: Any) -> jax.Array:
    """`key` as a JAX key, made from it where it is an integer; raises ValueError unless it is one or the other.

    Other integers than those of 32 bits would be other keys with JAX's x64 switch off, some of them those of others.
    """
    if isinstance(key, int | np.integer) and not isinstance(key, bool):
        if not 0 <= key < 2**32:
            raise ValueError(f"key is {key}: give an integer from 0 to {2**32 - 1}, or a JAX key")
        return jax.random.key(int(key))
    typed = isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    raw = isinstance(key, jax.Array) and key.dtype == np.uint32  # of jax.random.PRNGKey
    if not (typed and key.shape == () or raw and key.shape == (2,)):
        raise ValueError(f"key is {key!r:.60}: give an integer or a JAX key")
    return key


def checked_count(name: str, value: Any, least: int = 1, most: int | None = None, why: str = "") -> int:
    """`value`; raises ValueError unless it is a whole number, `least` or more, and at most `most`."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):
        bounds = f"{least} or more" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} is {value!r}: give a whole number, {bounds}{why}")
    return int(value)


def checked_real(name: str, values: Any) -> np.ndarray:
    """`values` as a float64 array; raises ValueError unless they are real numbers, in rows of one length."""
    try:
        found = np.asarray(values)
    except ValueError:  # rows of different lengths
        found = np.asarray(None)
    if not np.can_cast(found.dtype, np.float64, "same_kind"):
        raise ValueError(f"{name} is {values!r:.60}: give real numbers")
    return found.astype(np.float64)


def check_unchanged(name: str, before: Any, after: Any, eps: float) -> None:
    """Raise where a symmetry of the problem `name` moves the loss by more than √eps (1 + |L|), half of the digits."""
    if abs(after - before) > eps**0.5 * (1 + abs(before)):
        raise ValueError(
            f"a symmetry of problem {name!r} changes the loss from {float(before):.10g} to {float(after):.10g}: "
            "declare only maps of the parameters that leave it as it is"
        )


def check_scalar(result: Any, name: str) -> None:
    """Raise unless the abstract value of a loss is one float scalar."""
    shape, dtype = getattr(result, "shape", None), getattr(result, "dtype", None)
    if shape != () or not jnp.issubdtype(dtype, jnp.floating):
        found = f"shape {shape} and dtype {dtype}" if shape is not None else f"a {type(result).__name__}"
        raise TypeError(f"loss {name!r} returned {found}: it must return a float scalar, so take a mean or a sum")


def _check_known(loss: Any, known: dict[str, Any]) -> None:
    if not callable(loss):
        raise TypeError(f"loss is {loss!r:.60}: give a function of (params, data)")
    fields = [field.name for field in dataclasses.fields(Problem)]
    for name in known:
        if name not in fields:
            near = difflib.get_close_matches(name, fields, 1, cutoff=0.0)[0]
            raise TypeError(f"make has no argument {name!r}: the nearest is {near!r}, of {', '.join(fields)}")
    take, size = known.get("take"), known.get("size", 0)
    if not isinstance(size, int | np.integer) or isinstance(size, bool) or size < 0:
        raise ValueError(f"size is {size!r}: give the number of samples, a whole number, 0 or more")
    symmetries = known.get("symmetries", ())
    if not isinstance(symmetries, tuple):  # a static field is hashed
        raise TypeError(f"symmetries is {symmetries!r:.60}: give a tuple of functions of the parameters")
    coercive = known.get("coercive", False)
    if not (isinstance(coercive, bool) or callable(coercive)):
        raise TypeError(f"coercive is {coercive!r:.60}: give True, False, or a function of the data that says so")
    for symmetry in symmetries:
        if not callable(symmetry):
            raise TypeError(f"symmetries has {symmetry!r:.40}: give functions of the parameters that leave the loss")
    if (take is None) != (size == 0):
        raise ValueError(f"take is {take!r:.60} and size is {size}: give both, for minibatches, or neither")


def _check_symmetries(problem: Problem) -> None:
    """Raise unless every symmetry keeps the structure of the reference, and the loss there and at a point nearby."""
    rng = np.random.default_rng(0)
    beside = jax.tree.map(lambda leaf: np.asarray(leaf + rng.normal(size=leaf.shape), leaf.dtype), problem.reference)
    losses = [problem.at(point) for point in (problem.reference, beside)]
    structure, shapes = jax.tree.structure(problem.reference), jax.tree.map(np.shape, problem.reference)
    # The coarsest digits that enter the loss: rounding is far below half of them, a map that is no symmetry far above.
    floats = filter(is_float, jax.tree.leaves((problem.reference, problem.data)))
    coarse = max(float(jnp.finfo(jnp.result_type(leaf)).eps) for leaf in floats)
    for symmetry in problem.symmetries:
        for point, loss in zip((problem.reference, beside), losses, strict=True):
            image = symmetry(point)
            found = jax.tree.map(np.shape, image)
            if jax.tree.structure(image) != structure or found != shapes:
                raise ValueError(
                    f"symmetry {symmetry!r:.60} of problem {problem.name!r} makes {found} of {shapes}: "
                    "return parameters of the same structure and shapes"
                )
            check_unchanged(problem.name, loss, problem.at(image), coarse)


def _as_array(leaf: Any) -> Any:
    if isinstance(leaf, str | bytes):
        raise TypeError(f"data leaf {leaf!r:.40} is a string: data are arrays, so keep names and switches in the loss")
    if isinstance(leaf, float):
        return np.asarray(leaf, np.float64)
    array = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
    if array.dtype == np.object_:
        kind = type(leaf).__name__
        raise TypeError(f"data leaf {leaf!r:.40} is a {kind}: data are arrays, so keep objects in the loss")
    return array


def _checked_box(box: Any, reference: PyTree) -> Box:
    if not isinstance(box, tuple | list) or len(box) != 2:
        raise ValueError(f"box is {box!r:.60}: give (lower, upper), each shaped like `reference` or one number")
    lower, upper = (_corner(side, reference) for side in box)
    for name, lo, hi in zip(leaf_names(reference), jax.tree.leaves(lower), jax.tree.leaves(upper), strict=True):
        if not (np.all(np.isfinite(lo)) and np.all(np.isfinite(hi)) and np.all(lo < hi)):
            where = f"box of {name!r}" if name else "box"
            raise ValueError(f"{where} runs from {lo} to {hi}: finite bounds with lower < upper are needed")
    return Box(lower, upper)


def _corner(side: Any, reference: PyTree) -> PyTree:
    """One corner of a box, spread over the leaves where it is one number for all."""
    if isinstance(side, int | float | np.number):
        side = jax.tree.map(lambda leaf: side, reference)
    try:
        return jax.tree.map(
            lambda leaf, bound: np.broadcast_to(np.asarray(bound, np.float64), np.shape(leaf)), reference, side
        )
    except ValueError as error:
        raise ValueError(f"box corner {side!r:.60} is not shaped like `reference` ({reference!r:.60})") from error
