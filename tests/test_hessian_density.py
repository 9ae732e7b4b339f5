"""Spectral densities: quadrature against exact spectra, and bands that cover as often as they say."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quadratics import matrix_of, quadratic

from landscape import hessian
from landscape.estimate import Estimate

BOTH = pytest.mark.parametrize("dtype", [np.float32, np.float64])
DIGITS = np.load(Path(__file__).parent / "data" / "digits_mlp.npz")

N = 200
BULK = np.random.default_rng(0).normal(size=N)
FALLING = np.sort(DIGITS["trained/eigvals64"])[::-1]
SPECTRA = {
    "flat": np.linspace(0.5, 1.5, N),
    "power law": 1 / np.arange(1, N + 1),
    "outliers": np.concatenate([[3, 2.5, 2, 1.5, 1], 0.02 * BULK[5:]]),
    "indefinite": BULK,
    "clusters": np.repeat([-1, 0, 2, 3], N // 4),
    "digits": FALLING[np.r_[:50, np.linspace(50, len(FALLING) - 1, N - 50).astype(int)]],
}
# Krylov spaces that end: few different eigenvalues, with their multiplicities.
ENDING = {
    "zero": {0: N},
    "identity": {1: N},
    "rank 3": {0: N - 3, 5: 1, 1: 1, -2: 1},
    "two": {-1: N // 4, 2: 3 * N // 4},
    "clusters": {-1: 50, 0: 50, 2: 50, 3: 50},
}


def density(matrix, dtype=np.float64, **how):
    """With everything as NumPy arrays."""
    with jax.enable_x64(dtype == np.float64):
        found = hessian.density(quadratic, np.ones(len(matrix), dtype), matrix.astype(dtype), **how)
        return jax.tree.map(np.asarray, found)


def starts(probes, n, key=0, dtype=np.float64):
    """The probes of `density`."""
    with jax.enable_x64(dtype == np.float64):
        drawn = np.asarray(jax.random.normal(jax.random.key(key), (probes, n), dtype))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def smoothed(spectrum, grid, width):
    """The exact density, smoothed."""
    return np.mean(np.exp(-(((grid[:, None] - spectrum) / width) ** 2) / 2), axis=1) / width / np.sqrt(2 * np.pi)


@BOTH
def test_mass_and_weights_are_one(dtype):
    for name in SPECTRA:
        found = density(matrix_of(SPECTRA[name]), dtype, probes=3, steps=30)
        assert {leaf.dtype for leaf in found[:-1]} == {np.dtype(dtype)} and found.dimension == N
        assert found.nodes.shape == found.weights.shape == found.diagonal.shape == (3, 30)
        assert found.off_diagonal.shape == (3, 29)
        eps = np.finfo(dtype).eps
        np.testing.assert_allclose(found.weights.sum(1), 1, rtol=10 * eps)
        spacing = (found.grid[-1] - found.grid[0]).astype(np.float64) / (len(found.grid) - 1)
        # The spacing is a difference of grid points, which are rounded.
        np.testing.assert_allclose(found.mean.astype(np.float64).sum() * spacing, 1, rtol=2000 * eps)
        assert np.all(found.mean >= 0) and np.all(np.diff(found.nodes, axis=1) >= 0)
        # Rayleigh quotients stay within the spectrum.
        assert (
            found.nodes.min() >= SPECTRA[name].min() - 50 * eps and found.nodes.max() <= SPECTRA[name].max() + 50 * eps
        )


def test_quadrature_is_exact_for_polynomials():
    """sum w theta^p = q^T A^p q for p < 2 steps; and moments 1 and 2 are q^T A q and |A q|^2."""
    for name in SPECTRA:
        matrix, steps = matrix_of(SPECTRA[name]), 6
        found = density(matrix, probes=4, steps=steps, key=3)
        q = starts(4, N, 3)
        scale, power_of = np.abs(SPECTRA[name]).max(), q
        for power in range(2 * steps):
            exact = np.sum(q * power_of, axis=1)
            # Some hundred roundings of terms up to scale^p.
            np.testing.assert_allclose(
                np.sum(found.weights * found.nodes**power, axis=1), exact, atol=1e-12 * scale**power
            )
            with jax.enable_x64(True):
                moment = found.moment(power)
                np.testing.assert_allclose(moment.mean, N * exact.mean(), atol=1e-12 * N * scale**power)
            power_of = power_of @ matrix
        beyond = np.sum(found.weights * found.nodes ** (2 * steps), axis=1)
        if name not in ("clusters",):  # whose quadrature of four nodes is exact for everything
            assert np.any(np.abs(beyond - np.sum(q * power_of, axis=1)) > 1e-11 * scale ** (2 * steps))


def test_the_matrices_are_lanczos_own():
    """T = Q^T A Q on the Krylov space, from a QR decomposition of (q, A q, A^2 q, ...)."""
    matrix, steps = matrix_of(SPECTRA["indefinite"]), 5
    found = density(matrix, probes=2, steps=steps)
    for lane, q in enumerate(starts(2, N)):
        krylov = [q]
        for _ in range(steps - 1):
            krylov.append(matrix @ krylov[-1])
        basis, _ = np.linalg.qr(np.array(krylov).T)
        projected = basis.T @ matrix @ basis
        np.testing.assert_allclose(found.diagonal[lane], np.diag(projected), atol=1e-10)
        np.testing.assert_allclose(found.off_diagonal[lane], np.abs(np.diag(projected, 1)), atol=1e-10)


def test_as_many_steps_as_dimensions_give_the_spectrum():
    spectrum = np.linspace(-1, 2, 25) ** 3
    found = density(matrix_of(spectrum), probes=3, steps=80)  # 80 steps are 25
    np.testing.assert_allclose(found.nodes, np.tile(np.sort(spectrum), (3, 1)), atol=1e-12)
    with jax.enable_x64(True):
        masses = jax.tree.map(np.asarray, found.masses())
    q = starts(3, 25)
    _, vectors = np.linalg.eigh(matrix_of(spectrum))
    shares = np.mean((q @ vectors) ** 2, axis=0)
    np.testing.assert_allclose(masses.negative.mean, shares[np.sort(spectrum) < -1e-12].sum(), atol=1e-10)
    # Its error is that of the probes alone.
    share = masses.negative.mean
    c = 2 / 27 / 3
    np.testing.assert_allclose(masses.negative.standard_error, np.sqrt(c / (1 - c) * share * (1 - share)), rtol=1e-6)


@BOTH
def test_krylov_spaces_that_end(dtype):
    """Weights are squared projections of the probe on the eigenspaces; nothing of a rounding's size is negative."""
    for name in ENDING:
        spectrum = np.repeat(list(ENDING[name]), list(ENDING[name].values())).astype(float)
        matrix = matrix_of(spectrum) if name != "identity" else np.eye(N)
        found = density(matrix, dtype, probes=4, steps=50)
        assert all(np.all(np.isfinite(leaf)) for leaf in found)
        eps, scale = np.finfo(dtype).eps, np.abs(spectrum).max()
        q = starts(4, N, dtype=dtype).astype(np.float64)
        _, vectors = np.linalg.eigh(matrix_of(spectrum) if name != "identity" else np.eye(N))
        projections = (q @ vectors) ** 2
        for value in ENDING[name]:
            near = np.abs(found.nodes - value) <= 50 * eps * scale
            exact = projections[:, np.abs(np.sort(spectrum) - value) < 1e-6].sum(1)
            np.testing.assert_allclose(np.sum(found.weights * near, axis=1), exact, atol=200 * eps)
        with jax.enable_x64(dtype == np.float64):
            masses = jax.tree.map(np.asarray, found.masses())
        for share, which in (
            (masses.negative, spectrum < 0),
            (masses.zero, spectrum == 0),
            (masses.positive, spectrum > 0),
        ):
            assert abs(share.mean - which.mean()) <= 4 * share.standard_error + 200 * eps
            assert share.standard_error <= np.sqrt(2 / (N + 2) / 4) + 200 * eps
            if not which.any():
                assert share.mean <= 200 * eps
        assert masses.tolerance <= 50 * eps * scale * (1 + 1e-3)


