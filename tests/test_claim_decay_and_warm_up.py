"""Figure 13 at reduced size: the two Adagrads, and Adam's schedule, against loops in NumPy float64."""

import claims
import jax
import numpy as np
import oracles
import pytest

STEPS, SEEDS, SAMPLES, UPDATES, ARRIVALS = 20_000, 5, 64, 80, 3


@pytest.fixture(scope="module")
def figure():
    pytest.importorskip("sklearn")
    module = claims.script("fig_13_decay_and_warm_up")
    module.LEARNING_RATES = (0.05, 0.3)  # one that needs no warm-up, one that does
    module.WARM_UPS = (1.0, 20.0)
    module.STYLES = module.STYLES[:2]
    module.SHOWN = 1
    return module


@pytest.fixture(scope="module")
def record(figure):
    return claims.record(figure, x64=True, steps=STEPS, seeds=SEEDS, samples=SAMPLES, updates=UPDATES, count=ARRIVALS)


@pytest.fixture(scope="module")
def canyon(figure):
    return figure.ls.problems.surfaces.canyon()


def gradient(point, x, y):
    residual = y - point[0] - point[1] * x
    return -2 * np.array([residual.sum(), (residual * x).sum()])


def adam_loop(start, x, y, steps, warm_up):
    """(steps + 1, 2): Adam at eta = 1 min((t + 1)/warm_up, 1) in the canyon."""
    point, first, second, path = np.array(start), 0.0, 0.0, [np.array(start)]
    for t in range(1, steps + 1):
        g = gradient(point, x, y)
        first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g**2
        rate = min(t / warm_up, 1.0)
        point = point - rate * first / (1 - 0.9**t) / (np.sqrt(second / (1 - 0.999**t)) + 1e-8)
        path.append(point)
    return np.array(path)


def test_decay_makes_it_duchis_to_rounding(record):
    """In every precision a few roundings of (b, w): w crosses 0, and there its relative error is largest."""
    assert record["relative"][0] < 16 * np.finfo(np.float64).eps
    assert record["relative"][1] < 16 * np.finfo(np.float32).eps
    assert np.all(record["ulp"] <= 32) and np.all(record["ulp"] >= 1)  # they are two computations
    assert record["difference"].shape == (2, record["watched"].size)
    np.testing.assert_array_less(record["difference"].max(axis=1), record["relative"] * (1 + 1e-12) + 1e-300)


def test_both_are_the_loop_of_duchis_formula(figure, canyon):
    x, y = (np.asarray(values) for values in canyon.data.coefficients)
    point, total, path = np.array([-120.0, -4.0]), 0.0, [np.array([-120.0, -4.0])]
    for _ in range(300):
        g = gradient(point, x, y)
        total = total + g**2
        point = point - g / np.sqrt(total)
        path.append(point)
    with jax.enable_x64(True):
        for factory in (figure.decayed, figure.duchi):
            found = figure.paths(canyon, np.array([[-120.0, -4.0]]), factory, 300)[0]
            np.testing.assert_allclose(found, path, rtol=1e-11)


def test_the_difference_sees_another_power(figure, canyon):
    """A control: with (t+1)^0.499 for the root the identity is gone."""
    other = lambda learning_rate: figure.ls.optimizers.rms(lambda t: learning_rate / (t + 1.0) ** 0.499)  # noqa: E731
    with jax.enable_x64(True):
        start = np.array([[-120.0, -4.0]])
        one, two = (figure.paths(canyon, start, factory, 100)[0] for factory in (other, figure.duchi))
    assert np.max(np.abs(one - two) / np.abs(two)) > 1e-6


def test_bursts_with_and_without_decay(record):
    assert 10 <= record["bursts"][0] <= 25 and record["bursts"][1:].tolist() == [0, 0]  # figure 12 counts them all
    np.testing.assert_allclose(record["distance"][1], record["distance"][2], rtol=1e-9)
    assert record["distance"][0, -4:].max() > 1 > 10 * record["distance"][1, -4:].max()


