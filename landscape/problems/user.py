"""Your own model, from Flax, Equinox, Haiku or plain functions, as what this package works with.

    adapted = linen(module, variables, train=False)                 # or nnx(model), equinox(model, state), ...
    hessian.linear_operator(loss(adapted.model, criterion), adapted.params, (x, y))
    problem(adapted, criterion, x, y)                               # for surfaces, runs, critical points

A loss landscape is one of a fixed function, so every adapter takes a model in **evaluation mode: batch statistics are
frozen and dropout is off**. What is trained is `params`; all other arrays (batch statistics, random keys, collections
of other kinds, integers) are `frozen`: held constant, and never parameters. The model that was given is not changed.
Where a framework keeps the mode in the model (nnx, Equinox) the adapter switches a copy; where it is an argument of the
call (Linen, Haiku) give it to the adapter. A call that would update batch statistics is refused; what a module passes
to its own layers, such as `deterministic=False` inside an nnx model, is beyond an adapter's reach.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from landscape.problem import Problem, checked_point, is_float, leaf_names, make
from landscape.problems.evaluation import (
    Evaluation,
    Linen,
    apply_equinox,
    apply_haiku,
    apply_linen,
    apply_nnx,
    apply_plain,
    framework,
)

PyTree = Any
Criterion = Callable[[Any, Any], Any]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """`model(params, x) -> outputs`: a pytree whose leaves are the frozen arrays, so that it passes through `jit`."""

    frozen: PyTree
    apply: Evaluation = dataclasses.field(metadata={"static": True})

    def __call__(self, params: PyTree, x: PyTree) -> PyTree:
        """The outputs for inputs x, whose first axis counts samples."""
        return self.apply(params, self.frozen, x)


class Adapted(NamedTuple):
    """A user's model, taken apart."""

    apply: Evaluation  # apply(params, frozen, x) -> outputs: static
    params: PyTree  # what is trained: float arrays in the framework's own structure
    frozen: PyTree  # arrays that are held constant

    @property
    def model(self) -> Model:
        """The model as a pytree that is called with (params, x)."""
        return Model(self.frozen, self.apply)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Loss:
    """`loss(params, (x, y)) -> scalar`: a pytree whose leaves are the model's frozen arrays. Made by `loss`."""

    model: PyTree
    criterion: Criterion = dataclasses.field(metadata={"static": True})

    def __call__(self, params: PyTree, data: tuple[Any, Any]) -> Any:
        """criterion(model(params, x), y)."""
        x, y = data
        return self.criterion(self.model(params, x), jax.tree.map(jnp.asarray, y))


class Samples(NamedTuple):
    """The data of a problem made by `problem`."""

    x: PyTree  # (n, ...) inputs
    y: PyTree  # (n, ...) targets
    frozen: PyTree  # the model's frozen arrays: no samples


@dataclasses.dataclass(frozen=True)
class Objective:
    """The loss of a problem made by `problem`. Two of equal models and one criterion are equal."""

    apply: Evaluation
    criterion: Criterion

    def __call__(self, params: PyTree, data: Samples) -> Any:
        """The criterion on all the data."""
        return Loss(Model(data.frozen, self.apply), self.criterion)(params, (data.x, data.y))


def linen(module: Any, variables: Any, **call: Any) -> Adapted:
    """A Flax Linen module with its variables.

    Args:
      module: any `flax.linen.Module`. Equal modules share compilations.
      variables: what `module.init` returned or training left. "params" is what moves, the other collections are frozen.
      call: keyword arguments of `module.apply`, such as train=False, deterministic=True, use_running_average=True.

    Raises TypeError for another kind of module and for leaves that are no arrays; ValueError for variables without
    "params" or without a float among them, and, at the first call, for a module that then updates its variables or
    draws random numbers.
    """
    base = framework("flax.linen", "flax").Module
    if not isinstance(module, base):
        raise TypeError(f"module is {_kind(module)}: give a flax.linen.Module (nnx modules go to `nnx`)")
    if not isinstance(variables, Mapping) or "params" not in variables:
        found = f"has {', '.join(map(repr, variables))}" if isinstance(variables, Mapping) else f"is {_kind(variables)}"
        raise ValueError(f"variables {found}: give all that module.init returned, a dict with 'params' in it")
    params, held = _parted(variables["params"])
    return _adapted(apply_linen, (Linen(module),), call, params, {**variables, "params": held}, type(module).__name__)


