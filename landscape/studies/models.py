"""The models that a study trains: perceptrons, small convolutional networks, and any that a module names."""

import dataclasses
import difflib
import importlib
import inspect
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from landscape.imports import named
from landscape.problem import is_float
from landscape.problems import networks, user
from landscape.problems.datasets import Dataset
from landscape.problems.evaluation import Linen

PyTree = Any


class Model(NamedTuple):
    """What is trained: `adapted.apply(params, frozen, x)`, from `init(key)`."""

    adapted: user.Adapted
    init: Callable[[jax.Array], PyTree]  # hashable: two of equal models are equal


@dataclasses.dataclass(frozen=True)
class Perceptron:
    """Layers of these widths on flattened inputs; starts as `networks.mlp` has them."""

    sizes: tuple[int, ...]
    activation: str

    def init(self, key: jax.Array) -> networks.Layers:
        """A random start in single precision."""
        start = networks.Start(self.sizes, he=self.activation == "relu")
        return start(key, Dataset(np.zeros((1, self.sizes[0]), np.float32), np.zeros(1, np.int32)))

    def __call__(self, params: networks.Layers, x: jax.Array) -> jax.Array:
        """Logits (n, classes)."""
        network = networks.Network(networks.ACTIVATIONS[self.activation], networks.cross_entropy)
        return network.apply(params, x.reshape(len(x), -1))


@dataclasses.dataclass(frozen=True)
class Initializer:
    """A random start; two of one function and equal arguments are equal, as bound methods are not."""

    make: Callable[..., PyTree]  # (key, *fixed)
    fixed: tuple[Any, ...]

    def __call__(self, key: jax.Array) -> PyTree:
        """The parameters."""
        return self.make(key, *self.fixed)


def build(spec: str, shape: tuple[int, ...], classes: int) -> Model:
    """The model that `spec` names, for inputs of this shape and so many classes.

    Args:
      spec: "mlp:WIDTHS[:ACTIVATION]" with hidden widths such as 128-64 ("mlp:" has none); "cnn:CHANNELS[:ACTIVATION]";
        "package.module:name" or "path/to/file.py:name". The name is a pair `(init, apply)` of functions, `init(key, x)`
        and `apply(params, x)`, a Flax Linen module, or a function or class that makes an Equinox module from `key=` or
        an nnx module from `rngs=`. It gets inputs of `shape` and gives logits.

    Raises ValueError, in one sentence, for a spec that is none of these, a model whose outputs are not (n, classes),
    and one with state besides its parameters (batch statistics): that state would have to be trained too.
    """
    kind, _, rest = spec.partition(":")
    if kind == "mlp":
        widths, activation = _layers(spec, rest)
        return _plain(Perceptron((math.prod(shape), *widths, classes), activation))
    if kind == "cnn":
        channels, activation = _layers(spec, rest)
        if not channels:
            raise ValueError(f"model is {spec!r}: give channels of one stage or more, such as cnn:8-16")
        return _plain(networks.Convolutional(_image(shape), channels, classes, activation))
    found = named(spec, "model", "mlp:..., cnn:..., file.py:name or package.module:name")
    model = _named(spec, found, shape)
    outputs = jax.eval_shape(model.adapted.model, model.adapted.params, np.zeros((2, *shape), np.float32))
    if getattr(outputs, "shape", None) != (2, classes):
        found = getattr(outputs, "shape", type(outputs).__name__)
        raise ValueError(f"model {spec!r} gives {found} for 2 samples: logits (2, {classes}) are needed")
    return model


def _plain(function: Perceptron | networks.Convolutional) -> Model:
    start = Initializer(_own_start, (function,))
    # Zeros: a reference fixes structure and shapes, and to draw it would cost a compilation.
    reference = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), jax.eval_shape(start, jax.random.key(0)))
    return Model(user.plain(function, reference), start)


def _named(spec: str, found: Any, shape: tuple[int, ...]) -> Model:
    """A model of the user's."""
    example, key = np.zeros((1, *shape), np.float32), jax.random.key(0)
    if isinstance(found, tuple) and len(found) == 2 and all(map(callable, found)):
        init, apply = found
        start = Initializer(_pair_start, (init, shape))
        return Model(user.plain(apply, start(key)), start)
    if type(found).__module__ != "builtins" and hasattr(found, "init") and hasattr(found, "apply"):
        variables = found.init(key, example)
        if set(variables) != {"params"}:
            raise ValueError(
                f"model {spec!r} has {', '.join(sorted(variables))}: only parameters are trained, so leave others out"
            )
        start = Initializer(_linen_start, (Linen(found), shape))
        return Model(user.linen(found, variables), start)
    arguments = inspect.signature(found).parameters if callable(found) else {}
    if "key" in arguments:
        return Model(user.equinox(found(key=key)), Initializer(_equinox_start, (found,)))
    if "rngs" in arguments:
        nnx = importlib.import_module("flax.nnx")
        return Model(user.nnx(found(rngs=nnx.Rngs(0))), Initializer(_nnx_start, (found,)))
    raise ValueError(
        f"model {spec!r} is a {type(found).__name__}: give a pair (init, apply), a Flax Linen module, or a function "
        "that makes an Equinox module from key= or an nnx module from rngs="
    )


def _own_start(key: jax.Array, function: Perceptron | networks.Convolutional) -> PyTree:
    return function.init(key)


def _pair_start(key: jax.Array, init: Callable, shape: tuple[int, ...]) -> PyTree:
    return init(key, jnp.zeros((1, *shape), jnp.float32))


def _linen_start(key: jax.Array, module: Any, shape: tuple[int, ...]) -> PyTree:
    return module.module.init(key, jnp.zeros((1, *shape), jnp.float32))["params"]


def _equinox_start(key: jax.Array, make: Callable) -> PyTree:
    api = importlib.import_module("equinox")
    return api.partition(make(key=key), api.is_inexact_array)[0]  # as `user.equinox`, which cannot be traced


def _nnx_start(key: jax.Array, make: Callable) -> PyTree:
    api = importlib.import_module("flax.nnx")
    moves = lambda path, leaf: isinstance(leaf, api.Param) and is_float(leaf.get_raw_value())  # noqa: E731
    return api.as_pure(api.split(make(rngs=api.Rngs(key)), moves, ...)[1])  # as `user.nnx`, which cannot be traced


def _layers(spec: str, rest: str) -> tuple[tuple[int, ...], str]:
    """Widths and the activation of "128-64:relu"."""
    widths, _, activation = rest.partition(":")
    activation = activation or "relu"
    parts = widths.split("-") if widths else []
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ValueError(f"model is {spec!r}: widths are whole numbers with - between them, such as mlp:128-64:relu")
    if activation not in networks.ACTIVATIONS:
        near = difflib.get_close_matches(activation, networks.ACTIVATIONS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(networks.ACTIVATIONS)}"
        raise ValueError(f"model is {spec!r}, and activation {activation!r} is unknown: {hint}")
    return tuple(map(int, parts)), activation


def _image(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Height, width and colours; flat inputs are square images, of one colour or three."""
    if len(shape) in (2, 3):
        return (*shape, 1)[:3]  # type: ignore[return-value]
    for colours in (1, 3):
        side = math.isqrt(shape[0] // colours)
        if side * side * colours == shape[0]:
            return side, side, colours
    raise ValueError(f"inputs have shape {shape}: a cnn needs images, (height, width) or (height, width, colours)")
