"""Figure 24: the canyon's linear dynamics against plain loops, and the thresholds against enumeration."""

import claims
import numpy as np
import pytest

pytestmark = pytest.mark.slow  # the figure's record, though small, takes too long

A, RIDGE = 36.0, 1 / 7  # √1 / (√36 + √1)


@pytest.fixture(scope="module")
def figure():
    return claims.script("fig_24_canyon_and_basin")


@pytest.fixture(scope="module")
def record(figure):
    return claims.record(figure, x64=True, count=9, runs=64, steps=120)


@pytest.fixture(scope="module")
def stored(figure):
    """The record that the committed picture and caption were made from."""
    with np.load(claims.SCRIPTS.parent / "figures" / f"{figure.__name__}.npz") as file:
        return dict(file)


def walked(k, rate, w=RIDGE / 10):
    """Ends of runs with these batch means (runs, steps): written out, without a gradient."""
    w = np.full(len(k), w)
    for column in k.T:
        w = np.where(w < RIDGE, w * (1 - rate * A * column), w - rate * column * (w - 1))
    return w


def test_the_loss_is_continuous_with_minima_of_both_curvatures(figure, record):
    k = record["k"]
    assert k.mean() == pytest.approx(1, rel=1e-12) and k.size == 64
    loss = lambda w: float(figure.loss(np.float64(w), k))  # noqa: E731
    assert loss(RIDGE - 1e-12) == pytest.approx(loss(RIDGE + 1e-12), rel=1e-4)  # float32 here
    for place, curvature in ((0.0, 36.0), (1.0, 1.0)):
        assert loss(place) == 0
        assert loss(place + 0.05) == pytest.approx(curvature / 2 * 0.05**2, rel=1e-4)
    assert record["ridge"] == pytest.approx(RIDGE, rel=1e-12)


@pytest.mark.parametrize("batch", [1, 16])
def test_independent_draws_end_where_plain_loops_do(figure, record, batch):
    k = np.random.default_rng(0).choice(record["k"], (64, 120, batch)).mean(axis=2)
    row = record["batches"].tolist().index(batch)
    for column, rate in enumerate(record["rates"]):
        assert record["share"][row, column, 0] == np.mean(walked(k, rate) > RIDGE)
    assert record["typical_at"][row, 0] == np.mean(walked(k, record["typical"][row]) > RIDGE)


def test_reshuffled_epochs_at_one_sample_a_step_multiply_by_one_number(figure, record):
    """Where nothing leaves, w after whole epochs is the start times Π (1 - η a k_i) per epoch."""
    rates = record["rates"][:2]
    with figure.jax.enable_x64(True):
        ends = figure.reshuffled(rates, 1, 4, 128)
    product = np.prod(1 - rates[:, None] * A * record["k"], axis=1) ** 2
    np.testing.assert_allclose(ends, np.tile((RIDGE / 10 * product)[:, None], 4), rtol=1e-8)


def test_linear_stability_is_where_the_mean_square_stops_falling(record):
    for batch, rate in zip(record["batches"], record["linear"], strict=True):
        m, v = record["k"].mean(), record["k"].var() / batch
        square = lambda x, m=m, v=v: (1 - x * A * m) ** 2 + (x * A) ** 2 * v  # E (1 - η a k_B)²  # noqa: E731
        assert square(rate) == pytest.approx(1, rel=1e-12) and square(0.99 * rate) < 1 < square(1.01 * rate)


def test_typical_threshold_and_bound_are_those_of_all_batches(figure, record):
    k = record["k"]
    pairs = ((k[:, None] + k) / 2).ravel()  # all batches of two
    for row, means, loose in ((0, k, 1e-9), (1, pairs, 0.01)):
        assert np.mean(np.log(np.abs(1 - record["typical"][row] * A * means))) == pytest.approx(0, abs=loose)
    for rate in (1.2 / A, 1.8 / A):
        theta = np.log(figure.bound(rate, 1)) / np.log(0.1)
        assert np.mean(np.abs(1 - rate * A * k) ** theta) == pytest.approx(1, rel=1e-9)
    assert figure.bound(record["linear"][0], 1) == pytest.approx(0.01, rel=1e-6)  # θ = 2 and a tenth of the way
    assert figure.bound(1.01 * record["typical"][0], 1) == 1


@pytest.mark.parametrize("of", ["record", "stored"])
def test_theory_holds_for_what_was_measured(of, request):
    record = request.getfixturevalue(of)
    assert record["broken"] == 0 and record["full_wrong"] == 0
    np.testing.assert_array_equal(record["full_left"], record["rates"] > 2 / A)
    below = record["rates"] < 0.9 * record["linear"][:, None]
    assert np.all(record["share"][below][:, 1] < 0.01)  # the bound at the threshold
    assert np.all(record["at"][:, 1] <= 0.01)
    beyond = record["rates"] > 1.3 * record["typical"][:, None]
    assert np.all(record["share"][beyond][:, 2] > 0.99)


def test_small_batches_leave_earlier_and_the_typical_run_later(stored):
    between = (stored["rates"] > 0.035) & (stored["rates"] < 0.05)
    one, four, sixteen = (stored["share"][stored["batches"].tolist().index(b)][between] for b in (1, 4, 16))
    assert np.all(one[:, 1] > four[:, 2]) and np.all(four[-1, 0] > sixteen[-1, 0])
    assert np.all(np.diff(stored["linear"]) > 0) and np.all(stored["linear"] < stored["full"])
    assert np.all(stored["typical"] > stored["full"])
    assert stored["latest_rate"] == stored["typical"].max()


def test_intervals_are_wilsons(record):
    share, low, high = np.moveaxis(record["share"], -1, 0)
    z, n = 1.959964, 64
    for edge in (low, high):  # the shares whose own standard error reaches the observed one
        np.testing.assert_allclose((share - edge) ** 2, z**2 * edge * (1 - edge) / n, atol=1e-8)


def test_the_figure_shows_what_was_measured(figure, record):
    _, shares, table, epochs = [ax for ax in figure.draw(record).axes if ax.get_title()]
    lines = {line.get_label(): line for line in shares.lines}
    for row, batch in ((0, 1), (2, 4), (4, 16)):
        np.testing.assert_array_equal(lines[f"B = {batch}, 95 % interval"].get_ydata(), record["share"][row, :, 0])
    np.testing.assert_array_equal(table.collections[0].get_array(), record["share"][..., 0])
    np.testing.assert_array_equal(table.lines[0].get_xdata(), record["linear"])
    np.testing.assert_array_equal(epochs.lines[1].get_ydata(), record["epochs"][0, :, 0])


def test_the_committed_caption_is_that_of_the_stored_record(figure, stored):
    path = claims.SCRIPTS.parent / "figures" / f"{figure.__name__}.json"
    assert claims.page.read_caption(path) == figure.CAPTION.fill(stored)


def test_caption_and_redrawing(figure, record, tmp_path):
    claims.check_figure(figure, record, tmp_path)