def nnx(model: Any, **call: Any) -> Adapted:
    """A Flax nnx module: `params` is the State of its `nnx.Param`s that are floats, without Variables around arrays.

    Args:
      model: any `flax.nnx.Module`. A copy of it is put in evaluation mode with `.eval()`; models built alike are equal.
      call: keyword arguments of the model's call.

    `nnx.update(model, params)` writes parameters back. Raises TypeError for another kind of model and static attributes
    that cannot be hashed; ValueError for a model without float Params, and, at the first call, for one that updates
    its variables from its inputs all the same.
    """
    api = framework("flax.nnx", "flax")
    if not isinstance(model, api.Module):
        raise TypeError(f"model is {_kind(model)}: give a flax.nnx.Module (Linen modules go to `linen`)")
    copy = api.clone(model)
    copy.eval()
    moves = lambda path, leaf: isinstance(leaf, api.Param) and is_float(leaf.get_raw_value())  # noqa: E731
    graph, params, rest = api.split(copy, moves, ...)
    return _adapted(apply_nnx, (graph,), call, api.as_pure(params), api.as_pure(rest), type(model).__name__)


def equinox(model: Any, state: Any = None, **call: Any) -> Adapted:
    """An Equinox module of one example, mapped over the first axis of x: `params` is the module's inexact arrays.

    Args:
      model: any callable `equinox.Module`: `model(x)`, or `model(x, state)` where `state` is given. A copy of it is put
        in inference mode. What it holds besides arrays is static: modules built alike are equal.
      state: the `State` of `equinox.nn.make_with_state`, with its batch statistics: frozen.
      call: keyword arguments of the model's call; a `key` that it requires is given as None.

    `equinox.combine(params, model)` puts the module together again. The mapped axis is called "batch". Raises TypeError
    for another kind of model or state, and static fields that cannot be hashed; ValueError for a model without float
    arrays, and, at the first call, for one that updates its state from its inputs.
    """
    api = framework("equinox", "equinox")
    if not isinstance(model, api.Module) or not callable(model):
        raise TypeError(f"model is {_kind(model)}: give an equinox.Module that can be called")
    if state is not None and not isinstance(state, api.nn.State):
        raise TypeError(f"state is {_kind(state)}: give the State that equinox.nn.make_with_state returned")
    params, rest = api.partition(api.nn.inference_mode(model), api.is_inexact_array)
    arrays, static = api.partition(rest, api.is_array)
    leaves, structure = jax.tree.flatten(static)
    key = inspect.signature(type(model).__call__).parameters.get("key")
    options = {"key": None, **call} if key is not None and key.default is key.empty else call
    fixed = structure, tuple(leaves)
    return _adapted(apply_equinox, fixed, options, params, (arrays, state), type(model).__name__)


def haiku(transformed: Any, params: Any, state: Any = None, **call: Any) -> Adapted:
    """What `haiku.transform` or `haiku.transform_with_state` returned, with or without `haiku.without_apply_rng`.

    Args:
      transformed: the pair of functions. Make it once: two transforms of one function are different functions.
      params: what its `init` returned or training left.
      state: the same of its state, with batch statistics: frozen. Of `transform_with_state` only.
      call: keyword arguments of the function, such as is_training=False.

    Random numbers are not given (`rng` is None). Raises TypeError for what is no pair of Haiku's and for leaves that
    are no arrays; ValueError for a state too many or too few, parameters without a float, and, at the first call, for a
    function that then updates its state from its inputs or draws random numbers.
    """
    api = framework("haiku", "dm-haiku")
    if not isinstance(transformed, api.Transformed | api.TransformedWithState):
        raise TypeError(f"transformed is {_kind(transformed)}: give what transform or transform_with_state returned")
    stateful = isinstance(transformed, api.TransformedWithState)
    if stateful != (state is not None):
        hint = "give the state that init returned" if stateful else "give none, or use transform_with_state"
        raise ValueError(f"state is {_kind(state)} and transformed is {_kind(transformed)}: {hint}")
    moved, held = _parted(params)
    arguments = list(inspect.signature(transformed.apply).parameters)
    random = arguments[1 + stateful : 2 + stateful] == ["rng"]
    return _adapted(apply_haiku, (transformed.apply, stateful, random), call, moved, (held, state), "haiku")


def plain(apply: Callable[[PyTree, PyTree], PyTree], params: PyTree) -> Adapted:
    """A function `apply(params, x) -> outputs`, written at module level, with its parameters: any pytree of arrays.

    Integer and bool arrays among them are held constant. Raises TypeError for what is no function and for leaves that
    are no arrays; ValueError where there is no float.
    """
    if not callable(apply):
        raise TypeError(f"apply is {_kind(apply)}: give a function of (params, x)")
    moved, held = _parted(params)
    return _adapted(apply_plain, (apply,), {}, moved, held, getattr(apply, "__name__", type(apply).__name__))


