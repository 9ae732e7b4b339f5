"""Traces and diagonals: unbiased, with errors that cover as often as they say; XTrace against a plain version of it."""

import itertools
from pathlib import Path

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
from quadratics import matrix_of, quadratic

from landscape import hessian
from landscape.estimate import Estimate, quantile
from landscape.hessian import estimators

BOTH = pytest.mark.parametrize("dtype", [np.float32, np.float64])
RANDOM = pytest.mark.parametrize("method", ["xtrace", "hutch++", "hutchinson"])
DIGITS = np.load(Path(__file__).parent / "data" / "digits_mlp.npz")

N = 200
BULK = np.random.default_rng(0).normal(size=N)
FALLING = np.sort(DIGITS["trained/eigvals64"])[::-1]
SPECTRA = {
    "flat": np.linspace(0.5, 1.5, N),
    "power law": 1 / np.arange(1, N + 1),
    "outliers": np.concatenate([[10, 5, 4, 3, 2], 0.01 * BULK[5:]]),
    "indefinite, trace 0": BULK - BULK.mean(),
    "digits": FALLING[np.r_[:50, np.linspace(50, len(FALLING) - 1, N - 50).astype(int)]],
}


def over_seeds(runs, matrix, dtype=np.float32, tool=hessian.trace, **how):
    """Estimates of a matrix's trace (or diagonal), one a key."""
    operator = hessian.linear_operator(quadratic, np.ones(len(matrix), dtype), matrix.astype(dtype))
    keys = jax.random.split(jax.random.key(7), runs)
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(lambda key: tool(operator, key=key, **how)))(keys))


def coverage(found, exact, share=1.0):
    """How often the 95 % interval holds the truth, with `share` of the standard error."""
    lower, upper = Estimate(found.mean, share * found.standard_error).interval()
    return np.mean((lower <= exact) & (exact <= upper))


def check_coverage(name, method, products, runs):
    matrix = matrix_of(SPECTRA[name])
    found = over_seeds(runs, matrix, method=method, products=products)
    assert 0.9 < coverage(found, np.trace(matrix)) < 0.99
    assert coverage(found, np.trace(matrix), 0.5) < 0.85  # the negative control: 95 % would become 67 %


@RANDOM
def test_intervals_cover_as_often_as_they_say(method):
    check_coverage("digits", method, 40, 500)


@pytest.mark.slow
@RANDOM
@pytest.mark.parametrize("products", [30, 50, 100])
@pytest.mark.parametrize("name", SPECTRA)
def test_intervals_cover_on_all_spectra(name, products, method):
    check_coverage(name, method, products, 500)


