"""Runs: textbook update equations, exact epochs, fair shuffles, symmetries, and every refusal in a sentence."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracles
import pytest

from landscape import descent, plane, problem
from landscape.problems import two_weight
from landscape.problems.toy import Weights

START = Weights(np.float64(0.4), np.float64(1.3))
X, Y = np.array([0.6, -1.1, 1.7, 0.3, 0.9, -0.2, 1.2]), np.array([0.9, -0.7, 1.4, 0.8, 0.5, 0.4, 1.9])


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def gd(starts, rate, steps, of=None, **options):
    """A run of gradient descent, on the toy unless another problem is named.

    Blocks are no wider than the tests need; a trace is kept, so that most tests share their compiled programs.
    """
    options = {"block": 64, "observe_at": (0,)} | options
    optimizer, hyper = options.pop("optimizer", optax.sgd), {"learning_rate": rate} | options.pop("hyper", {})
    return descent.run(of or two_weight(), starts, optimizer=optimizer, hyper=hyper, steps=steps, **options)


def spread(count, seed, half=1.3):
    """Random starts."""
    return Weights(*np.random.default_rng(seed).uniform(-half, half, (2, count)))


def assert_same(a, b):
    """Equal trees, to the last bit."""
    jax.tree.map(partial(np.testing.assert_array_equal, strict=True), a, b)


# --- the update equations, from the textbooks, in the symbols of optax's documentation --------------------------------


def sgd(w, gradient, steps, rate):
    for t in range(steps):
        w = w - rate(t) * gradient(w, t)
    return w


def heavy_ball(w, gradient, steps, rate, momentum, nesterov=False):
    m = 0 * w
    for t in range(steps):
        g = gradient(w, t)
        m = momentum * m + g
        w = w - rate(t) * (g + momentum * m if nesterov else m)
    return w


def adagrad(w, gradient, steps, rate, accumulator=0.1, eps=1e-7):
    for t in range(steps):
        g = gradient(w, t)
        accumulator = accumulator + g**2
        w = w - rate(t) * g / np.sqrt(accumulator + eps)
    return w


def rmsprop(w, gradient, steps, rate, decay=0.9, eps=1e-8):
    v = 0 * w
    for t in range(steps):
        g = gradient(w, t)
        v = decay * v + (1 - decay) * g**2
        w = w - rate(t) * g / np.sqrt(v + eps)
    return w


def adam(w, gradient, steps, rate, b1=0.9, b2=0.999, eps=1e-8):
    m = v = 0 * w
    for t in range(steps):
        g = gradient(w, t)
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        w = w - rate(t) * (m / (1 - b1 ** (t + 1))) / (np.sqrt(v / (1 - b2 ** (t + 1))) + eps)
    return w


OPTIMIZERS = {
    "gradient descent": (optax.sgd, {}, sgd),
    "heavy ball": (optax.sgd, {"momentum": 0.8}, partial(heavy_ball, momentum=0.8)),
    "Nesterov": (optax.sgd, {"momentum": 0.8, "nesterov": True}, partial(heavy_ball, momentum=0.8, nesterov=True)),
    "Adagrad": (optax.adagrad, {}, adagrad),
    "RMSProp": (optax.rmsprop, {}, rmsprop),
    "Adam": (optax.adam, {"b1": 0.7}, partial(adam, b1=0.7)),
}
every_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)


def samples_gradient(w, chosen):
    """Of mean (y - w2 w1 x)² over the chosen samples."""
    q = np.mean(X[chosen] * (Y[chosen] - w[0] * w[1] * X[chosen]))
    return np.array([-2 * w[1] * q, -2 * w[0] * q])


@every_optimizer
def test_full_batch_follows_the_textbook(name):
    optimizer, hyper, oracle = OPTIMIZERS[name]
    end = gd(START, 0.05, 25, two_weight(X, Y), optimizer=optimizer, hyper=hyper).end
    expected = oracle(np.array(START), lambda w, t: samples_gradient(w, slice(None)), 25, lambda t: 0.05)
    # 25 steps of a few roundings each; not more, since RMSProp circles the minimum, where rounding grows.
    np.testing.assert_allclose(end.params, expected, rtol=1e-12)
    product = expected[0] * expected[1]
    np.testing.assert_allclose(end.loss, np.mean((Y - product * X) ** 2), rtol=1e-12)
    norm = np.linalg.norm(samples_gradient(expected, slice(None)))
    np.testing.assert_allclose(end.gradient_norm, norm, rtol=1e-6)  # a difference of near numbers


@every_optimizer
def test_minibatches_follow_the_textbook_on_the_permutations_of_shuffle(name):
    optimizer, hyper, oracle = OPTIMIZERS[name]
    options = {"batch_size": 3, "key": 5, "seeds": np.array([11])}  # epochs of 3 steps: 3, 3 and 1 samples
    end = gd(START, 0.05, 20, two_weight(X, Y), optimizer=optimizer, hyper=hyper, **options).end

    def gradient(w, t):
        order = permutation(5, 11, t // 3)
        return samples_gradient(w, order[3 * (t % 3) : 3 * (t % 3) + 3])

    np.testing.assert_allclose(end.params, oracle(np.array(START), gradient, 20, lambda t: 0.05), rtol=1e-12)


def test_a_schedule_is_followed():
    schedule = optax.linear_schedule(0.1, 0.02, 15)
    expected = sgd(np.array(START), lambda w, t: oracles.toy_gradient(*w), 40, lambda t: 0.1 - 0.08 * min(t / 15, 1))
    # The schedule itself is computed in float32 or float64, as optax pleases: 1e-7 of the rate.
    np.testing.assert_allclose(gd(START, schedule, 40).end.params, expected, rtol=1e-6)


# --- lanes, hyper-parameters, traces ----------------------------------------------------------------------------------


@every_optimizer
@pytest.mark.parametrize("batch_size", [None, 3])
def test_a_lane_is_the_single_run(name, batch_size):
    optimizer, hyper, _ = OPTIMIZERS[name]
    starts, seeds = spread(5, 1), np.array([3, 0, 3, 9, 4])
    common = {"of": two_weight(X, Y), "optimizer": optimizer, "hyper": hyper, "batch_size": batch_size}
    randomness = (lambda seeds: {"seeds": seeds}) if batch_size else (lambda seeds: {})
    together = gd(starts, 0.05, 25, observe_at=(0, 10), **common, **randomness(seeds))
    for lane, seed in enumerate(seeds):
        start = jax.tree.map(lambda leaf, lane=lane: leaf[lane], starts)
        alone = gd(start, 0.05, 25, observe_at=(0, 10), **common, **randomness(np.array([seed])))
        assert_same((alone.end, alone.trace), jax.tree.map(lambda a, i=lane: a[i], (together.end, together.trace)))


def test_a_swept_hyperparameter_is_its_own_run():
    starts, rates, momenta = spread(4, 2), np.array([0.01, 0.05, 0.1, 0.0]), np.array([0.9, 0.0, 0.5, 0.3])
    together = gd(starts, rates, 30, hyper={"momentum": momenta}).end.params
    for lane in range(4):
        alone = gd(starts, float(rates[lane]), 30, hyper={"momentum": float(momenta[lane])}).end.params
        assert alone.w1[lane] == together.w1[lane] and alone.w2[lane] == together.w2[lane]
    assert together.w1[3] == starts.w1[3]  # a learning rate of 0 stands still


def test_a_swept_hyperparameter_follows_a_grid_in_its_order():
    grid = plane.box(two_weight(), w1=(-1, 1, 3), w2=(-0.5, 1, 4))
    rates = np.linspace(0.01, 0.1, 12)
    w1, w2 = (axis.ravel() for axis in grid.mesh())
    assert_same(gd(grid, rates, 9).end.params, gd(Weights(w1, w2), rates, 9).end.params)


TRACES = []


def counted_loss(params, data):
    TRACES.append(None)
    return jnp.mean(jnp.square(data - params))


def first_samples(data, indices):
    return data[indices]


def counted(values):
    return problem.make(counted_loss, np.float64(0.0), np.asarray(values), take=first_samples, size=len(values))


@pytest.mark.parametrize("optimizer, names", [(optax.sgd, ("momentum",)), (optax.adam, ("b1", "eps"))])
@pytest.mark.parametrize("batch_size", [None, 2])
def test_other_numbers_add_no_trace(optimizer, names, batch_size):
    starts = np.linspace(0.5, 1, 3)

    def go(values, rate, other, steps, key):
        options = {"optimizer": optimizer, "hyper": dict.fromkeys(names, other), "batch_size": batch_size, "key": key}
        return gd(starts, rate, steps, counted(values), **options).end.params

    go([1.0, 2.0, 3.0], 0.1, 0.5, 7, 0)
    first = len(TRACES)
    ends = go([2.0, 3.0, 5.0], 0.2, 0.25, 11, 1)
    # `make` and the sweep's plan look at the loss's shape each time; a compilation would trace its four functions.
    abstract = len(TRACES) - first
    go([4.0, 3.0, 1.0], 0.3, 0.125, 13, 2)
    assert len(TRACES) - first == 2 * abstract
    jax.clear_caches()
    again = len(TRACES)
    assert_same(go([2.0, 3.0, 5.0], 0.2, 0.25, 11, 1), ends)
    assert len(TRACES) - again > abstract  # what a compilation would have added


def test_a_trace_is_kept_at_the_steps_asked_for_and_changes_nothing():
    starts = spread(3, 4)
    run = gd(starts, 0.1, 40, two_weight(X, Y), batch_size=2, observe_at=(40, 7, 0, 7))
    assert run.steps.tolist() == [0, 7, 40]
    assert run.trace.loss.shape == run.trace.params.w1.shape == (3, 3)
    at = lambda i: jax.tree.map(lambda leaf: leaf[:, i], run.trace)  # noqa: E731
    assert_same(at(0).params, starts)
    assert_same(at(1), gd(starts, 0.1, 7, two_weight(X, Y), batch_size=2).end)
    assert_same(at(2), run.end)
    assert_same(run.end, gd(starts, 0.1, 40, two_weight(X, Y), batch_size=2).end)
    assert gd(starts, 0.1, 40, observe_at=()).trace is None


def test_only_what_is_asked_for_is_kept():
    end = gd(START, 0.1, 3, observe=("loss",)).end
    assert end.params is None and end.gradient_norm is None and np.shape(end.loss) == ()


def test_a_run_that_diverges_is_data():
    run = gd(Weights(np.array([3.0, 0.5]), np.array([3.0, 0.6])), 0.3, 200, observe_at=range(0, 201, 20))
    assert not np.isfinite(run.end.loss[0]) and run.end.loss[1] < 1e-20
    assert run.trace.loss[0, 0] == 64 and np.all(np.isfinite(run.trace.loss[1]))


def test_precision_is_that_of_the_starts_and_the_switch():
    single = jax.tree.map(np.float32, START)
    assert gd(START, 0.1, 3).end.loss.dtype == np.float64
    assert gd(single, 0.1, 3).end.loss.dtype == np.float32
    with jax.enable_x64(False):
        assert gd(START, 0.1, 3, two_weight(X, Y), batch_size=2).end.loss.dtype == np.float32


# --- epochs -----------------------------------------------------------------------------------------------------------


def linear_loss(params, data):
    """Its gradient is the mean of the data: a step of learning rate 1 reveals which samples it took."""
    return params * jnp.mean(data)


def permutation(key, seed, epoch, size=7):
    """The order of an epoch's samples."""
    lane = jax.random.fold_in(jax.random.key(key), seed)
    return np.asarray(descent.shuffle(jax.random.fold_in(lane, epoch), size))


