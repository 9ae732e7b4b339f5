"""Derivatives of a few scalars against closed forms and SymPy."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
import sympy

from landscape import hessian, smallmatrix

BOTH = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def toy(scalars):
    return jnp.square(1 - scalars[0] * scalars[1])


def asymmetric(scalars):
    """No symmetry between its arguments, so that a transposed or misplaced entry shows."""
    x, y, z = scalars
    return jnp.sin(x) * jnp.exp(0.5 * y) + x * y**2 * z**3 + jnp.log(3 + z) * x**2


def derived():
    """Gradient and Hessian of `asymmetric` by SymPy, as a NumPy function."""
    x, y, z = names = sympy.symbols("x y z")
    f = sympy.sin(x) * sympy.exp(y / 2) + x * y**2 * z**3 + sympy.log(3 + z) * x**2
    gradient = [sympy.diff(f, name) for name in names]
    return sympy.lambdify(names, [f, gradient, sympy.hessian(f, names)], "numpy")


def arrays(found):
    value, gradient, rows = found
    return np.asarray(value), np.array(gradient), np.array(rows)


@BOTH
def test_the_toys_derivatives_are_the_closed_form(dtype):
    points = np.random.default_rng(0).uniform(-3, 3, (500, 2)).astype(dtype)
    with jax.enable_x64(dtype == np.float64):
        found = arrays(jax.jit(jax.vmap(lambda a, b: hessian.derivatives(toy, (a, b))))(*points.T))
    value, gradient, rows = found[0], found[1].T, np.moveaxis(found[2], -1, 0)
    assert value.dtype == gradient.dtype == rows.dtype == dtype
    exact = points.astype(np.float64)
    # A dozen roundings of terms up to 60 (|w1 w2| <= 9) in a value up to 100.
    tolerance = {"rtol": 0, "atol": 300 * np.finfo(dtype).eps}
    np.testing.assert_allclose(value, [(1 - a * b) ** 2 for a, b in exact], **tolerance)
    np.testing.assert_allclose(gradient, [oracles.toy_gradient(*p) for p in exact], **tolerance)
    np.testing.assert_allclose(rows, [oracles.toy_hessian(*p) for p in exact], **tolerance)


@BOTH
def test_three_parameters_against_sympy(dtype):
    points = np.random.default_rng(1).uniform(-2, 2, (200, 3)).astype(dtype)
    with jax.enable_x64(dtype == np.float64):
        found = arrays(jax.jit(jax.vmap(lambda *p: hessian.derivatives(asymmetric, p)))(*points.T))
    exact = derived()
    wanted = [exact(*p) for p in points.astype(np.float64)]
    # About twenty roundings of terms up to 100 in entries up to 200.
    tolerance = {"rtol": 0, "atol": 1000 * np.finfo(dtype).eps}
    np.testing.assert_allclose(found[0], [w[0] for w in wanted], **tolerance)
    np.testing.assert_allclose(found[1].T, [w[1] for w in wanted], **tolerance)
    np.testing.assert_allclose(np.moveaxis(found[2], -1, 0), [w[2] for w in wanted], **tolerance)


@BOTH
def test_the_hessian_is_symmetric_to_the_last_bit(dtype):
    points = np.random.default_rng(2).uniform(-2, 2, (3, 300)).astype(dtype)
    with jax.enable_x64(dtype == np.float64):
        rows = arrays(jax.jit(jax.vmap(lambda *p: hessian.derivatives(asymmetric, p)))(*points))[2]
    np.testing.assert_array_equal(rows, np.swapaxes(rows, 0, 1))


def test_one_coordinate_has_a_one_by_one_hessian():
    value, gradient, rows = hessian.derivatives(lambda c: c[0] ** 3, (jnp.float32(2),))
    assert (float(value), float(gradient[0]), float(rows[0][0])) == (8.0, 12.0, 12.0)


@BOTH
@pytest.mark.parametrize("size", [2, 3])
def test_eigenvalues_are_numpys(dtype, size):
    rng = np.random.default_rng(size)
    matrices = rng.normal(size=(50, size, size))
    matrices = (matrices + np.swapaxes(matrices, 1, 2)).astype(dtype)
    with jax.enable_x64(dtype == np.float64):
        found = np.stack(jax.jit(jax.vmap(smallmatrix.eigenvalues))(matrices), -1)
    exact = np.linalg.eigvalsh(matrices.astype(np.float64))
    scale = np.abs(exact).max(1, keepdims=True)
    # The module's own promise: 4 n eps of the norm; NumPy's, in float64, may be off by as much.
    assert np.max(np.abs(found - exact) / scale) <= 8 * size * np.finfo(dtype).eps


def test_unstacked_takes_apart_and_puts_together():
    params = {"a": jnp.arange(6.0).reshape(2, 3), "b": (jnp.float32(7), jnp.array([8.0]))}
    scalars, stack = hessian.unstacked(params)
    assert [float(s) for s in scalars] == [0, 1, 2, 3, 4, 5, 7, 8] and {np.shape(s) for s in scalars} == {()}
    again = stack(scalars)
    assert jax.tree.structure(again) == jax.tree.structure(params)
    for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(params), strict=True):
        np.testing.assert_array_equal(a, b, strict=True)