@RANDOM
def test_estimates_are_unbiased_and_their_variance_too(method):
    """The mean of squared standard errors, without Student's widening, is the variance of the mean."""
    runs, products = 2000, 24
    matrix = matrix_of(0.8 ** np.arange(60))
    found = over_seeds(runs, matrix, method=method, products=products)
    error = found.mean - np.trace(matrix)
    assert abs(error.mean()) < 4 * error.std() / runs**0.5
    degrees = {"xtrace": products // 2 - 1, "hutch++": products // 2 - 1, "hutchinson": products - 1}[method]
    variance = (found.standard_error / quantile(0.95, degrees) * quantile(0.95)) ** 2
    # Squares of errors and of standard errors have heavy tails here: 4 standard errors of both means.
    spread = 4 * (np.var(error**2) / runs + np.var(variance) / runs) ** 0.5
    assert abs(np.mean(variance) - np.mean(error**2)) < spread < 0.3 * np.mean(error**2)


def left_out(matrix, omega, i, *also):
    """XTrace's tr_i, from vector i and the span of A times all others but those of `also`."""
    n, k = omega.shape
    kept = [j for j in range(k) if j != i and j not in also]
    basis, _ = np.linalg.qr(matrix @ omega[:, kept])
    rest = omega[:, i] - basis @ (basis.T @ omega[:, i])
    return np.trace(basis.T @ matrix @ basis) + (n - len(kept)) * (rest @ matrix @ rest) / (rest @ rest)


@pytest.mark.parametrize("name", SPECTRA)
def test_xtrace_is_the_plain_one(name):
    """Each tr_i and tr_ij from a QR decomposition of its own; none of the shared algebra."""
    matrix, k = matrix_of(SPECTRA[name]), 7
    with jax.enable_x64(True):
        found = hessian.trace(quadratic, np.ones(N), matrix, products=2 * k + 1, key=5)
        omega = np.asarray(jax.random.normal(jax.random.key(5), (k, N), np.float64)).T
    one = np.array([left_out(matrix, omega, i) for i in range(k)])
    pairs = [(i, j) for i in range(k) for j in range(i)]
    change = {(i, j): one[i] - left_out(matrix, omega, i, j) for a, b in pairs for i, j in ((a, b), (b, a))}
    shared = np.mean([change[i, j] * change[j, i] for i, j in pairs])
    error = np.sqrt(np.var(one, ddof=1) / k + max(shared, 0)) * quantile(0.95, k - 1) / quantile(0.95)
    # R's condition (up to 1e3 here) times a few roundings of numbers of the trace norm's size.
    scale = np.abs(SPECTRA[name]).sum()
    np.testing.assert_allclose(found.mean, one.mean(), atol=1e-11 * scale)
    np.testing.assert_allclose(found.standard_error, error, atol=1e-11 * scale)


def test_the_published_error_of_xtrace_is_too_small():
    """Why another one is used: std(tr_i) / k^(1/2) takes the correlated tr_i for independent."""
    rng, n, k, runs = np.random.default_rng(0), 40, 10, 1000
    matrix = np.diag(0.8 ** np.arange(n))
    each = [[left_out(matrix, omega, i) for i in range(k)] for omega in rng.normal(size=(runs, n, k))]
    mean, error = np.mean(each, axis=1), np.std(each, axis=1, ddof=1) / k**0.5
    assert coverage(Estimate(mean, error), np.trace(matrix)) < 0.85
    ratio = np.mean(error**2) / np.mean((mean - np.trace(matrix)) ** 2)
    assert ratio < 0.7


@BOTH
@RANDOM
def test_a_low_rank_is_found_exactly(method, dtype):
    for rank, scale in itertools.product((0, 1, 5), (1.0, 1e-12, 1e12)):
        spectrum = scale * np.concatenate([np.arange(1, rank + 1), np.zeros(N - rank)])
        for matrix in (matrix_of(spectrum), np.diag(spectrum)):
            with jax.enable_x64(dtype == np.float64):
                found = hessian.trace(quadratic, np.ones(N, dtype), matrix.astype(dtype), method=method)
            found = jax.tree.map(np.asarray, found)
            assert found.mean.dtype == found.standard_error.dtype == dtype
            if method == "hutchinson":
                assert abs(found.mean - spectrum.sum()) <= 4 * found.standard_error + 1e-5 * scale, (rank, scale)
                continue
            # Roundings of products of norm `scale * rank`, some hundred of them added up.
            rounding = 100 * np.finfo(dtype).eps * scale * rank
            assert abs(found.mean - spectrum.sum()) <= rounding, (rank, scale)
            assert found.standard_error <= rounding, (rank, scale)


@RANDOM
def test_enough_products_are_exact(method):
    n = 30
    matrix = matrix_of(SPECTRA["outliers"][:n])
    with jax.enable_x64(True):
        found = hessian.trace(quadratic, np.ones(n), matrix, method=method, products=n)
        np.testing.assert_allclose(found.mean, np.trace(matrix), rtol=1e-12)
        assert found.standard_error == 0
        below = hessian.trace(quadratic, np.ones(n), matrix, method=method, products=n - 1)
        assert below.standard_error > 0


def test_xtrace_needs_few_products_on_a_trained_network():
    """1 % of the trace of the digits network's Hessian: 50 products, where random signs need 1200.

    Gaussian vectors know no directions: a diagonal matrix of equal spectrum does as well as the Hessian.
    """
    operator = hessian.linear_operator(lambda w, d: w @ (d * w) / 2, np.ones(len(FALLING), np.float32), FALLING)
    keys = jax.random.split(jax.random.key(0), 100)
    found = jax.jit(jax.vmap(lambda key: hessian.trace(operator, products=50, key=key)))(keys)
    exact = float(DIGITS["trained/trace64"])
    assert np.sqrt(np.mean(found.standard_error**2)) < 0.011 * exact
    assert coverage(found, exact) > 0.88  # 95 % less 3 standard errors of 100 runs
    assert np.sqrt(np.sum(2 * FALLING**2) / 1200) > 0.009 * exact


def polynomial(params, data):
    """sum c a^4 + (d . b)^3 / 6: trace of the Hessian 12 c . a^2 + (d . b) |d|^2."""
    c, d = data
    return jnp.sum(c * params["a"] ** 4) + jnp.sum(d * params["b"]) ** 3 / 6 + 0 * params["steps"].sum()


def polynomials():
    rng = np.random.default_rng(3)
    params = {"a": rng.normal(size=(4, 5)), "b": rng.normal(size=6), "steps": np.arange(3)}
    return params, (rng.normal(size=(4, 5)), rng.normal(size=6))


def exact_of(params, data):
    c, d = data
    along = np.sum(d * params["b"], axis=-1)
    diagonal = {"a": 12 * c * params["a"] ** 2, "b": along * d**2}
    trace = diagonal["a"].sum() + diagonal["b"].sum()
    return trace, diagonal, {"a": 24 * c * params["a"], "b": d * (d @ d)}


METHODS = pytest.mark.parametrize("method", ["xtrace", "hutch++", "hutchinson", "exact"])


@METHODS
def test_the_gradient_of_a_trace_is_the_traces_gradient(method):
    params, data = polynomials()
    _, _, slope = exact_of(params, data)
    moving = {name: params[name] for name in "ab"}

    def estimate(moving, key):
        point = {**moving, "steps": params["steps"]}
        return hessian.trace(polynomial, point, data, method=method, products=16, key=key).mean

    with jax.enable_x64(True):
        runs = 400
        keys = jax.random.split(jax.random.key(1), runs)
        found = jax.jit(jax.vmap(jax.grad(estimate), (None, 0)))(moving, keys)
        for name in "ab":
            each = np.asarray(found[name])
            # 5 standard errors (of 26 numbers, three times), and roundings where there is no spread.
            bound = 5 * each.std(0, ddof=1) / runs**0.5 + 1e-10
            assert np.all(np.abs(each.mean(0) - slope[name]) <= bound), name
            if method in (
                "exact",
                "hutchinson",
            ):  # the derivative in `a` is a diagonal matrix, for which signs are exact
                assert np.all(each.std(0) < 1e-10) == (method == "exact" or name == "a")


@METHODS
def test_traces_work_inside_jit_and_over_points(method):
    params, data = polynomials()
    with jax.enable_x64(True):
        tool = lambda p: hessian.trace(polynomial, p, data, method=method, products=12, key=2)  # noqa: E731
        single = tool(params)
        stacked = jax.tree.map(lambda leaf: np.stack([leaf, 2 * leaf, -leaf]), params)
        lanes = jax.jit(jax.vmap(tool))(stacked)
        np.testing.assert_allclose(lanes.mean[0], single.mean, rtol=1e-9)
        np.testing.assert_allclose(lanes.standard_error[0], single.standard_error, rtol=1e-7, atol=1e-12)
        for lane in range(3):
            exact = exact_of(jax.tree.map(lambda leaf: leaf[lane], stacked), data)[0]  # noqa: B023
            assert abs(lanes.mean[lane] - exact) <= 5 * lanes.standard_error[lane] + 1e-9


@BOTH
def test_the_exact_diagonal(dtype):
    params, data = polynomials()
    _, diagonal, _ = exact_of(params, data)
    with jax.enable_x64(dtype == np.float64):
        point, sample = jax.tree.map(
            lambda leaf: leaf.astype(dtype) if leaf.dtype.kind == "f" else leaf, (params, data)
        )
        found = hessian.diagonal(polynomial, point, sample)
    assert found.mean["steps"] is None and found.standard_error["steps"] is None
    for name in "ab":
        assert found.mean[name].dtype == dtype
        # A dozen roundings of numbers up to 100.
        np.testing.assert_allclose(
            found.mean[name], diagonal[name], rtol=20 * np.finfo(dtype).eps, atol=1e-4 * (dtype == np.float32)
        )
        np.testing.assert_array_equal(found.standard_error[name], 0)


def test_the_diagonal_by_random_signs():
    matrix = matrix_of(SPECTRA["digits"])
    for products in (7, 100):  # both one block and what is left of several
        found = over_seeds(300, matrix, tool=hessian.diagonal, method="hutchinson", products=products)
        assert 0.93 < coverage(found, np.diag(matrix)) < 0.98  # of 300 x 200 intervals
        # The variance is known: sum_{j != i} A_ij^2 / products.
        variance = (np.sum(matrix**2, axis=1) - np.diag(matrix) ** 2) / products
        np.testing.assert_allclose(np.mean((found.mean - np.diag(matrix)) ** 2), np.mean(variance), rtol=0.05)
    assert coverage(found, np.diag(matrix), 0.5) < 0.75


def test_blocks_of_signs_are_merged_exactly():
    """Many blocks against the mean and spread of all products at once."""
    n, products = 20_000, 37
    weights = np.random.default_rng(0).normal(size=n)

    def loss(w, weights):
        return jnp.sum(weights * w**2) / 2 + 5 * w[0] * w[1] + 1e-3 * w[1] * w[2]

    operator = hessian.linear_operator(loss, np.ones(n), weights)
    assert 1 < operator.block() < products
    found = hessian.diagonal(operator, method="hutchinson", products=products, key=3)
    keys = jax.random.split(jax.random.key(3), products)
    signs = np.stack([np.asarray(jax.random.rademacher(key, n, np.float32))[:3] for key in keys])
    rows = np.array([[weights[0], 5, 0], [5, weights[1], 1e-3], [0, 1e-3, weights[2]]])
    samples = signs * (signs @ rows)
    error = samples.std(0, ddof=1) / products**0.5 * quantile(0.95, products - 1) / quantile(0.95)
    np.testing.assert_allclose(found.mean[:3], samples.mean(0), rtol=1e-5)
    np.testing.assert_allclose(found.standard_error[:3], error, rtol=1e-3, atol=1e-7)  # entry 2: 1e-3 beside rounding


def test_no_array_has_the_size_of_the_matrix():
    n = 5000
    operator = hessian.linear_operator(lambda w: jnp.sum(w**4) + jnp.sum(w) ** 2, np.ones(n, np.float32))
    for method in ("exact", "hutchinson"):
        for tool in (hessian.trace, hessian.diagonal):
            traced = jax.make_jaxpr(lambda o: tool(o, method=method))(operator)  # noqa: B023
            sizes = [np.prod(v.aval.shape) for e in inner(traced.jaxpr) for v in e.outvars]
            assert max(sizes) < n**2 / 20


def inner(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for sub in jax.extend.core.jaxprs_in_params(equation.params):
            yield from inner(sub)


def test_repeated_calls_are_compiled_once():
    traces = []

    def counted(w, matrix):
        traces.append(0)
        return quadratic(w, matrix)

    matrix = matrix_of(SPECTRA["digits"]).astype(np.float32)
    tools = (
        lambda w, m, key: hessian.trace(counted, w, m, key=key),
        lambda w, m, key: hessian.diagonal(counted, w, m, method="hutchinson", key=key),
    )
    for tool in tools:
        first = tool(np.ones(N, np.float32), matrix, 0)
        seen = len(traces)
        again = tool(np.zeros(N, np.float32), 2 * matrix, np.int64(0))
        tool(np.ones(N, np.float32), matrix, jax.random.key(3))
        assert len(traces) == seen
        np.testing.assert_allclose(again.mean, 2 * first.mean, rtol=1e-5)


def test_one_leaf_and_batches():
    rng = np.random.default_rng(0)
    x, params = rng.normal(size=(10, 3)), {"w": rng.normal(size=3), "b": np.zeros(2)}
    loss = lambda p, x: jnp.mean((x @ p["w"]) ** 2) / 2 + jnp.sum(p["b"] ** 2)  # noqa: E731
    with jax.enable_x64(True):
        whole = hessian.trace(loss, params, x, method="exact")
        np.testing.assert_allclose(whole.mean, np.mean(np.sum(x**2, axis=1)) + 4, rtol=1e-12)
        batched = hessian.trace(loss, params, x, method="exact", batch_size=4)
        np.testing.assert_allclose(batched.mean, whole.mean, rtol=1e-12)
        np.testing.assert_allclose(hessian.trace(loss, params, x, leaves="b").mean, 4, rtol=1e-12)
        diagonal = hessian.diagonal(loss, params, x, leaves="w", batch_size=4)
        np.testing.assert_allclose(diagonal.mean["w"], np.mean(x**2, axis=0), rtol=1e-12)
        assert diagonal.mean["b"] is None


@pytest.mark.parametrize(
    ("tool", "how", "says"),
    [
        (hessian.trace, {"method": "girard"}, "method is 'girard': give one of 'xtrace'"),
        (hessian.diagonal, {"method": "xtrace"}, "method is 'xtrace': give 'exact' or 'hutchinson'"),
        (hessian.trace, {"products": 3}, "products is 3: give a whole number, 4 or more"),
        (hessian.trace, {"products": 1, "method": "hutchinson"}, "products is 1: give a whole number, 2 or more"),
        (hessian.diagonal, {"products": True}, "products is True: give a whole number"),
        (hessian.trace, {"key": 0.5}, "key is 0.5: give an integer or a JAX key"),
    ],
)
def test_what_makes_no_sense_is_refused(tool, how, says):
    with pytest.raises(ValueError, match=says):
        tool(quadratic, np.ones(3, np.float32), np.eye(3, dtype=np.float32), **how)


# --- QR in blocks of rows ---------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    "rows, columns, rank", [(3466, 27, 27), (1000, 27, 5), (20_000, 2, 2), (401, 200, 200), (60, 50, 0)]
)
def test_q_is_orthonormal_and_times_r_the_matrix(rows, columns, rank, dtype):
    random = np.random.default_rng(0)
    scales = np.logspace(0, -6, columns) if rank == columns else 1
    matrix = (random.normal(size=(rows, rank)) @ random.normal(size=(rank, columns)) * scales).astype(dtype)
    with jax.enable_x64(dtype == np.float64):
        q, r = map(np.asarray, estimators._qr(jnp.asarray(matrix)))
    assert q.dtype == dtype
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(q.T @ q, np.eye(columns), atol=40 * eps)
    np.testing.assert_allclose(q @ r, matrix, atol=40 * eps * np.max(np.abs(matrix), initial=0))
    np.testing.assert_array_equal(r, np.triu(r))


def test_q_of_many_matrices_is_that_of_each():
    matrices = jnp.asarray(np.random.default_rng(1).normal(size=(3, 500, 27)), jnp.float32)
    q, r = jax.vmap(estimators._qr)(matrices)
    for place, matrix in enumerate(matrices):
        for many, one in zip((q[place], r[place]), estimators._qr(matrix), strict=True):
            np.testing.assert_array_equal(many, one)
