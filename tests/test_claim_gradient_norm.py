"""Figure 10: both gradients of the runs against NumPy, noise against theory, the true bounce against its 2-cycle."""

import claims
import jax
import numpy as np
import pytest


@pytest.fixture(scope="module")
def figure():
    pytest.importorskip("sklearn")
    return claims.script("fig_10_gradient_norm")


@pytest.fixture(scope="module")
def record(figure):
    return claims.record(figure, seeds=3, updates=400, every=20)  # 4 windows a phase


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
    order = np.asarray(figure.ls.descent.shuffle(jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 1), 0), 1797))
    leaves, structure = jax.tree.flatten(params)
    leaves, used, full, noise = [np.asarray(leaf, np.float64) for leaf in leaves], [], [], []
    for update in range(6):
        each = gradients(structure.unflatten(leaves), x, target)
        chosen = order[8 * update : 8 * update + 8]
        used.append(each[chosen].mean(axis=0))
        full.append(np.sum(each.mean(axis=0) ** 2))
        noise.append(each.var(axis=0).sum() * (1797 - 8) / (8 * 1796))
        sizes = np.cumsum([leaf.size for leaf in leaves])[:-1]
        steps = np.split(0.3 * used[-1], sizes)
        leaves = [leaf - step.reshape(leaf.shape) for leaf, step in zip(leaves, steps, strict=True)]
    for column, update in enumerate((0, 3)):
        a, b = used[update], used[update + 1]
        # Points are float32: a difference of two is off by 1e-7 of a weight, against steps of 0.3 x 1.
        assert seen["mini"][1, column] == pytest.approx(a @ a, rel=1e-4)
        assert seen["full"][1, column] == pytest.approx(full[update], rel=1e-4)
        assert seen["noise"][1, column] == pytest.approx(noise[update], rel=1e-4)
        assert seen["turn"][1, column] == pytest.approx(a @ b / np.sqrt(a @ a * (b @ b)), abs=1e-4)


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
    assert record["full_high"][1] < record["full_low"][0] / 1.5
    assert record["full_drop"] > 1.5 * record["mini_drop"]
    assert record["loss_high"][1] < record["first_loss"]
    assert np.all(np.abs(record["turn"]) < 0.5)  # a bounce would be near -1
    # Root mean squares of heavy tails over 3 seeds and 20 looks: theory within 20 %.
    np.testing.assert_allclose(record["mini"], record["theory"], rtol=0.2)


def test_summaries_are_those_of_the_runs(record):
    halves = [slice(2, 4), slice(6, 8)]  # the last two of four windows, in both phases
    for phase, half in enumerate(halves):
        for name in ("loss", "turn"):
            seeds = record[f"{name}_runs"][:, half].mean(axis=1)
            error = 1.959964 * seeds.std(ddof=1) / np.sqrt(3)
            np.testing.assert_allclose(record[name][phase], seeds.mean(), rtol=1e-5)
            np.testing.assert_allclose(record[f"{name}_high"][phase] - record[name][phase], error, rtol=1e-4)
        for name in ("mini", "full"):
            assert record[name][phase] == pytest.approx(np.sqrt(record[f"{name}_runs"][:, half].mean()), rel=1e-6)
    change = record["loss_runs"][:, 3] - record["loss_runs"][:, 2]
    assert record["stall"] == pytest.approx(change.mean(), abs=1e-6)
    assert record["stall_low"] < record["stall"] < record["stall_high"]


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
    np.testing.assert_array_equal(bounce.lines[0].get_ydata(), record["bounce_slope"])


def test_caption_and_redrawing(figure, record, tmp_path):
    claims.check_figure(figure, record, tmp_path)