@pytest.mark.parametrize("warm_up", [1.0, 100.0])
def test_adam_with_warm_up_is_the_loop(figure, canyon, warm_up):
    x, y = (np.asarray(values) for values in canyon.data.coefficients)
    factory = figure.warmed if warm_up == figure.LONG else figure.optax.adam
    with jax.enable_x64(True):
        found = figure.paths(canyon, np.array([[-150.0, 3.0]]), factory, 200)[0]
    np.testing.assert_allclose(found, adam_loop((-150.0, 3.0), x, y, 200, warm_up), rtol=1e-9)


def test_arrivals_are_counted_right(figure, record, canyon):
    x, y = (np.asarray(values) for values in canyon.data.coefficients)
    low, high = (np.array(corner) for corner in canyon.box)
    w, b = np.polyfit(x, y, 1)
    least = np.sum((y - b - w * x) ** 2)
    first = np.empty((2, ARRIVALS))
    for i, warm_up in enumerate((1.0, 100.0)):
        for j, start in enumerate(np.random.default_rng(0).uniform(low, high, (ARRIVALS, 2))):
            path = adam_loop(start, x, y, 3000, warm_up)
            first[i, j] = np.argmax(np.sum((y - path[:, :1] - path[:, 1:] * x) ** 2, axis=1) < 1.001 * least)
    np.testing.assert_allclose(record["arrive"], first.mean(axis=1), atol=1)  # an update more or less by rounding
    delay = first[1] - first[0]
    assert record["delay"] == pytest.approx(delay.mean(), abs=1)
    assert record["delay_error"] == pytest.approx(delay.std(ddof=1) / np.sqrt(ARRIVALS), abs=1)


def test_the_first_update_moves_every_weight_by_the_learning_rate(figure, record):
    """NumPy's loss of the net after -eta sign(gradient), or a twentieth of it with warm-up."""
    digits = figure.ls.problems.datasets.digits()
    data = figure.Dataset(digits.x[:SAMPLES], digits.y[:SAMPLES])
    net = figure.ls.problems.networks.mlp((64, 16, 16, 10), "relu", data=data)
    slopes = jax.jit(jax.grad(net.at))
    for seed in (0, SEEDS - 1):
        params = net.init(jax.random.fold_in(jax.random.key(1), seed), net.data)
        slope = slopes(params)
        for i, warm_up in enumerate((1, 20)):
            # eps = 1e-8 of Adam shortens the step of the smallest gradients: written out.
            size = 0.3 / warm_up
            moved = jax.tree.map(lambda p, g: p - size * g / (np.abs(g) + 1e-8), params, slope)  # noqa: B023
            *hidden, last = moved
            x = np.asarray(data.x, np.float64)
            for layer in hidden:
                x = np.maximum(x @ layer["weight"] + layer["bias"], 0)
            expected = oracles.cross_entropy(x @ last["weight"] + last["bias"], data.y)
            assert record["loss"][i, seed, 1] == pytest.approx(expected, rel=1e-4)
    assert record["training"][:2].tolist() == [0, 1]


def test_warm_up_helps_where_the_learning_rate_is_large(record):
    assert record["fitted"][1] > record["fitted"][0] and record["low"][1] > 0
    assert record["first"][1] > 1.5 * record["first"][0]  # without warm-up the first update makes it worse
    np.testing.assert_array_equal(record["shares"][0, 1], record["fitted"] / SEEDS)
    fitted = np.sum(record["loss"][..., -1] < record["target"], axis=1)
    np.testing.assert_array_equal(record["fitted"], fitted)


def test_the_figure_shows_what_was_measured(figure, record):
    identity, cure, loss, share = [ax for ax in figure.draw(record).axes if ax.get_title()]
    for line, values in zip(identity.lines[::2], record["difference"], strict=True):
        np.testing.assert_array_equal(line.get_ydata()[values > 0], values[values > 0])
    for line, distance in zip(cure.lines, record["distance"], strict=True):
        np.testing.assert_array_equal(line.get_ydata(), distance)
    for line, runs in zip(loss.lines, record["loss"], strict=False):
        np.testing.assert_allclose(line.get_ydata(), np.median(runs, axis=0), rtol=1e-6)
    for bars, values in zip(share.containers, record["shares"][0].T, strict=True):
        np.testing.assert_array_equal(bars[0].get_ydata(), values)


def test_caption_and_redrawing(figure, record, tmp_path):
    caption = claims.check_figure(figure, record, tmp_path)
    assert f"{record['relative'][0]:.1e}" in caption.measured.en