def taken(size, batch, epochs, key=0, seeds=0):
    """The sets of samples of every step, for each epoch, read off the parameter's path. Sample i counts 2^i."""
    values = 2.0 ** np.arange(size)
    of = problem.make(linear_loss, np.float64(0.0), values, take=first_samples, size=size)
    sizes = [min(batch, size - first) for first in range(0, size, batch)]
    steps = epochs * len(sizes)
    options = {"batch_size": batch, "observe_at": range(steps + 1), "observe": ("params",), "key": key, "seeds": seeds}
    path = gd(np.zeros(1), 1.0, steps, of, **options).trace.params[0]
    # A mean over 3 rounds in the 53rd bit; the sums are below 2^20, so that rounding restores them.
    sums = np.rint(-np.diff(path).reshape(epochs, -1) * sizes).astype(int)
    return [[{i for i in range(size) if code >> i & 1} for code in epoch] for epoch in sums], sizes


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 6, 7, 10, 11, 12])
def test_an_epoch_is_an_exact_partition(batch):
    epochs, sizes = taken(12, batch, 4) if batch < 12 else ([[set(range(12))]] * 4, [12])
    for epoch in epochs:
        assert [len(step) for step in epoch] == sizes  # the short one last
        assert set.union(*epoch) == set(range(12))  # sizes sum to 12, so nothing is taken twice
    assert batch == 12 or epochs[0] != epochs[1] != epochs[2] != epochs[3]


