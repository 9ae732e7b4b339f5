"""Calls of models of other libraries, in evaluation mode: pure functions of (params, frozen arrays, inputs).

Part of `landscape.problems.user`, which makes them.
"""

import dataclasses
import importlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.interpreters import partial_eval

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """A model's call in evaluation mode, without its arrays. Static: two of equal models are equal, and hash alike."""

    name: str
    function: Callable = dataclasses.field(repr=False)  # (*fixed, params, frozen, x, **options) -> outputs
    fixed: tuple[Any, ...] = dataclasses.field(repr=False)
    options: tuple[tuple[str, Any], ...] = ()  # keyword arguments of the call

    def __call__(self, params: PyTree, frozen: PyTree, x: PyTree) -> PyTree:
        """The outputs for inputs x, whose first axis counts samples."""
        params, frozen, x = jax.tree.map(jnp.asarray, (params, frozen, x))
        return self.function(*self.fixed, params, frozen, x, **dict(self.options))


@dataclasses.dataclass(frozen=True, eq=False)
class Linen:
    """A module, compared by value. Its own hash fails where fields are lists, as those of `Sequential` are."""

    module: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Linen) and (self.module is other.module or self.module == other.module)

    def __hash__(self) -> int:
        return hash(type(self.module))


def apply_linen(static: Linen, params: PyTree, frozen: PyTree, x: PyTree, /, **call: Any) -> PyTree:
    """The outputs of a Linen module; raises ValueError where it would update a variable or draw a number."""
    errors = framework("flax.errors", "flax")
    variables = {**frozen, "params": merged(params, frozen["params"])}
    try:
        return static.module.apply(variables, x, mutable=False, **call)
    except (errors.ModifyScopeVariableError, errors.InvalidRngError) as error:
        raise _training(type(static.module).__name__, "linen") from error


def apply_nnx(graph: Any, params: PyTree, frozen: PyTree, x: PyTree, /, **call: Any) -> PyTree:
    """The outputs of an nnx module put together from its graph and its arrays."""
    api = framework("flax.nnx", "flax")

    def run(x: PyTree) -> tuple[PyTree, PyTree]:
        model = api.merge(graph, params, frozen)
        return model(x, **call), api.as_pure(api.state(model))

    return _unchanged(run, frozen, x, "nnx")


def apply_equinox(
    structure: Any, leaves: tuple[Any, ...], params: PyTree, frozen: PyTree, x: PyTree, /, **call: Any
) -> PyTree:
    """The outputs of an Equinox module of one example, mapped over the first axis of x."""
    arrays, state = frozen
    module = framework("equinox", "equinox").combine(params, arrays, structure.unflatten(leaves))

    def run(x: PyTree) -> tuple[PyTree, PyTree]:
        copy = jax.tree.map(lambda leaf: leaf, state)  # an update makes the State that it came from unusable
        return (module(x, **call), copy) if state is None else module(x, copy, **call)

    return jax.vmap(lambda x: _unchanged(run, state, x, "equinox"), axis_name="batch")(x)


def apply_haiku(
    apply: Callable, stateful: bool, random: bool, params: PyTree, frozen: PyTree, x: PyTree, /, **call: Any
) -> PyTree:
    """The outputs of a Haiku function."""
    held, state = frozen
    arguments = (merged(params, held), *(state,) * stateful, *(None,) * random)

    def run(x: PyTree) -> tuple[PyTree, PyTree]:
        outputs = apply(*arguments, x, **call)
        return outputs if stateful else (outputs, None)

    try:
        return _unchanged(run, state, x, "haiku")
    except ValueError as error:
        if type(error).__name__ != "MissingRNGError":  # which Haiku does not export
            raise
        raise _training("the function", "haiku") from error


def apply_plain(function: Callable, params: PyTree, frozen: PyTree, x: PyTree, /) -> PyTree:
    """The outputs of a plain function."""
    return function(merged(params, frozen), x)


def _unchanged(run: Callable, before: PyTree, x: PyTree, adapter: str) -> PyTree:
    """The outputs of `run(x) -> (outputs, state)`; raises ValueError where what it makes of `before` depends on x.

    Most states come back as the very arrays they were; from inside `nnx.jit` or `nnx.remat` as new ones.
    """
    paths = [path for path, _ in jax.tree.leaves_with_path(before)]
    left = lambda after: [dict(jax.tree.leaves_with_path(after)).get(path) for path in paths]  # noqa: E731
    outputs, after = run(x)
    if all(a is b for a, b in zip(left(after), jax.tree.leaves(before), strict=True)):
        return outputs
    traced = jax.make_jaxpr(lambda x: left(run(x)[1]))(x).jaxpr
    if any(partial_eval.dce_jaxpr(traced, [True] * len(traced.outvars))[1]):
        raise _training("the model", adapter)
    return outputs


def _training(name: str, adapter: str) -> ValueError:
    return ValueError(
        f"{name} updates its variables or draws random numbers when it is called, which evaluation mode excludes: give "
        f"`{adapter}` the argument that turns training off, such as train=False, is_training=False, deterministic=True "
        "or use_running_average=True"
    )


def merged(params: PyTree, held: PyTree) -> PyTree:
    """One pytree of two that have None where the other has a leaf."""
    return jax.tree.map(lambda a, b: b if a is None else a, params, held, is_leaf=lambda leaf: leaf is None)


def framework(module: str, package: str) -> Any:
    """A framework's module, imported when it is needed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"the adapter for {module} needs {package}: run `pip install {package}`") from error
