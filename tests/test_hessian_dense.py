"""The whole matrix, its inertia, and the loss along directions: SymPy, finite differences, exact spectra."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
import sympy
from quadratics import matrix_of, quadratic
from test_hessian_eigenpairs import digits, digits_loss

from landscape import hessian
from landscape.hessian import compiled
from landscape.hessian.dense import _dense

BOTH = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def asymmetric(p, scale):
    """No symmetry between its arguments, so that a transposed or misplaced entry shows."""
    x, (y, z) = p["x"], p["rest"]
    return scale * (jnp.sin(x) * jnp.exp(0.5 * y) + x * y**2 * z**3 + jnp.log(3 + z) * x**2)


def derived(point):
    """Its Hessian in x, y, z by SymPy."""
    names = sympy.symbols("x y z")
    x, y, z = names
    f = sympy.sin(x) * sympy.exp(y / 2) + x * y**2 * z**3 + sympy.log(3 + z) * x**2
    return np.array(sympy.hessian(f, names).subs(dict(zip(names, point, strict=True))).evalf(20), np.float64)


@BOTH
def test_the_matrix_is_sympys(dtype):
    point = {"rest": (dtype(-1.2), dtype(0.8)), "x": dtype(0.7)}  # flattened in this order: y, z, x
    order = [1, 2, 0]
    exact = 2 * derived([np.float64(point["x"]), *map(np.float64, point["rest"])])[np.ix_(order, order)]
    with jax.enable_x64(dtype == np.float64):
        found = hessian.dense(asymmetric, point, dtype(2))
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, found.T)
        np.testing.assert_allclose(found, exact, atol=30 * np.finfo(dtype).eps)
        part = hessian.dense(asymmetric, point, dtype(2), leaves=["x", "rest.0"])
        np.testing.assert_allclose(part, exact[np.ix_([0, 2], [0, 2])], atol=30 * np.finfo(dtype).eps)


def test_the_matrix_agrees_with_finite_differences():
    rng = np.random.default_rng(0)
    x, y, at = rng.normal(size=(9, 3)), rng.normal(size=9), rng.normal(size=5)
    loss = lambda w: np.mean((y - np.tanh(x @ w[:3]) * w[3] - w[4]) ** 2)  # noqa: E731
    ours = lambda w: jnp.mean((y - jnp.tanh(x @ w[:3]) * w[3] - w[4]) ** 2)  # noqa: E731
    with jax.enable_x64(True):
        # Second central differences with a step of 1e-4: 1e-8 of truncation and of rounding.
        np.testing.assert_allclose(hessian.dense(ours, at), oracles.hessian(loss, at), atol=3e-7)


@pytest.mark.slow
def test_the_digits_networks_whole_spectrum():
    params, x, y, exact = digits()
    found = hessian.inertia(digits_loss, params, x, y)
    assert found.precision == "float32"
    eps = np.finfo(np.float32).eps
    # The error stays below the tolerance that it is judged by, by a wide margin.
    np.testing.assert_allclose(found.eigenvalues, exact[::-1], atol=20 * eps * exact[0])
    assert 20 * eps * exact[0] < found.tolerance < 1e-3 * exact[0]
    counts = [np.sum(exact < -found.tolerance), np.sum(abs(exact) <= found.tolerance), np.sum(exact > found.tolerance)]
    assert np.abs(np.subtract(counts, [found.negative, found.zero, found.positive])).max() <= 3


@pytest.mark.parametrize("memory", [1, 1 << 22, 1 << 30])
def test_columns_in_blocks_under_a_memory_bound(memory):
    """What XLA sets aside beside the matrix stays within the bound, or is one column's where the bound is less."""
    rng = np.random.default_rng(1)
    params = {"a": rng.normal(size=(20, 30)).astype(np.float32), "b": rng.normal(size=(30, 2)).astype(np.float32)}
    x = rng.normal(size=(2000, 20)).astype(np.float32)
    loss = lambda p, x: jnp.mean(jnp.sum(jnp.tanh(x @ p["a"]) @ p["b"], axis=1) ** 2)  # noqa: E731
    operator = hessian.linear_operator(loss, params, x)
    lowered = jax.jit(_dense.__wrapped__, static_argnums=0, compiler_options=compiled._options()).lower
    needed = lowered(memory, operator).compile().memory_analysis().temp_size_in_bytes
    n = operator.dimension
    assert needed <= max(memory, operator.program.work) + 3 * 4 * n**2
    wide = lowered(1 << 30, operator).compile().memory_analysis().temp_size_in_bytes
    assert memory == 1 << 30 or needed < wide
    exact = hessian.dense(loss, params, x, memory=1 << 30)
    np.testing.assert_allclose(hessian.dense(loss, params, x, memory=memory), exact, atol=1e-4)