def test_the_order_is_the_shuffles_and_is_shared_by_all_batch_sizes():
    for batch in (1, 2, 3, 5):
        epochs, _ = taken(7, batch, 3, key=4, seeds=6)
        for number, epoch in enumerate(epochs):
            order = permutation(4, 6, number).tolist()
            assert epoch == [set(order[i : i + batch]) for i in range(0, 7, batch)]


def test_lanes_differ_unless_they_share_a_seed():
    starts = Weights(np.full(4, 0.4), np.full(4, 1.3))
    ends = lambda **options: gd(starts, 0.1, 9, two_weight(X, Y), batch_size=2, **options).end.params.w1  # noqa: E731
    assert np.unique(ends()).size == 4
    assert np.unique(ends(seeds=2)).size == 1
    paired = ends(seeds=np.array([1, 2, 1, 3]))
    assert paired[0] == paired[2] != paired[3]
    assert paired[1] == ends(seeds=2)[0] != ends(seeds=2, key=1)[0]


@pytest.mark.parametrize("batch", [1, 3, 7])
@pytest.mark.parametrize("draw", ["without replacement", "with replacement"])
def test_independent_batches_are_their_steps_own(batch, draw):
    """Each step's samples, counted by the moved parameter: sample i counts 8^i, so that repeats show."""
    values = 8.0 ** np.arange(7)
    of = problem.make(linear_loss, np.float64(0.0), values, take=first_samples, size=7)
    lanes, steps = 300, 12
    options = {"batch_size": batch, "draw": draw, "observe_at": range(steps + 1), "observe": ("params",)}
    path = gd(np.zeros(lanes), 1.0, steps, of, **options).trace.params
    sums = np.rint(-np.diff(path, axis=1) * batch).astype(int)
    counts = sums[..., None] // 8 ** np.arange(7) % 8  # (lanes, steps, samples)
    assert np.all(counts.sum(axis=2) == batch)
    assert (counts.max() == 1) == (draw == "without replacement" or batch == 1)
    if draw == "without replacement" and batch == 7:
        return  # all of them
    assert len(np.unique(sums)) > 6 and np.any(sums[:, 1:] != sums[:, :-1])
    expected, total = batch / 7, lanes * steps
    spread = np.sqrt(batch * (1 / 7) * (6 / 7) * total)  # of draws with replacement; less without
    assert np.all(np.abs(counts.sum(axis=(0, 1)) - expected * total) < 4.5 * spread)


