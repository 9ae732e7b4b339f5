"""Expected losses under a model's own predictions: what a Fisher information is the Hessian of.

Each is a function of two outputs z and z' of equal shape, the mean over all but the summed axes of

    E_{y ~ p(y | z)} [-log p(y | z')]     up to a constant,

whose Hessian in z' at z' = z is the Fisher information of the outputs, since E[g g^T] = E[Hessian of -log p].
"""

import difflib
from collections.abc import Callable

import jax
import jax.numpy as jnp


def categorical(z: jax.Array, other: jax.Array) -> jax.Array:
    """Logits along the last axis: -sum_k softmax(z)_k log softmax(z')_k, a mean over the axes before it."""
    return -jnp.mean(jnp.sum(jax.nn.softmax(z) * jax.nn.log_softmax(other), axis=-1))


def bernoulli(z: jax.Array, other: jax.Array) -> jax.Array:
    """One logit each: log(1 + exp z') - sigmoid(z) z', summed over all axes but the first, a mean over that."""
    return _mean(jax.nn.softplus(other) - jax.nn.sigmoid(z) * other)


def gaussian(z: jax.Array, other: jax.Array) -> jax.Array:
    """Means with unit variance: (z - z')²/2, summed over all axes but the first, a mean over that."""
    return _mean(jnp.square(z - other) / 2)


def poisson(z: jax.Array, other: jax.Array) -> jax.Array:
    """Logarithms of rates: exp z' - exp(z) z', summed over all axes but the first, a mean over that."""
    return _mean(jnp.exp(other) - jnp.exp(z) * other)


LIKELIHOODS: dict[str, Callable] = {
    "categorical": categorical,
    "bernoulli": bernoulli,
    "gaussian": gaussian,
    "poisson": poisson,
}


def expected_loss(likelihood: str | Callable) -> Callable:
    """The function of a name in `LIKELIHOODS`, or the function that was given; raises ValueError for another name."""
    if callable(likelihood):
        return likelihood
    if likelihood not in LIKELIHOODS:
        near = difflib.get_close_matches(str(likelihood), LIKELIHOODS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(LIKELIHOODS)}, or give a function"
        raise ValueError(f"likelihood is {likelihood!r}, which is unknown: {hint}")
    return LIKELIHOODS[likelihood]


def _mean(terms: jax.Array) -> jax.Array:
    """The sum over all axes but the first, a mean over that."""
    return jnp.sum(terms) / (len(terms) if terms.ndim else 1)
