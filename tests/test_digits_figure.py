"""Figure 5 at reduced size: what its runs measure, what its clock counts, what it draws. No time is compared."""

import importlib.util
from pathlib import Path

import jax
import numpy as np
import oracles
import pytest

pytestmark = pytest.mark.slow

PATH = Path(__file__).resolve().parents[1] / "scripts" / "fig_05_digits.py"


@pytest.fixture(scope="module")
def figure():
    pytest.importorskip("sklearn")
    spec = importlib.util.spec_from_file_location(PATH.stem, PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    # Small nets and two batch sizes: each is a compilation of its own.
    module.NETS = {"linear": ("linear", 0), "sigmoid": ("sigmoid", 1), "deep": ("tanh", 2)}
    module.STYLES = module.STYLES[:3]
    module.WIDTH = 4
    module.BATCHES = (512, 1797)
    return module


@pytest.fixture(scope="module")
def record(figure):
    found = figure.compute(seeds=2, steps=30, repeats=2, shortest=0.02)
    return {name: np.asarray(value) for name, value in found.items()}


@pytest.fixture(scope="module")
def digits(figure):
    return figure.ls.problems.datasets.digits()


def test_the_record_has_one_curve_a_net_and_seed(record):
    watched = record["watched"]
    assert watched[0] == 0 and watched[-1] == 30 and np.all(np.diff(watched) > 0)
    assert record["loss"].shape == record["slope"].shape == (3, 2, watched.size)
    assert np.all(np.isfinite(record["loss"])) and np.all(record["slope"] > 0)
    np.testing.assert_allclose(record["final"], record["loss"][..., -1].mean(axis=1), rtol=1e-6)  # a median of two


def test_the_loss_of_the_linear_net_falls_at_every_update_watched(record):
    # The learning rate is below 2/λ_max: the loss is convex, λ_max <= ½ mean(|x|² + 1), below 10 on digits in [0, 1].
    assert np.all(np.diff(record["loss"][0], axis=1) < 0)


def test_the_curves_of_the_linear_net_are_numpys(figure, record, digits):
    """Loss and gradient norm of seed 1, update by update, in NumPy: softmax regression has a closed gradient."""
    net = figure.ls.problems.networks.mlp((64, 10), "linear", data=digits)
    (layer,) = net.init(jax.random.fold_in(jax.random.key(0), 1), net.data)
    x = np.hstack([np.asarray(digits.x, np.float64), np.ones((1797, 1))])
    weight = np.vstack([layer["weight"], layer["bias"]]).astype(np.float64)
    target = np.eye(10)[digits.y]
    loss, slope = [], []
    for _ in range(31):
        logits = x @ weight
        share = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        gradient = x.T @ (share - target) / 1797
        loss.append(oracles.cross_entropy(logits, digits.y))
        slope.append(np.linalg.norm(gradient))
        weight -= figure.LEARNING_RATE * gradient
    # float32 sums of 1797 terms over 30 contracting updates: measured 1e-6.
    np.testing.assert_allclose(record["loss"][0, 1], np.array(loss)[record["watched"]], rtol=2e-5)
    np.testing.assert_allclose(record["slope"][0, 1], np.array(slope)[record["watched"]], rtol=2e-4)


def test_the_gradient_norm_of_a_hidden_layer_is_that_of_finite_differences(figure, record, digits):
    """At the start of seed 0: central differences, in NumPy float64, of the loss on all samples."""
    net = figure.ls.problems.networks.mlp((64, figure.WIDTH, 10), "sigmoid", data=digits)
    params = net.init(jax.random.fold_in(jax.random.key(0), 0), net.data)
    leaves, structure = jax.tree.flatten(params)
    sizes = np.cumsum([leaf.size for leaf in leaves])[:-1]

    def loss(point):
        parts = [p.reshape(leaf.shape) for p, leaf in zip(np.split(point, sizes), leaves, strict=True)]
        layers, x = structure.unflatten(parts), np.asarray(digits.x, np.float64)
        for layer in layers[:-1]:
            x = 1 / (1 + np.exp(-x @ layer["weight"] - layer["bias"]))
        logits = x @ layers[-1]["weight"] + layers[-1]["bias"]
        return np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(digits.y.size), digits.y])

    gradient = oracles.gradient(loss, np.concatenate([np.ravel(leaf) for leaf in leaves]).astype(np.float64))
    # float32 against differences good to 1e-9: what is seen is the rounding of a sum of 1797 terms.
    np.testing.assert_allclose(record["slope"][1, 0, 0], np.linalg.norm(gradient), rtol=1e-4)


