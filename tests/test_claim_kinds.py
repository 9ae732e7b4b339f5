"""Figure 16: each kind of critical point against SymPy's derivatives and closed forms."""

import claims
import numpy as np
import oracles
import pytest
import sympy
from scipy.optimize import brentq

pytestmark = pytest.mark.slow  # the figure's record, though small, takes too long

STORED = claims.SCRIPTS.parent / "figures" / "fig_16_kinds.npz"
X, Y = oracles.x, oracles.y
LOSSES = [*[oracles.SURFACES["himmelblau"][1]] * 3, X**3 - 3 * X * Y**2, X**4 + Y**4, (1 - X * Y) ** 2]
INERTIA = [(0, 0, 2), (2, 0, 0), (1, 0, 1), (0, 2, 0), (0, 2, 0), (0, 1, 1)]
ORDERS = [2, 2, 2, 3, 4, 2]


@pytest.fixture(scope="module")
def figure():
    return claims.script("fig_16_kinds")


@pytest.fixture(scope="module")
def record(figure):
    return claims.record(figure, x64=True, side=11, count=24, finely=720)


@pytest.fixture(scope="module")
def stored():
    """What the committed caption quotes."""
    with np.load(STORED) as file:
        return dict(file)


def series(expression, point):
    """NumPy functions of (cos φ, sin φ): the coefficients of r, r², ... of the loss change, exact."""
    r, c, s = sympy.symbols("r c s")
    x, y = (sympy.Float(float(value), 30) for value in point)
    shifted = sympy.expand(expression.subs({X: x + r * c, Y: y + r * s}, simultaneous=True))
    return [sympy.lambdify((c, s), shifted.coeff(r, k), "numpy") for k in range(1, 5)]


def test_the_points_are_critical_and_of_their_kind(record, stored):
    for found in (record, stored):
        assert found["inertia"].tolist() == [list(counts) for counts in INERTIA]
        assert found["gradient_norm_max"] == found["gradient_norm"].max() < 1e-12
        for expression, point, values in zip(LOSSES, found["point"], found["eigenvalues"], strict=True):
            at = dict(zip((X, Y), point, strict=True))
            slope = [float(expression.diff(v).subs(at)) for v in (X, Y)]
            assert np.hypot(*slope) < 1e-12  # an ulp of the point times the curvature, 1e2
            exact = np.array(sympy.hessian(expression, (X, Y)).subs(at), float)
            np.testing.assert_allclose(values, np.linalg.eigvalsh(exact), rtol=1e-13, atol=1e-14)
        np.testing.assert_array_equal(found["point"][3:], [(0, 0), (0, 0), (1, 1)])


def test_eigenvectors_are_those_of_the_hessian(record):
    for which, expression in enumerate(LOSSES):
        at = dict(zip((X, Y), record["point"][which], strict=True))
        exact = np.array(sympy.hessian(expression, (X, Y)).subs(at), float)
        for angle, value in zip(record["vector_angles"][which], record["eigenvalues"][which], strict=True):
            v = np.array([np.cos(angle), np.sin(angle)])
            np.testing.assert_allclose(exact @ v, value * v, atol=1e-12)


def test_the_loss_on_the_circles_is_the_exact_series(record, stored):
    """All six losses are polynomials of degree 4 or less. Rounding: a few eps of the loss at the point, 181 at most."""
    for found in (record, stored):
        c, s = np.cos(found["angles"]), np.sin(found["angles"])
        for which, (expression, point) in enumerate(zip(LOSSES, found["point"], strict=True)):
            terms = np.stack([np.broadcast_to(f(c, s), c.shape) for f in series(expression, point)], axis=-1)
            exact = terms @ found["radii"][None, :] ** np.arange(1, 5)[:, None]
            atol = 16 * oracles.EPS * max(1, found["point_loss"][which])
            np.testing.assert_allclose(found["measured"][which], exact, rtol=1e-12, atol=atol)
            np.testing.assert_allclose(found["second_order"][which], terms[:, 1] * found["radii"][0] ** 2, atol=atol)


def test_second_order_sees_nothing_at_two_different_kinds(record):
    assert np.all(record["second_order"][3] == 0) and np.all(record["second_order"][4] == 0)
    assert np.all(record["measured"][4] > 0) and np.any(record["measured"][3] < 0)


