"""Figure 8: escape times against plain loops with the same shuffles, and the theory beside them against simulation."""

import itertools
import math

import claims
import jax
import numpy as np
import pytest

pytestmark = pytest.mark.slow

RUNS = 100


@pytest.fixture(scope="module")
def figure():
    return claims.script("fig_08_escape_by_batch_size")


@pytest.fixture(scope="module")
def record(figure):
    return claims.record(figure, x64=True, runs=RUNS, steps=130)


@pytest.fixture(scope="module")
def stored(figure):
    """The record that the committed picture and caption were made from."""
    with np.load(claims.SCRIPTS.parent / "figures" / f"{figure.__name__}.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def samples(figure):
    return [np.asarray(values, np.float64) for values in figure.samples()]


def orders(figure, seed, epochs):
    """The permutations of a run, as `sweep` and `descent` derive them from its lane; 64-bit mode has its own."""
    with jax.enable_x64(True):
        key = jax.random.fold_in(jax.random.key(0), seed)
        return [np.asarray(figure.ls.draws.shuffle(jax.random.fold_in(key, epoch), 16)) for epoch in range(epochs)]


def walk(x, y, z, start, shuffles, batch, steps):
    """Points of minibatch descent on mean (y - w2 (w1 x + z))² as a loop."""
    w, path = np.array(start, float), []
    for step in range(steps + 1):
        path.append(w)
        epoch, i = divmod(step, 16 // batch)
        chosen = shuffles[epoch][i * batch : (i + 1) * batch]
        inner = w[0] * x[chosen] + z[chosen]
        residual = y[chosen] - w[1] * inner
        w = w + 2 * 0.05 * np.array([np.mean(residual * w[1] * x[chosen]), np.mean(residual * inner)])
    return np.array(path)


@pytest.mark.parametrize("row, batch", [(0, 1), (2, 4), (3, 8)])
def test_distances_and_times_are_those_of_a_plain_loop(figure, record, samples, row, batch):
    x, y, z = samples
    c, zz = np.mean(x * y), np.mean(z**2)
    out = np.array([2 * c, np.sqrt(zz**2 + 4 * c**2) - zz])  # eigenvector of [[0, -2c], [-2c, 2 zz]], lower eigenvalue
    cases = (("shared", 0 * z, np.full(2, 1e-3 / np.sqrt(2)), np.ones(2)), ("own", z, np.zeros(2), out))
    for name, second, start, direction in cases:
        for lane in (0, 3):
            shuffles = orders(figure, lane, 130)
            path = walk(x, y, second, start, shuffles, batch, 130) @ direction / np.linalg.norm(direction)
            np.testing.assert_allclose(record[f"{name}_paths"][row, lane, :60], np.abs(path[:60]), rtol=1e-4, atol=1e-8)
            after = np.argmax(np.abs(path) >= 0.2)
            moment = np.interp(np.log(0.2), np.log(np.abs(path[after - 1 : after + 1])), [after - 1, after])
            assert record[f"{name}_times"][row, lane] == pytest.approx(moment, abs=1e-6)


def test_without_the_second_input_the_loss_is_the_toys(figure, samples):
    x, y, z = samples
    for problem, second in zip(figure.problems(), (0 * z, z), strict=True):
        for w1, w2 in ((0.3, -1.2), (1.5, 0.7)):
            exact = np.mean((y - w2 * (w1 * x + second)) ** 2)
            assert float(problem.at(figure.Weights(w1, w2))) == pytest.approx(exact, rel=1e-5)  # float32


def test_on_the_saddle_line_no_batch_size_leaves(record):
    assert record["line_most"] == 0
    assert record["line_undecided"].tolist() == [RUNS] * 5


def test_the_full_batch_rests_on_its_saddle_and_smaller_ones_do_not(record, samples):
    x, y, z = samples
    assert np.mean(y * z) == 0 == np.mean(x * z)  # the full gradient at the origin is (0, -2 mean yz)
    assert record["full_most"] == 0
    assert record["own_undecided"].tolist() == [0, 0, 0, 0, RUNS] and record["own_open"] == 0
    assert np.all(np.isinf(record["own_times"][-1]))
    means = record["own_mean"][:4]
    assert np.all(means[1:, 1] > means[:-1, 2])  # each size is slower than the one before, intervals apart


def test_where_the_saddle_is_shared_noise_makes_it_no_faster(record):
    assert record["shared_undecided"].sum() == 0
    assert np.ptp(record["shared_times"][-1]) == 0  # the full batch has no noise
    assert np.all(np.diff(record["shared_exact"]) < 0)
    middle, low, high = record["shared_mean"].T
    # Theory stops at first order: the next one costs .05 updates. And the update that crosses the mark is larger than
    # most, which counts where updates differ: .24 at B = 1, by simulation of the first-order process.
    assert np.all(np.abs(middle - record["shared_exact"]) < 0.3 + (high - low))
    assert np.all(low[:-1] > middle[-1])  # each batch size is slower than the full batch, beyond its interval,
    assert np.all(low[:-2] > high[1:-1])  # and the more so the smaller it is


@pytest.mark.parametrize("place, batch", [(0, 1), (1, 2), (2, 4), (3, 8)])
def test_stored_times_are_those_of_loops_with_other_shuffles(stored, samples, place, batch):
    """On w1 = w2 = u the toy's update is u ← u + 2 η u (mean_B xy - u² mean_B x²): 8000 loops, other shuffles."""
    x, y, _ = samples
    rng, u = np.random.default_rng(0), np.full((1, 8000), 1e-3 / np.sqrt(2))
    for _ in range(64 * batch // 16 + 1):
        orders = rng.permuted(np.tile(np.arange(16), (8000, 1)), axis=1).reshape(8000, -1, batch)
        for xy, xx in zip((x * y)[orders].mean(axis=2).T, (x**2)[orders].mean(axis=2).T, strict=True):
            u = np.vstack([u, u[-1] + 0.1 * u[-1] * (xy - u[-1] ** 2 * xx)])
    logs, lane = np.log(np.sqrt(2) * np.abs(u)), np.arange(8000)
    after = np.argmax(logs >= np.log(0.2), axis=0)
    last, now = logs[after - 1, lane], logs[after, lane]
    moments = after - 1 + (np.log(0.2) - last) / (now - last)
    assert after.min() > 0
    error = moments.std() * np.hypot(1 / np.sqrt(200), 1 / np.sqrt(8000))
    assert abs(stored["shared_mean"][place, 0] - moments.mean()) < 4 * error


def test_the_full_batch_beside_the_second_saddle_leaves_as_theory_says(figure, record, samples):
    x, y, z = samples
    c, zz = np.mean(x * y), np.mean(z**2)
    out = np.array([2 * c, np.sqrt(zz**2 + 4 * c**2) - zz])
    out /= np.linalg.norm(out)
    path = np.abs(walk(x, y, z, 1e-3 * out, [np.arange(16)] * 61, 16, 60) @ out)
    after = np.argmax(path >= 0.2)
    moment = np.interp(np.log(0.2), np.log(path[after - 1 : after + 1]), [after - 1, after])
    assert record["beside_time"] == pytest.approx(moment, abs=1e-6)
    factor = 1 + 0.05 * (np.sqrt(zz**2 + 4 * c**2) - zz)  # 1 - η λ, λ the lower root of λ² - 2 zz λ - 4c² = 0
    assert record["factors"][1] == pytest.approx(factor, rel=1e-9)
    assert record["beside_exact"] == pytest.approx(np.log(200) / np.log(factor), rel=1e-9)
    assert abs(moment - record["beside_exact"]) < 0.1


def test_the_stored_numbers_follow_from_the_stored_times(stored):
    """Student's quantile at 199 degrees of freedom; medians by sorting; the cost of eight times the batch."""
    for name in ("shared", "own"):
        times = stored[f"{name}_times"][: 5 if name == "shared" else 4]
        half = 1.971957 * times.std(axis=1, ddof=1) / np.sqrt(200)
        np.testing.assert_allclose(stored[f"{name}_mean"][: len(times), 0], times.mean(axis=1))
        np.testing.assert_allclose(stored[f"{name}_mean"][: len(times), 1], times.mean(axis=1) - half, rtol=1e-6)
        np.testing.assert_allclose(stored[f"{name}_mean"][: len(times), 2], times.mean(axis=1) + half, rtol=1e-6)
        np.testing.assert_array_equal(
            stored[f"{name}_median"][: len(times), 0], np.sort(times)[:, [99, 100]].mean(axis=1)
        )
    assert stored["own_cost"] == stored["own_times"][3].mean() - stored["own_times"][0].mean()
    assert abs(stored["own_cost"] - (stored["own_exact"][3] - stored["own_exact"][0])) < 1.5
    assert stored["own_undecided"].tolist() == [0, 0, 0, 0, 200] and stored["own_open"] == 0
    assert stored["line_undecided"].tolist() == [200] * 5 and stored["line_most"] == 0
    assert stored["shared_undecided"].sum() == 0


def test_stored_times_where_the_saddle_is_shared(stored):
    test_where_the_saddle_is_shared_noise_makes_it_no_faster(stored)


def test_the_committed_caption_is_that_of_the_stored_record(figure, stored):
    path = claims.SCRIPTS.parent / "figures" / f"{figure.__name__}.json"
    assert claims.page.read_caption(path) == figure.CAPTION.fill(stored)


def test_shared_theory_is_exact_for_one_and_for_all_samples(figure, samples, record):
    x, y, _ = samples
    for batch in (1, 2, 16):
        factors = [1 + 0.1 * np.mean(x[list(b)] * y[list(b)]) for b in itertools.combinations(range(16), batch)]
        assert figure.shared_theory(batch) == pytest.approx(np.log(200) / np.mean(np.log(factors)), rel=1e-12)
    assert record["factors"][0] == pytest.approx(1 + 0.1 * np.mean(x * y), rel=1e-12)


@pytest.mark.parametrize("batch", [1, 4, 8])
def test_own_theory_is_what_the_linear_process_does(figure, samples, batch):
    """The linearised process itself, simulated: distance ← factor * distance + noise of a shuffled epoch."""
    x, y, z = samples
    hessian = np.array([[0, -2 * np.mean(x * y)], [-2 * np.mean(x * y), 2 * np.mean(z**2)]])
    values, vectors = np.linalg.eigh(hessian)
    rng, count = np.random.default_rng(0), 4000
    distance, left = np.zeros(count), np.full(count, np.inf)
    for epoch in range(200 * batch // 16 + 2):
        drawn = rng.permuted(np.tile(2 * y * z, (count, 1)), axis=1).reshape(count, -1, batch).mean(axis=2)
        for i, noise in enumerate(drawn.T):
            distance = (1 - 0.05 * values[0]) * distance + 0.05 * vectors[1, 0] * noise
            now = (np.abs(distance) >= 0.2) & np.isinf(left)
            left[now] = epoch * drawn.shape[1] + i + 1
    # Theory takes the sum for normal and the time for continuous.
    assert np.isfinite(left).all()
    assert figure.own_theory(batch) == pytest.approx(np.mean(left), abs=1.5)


def test_measured_times_follow_own_theory(record):
    middle, low, high = record["own_mean"][:4].T
    # The bound of the linear process above, and three standard errors of these runs.
    assert np.all(np.abs(middle - record["own_exact"]) < 1.5 + 3 * (high - low) / 4)


@pytest.mark.parametrize("count", [24, 200])
def test_the_interval_of_the_median_covers_it(figure, count):
    """The k-th and the l-th of n values enclose the median with probability P(k <= Binomial(n, 1/2) < l)."""
    middle, low, high = figure.median(np.random.default_rng(1).permutation(count) + 1.0)
    weights = [math.comb(count, k) / 2**count for k in range(count + 1)]
    assert 0.95 <= sum(weights[int(low) : int(high)]) < 0.985
    assert middle == (count + 1) / 2


def test_undecided_runs_are_counted_and_leave_the_mean_open(figure):
    distance = np.array([[0, 0.1, 0.4], [0, 0.1, 0.1], [0, 0.2, 0.1], [0, 0, 0]])
    left = figure.times(distance)
    assert left.tolist() == pytest.approx([1.5, np.inf, 1, np.inf])  # 0.2 is halfway from 0.1 to 0.4, in logarithms
    assert np.all(np.isinf(figure.mean(left)))
    assert figure.median(np.array([1.0] * 30 + [np.inf] * 10)).tolist() == [1, 1, 1]


def test_the_figure_shows_what_was_measured(figure, record):
    axes = figure.draw(record).axes
    for ax, name in zip(axes[1::2], ("shared", "own"), strict=True):
        for container, kind in zip(ax.containers, ("median", "mean"), strict=True):
            finite = record[f"{name}_{kind}"][:, 0]
            np.testing.assert_array_equal(container[0].get_ydata(), finite[np.isfinite(finite)])
    for ax, name in zip(axes[::2], ("shared", "own"), strict=True):
        np.testing.assert_array_equal(ax.lines[0].get_ydata(), np.maximum(record[f"{name}_paths"][0, 0], 1e-4))


def test_caption_and_redrawing(figure, record, tmp_path):
    claims.check_figure(figure, record, tmp_path)
