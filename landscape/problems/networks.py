"""Networks: perceptrons as problems, and a convolutional one; parameters are a tuple of {"weight", "bias"} layers."""

import dataclasses
import difflib
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from landscape import problem
from landscape.problem import Problem
from landscape.problems import datasets
from landscape.problems.datasets import Dataset

Layer = dict[str, Any]  # "weight": (inputs, outputs), "bias": (outputs,)
Layers = tuple[Layer, ...]


@dataclasses.dataclass(frozen=True)
class Network:
    """The loss of a perceptron. Two with the same activation and criterion are equal, so they share compilations."""

    activation: Callable[[jax.Array], jax.Array]
    criterion: Callable[[jax.Array, jax.Array], jax.Array]

    def __call__(self, params: Layers, data: Dataset) -> jax.Array:
        """The criterion on all the data."""
        return self.criterion(self.apply(params, jnp.asarray(data.x)), jnp.asarray(data.y))

    def apply(self, params: Layers, x: jax.Array) -> jax.Array:
        """The outputs (n, outputs), the last layer without activation: logits where the loss is cross-entropy."""
        for layer in params[:-1]:
            x = self.activation(_affine(layer, x))
        return _affine(params[-1], x)


@dataclasses.dataclass(frozen=True)
class Start:
    """A random start: weights normal with variance gain/fan-in (He) or 2/(fan-in + fan-out) (Glorot), biases 0."""

    sizes: tuple[int, ...]
    he: bool

    def __call__(self, key: jax.Array, data: Dataset) -> Layers:
        """One draw, in the precision of the inputs: one key a layer."""
        dtype = jnp.result_type(data.x)
        keys = jax.random.split(key, len(self.sizes) - 1)
        widths = zip(self.sizes[:-1], self.sizes[1:], strict=True)
        return tuple(self._layer(k, *width, dtype) for k, width in zip(keys, widths, strict=True))

    def _layer(self, key: jax.Array, inputs: int, outputs: int, dtype: Any) -> Layer:
        deviation = np.sqrt(2 / inputs if self.he else 2 / (inputs + outputs))
        weight = deviation.astype(dtype) * jax.random.normal(key, (inputs, outputs), dtype)
        return {"weight": weight, "bias": jnp.zeros(outputs, dtype)}


@dataclasses.dataclass(frozen=True)
class Convolutional:
    """Stages of a 3x3 convolution (zeros around), the activation and a mean over 2x2; then one dense layer."""

    image: tuple[int, int, int]  # height, width, colours
    channels: tuple[int, ...]
    classes: int
    activation: str

    def init(self, key: jax.Array) -> tuple[dict[str, jax.Array], ...]:
        """A random start: He's or Glorot's normal weights by the number of inputs and outputs of a unit, biases 0."""
        keys = jax.random.split(key, len(self.channels) + 1)
        inputs = [9 * colours for colours in (self.image[2], *self.channels[:-1])] + [self._features()]
        widths = zip(keys, inputs, (*self.channels, self.classes), strict=True)
        nothing = Dataset(np.zeros((1, 1), np.float32), np.zeros(1, np.int32))
        start = lambda key, a, b: Start((a, b), self.activation == "relu")(key, nothing)[0]  # noqa: E731
        return tuple(start(*width) for width in widths)

    def __call__(self, params: tuple[dict[str, jax.Array], ...], x: jax.Array) -> jax.Array:
        """Logits (n, classes)."""
        x = x.reshape(len(x), *self.image)
        activation = ACTIVATIONS[self.activation]
        for layer in params[:-1]:
            # As a product of matrices: a convolution whose weights differ from run to run would be a grouped one.
            x = _halved(activation(_affine(layer, _patches(x))))
        return _affine(params[-1], x.reshape(len(x), -1))

    def _features(self) -> int:
        height, width = (math.ceil(side / 2 ** len(self.channels)) for side in self.image[:2])
        return height * width * self.channels[-1]


@dataclasses.dataclass(frozen=True)
class Renumbering:
    """Hidden units of one layer renumbered: the function of the network stays as it is."""

    layer: int
    order: tuple[int, ...]

    def __call__(self, params: Layers) -> Layers:
        """The parameters with the units of the layer in this order."""
        order, changed = np.array(self.order), list(params)
        mine, after = params[self.layer], params[self.layer + 1]
        changed[self.layer] = {"weight": mine["weight"][:, order], "bias": mine["bias"][order]}
        changed[self.layer + 1] = {"weight": after["weight"][order], "bias": after["bias"]}
        return tuple(changed)


