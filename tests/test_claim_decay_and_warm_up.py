"""Figure 13 at reduced size: the two Adagrads, and Adam's schedule, against loops in NumPy float64."""

import claims
import jax
import numpy as np
import oracles
import pytest
from scipy.stats import binomtest

from landscape import page

pytestmark = pytest.mark.slow

FIGURES = claims.SCRIPTS.parent / "figures"
STEPS, SEEDS, SAMPLES, UPDATES, ARRIVALS = 20_000, 5, 64, 80, 3


@pytest.fixture(scope="module")
def figure():
    pytest.importorskip("sklearn")
    module = claims.script("fig_13_decay_and_warm_up")
    module.LEARNING_RATES = (0.03, 0.05, 0.1, 0.3, 0.6)  # some need no warm-up, some do
    module.WARM_UPS = (1.0, 20.0, 40.0)
    return module


@pytest.fixture(scope="module")
def record(figure):
    return claims.record(figure, x64=True, steps=STEPS, seeds=SEEDS, samples=SAMPLES, updates=UPDATES, count=ARRIVALS)


@pytest.fixture(scope="module")
def stored(figure):
    """The committed record, which the committed caption quotes."""
    with np.load(FIGURES / f"{figure.__name__}.npz", allow_pickle=False) as file:
        return dict(file)


@pytest.fixture(scope="module")
def canyon(figure):
    return figure.ls.problems.surfaces.canyon()


def gradient(point, x, y):
    """(2, ...) of lines (2, ...)."""
    residual = np.stack([v - point[0] - point[1] * u for u, v in zip(x, y, strict=True)])
    return -2 * np.stack([residual.sum(axis=0), np.tensordot(x, residual, 1)])


def adam_loop(start, x, y, steps, warm_up):
    """(steps + 1, 2, ...): Adam at eta = 1 min((t + 1)/warm_up, 1) in the canyon."""
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


def test_when_the_difference_ends(figure, record, stored, canyon):
    """`last`, by comparing the runs' own numbers; which update it is depends on rounding, that it ends does not."""
    start = np.array([[-120.0, -4.0]])
    with jax.enable_x64(True):
        for i, dtype in enumerate((np.float64, np.float32)):
            one, two = (figure.paths(canyon, start.astype(dtype), f, STEPS)[0] for f in (figure.decayed, figure.duchi))
            assert one.dtype == dtype
            unequal = [t for t in range(STEPS + 1) if tuple(one[t]) != tuple(two[t])]
            assert record["last"][i] == unequal[-1] < 10_000
            places = [path.view(f"i{path.itemsize}").astype(np.int64) for path in (one, two)]  # of the floats, in order
            assert record["ulp"][i] == np.abs(places[0] - places[1]).max()
    for found in (record, stored):
        ulp = found["relative"] / [np.finfo(dtype).eps for dtype in (np.float64, np.float32)]
        assert np.all((ulp <= found["ulp"]) & (found["ulp"] <= 2 * ulp) & (found["ulp"] % 1 == 0))  # eps/2 to eps of it
        # The largest comes while w crosses 0, in the first dozen updates, which are all watched.
        np.testing.assert_allclose(found["difference"].max(axis=1), found["relative"], rtol=1e-12)
        for last, difference in zip(found["last"], found["difference"], strict=True):
            assert difference[found["watched"] == last] > 0 and {last, last + 1} <= set(found["watched"].tolist())
            assert not np.any(difference[found["watched"] > last])
            assert difference.max() < 16 * np.finfo(np.float32).eps
    assert stored["steps"] == stored["watched"][-1] == 100_000 and stored["bursts"][1:].tolist() == [0, 0]
    with np.load(FIGURES / "fig_12_adagrad_bursts.npz") as other:  # the same run, counted by the other script
        assert stored["bursts"][0] == other["bursts"][0]


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


def test_arrivals_are_counted_right(record, stored, canyon):
    """All 32 of the figure: each within an update of the loop's, and the means and errors those of the counts."""
    x, y = (np.asarray(values) for values in canyon.data.coefficients)
    low, high = (np.array(corner) for corner in canyon.box)
    w, b = np.polyfit(x, y, 1)
    least = np.sum((y - b - w * x) ** 2)
    starts = np.random.default_rng(0).uniform(low, high, (32, 2))
    first = []
    for warm_up in (1.0, 100.0):
        path = adam_loop(starts.T, x, y, 3000, warm_up)  # (updates, b and w, starts)
        loss = sum((v - path[:, 0] - path[:, 1] * u) ** 2 for u, v in zip(x, y, strict=True))
        first.append(np.argmax(loss < 1.001 * least, axis=0))
    for found in (record, stored):
        count = int(found["arrivals"])
        np.testing.assert_allclose(found["arrived"], np.array(first)[:, :count], atol=1)  # more or less by rounding
        assert found["long"] == 100
        one, two = found["arrived"]
        for sample, mean, error in (
            (one, found["arrive"][0], found["arrive_error"][0]),
            (two, found["arrive"][1], found["arrive_error"][1]),
            (two - one, found["delay"], found["delay_error"]),
        ):
            assert mean == pytest.approx(sum(sample) / count, rel=1e-12)
            spread = sum((sample - mean) ** 2) / (count - 1)
            assert error == pytest.approx((spread / count) ** 0.5, rel=1e-12)


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
    np.testing.assert_array_equal(record["shares"][0, 3], record["fitted"] / SEEDS)
    fitted = np.sum(record["loss"][..., -1] < record["target"], axis=1)
    np.testing.assert_array_equal(record["fitted"], fitted)


