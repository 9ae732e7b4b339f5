"""Figure 17: Taylor coefficients against SymPy, a network written out in NumPy and finite differences."""

import math

import claims
import jax
import mpmath
import numpy as np
import oracles
import pytest
import sympy

pytestmark = pytest.mark.slow

STORED = claims.SCRIPTS.parent / "figures" / "fig_17_expansion.npz"
EPS = oracles.EPS


@pytest.fixture(scope="module")
def figure():
    return claims.script("fig_17_expansion")


@pytest.fixture(scope="module")
def record(figure):
    return claims.record(figure, x64=True, directions=2, steps=20, samples=60)


@pytest.fixture(scope="module")
def stored():
    """What the committed caption quotes."""
    with np.load(STORED) as file:
        return dict(file)


@pytest.fixture(scope="module")
def network(figure):
    """(loss, params) in NumPy of the reduced network, and its direction of panel (c), flat."""
    with jax.enable_x64(True):
        net, point = figure.trained(20, 60)
        direction = figure.random_direction(point, 0)
    flat = lambda tree: np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])  # noqa: E731
    structure, shapes = jax.tree.structure(point), [leaf.shape for leaf in jax.tree.leaves(point)]

    def loss(vector):
        cuts = np.split(vector, np.cumsum([math.prod(shape) for shape in shapes])[:-1])
        layers = structure.unflatten([cut.reshape(shape) for cut, shape in zip(cuts, shapes, strict=True)])
        hidden = np.tanh(np.asarray(net.data.x) @ layers[0]["weight"] + layers[0]["bias"])
        logits = hidden @ layers[1]["weight"] + layers[1]["bias"]
        return np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(60), net.data.y])

    return loss, flat(point), flat(direction)


def series(w, d):
    """Exact coefficients of (1 - (w1 + t d1)(w2 + t d2))² in t."""
    t = sympy.symbols("t")
    expanded = sympy.Poly((1 - (w[0] + t * d[0]) * (w[1] + t * d[1])) ** 2, t)
    return [float(expanded.coeff_monomial(t**k)) for k in range(5)]


def test_the_toys_coefficients_are_sympys(record, stored):
    half, fifth = sympy.sqrt(sympy.Rational(1, 2)), sympy.Rational(1, 5)
    generic = series((6 * fifth, sympy.Rational(1, 2)), (4 * fifth, 3 * fifth))
    saddle = series((0, 0), (half, half))
    assert saddle == [1, 0, -1, 0, 0.25]
    for found in (record, stored):
        np.testing.assert_allclose(found["taylor"][0], generic, atol=8 * EPS)
        np.testing.assert_allclose(found["taylor"][1], [1, 0, -1, 0.25, 0], atol=8 * EPS)
        assert found["order"].tolist() == [3, 4, 3]


def test_the_networks_coefficients_are_those_of_differences(record, network):
    """A polynomial through 13 values, at Chebyshev's places: its third and fourth coefficients to 1e-6."""
    loss, point, direction = network
    assert np.linalg.norm(direction) == pytest.approx(np.linalg.norm(point), rel=1e-12)
    places = 0.1 * np.cos(np.pi * (np.arange(13) + 0.5) / 13)
    fitted = np.polynomial.Polynomial.fit(places, [loss(point + t * direction) for t in places], 12).convert().coef
    np.testing.assert_allclose(record["taylor"][2, :4], fitted[:4], rtol=1e-8)
    assert record["taylor"][2, 4] == pytest.approx(fitted[4], rel=1e-5)


def test_coefficients_of_a_polynomial_and_of_himmelblau(figure):
    """Orders 0 to 5 of a nested derivative, on a surface for which SymPy has them."""
    (x, y), expression = oracles.SURFACES["himmelblau"]
    t = sympy.symbols("t")
    exact = sympy.Poly(expression.subs({x: 1 + 2 * t, y: -2 + t}, simultaneous=True), t)
    from landscape.problems import surfaces

    with jax.enable_x64(True):
        found = figure.coefficients(surfaces.himmelblau(), surfaces.Point2(1.0, -2.0), surfaces.Point2(2.0, 1.0), 5)
    np.testing.assert_allclose(found, [float(exact.coeff_monomial(t**k)) for k in range(6)], rtol=1e-14, atol=1e-12)