def test_falling_shares_and_orders(record, stored):
    for found, count in ((record, 720), (stored, 3600)):
        low, high = found["eigenvalues"][2]
        bend = lambda t, a=low, b=high: a * np.cos(t) ** 2 + b * np.sin(t) ** 2  # noqa: E731
        edge = brentq(bend, 0, np.pi / 2)  # the loss falls below this angle
        assert found["falling_theory"][2] == pytest.approx(2 * edge / np.pi, rel=1e-12)
        # Four edges, each within a direction of its place, and O(r) of r = 0.01, which cancels between opposite ones.
        np.testing.assert_allclose(found["falling"], [0, 1, 2 * edge / np.pi, 0.5, 0, 0], atol=4 / count)
        assert np.all(found["falling"][[0, 1, 4, 5]] == [0, 1, 0, 0])
        angles = 2 * np.pi * (np.arange(count) + 0.5) / count
        for share, expression, point in zip(found["falling"][:5], LOSSES[:5], found["point"][:5], strict=True):
            terms = [f(np.cos(angles), np.sin(angles)) * 0.01**k for k, f in enumerate(series(expression, point), 1)]
            assert share == np.mean(sum(terms) < 0)
        np.testing.assert_allclose(found["order"], ORDERS, atol=2e-3)  # the next even order, r² of it, at r = 0.1


def test_the_valley_is_met_by_the_circle_but_not_by_the_eigenvector(record, stored):
    radius = 0.3
    exact = brentq(lambda t: (1 + radius * np.cos(t)) * (1 + radius * np.sin(t)) - 1, np.pi / 2, 3 * np.pi / 4)
    for found, count in ((record, 720), (stored, 3600)):
        assert found["valley_angle"] == pytest.approx(np.degrees(exact), abs=1e-10)
        assert found["least_angle"] == pytest.approx(found["valley_angle"], abs=360 / count)
        assert 0 <= found["least"] < (radius * 1.5 * np.pi / count) ** 2  # half a step off, slope about r
        assert found["straight"] == pytest.approx(radius**4 / 4, rel=1e-12)
        assert found["least"] < 0.1 * found["straight"]


def test_the_closed_forms_drawn_are_the_measurement(figure, record):
    for which, order in enumerate(ORDERS):
        for column, radius in ((0, 0.01), (2, 0.3)):
            exact = figure.closed_form(record, which, record["angles"], radius)
            measured = record["measured"][which, :, column] / radius**order
            if which >= 3:
                np.testing.assert_allclose(measured, exact, atol=1e-9)
            elif column == 0:  # the limit: off by r times third derivatives, 50, over 6
                np.testing.assert_allclose(measured, exact, atol=0.3)


def test_the_figure_shows_what_was_measured(figure, record):
    drawn = figure.draw(record)
    circles = [ax for ax in drawn.axes if ax.name != "3d"]
    reliefs = [ax for ax in drawn.axes if ax.name == "3d"]
    assert len(circles) == len(reliefs) == 6
    for which, (ax, relief) in enumerate(zip(circles, reliefs, strict=True)):
        for line, column in zip(ax.lines, (0, 2), strict=False):
            shown = line.get_ydata() * record["radii"][column] ** ORDERS[which]
            np.testing.assert_allclose(shown, record["measured"][which, :, column], rtol=1e-14)
        counts = ", ".join(map(str, INERTIA[which]))
        assert f"({counts})" in ax.get_title()
        ring = np.array(relief.lines[0].get_data_3d())
        wanted = record["point_loss"][which] + record["measured"][which, :, 2]
        np.testing.assert_allclose(ring[2, :-1], wanted)
        x, y = record["axes"][which]
        mesh = np.stack(np.meshgrid(x, y, indexing="ij"))
        value = sympy.lambdify((X, Y), LOSSES[which], "numpy")(*mesh)
        np.testing.assert_allclose(record["loss"][which], value, rtol=1e-6, atol=1e-6)  # kept in float32


def test_caption_and_redrawing(figure, record, tmp_path):
    caption = claims.check_figure(figure, record, tmp_path)
    for number in ("28.69", "105.42", "-45.61", "97.55", "23.2%", "2.0e-03", "129.0"):
        text = caption.measured.en + caption.caveat.en, caption.measured.zh + caption.caveat.zh
        assert number in text[0] and number in text[1]