@pytest.mark.parametrize("count", [1, 4, 5, 9, 16, 17])
def test_every_number_of_columns(count):
    matrix = matrix_of(np.arange(1.0, count + 1))
    with jax.enable_x64(True):
        for memory in (1, 3000, 1 << 29):
            found = hessian.dense(quadratic, np.ones(count), matrix, memory=memory)
            np.testing.assert_allclose(found, matrix, atol=1e-13 * count)


# --- inertia ----------------------------------------------------------------------------------------------------------


@BOTH
def test_inertia_of_prescribed_spectra(dtype):
    spectrum = np.concatenate([-np.geomspace(0.01, 5, 7), np.zeros(11), np.geomspace(0.01, 2, 22)])
    with jax.enable_x64(dtype == np.float64):
        found = hessian.inertia(quadratic, np.ones(40, dtype), matrix_of(spectrum).astype(dtype))
        assert (int(found.negative), int(found.zero), int(found.positive)) == (7, 11, 22)
        assert found.precision == np.dtype(dtype).name and found.eigenvalues.dtype == dtype
        # Counted by sign alone, the zeros are rounding.
        assert np.sum(np.asarray(found.eigenvalues) > 0) != 22 or dtype == np.float64
        none = hessian.inertia(quadratic, np.ones(40, dtype), matrix_of(spectrum).astype(dtype), tolerance=0.02)
        assert int(none.zero) > 11 and float(none.tolerance) == dtype(0.02)


def test_double_precision_tells_what_single_cannot():
    small = 1e-7
    loss = lambda p: p["x"] ** 2 + small * p["y"] ** 2 + 0 * jnp.sum(p["z"])  # noqa: E731
    point = {"x": np.float32(0.3), "y": np.float32(0.2), "z": np.zeros(3, np.float32)}
    single = hessian.inertia(loss, point)
    assert (int(single.negative), int(single.zero), int(single.positive)) == (0, 4, 1)
    double = hessian.inertia(loss, point, precision="float64")
    assert (int(double.negative), int(double.zero), int(double.positive)) == (0, 3, 2)
    assert double.precision == "float64" and isinstance(double.eigenvalues, np.ndarray)
    assert double.tolerance < 2 * small < single.tolerance