def runs_of(matrix, runs, **how):
    operator = hessian.linear_operator(quadratic, np.ones(len(matrix), np.float32), matrix.astype(np.float32))
    keys = jax.random.split(jax.random.key(5), runs)

    def one(key):
        found = hessian.density(operator, key=key, **how)
        moments = [found.moment(power) for power in (1, 2)]
        return found, found.band(), moments

    return jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(keys))


def coverage(spectrum, found, band):
    """How often a band holds the exact smoothed density, over points where that is 1e-4 of its peak or more."""
    covered = []
    for run, (lower, upper) in enumerate(zip(*band, strict=True)):
        exact = smoothed(spectrum, found.grid[run].astype(np.float64), found.width[run])
        inside = (lower <= exact) & (exact <= upper)
        covered.append(np.mean(inside[exact > 1e-4 * exact.max()]))
    return np.mean(covered)


def check_band(name, probes, runs):
    spectrum = SPECTRA[name]
    found, band, moments = runs_of(matrix_of(spectrum), runs, probes=probes, steps=40, points=200)
    assert 0.9 < coverage(spectrum, found, band) < 0.98
    half = found.mean - 0.5 * (found.mean - band[0]), found.mean + 0.5 * (band[1] - found.mean)
    assert coverage(spectrum, found, half) < 0.8  # the negative control
    for power, moment in zip((1, 2), moments, strict=True):
        lower, upper = moment.interval()
        exact = np.sum(spectrum**power)
        # A few squares of random numbers make the moments of the power law.
        assert 0.84 < np.mean((lower <= exact) & (exact <= upper)) <= 1


