"""The workload in JAX: what a user of any JAX library writes first."""

import jax
import jax.numpy as jnp
from hessian_workload import load


def loss(params, X, y):
    """Mean softmax cross-entropy; params (W1, b1, W2, b2, W3, b3)."""
    W1, b1, W2, b2, W3, b3 = params
    h = jnp.tanh(X @ W1 + b1)
    h = jnp.tanh(h @ W2 + b2)
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(h @ W3 + b3), y[:, None], 1))


def inputs(samples):
    """(params, X, y) as JAX arrays."""
    work = load(samples)
    return jax.tree.map(jnp.asarray, (work.weights, work.X, work.y))