@dataclasses.dataclass(frozen=True)
class Flip:
    """The first unit of one layer with all its signs turned: the same function where the activation is odd."""

    layer: int

    def __call__(self, params: Layers) -> Layers:
        """The parameters with the unit's incoming weights, bias and outgoing weights negated."""
        changed, (mine, after) = list(params), params[self.layer : self.layer + 2]
        signs = np.where(np.arange(mine["bias"].shape[0]) == 0, -1, 1).astype(np.int8)
        changed[self.layer] = {"weight": mine["weight"] * signs, "bias": mine["bias"] * signs}
        changed[self.layer + 1] = {"weight": after["weight"] * signs[:, None], "bias": after["bias"]}
        return tuple(changed)


def symmetries(sizes: Sequence[int], odd: bool) -> tuple[Callable[[Layers], Layers], ...]:
    """Generators of the renumberings of hidden units and, for an odd activation, of their changes of sign."""
    generators: list[Callable[[Layers], Layers]] = []
    for layer, units in enumerate(sizes[1:-1]):
        numbers = tuple(range(units))
        if units > 1:  # a swap and a cycle generate all renumberings
            generators.append(Renumbering(layer, (1, 0, *numbers[2:])))
        if units > 2:
            generators.append(Renumbering(layer, (*numbers[1:], 0)))
        if odd:
            generators.append(Flip(layer))
    return tuple(generators)


def mlp(
    sizes: Sequence[int],
    activation: str | Callable[[jax.Array], jax.Array] = "tanh",
    loss: str = "cross_entropy",
    *,
    data: Dataset,
) -> Problem:
    """A multilayer perceptron with its mean loss over `data`.

    Args:
      sizes: units of each layer, inputs and outputs included: (64, 32, 10) has one hidden layer.
      activation: a name in `ACTIVATIONS`, or a function of an array (at module level: each new lambda is compiled
        anew). It follows every layer but the last.
      loss: "cross_entropy" (labels 0, ..., outputs - 1; natural logarithm) or "squared_error" (the sum over outputs,
        no factor 1/2; targets (n, outputs), or integer labels, which become one-hot where there are two outputs or
        more). Both are means over samples.
      data: `Dataset(x, y)`, x of shape (n, inputs).

    Starts are random normal weights, He's for ReLU and Glorot's else, and zero biases; the reference is the start of
    `jax.random.key(0)`, in the precision of x. Raises ValueError or TypeError, in one sentence, for sizes that do not
    fit the data, an unknown activation or loss, empty or non-finite inputs, and labels out of range.
    """
    sizes = _checked_sizes(sizes)
    function, criterion = _named("activation", activation, ACTIVATIONS), _named("loss", loss, LOSSES)
    x = _checked_inputs(data, sizes[0])
    targets = _labels if criterion is cross_entropy else _targets
    checked = Dataset(x, targets(np.asarray(data[1]), len(x), sizes[-1]))
    init = Start(sizes, he=function is jax.nn.relu)
    return problem.make(
        Network(function, criterion),
        reference=jax.tree.map(np.asarray, init(jax.random.key(0), checked)),
        data=checked,
        name=f"mlp_{'_'.join(map(str, sizes))}",
        take=datasets.take,
        size=len(x),
        init=init,
        symmetries=symmetries(sizes, function in (jnp.tanh, linear)),
    )


def predict(network: Problem, params: Layers, x: ArrayLike) -> jax.Array:
    """The outputs (n, outputs) of a problem made by `mlp` at `params`, for any inputs x (n, inputs)."""
    if not isinstance(network.loss, Network):
        raise TypeError(f"problem {network.name!r} is no network: only problems made by `mlp` predict")
    return network.loss.apply(params, jnp.asarray(x))


def cross_entropy(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """mean_i (log sum_k exp z_ik - z_i,label(i)), in nats."""
    # A mask and a sum, not an index: its gradient is element-wise, where an index has a scatter.
    chosen = jnp.where(labels[:, None] == jnp.arange(outputs.shape[1])[None, :], outputs, 0)
    return jnp.mean(jax.nn.logsumexp(outputs, axis=1) - jnp.sum(chosen, axis=1))


def squared_error(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """mean_i sum_k (z_ik - y_ik)²; no factor 1/2."""
    return jnp.mean(jnp.sum(jnp.square(outputs - targets), axis=1))


def linear(x: jax.Array) -> jax.Array:
    """The identity: a deep linear network."""
    return x


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "gelu": jax.nn.gelu,
    "sigmoid": jax.nn.sigmoid,
    "softplus": jax.nn.softplus,
    "silu": jax.nn.silu,
    "linear": linear,
    "identity": linear,
}
LOSSES: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "cross_entropy": cross_entropy,
    "squared_error": squared_error,
}