@pytest.mark.parametrize("probes", [1, 10])
def test_the_band_covers_as_often_as_it_says(probes):
    check_band("outliers", probes, 100)


@pytest.mark.slow
@pytest.mark.parametrize("probes", [2, 4, 10])
@pytest.mark.parametrize("name", SPECTRA)
def test_the_band_covers_on_all_spectra(name, probes):
    check_band(name, probes, 150)


def test_the_standard_error_is_the_spread_over_probes():
    spectrum = SPECTRA["outliers"]
    found, _, moments = runs_of(matrix_of(spectrum), 300, probes=4, steps=40, points=60, width=0.2)
    exact = smoothed(spectrum, found.grid[0].astype(np.float64), 0.2)
    # Grids differ by little where nodes at the ends have converged: the outermost ones are exact here.
    np.testing.assert_allclose(found.grid, np.tile(found.grid[0], (300, 1)), atol=1e-3)
    known = exact > 1e-2 * exact.max()
    variance = np.mean(found.standard_error**2, axis=0)[known]
    # 300 runs know a variance to 1 part in 12 for a normal error, to 1 in 6 for these.
    np.testing.assert_allclose(np.var(found.mean, axis=0)[known] / variance, 1, atol=0.5)
    assert abs(np.mean(np.var(found.mean, axis=0)[known] / variance) - 1) < 0.2
    for moment in moments:
        assert np.mean(moment.standard_error**2) == pytest.approx(np.var(moment.mean), rel=0.3)


def test_the_density_of_a_trained_network_has_no_ghosts():
    """The digits network's exact spectrum: isolated eigenvalues once per probe, and the whole within the band."""
    operator = hessian.linear_operator(lambda w, d: w @ (d * w) / 2, np.ones(len(FALLING), np.float32), FALLING)
    runs = 20
    tool = lambda key: (found := hessian.density(operator, probes=4, key=key), found.band())  # noqa: E731
    found, band = jax.tree.map(np.asarray, jax.jit(jax.vmap(tool))(jax.random.split(jax.random.key(0), runs)))
    for value in FALLING[:5]:
        near = np.abs(found.nodes - value) < 1e-4
        np.testing.assert_array_equal(np.sum(near, axis=2), 1)
    # Points move together where one eigenvalue makes the density, as most do here.
    assert 0.9 < coverage(FALLING, found, band) < 0.99
    exact = smoothed(FALLING, found.grid[0].astype(np.float64), found.width[0])
    np.testing.assert_allclose(found.mean[0], exact, atol=0.03 * exact.max())


def test_shares_admit_what_the_quadrature_cannot_tell():
    """A third of the digits network's eigenvalues are negative, but single nodes hold a third of the weight."""
    operator = hessian.linear_operator(lambda w, d: w @ (d * w) / 2, np.ones(len(FALLING), np.float32), FALLING)
    exact = np.mean(FALLING < -1e-6)
    for steps in (30, 50):
        found = hessian.density(operator, steps=steps)
        masses = found.masses()
        lower, upper = masses.negative.interval()
        assert lower <= exact <= upper and upper - lower < 1
        np.testing.assert_allclose(masses.negative.mean + masses.zero.mean + masses.positive.mean, 1, rtol=1e-5)
    # The negative control: the last step's share with the probes' error alone.
    naive = np.sum(found.weights * (found.nodes < -masses.tolerance), axis=1)
    assert abs(naive.mean() - exact) > 4 * np.sqrt(2 / len(FALLING) / 10 * 0.25)


@pytest.mark.parametrize("steps", [2, 5, 8])
def test_shares_of_few_steps_are_finite(steps):
    masses = density(matrix_of(SPECTRA["indefinite"]), np.float32, steps=steps, probes=1).masses()
    assert all(np.isfinite(share.mean) and share.standard_error > 0 for share in (masses.negative, masses.positive))
    np.testing.assert_allclose(masses.negative.mean + masses.zero.mean + masses.positive.mean, 1, rtol=1e-5)


def test_a_given_tolerance_and_width():
    found = density(matrix_of(SPECTRA["clusters"]), np.float32, width=0.5, probes=2)
    assert found.width == np.float32(0.5)
    np.testing.assert_allclose(found.grid[[0, -1]], [-1 - 3, 3 + 3], atol=1e-4)
    masses = found.masses(2.5)
    assert masses.negative.mean == 0 and masses.tolerance == 2.5
    np.testing.assert_allclose(masses.zero.mean + masses.positive.mean, 1, rtol=1e-5)
    traced = jax.jit(lambda width: hessian.density(quadratic, jnp.ones(N), jnp.eye(N), width=width))(0.1)
    assert traced.width == np.float32(0.1)