def check_counts(found):
    """Each count, share and median of the caption from the final losses, one run after the other."""
    rates, seeds, final = found["rates"].tolist(), int(found["seeds"]), found["final"]
    shown = rates.index(found["lr"])
    for i, rate in enumerate(rates):
        for j in range(3):
            count = len([loss for loss in final[i, j] if loss < found["target"]])
            wilson = binomtest(count, seeds).proportion_ci(method="wilson")
            assert found["counts"][i, j] == count
            expected = (count / seeds, wilson.low, wilson.high)
            np.testing.assert_allclose(found["shares"][:, i, j], expected, rtol=1e-9, atol=1e-12)
            if i == shown:
                assert found["fitted"][j] == count
                np.testing.assert_allclose((found["low"][j], found["high"][j]), expected[1:], rtol=1e-9, atol=1e-12)
        assert (rate <= found["safe"]) == np.all(final[i, 0] < found["target"])  # at every rate up to it, at none above
    assert found["safe"] in rates
    ends = []
    for k, j in enumerate((0, 2)):
        medians = [sorted(final[i, j]) for i in range(len(rates))]
        medians = [(runs[(seeds - 1) // 2] + runs[seeds // 2]) / 2 for runs in medians]
        best = medians.index(min(medians))
        assert found["best"][k] == pytest.approx(medians[best], rel=1e-6) and found["best_rate"][k] == rates[best]
        ends.append(final[best, j])
    assert found["lower"] == sum(b < a for a, b in zip(*ends, strict=True))
    np.testing.assert_array_equal(final[shown], found["loss"][..., -1])
    np.testing.assert_allclose(found["first"], np.median(found["loss"][0, :, :2], axis=0), rtol=1e-6)


def test_counts_and_medians_are_those_of_the_final_losses(record, stored):
    check_counts(record)
    check_counts(stored)
    sizes = {"samples": 128, "seeds": 16, "updates": 200, "target": 0.01, "lr": 0.2, "arrivals": 32}
    assert {name: stored[name].item() for name in sizes} == sizes
    assert stored["rates"].tolist() == [0.01, 0.05, 0.1, 0.2, 0.4] and stored["warm_ups"].tolist() == [1, 10, 50]


def numpy_runs(figure, rate, warm_up, seeds, samples, updates):
    """Losses (updates + 1, seeds) of the net under Adam, its back-propagation written out, float64."""
    digits = figure.ls.problems.datasets.digits()
    data = figure.Dataset(digits.x[:samples], digits.y[:samples])
    net = figure.ls.problems.networks.mlp((64, 16, 16, 10), "relu", data=data)
    drawn = [net.init(jax.random.fold_in(jax.random.key(1), seed), net.data) for seed in range(seeds)]
    w = [np.stack([np.asarray(one[k]["weight"], np.float64) for one in drawn]) for k in range(3)]
    b = [np.stack([np.asarray(one[k]["bias"], np.float64) for one in drawn])[:, None] for k in range(3)]
    params, x, target = w + b, np.asarray(data.x, np.float64)[None], np.eye(10)[data.y]
    first, second, losses = [0.0] * 6, [0.0] * 6, []
    for t in range(updates + 1):
        inputs = [x]
        for k in range(3):
            z = inputs[-1] @ params[k] + params[3 + k]
            inputs.append(np.maximum(z, 0) if k < 2 else z)
        z = z - z.max(axis=-1, keepdims=True)
        logs = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
        losses.append(-np.mean(np.sum(target * logs, axis=-1), axis=-1))
        delta, slopes = (np.exp(logs) - target) / samples, [None] * 6
        for k in (2, 1, 0):
            slopes[k], slopes[3 + k] = np.swapaxes(inputs[k], 1, 2) @ delta, delta.sum(axis=1, keepdims=True)
            delta = delta @ np.swapaxes(params[k], 1, 2) * (inputs[k] > 0)
        for k, g in enumerate(slopes):
            first[k], second[k] = 0.9 * first[k] + 0.1 * g, 0.999 * second[k] + 0.001 * g**2
            step = first[k] / (1 - 0.9 ** (t + 1)) / (np.sqrt(second[k] / (1 - 0.999 ** (t + 1))) + 1e-8)
            params[k] = params[k] - rate * min((t + 1) / warm_up, 1) * step
    return np.array(losses)


def test_the_stored_runs_are_those_of_numpy(figure, stored):
    """All 16 starts. Large steps amplify rounding, so ends are compared as counts and as medians, not one by one."""
    for i, j in ((1, 0), (3, 0), (3, 1), (4, 1)):
        rate, warm_up = stored["rates"][i], stored["warm_ups"][j]
        loss = numpy_runs(figure, rate, warm_up, seeds=16, samples=128, updates=200)
        assert abs(np.sum(loss[-1] < stored["target"]) - stored["counts"][i, j]) <= 1
        assert abs(np.log(np.median(loss[-1]) / np.median(stored["final"][i, j]))) < np.log(2)
        if i == 3:
            np.testing.assert_allclose(stored["loss"][j, :, :2], loss[:2].T, rtol=1e-4)


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


def test_the_committed_caption_is_that_of_the_committed_record(figure, stored):
    assert page.read_caption(FIGURES / f"{figure.__name__}.json") == figure.CAPTION.fill(stored)
