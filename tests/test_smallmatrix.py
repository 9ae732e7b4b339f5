"""Small symmetric matrices: prescribed spectra, defining identities, NumPy's values, and where simpler code fails."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis.extra.numpy import arrays

from landscape import smallmatrix

ORDERS = [1, 2, 3, 4, 9, 10]  # 10 goes to LAPACK
DTYPES = [np.float32, np.float64]
C = 4  # the documented constant: errors are held to C n eps |H|


LANES = 4096  # every stack is padded to this, so that each order and dtype is compiled once
BATCHED = jax.jit(jax.vmap(smallmatrix.eigh))
BATCHED_VALUES = jax.jit(jax.vmap(smallmatrix.eigenvalues))


def eigh(matrices):
    """Values (..., n) and vectors as columns (..., n, n), in float64, of a stack given in its own precision."""
    with jax.enable_x64(True):
        values, vectors = BATCHED(padded_rows(matrices))
    count = len(matrices)
    return stacked(values)[:count], np.stack([stacked(vector) for vector in vectors], axis=-1)[:count]


def eigenvalues(matrices):
    with jax.enable_x64(True):
        return stacked(BATCHED_VALUES(padded_rows(matrices)))[: len(matrices)]


def padded_rows(matrices):
    assert len(matrices) <= LANES
    return rows_of(np.concatenate([matrices, np.zeros((LANES - len(matrices), *matrices.shape[1:]), matrices.dtype)]))


def rows_of(matrices):
    n = matrices.shape[-1]
    return tuple(tuple(np.ascontiguousarray(matrices[..., i, j]) for j in range(n)) for i in range(n))


def stacked(values):
    return np.stack([np.asarray(value, np.float64) for value in values], axis=-1)


def symmetric(matrices):
    """The matrix that the upper triangle stands for."""
    return np.triu(matrices) + np.swapaxes(np.triu(matrices, 1), -1, -2)


def random_matrices(rng, n, count=200):
    return symmetric(rng.normal(size=(count, n, n)))


def conjugated(rng, spectra):
    """Q diag(spectrum) Q^T with Q random orthogonal."""
    q = np.linalg.qr(rng.normal(size=(*spectra.shape, spectra.shape[-1])))[0]
    return symmetric((q * spectra[..., None, :]) @ np.swapaxes(q, -1, -2))


def symmetric_patterns(rng, n, count=600):
    """Entries -1, 0, 1 with shifted diagonals: symmetric patterns with repeated eigenvalues apart on the diagonal."""
    matrices = symmetric(rng.integers(-1, 2, (count, n, n)).astype(float))
    signs = np.sign(matrices + 0.5)  # two double eigenvalues are common among these
    return np.concatenate([matrices, signs, signs + np.eye(n), (matrices + matrices[:, ::-1, ::-1]) / 3])


def families(n):
    rng = np.random.default_rng(n)
    integer = np.sort(rng.integers(-3, 4, (200, n)), axis=1)
    vectors = rng.normal(size=(200, n, 1))
    scales = 10.0 ** rng.uniform(-9, 9, (200, n))
    spread = rng.choice([-1, 1], (200, n)) * 10.0 ** rng.uniform(-12, 0, (200, n))
    return {
        "random": random_matrices(rng, n),
        "repeated": conjugated(rng, integer.astype(float)),
        "clustered": conjugated(rng, 1 + 1e-7 * rng.normal(size=(200, n))),
        "near zero": conjugated(rng, spread),
        "rank one": vectors @ np.swapaxes(vectors, 1, 2),
        "badly scaled": scales[:, :, None] * random_matrices(rng, n) * scales[:, None, :],
        "patterns": symmetric_patterns(rng, n),
        "diagonal and zero": np.stack([np.diag(rng.normal(size=n)), np.zeros((n, n)), np.eye(n)]),
    }


@pytest.mark.parametrize(
    ("n", "dtype"),
    [
        pytest.param(n, dtype, marks=[pytest.mark.slow] * (n == 9 or (n, dtype) == (10, np.float32)))
        for n in ORDERS
        for dtype in DTYPES
    ],
)
def test_defining_identities(n, dtype):
    """H v = lambda v, orthonormal v, ascending lambda, and NumPy's lambda, for every family."""
    kinds = families(n)
    kind = np.repeat(list(kinds), [len(stack) for stack in kinds.values()])
    matrices = np.concatenate(list(kinds.values())).astype(dtype)
    exact = matrices.astype(np.float64)
    values, vectors = eigh(matrices)
    oracle = np.linalg.eigvalsh(exact)
    norm = np.maximum(np.abs(oracle).max(-1), np.finfo(dtype).tiny)  # the zero matrix has no scale of its own
    relative = {
        "residual": np.abs(exact @ vectors - vectors * values[:, None]).max((1, 2)) / norm,
        "orthonormality": np.abs(np.swapaxes(vectors, 1, 2) @ vectors - np.eye(n)).max((1, 2)),
        "eigenvalues": np.abs(values - oracle).max(-1) / norm,  # in float64 NumPy's own error is of this size
        "eigenvalues alone": np.abs(eigenvalues(matrices) - oracle).max(-1) / norm,  # may round otherwise
    }
    assert np.all(np.diff(values, axis=-1) >= 0)
    for what, error in relative.items():
        assert error.max() <= C * n * np.finfo(dtype).eps, (what, kind[error.argmax()], matrices[error.argmax()])


