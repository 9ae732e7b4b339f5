"""Figure 10: both gradients of the runs against NumPy, noise against theory, the true bounce against its 2-cycle."""

import claims
import jax
import numpy as np
import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def figure():
    pytest.importorskip("sklearn")
    return claims.script("fig_10_gradient_norm")


@pytest.fixture(scope="module")
def record(figure):
    return claims.record(figure, seeds=3, updates=400, every=20, control_seeds=2)  # 4 windows a phase


@pytest.fixture(scope="module")
def stored(figure):
    """The record that the committed picture and caption were made from."""
    with np.load(claims.SCRIPTS.parent / "figures" / f"{figure.__name__}.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def digits(figure):
    data = figure.ls.problems.datasets.digits()
    return np.asarray(data.x, np.float64), np.eye(10)[data.y]


def gradients(params, x, target):
    """Of the cross-entropy of each sample of a tanh net with one hidden layer, flattened: (n, parameters)."""
    first, second = ({name: np.asarray(leaf, np.float64) for name, leaf in layer.items()} for layer in params)
    hidden = np.tanh(x @ first["weight"] + first["bias"])
    logits = hidden @ second["weight"] + second["bias"]
    error = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True) - target
    back = (error @ second["weight"].T) * (1 - hidden**2)
    parts = (back, x[:, :, None] * back[:, None], error, hidden[:, :, None] * error[:, None])  # biases before weights
    return np.concatenate([part.reshape(len(x), -1) for part in parts], axis=1)


def start(figure, seed):
    net = figure.ls.problems.networks.mlp((64, 3, 10), "tanh", data=figure.ls.problems.datasets.digits())
    return net, net.init(jax.random.fold_in(jax.random.key(0), seed), net.data)


def flat(params):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(params)]).astype(np.float64)


def test_norms_and_turns_are_those_of_a_plain_loop(figure, digits):
    """Six updates of seed 1 with the engine's shuffle and NumPy's gradients: what is seen at updates 0 and 3."""
    x, target = digits
    net, params = start(figure, 1)
    figure.WINDOW = 1
    try:
        starts = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), params)
        _, seen = figure.phase(net, starts, 0.3, 6, 3, 0)
    finally:
        figure.WINDOW = 5
    order = np.asarray(figure.ls.draws.shuffle(jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 1), 0), 1797))
    leaves, structure = jax.tree.flatten(params)
    leaves, used, full, noise = [np.asarray(leaf, np.float64) for leaf in leaves], [], [], []
    for update in range(7):
        each = gradients(structure.unflatten(leaves), x, target)
        chosen = order[8 * update : 8 * update + 8]
        used.append(each[chosen].mean(axis=0))
        full.append(each.mean(axis=0))
        noise.append(each.var(axis=0).sum() * (1797 - 8) / (8 * 1796))
        sizes = np.cumsum([leaf.size for leaf in leaves])[:-1]
        steps = np.split(0.3 * used[-1], sizes)
        leaves = [leaf - step.reshape(leaf.shape) for leaf, step in zip(leaves, steps, strict=True)]
    for column, update in enumerate((0, 3)):
        a, (now, following, second) = used[update], full[update : update + 3]
        # Points are float32: a difference of two is off by 1e-7 of a weight, against steps of 0.3 x 1.
        assert seen["mini"][1, column] == pytest.approx(a @ a, rel=1e-4)
        assert seen["full"][1, column] == pytest.approx(now @ now, rel=1e-4)
        assert seen["noise"][1, column] == pytest.approx(noise[update], rel=1e-4)
        for name, then in (("turn", following), ("again", second)):
            cosine = now @ then / np.sqrt(now @ now * (then @ then))
            assert seen[name][1, column] == pytest.approx(cosine, abs=1e-4)


def test_a_bounce_shows_through_the_noise_of_minibatches(figure):
    """A bowl mean |w - a_i|², whose factor a step is 1 - 2 η = -.96: the full gradient turns round, batches or not.

    In the long run its autocorrelation is that factor, to which the cosine comes close where there are many weights.
    The cosine of two *minibatch* updates would not show it: their noises are larger, and independent.
    """
    centres = np.random.default_rng(0).normal(size=(400, 30)).astype(np.float32)
    loss = lambda weights, data: jax.numpy.mean(jax.numpy.sum((weights - data) ** 2, axis=1))  # noqa: E731
    take = lambda data, chosen: data[chosen]  # noqa: E731
    bowl = figure.ls.problem.make(loss, np.zeros(30, np.float32), centres, take=take, size=400)
    starts = np.ones((4, 30), np.float32)
    for batch in (8, None):
        _, seen = figure.phase(bowl, starts, 0.98, 200, 10, 0, batch=batch)
        assert np.all(seen["turn"] < -0.8)
        assert np.all(seen["again"] > 0.6)


