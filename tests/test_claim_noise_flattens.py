"""Figure 25: the drift along the valley against plain loops, its theory against a simulated linear process."""

import claims
import numpy as np
import pytest

pytestmark = pytest.mark.slow  # the figure's record, though small, takes too long

ETA, S2 = 0.1, 0.01  # learning rate, squared noise


@pytest.fixture(scope="module")
def figure():
    return claims.script("fig_25_noise_flattens")


@pytest.fixture(scope="module")
def record(figure):
    return claims.record(figure, x64=True, runs=64, steps=800, points=9)


@pytest.fixture(scope="module")
def stored(figure):
    """The record that the committed picture and caption were made from."""
    with np.load(claims.SCRIPTS.parent / "figures" / f"{figure.__name__}.npz") as file:
        return dict(file)


def descended(y, w1=2.5, w2=0.4):
    """Points of runs on batches with these mean targets (runs, steps) at x = 1."""
    path = [np.full((2, len(y)), [[w1], [w2]])]
    for target in y.T:
        w1, w2 = path[-1]
        q = target - w1 * w2
        path.append(np.stack([w1 + 2 * ETA * q * w2, w2 + 2 * ETA * q * w1]))
    return np.stack(path)


def test_independent_draws_are_those_of_a_plain_loop(figure, record):
    y = np.random.default_rng(2).choice(figure.targets(), (64, 800, 2)).mean(axis=2)
    w1, w2 = descended(y)[record["watched"]].transpose(1, 0, 2)
    level = np.log(np.abs(w1**2 - w2**2)).mean(axis=1)
    np.testing.assert_allclose(record["curves"][5, 0], level, rtol=1e-9)
    np.testing.assert_allclose(record["final"][5, 0], np.mean(2 * (w1[-1] ** 2 + w2[-1] ** 2)), rtol=1e-9)


def test_each_step_multiplies_d_by_1_minus_4_eta2_q2(figure):
    y = np.random.default_rng(0).choice(figure.targets(), (3, 50))
    w1, w2 = descended(y).transpose(1, 0, 2)
    d, q = w1**2 - w2**2, y.T - (w1 * w2)[:-1]
    np.testing.assert_allclose(d[1:], d[:-1] * (1 - 4 * ETA**2 * q**2), rtol=1e-12)


def test_two_samples_one_at_a_time_are_the_published_formula(figure, monkeypatch):
    monkeypatch.setattr(figure, "SAMPLES", 2)
    for b in (0.3, 0.9, 1.28):
        a = 1 - b
        v = b**4 / (1 - a**4)
        square = b / (2 * ETA)
        assert figure.shuffled_square(square, 1) == pytest.approx(
            S2 / 2 * (v * (1 + a**2) + 1 + (1 + b) ** 2), rel=1e-12
        )
        assert figure.drawn_square(square, 1) == pytest.approx(S2 / (1 - b / 2), rel=1e-12)  # b/2 = ηS


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_theory_is_what_the_linear_process_does(figure, batch):
    """q = r + ξ, r → (1 - b) r - b ξ, simulated with shuffled and with independent noise."""
    rng, b, epochs, count = np.random.default_rng(batch), 1.2, 40, 4000
    noise = figure.targets() - 1
    shuffled = rng.permuted(np.tile(noise, (count * epochs, 1)), axis=1).reshape(count, -1, batch).mean(axis=2)
    drawn = rng.choice(noise, (count, epochs * 8 // batch, batch)).mean(axis=2)
    square = b / (2 * ETA)
    cases = (shuffled, figure.shuffled_square(square, batch)), (drawn, figure.drawn_square(square, batch))
    for values, exact in cases:
        r, squares = np.zeros(count), []
        for xi in values.T:
            squares.append((r + xi) ** 2)
            r = (1 - b) * r - b * xi
        late = np.array(squares)[80 // batch :].mean(axis=0)
        assert late.mean() == pytest.approx(exact, abs=4 * late.std() / np.sqrt(count))


def test_theory_curves_are_sums_of_slopes(figure, record):
    """The ODE of the continuous limit, by a finer rule: midpoints of 1 step."""
    for row, square in ((0, figure.shuffled_square), (4, figure.drawn_square)):
        level = np.log(2.5**2 - 0.4**2)
        slope = lambda x, f=square: 4 * ETA**2 * f(np.sqrt(np.exp(2 * x) + 4), 1)  # noqa: E731
        for _ in range(800):
            level -= slope(level - slope(level) / 2)
        assert record["exact"][row, -1] == pytest.approx(level, abs=0.01)


@pytest.mark.parametrize("of", ["record", "stored"])
def test_measured_speeds_are_those_of_theory(of, request):
    record = request.getfixturevalue(of)
    middle, low, high = np.moveaxis(record["ratio"], -1, 0)
    # Beyond the interval: 3 s² for what is left out, of higher order in s.
    assert np.all(np.abs(middle - 1) < (high - low) + 3 * S2)
    assert np.all(high - low < (0.2 if of == "record" else 0.03))
    assert record["full_change"] == 0


def test_the_smaller_the_batch_the_flatter(stored):
    final = stored["final"]
    assert stored["sharpness"] == pytest.approx(2 * (2.5**2 + 0.4**2))
    for rows in ((0, 1, 2, 3), (4, 5, 6)):
        for small, large in zip(rows, rows[1:], strict=False):
            assert final[small, 2] < final[large, 1]
    assert np.all(final[:, 0] > 4 - 0.05)
    np.testing.assert_allclose(final[3], stored["sharpness"], rtol=1e-12)
    # The whole curves stay beside theory: a few per cent of the way down from 1.8.
    np.testing.assert_allclose(stored["curves"][:, 0], stored["exact"], atol=0.02)


def test_the_figure_shows_what_was_measured(figure, record):
    shuffled, drawn, speed = figure.draw(record).axes
    for ax, rows in ((shuffled, range(4)), (drawn, range(4, 7))):
        for line, row in zip(ax.lines[::2], rows, strict=True):
            np.testing.assert_array_equal(line.get_ydata(), record["curves"][row, 0])
        for line, row in zip(ax.lines[1::2], rows, strict=True):
            np.testing.assert_array_equal(line.get_ydata(), record["exact"][row])
    for container, ratio in zip(speed.containers, record["ratio"], strict=True):
        np.testing.assert_array_equal(container[0].get_ydata(), ratio[:, 0])


def test_the_committed_caption_is_that_of_the_stored_record(figure, stored):
    path = claims.SCRIPTS.parent / "figures" / f"{figure.__name__}.json"
    assert claims.page.read_caption(path) == figure.CAPTION.fill(stored)


def test_caption_and_redrawing(figure, record, tmp_path):
    claims.check_figure(figure, record, tmp_path)