def test_single_precision_noise_is_not_counted():
    """A matrix of rank one in single precision: dozens of signs, of which one is true."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(40, 60)).astype(np.float32)
    loss = lambda w, x: jnp.mean(x @ w) ** 2  # noqa: E731
    found = hessian.inertia(loss, rng.normal(size=60).astype(np.float32), x)
    assert (int(found.negative), int(found.zero), int(found.positive)) == (0, 59, 1)


def test_a_hessian_that_is_not_finite_has_no_inertia():
    kinked = lambda p: jnp.sum(jnp.abs(p) ** 1.5)  # noqa: E731
    with pytest.raises(FloatingPointError, match="not finite, so it has no inertia"):
        hessian.inertia(kinked, np.array([0.0, 1.0, 2.0], np.float32))
    found = jax.jit(lambda p: hessian.inertia(kinked, p))(np.array([0.0, 1.0, 2.0], np.float32))
    assert [int(count) for count in found[:3]] == [-1, -1, -1]


def test_inertia_inside_jit():
    count = jax.jit(lambda w, a: hessian.inertia(quadratic, w, a))
    found = count(np.ones(4, np.float32), np.diag([1.0, -2.0, 0.0, 3.0]).astype(np.float32))
    assert (int(found.negative), int(found.zero), int(found.positive)) == (1, 1, 2)


# --- along directions -------------------------------------------------------------------------------------------------


def cubic(p, c):
    return p["a"] ** 3 - 2 * p["a"] * p["b"] + jnp.mean(c) * p["b"] ** 2


def test_the_profile_is_the_loss_on_lines_and_its_second_order():
    point, c = {"a": 0.5, "b": -1.0}, np.array([1.0, 2.0, 4.0])
    directions = {"a": np.array([1.0, 0.6]), "b": np.array([0.0, -0.8])}
    distances = np.array([-1.0, 0.0, 0.3, 2.0])
    with jax.enable_x64(True):
        for batch_size in (None, 2):
            found = hessian.profile(cubic, point, directions, distances, c, batch_size=batch_size)
            exact = lambda a, b: a**3 - 2 * a * b + c.mean() * b**2  # noqa: E731
            for i in range(2):
                u, v = directions["a"][i], directions["b"][i]
                np.testing.assert_allclose(found.loss[i], exact(0.5 + distances * u, -1 + distances * v), atol=1e-13)
                slope = (3 * 0.25 + 2) * u + (-1 - 2 * c.mean()) * v
                bend = 3 * u**2 - 4 * u * v + 2 * c.mean() * v**2
                np.testing.assert_allclose([found.slope[i], found.curvature[i]], [slope, bend], atol=1e-13)
                exact_quadratic = exact(0.5, -1) + distances * slope + distances**2 * bend / 2
                np.testing.assert_allclose(found.quadratic[i], exact_quadratic, atol=1e-13)


def test_the_loss_falls_along_a_saddles_negative_eigenvector():
    """chapter C5: L along (1, 1)/sqrt 2 from the toy's saddle is 0.990, 0.766, 0.25 at 0.1, 0.5, 1."""
    toy = lambda p: jnp.square(1 - p["w1"] * p["w2"])  # noqa: E731
    saddle = {"w1": 0.0, "w2": 0.0}
    found = hessian.eigenpairs(toy, saddle, which="smallest")
    line = hessian.profile(toy, saddle, found.vectors, [0.1, 0.5, 1.0])
    np.testing.assert_allclose(line.loss[0], [0.990025, 0.765625, 0.25], rtol=1e-6)
    np.testing.assert_allclose(line.quadratic[0], 1 - np.array([0.1, 0.5, 1.0]) ** 2, atol=1e-6)


W, A = np.ones(5, np.float32), np.eye(5, dtype=np.float32)
REFUSED = {
    "memory": (lambda: hessian.dense(quadratic, W, A, memory=0), "memory is 0"),
    "memory text": (lambda: hessian.dense(quadratic, W, A, memory="1GB"), "memory is '1GB'"),
    "precision": (lambda: hessian.inertia(quadratic, W, A, precision="double"), "precision is 'double'"),
    "tolerance": (lambda: hessian.inertia(quadratic, W, A, tolerance=-1.0), "tolerance is -1.0"),
    "operator": (
        lambda: hessian.inertia(hessian.linear_operator(quadratic, W, A), precision="float64"),
        "an operator is linearised already",
    ),
    "jit": (lambda: jax.jit(lambda w: hessian.inertia(quadratic, w, A, precision="float64"))(W), "inside jit"),
    "distances": (lambda: hessian.profile(quadratic, W, W[None], [[0.1]], A), "distances has shape"),
    "directions": (lambda: hessian.profile(quadratic, W, W, [0.1], A), "shapes"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_input_is_refused_in_one_sentence(name, unchecked):
    call, sentence = REFUSED[name]
    with pytest.raises((ValueError, TypeError), match=sentence):
        call()