@pytest.mark.parametrize("n", ORDERS)
def test_trace_square_and_determinant(n):
    matrices = random_matrices(np.random.default_rng(5), n)
    values = eigenvalues(matrices)
    norm = np.abs(values).max(-1)
    eps = n * C * np.finfo(float).eps
    trace, squares = np.trace(matrices, axis1=1, axis2=2), np.sum(matrices**2, axis=(1, 2))
    assert np.all(np.abs(values.sum(-1) - trace) <= n * eps * norm)  # n eigenvalues, each to eps norm
    assert np.all(np.abs((values**2).sum(-1) - squares) <= 2 * n * eps * norm**2)
    # A relative change of size eps norm in each factor of the product.
    assert np.all(np.abs(values.prod(-1) - np.linalg.det(matrices)) <= 2 * n * eps * norm**n)


@hypothesis.settings(max_examples=150, deadline=None, derandomize=True)
@hypothesis.given(st.data(), st.sampled_from([2, 3, 5]), st.sampled_from(DTYPES))
def test_any_matrix_agrees_with_numpy(data, n, dtype):
    """Entries from -1e15 to 1e15 with any magnitude between: |error| <= C n eps |H|."""
    width = 8 * np.dtype(dtype).itemsize
    entries = st.floats(-(2.0**50), 2.0**50, width=width, allow_subnormal=False)  # XLA flushes subnormal numbers
    matrix = symmetric(data.draw(arrays(dtype, (n, n), elements=entries)))
    oracle = np.linalg.eigvalsh(matrix.astype(np.float64))
    error = np.abs(eigenvalues(matrix[None])[0] - oracle).max()
    floor = 100 * n * np.finfo(dtype).tiny  # products that underflow are lost
    assert error <= C * n * np.finfo(dtype).eps * np.abs(oracle).max() + floor


@pytest.mark.parametrize("dtype", DTYPES)
def test_order_two_keeps_the_small_eigenvalue_where_the_textbook_root_loses_it(dtype):
    """Graded matrices D G D, G = ((1, g), (g, 1)): the smaller eigenvalue to C eps relative, not just to eps |H|."""
    rng = np.random.default_rng(7)
    small = 10.0 ** -rng.uniform(2, 8, 500)
    g = rng.uniform(-0.7, 0.7, 500)
    rows = [[np.ones(500), g * small], [g * small, small**2]]
    matrices = np.moveaxis(np.array(rows), -1, 0).astype(dtype)
    a, b, c = (matrices[:, i, j].astype(np.longdouble) for i, j in ((0, 0), (0, 1), (1, 1)))
    larger = (a + c) / 2 + np.sqrt((a - c) ** 2 / 4 + b * b)
    expected = ((a * c - b * b) / larger).astype(float)
    error = np.abs(eigenvalues(matrices)[:, 0] / expected - 1)
    assert error.max() <= 2 * C * np.finfo(dtype).eps  # det >= c/2, so cancellation doubles the relative error at most
    assert np.median(np.abs(textbook(matrices) / expected - 1)) > 1e3 * np.finfo(dtype).eps


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_order_two_survives_scales_where_the_textbook_root_does_not(scale):
    matrices = np.float32(scale) * np.array([[[2, 1], [1, 2]], [[3, 4], [4, -3]], [[1, 1], [1, 1]]], np.float32)
    expected = np.array([[1, 3], [-5, 5], [0, 2]])
    np.testing.assert_allclose(eigenvalues(matrices) / scale, expected, atol=5 * C * np.finfo(np.float32).eps)
    with np.errstate(all="ignore"):
        lost = textbook(matrices) / scale
    assert not np.all(np.abs(lost - expected[:, 0]) < 0.1)


