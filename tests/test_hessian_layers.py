"""Every tool on one layer, over batches, inside jit: they agree with the diagonal block of the dense matrix."""

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from landscape import hessian

SAMPLES = 3 * 16 + 5


def loss(params, x, y):
    hidden = jnp.tanh(x @ params["first"]["weight"] + params["first"]["bias"])
    return jnp.mean(jnp.square(hidden @ params["last"] - y)) + 0 * params["step"]


def case():
    rng = np.random.default_rng(0)
    first = {"weight": rng.normal(size=(4, 3)), "bias": rng.normal(size=3)}
    return (
        {"first": first, "last": rng.normal(size=3), "step": np.int32(7)},
        rng.normal(size=(SAMPLES, 4)),
        rng.normal(size=SAMPLES),
    )


TOOLS = {
    "dense": lambda *args, **how: hessian.dense(*args, **how),
    "largest": lambda *args, **how: hessian.eigenpairs(*args, k=2, **how).values,
    "trace": lambda *args, **how: hessian.trace(*args, method="exact", **how).mean,
    "diagonal": lambda *args, **how: hessian.diagonal(*args, **how).mean["first"]["weight"].ravel(),
    "mass": lambda *args, **how: hessian.density(*args, probes=4, steps=15, **how).moment(0).mean,
    "inertia": lambda *args, **how: jnp.stack(hessian.inertia(*args, **how)[:3]),
}
TRUTH = {
    "dense": lambda a: a,
    "largest": lambda a: np.linalg.eigvalsh(a)[:-3:-1],
    "trace": np.trace,
    "diagonal": lambda a: np.diag(a)[3:15],  # the bias comes first
    "mass": len,
    "inertia": lambda a: [np.sum(np.linalg.eigvalsh(a) < -1e-12), 0, np.sum(np.linalg.eigvalsh(a) > 1e-12)],
}


@pytest.mark.parametrize("tool", TOOLS)
def test_a_layer_over_batches_inside_jit(tool):
    params, x, y = case()
    with jax.enable_x64(True):
        flat, restore = jax.flatten_util.ravel_pytree(params["first"])
        whole = np.asarray(jax.hessian(lambda v: loss({**params, "first": restore(v)}, x, y))(flat))
        exact = TRUTH[tool](whole)
        np.testing.assert_allclose(TOOLS[tool](loss, params, x, y, leaves="first"), exact, rtol=1e-9, atol=1e-12)
        batched = jax.jit(lambda p, x, y: TOOLS[tool](loss, p, x, y, leaves="first", batch_size=16))
        np.testing.assert_allclose(batched(params, x, y), exact, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_a_gauss_newton_operator_serves_every_tool():
    params, x, y = case()
    model = lambda p, x: jnp.tanh(x @ p["first"]["weight"] + p["first"]["bias"]) @ p["last"]  # noqa: E731
    squared = lambda z, y: jnp.mean(jnp.square(z - y))  # noqa: E731
    with jax.enable_x64(True):
        operator = hessian.ggn_operator(squared, model, params, x, y)
        matrix = np.asarray(hessian.dense(operator))
        np.testing.assert_allclose(hessian.eigenpairs(operator, k=3).values, np.linalg.eigvalsh(matrix)[:-4:-1])
        np.testing.assert_allclose(hessian.trace(operator, method="exact").mean, np.trace(matrix))
        np.testing.assert_allclose(hessian.density(operator, steps=18).moment(0).mean, 18)
        found = hessian.inertia(operator)
        assert int(found.negative) == 0 and int(found.zero + found.positive) == 18
