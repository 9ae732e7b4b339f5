"""Figure 23: the saddle line against NumPy's own six optimizers, and escape times against closed forms."""

import claims
import numpy as np
import pytest

pytestmark = pytest.mark.slow

RATES = (0.1, 0.1, 0.1, 0.1, 0.01, 0.01)
FACTORS = (1.2, 1.5, (2.28 + np.sqrt(2.28**2 - 4 * 1.08)) / 2)


@pytest.fixture(scope="module")
def figure():
    return claims.script("fig_23_saddle_line")


@pytest.fixture(scope="module")
def record(figure):
    return claims.record(figure, x64=True, count=61)


@pytest.fixture(scope="module")
def stored(figure):
    """The record that the committed picture and caption were made from."""
    with np.load(claims.SCRIPTS.parent / "figures" / f"{figure.__name__}.npz") as file:
        return dict(file)


def moved(kind, w, steps):
    """Points (steps + 1, 2) of one of the six optimizers, as their papers and optax's defaults have them."""
    w, eta, path = np.array(w, float), RATES[kind], []
    m, v = np.zeros(2), np.full(2, 0.1) if kind == 3 else np.zeros(2)
    for t in range(1, steps + 2):
        path.append(w)
        g = -2 * (1 - w.prod()) * w[::-1]
        if kind == 0:
            step = g
        elif kind in (1, 2):
            m = g + 0.9 * m
            step = m if kind == 1 else g + 0.9 * m
        elif kind == 3:
            v = v + g**2
            step = g / np.sqrt(v + 1e-7)
        elif kind == 4:
            v = 0.9 * v + 0.1 * g**2
            step = g / np.sqrt(v + 1e-8)
        else:
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
            step = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        w = w - eta * step
    return np.array(path)


@pytest.mark.parametrize("kind", range(6))
def test_on_the_line_all_six_go_to_the_saddle_as_plain_loops_do(record, kind):
    path = moved(kind, (0.5, -0.5), 300)
    assert np.all(path.sum(axis=1) == 0) and record["line_most"] == 0
    # RMSProp amplifies what rounding leaves of the gradient, before it falls into its cycle.
    upto = 90 if kind == 4 else 300
    distance = np.hypot(*path.T)
    np.testing.assert_allclose(record["line_distance"][kind, :upto], distance[:upto], rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("kind", range(6))
def test_leaving_takes_the_steps_of_a_plain_loop(record, kind):
    path = moved(kind, (0.5 + np.spacing(0.5), -0.5), 1000)
    left = np.argmax(np.abs(path.sum(axis=1)) >= 1e-3)
    # The first growth is by whole units, which differ with the order of operations: up to ln 2 of it, or 2 units.
    assert record["left"][kind] == pytest.approx(left, rel=0.04)
    np.testing.assert_allclose(record["loss"][kind, -1], 0, atol=1e-2)


@pytest.mark.parametrize("kind", range(6))
def test_theory_is_the_growth_of_a_small_distance(record, kind):
    """From a distance that rounding does not touch, still so small that the way in is that on the line."""
    path = moved(kind, (0.5 + 1e-8, -0.5), 620)
    u, theory = path.sum(axis=1), record["exact_total"][kind, :621] * 1e-8 / np.spacing(0.5)
    after = np.argmax(np.abs(theory) >= 1e-3) or 400
    small = np.argmax(np.abs(u) >= 1e-3) or 400
    assert after == pytest.approx(small, rel=0.03, abs=2)


def test_escape_times_are_ln_1_over_ulp_over_ln_z(record):
    rates = record["swept"]
    beta, plain = 0.9, 1 + 2 * rates
    roots = [[max(np.roots([1, -(beta + a), beta]).real) for a in plain]]
    roots += [[max(np.roots([1, -(1 + beta) * a, beta * a]).real) for a in plain]]
    for row, z in enumerate([plain, *roots]):
        exact = np.array([np.log(2.0**24), np.log(2.0**53)])[:, None] / np.log(z)  # ulp(1/2) = 2^-24 and 2^-53
        np.testing.assert_allclose(record["swept_exact"][row], exact, rtol=1e-12)
    error = np.abs(record["swept_times"] / record["swept_exact"] - 1)
    assert (record["largest"], record["typical"]) == (error.max(), np.median(error))
    assert record["count"] == 42 and record["largest"] < 0.06 and record["typical"] < 0.025
    assert np.all(record["swept_times"] > 0)


@pytest.mark.parametrize("of", ["record", "stored"])
def test_theory_predicts_all_six(of, request):
    record = request.getfixturevalue(of)
    np.testing.assert_allclose(record["left"], record["left_exact"], rtol=0.05)
    for row, z in enumerate(FACTORS):
        exact = np.log(1e-3 / np.spacing(0.5)) / np.log(z)
        assert record["left_exact"][row] == pytest.approx(exact, rel=1e-6)


def test_rmsprop_cycles_about_the_saddle(record):
    assert record["cycle_exact"] == 0.005
    assert record["cycle"] == pytest.approx(0.005, rel=1e-3)  # eps 1e-8 beside squares of 1e-4


@pytest.mark.parametrize("of, count", [("record", 61), ("stored", 601)])
def test_a_diagonal_of_linspace_is_a_mixture(of, count, request):
    record = request.getfixturevalue(of)
    x = np.linspace(-3, 3, count)
    assert record["diagonal"] == count and record["unequal"] == np.sum(x + x[::-1] != 0) > 0
    # Gradient descent at 0.1 stays on the line from |w| < 3, where it is one.
    assert (record["left_diagonal"], record["kept"]) == (record["unequal"], count - record["unequal"])


def test_the_figure_shows_what_was_measured(figure, record):
    line, beside, loss, times = figure.draw(record).axes
    for row in range(6):
        np.testing.assert_array_equal(line.lines[row].get_ydata(), record["line_distance"][row])
        np.testing.assert_array_equal(beside.lines[row].get_ydata(), np.abs(record["total"][row]))
        np.testing.assert_array_equal(loss.lines[row].get_ydata(), record["loss"][row])
        np.testing.assert_array_equal(times.lines[row].get_ydata(), record["swept_times"].reshape(6, -1)[row])
        theory = times.lines[6 + row]
        np.testing.assert_array_equal(theory.get_ydata(), record["swept_exact"].reshape(6, -1)[row])


def test_the_committed_caption_is_that_of_the_stored_record(figure, stored):
    path = claims.SCRIPTS.parent / "figures" / f"{figure.__name__}.json"
    assert claims.page.read_caption(path) == figure.CAPTION.fill(stored)


def test_caption_and_redrawing(figure, record, tmp_path):
    claims.check_figure(figure, record, tmp_path)