def textbook(matrices):
    """trace/2 - sqrt((trace/2)^2 - det), in the matrices' precision: the smaller eigenvalue on paper."""
    half = (matrices[:, 0, 0] + matrices[:, 1, 1]) / 2
    det = matrices[:, 0, 0] * matrices[:, 1, 1] - matrices[:, 0, 1] * matrices[:, 1, 0]
    return half - np.sqrt(np.maximum(half * half - det, 0))


def test_diagonal_from_1e_minus_20_to_1e20_is_exact():
    for n in ORDERS[:-1]:  # LAPACK may rescale
        diagonal = np.logspace(20, -20, n).astype(np.float32)
        np.testing.assert_array_equal(eigenvalues(np.diag(diagonal)[None])[0], np.sort(diagonal))


def test_a_symmetric_matrix_that_stalls_when_noise_is_rotated(monkeypatch):
    """Eigenvalues -1, -1, 3, 3 that odd-even Jacobi meets in the order -, +, +, -.

    Negative control: with every nonzero pivot rotated, however small, the error is 1e4 times larger.
    """
    matrix = np.array([[[0, 1, 1, 1], [1, 2, -1, 1], [1, -1, 2, 1], [1, 1, 1, 0]]], np.float32)
    bound = 4 * C * 3 * np.finfo(np.float32).eps
    assert np.abs(eigenvalues(matrix)[0] - [-1, -1, 3, 3]).max() <= bound
    monkeypatch.setattr(smallmatrix.jnp, "minimum", lambda x, y: jnp.zeros_like(x))  # the threshold becomes 0
    stalled = jax.jit(jax.vmap(lambda m: smallmatrix.eigh(m)))(rows_of(matrix))[1]
    vectors = np.stack([stacked(vector) for vector in stalled], axis=-1)[0]
    rotated = vectors.T @ matrix[0] @ vectors
    assert np.abs(rotated - np.diag(np.diag(rotated))).max() > 10 * bound


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("n", ORDERS)
def test_nan_and_infinity_give_nan_everywhere_and_leave_other_lanes_alone(n, bad):
    matrices = random_matrices(np.random.default_rng(1), n, count=3).astype(np.float32)
    clean = eigh(matrices)
    matrices[1, 0, n - 1] = bad
    values, vectors = eigh(matrices)
    assert np.all(np.isnan(values[1])) and np.all(np.isnan(vectors[1]))
    for found, expected in zip((values, vectors), clean, strict=True):
        np.testing.assert_array_equal(found[[0, 2]], expected[[0, 2]])
    assert np.all(np.isnan(eigenvalues(matrices)[1]))


@pytest.mark.parametrize("n", [2, 3, 10])
def test_one_matrix_is_a_lane_of_many_and_an_array_is_its_rows(n):
    matrices = random_matrices(np.random.default_rng(2), n, count=5).astype(np.float32)
    lanes = eigenvalues(matrices)
    bound = C * n * np.finfo(np.float32).eps * np.abs(lanes).max()  # compiled apart, sums may round differently
    for found in (
        stacked(smallmatrix.eigenvalues(matrices[3])),
        stacked(smallmatrix.eigenvalues(matrices[3].tolist())),
        stacked(jax.jit(smallmatrix.eigenvalues)(jnp.asarray(matrices[3]))),
        stacked(jax.vmap(smallmatrix.eigenvalues)(jnp.asarray(matrices)))[3],
    ):
        assert np.abs(found - lanes[3]).max() <= bound


