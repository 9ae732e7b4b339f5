"""Figure 22: sharpness at the end against plain loops, the exact edge, and the second order of the mirror image."""

import claims
import numpy as np
import pytest
import sympy

pytestmark = pytest.mark.slow  # the figure's record, though small, takes too long


@pytest.fixture(scope="module")
def figure():
    return claims.script("fig_22_catapult")


@pytest.fixture(scope="module")
def record(figure):
    return claims.record(figure, x64=True, count=53, starts=27, steps=8000)


@pytest.fixture(scope="module")
def stored(figure):
    """The record that the committed picture and caption were made from."""
    with np.load(claims.SCRIPTS.parent / "figures" / f"{figure.__name__}.npz") as file:
        return dict(file)


def descended(w1, w2, rate, steps):
    """Gradient descent on (1 - w1 w2)² as a loop: the points after each step."""
    path = [(w1, w2)]
    for _ in range(steps):
        r = 1 - w1 * w2
        w1, w2 = w1 + 2 * rate * r * w2, w2 + 2 * rate * r * w1
        path.append((w1, w2))
    return np.array(path)


@pytest.mark.parametrize("sharpness, residual", [(20.0, 1e-3), (7.0, -0.2)])
def test_starts_have_the_sharpness_and_the_residual_asked_for(figure, sharpness, residual):
    w1, w2 = figure.beside(sharpness, residual)
    assert 2 * (w1**2 + w2**2) == pytest.approx(sharpness, rel=1e-12)
    assert 1 - w1 * w2 == pytest.approx(residual, abs=1e-14)


def test_ends_are_those_of_a_plain_loop(figure, record):
    rates = record["learning_rates"]
    # Nearer to the edge the way is longer and irregular: rounding grows to what can be seen.
    for row in np.flatnonzero((rates * 20 < 3.6) & (np.abs(rates * 20 - 2) > 0.04))[::6]:
        w1, w2 = descended(*figure.beside(20.0, 1e-3), rates[row], 4000)[-1]
        assert record["final"][row] == pytest.approx(2 * (w1**2 + w2**2), rel=1e-5)


def test_losses_are_those_of_a_plain_loop(figure, record):
    for rate, loss in zip(record["shown"][:4], record["loss"], strict=False):
        w1, w2 = descended(*figure.beside(20.0, 1e-3), rate, 60).T
        np.testing.assert_allclose(loss, (1 - w1 * w2) ** 2, rtol=1e-4, atol=1e-20)
    assert record["loss"][-1, -1] > 1e4 or not np.isfinite(record["loss"][-1, -1])
    assert record["loss"][2].max() > 1e3 * record["loss"][2, 0] > 1e3 * record["loss"][2, -1]  # up, then down


@pytest.mark.parametrize("of", ["record", "stored"])
def test_stays_below_the_line_then_ends_under_it_then_diverges(of, request):
    record = request.getfixturevalue(of)
    rates, final = record["learning_rates"], record["final"]
    stays, gone = rates * 20 < 1.99, rates * 20 + 4e-3 * rates**2 > 4
    # The start's own way down moves it by about its residual.
    np.testing.assert_allclose(final[stays], 20, atol=0.01)
    assert np.isnan(final[gone]).all() and gone.sum() > 2
    between = (rates * 20 > 2) & ~gone
    assert np.all(rates[between] * final[between] < 2) and np.all(final[between] > 4 - 1e-6)
    assert (record["settled"], record["between"]) == (between.sum(), between.sum())
    assert record["contradictions"] == 0 and record["near_undecided"] == 0
    assert record["highest"] == np.max(rates[between] * final[between])
    # Where the grid has 4 itself the residual of 1e-8 decides.
    np.testing.assert_array_equal(record["scaled_diverged"], record["scaled"] + 4 * 0.1**2 * 1e-8 > 4)


def test_one_step_is_the_map_of_the_docstring(figure):
    w1, w2, h = sympy.symbols("w1 w2 h")
    x, e = 2 * h * (1 - w1 * w2), 2 * h * (w1**2 + w2**2) + 4 * h**2 * (1 - w1 * w2) - 2
    r = 1 - w1 * w2
    step = {w1: w1 + 2 * h * r * w2, w2: w2 + 2 * h * r * w1}
    assert sympy.expand(x.subs(step, simultaneous=True) - x * (-1 - e + x**2)) == 0
    assert sympy.expand(e.subs(step, simultaneous=True) - (e + (e - 2) * (x**2 - 2 * h * x))) == 0


def test_second_order_is_that_of_the_conserved_quantity(figure):
    """The cubic I with I(step) = I + fourth order; on the minima it is e² + k e³, so e → -e - k e² + ..."""
    x, e, h = sympy.symbols("x e h")
    step = {x: x * (-1 - e + x**2), e: e + (e - 2) * (x**2 - 2 * h * x)}
    powers = [(i, degree - i) for degree in (2, 3, 4) for i in range(degree + 1)]
    weights = {p: sympy.Symbol(f"c{p[0]}{p[1]}") for p in powers}
    quantity = sum(c * x**i * e**j for (i, j), c in weights.items())
    change = sympy.Poly(sympy.expand(quantity.subs(step, simultaneous=True) - quantity), x, e)
    conditions = [c for (i, j), c in change.terms() if i + j <= 4] + [weights[0, 2] - 1]
    found = sympy.solve(conditions, list(weights.values()), dict=True)[0]
    for rate in (0.05, 0.1, 0.3):
        assert figure.catapult_bend(rate) == pytest.approx(-float(found[weights[0, 3]].subs(h, rate)), rel=1e-12)
    assert sympy.simplify(found[weights[2, 0]] - 2 * (1 - 2 * h**2)) == 0 == found[weights[1, 1]] - 4 * h


@pytest.mark.parametrize("of", ["record", "stored"])
def test_ends_approach_the_mirror_image_as_theory_says(of, request):
    record = request.getfixturevalue(of)
    np.testing.assert_allclose(record["exact"], [-7 / 12, -2 / 7, 11 / 24], rtol=1e-12)
    # c changes by about .3 times e (measured: by .0034 at e = .01).
    np.testing.assert_allclose(record["measured"], record["exact"], atol=0.005)
    e = record["offsets"]
    for rest, exact in zip(record["rest"], record["exact"], strict=True):
        assert np.all(np.abs(rest / e**2 - exact) < 1.2 * e + 1e-3)


def test_the_figure_shows_what_was_measured(figure, record):
    paths, rates, starts, rest = figure.draw(record).axes
    for line, loss in zip(paths.lines, record["loss"], strict=True):
        np.testing.assert_array_equal(line.get_ydata(), loss)
    np.testing.assert_array_equal(rates.lines[0].get_xydata(), np.c_[record["learning_rates"], record["final"]])
    np.testing.assert_array_equal(rates.lines[1].get_ydata(), 2 / record["learning_rates"])
    np.testing.assert_array_equal(starts.lines[0].get_ydata(), record["scaled_end"])
    for line, values in zip(rest.lines[::2], record["rest"], strict=True):
        np.testing.assert_array_equal(line.get_ydata(), np.abs(values))


def test_the_committed_caption_is_that_of_the_stored_record(figure, stored):
    path = claims.SCRIPTS.parent / "figures" / f"{figure.__name__}.json"
    assert claims.page.read_caption(path) == figure.CAPTION.fill(stored)


def test_caption_and_redrawing(figure, record, tmp_path):
    claims.check_figure(figure, record, tmp_path)