def loss(model: Any, criterion: Criterion) -> Loss:
    """The loss `(params, (x, y)) -> criterion(model(params, x), y)`, for the tools of `landscape.hessian`.

    Args:
      model: `adapted.model`, or any function or callable pytree of (params, x).
      criterion: of (outputs, y), such as `networks.cross_entropy`: a mean over samples where data are taken in batches.
        Written at module level it is compiled once.

    Raises TypeError where one of the two cannot be called.
    """
    if not callable(model):
        hint = "give its .model" if isinstance(model, Adapted) else "give adapted.model, or a function of (params, x)"
        raise TypeError(f"model is {_kind(model)}: {hint}")
    _check_criterion(criterion)
    function = jax.tree_util.treedef_is_leaf(jax.tree.structure(model))
    return Loss(jax.tree_util.Partial(model) if function else model, criterion)


def problem(adapted: Adapted, criterion: Criterion, x: PyTree, y: PyTree, **known: Any) -> Problem:
    """The adapted model's loss `criterion(outputs, y)` over samples, as a Problem whose reference is its parameters.

    Args:
      adapted: from `linen`, `nnx`, `equinox`, `haiku` or `plain`.
      criterion: a mean over samples, at module level, such as `networks.cross_entropy`.
      x, y: arrays, or pytrees of arrays, whose first axis counts samples. Minibatches are drawn from them alone.
      known: other fields of `Problem` (`name`, `init`, `box`, `facts`), as in `landscape.problem.make`.

    Raises TypeError or ValueError, in one sentence, for x and y that are no arrays of one length, for a model that does
    not evaluate, and for what `landscape.problem.make` refuses.
    """
    if not isinstance(adapted, Adapted):
        raise TypeError(f"adapted is {_kind(adapted)}: give what linen, nnx, equinox, haiku or plain returned")
    _check_criterion(criterion)
    known = {"name": adapted.apply.name, "take": take, "size": _samples(x, y), **known}
    return make(Objective(adapted.apply, criterion), adapted.params, Samples(x, y, adapted.frozen), **known)


def take(data: Samples, indices: Any) -> Samples:
    """These samples alone, with all that is frozen."""
    x, y = jax.tree.map(lambda leaf: leaf[indices], (data.x, data.y))
    return Samples(x, y, data.frozen)


def _adapted(function: Callable, fixed: tuple, call: dict, params: PyTree, frozen: PyTree, name: str) -> Adapted:
    """The parts together, checked: what is static has a hash, and params are floats."""
    for argument, value in call.items():
        _check_hash(value, f"argument {argument!r} of the call", "give switches, and put arrays into x")
    _check_hash(fixed, f"model {name!r}", "what it holds besides arrays must be hashable, such as tuples")
    evaluation = Evaluation(name, function, fixed, tuple(sorted(call.items())))
    return Adapted(evaluation, checked_point(params, "params"), frozen)


def _check_hash(value: Any, what: str, hint: str) -> None:
    try:
        hash(value)
    except TypeError as error:
        raise TypeError(f"{what} cannot be hashed, so it cannot be compiled in: {hint}") from error


def _check_criterion(criterion: Any) -> None:
    if not callable(criterion):
        raise TypeError(f"criterion is {_kind(criterion)}: give a function of (outputs, y)")
    _check_hash(criterion, "criterion", "write it as a function at module level, and put its arrays into y")


def _parted(params: PyTree) -> tuple[PyTree, PyTree]:
    """What moves, and the arrays that are no floats; None in each where the other has a leaf."""
    constant = lambda leaf: isinstance(leaf, jax.Array | np.ndarray | np.generic) and not is_float(leaf)  # noqa: E731
    moved = jax.tree.map(lambda leaf: None if constant(leaf) else leaf, params)
    return moved, jax.tree.map(lambda leaf: leaf if constant(leaf) else None, params)


def _samples(x: PyTree, y: PyTree) -> int:
    """How many samples there are."""
    both = {"x": x, "y": y}
    lengths = [np.shape(leaf)[0] if np.ndim(leaf) else 0 for leaf in jax.tree.leaves(both)]
    if len(set(lengths)) != 1 or 0 in lengths:
        found = " and ".join(f"{name} has {n} samples" for name, n in zip(leaf_names(both), lengths, strict=True))
        raise ValueError(f"{found}: give arrays whose first axes count the same samples, at least one")
    return lengths[0]


def _kind(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"