@pytest.mark.parametrize("n", [2, 5, 10])
def test_only_the_upper_triangle_is_read(n):
    matrix = random_matrices(np.random.default_rng(3), n, count=1)
    np.testing.assert_array_equal(eigenvalues(matrix), eigenvalues(np.triu(matrix) + 7 * np.tri(n, k=-1)))


@pytest.mark.parametrize("dtype", [*DTYPES, np.int32])
def test_dtype_is_kept_and_integers_become_floats(dtype):
    with jax.enable_x64(True):
        values, vectors = smallmatrix.eigh(((dtype(2), 1), (1, dtype(2))))  # Python numbers take the others' dtype
    expected = dtype if dtype is not np.int32 else np.float64
    assert {leaf.dtype for leaf in jax.tree.leaves((values, vectors))} == {np.dtype(expected)}
    assert [float(value) for value in values] == [1, 3]


@pytest.mark.parametrize("n", [2, 3, 9])
def test_nothing_waits_and_nothing_gathers(n):
    """No LAPACK, sort, indexing or data-dependent loop for orders 2 to 9; negative control: order 10 calls LAPACK."""
    entry = jnp.ones(4, jnp.float32)
    program = str(jax.make_jaxpr(jax.vmap(smallmatrix.eigh))(((entry,) * n,) * n))
    for primitive in ("eigh", "while", "sort", "gather", "scatter", "dot_general", "dynamic_slice"):
        assert f" {primitive}[" not in program, primitive
    assert " eigh[" in str(jax.make_jaxpr(smallmatrix.eigh)(jnp.ones((10, 10))))


@pytest.mark.parametrize(
    ("matrix", "says"),
    [
        ((), "0 rows"),
        (((1.0, 2.0),), "lengths"),
        (((1.0, 2.0), (2.0,)), "lengths"),
        (np.zeros((2, 3)), "lengths"),
        (np.zeros((5, 2, 2)), "one n by n matrix"),
        (((np.zeros(3),),), "batch with jax.vmap"),
    ],
)
def test_what_is_no_matrix_is_refused(matrix, says):
    with pytest.raises(ValueError, match=says):
        smallmatrix.eigenvalues(matrix)


def test_complex_is_refused():
    with pytest.raises(TypeError, match="complex64"):
        smallmatrix.eigh(np.eye(2, dtype=np.complex64))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", [1, 2, 9, 12, 13, 40])  # above 12 it is LAPACK
def test_solve_is_as_accurate_as_the_condition_allows(order, dtype):
    rng = np.random.default_rng(order)
    matrices = rng.normal(size=(64, order, order))
    matrices[0] = np.eye(order)[::-1]  # nothing but row exchanges
    vectors = rng.normal(size=(64, order))
    matrices, vectors = matrices.astype(dtype), vectors.astype(dtype)
    with jax.enable_x64(True):
        x, pivots = map(np.asarray, jax.jit(jax.vmap(smallmatrix.solve))(matrices, vectors))
    truth = np.linalg.solve(matrices.astype(np.float64), vectors.astype(np.float64)[..., None])[..., 0]
    off = np.linalg.norm(x - truth, axis=1) / np.linalg.norm(truth, axis=1)
    assert x.dtype == dtype and np.all(off <= C * order * np.finfo(dtype).eps * np.linalg.cond(matrices))
    sizes = np.abs(np.linalg.det(matrices.astype(np.float64)))
    np.testing.assert_allclose(np.prod(np.asarray(pivots, np.float64), axis=1), sizes, rtol=1e4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("order", [3, 20])
def test_solve_shows_a_singular_matrix_by_its_pivots(order):
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(order, order)))[0]
    spectrum = np.arange(order) / order  # one zero
    with jax.enable_x64(True):
        _, pivots = map(np.asarray, smallmatrix.solve(jnp.asarray(basis * spectrum @ basis.T), jnp.ones(order)))
        zero, none = map(np.asarray, smallmatrix.solve(jnp.zeros((order, order)), jnp.ones(order)))
    assert np.min(pivots) < 1e-13 * np.max(pivots)
    assert not np.min(none) > 0 and not np.all(np.isfinite(zero))  # NaN after the first zero