def test_narrow_gaussians_keep_their_mass():
    found = density(matrix_of(SPECTRA["indefinite"]), np.float32, width=1e-6, points=50)
    assert np.all(np.isfinite(found.standard_error))
    np.testing.assert_allclose(found.mean.sum() * (found.grid[1] - found.grid[0]), 1, rtol=1e-4)


def test_the_band_is_wilsons_equation():
    """(m - d)^2 = z^2 c (h d - d^2) at both ends, with the height h that the standard error tells."""
    found = density(matrix_of(SPECTRA["indefinite"]), probes=3)
    with jax.enable_x64(True):
        lower, upper = map(np.asarray, found.band(0.9))
    z, c, m = 1.6448536269514722, 2 / (N + 2) / 3, found.mean
    inside = m > 1e-8 * m.max()
    height = (found.standard_error**2 * (1 - c) / c + m**2)[inside] / m[inside]
    for end in (lower[inside], upper[inside]):
        np.testing.assert_allclose((m[inside] - end) ** 2, z**2 * c * (height * end - end**2), rtol=1e-6, atol=1e-14)
    assert np.all(lower <= m) and np.all(m <= upper) and np.all(lower >= 0)


def network(params, x):
    return jnp.mean(jnp.tanh(x @ params["w"]) ** 2) + params["b"] ** 4 + 0 * params["count"]


@pytest.mark.slow
def test_it_works_inside_jit_and_over_points_and_is_compiled_once():
    rng = np.random.default_rng(0)
    params, x = {"w": rng.normal(size=(6, 4)), "b": np.float64(0.5), "count": np.int32(3)}, rng.normal(size=(20, 6))
    traces = []

    def counted(params, x):
        traces.append(0)
        return network(params, x)

    with jax.enable_x64(True):
        tool = lambda p: hessian.density(counted, p, x, probes=3, steps=8)  # noqa: E731
        single = tool(params)
        seen = len(traces)
        tool(jax.tree.map(lambda leaf: 2 * leaf, params))
        hessian.density(counted, params, x, probes=3, steps=8, key=4)
        assert len(traces) == seen
        together = jax.jit(lambda p: (tool(p), tool(p).band(), tool(p).masses()))(params)
        np.testing.assert_allclose(together[0].mean, single.mean, atol=1e-9 * single.mean.max())
        np.testing.assert_allclose(together[2].negative.mean, single.masses().negative.mean, atol=1e-9)
        stacked = jax.tree.map(lambda leaf: np.stack([leaf, 2 * leaf]), params)
        lanes = jax.vmap(tool)(stacked)
        np.testing.assert_allclose(lanes.nodes[0], single.nodes, atol=1e-10)
        np.testing.assert_allclose(lanes.nodes[1], tool(jax.tree.map(lambda leaf: 2 * leaf, params)).nodes, atol=1e-10)


def test_one_leaf_and_batches():
    rng = np.random.default_rng(0)
    params, x = {"w": rng.normal(size=(6, 4)), "b": np.float64(0.5), "count": np.int32(3)}, rng.normal(size=(20, 6))
    with jax.enable_x64(True):
        block = np.linalg.eigvalsh(hessian.dense(network, params, x, leaves="w"))
        found = hessian.density(network, params, x, leaves="w", batch_size=7, steps=50, probes=2)
        np.testing.assert_allclose(found.nodes, np.tile(block, (2, 1)), atol=1e-10)
        alone = hessian.density(hessian.linear_operator(network, params, x, leaves="b"), probes=1)
        np.testing.assert_allclose(alone.nodes, [[12 * 0.5**2]], rtol=1e-12)
        assert alone.standard_error.max() < 1e-6 * alone.mean.max()


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"probes": 0}, "probes is 0: give a whole number, 1 or more"),
        ({"steps": 2.5}, "steps is 2.5: give a whole number, 1 or more"),
        ({"points": 1}, "points is 1: give a whole number, 2 or more"),
        ({"width": 0}, "width is 0: give a positive number"),
        ({"width": np.inf}, "width is inf: give a positive number"),
        ({"key": "a"}, "key is 'a': give an integer or a JAX key"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_what_makes_no_sense_is_refused(how, says):
    with pytest.raises(ValueError, match=says):
        hessian.density(quadratic, np.ones(3, np.float32), np.eye(3, dtype=np.float32), **how)


def test_moments_and_levels_are_checked():
    found = density(np.eye(3), np.float32, probes=1)
    with pytest.raises(ValueError, match="power is -1"):
        found.moment(-1)
    with pytest.raises(ValueError, match="level is 95"):
        found.band(95)
    assert isinstance(found.moment(0), Estimate) and found.moment(0).mean == 3