def test_without_replacement_a_smaller_batch_is_part_of_the_larger():
    values = 2.0 ** np.arange(7)
    of = problem.make(linear_loss, np.float64(0.0), values, take=first_samples, size=7)
    options = {"draw": "without replacement", "observe_at": range(6), "observe": ("params",), "seeds": 3}
    sums = [
        np.rint(-np.diff(gd(np.zeros(1), 1.0, 5, of, batch_size=size, **options).trace.params[0]) * size).astype(int)
        for size in (2, 5)
    ]
    assert np.all(sums[0] & sums[1] == sums[0])


def test_a_batch_of_all_samples_is_full_batch():
    assert_same(gd(START, 0.1, 9, two_weight(X, Y), batch_size=7).end, gd(START, 0.1, 9, two_weight(X, Y)).end)


# --- exact facts of the toy (theory.md) -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [None, 3])
@every_optimizer
def test_swapping_or_negating_the_weights_maps_runs_to_runs(name, batch_size, dtype=np.float64):
    optimizer, hyper, _ = OPTIMIZERS[name]
    w1, w2 = (w.astype(dtype) for w in spread(64, 3))
    options = {"optimizer": optimizer, "hyper": hyper, "batch_size": batch_size}
    ends = lambda *w: gd(Weights(*w), 0.05, 40, two_weight(X, Y), **options).end.params  # noqa: E731
    end = ends(w1, w2)
    assert_same(ends(w2, w1), Weights(end.w2, end.w1))
    assert_same(ends(-w1, -w2), Weights(-end.w1, -end.w2))


