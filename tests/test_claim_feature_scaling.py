"""Figure 14: condition numbers by NumPy, and the number of updates by loops and by exact powers."""

import claims
import numpy as np
import pytest

from landscape import page

FIGURES = claims.SCRIPTS.parent / "figures"
X = np.array([338.0, 333, 328, 207, 226, 25, 179, 60, 208, 606])
Y = np.array([640.0, 633, 619, 393, 428, 27, 193, 66, 226, 1591])
MEAN, DEVIATION = X.mean(), np.sqrt(np.mean((X - X.mean()) ** 2))  # the population's
INPUTS = (X, X - MEAN, X / DEVIATION, (X - MEAN) / DEVIATION)


@pytest.fixture(scope="module")
def figure():
    return claims.script("fig_14_feature_scaling")


@pytest.fixture(scope="module")
def record(figure):
    return claims.record(figure, x64=True, side=31)


@pytest.fixture(scope="module")
def stored(figure):
    """The committed record, which the committed caption quotes."""
    with np.load(FIGURES / f"{figure.__name__}.npz", allow_pickle=False) as file:
        return dict(file)


def design(x):
    return np.stack([np.ones(10), x], axis=1)


def hessian(x):
    return 2 * design(x).T @ design(x) / 10


def least(x):
    return np.linalg.lstsq(design(x), Y)[0]


def loss(point, x):
    return np.mean((Y - design(x) @ point) ** 2)


def test_condition_numbers(record):
    found = [np.linalg.cond(hessian(x)) for x in INPUTS]
    np.testing.assert_allclose(record["kappa"], found, rtol=1e-9)
    assert f"{record['kappa'][0]:.0f}" == "313418" and record["kappa"][3] == pytest.approx(1, abs=1e-14)
    assert record["kappa"][1] == pytest.approx(DEVIATION**2, rel=1e-12)  # diag(1, variance)
    assert record["above_one"] == record["kappa"][3] - 1
    assert record["sample_kappa"] == pytest.approx(10 / 9, rel=1e-12)


def test_learning_rates(record):
    best = [2 / np.trace(hessian(x)) for x in INPUTS]
    np.testing.assert_allclose(record["rates"], best, rtol=1e-12)
    np.testing.assert_allclose(record["sum_rates"], np.array(best) / 10, rtol=1e-12)
    assert record["sum_rates"][0] < 1.14493e-6  # stable for the chapter's sum of squares


def starts():
    """The chapter's start as the same function of x in each input."""
    b, w = -120.0, -4.0
    return [np.array(p) for p in ((b, w), (b + w * MEAN, w), (b, w * DEVIATION), (b + w * MEAN, w * DEVIATION))]


def test_the_start_is_the_same_line(figure, record):
    for i, (x, start, scaling) in enumerate(zip(INPUTS, starts(), figure.scalings(X), strict=True)):
        np.testing.assert_allclose(design(x) @ start, -120 - 4 * X, rtol=1e-12)
        canyon = figure.ls.problems.surfaces.canyon()
        np.testing.assert_allclose(figure.moved(canyon.reference, *scaling), start, rtol=1e-12)
        np.testing.assert_allclose(record["paths"][i, 0], start, rtol=1e-12)


def loop(x, start, learning_rate, target):
    """Updates of gradient descent until the loss is at the target."""
    point, count, matrix, slope = start, 0, hessian(x), 2 * design(x).T @ Y / 10
    while loss(point, x) > target:
        point, count = point - learning_rate * (matrix @ point - slope), count + 1
    return count


@pytest.mark.parametrize("which", [2, 3])
def test_updates_needed_by_a_loop(record, which):
    x, start = INPUTS[which], starts()[which]
    lowest = loss(least(x), x)
    target = lowest + (loss(start, x) - lowest) / 1e6
    assert loop(x, start, record["rates"][which], target) == record["needed"][which]