def test_the_minibatch_norm_at_the_start_is_that_of_many_batches(figure, record, digits):
    x, target = digits
    rng, squares, full = np.random.default_rng(0), [], []
    for seed in range(3):
        each = gradients(start(figure, seed)[1], x, target)
        full.append(np.sum(each.mean(axis=0) ** 2))
        batches = (rng.choice(1797, 8, replace=False) for _ in range(3000))
        squares.append([np.sum(each[batch].mean(axis=0) ** 2) for batch in batches])
    error = np.std(squares) / np.sqrt(np.size(squares))
    assert abs(record["first_mini"] ** 2 - np.mean(squares)) < 4 * error < 0.03 * np.mean(squares)
    assert record["first_full"] ** 2 == pytest.approx(np.mean(full), rel=1e-4)


def test_a_smaller_rate_lowers_the_full_gradient_and_leaves_the_noise(record):
    assert record["full"][1] < record["full"][0] / 1.5  # 3 seeds; with intervals on the stored record below
    assert record["full_drop"] > 1.5 * record["mini_drop"]
    assert record["loss_high"][1] < record["first_loss"]
    assert np.all(record["turn_low"] > -0.5)  # a bounce would be near -1
    # Root mean squares of heavy tails over 3 seeds and 20 looks: theory within 20 %.
    np.testing.assert_allclose(record["mini"], record["theory"], rtol=0.2)


def test_summaries_are_those_of_the_runs(record):
    halves = [slice(2, 4), slice(6, 8)]  # the last two of four windows, in both phases
    for phase, half in enumerate(halves):
        for name in ("loss", "turn", "again"):
            seeds = record[f"{name}_runs"][:, half].mean(axis=1)
            error = 4.302653 * seeds.std(ddof=1) / np.sqrt(3)
            np.testing.assert_allclose(record[name][phase], seeds.mean(), rtol=1e-5)
            np.testing.assert_allclose(record[f"{name}_high"][phase] - record[name][phase], error, rtol=1e-4)
        for name in ("mini", "full"):
            assert record[name][phase] == pytest.approx(np.sqrt(record[f"{name}_runs"][:, half].mean()), rel=1e-6)
    change = record["loss_runs"][:, 3] - record["loss_runs"][:, 2]
    assert record["stall"] == pytest.approx(change.mean(), abs=1e-6)
    assert record["stall_low"] < record["stall"] < record["stall_high"]


def students(samples):
    """Mean and half its 95 % interval, at the 15 or 7 degrees of freedom of the stored record (tabled quantiles)."""
    quantile = {16: 2.131450, 8: 2.364624}[len(samples)]
    return samples.mean(), quantile * samples.std(ddof=1) / np.sqrt(len(samples))


def test_the_stored_numbers_follow_from_the_stored_runs(stored):
    """Every interval of the caption, from the runs themselves: 8 windows a phase, of which the last 4 count."""
    halves = [("", 0, slice(4, 8)), ("", 1, slice(12, 16)), ("control_", None, slice(4, 8))]
    for prefix, phase, half in halves:
        for name in ("loss", "turn", "again", "mini", "full"):
            if f"{prefix}{name}_runs" not in stored:
                continue
            mean, error = students(stored[f"{prefix}{name}_runs"][:, half].mean(axis=1))
            root = np.sqrt if name in ("mini", "full") else lambda value: value
            for end, value in (("", mean), ("_low", mean - error), ("_high", mean + error)):
                found = stored[f"{prefix}{name}{end}"]
                assert (found if phase is None else found[phase]) == pytest.approx(root(value), rel=1e-5)
    change, error = students(stored["loss_runs"][:, 6:8].mean(axis=1) - stored["loss_runs"][:, 4:6].mean(axis=1))
    for end, value in (("", change), ("_low", change - error), ("_high", change + error)):
        assert stored[f"stall{end}"] == pytest.approx(value, abs=1e-5)
    assert stored["full_drop"] == pytest.approx(stored["full"][0] / stored["full"][1])
    assert stored["flip"] == pytest.approx(-stored["full_runs"][:, 4:8].mean() / stored["mini_runs"][:, 4:8].mean())
    for phase, half in enumerate((slice(4, 8), slice(12, 16))):
        both = stored["full_runs"][:, half] + stored["noise_runs"][:, half]
        assert stored["theory"][phase] == pytest.approx(np.sqrt(both.mean()), rel=1e-5)
    turns = stored["control_turn_runs"][:, 4:]
    seeds = np.sort(turns.mean(axis=1))
    found = [stored[f"control_{name}"] for name in ("least", "median", "most")]
    np.testing.assert_allclose(found, [seeds[0], (seeds[3] + seeds[4]) / 2, seeds[-1]])
    quiet = stored["control_full_runs"][:, 4:].ravel()[np.argmax(turns)]
    assert stored["control_quiet"] == pytest.approx(np.sqrt(quiet))