@pytest.mark.slow
def test_symmetries_hold_in_single_precision_too():
    test_swapping_or_negating_the_weights_maps_runs_to_runs("gradient descent", 1, np.float32)
    test_swapping_or_negating_the_weights_maps_runs_to_runs("Adam", None, np.float32)


def path(start, rate, steps, every=1, **options):
    """The weights and residual along a run."""
    w1, w2 = gd(start, rate, steps, observe_at=range(0, steps + 1, every), **options).trace.params
    return w1, w2, 1 - w1 * w2


@pytest.mark.parametrize("rate", [0.05, 0.25, 0.4])
def test_what_one_step_of_gradient_descent_does(rate):
    w1, w2, r = path(spread(50, 5, 1.4), rate, 12)
    q = 2 * rate * (w1**2 + w2**2) + 4 * rate**2 * r - 4
    then, now = np.s_[:, 1:], np.s_[:, :-1]
    close = partial(np.testing.assert_allclose, rtol=0, atol=1e-13)  # numbers of order 1 to 10, a few roundings
    close((w1 + w2)[then], ((w1 + w2) * (1 + 2 * rate * r))[now])  # item 2
    close((w1 - w2)[then], ((w1 - w2) * (1 - 2 * rate * r))[now])
    close((w1**2 - w2**2)[then], ((w1**2 - w2**2) * (1 - 4 * rate**2 * r**2))[now])
    close(q[then], (q * (1 - 4 * rate**2 * r * (1 - r)))[now])  # item 3
    assert np.all(np.sign(q) == np.sign(q[:, :1]))


def test_gradient_flow_is_the_limit_of_small_steps():
    def errors(rate):  # item 1, at time 1
        w1, w2, r = path(
            Weights(np.array([0.3, 0.9]), np.array([0.3, -0.2])), rate, round(1 / rate), every=round(1 / rate)
        )
        exact = 1 / (1 + (1 / 0.09 - 1) * np.exp(-4))
        return np.array([1 - r[0, -1] - exact, np.diff(w1[1] ** 2 - w2[1] ** 2)[0]])

    # First order: half the step, half the error, up to the next order.
    np.testing.assert_allclose(errors(1e-3) / errors(5e-4), 2, rtol=0.01)


LINE = np.linspace(-1.2, 1.2, 16)


@pytest.mark.parametrize("batch_size", [None, 3])
@every_optimizer
def test_the_saddle_line_is_kept_bit_for_bit(name, batch_size, dtype=np.float64):
    optimizer, hyper, _ = OPTIMIZERS[name]  # item 9
    w = LINE.astype(dtype)
    options = {"optimizer": optimizer, "hyper": hyper, "batch_size": batch_size, "observe_at": range(0, 401, 20)}
    w1, w2 = gd(Weights(w, -w), 0.05, 400, two_weight(X, Y), **options).trace.params
    assert np.all(w1 == -w2) and np.all(np.isfinite(w1))
    off = gd(Weights(w, np.nextafter(-w, np.inf, dtype=dtype)), 0.05, 400, two_weight(X, Y), **options).trace.params
    assert np.any(off.w1 != -off.w2, axis=1).all()  # the test can see it: one ulp off, no run stays


def test_the_saddle_line_is_kept_in_single_precision_too():
    test_the_saddle_line_is_kept_bit_for_bit("gradient descent", 1, np.float32)
    test_the_saddle_line_is_kept_bit_for_bit("Adam", None, np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.05, 0.1, 0.2])
def test_one_ulp_off_the_line_the_saddle_is_left_in_the_time_that_theory_says(rate):
    ulp = np.finfo(np.float64).eps
    w1, w2, r = path(Weights(np.array([0.5]), np.array([-0.5 * (1 - ulp)])), rate, 800)
    predicted = np.log(1 / ulp) / np.log(1 + 2 * rate)
    assert np.argmax(np.abs(w1 + w2)[0] > 1) == pytest.approx(predicted, rel=0.05)


