"""The batch-size study: a run against plain NumPy, pairing, protocols, measures, kills, memory, and refusals."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from programs import study as program

from landscape import cli, draws, process, sharpness
from landscape.problems import networks
from landscape.problems.datasets import Dataset
from landscape.problems.datasets_files import checked
from landscape.studies import batch_size, ensembles, protocols, shares, timing, training
from landscape.studies.batch_size import Status
from landscape.studies.config import Config
from landscape.sweep import sweep

PROGRAMS = Path(__file__).parent / "programs"
RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 4)).astype(np.float32)
Y = (np.arange(90) % 3).astype(np.int32)
DATA = checked(Dataset(X + 0.8 * np.eye(3, 4)[Y].astype(np.float32), Y))
SPLIT_DATA = checked(Dataset(DATA.train.x[:70], Y[:70]), Dataset(DATA.train.x[70:], Y[70:]))
SMALL = {"batch_sizes": (8,), "model": "mlp:5:tanh", "sharpness": "none", "timing": False, "trace": 3, "measured": 20}
TRAINING = 72  # of 90 samples, with a test share of a fifth


def run(data=DATA, store=None, say=print, **given):
    return batch_size.run(Config(**SMALL | given), data=data, store=store, say=say)


# --- NumPy's version of everything ------------------------------------------------------------------------------------


def keys(seed, stream):
    """A run's stream, as design.md has it: `fold_in` of the root with the seed, and of that with a constant."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(0), seed), stream)


def split(seed):
    order = np.asarray(jax.random.permutation(keys(seed, shares.SPLIT), 90))
    return order[:TRAINING], order[TRAINING:]


def start(seed):
    from landscape.studies.models import Perceptron

    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), Perceptron((4, 5, 3), "tanh").init(keys(seed, 0)))


def forward(params, x):
    hidden = np.tanh(x @ params[0]["weight"] + params[0]["bias"])
    return hidden, hidden @ params[1]["weight"] + params[1]["bias"]


def loss(params, x, y):
    z = forward(params, x)[1]
    return np.mean(np.log(np.sum(np.exp(z), axis=1)) - z[np.arange(len(y)), y])