def test_the_residuals_are_exact_ones_plus_rounding(record, stored):
    """Against 40 digits on the toy; rounding is a few eps of the numbers added up, the largest of which is 1."""
    mpmath.mp.dps = 40
    for found in (record, stored):
        for which in (0, 1):
            c = [mpmath.mpf(float(value)) for value in found["taylor"][which]]
            exact = [float(sum(ck * mpmath.mpf(t) ** k for ck, k in after(c, which))) for t in found["times"]]
            for row, dtype in zip(found["residual"][which], (np.float64, np.float32), strict=True):
                np.testing.assert_allclose(row, exact, rtol=8 * np.finfo(dtype).eps, atol=8 * np.finfo(dtype).eps)


def after(c, which):
    """The terms of the residual: of third and fourth order, or of fourth alone."""
    return [(c[3], 3), (c[4], 4)] if which == 0 else [(c[3], 4)]


def test_the_networks_residuals_are_numpys(record, network):
    loss, point, direction = network
    centre, first, second = record["taylor"][2, :3]
    times = record["times"]
    measured = np.array([loss(point + t * direction) for t in times]) - (centre + times * first + times**2 * second)
    # Values near 2 that are added up over 60 samples, in another order.
    np.testing.assert_allclose(record["residual"][2, 0], measured, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(record["residual"][2, 1], measured, rtol=1e-4, atol=2e-6)


def test_slopes_are_the_orders(record, stored):
    for found in (record, stored):
        # The next order changes the term by up to 1 %, over two decades or more: by less than 0.01 in the slope.
        np.testing.assert_allclose(found["slope"], [3, 4, 3], atol=0.01)
        assert np.all(np.abs(found["slope_range"] - 3) < 0.01)
        assert found["slope_range"][0] <= found["slope"][2] <= found["slope_range"][1]
        for which in range(3):
            x = np.log(found["times"][found["fitted"][which]])
            y = np.log(np.abs(found["residual"][which, 0][found["fitted"][which]]))
            assert x.size >= 10
            centred = x - x.mean()
            b = centred @ y / (centred @ centred)
            left = y - y.mean() - b * centred
            assert found["slope"][which] == pytest.approx(b, rel=1e-10)
            error = np.sqrt(left @ left / (x.size - 2) / (centred @ centred))
            assert found["slope_error"][which] == pytest.approx(error, rel=1e-6)
        assert np.all(found["misfit"] < 0.01 + 8 / 300)  # the bias, and a few eps of CLEAR eps


def test_where_rounding_takes_over(record, stored):
    for found in (record, stored):
        for which in range(3):
            order, term = found["order"][which], abs(found["taylor"][which, 3])
            for takeover, dtype in zip(found["takeover"][which], (np.float64, np.float32), strict=True):
                floor = np.finfo(dtype).eps * abs(found["taylor"][which, 0])
                assert term * takeover**order == pytest.approx(floor, rel=1e-12)
                # The measurement agrees: ten times below it the residual is rounding, of this size.
                row = found["residual"][which, int(dtype is np.float32)]
                assert np.max(np.abs(row[found["times"] < takeover / 10])) < 8 * floor


def test_signs_at_critical_points(record, stored):
    """Himmelblau's by Newton's method on SymPy's derivatives: kinds, eigenvalues, and the loss on the lines."""
    loss, gradient, hessian = oracles.surface("himmelblau")
    steps = np.array([-0.1, -0.03, -0.01, 0.01, 0.03, 0.1])
    starts = np.array([3, 2, -2.8, 3.1, -3.8, -3.3, 3.6, -1.8, 0.1, 2.9, -3.1, -0.1, 3.4, 0.1, -0.1, -2, -0.3, -0.9])
    wanted = {}
    for x in starts.reshape(9, 2):
        for _ in range(20):
            x = x - np.linalg.solve(hessian(x), gradient(x))
        values, vectors = np.linalg.eigh(hessian(x))
        wanted[tuple(np.round(values, 6))] = np.array([[loss(x + t * v) - loss(x) for t in steps] for v in vectors.T])
    for found in (record, stored):
        assert found["kinds"] == len(wanted) == 9 and found["agree"] == found["tried"] == 120
        assert found["kind"].tolist() == [0] * 4 + [1] * 4 + [2, 1]
        values = found["predicted"][:, :, -1] / 0.005
        np.testing.assert_array_equal(np.sum(values < 0, axis=1), found["kind"])
        assert {tuple(np.round(pair, 6)) for pair in values[:9]} == set(wanted)
        for pair, measured in zip(values[:9], found["measured"], strict=False):
            for row, line in zip(measured, wanted[tuple(np.round(pair, 6))], strict=True):
                error = min(np.max(np.abs(row - line)), np.max(np.abs(row[::-1] - line)))  # a vector's sign is free
                assert error < 1e-10
        np.testing.assert_allclose(
            found["measured"][9, :, -1], [(1 - 0.005) ** 2 - 1, (1 + 0.005) ** 2 - 1], rtol=1e-12
        )


def test_the_even_part_on_the_network(record, network, figure):
    loss, point, _ = network
    step = 1e-3
    with jax.enable_x64(True):
        net, params = figure.trained(20, 60)
        matrix = np.asarray(figure.ls.hessian.dense(net.loss, params, net.data))
    values, vectors = np.linalg.eigh(matrix)
    np.testing.assert_allclose(record["net_values"], values, atol=1e-13)
    for column in (0, 300, 609):
        v = vectors[:, column]
        for j, t in enumerate(record["net_steps"]):
            even = (loss(point + t * v) + loss(point - t * v)) / 2 - loss(point)
            assert record["net_even"][column, j] == pytest.approx(even, rel=1e-8, abs=1e-14)
        second = (loss(point + step * v) + loss(point - step * v) - 2 * loss(point)) / step**2
        assert values[column] == pytest.approx(second, rel=1e-4, abs=1e-8)
    assert record["net_loss"] == pytest.approx(loss(point), rel=1e-12)


def test_the_counts_of_signs(record, stored):
    for found in (record, stored):
        predicted, even = np.outer(found["net_values"], found["net_steps"] ** 2 / 2), found["net_even"]
        clear = np.abs(predicted) > 300 * EPS * found["net_loss"]
        np.testing.assert_array_equal(found["net_clear"], clear.sum(axis=0))
        np.testing.assert_array_equal(found["net_agree"], (clear & (predicted * even > 0)).sum(axis=0))
        assert found["net_up"] == np.sum((clear & (predicted < 0) & (even > 0))[:, -1])
        assert found["net_agree"][0] == found["net_clear"][0]
    assert stored["net_agree"][2] < stored["net_clear"][2]  # the caveat


def test_the_figure_shows_what_was_measured(figure, record):
    panels = {ax.get_title()[:3]: ax for ax in figure.draw(record).axes if ax.get_title()}
    for which, letter in enumerate(("(a)", "(b)", "(c)")):
        lines = panels[letter].lines
        for line, row in zip(lines[:2], record["residual"][which], strict=True):
            np.testing.assert_array_equal(line.get_ydata(), np.where(row != 0, np.abs(row), np.nan))
        fitted = record["fitted"][which]
        np.testing.assert_allclose(
            lines[2].get_ydata()[fitted], np.abs(record["residual"][which, 0, fitted]), rtol=0.04
        )
    for which in range(3):
        drawn, theory = panels["(d)"].lines[2 * which : 2 * which + 2]
        fitted = record["fitted"][which]
        np.testing.assert_allclose(drawn.get_ydata()[fitted], theory.get_ydata()[fitted], rtol=0.03)
    count = sum(line.get_xdata().size for line in panels["(e)"].lines[:3])
    assert count == record["tried"]
    np.testing.assert_array_equal(panels["(f)"].lines[1].get_ydata(), record["net_even"][:, 1])
    for ax in panels.values():
        assert any("theory" in text.get_text() for text in ax.get_legend().get_texts())


def test_caption_and_redrawing(figure, record, tmp_path):
    caption = claims.check_figure(figure, record, tmp_path)
    for number in (f"{record['slope'][1]:.4f}", "120", f"{record['takeover'][1][1]:.1e}"):
        assert number in caption.measured.en and number in caption.measured.zh
    assert f"{record['net_slope']:.3f}" in caption.caveat.en
