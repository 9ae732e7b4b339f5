"""Eigenpairs against prescribed spectra, SciPy, closed forms and the exact spectrum of a trained network."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse.linalg
from jax.flatten_util import ravel_pytree
from quadratics import matrix_of, quadratic

from landscape import hessian, problems
from landscape.hessian import Status

DIGITS = np.load(Path(__file__).parent / "data" / "digits_mlp.npz")


N = 200
BULK = np.linspace(-0.1, 1, N)
SPECTRA = {
    "spread": np.concatenate([np.geomspace(1e-3, 10, N - 20), -np.geomspace(0.01, 3, 20)]),
    "multiple": np.concatenate([[10, 10, 10, 7, 7, -4, -4], BULK[7:]]),
    "clustered": np.concatenate([[5, 5 - 1e-4, 5 - 2e-4, 4.99, -2, -2 + 1e-4], BULK[6:]]),
    "low rank": np.concatenate([[3, 2, 2, -1], np.zeros(N - 4)]),
    "identity": np.ones(N),
    "zero": np.zeros(N),
    "negative": -np.linspace(1, 100, N),
}
SLOW = pytest.mark.slow
WANTED = [  # each is a compilation of 3 s of processor time, whatever the spectrum
    (4, "largest", np.float32),
    (3, "smallest", np.float32),
    (5, "both ends", np.float64),
    pytest.param(1, "largest", np.float32, marks=SLOW),
    pytest.param(1, "largest", np.float64, marks=SLOW),
    pytest.param(4, "largest", np.float64, marks=SLOW),
    pytest.param(3, "smallest", np.float64, marks=SLOW),
    pytest.param(5, "both ends", np.float32, marks=SLOW),
]


def wanted(spectrum, k, which):
    down = np.sort(spectrum)[::-1]
    if which == "both ends":
        return np.concatenate([down[: -(-k // 2)], down[len(down) - k // 2 :]])
    return down[:k] if which == "largest" else down[::-1][:k]


@pytest.mark.parametrize(("k", "which", "dtype"), WANTED)
def test_prescribed_spectra(k, which, dtype):
    with jax.enable_x64(dtype == np.float64):
        for name, spectrum in SPECTRA.items():
            matrix = matrix_of(spectrum).astype(dtype)
            scale, eps = np.abs(spectrum).max(), np.finfo(dtype).eps
            found = hessian.eigenpairs(quadratic, np.ones(N, dtype), matrix, k=k, which=which)
            assert found.status == Status.CONVERGED, (name, found)
            values, vectors = np.asarray(found.values, np.float64), np.asarray(found.vectors, np.float64)
            assert found.values.dtype == dtype and vectors.shape == (k, N)
            # The residual is what was asked for, and true; an eigenvalue lies within it, or within rounding.
            residuals = np.linalg.norm(vectors @ matrix.astype(np.float64) - values[:, None] * vectors, axis=1)
            np.testing.assert_allclose(found.residuals, residuals, rtol=1e-2, atol=50 * eps * scale, err_msg=name)
            assert np.all(residuals <= np.maximum(eps**0.5 * np.abs(values), 64 * eps * scale)), name
            exact = wanted(spectrum, k, which)
            assert np.all(np.abs(values - exact) <= 64 * eps * scale + residuals), name
            np.testing.assert_allclose(vectors @ vectors.T, np.eye(k), atol=64 * eps, err_msg=name)


def test_well_separated_values_have_nearly_all_digits():
    """Error residual² / gap: with the default tolerance far below the residual."""
    matrix = matrix_of(SPECTRA["spread"])
    with jax.enable_x64(True):
        found = hessian.eigenpairs(quadratic, np.ones(N), matrix, k=5, which="both ends")
    assert np.max(np.asarray(found.residuals)) > 1e-11
    np.testing.assert_allclose(found.values, wanted(SPECTRA["spread"], 5, "both ends"), rtol=1e-14)


def test_no_ghosts_in_twenty_values_after_hundreds_of_products():
    spectrum = np.concatenate([[1e3], np.linspace(0, 1, N - 1)])
    found = hessian.eigenpairs(
        quadratic, np.ones(N, np.float32), matrix_of(spectrum).astype(np.float32), k=20, block=1, tolerance=1e-5
    )
    assert found.status == Status.CONVERGED and found.products > 120
    exact = wanted(spectrum, 20, "largest")
    assert np.sum(np.asarray(found.values) > 100) == 1  # Lanczos without reorthogonalisation has copies of it
    np.testing.assert_allclose(found.values, exact, atol=64 * np.finfo(np.float32).eps * 1e3)


def test_hundreds_of_restarts_do_not_add_up_their_rounding():
    """The upper end is crowded: gaps of 2e-4 of the norm, and single precision."""
    spectrum = -np.geomspace(1, 100, N)
    matrix = matrix_of(spectrum).astype(np.float32)
    found = hessian.eigenpairs(quadratic, np.ones(N, np.float32), matrix, k=4, max_products=20_000)
    assert found.status == Status.CONVERGED and found.products > 500
    np.testing.assert_allclose(found.values, wanted(spectrum, 4, "largest"), atol=64 * np.finfo(np.float32).eps * 100)


@pytest.mark.slow
def test_scipy_finds_the_same():
    matrix = matrix_of(np.random.default_rng(3).normal(size=N), seed=4)
    with jax.enable_x64(True):
        for k, which, name in ((6, "largest", "LA"), (6, "smallest", "SA"), (7, "both ends", "BE")):
            found = hessian.eigenpairs(quadratic, np.ones(N), matrix, k=k, which=which)
            theirs = scipy.sparse.linalg.eigsh(matrix, k, which=name, return_eigenvectors=False)
            np.testing.assert_allclose(np.sort(found.values), np.sort(theirs), rtol=1e-10)


@pytest.mark.parametrize("n", [1, 2, 33, 34])
def test_small_problems_on_both_sides_of_the_dense_limit(n):
    """With k = 1 the basis has 32 vectors, so matrices of order 33 and less are built whole."""
    spectrum = np.arange(1.0, n + 1)
    with jax.enable_x64(True):
        found = hessian.eigenpairs(quadratic, np.ones(n), matrix_of(spectrum), which="smallest", max_products=10**12)
        assert found.status == Status.CONVERGED and (n > 33 or found.products == n + 1)
        np.testing.assert_allclose(found.values, [1], rtol=1e-12)
        everything = hessian.eigenpairs(quadratic, np.ones(n), matrix_of(spectrum), k=n, which="both ends")
        np.testing.assert_allclose(everything.values, spectrum[::-1], rtol=1e-12)


def test_running_out_of_products_is_said():
    matrix = matrix_of(SPECTRA["spread"]).astype(np.float32)
    found = hessian.eigenpairs(quadratic, np.ones(N, np.float32), matrix, k=3, which="smallest", max_products=6)
    assert found.status == Status.OUT_OF_PRODUCTS and found.products == 6 + 3
    assert found.residuals.max() > 1e-3
    for status in Status:
        assert len(status.sentence) > 20


def test_a_hessian_that_is_not_finite_is_said():
    found = hessian.eigenpairs(lambda w: jnp.sum(jnp.abs(w) ** 1.5), np.zeros(60, np.float32))
    assert found.status == Status.NON_FINITE
    small = hessian.eigenpairs(lambda w: jnp.sum(jnp.abs(w) ** 1.5), np.zeros(3, np.float32))
    assert small.status == Status.NON_FINITE


def test_the_minimum_of_a_chain_is_its_closed_form():
    """At prod w = p* the eigenvalues are 0, d - 1 times, and 2 c p*² sum 1/w_i²."""
    chain = problems.chain(4, [1.0, 2.0], [2.0, 4.0])
    at = {"w1": 2.0, "w2": -0.5, "w3": 4.0, "w4": -0.5}
    sharpest = 2 * 2.5 * 2**2 * sum(1 / w**2 for w in at.values())
    with jax.enable_x64(True):
        found = hessian.eigenpairs(chain.loss, at, chain.data, k=4)
    np.testing.assert_allclose(found.values, [sharpest, 0, 0, 0], rtol=1e-12, atol=1e-12 * sharpest)


def test_a_deep_linear_network_at_a_balanced_minimum():
    """W2 W1 = S, mean over outputs of the squared error, X X^T / n = I: eigenvalues (s_i + s_j) 2 of W2^T W2, W1 W1^T.

    At a balanced minimum with W1 = sqrt(S) V^T, W2 = U sqrt(S) the Hessian of |W2 W1 - M|² has eigenvalues
    2 (s_i + s_j) for i, j among the h singular values, and 2 s_i, once for each left-over row or column, and zeros.
    """
    s = np.array([3.0, 2.0, 0.5])
    w1, w2 = np.diag(np.sqrt(s)), np.vstack([np.diag(np.sqrt(s)), np.zeros((1, 3))])
    loss = lambda p: jnp.sum(jnp.square(p["w2"] @ p["w1"] - w2 @ w1))  # noqa: E731
    exact = np.sort([2 * (a + b) for a in s for b in s] + [2 * a for a in s] + [0.0] * 9)[::-1]
    with jax.enable_x64(True):
        found = hessian.eigenpairs(loss, {"w1": w1, "w2": w2}, k=12)
    np.testing.assert_allclose(found.values, exact[:12], rtol=1e-9)


# --- a trained network ------------------------------------------------------------------------------------------------


def digits():
    """Parameters, inputs and labels of the trained net, and its exact spectrum in descending order."""
    params = {name: DIGITS[f"trained/{name}"] for name in ("W1", "b1", "W2", "b2", "W3", "b3")}
    return params, DIGITS["X"], DIGITS["y"].astype(np.int32), np.sort(DIGITS["trained/eigvals64"])[::-1]


def digits_loss(p, x, y):
    hidden = jnp.tanh(jnp.tanh(x @ p["W1"] + p["b1"]) @ p["W2"] + p["b2"])
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(hidden @ p["W3"] + p["b3"]), y[:, None], 1))


@pytest.mark.slow
def test_the_ends_of_the_digits_networks_spectrum():
    params, x, y, exact = digits()
    top = hessian.eigenpairs(digits_loss, params, x, y, k=5)
    assert top.status == Status.CONVERGED and top.products < 60
    np.testing.assert_allclose(top.values, exact[:5], rtol=1e-6)
    shapes = jax.tree.map(lambda leaf: leaf.shape[1:], top.vectors)
    assert shapes == jax.tree.map(np.shape, params) and top.vectors["W1"].shape[0] == 5
    bottom = hessian.eigenpairs(digits_loss, params, x, y, k=2, which="smallest")
    assert bottom.status == Status.CONVERGED
    # The residual asked for is 32 eps λ_max = 1.1e-5; the next eigenvalue is 4e-4 away.
    np.testing.assert_allclose(bottom.values, exact[::-1][:2], atol=1.1e-5)
    batched = hessian.eigenpairs(digits_loss, params, x, y, k=2, batch_size=128)
    np.testing.assert_allclose(batched.values, exact[:2], rtol=2e-6)


def test_an_operator_serves_as_well():
    params, x, y, _ = digits()
    operator = hessian.linear_operator(digits_loss, params, x, y, leaves="W3")
    found = hessian.eigenpairs(operator, k=2)
    assert found.vectors["W1"] is None and found.vectors["W3"].shape == (2, 32, 10)
    again = hessian.eigenpairs(digits_loss, params, x, y, k=2, leaves="W3")
    np.testing.assert_allclose(found.values, again.values, rtol=1e-6)
    exact = np.linalg.eigvalsh(np.asarray(hessian.dense(operator), np.float64))[::-1]
    np.testing.assert_allclose(found.values, exact[:2], rtol=1e-5)


# --- composition ------------------------------------------------------------------------------------------------------


def toy(p):
    return jnp.square(1 - p["a"] * p["b"]) + 0.1 * p["a"] ** 4


def test_the_derivative_of_an_eigenvalue():
    sharpness = lambda p: hessian.eigenpairs(toy, p).values[0]  # noqa: E731
    point = {"a": np.float64(1.3), "b": np.float64(0.4)}
    with jax.enable_x64(True):
        slope = jax.grad(sharpness)(point)
        for name in point:
            up, down = ({**point, name: point[name] + step} for step in (1e-6, -1e-6))
            # Central differences: off by about 1e-9.
            np.testing.assert_allclose(slope[name], (sharpness(up) - sharpness(down)) / 2e-6, rtol=1e-6)


def test_lanczos_inside_jit_vmap_and_grad():
    """d λ_max / d t of A + t B is v^T B v; n = 60 is beyond the dense limit."""
    matrices = np.stack([matrix_of(np.linspace(-1, 3, 60), seed) * (1 + seed) for seed in range(3)])
    b = matrix_of(np.linspace(0, 1, 60), seed=5)

    def top(t, a):
        found = hessian.eigenpairs(quadratic, np.ones(60), a + t * b, k=2, tolerance=1e-10)
        return found.values[0], found

    with jax.enable_x64(True):
        slopes, found = jax.jit(jax.vmap(jax.grad(top, has_aux=True), (None, 0)))(0.0, matrices)
        assert np.all(found.status == Status.CONVERGED)
        for lane, matrix in enumerate(matrices):
            values, vectors = np.linalg.eigh(matrix)
            np.testing.assert_allclose(found.values[lane], values[:-3:-1], rtol=1e-10)
            np.testing.assert_allclose(slopes[lane], vectors[:, -1] @ b @ vectors[:, -1], rtol=1e-8)


def test_equal_calls_are_compiled_once_and_give_the_same(monkeypatch):
    traces, searches, rows = [], [], hessian.LinearOperator.rows
    monkeypatch.setattr(hessian.LinearOperator, "rows", lambda *args: (searches.append(0), rows(*args))[1])

    def counted(w, matrix):
        traces.append(0)
        return quadratic(w, matrix)

    matrix = matrix_of(SPECTRA["spread"]).astype(np.float32)
    found = [hessian.eigenpairs(counted, np.ones(N, np.float32) * i, matrix * i, key=0) for i in (1.0, 2.0, 1.0)]
    first = len(traces), len(searches)
    hessian.eigenpairs(counted, np.ones(N, np.float32), 3 * matrix, tolerance=1e-3, max_products=100)
    assert (len(traces), len(searches)) == first and min(first) > 0
    np.testing.assert_array_equal(found[0].values, found[2].values)
    np.testing.assert_allclose(found[1].values, 2 * found[0].values, rtol=1e-5)


W, A = np.ones(5, np.float32), np.eye(5, dtype=np.float32)
REFUSED = {
    "k 0": ({"k": 0}, "k is 0"),
    "k True": ({"k": True}, "k is True"),
    "k above n": ({"k": 6}, "from 1 to 5, as many as there are eigenvalues"),
    "which": ({"which": "LM"}, "which is 'LM'"),
    "tolerance": ({"tolerance": 0.0}, "tolerance is 0.0"),
    "tolerance nan": ({"tolerance": float("nan")}, "tolerance is nan"),
    "products": ({"max_products": 0}, "max_products is 0"),
    "basis": ({"k": 2, "basis": 5}, "basis is 5: give a whole number, 6 or more"),
    "block": ({"block": 9}, "block is 9"),
    "key": ({"key": "zero"}, "key is 'zero'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_input_is_refused_in_one_sentence(name, unchecked):
    arguments, sentence = REFUSED[name]
    with pytest.raises(ValueError, match=sentence):
        hessian.eigenpairs(quadratic, W, A, **arguments)


def test_vectors_point_the_way_out_of_a_saddle():
    saddle = problems.two_weight()
    found = hessian.eigenpairs(saddle.loss, saddle.reference._replace(w1=0.0, w2=0.0), saddle.data, which="smallest")
    np.testing.assert_allclose(found.values, [-2.0], rtol=1e-6)
    direction = jax.tree.map(lambda leaf: leaf[0], found.vectors)
    assert np.isclose(abs(ravel_pytree(direction)[0].sum()), 2**0.5, rtol=1e-6)