def test_what_the_caption_says_of_the_stored_runs(stored):
    assert np.all(stored["turn_low"] > 0.5)  # no bounce with minibatches,
    assert stored["control_median"] < -0.9 and stored["control_again_low"] > 0.95  # one without noise,
    resting = stored["control_turn_runs"][:, 4:].max(axis=1) > 0.5
    assert resting.sum() == 1  # of which one run rests,
    assert stored["control_quiet"] < 0.1 * stored["control_full"]  # and then its gradient does vanish
    assert stored["control_full_low"] > stored["full_high"][0]  # larger than with noise
    gained = stored["loss"][0] - stored["loss"][1]  # by the smaller learning rate: the loss falls little before it
    assert max(abs(stored["stall_low"]), abs(stored["stall_high"])) < gained / 3
    assert np.all(stored["full_low"] > 0) and stored["full_high"][1] < stored["full_low"][0] / 5
    np.testing.assert_allclose(stored["mini"], stored["theory"], rtol=0.15)


def test_without_noise_the_control_is_plain_descent(figure, record, digits):
    """Seed 1 by NumPy's gradients over all samples: loss and norm of the first window (updates 0, 20, ..., 80)."""
    x, target = digits
    net, params = start(figure, 1)
    leaves, structure = jax.tree.flatten(params)
    leaves = [np.asarray(leaf, np.float64) for leaf in leaves]
    sizes, squares, turns = np.cumsum([leaf.size for leaf in leaves])[:-1], [], []
    for _ in range(82):
        squares.append(gradients(structure.unflatten(leaves), x, target).mean(axis=0))
        steps = np.split(0.3 * squares[-1], sizes)
        leaves = [leaf - step.reshape(leaf.shape) for leaf, step in zip(leaves, steps, strict=True)]
    looks = range(0, 81, 20)
    assert record["control_full_runs"][1, 0] == pytest.approx(
        np.mean([squares[i] @ squares[i] for i in looks]), rel=1e-3
    )
    for i in looks:
        a, b = squares[i], squares[i + 1]
        turns.append(a @ b / np.sqrt(a @ a * (b @ b)))
    assert record["control_turn_runs"][1, 0] == pytest.approx(np.mean(turns), abs=1e-3)


def test_the_true_bounce_is_the_exact_2_cycle(record):
    x = 0.5
    for loss, slope in zip(record["bounce_loss"], record["bounce_slope"], strict=True):
        assert loss == pytest.approx((1 - x**2) ** 2, abs=1e-5)  # float32
        assert slope == pytest.approx(np.hypot(2 * x * (1 - x**2), 2 * x * (1 - x**2)), abs=1e-5)
        x += 0.55 * 2 * x * (1 - x**2)
    np.testing.assert_allclose(np.sort(record["bounce_loss"][-2:]), np.sort(record["cycle_loss"]), rtol=1e-4)
    np.testing.assert_allclose(record["bounce_slope"][-2:], record["cycle_slope"], rtol=1e-4)
    # Both ends of the cycle are equally steep: η x (1 - x²) is the same step there and back.
    assert record["cycle_slope"][0] == pytest.approx(record["cycle_slope"][1])


def test_the_figure_shows_what_was_measured(figure, record):
    loss, norms, turns, bounce = figure.draw(record).axes
    np.testing.assert_allclose(loss.lines[0].get_ydata(), record["loss_runs"].mean(axis=0), rtol=1e-6)
    for line, name in zip(norms.lines, ("mini", "full"), strict=False):
        np.testing.assert_allclose(line.get_ydata() ** 2, record[f"{name}_runs"].mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(turns.lines[0].get_ydata(), record["turn_runs"].mean(axis=0), rtol=1e-6)
    for ax, name in ((loss, "loss"), (norms, "full")):
        line = next(line for line in ax.lines if line.get_label().startswith("full batch"))
        values = line.get_ydata() if name == "loss" else line.get_ydata() ** 2
        np.testing.assert_allclose(values, record[f"control_{name}_runs"].mean(axis=0), rtol=1e-6)
    np.testing.assert_array_equal([line.get_ydata() for line in turns.lines[1:3]], record["control_turn_runs"])
    np.testing.assert_array_equal(bounce.lines[0].get_ydata(), record["bounce_slope"])


def test_caption_and_redrawing(figure, record, tmp_path):
    claims.check_figure(figure, record, tmp_path)


def test_the_committed_caption_is_that_of_the_stored_record(figure, stored):
    path = claims.SCRIPTS.parent / "figures" / f"{figure.__name__}.json"
    assert claims.page.read_caption(path) == figure.CAPTION.fill(stored)
