"""What the benches of Newton's method work on: the toy, and a network of nine weights; float64."""

import numpy as np

X = np.linspace(-2, 2, 12)
Y = np.sin(2 * X) + 0.3 * X
PENALTY = 0.01
METHOD = "roots"  # the peers' only one, for `serving.respond`
REACHED = 1e-9  # a root's largest ‖g‖


def starts(task, count):
    """(count, 2 or 9) uniform starts."""
    return np.random.default_rng(0).uniform(-3, 3, (count, 2 if task == "toy" else 9))


def accuracy(norms):
    """The share of ends that are roots, and the largest ‖g‖ of these (NaN where there are none), of all ends' ‖g‖."""
    norms = np.asarray(norms)
    roots = norms[norms < REACHED]  # NaN is none
    return np.array([len(roots) / len(norms), np.max(roots) if len(roots) else np.nan])


def toy_loss(w):
    """(1 - w1 w2)²."""
    return (1 - w[0] * w[1]) ** 2


def toy_gradient(w):
    """In closed form, for scalars or arrays."""
    r = 1 - w[0] * w[1]
    return -2 * r * w[1], -2 * r * w[0]


def toy_hessian(w):
    """Likewise."""
    cross = 4 * w[0] * w[1] - 2
    return [[2 * w[1] * w[1], cross], [cross, 2 * w[0] * w[0]]]


def net_loss(w):
    """mean (sum_j v_j tanh(a_j x + b_j) - y)² + 0.01 ‖w‖² of w = (a, b, v), three hidden units; w a JAX array."""
    import jax.numpy as jnp

    hidden = jnp.tanh(X[:, None] * w[:3] + w[3:6])
    return jnp.mean((jnp.sum(hidden * w[6:], axis=1) - Y) ** 2) + PENALTY * jnp.sum(w * w)
