"""Figure 27: orbits and exponents of gradient descent above η = 1/2 against the map of the line, in one dimension."""

import claims
import numpy as np
import pytest
import sympy

pytestmark = pytest.mark.slow  # the figure's record, though small, takes too long

GOLDEN = (np.sqrt(5) - 1) / 2


@pytest.fixture(scope="module")
def figure():
    return claims.script("fig_27_bifurcation")


@pytest.fixture(scope="module")
def record(figure):
    return claims.record(figure, x64=True, count=121, steps=2500)


@pytest.fixture(scope="module")
def stored(figure):
    """The record that the committed picture and caption were made from."""
    with np.load(claims.SCRIPTS.parent / "figures" / f"{figure.__name__}.npz") as file:
        return dict(file)


def line(rates, steps, skipped, u=0.3):
    """u (steps - skipped, rates) of u' = u + 2ηu (1 - u²) after the first steps."""
    u, path = np.full(rates.shape, u), []
    for t in range(steps):
        u = u + 2 * rates * u * (1 - u**2)
        if t >= skipped:
            path.append(u)
    return np.array(path)


def test_orbits_are_those_of_the_map(record):
    """Where they are periodic: chaotic orbits of two programs part after 40 steps."""
    rates = record["rates"]
    calm = (rates < 0.64) & (np.abs(rates - 0.5) > 0.004) & (np.abs(rates - GOLDEN) > 0.004)
    path = line(rates[calm], 2564, 2500)
    # float16 has 11 bits. The phase is the same, for the starts and the numbers of steps are.
    np.testing.assert_allclose(record["u"][0, calm].astype(float), path.T, atol=1e-3)
    np.testing.assert_array_equal(record["u"][1, calm], -record["u"][0, calm])
    assert record["u"].shape == (2, 121, 64)


def test_the_two_cycle_and_its_multipliers(figure):
    h = sympy.symbols("h", positive=True)
    total, difference = sympy.sqrt(1 + sympy.Rational(3, 2) / h), sympy.sqrt(1 - 1 / (2 * h))
    u, v = (total + difference) / 2, (total - difference) / 2
    for rate in (0.52, 0.58, 0.61):
        assert float((u + 2 * h * u * (1 - u**2) - v).subs(h, rate)) == pytest.approx(0, abs=1e-12)
        assert figure.two_cycle(rate) == pytest.approx([float(x.subs(h, rate)) for x in (u, v)], rel=1e-12)
    along = sympy.prod([1 + 2 * h - 6 * h * x**2 for x in (u, v)])
    across = sympy.prod([1 - 2 * h * (1 - x**2) for x in (u, v)])
    assert sympy.simplify(along - (7 - 8 * h - 8 * h**2)) == 0 == sympy.simplify(across - (3 - 4 * h))
    for rate in (0.52, 0.58, 0.61):
        largest = max(abs(float(m.subs(h, rate))) for m in (along, across))
        assert figure.exact_exponent(np.float64(rate)) == pytest.approx(np.log(largest) / 2, rel=1e-12)
    assert figure.exact_exponent(np.float64(0.45)) == 0  # the valley


@pytest.mark.parametrize("of", ["record", "stored"])
def test_exponents_follow_theory(of, request):
    record = request.getfixturevalue(of)
    assert record["exponent_error"] < 2e-3 and record["cycle_error"] < 1e-6
    assert record["rates"][-1] == 1 and record["exact_top"] == pytest.approx(np.log(3))
    assert abs(record["top"] - np.log(3)) < 4 * record["top_error"] < 0.05


def test_exponents_are_mean_logarithms_of_slopes(record):
    """In one dimension, where chaos makes the exponent along the line the larger one: E ln|1 + 2η - 6ηu²|."""
    rates = record["rates"]
    chosen = np.flatnonzero((record["exponent"] > 0.3) & (rates > 0.7) & (rates < 0.99))[::4]
    u = line(rates[chosen], 22_000, 2000)
    slopes = np.log(np.abs(1 + 2 * rates[chosen] - 6 * rates[chosen] * u**2))
    blocks = slopes.reshape(200, 100, -1).mean(axis=1)
    error = np.hypot(blocks.std(axis=0) / np.sqrt(200), record["error"][chosen])
    assert np.all(np.abs(record["exponent"][chosen] - slopes.mean(axis=0)) < 4.5 * error) and chosen.size > 5


def test_thresholds_lie_between_the_periods_found(stored):
    assert stored["thresholds"] == pytest.approx([0.5, 0.618034, 0.644016, 0.649614], abs=1e-6)
    step = stored["resolution"]
    assert stored["first"][0] == pytest.approx(0.5, abs=2 * step)
    for i, threshold in enumerate(stored["thresholds"][1:3]):
        assert stored["last"][i] < threshold < stored["first"][i + 1] < stored["last"][i] + 2.5 * step
    assert stored["last"][2] < stored["thresholds"][3] < stored["last"][2] + 1.5 * step
    assert stored["merging"] < stored["merged"] < stored["merging"] + 1.5 * step
    exponent, rates = stored["exponent"], stored["rates"]
    assert np.all(exponent[rates < stored["onset"] - step] < 0.01)  # no chaos before its onset


def test_branches_merge_where_the_image_of_the_top_returns_to_0():
    """The map's maximum above 0 falls, in two steps, on the unstable 0: f(f(u*)) = 0, u* = √((1 + 2η)/(6η))."""
    top = lambda h: line(np.array([h]), 2, 1, np.sqrt((1 + 2 * h) / (6 * h)))[-1, 0]  # noqa: E731
    assert top(0.799037) > 0 > top(0.799040)


def test_the_figure_shows_what_was_measured(figure, record):
    diagram, exponent, _ = figure.draw(record).axes
    shown = [drawn for drawn in diagram.lines if len(drawn.get_xdata()) == 121 * 64]
    for drawn, row in zip(shown, (1, 0), strict=True):
        np.testing.assert_array_equal(drawn.get_ydata(), record["u"][row].astype(float).ravel())
    np.testing.assert_array_equal(exponent.lines[0].get_xydata(), np.c_[record["rates"], record["exponent"]])


def test_the_committed_caption_is_that_of_the_stored_record(figure, stored):
    path = claims.SCRIPTS.parent / "figures" / f"{figure.__name__}.json"
    assert claims.page.read_caption(path) == figure.CAPTION.fill(stored)


def test_caption_and_redrawing(figure, record, tmp_path):
    claims.check_figure(figure, record, tmp_path)