def test_guessing_is_the_entropy_of_the_labels(record, digits):
    share = np.unique(digits.y, return_counts=True)[1] / digits.y.size
    constant = np.tile(np.log(share), (digits.y.size, 1))  # logits of a net that ignores its input
    np.testing.assert_allclose(record["guessing"], oracles.cross_entropy(constant, digits.y), rtol=1e-12)
    assert 0 < np.log(10) - record["guessing"] < 2e-4  # the ten digits are nearly equally frequent


def test_times_are_positive_and_of_every_batch_size(record):
    assert record["times"].shape == (2, 2) and np.all(record["times"] > 0)
    assert record["updates"].tolist() == [4, 1]  # an epoch has a short last batch where B does not divide n
    np.testing.assert_allclose(record["epoch_ms"], 1e3 * np.median(record["times"], axis=1) * [4, 1])
    assert record["shuffle_ms"] > 0
    assert "cores" in str(record["device"]) or jax.default_backend() != "cpu"


def test_the_line_is_found_where_the_times_lie_on_one(figure):
    batches = np.array([1, 4, 16, 64, 256, 1024, 1797])
    np.testing.assert_allclose(figure.line(batches, 3e-6 + 2e-7 * batches), (3e-6, 2e-7), rtol=5e-3)  # the grid's step


def test_what_is_timed_runs_as_one_lane_in_whole_epochs(figure, monkeypatch, digits):
    """The clock sees `descent.run` alone, which is asked for one lane; set-up is taken off; times are per update."""
    asked = []

    def run(net, start, *, steps, batch_size, block, **_):
        asked.append((steps, batch_size, block))

    # Compilation; set-up, twice; one epoch of 4 updates, twice, once held up by something; two epochs, from there on.
    lasted = [9, 0.5, 0.75, 9, 1, 4, 4.5, 4.5, 2.5]
    now = iter(np.cumsum(np.stack([np.zeros(9), lasted], axis=1)).tolist())
    monkeypatch.setattr(figure.ls.descent, "run", run)
    monkeypatch.setattr(figure.time, "perf_counter", lambda: next(now))
    net = figure.ls.problems.networks.mlp((64, 10), data=digits)
    monkeypatch.setattr(figure, "BATCHES", (512,))
    times = figure.update_times(net, 2, 3.0)
    np.testing.assert_allclose(times, [[(4.5 - 0.5) / 8, (2.5 - 0.5) / 8]])
    assert asked == [(steps, 512, 1) for steps in (1, 1, 1, 4, 4, 8, 8, 8, 8)]


def test_the_figure_shows_what_was_measured(figure, record):
    loss, slope, update, epoch = figure.draw(record).axes
    for ax, field in ((loss, "loss"), (slope, "slope")):
        for line, runs in zip(ax.lines, record[field], strict=False):
            np.testing.assert_allclose(line.get_ydata(), np.median(runs, axis=0))
    assert "theory" in loss.get_legend().get_texts()[-1].get_text()
    np.testing.assert_allclose(update.containers[0][0].get_ydata(), record["update_us"])
    np.testing.assert_allclose(epoch.containers[0][0].get_ydata(), record["epoch_ms"])
    assert str(record["device"]) in update.get_title() and str(record["device"]) in epoch.get_title()
    assert all(ax.get_xlabel() and ax.get_ylabel() and ax.get_legend() for ax in (loss, slope, update, epoch))


def test_the_caption_names_only_what_is_recorded(figure, record):
    seven = {name: np.resize(value, 7) for name, value in record.items() if name in ("update_us", "epoch_ms")}
    four = {name: np.resize(record[name], 4) for name in ("final", "final_slope")}
    filled = figure.CAPTION.fill(record | seven | four)
    for text in (filled.title, filled.says, filled.measured, filled.caveat):
        assert "{" not in text.en + text.zh and text.en and text.zh