@pytest.mark.parametrize("rate, momentum", [(0.1, 0.0), (0.1, 0.9), (0.03, 0.5), (0.4, 0.99)])
def test_escape_factor_at_the_saddle(rate, momentum):
    w1, _, _ = path(Weights(np.array([1e-60]), np.array([1e-60])), rate, 40, hyper={"momentum": momentum})
    trace = 1 + momentum + 2 * rate  # item 11
    expected = (trace + np.sqrt(trace**2 - 4 * momentum)) / 2
    if (rate, momentum) == (0.1, 0.9):
        assert expected == pytest.approx(1.5, rel=1e-14)
    # The smaller root dies out against the larger as (momentum / expected²)^t, and 1e-60 is far from any curvature.
    tolerance = 5 * (momentum / expected**2) ** 20 + 1e-13
    np.testing.assert_allclose(w1[0, 21:25] / w1[0, 20:24], expected, rtol=tolerance)


def test_balance_changes_as_every_batch_says():
    w1, w2, _ = path(
        START._replace(w1=np.array([0.4]), w2=np.array([1.3])), 0.05, 21, of=two_weight(X, Y), batch_size=3, seeds=0
    )
    for step in range(21):  # item 16: D' = D (1 - 4 eta² q²)
        chosen = permutation(0, 0, step // 3)[3 * (step % 3) : 3 * (step % 3) + 3]
        q = np.mean(X[chosen] * (Y[chosen] - w1[0, step] * w2[0, step] * X[chosen]))
        before, after = (w1[0, i] ** 2 - w2[0, i] ** 2 for i in (step, step + 1))
        assert after == pytest.approx(before * (1 - 4 * 0.05**2 * q**2), rel=1e-13)


# --- bad input --------------------------------------------------------------------------------------------------------

WORDS = {  # case: (what the call changes, the error's words)
    "no samples": (
        {"batch_size": 2, "of": "bare"},
        "batch_size is 2, but problem 'bare' has no samples.*: leave it out",
    ),
    "one sample": (
        {"batch_size": 2, "of": "one"},
        "is 2, but the problem has 1 sample: give a whole number from 1 to 1",
    ),
    "batch 0": ({"batch_size": 0}, "batch_size is 0, but the problem has 7 samples: give a whole number from 1 to 7"),
    "batch negative": ({"batch_size": -1}, "batch_size is -1, but"),
    "batch above n": ({"batch_size": 8}, "batch_size is 8, but the problem has 7 samples"),
    "batch True": ({"batch_size": True}, "batch_size is True, but the problem has 7 samples"),
    "unknown draw": (
        {"batch_size": 2, "draw": "replaced"},
        "draw is 'replaced': give one of 'reshuffled', 'without replacement', 'with replacement'",
    ),
    "half a step": ({"observe_at": [1.5]}, r"observe_at is \[1.5\]: give whole numbers"),
    "steps 0": ({"steps": 0}, "steps is 0: give a whole number, from 1 to 2147483647"),
    "observed late": ({"observe_at": (5, 11)}, "observe_at has 5 to 11: steps lie from 0 to 10"),
    "observed early": ({"observe_at": (-1, 3)}, "observe_at has -1 to 3: steps lie from 0 to 10"),
    "observing what": (
        {"observe": ("loss", "slope")},
        r"observe has \['slope'\]: choose from params, loss, gradient_norm",
    ),
    "rate NaN": ({"rate": np.nan}, "learning_rate is nan: it must be finite and not negative"),
    "rate infinite": ({"rate": np.inf}, "learning_rate is inf: it must be finite"),
    "rate negative": ({"rate": -0.1}, "learning_rate is -0.1: it must be finite and not negative"),
    "one rate negative": ({"rate": np.array([0.1, -0.1, 0.1])}, "learning_rate is array.* and not negative"),
    "rate a word": ({"rate": "fast"}, "learning_rate is 'fast': give one number, or an array .* each of 3 lanes"),
    "too many rates": ({"rate": np.ones(4)}, "learning_rate is .* each of 3 lanes"),
    "momentum NaN": ({"hyper": {"momentum": np.nan}}, "momentum is nan: it must be finite$"),
    "unknown name": (
        {"hyper": {"momentun": 0.9}},
        "hyper has 'momentun', which sgd .* mean 'momentum'. It takes learning_",
    ),
    "another tree": ({"starts": (1.0, 2.0)}, "starts is a PyTreeDef.*it must be like the problem's point, PyTreeDef"),
    "a matrix": (
        {"starts": Weights(*np.ones((2, 2, 2)))},
        r"starts has shapes \[\(2, 2\), \(2, 2\)\]: give one point's, \[\(\), \(\)\], or those after an axis of lanes",
    ),
    "uneven": ({"starts": Weights(np.ones(2), np.ones(3))}, r"starts has shapes \[\(2,\), \(3,\)\]"),
    "not finite": ({"starts": Weights(np.array([np.nan]), np.ones(1))}, "starts leaf 'w1' is not finite"),
}


@pytest.mark.parametrize("case", WORDS)
def test_bad_input_is_refused_in_a_sentence(case, monkeypatch):
    def computed(*args):
        raise AssertionError("something was computed")

    changes, words = WORDS[case]
    toy = two_weight(X, Y)
    problems = {
        "bare": problem.make(toy.loss, Weights(0.0, 0.0), toy.data, name="bare"),
        "one": two_weight(),
        "toy": toy,
    }
    call = {"starts": spread(3, 0), "rate": 0.1, "steps": 10, "of": "toy"} | changes
    monkeypatch.setattr(descent, "advance", computed)
    with pytest.raises(ValueError, match=words) as caught:
        gd(**call | {"of": problems[call["of"]]})
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_whole_numbers_for_starts_are_refused():
    with pytest.raises(TypeError, match="starts leaf 'w1' is the Python int 1: write 1.0"):
        gd(Weights(1, 2), 0.1, 10)


def test_a_missing_hyperparameter_is_named():
    with pytest.raises(
        ValueError, match="hyper lacks learning_rate, which adam needs: add hyper={'learning_rate': ...}"
    ):
        descent.run(two_weight(), START, optimizer=optax.adam, hyper={}, steps=1)


def plateau(learning_rate):
    """Its counts depend on the loss, so they differ from lane to lane."""
    return optax.chain(optax.sgd(learning_rate), optax.contrib.reduce_on_plateau(patience=2, rtol=0.05))


@pytest.mark.parametrize("optimizer", [plateau, optax.optimistic_gradient_descent, optax.adafactor])
def test_optimizers_with_unusual_states_run_and_a_lane_is_the_single_run(optimizer):
    problem = two_weight()
    starts = Weights(np.array([0.5, 1.5, 2.0]), np.array([1.0, -0.5, 0.25]))
    options = {"optimizer": optimizer, "hyper": {"learning_rate": 0.02}, "steps": 30}
    many = descent.run(problem, starts, block=64, **options).end.params
    for i in range(3):
        one = descent.run(problem, Weights(starts.w1[i], starts.w2[i]), block=64, **options).end.params
        assert (one.w1, one.w2) == (many.w1[i], many.w2[i])


@pytest.mark.slow
def test_an_optimizers_own_noise_follows_the_lanes_seeds():
    starts = Weights(np.full(3, 2.0), np.ones(3))
    hyper = {"learning_rate": 0.01, "eta": 0.1, "gamma": 0.55, "key": 3}

    def run(seeds):
        options = {"optimizer": optax.noisy_sgd, "hyper": hyper, "steps": 5, "block": 64}
        return descent.run(two_weight(), starts, seeds=seeds, **options).end.params.w1

    own, paired = run(None), run(np.array([7, 7, 8]))
    assert len(set(own.tolist())) == 3
    assert paired[0] == paired[1] != paired[2]


def test_an_optimizer_that_is_no_factory_and_hyper_that_is_no_dict_are_refused(unchecked):
    for changes, words in [
        ({"optimizer": optax.sgd(0.1)}, "optimizer is a .*: give the factory itself, such as optax.sgd"),
        ({"hyper": 0.1}, "hyper is 0.1: give a dict"),
    ]:
        options = {"optimizer": optax.sgd, "hyper": {"learning_rate": 0.1}, "steps": 1} | changes
        with pytest.raises(TypeError, match=words):
            descent.run(two_weight(), Weights(1.0, 2.0), **options)