@pytest.mark.parametrize("which", range(4))
def test_updates_needed_by_powers(record, which):
    """The excess after t updates, away^T H (1 - eta H)^2t away / 2, is above the target before and below it after."""
    x = INPUTS[which]
    values, vectors = np.linalg.eigh(hessian(x))
    away = vectors.T @ (starts()[which] - least(x))

    def excess(t):
        return np.sum(values * (away * (1 - record["rates"][which] * values) ** t) ** 2)

    needed = int(record["needed"][which])
    slack = 1e-6  # relative: rounding over a million updates, and one update of the slowest changes it by 1.3e-5
    assert excess(needed) <= excess(0) / 1e6 * (1 + slack)
    assert excess(needed - 1) > excess(0) / 1e6 * (1 - slack)
    assert record["needed"][which] == record["predicted"][which]


def test_one_update_is_enough_where_the_bowl_is_round(record):
    np.testing.assert_allclose(record["paths"][3, 1], least(INPUTS[3]), rtol=1e-12)
    assert record["needed"][3] == 1


def test_the_prediction(figure):
    assert figure.predicted(0.0, 1e6) == 1 and figure.predicted(1e-4, 1e6) == 1
    assert figure.predicted(0.1, 1e6) == 3 + (np.log(1e6) / (-2 * np.log(0.1)) > 3)  # 0.1^(2t) reaches 1e-6 at t = 3
    assert figure.predicted(0.99, 1e4) == np.argmax(0.99 ** (2.0 * np.arange(2000)) <= 1e-4)


def test_the_excess_follows_the_powers(record):
    """(κ-1)/(κ+1) to the power 2t, whatever the start; the loss above its least is a difference, so to 1e-9 of it."""
    for excess, factor in zip(record["excess"], record["factors"], strict=True):
        np.testing.assert_allclose(excess, factor ** (2.0 * record["watched"]), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("which", range(4))
def test_both_parts_shrink_alike(record, which):
    """Along either eigenvector by (κ-1)/(κ+1) an update, one of them with its sign turned."""
    x, factor = INPUTS[which], record["factors"][which]
    _, vectors = np.linalg.eigh(hessian(x))
    parts = (record["paths"][which, :13] - least(x)) @ vectors
    size = np.abs(parts[0]).max()
    np.testing.assert_allclose(np.abs(parts[1:]), factor * np.abs(parts[:-1]), rtol=1e-8, atol=1e-9 * size)
    if which < 3:
        assert np.all(np.prod(parts[1:] * parts[:-1], axis=1) < 0)  # one turns its sign, one does not


def test_the_stored_numbers_are_these(record, stored):
    for name in ("kappa", "rates", "sum_rates", "sample_kappa", "needed", "predicted", "reduction"):
        np.testing.assert_allclose(stored[name], record[name], rtol=1e-9)
    assert abs(stored["above_one"]) < 1e-14 and stored["above_one"] == stored["kappa"][3] - 1


def test_the_figure_shows_what_was_measured(figure, record):
    before, after, excess, needed = [ax for ax in figure.draw(record).axes if ax.get_title()]
    np.testing.assert_array_equal(before.lines[0].get_xydata(), record["paths"][0, :13])
    np.testing.assert_array_equal(after.lines[0].get_xydata(), record["paths"][3, :2])
    assert "1082509" in before.get_title()
    shown = [line.get_ydata() for line in excess.lines[:8:2]]
    np.testing.assert_array_equal(shown, np.maximum(record["excess"][:, 1:], 1e-17))
    points = [line.get_xydata()[0] for line in needed.lines[:4]]
    np.testing.assert_array_equal(points, np.stack([record["kappa"], record["needed"]], axis=1))


def test_caption_and_redrawing(figure, record, tmp_path):
    caption = claims.check_figure(figure, record, tmp_path)
    for number in ("313418", "24340", "19.00", "1082509"):
        assert number in caption.measured.en and number in caption.measured.zh


def test_the_committed_caption_is_that_of_the_committed_record(figure, stored):
    assert page.read_caption(FIGURES / f"{figure.__name__}.json") == figure.CAPTION.fill(stored)
