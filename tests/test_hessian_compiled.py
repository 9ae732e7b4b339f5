"""The Hessian tools' own `jit`: its options are there where they may be, and change results by rounding only."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from landscape import hessian
from landscape.hessian import compiled

X = np.random.default_rng(0).normal(size=(200, 30)).astype(np.float32)
W = np.random.default_rng(1).normal(size=(30, 20)).astype(np.float32)


def loss(w, x):
    return jnp.mean(jnp.tanh(x @ w) ** 4)


def program(function, *args):
    return function.lower(*args).compile().as_text()


@pytest.fixture
def fresh():
    compiled._options.cache_clear()
    yield
    compiled._options.cache_clear()


def test_products_are_done_by_eigen_on_a_cpu(fresh):
    if "ynn" not in program(jax.jit(lambda w, x: x @ w), W, X):
        pytest.skip("this JAX gives no product to YNNPACK")
    options = compiled._options()
    assert "ynn" not in program(jax.jit(lambda w, x: x @ w, compiler_options=options), W, X)


def test_options_are_given_outside_of_a_jit_only(monkeypatch):
    monkeypatch.setattr(compiled, "_options", lambda: {"xla_cpu_no_such_option": "1"})
    triple = compiled.compiled(lambda x: 3 * x)
    with pytest.raises(jax.errors.JaxRuntimeError, match="xla_cpu_no_such_option"):
        triple(2.0)
    assert jax.jit(triple)(2.0) == 6 and jax.grad(triple)(2.0) == 3 and jax.vmap(triple)(jnp.ones(2))[1] == 3


def test_an_option_that_is_not_known_is_left_out(fresh, monkeypatch):
    monkeypatch.setattr(compiled, "BY_EIGEN", {"xla_cpu_no_such_option": "1"})
    assert compiled._options() == {}
    triple = compiled.compiled(lambda x: 3 * x)
    assert triple(2.0) == 6


@pytest.mark.parametrize("transform", [jax.jit, jax.vmap, jax.grad, jax.make_jaxpr, lambda f: jax.jit(jax.vmap(f))])
def test_tracing_is_noticed(transform):
    seen = []

    def function(x):
        seen.append(compiled._traced())
        return 2 * x

    transform(function)(1.0 if transform in (jax.jit, jax.grad, jax.make_jaxpr) else jnp.ones(3))
    assert seen and all(seen)
    assert not compiled._traced()


def test_inside_a_jit_that_gives_it_constants_only():
    """No argument is traced then, and still there is a `jit` around it, which would refuse options."""
    alone = hessian.eigenpairs(loss, W, X, key=0).values
    inside = jax.jit(lambda scale: scale * hessian.eigenpairs(loss, W, X, key=0).values)(1.0)
    np.testing.assert_allclose(inside, alone, rtol=1e-5)
    product = jax.jit(lambda: hessian.hvp(loss, W, W, X))()
    np.testing.assert_allclose(product, hessian.hvp(loss, W, W, X), atol=1e-6)
