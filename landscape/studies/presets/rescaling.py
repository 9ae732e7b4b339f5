"""Dinh's rescaling of ReLU networks: the same function, any curvature; and what no rescaling changes.

relu(a z) = a relu(z) for a > 0: a hidden unit's incoming weights and bias times a, its outgoing weights over a, compute
the same function. Parameters are those of `problems.networks` with one hidden layer: ({"weight", "bias"}, same).

Source: Dinh et al., ICML 2017 (arXiv 1703.04933), theorem 2.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from landscape.problems.networks import Layers


class Traces(NamedTuple):
    """The trace of the Hessian, in parts."""

    incoming: Any  # (units,) of a hidden unit's incoming weights and bias
    outgoing: Any  # (units,) of its outgoing weights
    bias: Any  # of the output's bias, which no rescaling changes

    def total(self, scale: Any = 1.0) -> Any:
        """The trace after the rescaling of all units by `scale`: incoming / a² + outgoing a² + bias. Exact."""
        return jnp.sum(self.incoming) / scale**2 + jnp.sum(self.outgoing) * scale**2 + self.bias

    def least(self) -> Any:
        """The least trace that any rescaling of single units gives, Σ_j 2 √(incoming_j outgoing_j) + bias: at a_j² =
        √(incoming_j / outgoing_j). It is a property of the function, as far as rescaling goes.
        """
        return 2 * jnp.sum(jnp.sqrt(self.incoming * self.outgoing)) + self.bias


def rescaled(params: Layers, scale: Any) -> Layers:
    """The same function: first layer times `scale`, outgoing weights over it. Powers of 2 change no bit of a result."""
    first, second = params
    return (
        {"weight": first["weight"] * scale, "bias": first["bias"] * scale},
        {"weight": second["weight"] / scale, "bias": second["bias"]},
    )


def traces(params: Layers, x: jax.Array) -> Traces:
    """The trace of the Hessian of the mean cross-entropy on inputs x (n, d), exactly, wherever no unit is at its kink.

    The outputs z are linear in each layer, so that a layer's block is J' S J with S = diag(p) - p p', p = softmax(z):

        incoming_j = mean_i [h_ij > 0] (|x_i|² + 1) (w_j' S_i w_j)
        outgoing_j = mean_i h_ij² tr S_i
        bias = mean_i tr S_i

    with h the hidden outputs and w_j the outgoing weights of unit j. Labels have no part in it.
    """
    first, second = params
    hidden = jax.nn.relu(jnp.matmul(x, first["weight"], precision="highest") + first["bias"])
    outputs = jnp.matmul(hidden, second["weight"], precision="highest") + second["bias"]
    p, w = jax.nn.softmax(outputs), second["weight"]
    spread = 1 - jnp.sum(p * p, axis=1)  # tr S
    product = lambda a, b: jnp.matmul(a, b, precision="highest")  # noqa: E731
    bend = product(p, (w * w).T) - jnp.square(product(p, w.T))  # (n, units): w' S w
    reach = (hidden > 0) * (jnp.sum(x * x, axis=1) + 1)[:, None]
    return Traces(
        incoming=jnp.mean(reach * jnp.maximum(bend, 0), axis=0),  # a variance: negative by rounding only
        outgoing=jnp.mean(jnp.square(hidden) * spread[:, None], axis=0),
        bias=jnp.mean(spread),
    )


def scales(octaves: int) -> np.ndarray:
    """2^-octaves, ..., 1/2, 1, 2, ..., 2^octaves."""
    return 2.0 ** np.arange(-octaves, octaves + 1)