def gradient(params, x, y):
    """Backpropagation by hand."""
    hidden, z = forward(params, x)
    p = np.exp(z) / np.sum(np.exp(z), axis=1, keepdims=True)
    p[np.arange(len(y)), y] -= 1
    p /= len(y)
    back = p @ params[1]["weight"].T * (1 - hidden**2)
    return (
        {"weight": x.T @ back, "bias": back.sum(axis=0)},
        {"weight": hidden.T @ p, "bias": p.sum(axis=0)},
    )


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def sgd(seed, batch, updates, rate, labels=None):
    """Plain SGD: a fresh permutation each epoch, the last batch perhaps short."""
    rows = split(seed)[0]
    x, y = DATA.train.x[rows].astype(np.float64), DATA.train.y[rows] if labels is None else labels
    params, per_epoch = start(seed), -(-TRAINING // batch)
    for step in range(updates):
        epoch, i = divmod(step, per_epoch)
        key = jax.random.fold_in(keys(seed, training.SHUFFLE), epoch)
        chosen = np.asarray(draws.shuffle(key, TRAINING))[i * batch : (i + 1) * batch]
        slope = gradient(params, x[chosen], y[chosen])
        eta = rate(step) if callable(rate) else rate
        params = jax.tree.map(lambda p, g, eta=eta: p - eta * g, params, slope)
    return params


# --- a run ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def study():
    return run(batch_sizes=(7, 0), learning_rates=(0.3, 0.1), seeds=2, epochs=4)


@pytest.mark.parametrize("row, batch", [(0, 7), (1, 72)])
def test_a_run_is_plain_sgd_in_numpy(study, row, batch):
    runs = study.runs[row]
    assert runs.batch_size == batch and runs.per_epoch == -(-72 // batch)
    assert runs.moments[-1] == 4 * runs.per_epoch
    for lane in range(4):
        rate, seed = runs.learning_rates[lane], runs.seeds[lane]
        params = sgd(seed, batch, 4 * runs.per_epoch, rate)
        found = jax.tree.map(lambda leaf, lane=lane: leaf[lane], runs.end.seen)
        # Single precision: some 40 updates, each with a rounding.
        np.testing.assert_allclose(flat(found.params), flat(params), rtol=1e-4, atol=1e-5)
        train, test = (np.asarray(part) for part in split(seed))
        x, y = DATA.train.x.astype(np.float64), DATA.train.y
        np.testing.assert_allclose(found.train_loss, loss(params, x[train], y[train]), rtol=1e-4)
        np.testing.assert_allclose(found.test_loss, loss(params, x[test], y[test]), rtol=1e-4)
        right = np.mean(np.argmax(forward(params, x[test])[1], axis=1) == y[test])
        np.testing.assert_allclose(found.test_accuracy, right, atol=1e-6)
        right = np.mean(np.argmax(forward(params, x[train])[1], axis=1) == y[train])
        np.testing.assert_allclose(found.train_accuracy, right, atol=1e-6)
        slope = flat(gradient(params, x[train], y[train]))
        np.testing.assert_allclose(found.gradient_norm, np.linalg.norm(slope), rtol=1e-3)
        np.testing.assert_allclose(found.distance, np.linalg.norm(flat(params) - flat(start(seed))), rtol=1e-4)
        own = np.array([flat(gradient(params, x[[i]], y[[i]])) for i in train[:20]])
        np.testing.assert_allclose(found.noise_trace, np.trace(np.cov(own.T)), rtol=1e-3)
        minibatch = slope @ slope + np.trace(np.cov(own.T)) * (1 / batch - 1 / 72)
        np.testing.assert_allclose(found.minibatch_gradient_norm, np.sqrt(minibatch), rtol=1e-3)


@pytest.mark.slow
def test_the_minibatch_gradient_norm_is_the_mean_over_batches():
    """sqrt(|G|² + tr Σ (1/B - 1/n)) against 2000 batches drawn without replacement, at the start."""
    runs = run(batch_sizes=(9,), seeds=1, epochs=1, measured=72).runs[0]
    rows, params = split(0)[0], start(0)
    x, y = DATA.train.x[rows].astype(np.float64), DATA.train.y[rows]
    draw = np.random.default_rng(0)
    squares = []
    for _ in range(2000):
        chosen = draw.permutation(72)[:9]
        squares.append(np.sum(flat(gradient(params, x[chosen], y[chosen])) ** 2))
    error = np.std(squares) / 2000**0.5
    assert abs(np.mean(squares) - runs.trace.minibatch_gradient_norm[0, 0] ** 2) < 4 * error


def test_runs_of_a_seed_are_paired_and_those_of_others_are_not(study):
    first = [runs.trace.train_loss[:, 0] for runs in study.runs]
    for losses in first:
        np.testing.assert_allclose(losses, first[0], rtol=1e-6)  # the same split and start at every batch size
        np.testing.assert_allclose(losses[:2], losses[2:], rtol=1e-6)  # and at every learning rate
    assert abs(first[0][0] - first[0][1]) > 1e-3


@pytest.mark.slow
def test_lanes_do_not_depend_on_what_runs_beside_them(study):
    alone = run(batch_sizes=(7,), learning_rates=(0.1,), seeds=1, epochs=4).runs[0]
    together = study.runs[0].chosen((study.runs[0].seeds == 0) & (study.runs[0].base_rates == 0.1))
    for a, b in zip(jax.tree.leaves(alone.end), jax.tree.leaves(together.end), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_batch_sizes_share_every_program_but_that_of_the_updates():
    compiled = lambda: [fn._cache_size() for fn in (process._enter, process._read, process._advance)]  # noqa: E731
    run(batch_sizes=(8,), seeds=2, epochs=1)
    before = compiled()
    run(batch_sizes=(6, 9), seeds=2, epochs=1)
    assert [b - a for a, b in zip(before, compiled(), strict=True)] == [0, 0, 2]


@pytest.mark.slow
def test_a_test_part_of_its_own_is_shared_by_all_runs():
    runs = run(SPLIT_DATA, batch_sizes=(0,), seeds=2, epochs=1, learning_rates=(0.2,)).runs[0]
    x, y = (np.asarray(part) for part in SPLIT_DATA.train)
    params = start(1)
    params = jax.tree.map(lambda p, g: p - 0.2 * g, params, gradient(params, x, y))
    np.testing.assert_allclose(flat(jax.tree.map(lambda leaf: leaf[1], runs.end.seen.params)), flat(params), atol=1e-6)
    np.testing.assert_allclose(runs.end.seen.test_loss[1], loss(params, *SPLIT_DATA.test), rtol=1e-5)


def test_label_noise_changes_the_share_of_training_labels_asked_for():
    division = shares.Division(90000, False, 1, 3, 0.3)
    clean = jnp.zeros(90000, jnp.int32)
    noisy = np.asarray(shares.with_noise(jax.random.key(0), clean, division))
    share = np.bincount(noisy, minlength=3) / 90000
    np.testing.assert_allclose(share, [0.8, 0.1, 0.1], atol=0.006)  # a replaced label is the old one in a third


@pytest.mark.slow
def test_runs_train_on_the_noisy_labels():
    runs = run(batch_sizes=(0,), seeds=1, epochs=1, label_noise=1.0, learning_rates=(0.2,)).runs[0]
    whether, which = jax.random.split(keys(0, shares.LABELS))
    labels = np.asarray(jax.random.randint(which, (72,), 0, 3))
    del whether
    params = sgd(0, 72, 1, 0.2, labels)
    np.testing.assert_allclose(flat(jax.tree.map(lambda leaf: leaf[0], runs.end.seen.params)), flat(params), atol=1e-6)


# --- protocols --------------------------------------------------------------------------------------------------------


def test_equal_epochs_and_equal_updates():
    plans = [protocols.schedule(Config(match="epochs", epochs=3), size, 1000) for size in (2, 32, 512)]
    assert [plan.updates for plan in plans] == [1500, 96, 6]
    plans = [protocols.schedule(Config(match="updates", updates=50), size, 1000) for size in (2, 32, 512, 0)]
    assert [plan.updates for plan in plans] == [50] * 4
    assert plans[-1].batch_size == 1000 and plans[-1].per_epoch == 1


def test_learning_rates_by_batch_size():
    def rates(scale, size):
        config = Config(batch_sizes=(8, 32), learning_rates=(0.1, 0.2), scale=scale)
        return protocols.schedule(config, size, 100).learning_rates

    np.testing.assert_allclose(rates("fixed", 32), [0.1, 0.2])
    np.testing.assert_allclose(rates("linear", 32), [0.4, 0.8])
    np.testing.assert_allclose(rates("sqrt", 32), [0.2, 0.4])
    np.testing.assert_allclose(rates("linear", 8), [0.1, 0.2])


def test_moments_are_the_ends_and_a_geometric_row_between():
    assert protocols.moments(1000, 3) == (0, 1, 10, 100, 1000)
    assert protocols.moments(1, 5) == (0, 1)
    assert protocols.moments(7, 0) == (0, 7)
    fine = np.array(protocols.fine_moments(5000))
    assert fine[0] == 1 and fine[-1] == 5000
    assert np.all((np.diff(fine) == 1) | (fine[1:] / fine[:-1] < 1.031 + 1 / fine[:-1]))


@pytest.mark.slow
def test_warm_up_is_a_linear_rise():
    runs = run(batch_sizes=(16,), seeds=1, epochs=3, warmup=2, learning_rates=(0.3,)).runs[0]
    params = sgd(0, 16, 15, lambda step: 0.3 * min(1, (step + 1) / 10))
    np.testing.assert_allclose(flat(jax.tree.map(lambda leaf: leaf[0], runs.end.seen.params)), flat(params), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, factory, hyper",
    [("lars", optax.lars, {}), ("lamb", optax.lamb, {}), ("momentum", optax.sgd, {"momentum": 0.9})],
)
def test_other_optimizers_are_optax_s(name, factory, hyper):
    runs = run(batch_sizes=(0,), seeds=1, match="updates", updates=5, optimizer=name).runs[0]
    rows = split(0)[0]
    x, y = DATA.train.x[rows], DATA.train.y[rows]
    params = jax.tree.map(jnp.float32, start(0))
    optimizer = factory(learning_rate=0.1, **hyper)
    state = optimizer.init(params)
    for _ in range(5):
        slope = jax.tree.map(jnp.float32, gradient(jax.tree.map(np.asarray, params), x, y))
        moved, state = optimizer.update(slope, state, params)
        params = optax.apply_updates(params, moved)
    np.testing.assert_allclose(flat(jax.tree.map(lambda leaf: leaf[0], runs.end.seen.params)), flat(params), atol=1e-5)


@pytest.mark.slow
def test_matched_loss_and_polish():
    found = run(
        batch_sizes=(8, 0), seeds=3, match="loss", target=0.75, updates=400, polish=0.7, learning_rates=(0.3, 1e-4)
    )
    for runs in found.runs:
        good = runs.base_rates == 0.3
        np.testing.assert_array_equal(runs.end.status[good], Status.REACHED)
        # Those that do not reach it are there, and say so.
        np.testing.assert_array_equal(runs.end.status[~good], Status.NOT_REACHED)
        np.testing.assert_array_equal(runs.end.steps[~good], 400)
        assert np.all(runs.end.seen.train_loss[good] <= 0.75) and np.all(runs.end.seen.train_loss[~good] > 0.75)
        assert np.all(runs.end.before[good] < runs.end.steps[good])
        for lane in np.flatnonzero(good)[:2]:  # the check before did not see it reached, and the one after did
            seed, batch = runs.seeds[lane], runs.batch_size
            rows = split(seed)[0]
            at = [
                loss(sgd(seed, batch, int(step), 0.3), DATA.train.x[rows], DATA.train.y[rows])
                for step in (runs.end.before[lane], runs.end.steps[lane])
            ]
            assert at[1] <= 0.75 + 1e-5 and at[0] > 0.75 - 1e-5
        np.testing.assert_array_equal(runs.polished.status, Status.REACHED)
        assert np.all(runs.polished.seen.train_loss <= 0.7)
        # One step too many at most: gradient descent of rate 0.1 lowers the loss by 0.1 |g|² a step.
        below = np.maximum(0, 0.7 - runs.polished.seen.train_loss)
        started_above = runs.end.seen.train_loss > 0.7
        assert np.all(below[started_above] < 0.12 * runs.polished.seen.gradient_norm[started_above] ** 2 + 1e-5)
    assert found.tuned() == {8: (0.3, True), 72: (0.3, True)}


def test_a_run_without_a_target_has_taken_all_its_updates():
    for given, updates in (({"match": "updates", "updates": 7}, 7), ({"epochs": 2}, 18)):
        runs = run(seeds=2, **given).runs[0]
        np.testing.assert_array_equal(runs.end.status, Status.FINISHED)
        np.testing.assert_array_equal([runs.end.steps, runs.end.before], updates)
        assert runs.end.steps.dtype == np.int32 and runs.moments[-1] == updates


@pytest.mark.slow
def test_a_polish_that_begins_an_ulp_above_its_target_reaches_it(monkeypatch):
    given = {"seeds": 5, "match": "updates", "updates": 11, "polish_rate": 0.1, "polish_updates": 300}
    target = float(np.max(run(**given).runs[0].end.seen.train_loss))
    judged = training.judged

    def above(part, params):
        value, accuracy = judged(part, params)
        return value * np.float32(1 + 2**-22), accuracy

    monkeypatch.setattr(training, "judged", above)
    found = run(**given, polish=target).runs[0].polished
    np.testing.assert_array_equal(found.status, Status.REACHED)


@pytest.mark.slow
def test_a_diverged_run_is_data():
    found = run(batch_sizes=(8,), seeds=2, epochs=3, model="mlp:5:relu", learning_rates=(0.1, 1e20))
    runs = found.runs[0]
    np.testing.assert_array_equal(runs.end.status, [Status.FINISHED] * 2 + [Status.DIVERGED] * 2)
    assert found.tuned() == {8: (0.1, True)}
    assert "2 finished" in found.table()


@pytest.mark.slow
def test_tuning_takes_the_rate_of_the_lowest_training_loss():
    found = run(batch_sizes=(8,), seeds=2, epochs=3, learning_rates=(0.001, 0.3, 0.01))
    losses = [found.runs[0].end.seen.train_loss[found.runs[0].base_rates == rate].mean() for rate in (0.001, 0.3, 0.01)]
    assert np.argmin(losses) == 1 and found.tuned() == {8: (0.3, True)}


@pytest.mark.slow
def test_flatness_is_measured_at_the_ends_and_along():
    found = run(batch_sizes=(16,), seeds=2, epochs=2, sharpness="along", polish=0.9, measured=30, trace=1)
    runs = found.runs[0]
    assert runs.sharpness_along.largest.shape == (2, 3) == (2, len(runs.moments))
    np.testing.assert_allclose(runs.sharpness_along.largest[:, -1], runs.sharpness.largest, rtol=1e-5)
    still = runs.sharpness_polished.largest == runs.sharpness.largest  # what is low enough is not polished
    np.testing.assert_array_equal(still, runs.end.seen.train_loss <= 0.9)
    rows = split(1)[0][:30]
    x, y = jnp.asarray(DATA.train.x[rows]), DATA.train.y[rows]
    from jax.flatten_util import ravel_pytree

    vector, shape = ravel_pytree(jax.tree.map(lambda leaf: leaf[1], runs.end.seen.params))

    def of(vector):
        params = shape(vector)
        z = jnp.tanh(x @ params[0]["weight"] + params[0]["bias"]) @ params[1]["weight"] + params[1]["bias"]
        return jnp.mean(jax.nn.logsumexp(z, axis=1) - z[np.arange(30), y])

    matrix = np.asarray(jax.hessian(of)(vector))
    np.testing.assert_allclose(runs.sharpness.largest[1], np.linalg.eigvalsh(matrix)[-1], rtol=1e-3)
    np.testing.assert_allclose(runs.sharpness.trace.mean[1], np.trace(matrix), rtol=1e-3)


def sharp(params, problem, *, key):
    return sharpness.measure(problem, params, key=key)


# --- stored, killed, out of memory ------------------------------------------------------------------------------------


def child(folder, kill_at):
    environment = {**os.environ, "PYTHONPATH": str(PROGRAMS.parents[1])}
    command = [sys.executable, "-W", "error", str(PROGRAMS / "study.py"), str(folder), str(kill_at)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)


@pytest.mark.slow
def test_a_killed_study_resumes_to_the_identical_result(tmp_path):
    straight = child(tmp_path / "straight", 0)
    assert straight.returncode == 0, straight.stderr
    writes = int(straight.stdout)
    for moment in np.random.default_rng(1).integers(3, writes // 2, 3).tolist():
        assert child(tmp_path / "killed", moment).returncode == -signal.SIGKILL
    assert child(tmp_path / "killed", 0).returncode == 0
    assert (tmp_path / "killed" / "runs.npz").read_bytes() == (tmp_path / "straight" / "runs.npz").read_bytes()


@pytest.mark.slow
def test_what_is_stored_is_not_trained_again_and_another_study_is_refused(tmp_path, monkeypatch):
    first = batch_size.run(program.CONFIG, data=program.DATA, store=tmp_path)
    monkeypatch.setattr(process, "run", None)  # whoever trained would fail
    again = batch_size.run(program.CONFIG, data=program.DATA, store=tmp_path)
    for name, values in first.arrays().items():
        np.testing.assert_array_equal(again.arrays()[name], values)
    other = batch_size.dataclasses.replace(program.CONFIG, epochs=3)
    with pytest.raises(ValueError, match=re.escape("holds another study (epochs: stored 2, asked 3)")):
        batch_size.run(other, data=program.DATA, store=tmp_path)
    with pytest.raises(ValueError, match="holds another study .samples digest"):
        batch_size.run(program.CONFIG, data=DATA, store=tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="holds something that is not a study"):
        batch_size.run(program.CONFIG, data=program.DATA, store=tmp_path / "full")


@pytest.mark.slow
def test_out_of_memory_halves_the_block_and_says_so(tmp_path, monkeypatch):
    expected = run(batch_sizes=(8,), seeds=8, epochs=1, block=8)
    blocks, said, sweep = [], [], ensembles.sweep

    def limited(*args, block, **named):
        blocks.append(block)
        if block > 2:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 123 bytes.")
        return sweep(*args, block=block, **named)

    monkeypatch.setattr(ensembles, "sweep", limited)
    found = run(batch_sizes=(8,), seeds=8, epochs=1, block=8, store=tmp_path, say=said.append)
    assert blocks == [8, 4, 2]
    assert said[0] == "B = 8, train: out of device memory with 8 runs at once (123 bytes were wanted); going on with 4"
    assert said[1] == "B = 8, train: out of device memory with 4 runs at once (123 bytes were wanted); going on with 2"
    assert found.notes == tuple(said)
    assert said[0] in found.table()
    np.testing.assert_allclose(found.runs[0].end.seen.train_loss, expected.runs[0].end.seen.train_loss, rtol=1e-5)


def test_other_errors_and_a_single_run_without_memory_are_raised(monkeypatch):
    def failing(*args, block, **named):
        raise jax.errors.JaxRuntimeError(f"{message}: no")

    monkeypatch.setattr(ensembles, "sweep", failing)
    for message in ("INTERNAL", "RESOURCE_EXHAUSTED"):
        with pytest.raises(jax.errors.JaxRuntimeError, match=message):
            run(batch_sizes=(8,), seeds=2, epochs=1, block=2 if message == "INTERNAL" else 1)


@pytest.mark.slow
def test_the_time_of_an_update_is_there_and_kept(tmp_path):
    given = {"batch_sizes": (8,), "seeds": 4, "epochs": 1, "timing": True}
    timing = run(store=tmp_path, **given).runs[0].timing
    assert 0 < timing.per_update < 1 and timing.runs == 4 and "cpu" in timing.device
    assert timing.compilation > timing.per_update
    assert run(store=tmp_path, **given).runs[0].timing == timing


@pytest.mark.slow
def test_the_clock_agrees_with_a_plain_loop(monkeypatch):
    """Within what other work on the machine does to either: the call's overhead and all copies are left out of both."""
    found = run(batch_sizes=(8,), seeds=1, epochs=1, timing=True, block=1).runs[0].timing
    rows = split(0)[0]
    x, y, params = jnp.asarray(DATA.train.x[rows][:8]), jnp.asarray(Y[rows][:8]), jax.tree.map(jnp.float32, start(0))

    def plain(params):
        hidden = lambda p: jnp.tanh(x @ p[0]["weight"] + p[0]["bias"]) @ p[1]["weight"] + p[1]["bias"]  # noqa: E731
        slope = jax.grad(lambda p: -jnp.mean(jax.nn.log_softmax(hidden(p))[jnp.arange(8), y]))(params)
        return jax.tree.map(lambda p, g: p - 0.1 * g, params, slope)

    loop = jax.jit(lambda params, count: jax.lax.fori_loop(0, count, lambda _, p: plain(p), params))
    theirs = timing.per_update(timing.Program(lambda count: loop(params, count), 0.0))
    assert theirs / 10 < found.per_update < 10 * theirs


@pytest.mark.slow
def test_flatness_in_blocks_on_two_devices_ends_and_is_that_of_one_at_a_time():
    """Batched decompositions on two CPU devices waited for each other for ever."""
    made = networks.mlp((4, 12, 3), "tanh", data=DATA.train)
    points = jax.tree.map(lambda leaf: leaf + 0.1 * RNG.normal(size=(4, *leaf.shape)).astype("f4"), made.reference)
    two, one = (sweep(sharp, points, made, key=0, block=block) for block in (2, 1))
    for a, b in zip(jax.tree.leaves(two), jax.tree.leaves(one), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6)


class Session:
    """`landscape study` in a process of its own, which a signal meets once so many blocks are on disk."""

    CODE = "import sys; from landscape.cli import main; sys.exit(main())"
    STUDY = (
        "study batch-size --data data.npz --model mlp:6 --batch-sizes 2 8 --seeds 8 --block 1 --epochs 200 --trace 2 "
        "--measured 16 --sharpness none --no-timing"
    )

    def __init__(self, folder):
        np.savez(folder / "data.npz", x=RNG.normal(size=(300, 6)), y=np.arange(300) % 3)
        self.folder = folder

    def run(self, store, blocks=0, number=None):
        """The exit code and what it wrote on stderr."""
        environment = {**os.environ, "PYTHONPATH": str(PROGRAMS.parents[1]), "JAX_PLATFORMS": "cpu"}
        command = [sys.executable, "-W", "error", "-c", self.CODE, *self.STUDY.split(), "--store", store]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, cwd=self.folder, env=environment, **pipes) as session:
            while number is not None and session.poll() is None:
                if len(list((self.folder / store).glob("batch_*/train/*/done/c/*"))) >= blocks:
                    session.send_signal(number)
                    break
                time.sleep(0.01)
            return session.wait(240), session.stderr.read()


@pytest.mark.slow
def test_the_command_killed_and_interrupted_resumes_to_the_identical_file(tmp_path):
    session = Session(tmp_path)
    assert session.run("straight") == (0, "")
    assert session.run("broken", 2, signal.SIGKILL)[0] == -signal.SIGKILL
    assert not (tmp_path / "broken" / "runs.npz").exists()
    code, said = session.run("broken", 6, signal.SIGINT)
    assert code == 130
    assert re.fullmatch(r"landscape: interrupted with \d of 8 lanes done; .* goes on from broken\n", said)
    assert session.run("broken", 10, signal.SIGKILL)[0] == -signal.SIGKILL
    assert session.run("broken") == (0, "")
    assert (tmp_path / "broken" / "runs.npz").read_bytes() == (tmp_path / "straight" / "runs.npz").read_bytes()


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given, sentence",
    [
        ({"batch_sizes": ()}, "batch_sizes is (): give different batch sizes"),
        ({"batch_sizes": (2, 2)}, "batch_sizes is (2, 2): give different batch sizes"),
        ({"batch_sizes": (-1,)}, "batch_sizes has -1: give whole numbers, 0 or more"),
        ({"batch_sizes": (73,)}, "batch size 73 is above 72, the number of training samples"),
        ({"batch_sizes": (0, 72)}, "batch_sizes has 0 and 72, which are the same full batch"),
        ({"learning_rates": (0.0,)}, "learning_rates has 0.0: give finite numbers above 0"),
        ({"learning_rates": (float("nan"),)}, "learning_rates has nan"),
        ({"seeds": 0}, "seeds has 0: give whole numbers, 1 or more"),
        ({"optimizer": "adm"}, "optimizer is 'adm', which is unknown: did you mean 'adam'?"),
        ({"hyper": {"momentun": 0.9}}, "hyper has 'momentun', which sgd does not take: did you mean 'momentum'?"),
        ({"label_noise": 1.5}, "label_noise is 1.5: give a share from 0 to 1"),
        ({"samples": 80}, "samples is 80, and 72 samples are there to train on"),
        ({"match": "loss", "target": 0.1, "polish": 0.2}, "polish is 0.2 and target 0.1"),
        ({"test_share": 0.0}, "test_share is 0"),
        ({"warmup": -1.0}, "warmup is -1.0"),
        ({"model": "mlp:5:rlu"}, "activation 'rlu' is unknown: did you mean 'relu'?"),
        (
            {"hyper": {"learning_rate": 2.0}},
            "hyper has 'learning_rate', which the study sets itself: give learning_rates",
        ),
        ({"warmup": 1.0, "hyper": {"warm_up_steps": 3.0}}, "hyper has 'warm_up_steps', which the study sets itself"),
        ({"key": 2**70}, f"key is {2**70}: give a whole number below 2^63"),
        ({"block": 0}, "block has 0: give whole numbers, 1 or more"),
        ({"model": "mlp:-3"}, "widths are whole numbers with - between them"),
        ({"model": "mlp:5x"}, "widths are whole numbers with - between them"),
    ],
)
def test_refusals_come_before_any_training(given, sentence, monkeypatch):
    monkeypatch.setattr(ensembles, "sweep", None)
    with pytest.raises(ValueError, match=re.escape(sentence)):
        run(**given)


def test_a_store_that_is_a_file_is_refused(tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("mine")
    with pytest.raises(OSError, match=r"store .*notes.txt cannot be a folder \(File exists\): give"):
        run(store=file)
    assert file.read_text() == "mine"


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command_prints_the_table_and_keeps_the_numbers(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli, "setup", lambda: None)
    np.savez(tmp_path / "a.npz", x=DATA.train.x, y=DATA.train.y)
    command = f"study batch-size --data {tmp_path / 'a.npz'} --model mlp:5 --batch-sizes 8 0 --seeds 2 --epochs 1"
    command += f" --sharpness none --no-timing --optimizer momentum --hyper momentum 0.5 --store {tmp_path / 's'}"
    assert cli.main(command.split()) == 0
    printed = capsys.readouterr().out
    assert "72 training samples, 43 parameters, 2 seeds" in printed and "2 finished" in printed
    with np.load(tmp_path / "s" / "runs.npz") as file:
        assert file["8.end.seen.train_loss"].shape == (2,) and file["72.moments"][-1] == 1


def test_the_command_refuses_a_file_that_is_not_there(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli, "setup", lambda: None)
    assert cli.main(["study", "batch-size", "--data", str(tmp_path / "b.npz")]) == 2
    assert (
        capsys.readouterr().err == f"landscape: data {str(tmp_path / 'b.npz')!r}: there is no such file or folder; "
        "give one, or 'digits'\n"
    )


def test_the_help_of_studies_imports_nothing_heavy():
    code = "import sys\nfrom landscape.cli import main\ntry:\n    main(['study', '--help'])\nexcept SystemExit:\n    "
    code += "print(sorted({'jax', 'numpy', 'optax'} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROGRAMS.parents[1])
    assert answer.stdout.endswith("[]\n")