def _affine(layer: Layer, x: jax.Array) -> jax.Array:
    return jnp.matmul(x, layer["weight"], precision="highest") + layer["bias"][None, :]


def _patches(x: jax.Array) -> jax.Array:
    """(n, height, width, 9 colours): each pixel with its eight neighbours, zeros beyond the edge."""
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = x.shape[1:3]
    shifted = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return jnp.concatenate(shifted, axis=-1)


def _halved(x: jax.Array) -> jax.Array:
    """The mean over 2x2 pixels; an odd last row or column is halved with itself."""
    x = jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)), mode="edge")
    n, height, width, colours = x.shape
    return jnp.mean(x.reshape(n, height // 2, 2, width // 2, 2, colours), axis=(2, 4))


def _named(argument: str, choice: Any, table: dict[str, Callable]) -> Callable:
    if argument == "activation" and callable(choice):
        return choice
    if isinstance(choice, str) and choice in table:
        return table[choice]
    near = difflib.get_close_matches(str(choice), table, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(table)}"
    raise ValueError(f"{argument} is {choice!r}, which is unknown: {hint}")


def _checked_sizes(sizes: Any) -> tuple[int, ...]:
    if not isinstance(sizes, Sequence | np.ndarray) or isinstance(sizes, str) or len(sizes) < 2:
        raise ValueError(f"sizes is {sizes!r}: give at least inputs and outputs, such as (64, 32, 10)")
    for size in sizes:
        if not isinstance(size, int | np.integer) or isinstance(size, bool) or size < 1:
            raise ValueError(f"sizes has {size!r}: every layer needs a whole number of units, 1 or more")
    return tuple(int(size) for size in sizes)


def _checked_inputs(data: Any, inputs: int) -> np.ndarray:
    if not isinstance(data, tuple) or len(data) != 2:
        raise TypeError(f"data is a {type(data).__name__}: give a Dataset(x, y)")
    x = np.asarray(data[0])
    if x.ndim != 2 or x.shape[0] == 0:
        raise ValueError(f"x has shape {x.shape}: give (samples, features) with at least one sample")
    if x.shape[1] != inputs:
        raise ValueError(f"x has {x.shape[1]} features and sizes begins with {inputs}: they must be equal")
    if not np.issubdtype(x.dtype, np.floating):
        raise TypeError(f"x has dtype {x.dtype}: inputs are floats, so convert and scale them")
    if not np.all(np.isfinite(x)):
        row, column = np.argwhere(~np.isfinite(x))[0]
        raise ValueError(f"x[{row}, {column}] is not finite: remove or mend that sample")
    return x


def _labels(y: np.ndarray, samples: int, classes: int) -> np.ndarray:
    """Integer labels in 0, ..., classes - 1, as int32."""
    if classes < 2:
        raise ValueError(f"sizes ends with {classes}: cross_entropy needs one output for each of 2 or more classes")
    if not np.issubdtype(y.dtype, np.integer):
        raise TypeError(f"y has dtype {y.dtype}: labels are integers from 0 to {classes - 1}")
    if y.shape != (samples,):
        raise ValueError(f"y has shape {y.shape}: give one label for each of the {samples} samples")
    if y.min() < 0 or y.max() >= classes:
        wrong = int(np.argmax((y < 0) | (y >= classes)))
        raise ValueError(f"y[{wrong}] is {y[wrong]}: with {classes} outputs, labels run from 0 to {classes - 1}")
    return y.astype(np.int32)


def _targets(y: np.ndarray, samples: int, outputs: int) -> np.ndarray:
    """Float targets (samples, outputs); integer labels become one-hot where there are several outputs."""
    if np.issubdtype(y.dtype, np.integer) and y.ndim == 1 and outputs > 1:
        return np.eye(outputs)[_labels(y, samples, outputs)]
    y = y[:, None] if y.ndim == 1 else y
    if y.shape != (samples, outputs):
        raise ValueError(f"y has shape {y.shape}: with {samples} samples and {outputs} outputs, give their targets")
    if not np.issubdtype(y.dtype, np.number) or np.iscomplexobj(y):
        raise TypeError(f"y has dtype {y.dtype}: targets are real numbers")
    if not np.all(np.isfinite(y)):
        raise ValueError(f"y[{int(np.argwhere(~np.isfinite(y))[0][0])}] is not finite: remove or mend that sample")
    return y.astype(np.float64)
